"""Choose the defaults of fine-tuning inside train/ of several datasets, from all images and from few per class.

    python benchmarks/choose_fine_tuning.py DATA [--seeds 2] [--sets NAME ...] [--candidates NAME ...] [--device cpu]
        [--write PAGE]
    python benchmarks/choose_fine_tuning.py DATA --candidates grid --sets "cat_breeds, 20 per class" ...

DATA holds one folder per dataset, each with train/<class>/*; test/ is never read. "half" trains on a random half of
train/, "n per class" on n images of each class; what is measured are the other half, or 300 other images of train/.
"grid" stands for the same learning rates with 0, 1 and all stages. Results are added to
benchmarks/results/choose_fine_tuning.json, so that a run goes on where another stopped.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from measuring import write_block
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier
from sktl._backbones.backbone import tensors_digest
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._estimators.auto_parameters import TrainingSet, augmentations, resolve_recipe
from sktl._features.extractor import FeatureExtractor
from sktl._fine_tuning.train_stages import train_stages
from sktl._head.train_head import train_head
from sktl._images.samples import as_samples
from sktl._storage.cache import NO_CACHE
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.training_run import Run
from sktl.datasets import load_image_folder

RESULTS = Path("benchmarks/results/choose_fine_tuning.json")
SHARES = (0.5, 0.75, 1.0)
SETS = [
    f"{name}, {size}"
    for name, sizes in {
        "cat_breeds": ("half", "5 per class", "10 per class", "20 per class", "50 per class"),
        "steel_defects": ("5 per class", "10 per class", "20 per class", "50 per class"),
        "potato_leaf": ("5 per class", "10 per class", "20 per class", "50 per class"),
        "magnetic_tile": ("half", "20 per class"),
        "sign_digits": ("half", "20 per class"),
    }.items()
    for size in sizes
]
# Parameters of the classifier beside trainable_stages="all"; all else is the default.
BEFORE = {"max_epochs": 8, "augmentation": "light"}  # the default until a second table led to today's
CHANGES = {
    "8 epochs, augmentation light": {},
    "backbone_lr_ratio 1/60": {"backbone_lr_ratio": 1 / 60},
    "augmentation strong": {"augmentation": "strong"},
    "4 epochs": {"max_epochs": 4},
    "6 epochs": {"max_epochs": 6},
    "12 epochs": {"max_epochs": 12},
    "12 epochs, augmentation strong": {"max_epochs": 12, "augmentation": "strong"},
    "lr 0.1, backbone_lr_ratio 1/200": {"lr": 0.1, "backbone_lr_ratio": 1 / 200},
    "6 epochs, backbone_lr_ratio 1/120": {"max_epochs": 6, "backbone_lr_ratio": 1 / 120},
    "6 epochs, label_smoothing 0.1": {"max_epochs": 6, "label_smoothing": 0.1},
    "6 epochs, layer_decay 0.7": {"max_epochs": 6, "layer_decay": 0.7},
    "sgd": {"max_epochs": 12, "optimizer": "sgd"},
    "sgd, 6 epochs": {"max_epochs": 6, "optimizer": "sgd"},
    "sgd, 6 epochs, label_smoothing 0.1": {"max_epochs": 6, "optimizer": "sgd", "label_smoothing": 0.1},
    "sgd, 6 epochs, label_smoothing 0.1, backbone_lr_ratio 0.1": {
        "max_epochs": 6, "optimizer": "sgd", "label_smoothing": 0.1, "backbone_lr_ratio": 0.1,
    },
    "adamw, 6 epochs": {"max_epochs": 6, "optimizer": "adamw"},
    "adamw, 6 epochs, backbone_lr_ratio 0.2": {"max_epochs": 6, "optimizer": "adamw", "backbone_lr_ratio": 0.2},
    "adamw, 6 epochs, backbone_lr_ratio 1": {"max_epochs": 6, "optimizer": "adamw", "backbone_lr_ratio": 1.0},
    "adamw, 6 epochs, lr 0.003, backbone_lr_ratio 1/6": {
        "max_epochs": 6, "optimizer": "adamw", "lr": 0.003, "backbone_lr_ratio": 1 / 6,
    },
    "adamw, 6 epochs, label_smoothing 0.1": {"max_epochs": 6, "optimizer": "adamw", "label_smoothing": 0.1},
    "adamw, 6 epochs, label_smoothing 0.1, mixup_alpha 0.2, backbone_lr_ratio 0.2": {
        "max_epochs": 6, "optimizer": "adamw", "label_smoothing": 0.1, "mixup_alpha": 0.2, "backbone_lr_ratio": 0.2,
    },
}  # fmt: skip
AUGMENTATIONS = {"default, trivial": {"augmentation": "trivial"}, "default, no augmentation": {"augmentation": None}}
CANDIDATES = {"default": {}} | AUGMENTATIONS | {name: BEFORE | changes for name, changes in CHANGES.items()}
GRID = {
    f"trainable_stages {stages}, lr {lr:g}": {"trainable_stages": stages, "lr": lr}
    for stages in (0, 1, "all")
    for lr in (0.003, 0.01, 0.03, 0.1)
}


def split(y, size, seed):
    """Return the rows that are trained on, and those that are measured."""
    rows = np.arange(len(y))
    if size == "half":
        train, others = train_test_split(rows, train_size=0.5, stratify=y, random_state=seed)
    else:
        rng, n = np.random.default_rng(seed), int(size.split()[0])
        train = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:n] for c in range(y.max() + 1)])
        others = np.setdiff1d(rows, train)
    if size != "half" and len(others) > 300:
        others = train_test_split(others, train_size=300, stratify=y[others], random_state=seed)[0]
    return train, others


class Trial:
    """One split of one dataset: how a candidate does on it."""

    def __init__(self, samples, y, size, seed, device="cpu"):
        train, others = split(y, size, seed)
        self.seed, self.y_others = seed, y[others]
        self.others = [samples[i] for i in others]
        targets = ClassTargets(np.unique(y), y[train], np.ones(len(train)))
        self.training = Labeled([samples[i] for i in train], targets)
        self.extractor = FeatureExtractor(
            resolve_backbone("efficientnet_lite0", "default", None, 0), torch.device(device)
        )

    def recipe(self, **parameters):
        """Return the recipe of a classifier with these parameters."""
        clf = PretrainedImageClassifier(**parameters)
        n_trainable = self.extractor.backbone.count_trainable(clf.trainable_stages)
        change = augmentations(clf)[0] if n_trainable else None  # without a trial
        return resolve_recipe(
            clf,
            n_trainable,
            TrainingSet.of(self.training.targets),
            self.extractor.n_features,
            self.extractor.device,
            augmentation=change,
        )

    def score(self, network, layer):
        """Return accuracy in percent and log loss."""
        extractor = self.extractor
        if network is not None:
            backbone = extractor.backbone.with_network(network, tensors_digest(network))
            extractor = replace(extractor, backbone=backbone, cache=NO_CACHE)
        logits = extractor(self.others) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        right = 100 * (logits.argmax(axis=1) == self.y_others).mean()
        return float(right), float(log_loss(self.y_others, softmax(logits, axis=1)))

    def probe(self, **parameters):
        """Return the output layer trained alone."""
        features, recipe = self.extractor(self.training.samples), self.recipe(**{"trainable_stages": 0} | parameters)
        return train_head(self.labeled(features), recipe, Run(self.seed), [features.shape[1]]).module_.output

    def labeled(self, features):
        """Return features with what is to be learned of the images."""
        return Split(Labeled(features, self.training.targets))

    def start(self, probing):
        """Return the output layer with which the stages start."""
        features = self.extractor(self.training.samples)
        return train_head(self.labeled(features), probing, Run(self.seed), [features.shape[1]]).module_.output

    def fine_tune(self, parameters):
        """Return the scores of each share of the trained weights, and the seconds."""
        recipe = replace(self.recipe(**{"trainable_stages": "all"} | parameters), interpolation=1.0)
        split, run = Split(self.training), Run(self.seed)
        started = time.perf_counter()
        net = train_stages(self.extractor, split, recipe, run, run, lambda features, recipe: (recipe, {})).net
        seconds = time.perf_counter() - started
        network, layer = net.module_.cut.network, net.module_.output
        trained = [p.detach().clone() for p in [*network.parameters(), *layer.parameters()]]
        layer_alone = self.start(recipe.probing)
        before = [*self.extractor.backbone.build().parameters(), *layer_alone.parameters()]
        scores = {}
        for share in SHARES:
            with torch.no_grad():
                for p, start, end in zip([*network.parameters(), *layer.parameters()], before, trained, strict=True):
                    p.copy_(torch.lerp(start.to(p.dtype), end, share))
            scores[f"{share:g}"] = self.score(network, layer)
        return scores | {"seconds": seconds}


def run(data, sets, candidates, seeds, device):
    """Measure what is not in the results yet."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sets:
        folder, size = name.split(", ")
        photos = load_image_folder(data / folder / "train")
        y = np.unique(photos.target, return_inverse=True)[1]
        for seed in range(seeds):
            trial = Trial(as_samples(photos.data, None), y, size, seed, device)
            for candidate in ["output layer alone", *candidates]:
                key = f"{name} | {candidate} | {seed}"
                if key in results:
                    continue
                parameters = (CANDIDATES | GRID).get(candidate, {"trainable_stages": 0})
                if parameters.get("trainable_stages") == 0:
                    results[key] = {"0": trial.score(None, trial.probe(**parameters))}
                else:
                    results[key] = trial.fine_tune(parameters)
                print(key, results[key], flush=True)
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1))
    return results


