"""The default classifier with a network in float32 and in bfloat16: accuracy, log loss, and the time of the pass.

    python benchmarks/precision.py DATA [--sets NAME] [--engine torch] [--images 60] [--repeats 3]
        [--write docs/guide/speed_and_cache.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*. Accuracy and log loss are measured on the
images of test/. A pass reads and decodes the images of test/ and computes their features, without a cache, by the
network that the fit has loaded. Passes in both precisions take turns, and the table shows medians. Needs a processor or
an accelerator that computes in bfloat16. Prints a table and writes benchmarks/results/precision.json.
"""

import argparse
from pathlib import Path

import numpy as np
from measuring import folders, median, report, timed, write_page
from sklearn.metrics import log_loss

from sktl import PretrainedImageClassifier

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits")
PRECISIONS = ("float32", "bfloat16")
HEADER = ("data", "precision", "accuracy in %", "log loss", "images per s", "ms of processor time per image")


def fitted(train, test, precision, engine):
    """Return a classifier, and how good it is on the test images."""
    clf = PretrainedImageClassifier(precision=precision, engine=engine, random_state=0).fit(*train)
    probabilities = clf.predict_proba(test[0])
    found = {
        "accuracy": float(np.mean(clf.classes_[probabilities.argmax(axis=1)] == test[1])),
        "log loss": float(log_loss(test[1], probabilities, labels=clf.classes_)),
        "engine": clf.engine_,
    }
    return clf.set_params(cache=False), found


def compare(train, test, engine, repeats):
    """Return what is measured of a dataset in each precision."""
    fits = {precision: fitted(train, test, precision, engine) for precision in PRECISIONS}
    passes = {precision: [] for precision in PRECISIONS}
    for _ in range(repeats):
        for precision, (clf, _) in fits.items():
            record = {}
            with timed(record, "wall"):
                clf.transform(test[0])
            passes[precision].append(record)
    return {precision: found | {"passes": passes[precision]} for precision, (_, found) in fits.items()}


def cells(run, n_images):
    """Return the cells of a row, without the names."""
    seconds, used = (median(run["passes"], name) / n_images for name in ("wall", "wall cpu"))
    return f"{100 * run['accuracy']:.1f}", f"{run['log loss']:.4f}", f"{1 / seconds:.0f}", f"{1000 * used:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--images", type=int, help="number of images of each part; default: all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    results, rows = {}, []
    for name in arguments.sets:
        parts = folders(arguments.data / name)
        train, test = ((paths[: arguments.images], codes[: arguments.images]) for paths, codes in parts)
        results[name] = compare(train, test, arguments.engine, arguments.repeats)
        for precision in PRECISIONS:
            rows.append((name, precision, *cells(results[name][precision], len(test[0]))))
            print(*rows[-1], flush=True)
    engines = sorted({run["engine"] for of_set in results.values() for run in of_set.values()})
    few = f", {arguments.images} images of each part" if arguments.images else ""
    title = f"The default classifier on each dataset{few}, engine {' and '.join(engines)}."
    report("precision", title, HEADER, rows, results)
    if arguments.write:
        write_page("precision", arguments.write)


if __name__ == "__main__":
    main()
