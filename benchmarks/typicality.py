"""How well typicality tells strangers from ordinary images, compared with other scores, and how exact its values are.

    python benchmarks/typicality.py DATA [--sets NAME ...] [--cache FOLDER] [--write docs/guide/none_of_these.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*, or with labels.csv for several labels. Far
strangers are the images of test/ of each other set. Near strangers are the images of test/ of one class, for each class
in turn, which is left out of train/; with several labels, images that have one of the rarer labels. The figures are the
area under the ROC curve against ordinary images of test/, and the share of ordinary images with a p-value of at most
0.05. `typicality` is compared with its parts and with scores of the literature, the latter with cross-conformal
p-values: maximum softmax probability (Hendrycks and Gimpel, ICLR 2017), maximum logit (Hendrycks et al., ICML 2022),
energy (Liu et al., NeurIPS 2020), Mahalanobis distance (Lee et al., NeurIPS 2018), ViM (Wang et al., CVPR 2022) and
neighbors on standardized features (Sun et al., ICML 2022). Each image is embedded once. Prints a table and writes
benchmarks/results/typicality.json.
"""

import argparse
import csv
import re
from pathlib import Path

import numpy as np
from measuring import report, write_page
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sktl import PretrainedImageEncoder
from sktl._backbones.taps import TEXTURE_STAGES
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator
from sktl._targets.number_targets import check_numbers
from sktl._typicality.directions import cosines, directions_of
from sktl._typicality.scores import Scorer
from sktl._typicality.typicality import Typicality
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits", "ucmerced_multilabel")
# Shares of all images above which a label is no stranger, and numbers of test images below which there are too few.
COMMON, FEWEST = 0.35, 10
LEVEL = 0.05


def read(folder):
    """Return paths, targets, groups and whether an image is in train/."""
    if (folder / "labels.csv").exists():
        rows = [*csv.DictReader((folder / "labels.csv").open())]
        labels = [name for name in rows[0] if name not in ("image", "split")]
        targets = np.array([[int(row[label]) for label in labels] for row in rows])
        paths = [str(folder / row["image"]) for row in rows]
        return paths, targets, np.array([row["split"] == "train" for row in rows])
    parts = [load_image_folder(folder / part) for part in ("train", "test")]
    paths = [str(path) for part in parts for path in part.data]
    return paths, np.concatenate([part.target for part in parts]), np.arange(len(paths)) < len(parts[0].data)


def groups_of(paths):
    """Return a number for each source: potato leaves occur several times, augmented."""
    sources = [re.sub(r".*healthy-(\d+)-.*", r"leaf \1", path) for path in paths]
    return np.unique(sources, return_inverse=True)[1]


def standardization(features):
    variance = features.var(axis=0)
    mean, scale = features.mean(axis=0), np.sqrt(variance + variance.mean())
    return lambda rows: (rows - mean) / scale


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


