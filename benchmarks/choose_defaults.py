"""Choose the defaults of the output layer's training by cross-validation inside train/ of several datasets.

    python benchmarks/choose_defaults.py DATA [--seeds 3] [--write docs/defaults.md]

DATA holds one folder per dataset, each with train/<class>/*. Candidates are compared on the whole of train/ and on
random subsets of few images per class, by stratified 5-fold cross-validation; test/ is never read. The reference is
scikit-learn's LogisticRegression on the same standardised features.
"""

import argparse
import json
import math
import platform
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
from measuring import write_block
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktl import PretrainedImageEncoder
from sktl._head.train_head import train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.recipe import Recipe
from sktl._training.training_run import Run
from sktl.datasets import load_image_folder

FEW_SHOT = {"cat_breeds": (5, 20), "steel_defects": (5, 20), "potato_leaf": (5, 20)}


def logistic_regression(C):
    def predict_proba(X, y, X_test, seed):
        return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=3000)).fit(X, y).predict_proba(X_test)

    return predict_proba


def output_layer(optimizer, lr, weight_decay, epochs=50, steps=20, schedule="cosine", shrinkage=1.0):
    def predict_proba(X, y, X_test, seed):
        batch_size = None if optimizer == "lbfgs" else max(16, math.ceil(len(y) / steps))
        recipe = Recipe(optimizer, lr, weight_decay, epochs, batch_size, schedule, 0.0, 0.0, 0, shrinkage=shrinkage)
        targets = ClassTargets(np.unique(y), y, np.ones(len(y)))
        net = train_head(Split(Labeled(X, targets)), recipe, Run(seed), [X.shape[1]])
        layer = net.module_.output
        return softmax(X_test @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), axis=1)

    return predict_proba


def candidates():
    """Return the candidates by name: one parameter at a time is changed from the default."""
    table = {f"LogisticRegression(C={C:g})": logistic_regression(C) for C in (0.01, 0.1)}
    table["default: sgd, lr 0.03, weight decay 0.03, shrinkage 1"] = output_layer("sgd", 0.03, 0.03)
    for lr in (0.003, 0.01, 0.1):
        table[f"lr {lr:g}"] = output_layer("sgd", lr, 0.03)
    for weight_decay in (0.003, 0.01, 0.1):
        table[f"weight decay {weight_decay:g}"] = output_layer("sgd", 0.03, weight_decay)
    for shrinkage in (0, 0.1, 10):
        table[f"shrinkage {shrinkage:g}"] = output_layer("sgd", 0.03, 0.03, shrinkage=shrinkage)
    table["20 epochs"] = output_layer("sgd", 0.03, 0.03, 20)
    table["constant rate"] = output_layer("sgd", 0.03, 0.03, schedule="constant")
    for weight_decay in (0.01, 0.03):
        table[f"lbfgs, weight decay {weight_decay:g}"] = output_layer("lbfgs", None, weight_decay, 500, 1, None)
    for lr, weight_decay in [(0.001, 0.01), (0.001, 1)]:
        table[f"adamw, lr {lr:g}, weight decay {weight_decay:g}"] = output_layer("adamw", lr, weight_decay)
    return table


def cross_validate(predict_proba, X, y, seeds):
    """Return the mean accuracy in percent, mean log loss and seconds per fit over seeds and folds."""
    accuracies, losses, seconds = [], [], []
    for seed in range(seeds):
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
            started = time.perf_counter()
            proba = predict_proba(X[train], y[train], X[test], seed)
            seconds.append(time.perf_counter() - started)
            accuracies.append(100 * (proba.argmax(axis=1) == y[test]).mean())
            losses.append(log_loss(y[test], proba, labels=np.arange(y.max() + 1)))
    return float(np.mean(accuracies)), float(np.mean(losses)), float(np.median(seconds))


def load(data):
    """Return the features and class codes of each dataset and of its few-shot subsets."""
    sets = {}
    for folder in sorted(path for path in data.iterdir() if (path / "train").is_dir()):
        photos = load_image_folder(folder / "train")
        X = PretrainedImageEncoder(verbose=1).fit_transform(photos.data)
        y = np.unique(photos.target, return_inverse=True)[1]
        sets[folder.name] = X, y
        for shots in FEW_SHOT.get(folder.name, ()):
            rng = np.random.default_rng(shots)
            rows = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:shots] for c in range(y.max() + 1)])
            sets[f"{folder.name}, {shots} per class"] = X[rows], y[rows]
    return sets


def markdown(results, names, seeds):
    """Return the results as a table, accuracy in percent / log loss, and seconds of the largest fit."""
    lines = [
        f"Machine: {platform.machine()}, {platform.system()}; {date.today()}; {seeds} seeds x 5 folds. Each cell is "
        "accuracy in percent / log loss; the last column is the median time of one fit on the largest set.",
        "",
        "| candidate | " + " | ".join(names) + " | s |",
        "|---" * (len(names) + 2) + "|",
    ]
    for candidate, row in results.items():
        cells = [f"{row[name][0]:.1f} / {row[name][1]:.3f}" for name in names]
        lines.append(f"| {candidate} | {' | '.join(cells)} | {max(r[2] for r in row.values()):.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    sets = load(arguments.data)
    results = {}
    for candidate, predict_proba in candidates().items():
        results[candidate] = row = {}
        for name, (X, y) in sets.items():
            row[name] = cross_validate(predict_proba, X, y, arguments.seeds)
        print(candidate, {name: tuple(round(figure, 3) for figure in row[name]) for name in row}, flush=True)
    table = markdown(results, list(sets), arguments.seeds)
    Path("benchmarks/results").mkdir(exist_ok=True)
    Path("benchmarks/results/choose_defaults.json").write_text(json.dumps(results, indent=1))
    print(table)
    if arguments.write:
        write_block("choose_defaults", table, arguments.write, results)


if __name__ == "__main__":
    main()
