"""The training parameters of the classifier, their `"auto"` values resolved and their combinations checked."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from ._training import Recipe, check_net_params
from .exceptions import BackboneWarning, InvalidParameterError

# Chosen by cross-validation: docs/defaults.md has the tables.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"max_epochs": 50, "lr": 0.03, "weight_decay": 0.03, "lr_schedule": "cosine"},
    "adamw": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 1.0, "lr_schedule": "cosine"},
    "lbfgs": {"max_epochs": 500, "weight_decay": 0.03},
}
_AUTO_OPTIMIZER = "sgd"
_STEPS_PER_EPOCH = 20
_UNUSED_BY_LBFGS = {"lr": "auto", "lr_schedule": "auto", "batch_size": "auto", "dropout": 0.0}


def resolve_recipe(estimator: Any, n_samples: int) -> Recipe:
    """Return the recipe that the parameters of a classifier describe for a number of images.

    Raises
    ------
    InvalidParameterError
        If parameters contradict each other; the message names them.
    """
    _check_combinations(estimator)
    optimizer = _AUTO_OPTIMIZER if estimator.optimizer == "auto" else estimator.optimizer
    defaults = _DEFAULTS[optimizer if isinstance(optimizer, str) else "adamw"]
    batch_size = None if optimizer == "lbfgs" else math.ceil(n_samples / _STEPS_PER_EPOCH)

    def value(name: str) -> Any:
        given = getattr(estimator, name)
        return defaults.get(name) if given == "auto" else given

    return Recipe(
        optimizer=optimizer,
        lr=value("lr"),
        weight_decay=value("weight_decay"),
        max_epochs=value("max_epochs"),
        batch_size=batch_size if estimator.batch_size == "auto" else estimator.batch_size,
        lr_schedule=value("lr_schedule"),
        label_smoothing=estimator.label_smoothing,
        dropout=estimator.dropout,
        verbose=int(estimator.verbose),
    )


def _check_combinations(estimator: Any) -> None:
    if estimator.trainable_stages != 0:
        raise InvalidParameterError(
            f"trainable_stages={estimator.trainable_stages!r} is not possible yet: this version trains the output "
            "layer only. Leave trainable_stages=0."
        )
    if estimator.weights is None:
        warnings.warn(
            "weights=None starts the network from random weights, and trainable_stages=0 keeps them as they are: "
            'useful only as a control. To train a random network, all of it must learn (trainable_stages="all").',
            BackboneWarning,
            stacklevel=3,
        )
    check_net_params(estimator.net_params)
    optimizer = estimator.optimizer
    if isinstance(optimizer, type) and not issubclass(optimizer, torch.optim.Optimizer):
        raise InvalidParameterError(
            f'optimizer={optimizer!r} is not a subclass of torch.optim.Optimizer; pass one, or "adamw", "sgd", "lbfgs".'
        )
    if optimizer == "lbfgs":
        for name, unused in _UNUSED_BY_LBFGS.items():
            if getattr(estimator, name) != unused:
                raise InvalidParameterError(
                    f'{name}={getattr(estimator, name)!r} has no meaning with optimizer="lbfgs". Leave '
                    f'{name}={unused!r}, or choose optimizer="adamw".'
                )
