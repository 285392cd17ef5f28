"""Early stopping of the output layer beside all of its epochs, by cross-validation inside train/ of several datasets.

    python benchmarks/early_stopping.py DATA [--seeds 3] [--sets NAME ...] [--cache FOLDER] [--write docs/defaults.md]

DATA holds one folder per dataset, each with train/<class>/*; test/ is never read. The output layer is trained on the
whole of train/ and on a random subset of 20 images per class: for all epochs on all images, which is the default; the
same on the images that early stopping leaves; with early stopping; and, which sktl does not do, again on all images for
the epochs that were found so, the learning rates those of the epochs before or falling to 0 in them.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import report, write_page
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import Callback

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._estimators.auto_parameters import TrainingSet, resolve_recipe
from sktl._head.train_head import output_values, train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split, hold_out
from sktl._training.training_run import Run
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "magnetic_tile", "potato_leaf", "sign_digits", "steel_defects")
SHOTS = 20  # with half of them there would be classes of which a tenth is no image


class RestoreAt(Callback):
    """Return the weights of one epoch of a training."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):  # noqa: D102
        if len(net.history) == self.epoch:
            self.weights = {name: tensor.clone() for name, tensor in net.module_.state_dict().items()}

    def on_train_end(self, net, **kwargs):  # noqa: D102
        net.module_.load_state_dict(self.weights)


def ways(X, targets, seed):
    """Yield name and output layer of each way to train."""

    def train(rows=slice(None), epoch=None, validation=None, **changes):
        clf = PretrainedImageClassifier(early_stopping=validation is not None)
        recipe = resolve_recipe(clf, 0, TrainingSet(len(X[rows])), X.shape[1], torch.device("cpu"))
        params = None if epoch is None else {"callbacks": [("restore", RestoreAt(epoch))]}
        split = Split(Labeled(X[rows], targets.take(rows)), validation)
        return train_head(split, replace(recipe, **changes), Run(seed, params), [X.shape[1]])

    rows, held_out = hold_out(targets, 0.1, seed)
    stopped = train(rows, validation=Labeled(X[held_out], targets.take(held_out)))
    best = max(1, [row["epoch"] for row in stopped.history if row["valid_loss_best"]][-1])
    yield "all epochs (default)", train()
    yield "all epochs, without the tenth held out", train(rows)
    yield "early stopping", stopped
    yield "early stopping, then again on all images", train(epoch=best)
    yield "the same, with a schedule of its own", train(max_epochs=best)


def compare(X, y, seeds):
    """Return accuracy in percent and log loss of each way, over seeds and folds."""
    found = {}
    for seed in range(seeds):
        for rows, others in StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y):
            targets = ClassTargets(np.unique(y), y[rows], np.ones(len(rows)))
            for way, net in ways(X[rows], targets, seed):
                proba = softmax(output_values(net.module_.output, X[others]), axis=1)
                right = 100 * (proba.argmax(axis=1) == y[others]).mean()
                found.setdefault(way, []).append((right, log_loss(y[others], proba, labels=np.unique(y))))
    return found


def load(data, names, cache):
    """Return the features and class codes of each dataset and of a subset of few images per class."""
    sets = {}
    for name in names:
        photos = load_image_folder(data / name / "train")
        X = PretrainedImageEncoder(cache=cache, verbose=1).fit_transform(photos.data)
        y = np.unique(photos.target, return_inverse=True)[1]
        sets[name] = X, y
        rng = np.random.default_rng(SHOTS)
        rows = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:SHOTS] for c in range(y.max() + 1)])
        sets[f"{name}, {SHOTS} per class"] = X[rows], y[rows]
    return sets


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="NAME")
    parser.add_argument("--cache", default="auto", help="folder in which features are kept")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    record = {}
    for name, (X, y) in load(arguments.data, arguments.sets, arguments.cache).items():
        record[name] = compare(X, y, arguments.seeds)
        print(name, {way: np.mean(found, axis=0).round(3).tolist() for way, found in record[name].items()}, flush=True)
    names = list(next(iter(record.values())))
    rows = []
    for name, found in record.items():
        rows.append((name, *("{:.1f} / {:.3f}".format(*np.mean(found[way], axis=0)) for way in names)))
    means = np.array([[np.mean(found[way], axis=0) for way in names] for found in record.values()]).mean(axis=0)
    rows.append(("mean", *("{:.1f} / {:.3f}".format(*mean) for mean in means)))
    title = f"Accuracy in percent / log loss; {arguments.seeds} seeds x 5 folds."
    report("early_stopping", title, ("data", *names), rows, record)
    if arguments.write:
        write_page("early_stopping", arguments.write)


if __name__ == "__main__":
    main()
