"""Load a saved model that predicts."""

from __future__ import annotations

import os
from typing import Any

import click

import sktl
from sktl._utils.paths import user_path
from sktl._words import type_of
from sktl.exceptions import ModelFileNotFoundError

from .command_messages import shown


def load_predictor(path: str, quiet: bool, device: str, **machine: Any) -> Any:
    """Return the classifier or regressor in a file, with the options of the machine."""
    try:
        estimator = sktl.load(path, device=device)
    except ModelFileNotFoundError as error:
        if os.path.isdir(user_path(path)):
            raise click.ClickException(
                f"{shown(path)} is a folder. Pass the model first, and then the images."
            ) from error
        raise
    if not isinstance(estimator, sktl.PretrainedImageClassifier | sktl.PretrainedImageRegressor):
        raise click.ClickException(
            f"{path} contains {type_of(estimator)}, which predicts nothing. Pass a model of `sktl fit`."
        )
    return estimator.set_params(**machine, verbose=int(not quiet))