def cell(results, name, candidate, share):
    """Return mean accuracy / log loss over the seeds that were measured."""
    rows = [row for key, row in results.items() if key.startswith(f"{name} | {candidate} | ") and share in row]
    if not rows:
        return "", 0
    accuracy, loss = np.mean([row[share] for row in rows], axis=0)
    return f"{accuracy:.1f} / {loss:.3f}", len(rows)


def markdown(results):
    """Return the results as a table."""
    names = [name for name in SETS if any(key.startswith(f"{name} | ") for key in results)]
    lines = [
        f"Machine: {platform.machine()}, {platform.system()}; {date.today()}. Each cell is accuracy in percent / log "
        "loss, the mean of as many seeds as stand in brackets. The share is that of the trained weights in the result.",
        "",
        "| candidate | share | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    present = {key.split(" | ")[1] for key in results}
    for candidate in ["output layer alone", *CANDIDATES]:
        for share in ("0",) if candidate not in CANDIDATES else [f"{share:g}" for share in SHARES]:
            cells = [cell(results, name, candidate, share) for name in names]
            if candidate in present and any(n for _, n in cells):
                shown = " | ".join(f"{text} ({n})" if n else "" for text, n in cells)
                lines.append(f"| {candidate} | {share} | {shown} |")
    return "\n".join(lines)


def grid_markdown(results):
    """Return the grid as a table."""
    rates = sorted({parameters["lr"] for parameters in GRID.values()})
    names = [name for name in SETS if any(key.startswith(f"{name} | {next(iter(GRID))} | ") for key in results)]
    lines = ["| data | trainable_stages | " + " | ".join(f"lr {lr:g}" for lr in rates) + " |", "|---" * 6 + "|"]
    for name in names:
        for stages in (0, 1, "all"):
            share = "0" if stages == 0 else "0.5"
            cells = [cell(results, name, f"trainable_stages {stages}, lr {lr:g}", share) for lr in rates]
            lines.append(f"| {name} | {stages} | " + " | ".join(f"{text} ({n})" for text, n in cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="NAME")
    parser.add_argument("--candidates", nargs="*", default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    arguments = parser.parse_args()
    candidates = list(GRID) if arguments.candidates == ["grid"] else arguments.candidates
    results = run(arguments.data, arguments.sets, candidates, arguments.seeds, arguments.device)
    name, table = "choose_fine_tuning", markdown(results)
    if arguments.candidates == ["grid"]:
        name, table = "learning_rates", grid_markdown(results)
    print(table)
    if arguments.write:
        write_block(name, table, arguments.write, results)


if __name__ == "__main__":
    main()
