"""The training parameters of the classifier, their `"auto"` values resolved and their combinations checked."""

from __future__ import annotations

import inspect
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
    "lbfgs": {"max_epochs": 500, "lr": None, "weight_decay": 0.03, "lr_schedule": None},
    "class": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 0.03, "lr_schedule": "cosine"},
}
_AUTO_OPTIMIZER = "sgd"
_STEPS_PER_EPOCH = 20
_LEAST_BATCH = 16
# The loss curves more with more features, so that steps must be shorter: the number for which `lr` was chosen.
_FEATURES_OF_LR = 1280
_UNUSED_BY_LBFGS = {"lr": "auto", "lr_schedule": "auto", "batch_size": "auto", "dropout": 0.0}


def resolve_recipe(estimator: Any, n_samples: int, n_features: int) -> Recipe:
    """Return the recipe that the checked parameters of a classifier describe for so many images and features."""
    optimizer = _AUTO_OPTIMIZER if estimator.optimizer == "auto" else estimator.optimizer
    if isinstance(optimizer, str):
        defaults = _DEFAULTS[optimizer]
    else:
        defaults = _DEFAULTS["adamw" if issubclass(optimizer, torch.optim.AdamW) else "class"]

    def value(name: str, auto: Any) -> Any:
        given = getattr(estimator, name)
        return auto if given == "auto" else given

    lr, batch_size = defaults["lr"], None
    if optimizer != "lbfgs":
        lr *= min(1.0, _FEATURES_OF_LR / n_features)
        batch_size = max(_LEAST_BATCH, math.ceil(n_samples / _STEPS_PER_EPOCH))
    return Recipe(
        optimizer=optimizer,
        lr=value("lr", lr),
        weight_decay=value("weight_decay", defaults["weight_decay"]),
        max_epochs=value("max_epochs", defaults["max_epochs"]),
        batch_size=value("batch_size", batch_size),
        lr_schedule=value("lr_schedule", defaults["lr_schedule"]),
        label_smoothing=estimator.label_smoothing,
        dropout=estimator.dropout,
        verbose=int(estimator.verbose),
    )


def check_combinations(estimator: Any) -> None:
    """Raise `InvalidParameterError` if training parameters of a classifier contradict each other, naming them."""
    if estimator.trainable_stages != 0:
        raise InvalidParameterError(
            f"trainable_stages={estimator.trainable_stages!r} is not possible yet: this version trains the output "
            "layer only. Leave trainable_stages=0."
        )
    if estimator.weights is None:
        warnings.warn(
            "weights=None starts the network from random weights, and trainable_stages=0 keeps them as they are: "
            'useful only as a control. A random network has to learn as a whole, trainable_stages="all", which this '
            "version does not do yet.",
            BackboneWarning,
            stacklevel=3,
        )
    check_net_params(estimator.net_params)
    optimizer = estimator.optimizer
    if isinstance(optimizer, type) and not issubclass(optimizer, torch.optim.Optimizer):
        raise InvalidParameterError(
            f'optimizer={optimizer!r} is not a subclass of torch.optim.Optimizer; pass one, or "sgd", "adamw", "lbfgs".'
        )
    if isinstance(optimizer, type) and "weight_decay" not in inspect.signature(optimizer).parameters:
        raise InvalidParameterError(
            f"optimizer={optimizer!r} has no weight_decay, so it cannot train the output layer; for L-BFGS pass "
            'optimizer="lbfgs".'
        )
    if optimizer == "lbfgs":
        for name, unused in _UNUSED_BY_LBFGS.items():
            if getattr(estimator, name) != unused:
                raise InvalidParameterError(
                    f'{name}={getattr(estimator, name)!r} has no meaning with optimizer="lbfgs". Leave '
                    f'{name}={unused!r}, or choose optimizer="adamw".'
                )
