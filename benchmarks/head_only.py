"""The default classifier beside logistic regression on the same features, and its time beside the bare network's.

    python benchmarks/head_only.py DATA [--seeds 5] [--repeats 3]

DATA holds cat_breeds, steel_defects and potato_leaf, each with train/<class>/* and test/<class>/*. Prints tables and
writes benchmarks/results/head_only.json.

Accuracy on test/: `PretrainedImageClassifier()` over several seeds, and scikit-learn's LogisticRegressionCV, which
chooses C by cross-validation inside train/, on the same standardised features.

Time, each measurement in a fresh process, in turn: from class folders on disk to a fitted classifier on cat_breeds, and
decoding and running the same network over the same files in plain timm, without this library, in the two best ways that
we know: a thread per core with small batches, and a DataLoader with a worker per core.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

THREADS, LOADER, LIBRARY = "timm, a thread per core", "timm, DataLoader", "sktl"


def accuracies(data, seeds):
    import numpy as np
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from sktl import PretrainedImageClassifier
    from sktl.datasets import load_image_folder

    rows = {}
    for name in ("cat_breeds", "steel_defects", "potato_leaf"):
        train, test = (load_image_folder(data / name / part) for part in ("train", "test"))
        scores = []
        for seed in range(seeds):
            clf = PretrainedImageClassifier(random_state=seed).fit(train.data, train.target)
            scores.append(100 * clf.score(test.data, test.target))
        regression = LogisticRegressionCV(
            Cs=np.logspace(-4, 1, 11),
            cv=StratifiedKFold(5, shuffle=True, random_state=0),
            scoring="accuracy",
            max_iter=3000,
            use_legacy_attributes=False,
            l1_ratios=(0.0,),
        )
        reference = make_pipeline(StandardScaler(), regression).fit(clf.transform(train.data), train.target)
        baseline = 100 * reference.score(clf.transform(test.data), test.target)
        rows[name] = {
            "sktl": statistics.mean(scores),
            "deviation": statistics.stdev(scores) if seeds > 1 else 0.0,
            "LogisticRegressionCV": baseline,
            "C": float(np.ravel(reference[-1].C_)[0]),
            "difference": statistics.mean(scores) - baseline,
        }
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    return rows


def plain_network():
    """Return the network and its transform, in plain timm."""
    import alternatives
    import timm
    import torch

    model = alternatives.network().to(memory_format=torch.channels_last)
    return model, timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)


def run_threads(folder):
    """Decode and run batches of four in a thread per core, with one intra-op thread each."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from PIL import Image

    paths = sorted(Path(folder).glob("*/*.jpg"))
    model, transform = plain_network()

    def run(start):
        images = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + 4]]
        with torch.inference_mode():
            return model(torch.stack(images).to(memory_format=torch.channels_last))

    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat(list(pool.map(run, range(0, len(paths), 4))))


def run_loader(folder):
    """Decode in a worker process per core, run batches of 16 with all intra-op threads."""
    import os

    import torch
    from torchvision.datasets import ImageFolder

    model, transform = plain_network()
    loader = torch.utils.data.DataLoader(ImageFolder(folder, transform), 16, num_workers=os.cpu_count())
    with torch.inference_mode():
        return torch.cat([model(images.to(memory_format=torch.channels_last)) for images, _ in loader])


def run_library(folder):
    from sktl import PretrainedImageClassifier
    from sktl.datasets import load_image_folder

    train = load_image_folder(folder)
    return PretrainedImageClassifier(random_state=0).fit(train.data, train.target)


RUNS = {THREADS: run_threads, LOADER: run_loader, LIBRARY: run_library}


def seconds(way, folder):
    """Return the seconds that one way takes in a fresh process, imports not counted."""
    command = [sys.executable, __file__, str(folder), "--time", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_seconds(way, folder):
    import timm
    import torchvision

    import sktl

    assert sktl, (timm, torchvision)
    started = time.perf_counter()
    RUNS[way](folder)
    print(time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--time", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        print_seconds(arguments.time, arguments.data)
        return
    times = {way: [] for way in RUNS}
    for _ in range(arguments.repeats):
        for way in RUNS:
            times[way].append(seconds(way, arguments.data / "cat_breeds" / "train"))
    medians = {way: statistics.median(values) for way, values in times.items()}
    ratio = medians[LIBRARY] / min(medians[THREADS], medians[LOADER])
    for way, values in times.items():
        print(f"{way:25s} median {medians[way]:6.1f} s of {[round(value, 1) for value in values]}")
    print(f"sktl, folders to fitted classifier / the faster bare pass: {ratio:.2f}", flush=True)
    rows = accuracies(arguments.data, arguments.seeds)
    print("\n| data | sktl | LogisticRegressionCV | difference |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['sktl']:.2f} | {row['LogisticRegressionCV']:.2f} | {row['difference']:+.2f} |")
    Path("benchmarks/results").mkdir(exist_ok=True)
    result = {"accuracy": rows, "seconds": times, "ratio": ratio}
    Path("benchmarks/results/head_only.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
