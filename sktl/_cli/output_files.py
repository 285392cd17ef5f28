"""Files that commands write: checked before the work, which may take hours."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from sktl._utils.paths import check_features_suffix, check_model_suffix, check_page_suffix, checked_path, user_path

from .command_messages import printable


def check_page(page: str, force: bool) -> None:
    """Raise an error for an HTML file that could not be written, or that has another suffix."""
    path = Path(checked_path(page, "path"))
    if not path.is_dir():
        check_page_suffix(page)
    check_output(path, force, f"{path.name or 'page'}.html")


def check_model(model: str, force: bool) -> None:
    """Raise an error for a file of a model that could not be written, or that has the suffix of another format."""
    path = Path(checked_path(model, "path"))
    if not path.is_dir():
        check_model_suffix(model)
    check_output(path, force)


def check_features(path: str, photos: str | None) -> None:
    """Raise an error for features in a file that is no Parquet file, or in the folder of the images, if there is one.

    Another folder that ends in / may have any name.
    """
    target = checked_path(path, "path")
    check_features_suffix(target)
    images = None if photos is None else user_path(photos)  # may not exist, which is said later
    if images is not None and os.path.isdir(target) and os.path.isdir(images) and os.path.samefile(target, images):
        raise click.ClickException(
            f"{printable(path)} is the folder of the images. Pass another folder, or a file that ends in .parquet."
        )


def check_output(path: Path, force: bool, example: str = "model.sktl") -> None:
    """Raise an error for a file that could not be written, before hours of training."""
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder. Pass a file in it, such as {path / example}.")
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is a pipe or a device, which is never replaced. Pass another file.")
    if path.exists() and not force:
        raise click.ClickException(f"{path} already exists. Pass --force to replace it, or another name.")
    if not path.parent.exists():
        raise click.ClickException(f"The folder {printable(str(path.parent))} does not exist. Create it.")
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            pass
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from error
