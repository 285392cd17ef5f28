"""Several labels and numbers: the output layer and fine-tuning beside scikit-learn's models on the same features.

    python benchmarks/labels_and_numbers.py DATA [--seeds 3] [--long LABELS ...] [--long-seeds 1]
        [--write docs/benchmarks.md]

Labels are those of 1,600 aerial photos. Numbers are the logarithm of the share of a defective magnetic tile that its
defect covers, and the number of labels of an aerial photo. The features of scikit-learn's models are those of two
stages, the most that the estimator chooses by default, standardized. Each seed is the `random_state` of the estimator;
scikit-learn's models, which have no random part but their folds, are fitted once. --long adds, for the named tasks,
ways that take a quarter of an hour or more for a seed: training all stages and, for labels, fastai on the same network.
Thresholds are chosen on out-of-fold probabilities; for all stages, on those of the output layer.
"""

import argparse
import csv
import sys
from pathlib import Path

import alternatives
import numpy as np
from measuring import report, timed, write_page
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor

THRESHOLDS = np.linspace(0.05, 0.95, 19)
TUNED = {"trainable_stages": "all"}
FASTAI = {
    "fastai": alternatives.fastai_labels,
    "fastai, fine_tune": alternatives.fastai_labels_fine_tune,
}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def photos(data):
    """Return the aerial photos and their labels, as (paths, table) for training and for the test."""
    folder, parts = data / "ucmerced_multilabel", []
    rows = rows_of(folder / "labels.csv")
    names = [name for name in rows[0] if name not in ("image", "split")]
    for split in ("train", "test"):
        some = [row for row in rows if row["split"] == split]
        table = np.array([[int(row[name]) for name in names] for row in some])
        parts.append(([folder / row["image"] for row in some], table))
    return parts


def tiles(data):
    """Return the defective tiles and the logarithms of the shares that defects cover."""
    folder, parts = data / "magnetic_tile", []
    rows = [row for row in rows_of(folder / "defect_area.csv") if float(row["area_fraction"]) > 0]
    for split in ("train", "test"):
        some = [row for row in rows if row["split"] == split]
        parts.append(([folder / r["image"] for r in some], np.log([float(r["area_fraction"]) for r in some])))
    return parts


def thresholds(table, proba):
    """Return the threshold of each label with the highest F1 on out-of-fold probabilities."""
    scores = [[f1_score(y, p >= t, zero_division=0) for t in THRESHOLDS] for y, p in zip(table.T, proba.T, strict=True)]
    return THRESHOLDS[np.argmax(scores, axis=1)]


def scores_of_labels(model, train, test, seed, chosen=None):
    """Return average precisions and F1 of a model, which is fitted here, with and without chosen thresholds."""
    record = {}
    with timed(record, "s"):
        model.fit(*train)
    folds = KFold(3, shuffle=True, random_state=seed)
    if chosen is None:
        chosen = thresholds(train[1], cross_val_predict(model, *train, cv=folds, method="predict_proba"))
    return record | precisions(test[1], model.predict_proba(test[0]), chosen) | {"chosen": chosen.tolist()}


def precisions(table, proba, chosen=None):
    record = {
        "macro AP": average_precision_score(table, proba, average="macro"),
        "micro AP": average_precision_score(table, proba, average="micro"),
        "F1 at 0.5": f1_score(table, proba >= 0.5, average="samples", zero_division=0),
    }
    if chosen is not None:
        record["F1, chosen thresholds"] = f1_score(table, proba >= chosen, average="samples", zero_division=0)
    return record


def scores_of_fastai(way, train, test, seed):
    record = {}
    with timed(record, "s"):
        proba = FASTAI[way](train, test, seed)
    return record | precisions(test[1], proba)


def scores_of_numbers(model, train, test, seed):
    record = {}
    with timed(record, "s"):
        model.fit(*train)
    predicted = model.predict(test[0])
    return record | {"R2": r2_score(test[1], predicted), "MAE": mean_absolute_error(test[1], predicted)}


def features(parts, cache):
    encoder = PretrainedImageEncoder(feature_stages=2, cache=cache)
    return [(encoder.fit_transform(paths), y) for paths, y in parts]


def compared(task, parts, estimator, baseline, arguments):
    """Return the scores of each way, one for each seed."""
    score = scores_of_labels if task == "labels" else scores_of_numbers
    on_features = features(parts, arguments.cache)
    given = {"baseline": [score(baseline(), *on_features, 0)], "ours": [], "tuned": []}
    for seed in range(arguments.seeds):
        common = {"random_state": seed, "cache": arguments.cache}
        given["ours"].append(score(estimator(**common), *parts, seed))
        show(given)
        if task in arguments.long and seed < arguments.long_seeds:
            chosen = {"chosen": np.array(given["ours"][-1]["chosen"])} if task == "labels" else {}
            given["tuned"].append(score(estimator(**common, **TUNED), *parts, seed, **chosen))
            show(given)
            for way in FASTAI if task == "labels" else ():
                given.setdefault(way, []).append(scores_of_fastai(way, *parts, seed))
                show(given)
    return {way: given[way] for way in ("ours", "baseline", "tuned", *FASTAI) if given.get(way)}


def show(given):
    print({way: runs[-1] for way, runs in given.items() if runs}, file=sys.stderr, flush=True)


def one_vs_rest():
    folds = KFold(3, shuffle=True, random_state=0)
    logistic = LogisticRegressionCV(
        Cs=np.logspace(-5, -2, 4), cv=folds, max_iter=300, scoring="neg_log_loss", l1_ratios=(0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    # With fewer images than features, the main axes describe all images, and the optimum is the same.
    return make_pipeline(StandardScaler(), PCA(), OneVsRestClassifier(logistic))


def ridge():
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--long", nargs="*", choices=["labels", "defect", "count"], default=[])
    parser.add_argument("--long-seeds", type=int, default=1)
    parser.add_argument("--cache", default="auto")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    aerial = photos(arguments.data)
    counts = [(paths, table.sum(axis=1).astype(float)) for paths, table in aerial]
    record = {
        "labels": compared("labels", aerial, PretrainedImageClassifier, one_vs_rest, arguments),
        "defect": compared("defect", tiles(arguments.data), PretrainedImageRegressor, ridge, arguments),
        "count": compared("count", counts, PretrainedImageRegressor, ridge, arguments),
    }
    rows, one_for_each = [], "OneVsRestClassifier(LogisticRegressionCV)"
    baseline = {"labels": one_for_each, "defect": "RidgeCV", "count": "RidgeCV"}
    titles = {"labels": "labels of aerial photos", "defect": "log of a defect's share", "count": "number of labels"}
    columns = ("macro AP", "micro AP", "F1 at 0.5", "F1, chosen thresholds", "R2", "MAE")
    for task, ways in record.items():
        for way, runs in ways.items():
            name = {"ours": "output layer", "tuned": "all stages", "baseline": baseline[task]}.get(way, way)
            seeds = f", {len(runs)} of {arguments.seeds} seeds" if way in ("tuned", *FASTAI) else ""
            means = [f"{np.mean([run[c] for run in runs]):.3f}" if c in runs[0] else "" for c in columns]
            rows.append((titles[task], name + seeds, *means, f"{np.mean([run['s'] for run in runs]):.1f}"))
    title = f"Scores on test images, the mean of {arguments.seeds} seeds. F1 is the mean over images."
    report("labels_and_numbers", title, ("target", "way", *columns, "s of a fit, features kept"), rows, record)
    if arguments.write:
        write_page("labels_and_numbers", arguments.write)


if __name__ == "__main__":
    main()
