"""The pass over images beside its parts alone, and its time and memory by the number of images.

    python benchmarks/streaming.py DATA/cat_breeds [--repeats 3] [--images 1000 64000] [--write docs/scaling.md]

A cold fit with OpenVINO is compared with the processor time of its parts: reading and decoding each photo, and running
the open engine on chunks of pixels. Divided by the number of threads, that is a pass without any overhead. The parts
are measured in one thread, and in as many threads at once as the fit uses: cores share caches, memory and power, so the
same work takes more processor time there. The processor time of the pass is compared as well, because it depends less
on what else the machine does.

For the time by the number of images, the photos are cropped and scaled to as many different JPEG files of about 240 x
180 pixels. The network is one small convolution, so that the overhead of the pass is not hidden behind the network.
Memory is the peak of anonymous memory (Linux: RssAnon) during `transform`, sampled each 20 ms, less what the process
had before and less the features that are returned. Each measurement is made in a fresh process with an empty cache.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from measuring import folders, head_seconds, measure, median, report, timed, write_page
from PIL import Image
from scaling import PeakMemory, anonymous_megabytes

from sktl import Preprocessing

ENGINE = "openvino"


def bare(train, record, n_threads=1):
    """Decode all photos and run the engine on them, one after the other, in this number of threads."""
    from sktl._backbones.resolve_backbone import resolve_backbone
    from sktl._features import engines
    from sktl._images.network_pixels import network_pixels
    from sktl._utils.threads import single_threaded_pool

    backbone = resolve_backbone("efficientnet_lite0", "default", None, 0)
    engine = engines.registry.open(engines.FrozenPart(backbone, torch.device("cpu"), 0, ENGINE), n_threads)

    def decode(path):
        return network_pixels(Path(path).read_bytes(), backbone.preprocessing)

    def forward(some):
        chunk = engine.new_chunk()
        chunk[: len(some)] = some
        engine.run(chunk)

    with single_threaded_pool(n_threads) as pool:
        with timed(record, "decode"):
            pixels = list(pool.map(decode, train[0]))
        chunks = [pixels[start : start + engine.chunk] for start in range(0, len(pixels), engine.chunk)]
        list(pool.map(forward, chunks[:n_threads]))
        with timed(record, "forward"):
            list(pool.map(forward, chunks))


def cold(train, record):
    """Fit once, with an empty cache."""
    from sktl import PretrainedImageClassifier
    from sktl._features import engines, openvino

    openvino.library()
    with tempfile.TemporaryDirectory() as cache, head_seconds(record), timed(record, "wall"):
        clf = PretrainedImageClassifier(random_state=0, engine=ENGINE, cache=cache).fit(*train)
    engines.registry = engines.EngineRegistry()
    with timed(record, "opening"):
        engines.registry.open(engines.FrozenPart(clf.backbone_, clf.device_, 0, ENGINE))


def bare_at_once(train, record):
    """Do the same in as many threads as a fit uses."""
    bare(train, record, torch.get_num_threads())


KINDS = {"bare": bare, "bare at once": bare_at_once, "cold": cold}


class OneConvolution(torch.nn.Module):
    """A network that takes little time."""

    preprocessing = Preprocessing(256, (224, 224))

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 16, 8, 8)

    def forward(self, images):  # noqa: D102
        return self.layer(images).mean((2, 3))


def make(data, folder, n):
    """Write n different JPEG files, made from photos, and return their paths."""
    photos = folders(data)[0][0]

    def write(photo):
        with Image.open(photos[photo]) as image:
            image = image.convert("RGB").resize((300, 225))
        for i in range(photo, n, len(photos)):
            if not (path := folder / f"{i:06d}.jpg").exists():
                left, top = np.random.default_rng(i).integers(0, [60, 45])
                image.crop((left, top, left + 240, top + 180)).save(path, quality=85 - i // len(photos) % 20)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(min(n, len(photos)))))
    return [str(folder / f"{i:06d}.jpg") for i in range(n)]


def many(paths, record):
    """Compute features of files with an empty cache."""
    from sktl import PretrainedImageEncoder

    torch.manual_seed(0)
    network = OneConvolution()
    with tempfile.TemporaryDirectory() as cache:
        encoder = PretrainedImageEncoder(backbone=lambda: network, engine="torch", cache=cache).fit(paths[:8])
        record["before"] = anonymous_megabytes()
        memory = PeakMemory()
        memory.start()
        with timed(record, "wall"):
            features = encoder.transform(paths)
        memory.stopped.set()
    record["peak"], record["result"] = memory.peak, features.nbytes / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 64000])
    parser.add_argument("--folder", help="where the files are made, and found again; default: a temporary folder")
    parser.add_argument("--write", help="page whose tables are replaced")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        record = {}
        if arguments.measure.isdigit():
            many(make(arguments.data, Path(arguments.folder), int(arguments.measure)), record)
        else:
            KINDS[arguments.measure](folders(arguments.data)[0], record)
        print(json.dumps(record))
        return
    record = {}
    for kind in tuple(KINDS) * arguments.repeats:
        run = measure(__file__, arguments.data, "--measure", kind)
        record.setdefault(kind, []).append(run)
        print(kind, run, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for n in arguments.images:
            started = time.perf_counter()
            run = measure(__file__, arguments.data, "--measure", n, "--folder", arguments.folder or temporary)
            record[f"{n} images"] = run
            print(n, run, f"{time.perf_counter() - started:.0f} s in all", file=sys.stderr, flush=True)
    tell(arguments, record)


def tell(arguments, record):
    if arguments.repeats:
        n = torch.get_num_threads()
        alone, at_once = (
            [median(record[kind], name) for name in ("decode cpu", "forward cpu")] for kind in ("bare", "bare at once")
        )
        wall, used, head, opening = (median(record["cold"], name) for name in ("wall", "wall cpu", "head", "opening"))
        rows = [
            *(
                (f"{what}, {threads}", f"{used:.2f}", f"{used / n:.2f}")
                for parts, threads in ((alone, "one thread"), (at_once, f"{n} threads at once"))
                for what, used in zip(
                    ("decoding alone", "the open engine alone", "both"), (*parts, sum(parts)), strict=True
                )
            ),
            ("opening the engine alone", f"{median(record['cold'], 'opening cpu'):.2f}", f"{opening:.2f}"),
            ("choosing and training the output layer alone", "", f"{head:.2f}"),
            ("cold fit", f"{used:.2f}", f"{wall:.2f}"),
        ]
        title = (
            f"A cold fit on the training photos, and its parts; {n} threads. Times of the parts are divided by the "
            "number of threads."
        )
        report("streaming_fit", title, ("what", "s of processor time", "s"), rows, record)
    rows = []
    for n in arguments.images:
        run = record[f"{n} images"]
        each = [f"{1000 * run[name] / n:.2f}" for name in ("wall", "wall cpu")]
        peak = run["peak"] - run["before"] - run["result"]
        rows.append((n, *each, f"{run['before']:.0f}", f"{run['result']:.0f}", f"{peak:.0f}"))
    header = (
        "images", "ms per image", "ms of processor time per image", "MB before", "MB of features", "peak MB beyond both"
    )  # fmt: skip
    report("streaming", "Features of JPEG files by a small network, by the number of files.", header, rows, record)
    if arguments.write:
        for name in ("streaming_fit", "streaming"):
            write_page(name, arguments.write)


if __name__ == "__main__":
    main()
