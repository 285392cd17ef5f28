"""The milliseconds of a step of training the output layer, beside the bare arithmetic and plain skorch.

    python benchmarks/head_training.py [--images 200 1280 16000] [--features 1280] [--classes 12] [--repeats 7]
        [--write docs/benchmarks.md]

Random features, batches of a twentieth of the images (at least 16), stochastic gradient descent with Nesterov momentum,
all on one thread, in turn; medians over repeats. The time of a step is that of a whole training divided by its steps,
preparation included; processor time, which other programs on the machine disturb least. Prints a table and writes
benchmarks/results/head_training.json.

- "sktl": `train_head` by the default recipe, 50 epochs in float64, standardised, with the cosine schedule;
- "products": the two matrix products of each step alone, on one batch of standardised features;
- "loop": a hand-written loop of autograd, torch's fused optimizer and shuffled batches, in float64, on features that
  were standardised before;
- "skorch": NeuralNetClassifier with nn.Linear on the same features in its default float32, with its DataLoader: no
  standardisation, no schedule.
"""

import argparse
import statistics
import time

import numpy as np
import skorch
import torch
from measuring import report, write_page
from torch import nn

from sktl import PretrainedImageClassifier
from sktl._labels import Targets
from sktl._recipes import resolve_recipe
from sktl._training import train_head


def make_problem(n, n_features, n_classes):
    """Return features as networks give them, not negative and of classes that overlap, and class codes."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.arange(n) % n_classes)
    centres = rng.normal(scale=0.3, size=(n_classes, n_features))
    return np.maximum(rng.normal(size=(n, n_features)) + centres[codes], 0).astype(np.float32), codes


def library(features, codes, recipe):
    """Return a training by this library."""
    classes = np.arange(codes.max() + 1)
    targets = Targets(classes, codes, np.ones(len(codes)))
    return lambda: train_head(features, targets, recipe, seed=0)


def products(features, codes, recipe):
    """Return the matrix products of a training: logits, and gradients of the weights."""
    batch = torch.from_numpy(features[: recipe.batch_size]).double()
    weight = torch.randn(codes.max() + 1, features.shape[1], dtype=torch.float64)
    n_steps = recipe.max_epochs * -(-len(features) // recipe.batch_size)

    def run():
        for _ in range(n_steps):
            logits = batch @ weight.T
            logits.T @ batch

    return run


def loop(features, codes, recipe):
    """Return a hand-written training."""
    inputs, codes = torch.from_numpy(features).double(), torch.from_numpy(codes)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)

    def run():
        layer = nn.Linear(inputs.shape[1], int(codes.max()) + 1, dtype=torch.float64)
        optimizer = torch.optim.SGD(layer.parameters(), recipe.lr, momentum=0.9, nesterov=True, fused=True)
        for _ in range(recipe.max_epochs):
            for rows in torch.randperm(len(inputs)).split(recipe.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(layer(inputs[rows]), codes[rows]).backward()
                optimizer.step()

    return run


def plain_skorch(features, codes, recipe):
    """Return a training by skorch as its users write it."""
    net = skorch.NeuralNetClassifier(
        nn.Linear,
        module__in_features=features.shape[1],
        module__out_features=int(codes.max()) + 1,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        optimizer__weight_decay=recipe.weight_decay,
        lr=recipe.lr,
        max_epochs=recipe.max_epochs,
        batch_size=recipe.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return lambda: net.fit(features, codes)


WAYS = {"sktl": library, "products": products, "loop": loop, "skorch": plain_skorch}
NAMES = {"sktl": "sktl", "products": "its matrix products alone", "loop": "PyTorch by hand", "skorch": "skorch"}


def measure(n, n_features, n_classes, repeats):
    """Return the seconds of processor time of each way's trainings, and the steps of one."""
    features, codes = make_problem(n, n_features, n_classes)
    recipe = resolve_recipe(PretrainedImageClassifier(), 0, n, n_features, torch.device("cpu"))
    runs = {way: make(features, codes, recipe) for way, make in WAYS.items()}
    seconds = {way: [] for way in runs}
    for _ in range(repeats):
        for way, run in runs.items():
            started = time.thread_time()
            run()
            seconds[way].append(time.thread_time() - started)
    return seconds, recipe.max_epochs * -(-n // recipe.batch_size)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[200, 1280, 16000])
    parser.add_argument("--features", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record, rows = [], []
    for n in arguments.images:
        seconds, n_steps = measure(n, arguments.features, arguments.classes, arguments.repeats)
        record.append({"images": n, "steps": n_steps, "seconds": seconds})
        medians = {way: statistics.median(values) for way, values in seconds.items()}
        steps = (f"{1000 * value / n_steps:.3f}" for value in medians.values())
        rows.append((n, n_steps, f"{medians['sktl']:.2f}", *steps))
    title = (
        f"Training of an output layer of {arguments.classes} classes on {arguments.features} features, one thread, "
        f"torch {torch.__version__}, skorch {skorch.__version__}."
    )
    header = ("images", "steps", "s of a training", *(f"{way}, ms of a step" for way in NAMES.values()))
    report("head_training", title, header, rows, record)
    if arguments.write:
        write_page("head_training", arguments.write)


if __name__ == "__main__":
    main()
