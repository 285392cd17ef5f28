"""`sktl report`: the page for the person who decides whether to deploy a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import sktl

from .command_messages import printable
from .image_sources import ImageSource, target_of
from .options import decisions, groups, images, machine, output, saved_model, thumbnails, with_source
from .output_files import check_page
from .saved_models import load_with_test_images


@click.command(short_help="Write a page about how good a model is.")
@saved_model
@images
@groups
@decisions
@output("page", "PAGE", "HTML file to write.")
@click.option("--force", is_flag=True, help="Replace PAGE if it exists.")
@thumbnails
@machine
@with_source
def report(
    model: str,
    source: ImageSource,
    page: str,
    force: bool,
    decisions: tuple[str, ...],
    max_megabytes: float,
    quiet: bool,
    **machine: Any,
) -> None:
    """Write a page about how good MODEL is on FOLDER/<class>/*.jpg or on a table, to decide whether to deploy it.

    The page shows the accuracy and its confidence interval, each class, which classes are confused, the worst mistakes
    with images, whether the probabilities can be trusted, how much is gained by leaving uncertain images to a person,
    and whether the images are like the training images. Images that cannot be read are listed and left out, but the
    files of a table must exist.

    \b
    sktl report cats.sktl photos/test -o report.html
    sktl report cats.sktl photos/test --decisions decisions.csv -o report.html
    sktl report tags.sktl --labels labels.csv --where split=test -o report.html
    sktl report xrays.sktl --labels test.csv --groups patient -o report.html
    """
    check_page(page, force)
    estimator, photos = load_with_test_images(model, source, decisions, quiet, **machine)
    found = sktl.evaluation_report(estimator, photos.data, target_of(photos), groups=photos.groups)
    found.to_html(page, title=Path(model).name, max_megabytes=max_megabytes)
    click.echo(found.summary())
    click.echo(f"Wrote {printable(page)}. Open it in a browser.")
