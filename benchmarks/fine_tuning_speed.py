"""The seconds of an epoch of fine-tuning, beside hand-written PyTorch loops and plain skorch.

    python benchmarks/fine_tuning_speed.py DATA [--images 600] [--epochs 2] [--repeats 3]
        [--write docs/defaults.md]

DATA is a dataset with train/<class>/* and test/<class>/*. Every way trains the same EfficientNet-Lite0 on the same
random images of train/ in batches of 16, each in a fresh process, in turn: by hand and with skorch by SGD with Nesterov
momentum, with sktl by its default, whose AdamW costs a little more; the time is the median over repeats of the fastest
epoch, and its accuracy on test/ stands beside it. Prints tables and writes
benchmarks/results/fine_tuning_speed.json.

All layers, with random crops and mirroring:
- "loop": a hand-written loop, channels_last, micro-batches whose gradients are added, all intra-op threads, a
  DataLoader with a worker per core;
- "loop, threads": the fastest by hand that we know, the same with a micro-batch and one intra-op thread per core;
- "skorch": NeuralNetClassifier as in its tutorial on transfer learning, a DataLoader with a worker per core;
- "skorch, channels_last": the same in the faster memory format.
The last stage alone, without augmentation:
- "skorch, frozen": the same layers frozen with `Freezer`; and in the faster memory format.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alternatives
import numpy as np
import torch
from alternatives import Photos
from measuring import machine, note, table, write_page
from torch import nn
from torchvision.transforms import v2

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

BATCH, MICRO = 16, 4
ALL = ("sktl", "loop", "loop, threads", "skorch", "skorch, channels_last")
LAST = ("sktl, last stage", "skorch, frozen", "skorch, frozen, channels_last")
NAMES = {
    "sktl": '`trainable_stages="all"`',
    "loop": "PyTorch by hand, channels_last, micro-batches, all intra-op threads",
    "loop, threads": "PyTorch by hand, the same with a micro-batch per thread",
    "skorch": "skorch, as in its tutorial",
    "skorch, channels_last": "skorch, channels_last",
    "sktl, last stage": "`trainable_stages=1, augmentation=None`",
    "skorch, frozen": "skorch, the same layers frozen",
    "skorch, frozen, channels_last": "skorch, the same layers frozen, channels_last",
}


def network(n_classes):
    """Return the network with a random output layer, in plain timm, and its two transforms."""
    model = alternatives.network().requires_grad_(True)
    end = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    bicubic = v2.InterpolationMode.BICUBIC
    random = v2.Compose([v2.RandomResizedCrop(224, (0.6, 1), interpolation=bicubic), v2.RandomHorizontalFlip(), *end])
    fixed = v2.Compose([v2.Resize(256, interpolation=bicubic), v2.CenterCrop(224), *end])
    return nn.Sequential(model, nn.Linear(alternatives.N_FEATURES, n_classes)), random, fixed


def loader(photos, shuffle=True):
    return torch.utils.data.DataLoader(photos, BATCH, shuffle=shuffle, num_workers=os.cpu_count())


def in_eval_mode(module):
    """Set BatchNorm to keep its statistics, as sktl does."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    return module


def sgd(model):
    """Return the optimizer with the rates of sktl's default: BatchNorm that keeps its statistics wants small ones."""
    network, layer = model
    groups = [{"params": network.parameters(), "lr": 0.001}, {"params": layer.parameters(), "lr": 0.03}]
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True)


def score(model, photos):
    with torch.inference_mode():
        model.eval()
        found = [model(images.to(memory_format=torch.channels_last)).argmax(1) for images, _ in loader(photos, False)]
    return float((torch.cat(found).numpy() == photos.codes).mean())


def run_loop(train, test, epochs):
    model, random, fixed = network(len(np.unique(train[1])))
    model = model.to(memory_format=torch.channels_last)
    optimizer, seconds = sgd(model), []
    for _ in range(epochs):
        started = time.perf_counter()
        in_eval_mode(model.train())
        for images, codes in loader(Photos(*train, random)):
            for part, of_part in zip(images.split(MICRO), codes.split(MICRO), strict=True):
                logits = model(part.contiguous(memory_format=torch.channels_last))
                (nn.functional.cross_entropy(logits, of_part, reduction="sum") / len(images)).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return seconds, score(model, Photos(*test, fixed))


