"""Fine-tuning by default beside the output layer alone, on images that neither has seen.

    python benchmarks/fine_tuning.py DATA [--seeds 3] [--first-seed 0] [--shots 10] [--few-shot-seeds 5] [--sets NAME]
        [--early-stopping] [--write docs/defaults.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*. For each dataset, and for random subsets of
a few images per class of train/: the accuracy on test/ of `PretrainedImageClassifier(trainable_stages="all")` and of
the same with trainable_stages=0, the mean gain, and two standard errors of it: over the seeds, and over the images of
test/, which both classifiers see. Prints a table and writes benchmarks/results/fine_tuning.json. With --early-stopping
all stages by default stand in the place of the output layer, and beside them all stages with early_stopping=True, in
benchmarks/results/fine_tuning_early_stopping.json.

Published accuracies on the 12 cat breeds of the Oxford-IIIT Pet data, for comparison: fine-tuned ResNet-50 92.9 %,
ViT-small 92.6 %, ResNet-152 94.7 %, all of them larger networks trained on GPUs.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from measuring import report, write_page

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

LAYER, STAGES, STOPPED = "output layer", "all stages", "all stages, early stopping"
WAYS = {
    LAYER: {"trainable_stages": 0},
    STAGES: {"trainable_stages": "all"},
    STOPPED: {"trainable_stages": "all", "early_stopping": True},
}
PUBLISHED = {"ResNet-50": 92.9, "ViT-small": 92.6, "ResNet-152": 94.7}


def correct(way, seed, X, y, test):
    """Return for each test image whether it was named right, and the seconds of the fit."""
    clf = PretrainedImageClassifier(**WAYS[way], random_state=seed)
    started = time.perf_counter()
    clf.fit(X, y)
    return clf.predict(test.data) == test.target, time.perf_counter() - started


def compare(X, y, test, pair, seeds, shots=None):
    """Return accuracies in percent of two ways, by seed, and the gain with its standard errors in points."""
    before, after, seconds = [], [], []
    for seed in seeds:
        rows = np.arange(len(y))
        if shots:
            rng = np.random.default_rng(seed)
            rows = np.concatenate([rng.permutation(np.flatnonzero(y == label))[:shots] for label in np.unique(y)])
        images = [X[i] for i in rows]
        before.append(correct(pair[0], seed, images, y[rows], test)[0])
        right, duration = correct(pair[1], seed, images, y[rows], test)
        after.append(right)
        seconds.append(duration)
        print(
            f"  seed {seed}: {100 * before[-1].mean():.2f} -> {100 * right.mean():.2f} ({duration:.0f} s)", flush=True
        )
    gains = 100 * (np.array(after, dtype=float) - np.array(before))  # seeds x images
    of_seeds, of_images = gains.mean(axis=1), gains.mean(axis=0)
    return {
        pair[0]: (100 * np.mean(before, axis=1)).tolist(),
        pair[1]: (100 * np.mean(after, axis=1)).tolist(),
        "gain": float(gains.mean()),
        "se over seeds": float(of_seeds.std(ddof=1) / np.sqrt(len(seeds))) if len(seeds) > 1 else float("nan"),
        "se over images": float(of_images.std(ddof=1) / np.sqrt(len(of_images))),
        "seconds": float(np.median(seconds)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--few-shot-seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=["cat_breeds", "steel_defects", "potato_leaf"])
    parser.add_argument("--early-stopping", action="store_true", help="compare early stopping with the default")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    pair = (STAGES, STOPPED) if arguments.early_stopping else (LAYER, STAGES)
    results = {}
    for name in arguments.sets:
        train, test = (load_image_folder(arguments.data / name / part) for part in ("train", "test"))
        print(name, flush=True)
        first = arguments.first_seed
        results[name] = compare(train.data, train.target, test, pair, range(first, first + arguments.seeds))
        if arguments.few_shot_seeds:
            few = f"{name}, {arguments.shots} per class"
            print(few, flush=True)
            seeds = range(first, first + arguments.few_shot_seeds)
            results[few] = compare(train.data, train.target, test, pair, seeds, arguments.shots)
    rows = []
    for name, row in results.items():
        means = [np.mean(row[key]) for key in pair]
        errors = [row[key] for key in ("se over seeds", "se over images")]
        figures = [*(f"{mean:.2f}" for mean in means), f"{row['gain']:+.2f}", *(f"{error:.2f}" for error in errors)]
        rows.append((name, *figures, f"{row['seconds']:.0f}"))
    title = f"Accuracy in percent on the images of test/, the mean of {arguments.seeds} seeds on all images of train/."
    header = ("data", *pair, "gain", "SE over seeds", "SE over images", "seconds per fit")
    record = "fine_tuning_early_stopping" if arguments.early_stopping else "fine_tuning"
    report(record, title, header, rows, results)
    if arguments.write:
        write_page(record, arguments.write)
    print("\nPublished, on the 12 cat breeds:", ", ".join(f"{name} {value} %" for name, value in PUBLISHED.items()))


if __name__ == "__main__":
    main()
