"""Load a saved model that predicts."""

from __future__ import annotations

from typing import Any

import click

import sktl


def load_predictor(path: str, quiet: bool, device: str, **machine: Any) -> Any:
    """Return the classifier or regressor in a file, with the options of the machine."""
    estimator = sktl.load(path, device=device)
    if not isinstance(estimator, sktl.PretrainedImageClassifier | sktl.PretrainedImageRegressor):
        raise click.ClickException(
            f"{path} contains a {type(estimator).__name__}, which predicts nothing. Pass a model of `sktl fit`."
        )
    return estimator.set_params(**machine, verbose=int(not quiet))