class Published:
    """Scores of the literature, on standardized features and an output layer of logistic regression."""

    def __init__(self, features, y):
        self.scaled = standardization(features)
        rows = self.scaled(features)
        self.rows = unit(rows)
        self.layer = LogisticRegression(C=1 / (0.003 * len(rows)), max_iter=300, tol=1e-3).fit(rows, y)
        codes = np.unique(y, return_inverse=True)[1]
        self.means = np.stack([rows[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
        residuals = rows - self.means[codes]
        covariance = residuals.T @ residuals / len(rows)
        covariance += 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.precision = np.linalg.inv(covariance)
        self.axes = np.linalg.eigh(rows.T @ rows)[1][:, -min(256, len(rows) // 4) :]
        self.ratio = self._logits(rows).max(axis=1).mean() / self._residual(rows).mean()

    def _logits(self, rows):
        found = self.layer.decision_function(rows)
        return np.stack([-found, found], axis=1) / 2 if found.ndim == 1 else found

    def _residual(self, rows):
        return np.sqrt(((rows**2).sum(axis=1) - ((rows @ self.axes) ** 2).sum(axis=1)).clip(0))

    def __call__(self, features):  # noqa: D102
        rows = self.scaled(features)
        logits, nearest = self._logits(rows), np.sort(unit(rows) @ self.rows.T, axis=1)
        differences = [rows - mean for mean in self.means]
        energy = logsumexp(logits, axis=1)
        return {
            "maximum softmax": softmax(logits, axis=1).max(axis=1),
            "maximum logit": logits.max(axis=1),
            "energy": energy,
            "Mahalanobis": -np.min([np.einsum("nd,nd->n", d @ self.precision, d) for d in differences], axis=0),
            "ViM": energy - self.ratio * self._residual(rows),
            "nearest, standardized": nearest[:, -1],
            "5 nearest, standardized": nearest[:, -5:].mean(axis=1),
        }


class Rows:
    """Features of the network's own output, and of textures, of some images."""

    def __init__(self, rows, layout):
        self.rows, self.layout = rows, layout

    def __getitem__(self, images):
        return Rows(self.rows[images], self.layout)

    def __len__(self):
        return len(self.rows)

    @property
    def own(self):  # noqa: D102
        return self.rows[:, : self.layout.length(1)]

    @property
    def directions(self):  # noqa: D102
        return directions_of(self.own), directions_of(self.rows[:, self.layout.texture])


class Parts:
    """The scores that typicality combines."""

    def __init__(self, features, memberships):
        self.directions = features.directions
        self.scorer = Scorer.of(cosines(self.directions[0], self.directions[0]), memberships)

    def __call__(self, features):  # noqa: D102
        found = self.scorer(*(cosines(*pair) for pair in zip(features.directions, self.directions, strict=True)))
        return dict(zip(("nearest", "ridge", "texture"), found.T, strict=True))


def cross_conformal(make, features, targets, others, seed=0):
    """Return the p-values of several sets of images by each score, with a scorer for each of five folds."""
    folds = targets.deal(5, seed).of_sample
    totals = [{} for _ in others]
    for fold in np.unique(folds):
        scores = make(np.flatnonzero(folds != fold))
        held_out = {name: np.sort(found) for name, found in scores(features[folds == fold]).items()}
        for total, images in zip(totals, others, strict=True):
            for name, found in scores(images).items():
                total[name] = total.get(name, 0) + np.searchsorted(held_out[name], found, side="right")
    return [{name: (n + 1) / (len(features) + 1) for name, n in total.items()} for total in totals]


def ours(features, y, groups, others):
    """Return the p-values of several sets of images: typicality, and its parts."""
    targets = (check_indicator if y.ndim == 2 else check_classes)(y, None, None, len(y), None, groups)
    numbers = check_numbers(np.arange(len(y)) / 1.0, None, "squared_error", len(y), None, groups)
    memberships = targets.memberships().astype(float)
    parts = cross_conformal(lambda rows: Parts(features[rows], memberships[rows]), features, targets, others)
    rows, layout = features.rows, features.layout
    values = {"typicality": Typicality.of(rows, layout, targets, 0)}
    values["typicality, `feature_stages=1`"] = Typicality.of(features.own, layout, targets, 0)
    values["typicality of a regressor"] = Typicality.of(rows, layout, numbers, 0)
    return [
        {name: of(of.reduction(images.rows[:, : layout.length(of.n_stages)])) for name, of in values.items()} | part
        for images, part in zip(others, parts, strict=True)
    ]


def published_shares(features, y, groups, ordinary):
    """Return the share of ordinary images with a p-value of at most 0.05, by each published score."""
    targets = check_classes(y, None, None, len(y), None, groups)
    (found,) = cross_conformal(
        lambda rows: Published(features.own[rows], y[rows]), features.own, targets, [ordinary.own]
    )
    return {name: float((p_values <= LEVEL).mean()) for name, p_values in found.items()}


def areas(features, y, groups, ordinary, strange):
    """Return the area under the ROC curve for each of several sets of strange images, by each score."""
    first, *rest = ours(features, y, groups, [ordinary, *strange])
    found = {name: [auroc(first[name], values[name]) for values in rest] for name in first}
    if y.ndim == 1:
        score = Published(features.own, y)
        first, *rest = (score(images.own) for images in (ordinary, *strange))
        found |= {name: [auroc(first[name], values[name]) for values in rest] for name in first}
    return found


def auroc(ordinary, strange):
    return float(roc_auc_score(np.repeat([1, 0], [len(ordinary), len(strange)]), np.concatenate([ordinary, strange])))


def near(features, y, groups, train):
    """Return the area for images of each class or label that is left out, by each score."""
    found = {}
    for column in range(y.shape[1]) if y.ndim == 2 else np.unique(y):
        has = y[:, column] == 1 if y.ndim == 2 else y == column
        if y.ndim == 2 and ((has & ~train).sum() < FEWEST or has.mean() > COMMON):
            continue
        kept = train & ~has
        left = y[kept] if y.ndim == 1 else y[kept][:, y[kept].any(axis=0)]
        for name, (area,) in areas(
            features[kept], left, groups[kept], features[~train & ~has], [features[~train & has]]
        ).items():
            found.setdefault(name, []).append(area)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--cache", default="auto", help="folder of cached features")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    data = {}
    for name in arguments.sets:
        paths, y, train = read(arguments.data / name)
        encoder = PretrainedImageEncoder(feature_stages=TEXTURE_STAGES, cache=arguments.cache)
        features = Rows(encoder.fit_transform(paths), encoder._fitted_extractor().layout)
        data[name] = (features, y, groups_of(paths), train)
    results = {}
    for name, (features, y, groups, train) in data.items():
        ordinary, of_train = features[~train], (features[train], y[train], groups[train])
        others = {other: found[0][~found[3]] for other, found in data.items() if other != name}
        (p_values,) = ours(*of_train, [ordinary])
        shares = {score: float((values <= LEVEL).mean()) for score, values in p_values.items()}
        if y.ndim == 1:
            shares |= published_shares(*of_train, ordinary)
        far = {
            score: dict(zip(others, found, strict=True))
            for score, found in areas(*of_train, ordinary, [*others.values()]).items()
        }
        results[name] = {"far": far, "near": near(features, y, groups, train), "share": shares}
        print(name, {score: round(float(np.mean(v)), 3) for score, v in results[name]["near"].items()}, flush=True)
    rows = []
    for score in next(iter(results.values()))["far"]:
        cells = [
            f"{min(found['far'][score].values()):.3f} / {np.mean(found['near'][score]):.3f} / "
            f"{100 * found['share'][score]:.1f}"
            if score in found["far"]
            else ""
            for found in results.values()
        ]
        rows.append((score, *cells))
    title = (
        "Area under the ROC curve for images of the other dataset that is hardest to distinguish from ordinary images "
        "/ for images of a left-out class, averaged over classes / percentage of ordinary images with a p-value of at "
        f"most {LEVEL}."
    )
    report("typicality", title, ("score", *results), rows, results)
    if arguments.write:
        write_page("typicality", arguments.write)


if __name__ == "__main__":
    main()
