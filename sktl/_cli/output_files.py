"""Files that commands write: checked before the work, which may take hours."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click


def check_output(path: Path, force: bool) -> None:
    """Raise an error for a file that could not be written, before hours of training."""
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder. Pass a file in it, such as {path / 'model.sktl'}.")
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is a pipe or a device, which is never replaced. Pass another file.")
    if path.exists() and not force:
        raise click.ClickException(f"{path} already exists. Pass --force to replace it, or another name.")
    try:
        with tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(path))):
            pass
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from error
