"""The default classifier beside other classifiers on the same features, on images that none of them has seen.

    python benchmarks/head_only.py DATA [--seeds 3] [--shots 5 10 20 50 0] [--sets NAME] [--write docs/defaults.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*. For each, on random subsets of a few images
per class of train/ and on all of it (0): accuracy, balanced accuracy and log loss on test/, the mean over seeds, of

- `PretrainedImageClassifier()`, which chooses its features and its penalty by cross-validation inside `fit`;
- the same with the features of the last stage and a penalty of 0.03, which was the default before;
- scikit-learn's LogisticRegressionCV on the features of the last stage, and on those of all stages;
- SVC with an RBF kernel on those of all stages, C chosen by cross-validation; it gives no probabilities.

All features are those of the library, standardised in the same way, and for the alternatives rotated to their principal
axes, of which none is dropped: neither a penalty nor a kernel notices, and the dimensions are no more than the images.
Prints tables and writes benchmarks/results/head_only.json.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from measuring import report, write_page
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._head.standardization import Standardization
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits")
DEFAULT, BEFORE = "sktl, default", "sktl, 1 stage, penalty 0.03"
LAST, ALL, SUPPORT = "LogisticRegressionCV, last stage", "LogisticRegressionCV, all stages", "SVC, all stages"


def standardised(train, test, sizes):
    """Return features of both sets, standardised by the first and rotated to its principal axes."""
    found = Standardization.of(train, np.ones(len(train)), 1.0, sizes)
    train, test = ((part - found.mean.numpy()) / found.scale.numpy() for part in (train, test))
    axes = np.linalg.svd(train, full_matrices=False)[2]
    return train @ axes.T, test @ axes.T


def folds(y, seed):
    return StratifiedKFold(max(2, min(5, np.bincount(y).min())), shuffle=True, random_state=seed)


def logistic_regression(train, y, test, seed):
    Cs = 1 / (len(y) * np.logspace(-0.5, -4.5, 9))
    model = LogisticRegressionCV(
        Cs=Cs, cv=folds(y, seed), scoring="neg_log_loss", max_iter=500, tol=1e-3, l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(train, y)  # fmt: skip
    return model.predict_proba(test)


def support_vectors(train, y, test, seed):
    search = GridSearchCV(SVC(gamma="scale"), {"C": [0.3, 1, 3, 10, 30, 100]}, cv=folds(y, seed)).fit(train, y)
    return search.predict(test)


def scores(y, answer):
    """Return accuracy and balanced accuracy in percent, and log loss, of probabilities or of codes alone."""
    codes = answer if answer.ndim == 1 else answer.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is never predicted
        loss = np.nan if answer.ndim == 1 else log_loss(y, answer, labels=np.arange(answer.shape[1]))
    return 100 * accuracy_score(y, codes), 100 * balanced_accuracy_score(y, codes), loss


def compare(images, features, y, test, layout, seed):
    """Return the scores of each way, all trained on the same images."""
    test_images, test_features, test_y = test
    found = {}
    for name, params in {DEFAULT: {}, BEFORE: {"feature_stages": 1, "weight_decay": 0.03}}.items():
        clf = PretrainedImageClassifier(random_state=seed, **params).fit(images, y)
        found[name] = scores(test_y, clf.predict_proba(test_images))
        if name == DEFAULT:
            chosen = [clf.feature_stages_, float(clf.recipe_.weight_decay)]
    n_last = layout[0]
    last = standardised(features[:, :n_last], test_features[:, :n_last], [n_last])
    every = standardised(features, test_features, layout)
    found[LAST] = scores(test_y, logistic_regression(last[0], y, last[1], seed))
    found[ALL] = scores(test_y, logistic_regression(every[0], y, every[1], seed))
    found[SUPPORT] = scores(test_y, support_vectors(every[0], y, every[1], seed))
    return found, chosen


def measure(folder, shots, seeds):
    """Return for each number of images per class the scores by way and seed, and what was chosen."""
    train, test = (load_image_folder(folder / part) for part in ("train", "test"))
    encoder = PretrainedImageEncoder(feature_stages="all", verbose=1).fit(train.data)
    features, test_features = encoder.transform(train.data), encoder.transform(test.data)
    layout = [size for _, size in encoder._features.groups]
    codes, test_codes = (np.unique(part.target, return_inverse=True)[1] for part in (train, test))
    results = {}
    for number in shots:
        runs = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            rows = np.arange(len(codes))
            if number:
                rows = np.concatenate([rng.permutation(np.flatnonzero(codes == c))[:number] for c in np.unique(codes)])
            images = [train.data[i] for i in rows]
            runs.append(
                compare(images, features[rows], codes[rows], (test.data, test_features, test_codes), layout, seed)
            )
            print(
                folder.name,
                number or "all",
                seed,
                runs[-1][1],
                {k: round(v[0], 1) for k, v in runs[-1][0].items()},
                flush=True,
            )
        results[f"{folder.name}, {number} per class" if number else folder.name] = runs
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 10, 20, 50, 0])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    record = {}
    for name in arguments.sets:
        record |= measure(arguments.data / name, arguments.shots, arguments.seeds)
    ways = [DEFAULT, BEFORE, LAST, ALL, SUPPORT]
    rows = []
    for name, runs in record.items():
        means = {way: np.mean([found[way] for found, _ in runs], axis=0) for way in ways}
        cells = (
            f"{a:.1f} ({b:.1f}) / {loss:.3f}" if np.isfinite(loss) else f"{a:.1f} ({b:.1f})"
            for a, b, loss in means.values()
        )
        stages = " ".join(str(chosen[0]) for _, chosen in runs)
        penalties = " ".join(f"{chosen[1]:g}" for _, chosen in runs)
        rows.append((name, *cells, stages, penalties))
    title = (
        f"Accuracy in percent (balanced accuracy) / log loss on the images of test/, mean of {arguments.seeds} seeds; "
        "what was chosen for each seed."
    )
    report("head_only", title, ("data", *ways, "stages", "penalty"), rows, record)
    if arguments.write:
        write_page("head_only", arguments.write)


if __name__ == "__main__":
    main()
