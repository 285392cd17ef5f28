"""The penalty of the output layer for more images than those that choose the features.

    python benchmarks/many_images.py DATA [--seeds 3] [--cache CACHE] [--write docs/defaults.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*. All images of five sets, whose classes are
different, become one problem of 37 classes, of which random four fifths are for training. Compared are the default,
the penalty that the images that choose the features would choose, and given penalties with the same features. Prints a
table and writes benchmarks/results/many_images.json.
"""

import argparse
import contextlib
from pathlib import Path
from unittest import mock

import numpy as np
from measuring import report, timed, write_page
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier
from sktl._estimators import auto_parameters
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits")
GIVEN = (0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
UNREFINED = mock.patch.object(auto_parameters, "refine", return_value=None)


def joined(data):
    images, classes = [], []
    for name in SETS:
        for part in ("train", "test"):
            folder = load_image_folder(data / name / part)
            images.extend(folder.data)
            classes += [f"{name}/{label}" for label in folder.target]
    return images, np.array(classes)


def measured(train, test, params, context):
    record = {}
    clf = PretrainedImageClassifier(**params)
    with context, timed(record, "s"):
        clf.fit(*train)
    proba = clf.predict_proba(test[0])
    return record | {
        "weight_decay": clf.recipe_.weight_decay,
        "feature_stages": clf.feature_stages_,
        "accuracy": float(np.mean(clf.classes_[proba.argmax(axis=1)] == test[1])),
        "log loss": log_loss(test[1], proba, labels=clf.classes_),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", default="auto")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    images, classes = joined(arguments.data)
    record = {}
    for seed in range(arguments.seeds):
        split = train_test_split(np.arange(len(images)), test_size=0.2, stratify=classes, random_state=seed)
        train, test = (([images[i] for i in rows], classes[rows]) for rows in split)
        common = {"random_state": seed, "cache": arguments.cache}
        PretrainedImageClassifier(**common, feature_stages="all", weight_decay=0.03).fit(*train)  # embeds the images
        ways = {"default": ({}, contextlib.nullcontext()), "not refined": ({}, UNREFINED)}
        ways |= {f"{p:g}": ({"feature_stages": 2, "weight_decay": p}, contextlib.nullcontext()) for p in GIVEN}
        for way, (params, context) in ways.items():
            record.setdefault(way, []).append(measured(train, test, common | params, context))
            print(way, record[way][-1], flush=True)
    rows = []
    for way, runs in record.items():
        chosen = ", ".join(sorted({f"{run['weight_decay']:g}" for run in runs}))
        means = [np.mean([run[name] for run in runs]) for name in ("accuracy", "log loss", "s cpu")]
        rows.append((way if way in ("default", "not refined") else "given", chosen, *_shown(means)))
    size = f"{len(images):,} images of {len(set(classes))} classes"
    title = f"{size}, four fifths for training; scores on the others, mean of {arguments.seeds} seeds."
    header = ("weight_decay", "value", "accuracy in %", "log loss", "CPU s of a fit, features kept")
    report("many_images", title, header, rows, record)
    if arguments.write:
        write_page("many_images", arguments.write)


def _shown(means):
    accuracy, loss, seconds = means
    return f"{100 * accuracy:.2f}", f"{loss:.4f}", f"{seconds:.1f}"


if __name__ == "__main__":
    main()
