"""The milliseconds of an iteration of training the output layer, beside its matrix products, and whole trainings.

    python benchmarks/head_training.py [--sizes 200,1280,12 1600,1280,12 1600,3000,100] [--repeats 5]
        [--write docs/benchmarks.md]

Random features, on one thread, in turn; medians over repeats. Each size is images, features, classes. The features are
first standardized and rotated, once for all candidates of a search on the same images; the time of an iteration is what
remains, divided by the iterations. Times are processor time, which other programs on the machine disturb least. Prints
a table and writes benchmarks/results/head_training.json.

- "sktl": `train_head` by the default recipe with a penalty of 0.01: L-BFGS until nothing is left to gain;
- "products": the two matrix products of each iteration alone, in the same precision, on the same features;
- "LogisticRegression": scikit-learn's on standardised features, with the same penalty and its default tolerance;
- "skorch": NeuralNetClassifier with nn.Linear on the same features, 50 epochs of at most 20 steps, with its DataLoader:
  no standardisation, no schedule.
"""

import argparse
import statistics
import time
from contextlib import contextmanager

import numpy as np
import skorch
import torch
from measuring import report, write_page
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktl import PretrainedImageClassifier
from sktl._estimators.auto_parameters import Chosen, TrainingSet, resolve_recipe
from sktl._head import lbfgs_rotation as _rotation
from sktl._head import train_head as _training
from sktl._head.train_head import train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.net_callbacks import count_epochs
from sktl._training.training_run import Run

PENALTY = 0.01


def make_problem(n, n_features, n_classes):
    """Return features as networks give them, not negative and of classes that overlap, and class codes."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(n) % n_classes)
    centres = rng.normal(scale=0.1, size=(n_classes, n_features))
    return np.maximum(rng.normal(size=(n, n_features)) + centres[codes], 0).astype(np.float32), codes


def library(features, codes):
    """Train by this library, with nothing kept of a training before; return the iterations, and the seconds of all."""
    _rotation.memo.clear()
    started = time.thread_time()
    classes = np.arange(codes.max() + 1)
    training, n_features = TrainingSet(len(codes)), features.shape[1]
    recipe = resolve_recipe(
        PretrainedImageClassifier(), 0, training, n_features, torch.device("cpu"), Chosen(1, PENALTY, {})
    )
    split = Split(Labeled(features, ClassTargets(classes, codes, np.ones(len(codes)))))
    with preparation() as prepared:
        net = train_head(split, recipe, Run(0), [n_features])
    return count_epochs(net.history), prepared[0], time.thread_time() - started


@contextmanager
def preparation():
    """Note the seconds in which features are standardized and rotated."""
    original, seconds = _training._prepare, []

    def prepare(*args):
        started = time.thread_time()
        try:
            return original(*args)
        finally:
            seconds.append(time.thread_time() - started)

    _training._prepare = prepare
    try:
        yield seconds
    finally:
        _training._prepare = original


def products(features, codes):
    """Compute logits, and gradients of the weights, ten times; return how often."""
    precise = features.size <= _training._MOST_IN_FLOAT64
    inputs = torch.from_numpy(features).to(torch.float64 if precise else torch.float32)
    weight = torch.randn(codes.max() + 1, features.shape[1], dtype=inputs.dtype)
    started = time.thread_time()
    for _ in range(10):
        logits = inputs @ weight.T
        logits.T @ inputs
    return 10, time.thread_time() - started


def logistic_regression(features, codes):
    model = LogisticRegression(C=1 / (len(codes) * PENALTY), max_iter=1000)
    model.fit(StandardScaler().fit_transform(features), codes)


def plain_skorch(features, codes):
    """Train by skorch as its users write it."""
    skorch.NeuralNetClassifier(
        nn.Linear,
        module__in_features=features.shape[1],
        module__out_features=int(codes.max()) + 1,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        optimizer__weight_decay=PENALTY,
        lr=0.03,
        max_epochs=50,
        batch_size=max(16, -(-len(codes) // 20)),
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(features, codes)


def measure(size, repeats):
    """Return the iterations of the library, and the seconds of each repeat for each way; of products, of one."""
    features, codes = make_problem(*size)
    library(features, codes)  # the first run of a process takes longer
    seconds = {"sktl": [], "preparation": [], "products": [], "LogisticRegression": [], "skorch": []}
    for _ in range(repeats):
        n_iter, prepared, took = library(features, codes)
        seconds["sktl"].append(took)
        seconds["preparation"].append(prepared)
        times, took = products(features, codes)
        seconds["products"].append(took / times)
        for name, run in {"LogisticRegression": logistic_regression, "skorch": plain_skorch}.items():
            started = time.thread_time()
            run(features, codes)
            seconds[name].append(time.thread_time() - started)
    return n_iter, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["200,1280,12", "1600,1280,12", "1600,3000,100"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record, rows = [], []
    for text in arguments.sizes:
        size = tuple(map(int, text.split(",")))
        n_iter, seconds = measure(size, arguments.repeats)
        record.append({"size": size, "iterations": n_iter, "seconds": seconds})
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        step, bare = 1000 * (medians["sktl"] - medians["preparation"]) / n_iter, 1000 * medians["products"]
        rest = (f"{medians[way]:.2f}" for way in ("LogisticRegression", "skorch"))
        rows.append(
            (
                *size,
                n_iter,
                f"{medians['sktl']:.2f}",
                f"{medians['preparation']:.2f}",
                f"{step:.2f}",
                f"{bare:.2f}",
                f"{step / bare:.2f}",
                *rest,
            )
        )
    title = f"Training of an output layer, one thread, torch {torch.__version__}, skorch {skorch.__version__}."
    header = (
        "images", "features", "classes", "iterations", "s of a training", "s of its preparation", "ms of an iteration",
        "ms of its matrix products", "ratio", "s of LogisticRegression", "s of skorch, 50 epochs",
    )  # fmt: skip
    report("head_training", title, header, rows, record)
    if arguments.write:
        write_page("head_training", arguments.write)


if __name__ == "__main__":
    main()
