"""The command line: `sktl fit`, `predict`, `evaluate` and others, which call the public functions.

Results go to standard output, everything else to standard error. The exit status is 0 for success, 1 for errors of
sktl, 2 for incorrect use of the command, and 130 after Ctrl-C. Help and usage errors appear at once: the commands call
public functions as attributes of `sktl`, which imports modules when they are used, and import files that
import libraries late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import click

import sktl
from sktl._short_text import count
from sktl._utils.names_on_stdin import FROM_INPUT, names_on_input
from sktl._utils.paths import user_path, working_folder
from sktl.exceptions import InvalidImageError, SktlError

from .audit_command import audit
from .command_group import CommandGroup
from .command_messages import printable
from .embed_command import embed
from .evaluate_command import evaluate
from .export_command import export
from .image_sources import ImageSource, contents, decide, target_of
from .options import (
    DEFAULTS,
    NONE,
    OF_CLASSIFIER,
    OF_REGRESSOR,
    OrWord,
    Threads,
    decisions,
    groups,
    images,
    kinds,
    machine,
    output,
    parameter,
    saved_model,
    training,
    with_source,
    wording_of,
)
from .output_files import check_model
from .report_command import report
from .saved_models import load_predictor
from .text_formats import as_csv, as_json, as_table, print_data

_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=CommandGroup, context_settings=_HELP)
@click.version_option(sktl.__version__, prog_name="sktl")
def main() -> None:
    """Train a model on photos and use it to predict classes, several labels or numbers.

    \b
    sktl fit photos/train -o cats.sktl      # photos/train/<class>/*.jpg
    sktl evaluate cats.sktl photos/test
    sktl predict cats.sktl new

    Each command has a --help with examples.
    """


main.add_command(audit)
main.add_command(embed)
main.add_command(evaluate)
main.add_command(export)
main.add_command(report)


@main.command(short_help="Train a model on photos and save it.")
@images
@kinds
@groups
@output("model", "MODEL", "File to write the model to.")
@click.option("--force", is_flag=True, help="Replace MODEL if it exists.")
@decisions
@training
@machine
@with_source
def fit(
    source: ImageSource, model: str, force: bool, decisions: tuple[str, ...], quiet: bool, **parameters: Any
) -> None:
    """Train a classifier on FOLDER/<class>/*.jpg and save it as MODEL.

    With --labels, a table lists the images and what they show: a class, several labels (columns of 0 and 1), or
    numbers. FOLDER is then the folder that paths are relative to, by default the folder of the table.

    \b
    sktl fit photos/train -o cats.sktl
    sktl fit photos/train -o cats.sktl --trainable-stages all --random-state 0
    sktl fit photos/train -o cats.sktl --backbone resnet50 --class-weight balanced
    sktl fit photos/train --decisions decisions.csv -o cats.sktl
    sktl fit --labels labels.csv -o tags.sktl
    sktl fit --labels ages.csv --column age --numbers --where split=train -o ages.sktl
    sktl fit --labels xrays.csv --groups patient -o xrays.sktl

    The options correspond to the parameters of PretrainedImageClassifier, PretrainedImageRegressor and
    load_label_table.
    """
    check_model(model, force)
    _check_augmentation(parameters)
    photos = source.load()
    if not quiet:
        click.echo(source.describe(photos), err=True)
    if decisions:
        click.echo(decide(photos, decisions, "train"), err=True)
    estimator = _new_estimator(photos.kind, parameters | {"verbose": int(not quiet)})
    started = time.monotonic()
    estimator.fit(photos.data, target_of(photos), groups=photos.groups)
    seconds = time.monotonic() - started
    estimator.save(model)
    n_images, n_columns = len(photos.data) - len(estimator.invalid_images_), len(photos.target_names)
    what, device = contents(photos.kind, n_columns), estimator.device_
    click.echo(f"Trained on {n_images:,} images {what} on {device}, and saved as {printable(model)}.")
    click.echo(_estimate(estimator, photos, seconds))


def _check_augmentation(parameters: dict[str, Any]) -> None:
    """Raise a usage error if images are to be changed although no stages are trained on them."""
    if parameters["augmentation"] != "auto" and parameters["trainable_stages"] == 0:
        raise click.UsageError(
            "--augmentation has no effect without --trainable-stages. Leave it out, or train stages.",
            click.get_current_context(),
        )


def _new_estimator(kind: str, parameters: dict[str, Any]) -> Any:
    """Return the estimator for a kind of target. An option that belongs to another kind is a usage error."""
    is_regressor = kind == "numbers"
    others = {name: DEFAULTS[name] for name in OF_CLASSIFIER} if is_regressor else OF_REGRESSOR
    for name, default in others.items():
        if parameters.pop(name, default) != default:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} has no meaning for {kind}. Leave it out.", click.get_current_context())
    return (sktl.PretrainedImageRegressor if is_regressor else sktl.PretrainedImageClassifier)(**parameters)


def _estimate(estimator: Any, photos: Any, seconds: float) -> str:
    from .accuracy_estimates import estimate

    try:
        return estimate(estimator, photos.data, photos.target, seconds, photos.groups)
    except SktlError as error:
        reason = wording_of(click.get_current_context().command).say(str(error))
        return f"The accuracy is unknown, because cross-validation failed: {reason}"


@main.command(short_help="Predict the classes, labels or numbers of photos.")
@saved_model
@click.argument("names", nargs=-1, required=True, metavar="FOLDER|IMAGES...")
@click.option("--csv", is_flag=True, help="Comma-separated values, with the probabilities of all classes.")
@click.option("--json", is_flag=True, help="JSON, with the probabilities of all classes.")
@click.option("--typicality", is_flag=True, help="Also print how typical each image is, from 0 to 1.")
@machine
def predict(
    model: str, names: tuple[str, ...], csv: bool, json: bool, typicality: bool, quiet: bool, **machine: Any
) -> None:
    """Predict what MODEL was trained for: the class of each image with its probability, its labels, or numbers.

    A folder stands for all images in it and in the folders below it, and - for the images whose paths are on standard
    input, one on each line or separated by NUL. An image that is passed twice is listed once. Images that cannot be
    used are listed on standard error, and the exit status is then 1. About 5 % of the images from the same source as
    the training images have a --typicality of at most 0.05, and so do most images from other sources. This takes a
    model with at least 19 training images.

    \b
    sktl predict cats.sktl my_cat.jpg
    sktl predict cats.sktl new --csv > predictions.csv
    sktl predict cats.sktl new/*.jpg --json | jq '.[].prediction'
    sktl predict cats.sktl new --typicality
    find new -name '*.jpg' -mtime -1 | sktl predict cats.sktl -
    """
    from .predictions import limit_of_typicality, predict_images

    if csv and json:
        raise click.UsageError("Pass either --csv or --json.", click.get_current_context())
    found = _all_images(names, quiet)
    if not (csv or json):  # programs read a header or [] even if no image can be used
        _check_any(found)
    estimator = load_predictor(model, quiet, **machine)
    predictions, failed = predict_images(estimator, found, typicality)
    if json:
        print_data(as_json(predictions.json()))
    elif csv:
        for row in as_csv(predictions.csv()):
            print_data(row)
    elif len(table := predictions.table()) > 1:
        click.echo(as_table(table))
    if typicality and (limit := limit_of_typicality(estimator)):
        click.echo(limit, err=True)
    if failed is not None:
        raise failed  # after the predictions, so that one bad photo of thousands does not cost those of the others


@main.command(short_help="List pretrained networks.")
@click.argument("pattern", required=False)
def backbones(pattern: str | None) -> None:
    """List pretrained networks: parameters, image size, and where their weights come from.

    Without PATTERN, lists the networks of sktl and torchvision. With PATTERN, also lists matching networks of timm,
    which has more than a thousand: listing all of them takes minutes. A star marks networks whose weights are on this
    machine.

    \b
    sktl backbones
    sktl backbones resnet
    sktl backbones 'timm/vit_*_224'
    """
    found = sktl.list_backbones(pattern)
    if not found:
        raise click.ClickException(f"No network has {pattern!r} in its name. `sktl backbones` lists names.")
    width = max(len(info.name) for info in found)
    for info in found:  # printed one by one, because counting the parameters of many networks takes a while
        size = "x".join(map(str, info.image_size)) if info.image_size else "-"
        mark = "*" if info.at_hand else " "
        click.echo(f"{mark} {info.name:{width}} {info.parameters / 1e6:7.1f} M  {size:9} {info.weights}")


@main.command(short_help="List images that cannot be used, and why.")
@click.argument("paths", nargs=-1, required=True, metavar="FOLDER|IMAGES...")
@parameter("n_jobs", OrWord(Threads(), NONE), "Number of threads; -1: all cores.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def check(paths: tuple[str, ...], n_jobs: int | None, quiet: bool) -> None:
    """List the images that cannot be used, and why.

    A folder stands for all images in it and in the folders below it, and - for the images whose paths are on standard
    input, one on each line or separated by NUL. The exit status is 1 if any image cannot be used.

    \b
    sktl check photos/train
    sktl check new/*.jpg
    """
    images = _all_images(paths, quiet)
    failures = sktl.check_images(images, n_jobs=n_jobs, verbose=int(not quiet))
    for line in wording_of(click.get_current_context().command).failures(failures):
        click.echo(line)
    if failures:
        raise click.ClickException(f"{len(failures):,} of {count(len(images))} cannot be used.")
    click.echo(f"{'The image' if len(images) == 1 else f'All {count(len(images))}'} can be used.", err=True)


def _all_images(names: Iterable[str], quiet: bool) -> list[str]:
    """Return the images that names stand for, each once; print how many are in a folder or on standard input."""
    images: dict[str, str] = {}
    for name in dict.fromkeys(names):  # standard input can be read once
        found, place = _images_of(name)
        keys = [os.path.abspath(user_path(path)) for path in found]
        if place and not quiet:
            distinct = f", {n:,} of them distinct" if (n := len({*keys})) < len(found) else ""
            click.echo(f"{count(len(found))} {place}{distinct}.", err=True)
        for key, path in zip(keys, found, strict=True):
            images.setdefault(key, path)
    return [*images.values()]


def _images_of(name: str) -> tuple[list[str], str]:
    """Return the images for which a name stands, and where they are unless the name is an image itself."""
    if name == FROM_INPUT:
        return names_on_input(), "on standard input"
    _check_name(name)
    if os.path.isdir(user_path(name)):
        return sktl.datasets.list_images(name).tolist(), f"in {printable(name)}"
    return [name], ""


def _check_any(images: list[str]) -> None:
    """Raise an error if none of the images exists, before the model is loaded."""
    if not any("://" in image or os.path.exists(user_path(image)) for image in images):
        raise InvalidImageError(sktl.check_images(images))


def _check_name(name: str) -> None:
    """Raise an error for a name that is probably meant as a folder, or as the file for the output."""
    if not name:
        raise click.UsageError("A name is empty. Pass a folder, or . for the current folder, or images.")
    suffix = os.path.splitext(name)[1].lower()
    if "://" in name or os.path.lexists(user_path(name)):
        return
    if suffix in (".csv", ".json"):
        raise click.UsageError(f"--csv and --json take no file name. Write `> {printable(name)}` at the end instead.")
    if not suffix:
        raise click.ClickException(f"{printable(name)} does not exist (looked in {printable(working_folder())}).")