def run_loop_in_threads(train, test, epochs):
    model, random, fixed = network(len(np.unique(train[1])))
    model = model.to(memory_format=torch.channels_last)
    optimizer, seconds = sgd(model), []
    parameters = list(model.parameters())
    paths, codes = train
    torch.set_num_threads(1)

    def gradients(rows, n):
        images = torch.stack([random(alternatives.load(paths[i])) for i in rows])
        logits = model(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(codes[rows]), reduction="sum") / n
        return torch.autograd.grad(loss, parameters)

    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in range(epochs):
            started = time.perf_counter()
            in_eval_mode(model.train())
            order = np.random.default_rng(0).permutation(len(codes))
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                parts = [batch[i : i + MICRO] for i in range(0, len(batch), MICRO)]
                found = list(pool.map(gradients, parts, [len(batch)] * len(parts)))
                for parameter, *of_parts in zip(parameters, *found, strict=True):
                    parameter.grad = sum(of_parts)
                optimizer.step()
            seconds.append(time.perf_counter() - started)
    torch.set_num_threads(os.cpu_count())
    return seconds, score(model, Photos(*test, fixed))


class ChannelsLast(nn.Module):
    """A module whose input arrives in the faster memory format."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):  # noqa: D102
        return self.inner(images.contiguous(memory_format=torch.channels_last))


def run_skorch(train, test, epochs, channels_last=False, frozen=False):
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Freezer

    model, random, fixed = network(len(np.unique(train[1])))
    backbone, layer = model
    last = {
        id(p) for part in (*backbone.blocks[5:], backbone.conv_head, backbone.bn2, layer) for p in part.parameters()
    }
    if channels_last:
        model = ChannelsLast(model.to(memory_format=torch.channels_last))
    trained = {name for name, parameter in model.named_parameters() if id(parameter) in last}
    net = NeuralNetClassifier(
        model,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.01,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        batch_size=BATCH,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        iterator_train__num_workers=os.cpu_count(),
        train_split=None,
        callbacks=[Freezer(lambda name: name not in trained)] if frozen else [],
        verbose=0,
    )
    net.fit(Photos(*train, fixed if frozen else random), None)
    return net.history[:, "dur"], score(net.module_, Photos(*test, fixed))


def run_library(train, test, epochs, **params):
    clf = PretrainedImageClassifier(batch_size=BATCH, max_epochs=epochs, random_state=0, **params).fit(*train)
    seconds = [row["dur"] for row in clf.history_ if row["phase"] == "stages"]
    return seconds, float(clf.score(*test))


RUNS = {
    "sktl": lambda *a: run_library(*a, trainable_stages="all", augmentation="light"),
    "loop": run_loop,
    "loop, threads": run_loop_in_threads,
    "skorch": run_skorch,
    "skorch, channels_last": lambda *a: run_skorch(*a, channels_last=True),
    "sktl, last stage": lambda *a: run_library(*a, trainable_stages=1, augmentation=None),
    "skorch, frozen": lambda *a: run_skorch(*a, frozen=True),
    "skorch, frozen, channels_last": lambda *a: run_skorch(*a, channels_last=True, frozen=True),
}


def measure(way, arguments):
    """Run one way in this process and print its result."""
    train, test = (load_image_folder(arguments.data / part) for part in ("train", "test"))
    classes, codes = np.unique(train.target, return_inverse=True)
    rows = np.random.default_rng(0).permutation(len(codes))[: arguments.images]
    parts = ([train.data[i] for i in rows], codes[rows]), (list(test.data), np.searchsorted(classes, test.target))
    started = time.perf_counter()
    seconds, accuracy = RUNS[way](*parts, arguments.epochs)
    print(json.dumps({"epochs": list(seconds), "accuracy": accuracy, "total": time.perf_counter() - started}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--write", help="page whose tables are replaced")
    parser.add_argument("--measure", choices=RUNS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments)
        return
    results = {way: [] for way in arguments.ways}
    for _ in range(arguments.repeats):
        for way in arguments.ways:
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", way]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results[way].append(json.loads(output.splitlines()[-1]))
            print(way, results[way][-1], flush=True)
    seconds = {way: statistics.median(min(row["epochs"]) for row in rows) for way, rows in results.items()}
    tables = []
    for title, ways in (("all layers, random crops", ALL), ("last stage, no augmentation", LAST)):
        rows = []
        for way in (way for way in ways if way in results):
            accuracy = 100 * statistics.mean(row["accuracy"] for row in results[way])
            ratio = seconds[way] / seconds[ways[0]] if ways[0] in seconds else float("nan")
            rows.append((NAMES[way], f"{seconds[way]:.2f}", f"{ratio:.2f}", f"{accuracy:.1f}"))
        tables += ["", *table((title, "s per epoch", "ratio", "accuracy"), rows)]
    title = f"An epoch of {arguments.images} photos, and the accuracy after {arguments.epochs}."
    note("fine_tuning_speed", [title, f"Machine: {machine()}.", *tables], results)
    if arguments.write:
        write_page("fine_tuning_speed", arguments.write)


if __name__ == "__main__":
    main()
