"""`sktl embed`: write the features of images to a file, from which models are trained without images."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import click

import sktl
from sktl._short_text import count
from sktl._utils.paths import user_path
from sktl.exceptions import InvalidImageError, InvalidImageWarning

from .command_messages import printable
from .image_sources import ImageSource, decide, target_of
from .options import FILE, NONE, OrWord, decisions, images, kinds, machine, output, parameter, with_source
from .output_files import check_features

_AUTO = {"auto": "auto", "all": "all"}


@click.command(short_help="Write the features of photos to a file.")
@images
@kinds
@output("output", "PATH", "Parquet file (.parquet) or folder to write.")
@click.option("--force", is_flag=True, help="Replace PATH if it holds something else.")
@click.option("--unlabeled", is_flag=True, help="The images in FOLDER have no classes.")
@decisions
@click.option(
    "--images-per-part", type=click.IntRange(1), default=4096, show_default=True, help="Number of images per part."
)
@parameter("backbone", str, "Pretrained network; `sktl backbones` lists them.")
@parameter("weights", OrWord(FILE, NONE), "Name or file of the weights; none: random weights.")
@parameter("image_size", OrWord(click.INT, NONE), "Height and width of the input of the network, in pixels.")
@parameter("n_stages", OrWord(click.INT, {"all": "all"}), "Number of first stages that the network keeps.")
@parameter("feature_stages", OrWord(click.INT, _AUTO), "Number of last stages whose features are written.")
@parameter("engine", click.Choice(["auto", "torch", "openvino"]), "Library that runs the network on a CPU.")
@parameter("precision", click.Choice(["float32", "bfloat16"]), "Precision in which the network computes.")
@parameter("random_state", OrWord(click.INT, NONE), "Seed of random weights.")
@machine
@with_source
def embed(
    source: ImageSource,
    output: str,
    force: bool,
    unlabeled: bool,
    decisions: tuple[str, ...],
    images_per_part: int,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Write the features of the images of FOLDER/<class>/*.jpg to PATH, with their classes.

    FOLDER may also be a table, as for --labels, whose files must exist. Images that cannot be used are left out and
    listed, and the exit status is then 1. Of --decisions, those about training images are applied. Repeat the command
    to resume a run that was interrupted. Train on the features in Python, with sktl.datasets.load_features, or read the
    file with pandas, polars or DuckDB.

    \b
    sktl embed photos/train -o train.parquet
    sktl embed new --unlabeled -o new.parquet
    sktl embed labels.csv -o features/ --backbone resnet50 --feature-stages all
    """
    if unlabeled and source.labels is not None:
        raise click.UsageError("Pass either --unlabeled or --labels.", click.get_current_context())
    if source.labels is None and source.folder and os.path.isfile(user_path(source.folder)):
        source = replace(source, folder=None, labels=source.folder)
    check_features(output, source.folder)
    source = replace(source, has_labels=not unlabeled)
    photos = source.load()
    if source.labels is not None and not quiet:
        click.echo(source.describe(photos), err=True)
    if decisions:
        click.echo(decide(photos, decisions, "train"), err=True)
    estimator = sktl.PretrainedImageClassifier(invalid_images="skip", verbose=int(not quiet), **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InvalidImageWarning)  # the error at the end lists these images
        written = sktl.datasets.write_features(
            photos.data,
            output,
            y=target_of(photos),
            names=_names(photos.data.tolist(), source),
            estimator=estimator,
            images_per_part=images_per_part,
            overwrite=force,
        )
    click.echo(f"Wrote {written.n_features:,} features of {count(written.n_images)} to {printable(output)}.")
    if written.invalid_images:
        from sktl._images.url_text import masked  # imports Pillow, which would delay help

        places = [masked(str(path)) for path in photos.data]  # the file has names relative to the folder
        raise InvalidImageError([one._replace(name=places[one.position]) for one in written.invalid_images])


def _names(paths: list[str], source: ImageSource) -> list[str]:
    """Return paths relative to the folder of the images, so that the file is the same wherever the folder is."""
    folder = user_path(source.folder) if source.folder else os.path.dirname(user_path(source.labels or ""))
    root = os.path.abspath(folder)
    return [path if "://" in path else _relative(path, root).replace(os.sep, "/") for path in paths]


def _relative(path: str, root: str) -> str:
    try:
        return os.path.relpath(path, root)
    except ValueError:  # the paths are on different drives of Windows
        return os.path.abspath(path)
