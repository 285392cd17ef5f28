"""The training parameters of the classifier, their `"auto"` values resolved and their combinations checked."""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import replace
from typing import Any

import torch

from ._augmentation import resolve_augmentation
from ._nets import Recipe, TailRecipe, check_net_params
from ._optimizers import OptimizerName, option_names
from ._torch import computes_in_bfloat16
from .exceptions import BackboneWarning, InvalidParameterError

# Chosen by cross-validation: docs/defaults.md has the tables.
_HEAD: dict[str, dict[str, Any]] = {
    "sgd": {"max_epochs": 50, "lr": 0.03, "weight_decay": 0.03, "lr_schedule": "cosine"},
    "adamw": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 1.0, "lr_schedule": "cosine"},
    "lbfgs": {"max_epochs": 500, "lr": None, "weight_decay": 0.03, "lr_schedule": None},
    "class": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 0.03, "lr_schedule": "cosine"},
}
# With stages: from pretrained weights, and from random ones.
_STAGES: dict[str, dict[str, Any]] = {
    "auto": {"max_epochs": 8, "backbone_lr_ratio": 1 / 60, "batch_size": 16, "augmentation": "light"},
    "sgd": {"max_epochs": 12, "backbone_lr_ratio": 1 / 30, "batch_size": 16, "augmentation": "light"},
    "adamw": {"max_epochs": 8, "backbone_lr_ratio": 0.5, "batch_size": 16, "augmentation": "light"},
    "class": {"max_epochs": 12, "backbone_lr_ratio": 0.1, "batch_size": 16, "augmentation": "light"},
    "random": {"max_epochs": 40, "backbone_lr_ratio": 1.0, "batch_size": 16, "augmentation": "light"},
}
_INTERPOLATION = 0.5
_STEPS_PER_EPOCH = 20
_LEAST_BATCH = 16
# The loss curves more with more features, so that steps must be shorter: the number for which `lr` was chosen.
_FEATURES_OF_LR = 1280
# With fewer images the output layer fits them all, and what moves the stages is mostly noise.
_ENOUGH_IMAGES = 200
_UNUSED_BY_LBFGS = {
    "trainable_stages": 0, "lr": "auto", "lr_schedule": "auto", "batch_size": "auto", "dropout": 0.0,
    "early_stopping": False,
}  # fmt: skip


def resolve_recipe(estimator: Any, n_trainable: int, n_samples: int, n_features: int, device: torch.device) -> Recipe:
    """Return the recipe that the checked parameters of a classifier describe for so many images and features."""
    optimizer, stage_optimizer = _optimizers(estimator)
    kind = optimizer if isinstance(optimizer, str) else "adamw" if issubclass(optimizer, torch.optim.AdamW) else "class"

    def value(name: str, auto: Any) -> Any:
        given = getattr(estimator, name)
        return auto if isinstance(given, str) and given == "auto" else given

    defaults = _HEAD[kind]
    lr, batch_size = defaults["lr"], None
    if optimizer != "lbfgs":
        lr *= min(1.0, _FEATURES_OF_LR / n_features)
        batch_size = max(_LEAST_BATCH, math.ceil(n_samples / _STEPS_PER_EPOCH))
    head = Recipe(
        optimizer=optimizer,
        lr=value("lr", lr),
        weight_decay=value("weight_decay", defaults["weight_decay"]),
        max_epochs=value("max_epochs", defaults["max_epochs"]),
        batch_size=value("batch_size", batch_size),
        lr_schedule=value("lr_schedule", defaults["lr_schedule"]),
        label_smoothing=estimator.label_smoothing,
        dropout=estimator.dropout,
        verbose=int(estimator.verbose),
        patience=estimator.n_iter_no_change if estimator.early_stopping else None,
    )
    if not n_trainable:
        return head
    pretrained = estimator.weights is not None
    defaults = _STAGES["random" if not pretrained else "auto" if stage_optimizer != optimizer else kind]
    freeze_epochs = value("freeze_epochs", _HEAD[kind]["max_epochs"] if pretrained else 0)
    probing = replace(head, max_epochs=freeze_epochs, batch_size=batch_size) if freeze_epochs else None
    if pretrained:
        ratio = defaults["backbone_lr_ratio"] * min(1.0, n_samples / _ENOUGH_IMAGES)
        defaults = defaults | {"backbone_lr_ratio": ratio}
    own = {name: value(name, defaults[name]) for name in ("max_epochs", "batch_size", "backbone_lr_ratio")}
    return TailRecipe(
        **vars(head) | own,
        n_trainable=n_trainable,
        probing=probing,
        stage_optimizer=stage_optimizer,
        layer_decay=estimator.layer_decay,
        augmentation=resolve_augmentation(value("augmentation", defaults["augmentation"])),
        n_views=estimator.augmentation_views,
        mixup_alpha=estimator.mixup_alpha,
        interpolation=_INTERPOLATION if pretrained else 1.0,
        keeps_statistics=pretrained,
        amp=estimator.amp == "auto" and computes_in_bfloat16(device),
        compile=estimator.compile,
    )


def _optimizers(estimator: Any) -> tuple[OptimizerName, OptimizerName]:
    """Return the optimizers of the output layer and of the stages."""
    if not isinstance(estimator.optimizer, str) or estimator.optimizer != "auto":
        return estimator.optimizer, estimator.optimizer
    return "sgd", "sgd" if estimator.weights is None or estimator.trainable_stages == 0 else "adamw"


def _check_optimizer_options(estimator: Any) -> None:
    known = set[str]().union(*map(option_names, _optimizers(estimator)))
    for key in estimator.net_params or {}:
        base, _, name = key.partition("__")
        if base == "optimizer" and name not in known:
            raise InvalidParameterError(
                f"net_params[{key!r}]: optimizer={estimator.optimizer!r} has no such option. It has "
                f"{', '.join(sorted(known - {'params', 'lr', 'weight_decay'}))}."
            )


def check_combinations(estimator: Any) -> None:
    """Raise `InvalidParameterError` if training parameters of a classifier contradict each other, naming them."""
    if estimator.weights is None and estimator.trainable_stages != "all":
        warnings.warn(
            f"weights=None starts the network from random weights, and trainable_stages={estimator.trainable_stages!r} "
            'keeps the stages before these as they are: useful only as a control. Pass trainable_stages="all" to train '
            "the whole network.",
            BackboneWarning,
            stacklevel=3,
        )
    if estimator.weights is None and estimator.freeze_epochs not in ("auto", 0):
        raise InvalidParameterError(
            f"freeze_epochs={estimator.freeze_epochs!r} has no meaning with weights=None: there are no pretrained "
            'features to train the output layer on. Leave freeze_epochs="auto".'
        )
    if estimator.weights is None and estimator.batch_size == 1:
        raise InvalidParameterError(
            "batch_size=1 has no meaning with weights=None: BatchNorm cannot learn statistics from single images. Pass "
            'at least 2, or leave batch_size="auto".'
        )
    if estimator.augmentation is None and estimator.augmentation_views is not None:
        raise InvalidParameterError(
            f"augmentation_views={estimator.augmentation_views!r} has no meaning with augmentation=None: there is one "
            "view of each image. Leave augmentation_views=None, or choose an augmentation."
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
    _check_optimizer_options(estimator)
    if optimizer == "lbfgs":
        for name, unused in _UNUSED_BY_LBFGS.items():
            if getattr(estimator, name) != unused:
                raise InvalidParameterError(
                    f'{name}={getattr(estimator, name)!r} has no meaning with optimizer="lbfgs". Leave '
                    f'{name}={unused!r}, or choose optimizer="adamw".'
                )
