"""Smaller networks from the same weights: accuracy, time and size for numbers of stages and sizes of images.

    python benchmarks/smaller.py DATA/cat_breeds [--stages 3 4 5 6] [--sizes 96 128 160 224]
        [--write docs/guide/smaller_and_faster.md]

All other parameters have their defaults. The accuracy of cross-validation, on five folds of the training images, is
what a search sees; the accuracy on the test images is what it is worth. Times are those of `predict` on images in
memory, without a cache: for a single image, and per image of 64. The size is that of the file that `save` writes. The
result is named after the folder of images: `smaller_cat_breeds`.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import folders, report, write_page
from PIL import Image
from sklearn.model_selection import StratifiedKFold, cross_val_score

from sktl import PretrainedImageClassifier

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
ROUNDS, MANY = 15, 64
HEADER = ("n_stages", "image_size", "cross-validated accuracy in %", "test accuracy in %", "ms for one image",
          "ms per image of 64", "MB")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--stages", nargs="+", type=int, default=[3, 4, 5, 6])
    parser.add_argument("--sizes", nargs="+", type=int, default=[96, 128, 160, 224])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    train, test = folders(arguments.data)
    record = []
    with tempfile.TemporaryDirectory() as cache:
        for n_stages in arguments.stages:
            for size in arguments.sizes:
                clf = PretrainedImageClassifier(
                    n_stages=n_stages, image_size=size, engine=arguments.engine, cache=cache, random_state=0
                )
                record.append({"n_stages": n_stages, "image_size": size, **measured(clf, train, test)})
                print(record[-1], flush=True)
    rows = [
        (
            run["n_stages"], run["image_size"], f"{100 * run['cross-validated']:.1f}", f"{100 * run['test']:.1f}",
            f"{1000 * run['one']:.1f}", f"{1000 * run['many']:.2f}", f"{run['bytes'] / 1e6:.2f}",
        )
        for run in record
    ]  # fmt: skip
    name = f"smaller_{arguments.data.name}"
    title = (
        f"{len(train[1])} training images and {len(test[1])} test images of {len(np.unique(train[1]))} classes in "
        f"`{arguments.data.name}`, engine {record[0]['engine']}. Times are for `predict` on images in memory."
    )
    report(name, title, HEADER, rows, record)
    if arguments.write:
        write_page(name, arguments.write)


def measured(clf, train, test):
    """Return the accuracy of an estimator, the seconds per image, and the size of its file."""
    X, y = train
    validated = cross_val_score(clf, X, y, cv=FOLDS).mean()
    accuracy = clf.fit(X, y).score(*test)
    file = io.BytesIO()
    clf.save(file)
    clf.set_params(cache=False)  # predictions compute features again
    some = [np.asarray(Image.open(path).convert("RGB")) for path in test[0][:MANY]]
    return {
        "cross-validated": float(validated),
        "test": float(accuracy),
        "one": seconds(clf, [[image] for image in some[:ROUNDS]]),
        "many": seconds(clf, [some] * 3) / len(some),
        "bytes": len(file.getvalue()),
        "engine": clf.engine_,
        "feature_stages": clf.feature_stages_,
    }


def seconds(clf, calls):
    """Return the median seconds of calls of `predict`, without the first one, which may load the network."""
    clf.predict(calls[0])
    spent = []
    for images in calls:
        before = time.perf_counter()
        clf.predict(images)
        spent.append(time.perf_counter() - before)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
