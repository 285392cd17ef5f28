"""The default learning rate for numbers beside other rates and L-BFGS, on features and batches of several sizes.

    python benchmarks/learning_rate_of_numbers.py DATA [--seeds 2] [--cache FOLDER] [--write docs/defaults.md]

Numbers are those of labels_and_numbers.py. The output layer is trained on the images of train/ or on 50 of them, with
the penalty that L-BFGS would get, and scored on test/. Rates are multiples of the default rate; the last one is the
default rate for classes.
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from labels_and_numbers import photos, tiles
from measuring import report, write_page
from sklearn.metrics import r2_score

from sktl import PretrainedImageEncoder, PretrainedImageRegressor
from sktl._estimators.auto_parameters import TrainingSet, choose, resolve_recipe
from sktl._head.train_head import output_values, train_head
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.training_run import Run
from sktl.exceptions import TrainingError

FEW = 50
TIMES = (0.25, 1, 2, 4)
WAYS = (
    {"max_epochs": 50}, {"max_epochs": 20}, {"batch_size": 4}, {"batch_size": 128}, {"dropout": 0.5},
    {"loss": "huber", "max_epochs": 50},
)  # fmt: skip
CPU = torch.device("cpu")


def numbers(data, cache):
    """Return features and numbers of train/ and test/ of each task, and the layout of the features."""
    encoder, tasks = PretrainedImageEncoder(feature_stages="all", cache=cache, verbose=1), {}
    for name, parts in {"share of a defect": tiles(data), "number of labels": photos(data)}.items():
        tasks[name] = [
            (encoder.fit_transform(paths), np.asarray(y, float) if np.ndim(y) == 1 else y.sum(axis=1))
            for paths, y in parts
        ]
    return tasks, encoder._fitted_extractor().layout


def scores(train, test, layout, n_stages, way, seed):
    """Return R2 of L-BFGS and of each rate; minus infinity if the loss is not finite."""
    sizes = [size for _, size in layout.groups_of(n_stages)]
    (X, y), (X_test, y_test) = ((np.ascontiguousarray(rows[:, : sum(sizes)]), values) for rows, values in (train, test))
    by_default = PretrainedImageRegressor(feature_stages=n_stages, loss=way.get("loss", "squared_error"))
    targets = by_default._check_targets(y, None, len(y))
    labeled, described = Labeled(X, targets), TrainingSet.of(targets)
    chosen = choose(by_default, labeled, layout, seed, 2)

    def r2(recipe):
        try:
            layer = train_head(Split(labeled), recipe, Run(seed), sizes).module_.output
        except TrainingError:
            return -np.inf
        return r2_score(y_test, targets.outputs.predict(output_values(layer, X_test)))

    recipe = resolve_recipe(PretrainedImageRegressor(**way), 0, described, sum(sizes), CPU, chosen)
    of_classes = 0.03 * min(1, 1280 / sum(sizes))
    rates = [recipe.lr * times for times in TIMES] + [of_classes]
    found = [r2(resolve_recipe(by_default, 0, described, sum(sizes), CPU, chosen))]
    return [recipe.lr, *found, *(r2(replace(recipe, lr=lr)) for lr in rates)]


def cell(value):
    return f"{value:.3f}" if value > -1 else "diverges"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cache", default="auto", help="folder in which features are kept")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    tasks, layout = numbers(arguments.data, arguments.cache)
    record, rows = {}, []
    for (name, (train, test)), few, n_stages, way in product(tasks.items(), (True, False), (1, 2), WAYS):
        runs = []
        for seed in range(arguments.seeds):
            some = np.random.default_rng(seed).permutation(len(train[1]))[: FEW if few else None]
            runs.append(scores((train[0][some], train[1][some]), test, layout, n_stages, way, seed))
        label = ", ".join(f"{key}={value}" for key, value in way.items())
        lr, *means = np.mean(runs, axis=0)
        rows.append((name, len(some), n_stages, label, f"{lr:.2g}", *map(cell, means)))
        record[" / ".join(map(str, rows[-1][:4]))] = np.where(np.isfinite(runs), runs, None).tolist()
        print(*rows[-1], flush=True)
    title = f"R2 on test images, the mean of {arguments.seeds} seeds; each column is a learning rate."
    columns = ("number", "images", "feature_stages", "parameters", "default lr", "L-BFGS")
    columns += ("default / 4", "default", "2 x", "4 x", "default for classes")
    report("learning_rate_of_numbers", title, columns, rows, record)
    if arguments.write:
        write_page("learning_rate_of_numbers", arguments.write)


if __name__ == "__main__":
    main()
