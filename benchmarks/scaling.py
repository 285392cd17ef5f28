"""Time and memory of a fit by the number of images, and time by the number of candidates of a search.

    python benchmarks/scaling.py [--images 500 1000 2000 4000 8000 16000] [--candidates 1 3 12]
        [--write docs/benchmarks.md]

The images are JPEG files of random smooth patterns, 320 x 240, one file for each position; each fit runs in a fresh
process with an empty cache. Memory is the peak of anonymous memory (Linux: RssAnon), sampled each 20 ms during `fit`.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from measuring import head_seconds, measure, report, timed, write_page
from PIL import Image


def make(folder, n):
    """Write n different JPEG files and return their paths."""

    def write(i):
        rng = np.random.default_rng(i)
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        small[..., i % 3] //= 3
        path = folder / f"{i:05d}.jpg"
        if not path.exists():
            Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(path, quality=85)
        return str(path)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, range(n)))


class PeakMemory(threading.Thread):
    """Sample the anonymous memory of this process until it is told to stop."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0.0
        self.stopped = threading.Event()

    def run(self):  # noqa: D102
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, anonymous_megabytes())


def anonymous_megabytes():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return float("nan")


def one(folder, n_images, n_candidates):
    from sklearn.model_selection import GridSearchCV

    from sktl import PretrainedImageClassifier

    paths = make(Path(folder), n_images)
    codes = np.arange(n_images) % 3
    clf = PretrainedImageClassifier(random_state=0)
    clf.fit(paths[:8], codes[:8])  # opens the network
    if n_candidates:
        clf = GridSearchCV(clf, {"weight_decay": list(np.logspace(-3, 0, n_candidates))}, cv=5)
    record = {}
    memory = PeakMemory()
    record["before"] = anonymous_megabytes()
    memory.start()
    with head_seconds(record), timed(record, "wall"):
        clf.fit(paths, codes)
    memory.stopped.set()
    record["peak"] = memory.peak
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="*", default=[500, 1000, 2000, 4000, 8000, 16000])
    parser.add_argument("--candidates", type=int, nargs="*", default=[1, 3, 12])
    parser.add_argument("--folder", help="where the images are made, and found again; default: a temporary folder")
    parser.add_argument("--write", help="page whose table is replaced")
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(one(arguments.folder, *arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or temporary
        record, rows = {}, []
        for n, k in [*((n, 0) for n in arguments.images), *((arguments.images[0], k) for k in arguments.candidates)]:
            started = time.perf_counter()
            run = record[f"{n} images, {k} candidates"] = measure(__file__, "--folder", folder, "--measure", n, k)
            print(n, k, run, f"{time.perf_counter() - started:.0f} s in all", file=sys.stderr, flush=True)
            what = f"search of {k} in 5 folds" if k else "fit"
            each = 1000 * (run["wall"] - run["head"]) / n
            rows.append((n, what, f"{run['wall']:.1f}", f"{run['head']:.1f}", f"{each:.1f}", f"{run['peak']:.0f}"))
    header = ("images", "what", "s", "of it training", "ms per image without it", "peak MB of anonymous memory")
    report("scaling", "A fit by the number of images, and a search by the number of candidates.", header, rows, record)
    if arguments.write:
        write_page("scaling", arguments.write)


if __name__ == "__main__":
    main()
