"""Options of the command line: their types, and those that mirror parameters of the classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

# The parameters of the classifier, with or without an option. Asking the class would import PyTorch for a typing error.
DEFAULTS: dict[str, Any] = {
    "backbone": "efficientnet_lite0", "weights": "default", "image_size": None, "image_shape": None,
    "feature_stages": "auto", "weight_decay": "auto", "optimizer": "auto", "lr": "auto", "lr_schedule": "auto",
    "max_epochs": "auto", "batch_size": "auto", "label_smoothing": 0.0, "dropout": 0.0, "class_weight": None,
    "early_stopping": False, "validation_fraction": 0.1, "n_iter_no_change": "auto", "trainable_stages": 0,
    "freeze_epochs": "auto", "backbone_lr_ratio": "auto", "layer_decay": "auto", "augmentation": "auto",
    "augmentation_views": None, "mixup_alpha": 0.0, "amp": "auto", "compile": False, "invalid_images": "raise",
    "device": "auto", "engine": "auto", "cache": "auto", "checkpoint": None, "n_jobs": None, "random_state": None,
    "verbose": 0, "net_params": None,
}  # fmt: skip


class OrWord(click.ParamType):
    """A value of a type, or one of some words that stand for other values."""

    def __init__(self, kind: click.ParamType, words: dict[str, Any]):
        self.kind, self.words = kind, words
        self.name = "|".join([*(getattr(kind, "choices", None) or [kind.name.upper()]), *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.words:
            return self.words[value]
        return value if value in self.words.values() else self.kind.convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{self.name}]"


class Threads(click.types.IntParamType):
    """A number of threads, or below zero of cores, counted from all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        n_threads = super().convert(value, param, ctx)
        return n_threads if n_threads else self.fail("0 threads do nothing; -1 is all cores.", param, ctx)


class Folder(click.ParamType):
    """The path of a folder; an empty one, as of a variable that is not set, would be the current folder."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value or self.fail("it is empty. Name a folder, or . for the current one.", param, ctx)


_AUTO = {"auto": "auto"}
NONE = {"none": None}
_Command = Callable[..., Any]


def parameter(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    """Return the option that mirrors a parameter of the classifier, with its default."""
    default = DEFAULTS[name]
    shown = default is not None or "none"
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=shown, help=text)


def _together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


machine = _together(
    parameter("device", str, "Where the network runs: auto, cpu, cuda, cuda:1, mps, xpu."),
    parameter("cache", OrWord(click.STRING, {"auto": "auto", "none": False}), "Folder in which features are kept."),
    parameter("n_jobs", OrWord(Threads(), NONE), "Threads; -1 is all cores."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
)
training = _together(
    parameter("backbone", str, "Pretrained network; `sktl backbones` lists them."),
    parameter("weights", OrWord(click.STRING, NONE), "Name or file of its weights; none: random weights."),
    parameter("image_size", OrWord(click.INT, NONE), "Height and width of what the network sees, in pixels."),
    parameter("trainable_stages", OrWord(click.INT, {"all": "all"}), "How many last stages are trained, too."),
    parameter("max_epochs", OrWord(click.INT, _AUTO), "Passes over the images."),
    parameter("lr", OrWord(click.FLOAT, _AUTO), "Learning rate of the output layer."),
    parameter("weight_decay", OrWord(click.FLOAT, _AUTO), "Pull of the weights towards their start."),
    parameter(
        "feature_stages", OrWord(click.INT, _AUTO | {"all": "all"}), "How many last stages the output layer sees."
    ),
    parameter("optimizer", click.Choice(["auto", "sgd", "adamw", "lbfgs"]), "Optimizer."),
    parameter(
        "augmentation",
        OrWord(click.Choice(["light", "strong", "trivial"]), _AUTO | NONE),
        "How images are changed at random while stages are trained.",
    ),
    parameter("class_weight", OrWord(click.Choice(["balanced"]), NONE), "Weights of the classes."),
    click.option("--early-stopping", is_flag=True, help="Hold out a tenth of the images and return the best epoch."),
    parameter("invalid_images", click.Choice(["raise", "skip"]), "What to do about images that cannot be used."),
    parameter("engine", click.Choice(["auto", "torch", "openvino"]), "What runs the frozen part on a CPU."),
    parameter("checkpoint", OrWord(click.STRING, NONE), "Folder from which an interrupted fit resumes."),
    parameter("random_state", OrWord(click.INT, NONE), "Seed; with it, results repeat."),
)
