"""The command line: `sktl fit`, `predict`, `evaluate`, `backbones` and `check`, which call the public functions.

Results go to standard output, all else to standard error. The exit status is 0, 1 for errors that sktl names, 2 for a
wrong use of the command, and 130 after Ctrl-C.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np
from sklearn.metrics import classification_report, confusion_matrix, precision_recall_fscore_support

from ._augmentation import AUGMENTATIONS
from ._catalogue import list_backbones
from ._checking import check_images
from ._classifier import PretrainedImageClassifier
from ._loading import load
from ._version import __version__
from .datasets import load_image_folder
from .exceptions import ImageFailure, InvalidImageError, SktlError

_INTERRUPTED = 130
_DEFAULTS = PretrainedImageClassifier().get_params()
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Group(click.Group):
    """Turns what commands raise into messages and exit statuses."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except InvalidImageError as error:
            raise click.ClickException("\n".join(["These images cannot be used:", *_listed(error.failures)])) from error
        except SktlError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise  # click's own, so that `sktl ... | head` ends quietly
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except UnicodeError as error:
            raise click.ClickException(f"A name cannot be written as text: {error}") from error
        except MemoryError as error:
            advice = "Free some, or ask for less: smaller images, fewer threads, another network."
            raise click.ClickException(f"The memory is not enough: {error}. {advice}") from error


# What moves the cursor, changes the order of letters, ends a line, or is no text at all.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _shown(name: str) -> str:
    """Return a name as a terminal may have it, for file names hold any bytes, and a stranger's model any letters."""
    letters = click.format_filename(name)
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWN else c for c in letters)


def _listed(failures: Iterable[ImageFailure]) -> list[str]:
    return [f"{_shown(failure.name)}: {failure.reason}" for failure in failures]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    click.echo(f"Warning: {message}", err=True)


class _OrWord(click.ParamType):
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


class _Threads(click.types.IntParamType):
    """A number of threads, or below zero of cores, counted from all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        n_threads = super().convert(value, param, ctx)
        return n_threads if n_threads else self.fail("0 threads do nothing; -1 is all cores.", param, ctx)


class _Folder(click.ParamType):
    """The path of a folder; an empty one, as of a variable that is not set, would be the current folder."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value or self.fail("it is empty. Name a folder, or . for the current one.", param, ctx)


_AUTO = {"auto": "auto"}
_NONE = {"none": None}
_Command = Callable[..., Any]


def _parameter(name: str, kind: Any, text: str) -> Callable[[_Command], _Command]:
    """Return the option that mirrors a parameter of the classifier, with its default."""
    default = _DEFAULTS[name]
    shown = default is not None or "none"
    return click.option(f"--{name.replace('_', '-')}", name, type=kind, default=default, show_default=shown, help=text)


def _together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_machine = _together(
    _parameter("device", str, "Where the network runs: auto, cpu, cuda, cuda:1, mps, xpu."),
    _parameter("cache", _OrWord(click.STRING, {"auto": "auto", "none": False}), "Folder in which features are kept."),
    _parameter("n_jobs", _OrWord(_Threads(), _NONE), "Threads; -1 is all cores."),
    click.option("-q", "--quiet", is_flag=True, help="Show no progress."),
)
_training = _together(
    _parameter("backbone", str, "Pretrained network; `sktl backbones` lists them."),
    _parameter("weights", _OrWord(click.STRING, _NONE), "Name or file of its weights; none is random ones."),
    _parameter("image_size", _OrWord(click.INT, _NONE), "Height and width of what the network sees, in pixels."),
    _parameter("trainable_stages", _OrWord(click.INT, {"all": "all"}), "How many last stages are trained, too."),
    _parameter("max_epochs", _OrWord(click.INT, _AUTO), "Passes over the images."),
    _parameter("lr", _OrWord(click.FLOAT, _AUTO), "Learning rate of the output layer."),
    _parameter("weight_decay", _OrWord(click.FLOAT, _AUTO), "Pull of the weights towards their start."),
    _parameter("optimizer", click.Choice(["auto", "sgd", "adamw", "lbfgs"]), "What trains."),
    _parameter(
        "augmentation",
        _OrWord(click.Choice([*AUGMENTATIONS]), _AUTO | _NONE),
        "How images are changed at random while stages are trained.",
    ),
    _parameter("class_weight", _OrWord(click.Choice(["balanced"]), _NONE), "Weights of the classes."),
    click.option("--early-stopping", is_flag=True, help="Hold out a tenth of the images, and stop by them."),
    _parameter("invalid_images", click.Choice(["raise", "skip"]), "What to do about images that cannot be used."),
    _parameter("engine", click.Choice(["auto", "torch", "openvino"]), "What runs the frozen part on a CPU."),
    _parameter("checkpoint", _OrWord(click.STRING, _NONE), "Folder from which a fit that was killed goes on."),
    _parameter("random_state", _OrWord(click.INT, _NONE), "Seed; with it, results repeat."),
)


