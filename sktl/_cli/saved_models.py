"""Load a saved model that predicts, and the images that it is tested on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

import sktl
from sktl._short_text import type_of
from sktl._utils.paths import user_path
from sktl.exceptions import ModelFileNotFoundError

from .command_messages import printable
from .image_sources import ImageSource, decide


def load_predictor(path: str, quiet: bool, device: str, **machine: Any) -> Any:
    """Return the classifier or regressor in a file, with the options of the machine."""
    try:
        estimator = sktl.load(path, device=device)
    except ModelFileNotFoundError as error:
        if os.path.isdir(user_path(path)):
            raise click.ClickException(
                f"{printable(path)} is a folder. Pass the model first, and then the images."
            ) from error
        raise
    if not isinstance(estimator, sktl.PretrainedImageClassifier | sktl.PretrainedImageRegressor):
        raise click.ClickException(
            f"{path} contains {type_of(estimator)}, which predicts nothing. Pass a model of `sktl fit`."
        )
    return estimator.set_params(**machine, verbose=int(not quiet))


def load_with_test_images(
    path: str, source: ImageSource, decisions: tuple[str, ...], quiet: bool, **machine: Any
) -> tuple[Any, Any]:
    """Return the classifier or regressor in a file, and the images that it is tested on, after decisions about them."""
    estimator, name = load_predictor(path, quiet, **machine), printable(Path(path).name)
    photos = source.load_for(estimator, name)
    if source.labels is not None and not quiet:
        click.echo(source.describe(photos, asks_kind=False), err=True)
    if decisions:
        click.echo(decide(photos, decisions, "test", getattr(estimator, "classes_", None)), err=True)
    source.check_classes(photos, estimator, name)
    return estimator, photos
