"""How far the probabilities of the default classifier can be believed, and what a temperature would change.

    python benchmarks/calibration.py DATA [--seeds 3] [--shots 10 20 50 0] [--sets NAME] [--write docs/defaults.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*. For each, on random subsets of a few images
per class of train/ and on all of it (0): the expected calibration error on test/, in percent, and the log loss, of
`PretrainedImageClassifier()` as it is, and with its logits divided by one temperature, which makes the log loss of
predictions outside the fold lowest in a cross-validation inside train/ (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). The error is over 15 groups of equally many images, ordered by the probability of the class that
is named. Prints a table and writes benchmarks/results/calibration.json.
"""

import argparse
from pathlib import Path

import numpy as np
from measuring import report, write_page
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits")
GROUPS = 15


def logits(clf, images):
    scores = clf.decision_function(images)
    return np.stack([np.zeros(len(scores)), scores], axis=1) if scores.ndim == 1 else scores


def calibration_error(y, probabilities):
    """Return the mean over groups of images of how far accuracy and stated probability are apart."""
    stated, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    groups = np.array_split(np.argsort(stated, kind="stable"), min(GROUPS, len(y)))
    return sum(abs(stated[rows].mean() - right[rows].mean()) * len(rows) for rows in groups) / len(y)


def loss(y, scores):
    return float(-log_softmax(scores, axis=1)[np.arange(len(y)), y].mean())


def temperature(clf, images, y, seed):
    """Return the temperature that suits predictions of images outside the fold that the classifier is trained on.

    The classifier may have divided its logits by a temperature of its own already.
    """
    given = clone(clf).set_params(feature_stages=clf.feature_stages_, weight_decay=clf.recipe_.weight_decay)
    outside = np.empty((len(y), y.max() + 1))
    n_folds = max(2, min(5, np.bincount(y).min()))
    for train, rest in StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(images, y):
        given.fit([images[i] for i in train], y[train])
        outside[rest] = logits(given, [images[i] for i in rest]) / clf.recipe_.temperature
    found = minimize_scalar(lambda power: loss(y, outside * np.exp(-power)), bounds=(-2, 2), method="bounded")
    return float(np.exp(found.x))


def compare(images, y, test, seed):
    test_images, test_y = test
    clf = PretrainedImageClassifier(random_state=seed).fit(images, y)
    by, scores = temperature(clf, images, y, seed), logits(clf, test_images)
    found = {"temperature": by}
    for name, of in (("default", scores), ("scaled", scores / by)):
        found[name] = (100 * calibration_error(test_y, softmax(of, axis=1)), loss(test_y, of))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", type=int, nargs="+", default=[10, 20, 50, 0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    results, rows = {}, []
    for name in arguments.sets:
        train, test = (load_image_folder(arguments.data / name / part) for part in ("train", "test"))
        classes = np.unique(train.target)
        y, test_y = (np.searchsorted(classes, part.target) for part in (train, test))
        for shots in arguments.shots:
            runs = []
            for seed in range(arguments.seeds):
                rng = np.random.default_rng(seed)
                of_each = [rng.permutation(np.flatnonzero(y == code))[: shots or None] for code in range(len(classes))]
                kept = np.sort(np.concatenate(of_each))
                runs.append(compare([train.data[i] for i in kept], y[kept], (test.data, test_y), seed))
            title = f"{name}, {shots} per class" if shots else name
            results[title] = runs
            by = np.mean([run["temperature"] for run in runs])
            cells = [np.mean([run[way] for run in runs], axis=0) for way in ("default", "scaled")]
            rows.append((title, *(f"{error:.1f} / {of:.3f}" for error, of in cells), f"{by:.2f}"))
            print(*rows[-1], flush=True)
    title = (
        f"Expected calibration error in percent / log loss on the images of test/, the mean of {arguments.seeds} seeds."
    )
    report("calibration", title, ("data", "default", "scaled by a temperature", "temperature"), rows, results)
    if arguments.write:
        write_page("calibration", arguments.write)


if __name__ == "__main__":
    main()