@click.group(cls=_Group, context_settings=_HELP)
@click.version_option(__version__, prog_name="sktl")
def main() -> None:
    """Train an image classifier on a folder of photos, and use it.

    \b
    sktl fit photos/train -o cats.sktl      # photos/train/<class>/*.jpg
    sktl evaluate cats.sktl photos/test
    sktl predict cats.sktl new/*.jpg

    Each command has a --help with examples.
    """


@main.command()
@click.argument("folder", type=_Folder())
@click.option("-o", "--output", "model", required=True, metavar="MODEL", help="File to write the classifier to.")
@click.option("--force", is_flag=True, help="Replace MODEL if it is there.")
@_training
@_machine
def fit(folder: str, model: str, force: bool, quiet: bool, **parameters: Any) -> None:
    """Train a classifier on FOLDER/<class>/*.jpg and save it as MODEL.

    \b
    sktl fit photos/train -o cats.sktl
    sktl fit photos/train -o cats.sktl --trainable-stages all --random-state 0
    sktl fit photos/train -o cats.sktl --backbone resnet50 --class-weight balanced

    The options are the parameters of PretrainedImageClassifier.
    """
    _check_output(Path(model), force)
    photos = load_image_folder(folder)
    classifier = PretrainedImageClassifier(**parameters, verbose=int(not quiet))
    classifier.fit(photos.data, photos.target).save(model)
    n_images = len(photos.data) - len(classifier.invalid_images_)
    click.echo(f"Trained on {n_images} images of {len(classifier.classes_)} classes, and saved as {_shown(model)}.")


def _check_output(path: Path, force: bool) -> None:
    """Refuse a file that could not be written, before hours of training."""
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder. Name a file in it, such as {path / 'model.sktl'}.")
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is a pipe or a device, which is never replaced. Name another file.")
    if path.exists() and not force:
        raise click.ClickException(f"{path} is there already. Pass --force to replace it, or another name.")
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            pass
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from error


@main.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values.")
@click.option("--json", "form", flag_value="json", help="JSON, with the probabilities of all classes.")
@_machine
def predict(model: str, images: tuple[str, ...], form: str | None, quiet: bool, **machine: Any) -> None:
    """Name the class of each of some images, with its probability.

    \b
    sktl predict cats.sktl my_cat.jpg
    sktl predict cats.sktl new/*.jpg --csv > predictions.csv
    sktl predict cats.sktl new/*.jpg --json | jq '.[].prediction'
    """
    for path in images:
        if os.path.isdir(path):
            raise click.ClickException(f"{path} is a folder. Name its images, such as {os.path.join(path, '*.jpg')}.")
    classifier = _load_classifier(model, quiet, **machine)
    probabilities = classifier.predict_proba(list(images))
    winners = probabilities.argmax(axis=1)
    names = [str(name) for name in classifier.classes_]
    rows = [(path, names[k], row[k]) for path, k, row in zip(images, winners, probabilities, strict=True)]
    if form == "json":
        records = [
            {"image": path, "prediction": name, "probability": p, "probabilities": dict(zip(names, row, strict=True))}
            for (path, name, p), row in zip(rows, probabilities.tolist(), strict=True)
        ]
        _print_json(records)
    else:
        heading = ("image", "prediction", "probability")
        _print_rows([heading, *((path, name, f"{p:.4f}") for path, name, p in rows)], as_csv=form == "csv")


