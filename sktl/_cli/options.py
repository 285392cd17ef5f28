"""Options of the command line: their types, the parameters of which they are options, and messages that name them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import click

from .command_messages import Wording
from .image_sources import ImageSource

# All parameters of the classifier, including those without an option. Reading them from the class would import PyTorch,
# and delay help and usage errors by seconds.
DEFAULTS: dict[str, Any] = {
    "backbone": "efficientnet_lite0", "weights": "default", "image_size": None, "n_stages": "all",
    "image_shape": None, "image_reader": None,
    "feature_stages": "auto", "weight_decay": "auto", "optimizer": "auto", "lr": "auto", "lr_schedule": "auto",
    "max_epochs": "auto", "batch_size": "auto", "label_smoothing": 0.0, "dropout": 0.0, "class_weight": None,
    "early_stopping": False, "validation_fraction": 0.1, "n_iter_no_change": "auto", "trainable_stages": 0,
    "freeze_epochs": "auto", "backbone_lr_ratio": "auto", "layer_decay": "auto", "augmentation": "auto",
    "augmentation_views": None, "mixup_alpha": 0.0, "amp": "auto", "compile": False, "invalid_images": "raise",
    "device": "auto", "engine": "auto", "precision": "float32", "cache": "auto", "checkpoint": None, "n_jobs": None,
    "random_state": None, "verbose": 0, "net_params": None,
}  # fmt: skip
# Parameters of one estimator alone, with the options for them.
OF_CLASSIFIER = ("label_smoothing", "class_weight")
OF_REGRESSOR: dict[str, Any] = {"loss": "squared_error"}
# Parameters of `sktl.export` that have an option.
OF_EXPORT = ("precision", "calibration", "max_drop", "verify", "include_references")
# Options for parameters of `load_label_table`.
OF_TABLE = {
    "path_column": "--path-column", "suffix": "--suffix", "columns": "--column", "ignore": "--ignore-column",
    "where": "--where",
}  # fmt: skip


class OrWord(click.ParamType):
    """A value of a type, or one of several words that stand for other values."""

    def __init__(self, kind: click.ParamType, words: dict[str, Any]):
        self.kind, self.words = kind, words
        self.name = "|".join([*(getattr(kind, "choices", None) or [kind.name.upper()]), *words])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.words:
            return self.words[value]
        if value in self.words.values():
            return value
        try:
            return self.kind.convert(value, param, ctx)
        except click.BadParameter as error:
            words = " or ".join(map(repr, self.words))
            return self.fail(f"{error.message.rstrip('.')} or {words}.", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{self.name}]"


class Threads(click.types.IntParamType):
    """A number of threads; negative numbers count down from the number of cores."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        n_threads = super().convert(value, param, ctx)
        if n_threads:
            return n_threads
        return self.fail("at least one thread is needed. Pass a positive number, -1 for all cores", param, ctx)


class Place(click.ParamType):
    """A path or a URL. An empty one, for instance from an unset variable, would mean the current folder."""

    def __init__(self, name: str, advice: str):
        self.name, self._advice = name, advice

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value or self.fail(f"it is empty. {self._advice}", param, ctx)


class _Output(Place):
    """The path of a file to write."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-":
            self.fail("it is not written to standard output. Pass its name, or ./- for a file named -.", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = Place("folder", "Pass a folder, or . for the current folder.")
FILE = Place("path", "Pass the name of a file.")
_OUTPUT = _Output("path", "Pass the name of a file.")


class Megabytes(click.FloatRange):
    """A finite size. Infinity and NaN are within any range of click."""

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        size = super().convert(value, param, ctx)
        return size if math.isfinite(size) else self.fail(f"{size} is not a number of megabytes.", param, ctx)


class Condition(click.ParamType):
    """A column and a value, which becomes a pair."""

    name = "COLUMN=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        column, equals, wanted = value.partition("=")
        return (column, wanted) if column and equals else self.fail("pass COLUMN=VALUE.", param, ctx)


_AUTO = {"auto": "auto"}
NONE = {"none": None}
_Command = Callable[..., Any]


def parameter(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    """Return the option for a parameter of an estimator, with its default."""
    default = (DEFAULTS | OF_REGRESSOR)[name]
    shown = default is not None or "none"
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=shown, help=text)


saved_model = click.argument("model", type=FILE)


def output(name: str, metavar: str, text: str) -> Callable[[_Command], _Command]:
    """Return the option for the file that a command writes."""
    return click.option("-o", "--output", name, required=True, type=_OUTPUT, metavar=metavar, help=text)


def _together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def with_source(command: _Command) -> _Command:
    """Return a command that receives the folder and the options of tables as one `source`."""

    def run(folder: str | None, labels: str | None, numbers: bool = False, classes: bool = False, **rest: Any) -> Any:
        chosen: dict[str, Any] = {name: rest.pop(name) for name in OF_TABLE}
        chosen["groups"] = rest.pop("groups", None)
        context = click.get_current_context()
        if numbers and classes:
            raise click.UsageError("Pass either --numbers or --classes.", context)
        if labels is None and (numbers or classes or any(chosen.values())):
            raise click.UsageError("Options of tables need a table. Pass it by --labels.", context)
        if labels is None and folder is None:
            raise click.UsageError("Missing argument 'FOLDER'. Pass a folder, or a table by --labels.", context)
        if chosen["groups"] in chosen["columns"]:
            raise click.UsageError("--groups and --column name the same column. Groups are not learned.", context)
        chosen["where"] = as_conditions(chosen["where"])
        kind = "numbers" if numbers else "classes" if classes else "auto"
        return command(source=ImageSource(folder, labels, kind=kind, **chosen), **rest)

    return update_wrapper(run, command)


def as_conditions(pairs: tuple[tuple[str, str], ...]) -> dict[str, list[str]]:
    """Return columns and the values of which rows must have one."""
    conditions: dict[str, list[str]] = {}
    for column, value in pairs:
        conditions.setdefault(column, []).append(value)
    return conditions


images = _together(
    click.argument("folder", type=FOLDER, required=False),
    click.option(
        "--labels", type=FILE, metavar="TABLE", help="CSV file with a column of paths and columns of labels or numbers."
    ),
    click.option("--path-column", metavar="NAME", help="Column of paths.  [default: path, file, filename or image]"),
    click.option("--suffix", default="", metavar="TEXT", help="What all paths lack at their ends, such as .jpg."),
    click.option("--column", "columns", multiple=True, metavar="NAME", help="Column to use; can be repeated."),
    click.option("--ignore-column", "ignore", multiple=True, metavar="NAME", help="Column to ignore; can be repeated."),
    click.option(
        "--where", multiple=True, type=Condition(), help="Use only these rows, such as split=train; can be repeated."
    ),
)
kinds = _together(
    click.option("--numbers", is_flag=True, help="The columns hold numbers to predict."),
    click.option("--classes", is_flag=True, help="Each value of the column is a class, even if it is a number."),
)


def _given_once(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the only value. click would take the last one without a word."""
    if len(values) > 1:
        raise click.BadParameter(
            "is given several times. Pass one column; join several, such as patient and site, into one.",
            context,
            parameter,
        )
    return values[0] if values else None


