"""Check combinations of training parameters that contradict each other, before any image is read."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from typing import Any

from sktl._short_text import shown_value
from sktl._training.callback_checks import check_callbacks, check_schedulers
from sktl._training.net_params import check_net_params
from sktl._training.optimizers import has_option, option_names, rehearse
from sktl._utils.paths import checked_path
from sktl._utils.warnings import warn
from sktl.exceptions import BackboneWarning, InvalidParameterError

from .auto_parameters import OF_STEPS, optimizers_of

_UNUSED_BY_LBFGS = {"trainable_stages": 0} | OF_STEPS


def check_combinations(estimator: Any) -> None:
    """Raise `InvalidParameterError` if training parameters of an estimator contradict each other."""
    _check_random_weights(estimator)
    _check_augmentation_views(estimator)
    _check_precision(estimator)
    _check_resumable(estimator)
    _check_feature_stages(estimator)
    check_net_params(estimator.net_params)
    _check_callbacks(estimator)
    _check_optimizer_options(estimator)
    _check_unused_by_lbfgs(estimator)


def _check_random_weights(estimator: Any) -> None:
    """Raise `InvalidParameterError` for parameters that need pretrained weights; warn if stages stay random."""
    if estimator.weights is not None:
        return
    if estimator.trainable_stages != "all":
        warn(
            f"weights=None starts the network from random weights, and trainable_stages={estimator.trainable_stages!r} "
            'does not train the stages before these, which is useful only as a control. Pass trainable_stages="all" to '
            "train the whole network.",
            BackboneWarning,
        )
    if estimator.freeze_epochs not in ("auto", 0):
        raise InvalidParameterError(
            f"freeze_epochs={estimator.freeze_epochs!r} has no meaning with weights=None: there are no pretrained "
            'features to train the output layer on. Leave freeze_epochs="auto".'
        )
    if estimator.batch_size == 1:
        raise InvalidParameterError(
            "batch_size=1 has no meaning with weights=None: BatchNorm cannot learn statistics from single images. "
            'Pass at least 2, or leave batch_size="auto".'
        )


def _check_augmentation_views(estimator: Any) -> None:
    """Raise `InvalidParameterError` for views of images that do not change."""
    views = estimator.augmentation_views
    if estimator.augmentation is None and views is not None and estimator.trainable_stages != 0:
        raise InvalidParameterError(
            f"augmentation_views={views!r} has no meaning with augmentation=None: each image has only one view. Leave "
            "augmentation_views=None, or choose an augmentation."
        )


def _check_precision(estimator: Any) -> None:
    """Raise `InvalidParameterError` if stages would be trained on features of reduced precision."""
    if estimator.precision != "float32" and estimator.trainable_stages != 0:
        # Stages would be trained on inputs in bfloat16, and the whole network would be saved and exported in float32.
        raise InvalidParameterError(
            f"precision={estimator.precision!r} is for a network whose stages are all frozen, and "
            f'trainable_stages={estimator.trainable_stages!r}. Leave precision="float32". On a GPU, amp="auto" trains '
            "stages in bfloat16 where that is safe."
        )


def _check_resumable(estimator: Any) -> None:
    """Raise `InvalidParameterError` if a fit with checkpoints cannot be repeated, or its state cannot be saved."""
    if estimator.checkpoint is None:
        return
    folder = Path(checked_path(estimator.checkpoint, "checkpoint", " of a folder, or None"))
    if not next(path for path in (folder, *folder.absolute().parents) if path.exists()).is_dir():
        raise InvalidParameterError(
            f"checkpoint={os.fspath(estimator.checkpoint)!r} is a file, or lies in one. Pass a folder; it is created "
            "if it does not exist."
        )
    if isinstance(estimator.random_state, bool) or not isinstance(estimator.random_state, Integral):
        raise InvalidParameterError(
            f"checkpoint={estimator.checkpoint!r} needs an integer random_state, so that the same call finds its "
            f"state again; it is {shown_value(estimator.random_state)}. Pass an integer, or leave checkpoint=None."
        )
    for name in ("net_params", "augmentation", "optimizer"):
        value = getattr(estimator, name)
        if value and (callable(value) or name == "net_params"):
            raise InvalidParameterError(
                f"checkpoint={estimator.checkpoint!r} cannot keep the state of {name}={shown_value(value)}. Pass a "
                "name or the default, or leave checkpoint=None."
            )


def _check_feature_stages(estimator: Any) -> None:
    """Raise `InvalidParameterError` if a number of feature stages exceeds a number of trained stages."""
    if isinstance(estimator.feature_stages, Integral) and estimator.trainable_stages not in (0, "all"):
        check_within_trained(estimator, int(estimator.feature_stages), int(estimator.trainable_stages))


def _check_callbacks(estimator: Any) -> None:
    """Raise `InvalidParameterError` for callbacks that cannot do their job in this training."""
    check_callbacks(
        estimator.net_params,
        validated=estimator.early_stopping,
        trains_stages=estimator.trainable_stages != 0,
        scheduled=estimator.optimizer != "lbfgs" and estimator.lr_schedule in ("auto", "cosine"),
    )


def _check_optimizer_options(estimator: Any) -> None:
    """Raise `InvalidParameterError` if an optimizer lacks an option or cannot train the parameters."""
    head, stages = optimizers_of(estimator)
    options = {}
    for key, value in (estimator.net_params or {}).items():
        base, _, name = key.partition("__")
        if base != "optimizer":
            continue
        if not (has_option(head, name) or has_option(stages, name)):
            known = (option_names(head) | option_names(stages)) - {"params", "lr", "weight_decay"}
            raise InvalidParameterError(
                f"net_params[{key!r}]: optimizer={estimator.optimizer!r} has no such option. It has "
                f"{', '.join(sorted(known))}."
            )
        options[name] = value
    if estimator.net_params or not isinstance(estimator.optimizer, str):
        optimizers = rehearse(head, None if estimator.trainable_stages == 0 else stages, options)
        check_schedulers(estimator.net_params, optimizers)


def _check_unused_by_lbfgs(estimator: Any) -> None:
    """Raise `InvalidParameterError` for parameters that "lbfgs" would ignore."""
    if estimator.optimizer != "lbfgs":
        return
    for name, unused in _UNUSED_BY_LBFGS.items():
        if getattr(estimator, name) != unused:
            raise InvalidParameterError(
                f'{name}={getattr(estimator, name)!r} has no meaning with optimizer="lbfgs". Leave '
                f'{name}={unused!r}, or choose optimizer="adamw".'
            )


def check_within_trained(estimator: Any, feature_stages: int, n_trainable: int) -> None:
    """Raise `InvalidParameterError` if stages contribute features that are not trained while others are."""
    if feature_stages > n_trainable:
        raise InvalidParameterError(
            f"feature_stages={estimator.feature_stages!r} is more than the trained stages, "
            f"trainable_stages={estimator.trainable_stages!r}: if stages are trained, only these contribute features. "
            f'Pass at most {n_trainable}, or "auto", or train more stages.'
        )