@main.command()
@click.argument("model")
@click.argument("folder", type=_Folder())
@click.option("--json", "form", flag_value="json", help="All figures as JSON.")
@_machine
def evaluate(model: str, folder: str, form: str | None, quiet: bool, **machine: Any) -> None:
    """Compare the predictions of MODEL with the classes of FOLDER/<class>/*.jpg.

    Prints the accuracy, precision and recall of each class, and how often which class was taken for which.

    \b
    sktl evaluate cats.sktl photos/test
    sktl evaluate cats.sktl photos/test --json > figures.json
    """
    photos = load_image_folder(folder)
    classifier = _load_classifier(model, quiet, **machine)
    predictions = classifier.predict(photos.data).astype(str)
    labels = np.unique(np.concatenate([photos.target, predictions]))
    confusion = confusion_matrix(photos.target, predictions, labels=labels)
    accuracy = float((photos.target == predictions).mean())
    if form == "json":
        per_class = _figures_of_classes(photos.target, predictions, labels)
        _print_json({"accuracy": accuracy, "classes": per_class, "confusion": confusion.tolist()})
        return
    shown = [_shown(label) for label in labels]
    report = classification_report(
        photos.target, predictions, labels=labels, target_names=shown, zero_division=0.0, digits=3
    )
    click.echo(f"Accuracy {accuracy:.4f} on {len(predictions)} images.\n\n{report}")
    click.echo("Truth in rows, predictions in columns:\n")
    short = [str(number) for number in range(1, len(labels) + 1)]
    cells = [[number, name, *map(str, row)] for number, name, row in zip(short, shown, confusion, strict=True)]
    _print_rows([["", "", *short], *cells], words=(1,))


def _figures_of_classes(truth: np.ndarray, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return precision, recall, F1 and number of images by class, whatever the classes are called."""
    figures = precision_recall_fscore_support(truth, predictions, labels=labels, zero_division=0.0)
    names = ("precision", "recall", "f1-score", "support")
    rows = zip(*(column.tolist() for column in figures), strict=True)
    return {str(label): dict(zip(names, row, strict=True)) for label, row in zip(labels, rows, strict=True)}


@main.command()
@click.argument("pattern", required=False)
def backbones(pattern: str | None) -> None:
    """List pretrained networks: parameters, image size, and where their weights come from.

    Without PATTERN, those of sktl and torchvision; with it, also those of timm, of which there are more than a
    thousand: listing them all takes minutes. A star marks networks whose weights are on this machine.

    \b
    sktl backbones
    sktl backbones resnet
    sktl backbones 'timm/vit_*_224'
    """
    found = list_backbones(pattern)
    if not found:
        raise click.ClickException(f"No network has {pattern!r} in its name. `sktl backbones` lists some.")
    width = max(len(info.name) for info in found)
    for info in found:  # one by one: counting the parameters of many takes a while
        size = "x".join(map(str, info.image_size)) if info.image_size else "-"
        mark = "*" if info.at_hand else " "
        click.echo(f"{mark} {info.name:{width}} {info.parameters / 1e6:7.1f} M  {size:9} {info.weights}")


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="FOLDER|IMAGES...")
@_parameter("n_jobs", _OrWord(_Threads(), _NONE), "Threads; -1 is all cores.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def check(paths: tuple[str, ...], n_jobs: int | None, quiet: bool) -> None:
    """List the images that cannot be used, and why, before a fit begins.

    The exit status is 1 if there are any.

    \b
    sktl check photos/train
    sktl check new/*.jpg
    """
    images: list[str] = []
    for path in paths:
        images += load_image_folder(path).data.tolist() if os.path.isdir(path) else [path]
    failures = check_images(images, n_jobs=n_jobs, verbose=int(not quiet))
    for line in _listed(failures):
        click.echo(line)
    if failures:
        raise click.ClickException(f"{len(failures)} of {len(images)} images cannot be used.")
    click.echo(f"All {len(images)} images can be used.", err=True)


def _load_classifier(path: str, quiet: bool, device: str, **machine: Any) -> PretrainedImageClassifier:
    estimator = load(path, device=device)
    if not isinstance(estimator, PretrainedImageClassifier):
        raise click.ClickException(f"{path} holds a {type(estimator).__name__}, which names no classes.")
    return estimator.set_params(**machine, verbose=int(not quiet))


def _print_json(value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # Bytes of names that are not UTF-8 stay as JSON's own escapes, so that names differ as they do on the disk.
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def _print_rows(rows: Sequence[Sequence[str]], as_csv: bool = False, words: Iterable[int] = (0, 1)) -> None:
    """Print rows as a table, or as comma-separated values."""
    if as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*map(click.format_filename, row)] for row in rows)
        click.echo(text.getvalue(), nl=False)
        return
    rows = [[*map(_shown, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        adjusted = [
            cell.ljust(width) if i in words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(adjusted).rstrip())