groups = click.option(
    "--groups",
    metavar="NAME",
    multiple=True,
    callback=_given_once,
    help="Column of groups, such as patients, to keep together.",
)
thumbnails = click.option(
    "--max-megabytes", type=Megabytes(), default=16, show_default=True, help="Limit for thumbnails."
)
decisions = click.option(
    "--decisions",
    type=FILE,
    multiple=True,
    metavar="CSV",
    help="Drop and relabel images as decided on the page of `sktl audit`; can be repeated.",
)
machine = _together(
    parameter("device", str, "Where the network runs: auto, cpu, cuda, cuda:1, mps, xpu."),
    parameter("cache", OrWord(FOLDER, {"auto": "auto", "none": False}), "Folder or Redis URL of the cache."),
    parameter("n_jobs", OrWord(Threads(), NONE), "Number of threads; -1: all cores."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
)
training = _together(
    parameter("backbone", str, "Pretrained network; `sktl backbones` lists them."),
    parameter("weights", OrWord(FILE, NONE), "Name or file of the weights; none: random weights."),
    parameter("image_size", OrWord(click.INT, NONE), "Height and width of the input of the network, in pixels."),
    parameter("n_stages", OrWord(click.INT, {"all": "all"}), "Number of first stages that the network keeps."),
    parameter("trainable_stages", OrWord(click.INT, {"all": "all"}), "Number of last stages to train."),
    parameter("max_epochs", OrWord(click.INT, _AUTO), "Maximum number of epochs."),
    parameter("lr", OrWord(click.FLOAT, _AUTO), "Learning rate of the output layer."),
    parameter("weight_decay", OrWord(click.FLOAT, _AUTO), "Strength of the regularization."),
    parameter(
        "feature_stages", OrWord(click.INT, _AUTO | {"all": "all"}), "Number of last stages whose features are used."
    ),
    parameter("optimizer", click.Choice(["auto", "sgd", "adamw", "lbfgs"]), "Optimizer."),
    parameter(
        "augmentation",
        OrWord(click.Choice(["light", "strong", "trivial"]), _AUTO | NONE),
        "Random changes of images while stages are trained.",
    ),
    parameter("class_weight", OrWord(click.Choice(["balanced"]), NONE), "Weights of the classes or labels."),
    parameter("loss", click.Choice(["squared_error", "huber"]), "Loss for numbers; huber tolerates wrong numbers."),
    click.option(
        "--early-stopping",
        is_flag=True,
        help="Hold out a tenth of the images and use the best epoch. Lowers the accuracy if only the output layer is "
        "trained.",
    ),
    parameter(
        "invalid_images",
        click.Choice(["raise", "skip"]),
        "What to do with images that cannot be used. The files of a table must exist.",
    ),
    parameter("engine", click.Choice(["auto", "torch", "openvino"]), "Library that runs the frozen stages on a CPU."),
    parameter("precision", click.Choice(["float32", "bfloat16"]), "Precision in which frozen stages compute."),
    parameter(
        "checkpoint",
        OrWord(FOLDER, NONE),
        "Folder to resume an interrupted fit; needs an integer --random-state.",
    ),
    parameter("random_state", OrWord(click.INT, NONE), "Seed; results repeat with a fixed seed."),
)


def wording_of(command: click.Command | None) -> Wording:
    """Return the wording of messages for a command."""
    options = [option for option in (command.params if command else []) if isinstance(option, click.Option)]
    known = {*DEFAULTS, *OF_REGRESSOR, *OF_TABLE, *OF_EXPORT}
    names = {str(option.name): max(option.opts, key=len) for option in options if option.name in known}
    if "--output" in (word for option in options for word in option.opts):
        names["path"] = "--output"
    flags = [str(option.name) for option in options if option.name in known and option.is_flag]
    return Wording(names, flags, known, asks_kind=any(option.name == "numbers" for option in options))
