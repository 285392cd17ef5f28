"""Fixed random views beside fresh augmentation and none: accuracy and time of training the last stages.

    python benchmarks/augmentation_views.py DATA/cat_breeds [--stages 1] [--seeds 2]
        [--write docs/guide/speed_and_cache.md]

Trains on half of the images of train/ and measures on the other half, both anew for each seed, with an empty cache.
"""

import argparse
import statistics
import sys
import tempfile
import time

import numpy as np
from measuring import folders, report, write_page
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier

WAYS = {
    "none": {"augmentation": None},
    "1 view": {"augmentation_views": 1},
    "2 views": {"augmentation_views": 2},
    "4 views": {"augmentation_views": 4},
    "fresh in each epoch": {},
}


def measure(paths, codes, seed, stages, params):
    halves = train_test_split(np.array(paths, object), codes, test_size=0.5, stratify=codes, random_state=seed)
    train, test, train_codes, test_codes = halves
    with tempfile.TemporaryDirectory() as cache:
        clf = PretrainedImageClassifier(trainable_stages=stages, random_state=seed, cache=cache, **params)
        started = time.perf_counter()
        clf.fit(train, train_codes)
        seconds = time.perf_counter() - started
        probabilities = clf.predict_proba(test)
    accuracy = float((clf.classes_[probabilities.argmax(axis=1)] == test_codes).mean())
    return accuracy, float(log_loss(test_codes, probabilities)), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    paths, codes = folders(arguments.data)[0]
    record = {way: [] for way in WAYS}
    for seed in range(arguments.seeds):
        for way, params in WAYS.items():
            record[way].append(measure(paths, codes, seed, arguments.stages, params))
            print(seed, way, record[way][-1], file=sys.stderr, flush=True)
    rows = []
    for way, runs in record.items():
        accuracy, loss, seconds = (statistics.mean(values) for values in zip(*runs, strict=True))
        rows.append((way, f"{100 * accuracy:.1f}", f"{loss:.3f}", f"{seconds:.0f}"))
    n_train = len(paths) // 2
    seeds = "with 1 seed" if arguments.seeds == 1 else f"averaged over {arguments.seeds} seeds"
    title = (
        f"`trainable_stages={arguments.stages}` on {n_train} photos, {seeds}. "
        f"Accuracy and log loss are measured on {len(paths) - n_train} other photos."
    )
    header = ("views", "accuracy in %", "log loss", "seconds per fit")
    report("augmentation_views", title, header, rows, record)
    if arguments.write:
        write_page("augmentation_views", arguments.write)


if __name__ == "__main__":
    main()
