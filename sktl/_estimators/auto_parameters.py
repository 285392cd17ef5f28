"""Resolve the `"auto"` values of training parameters: recipes for the output layer and for stages."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from sktl._backbones.taps import StageLayout
from sktl._head.penalty_selection import PENALTIES, Conditions, cross_validate, joined, refine
from sktl._images.augmentation import Change, resolve_augmentation
from sktl._short_text import first_shown
from sktl._targets.base_targets import Targets
from sktl._targets.labeled_samples import Labeled
from sktl._training.json_values import plain
from sktl._training.learning_rates import evenness, stable_lr
from sktl._training.losses import LOSSES, SquaredLoss
from sktl._training.optimizers import OptimizerName
from sktl._training.recipe import SHRINKAGE, Recipe, TailRecipe
from sktl._utils.devices import computes_in_bfloat16
from sktl._utils.warnings import warn
from sktl.exceptions import InputWarning

# Chosen by cross-validation: docs/defaults.md has the tables.
_HEAD: dict[str, dict[str, Any]] = {
    "sgd": {"max_epochs": 50, "lr": 0.03, "weight_decay": 0.03, "lr_schedule": "cosine"},
    "adamw": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 1.0, "lr_schedule": "cosine"},
    "lbfgs": {"max_epochs": 500, "lr": None, "weight_decay": 0.03, "lr_schedule": None},
    "class": {"max_epochs": 50, "lr": 1e-3, "weight_decay": 0.03, "lr_schedule": "cosine"},
}
# Most of the gain of all stages is that of two. If stages are trained, more were not tried.
_FEW_STAGES = 2
# Weaker penalties allow large weights, which feel every change of the features: docs/defaults.md, "Fine-tuning".
_STAGE_PENALTIES = (1.0, 0.3, 0.1, 0.03)
# Trained stages adapt the features of the output. Features of more stages must therefore lower the loss by more.
_LEAST_GAIN_OF_STAGES = 0.1
# For stages with pretrained weights, by optimizer, and for stages with random weights.
_STAGES: dict[str, dict[str, Any]] = {
    "auto": {"max_epochs": 12, "backbone_lr_ratio": 1 / 75, "layer_decay": 0.8, "augmentation": "trivial"},
    "sgd": {"max_epochs": 12, "backbone_lr_ratio": 1 / 30, "layer_decay": 1.0, "augmentation": "trivial"},
    "adamw": {"max_epochs": 12, "backbone_lr_ratio": 0.5, "layer_decay": 1.0, "augmentation": "trivial"},
    "class": {"max_epochs": 12, "backbone_lr_ratio": 0.1, "layer_decay": 1.0, "augmentation": "trivial"},
    "random": {"max_epochs": 40, "backbone_lr_ratio": 1.0, "layer_decay": 1.0, "augmentation": "light"},
}
# Gradients of unchanged images become small, and AdamW would turn their noise into steps of full length.
_WITHOUT_AUGMENTATION = 1 / 4
# Stages are trained in small batches, whose gradients are noisy for the output layer.
_HEAD_LR_RATIO = 0.1
# Share of the trained weights in the result; docs/defaults.md compares shares.
_INTERPOLATION = 0.75
# Rates rise slowly, so that the stages build on the output layer of the first phase instead of undoing it.
_WARMUP = 0.3
_PATIENCE = 5
# What is recognized with a loss; numbers are not.
_LEARNED = {"cross_entropy": "classes", "binary_cross_entropy": "labels"}
# The output layer alone takes at most this many steps per epoch, unless batches would be smaller than the least.
_STEPS_PER_EPOCH = 20
_LEAST_BATCH = 16
_STAGES_BATCH = 16
# `lr` was chosen for this number of features. With more features, the loss curves more and steps must be shorter.
_FEATURES_OF_LR = 1280
# With fewer images, the output layer fits all of them, and the gradients of the stages are mostly noise.
_ENOUGH_IMAGES = 200
# Parameters of optimizers that train in steps, with the values that mean "not set".
OF_STEPS = {"lr": "auto", "lr_schedule": "auto", "batch_size": "auto", "dropout": 0.0, "early_stopping": False}
# Parameters that a regressor does not have, with the values that mean "not used".
_ABSENT = {"label_smoothing": 0.0}


class TrainingSet(NamedTuple):
    """What recipes depend on: the number of samples, the name of their loss, and how even their weights are."""

    n_samples: int
    loss: str = "cross_entropy"
    evenness: float = 1.0

    @classmethod
    def of(cls, targets: Targets) -> TrainingSet:
        """Return the description of samples with these targets."""
        return cls(len(targets), targets.loss, evenness(targets.weights))


def resolve_recipe(
    predictor: Any,
    n_trainable: int,
    training: TrainingSet,
    n_features: int,
    device: torch.device,
    chosen: Chosen | None = None,
    augmentation: Change | None = None,
) -> Recipe:
    """Return the recipe that the checked parameters of an estimator describe.

    Parameters
    ----------
    predictor : PretrainedImagePredictor
    n_trainable : int
        Number of stages to train.
    training : TrainingSet
    n_features : int
        Number of features of the output layer.
    device : torch.device
    chosen : Chosen or None
        The choice of cross-validation.
    augmentation : Change or None
        Random change of the images that stages are trained on.
    """
    estimator = _plain_parameters(predictor)
    head = _head_recipe(estimator, training, n_features, chosen)
    if n_trainable:
        return _tail_recipe(estimator, head, n_trainable, training, n_features, device, augmentation)
    return _alone(estimator, head, training, n_features)


def _plain_parameters(predictor: Any) -> SimpleNamespace:
    """Return the parameters of an estimator as Python's own numbers, with neutral values for those it does not have."""
    return SimpleNamespace(**_ABSENT | {name: plain(value) for name, value in vars(predictor).items()})


class Chosen(NamedTuple):
    """The features, the penalty and the temperature of the output layer, and the table of the candidates, if any.

    `penalty_alone` is the penalty of the output layer that early stopping returns instead of trained stages; None if it
    is the same.
    """

    n_stages: int
    penalty: float
    selection: dict[str, np.ndarray]
    penalty_alone: float | None = None
    temperature: float = 1.0


class Candidates(NamedTuple):
    """The numbers of feature stages and the penalties that cross-validation compares."""

    stages: tuple[int, ...]
    penalties: tuple[float, ...]


def choose(
    predictor: Any,
    features: Labeled[np.ndarray],
    layout: StageLayout,
    seed: int,
    n_workers: int,
    n_trainable: int = 0,
    in_full: bool = True,
) -> Chosen:
    """Choose the features, the penalty and the temperature of the output layer.

    Parameters
    ----------
    predictor : PretrainedImagePredictor
        With checked parameters.
    features : Labeled float32 array of shape (n_samples, n_features)
        Features of the largest number of stages among the candidates.
    layout : StageLayout
    seed : int
        Seed of the folds.
    n_workers : int
        Threads; results do not depend on it.
    n_trainable : int
        See `candidates_of`.
    in_full : bool
        Whether more images refine the penalty if there are many, and a temperature is chosen if there are few. A
        temperature is never chosen if stages are trained, or if the output layer is trained in steps.
    """
    estimator, loss = _plain_parameters(predictor), features.targets.loss
    stages, penalties = candidates_of(predictor, layout, loss, n_trainable)
    if len(stages) * len(penalties) == 1:
        return Chosen(stages[0], penalties[0], {})
    sizes = {n: [size for _, size in layout.groups_of(n)] for n in stages}
    divides = in_full and len(penalties) > 1 and not n_trainable and LOSSES[loss].smooths
    divides = divides and optimizers_of(estimator)[0] == "lbfgs"
    conditions = Conditions(SHRINKAGE, estimator.label_smoothing, seed, n_workers, divides)
    found = cross_validate(features, sizes, penalties, conditions)
    if n_trainable:
        best = found.best(_STAGE_PENALTIES if len(penalties) > 1 else None, _LEAST_GAIN_OF_STAGES)
    else:
        best = found.best()
    if best is None:  # no class has two images, or images of two groups
        penalty = penalties[0] if len(penalties) == 1 else _HEAD["sgd"]["weight_decay"]
        default = Chosen(stages[0], penalty, found.table())
        _warn_about_groups(features.targets, Candidates(stages, penalties), default)
        return default
    n_stages, penalty = int(found.feature_stages[best]), float(found.penalties[best])
    if n_trainable:
        alone = float(found.penalties[found.lowest(n_stages)])
        return Chosen(n_stages, penalty, found.table(), alone if alone != penalty else None)
    weaker = penalties[penalties.index(penalty) :]
    refined = refine(features, {n_stages: sizes[n_stages]}, weaker, conditions) if in_full else None
    if refined is None:
        return Chosen(n_stages, penalty, found.table(), temperature=float(found.temperatures[best]))
    penalty = float(refined.penalties[refined.lowest(n_stages)])
    return Chosen(n_stages, penalty, joined(found.table(), refined.table(is_refined=True)))


def _warn_about_groups(targets: Targets, compared: Candidates, default: Chosen) -> None:
    """Warn if no candidate could be scored because the images of a group are held out together."""
    if targets.groups is None:
        return
    learned, (n_columns, confined) = _LEARNED.get(targets.loss), _of_one_group(targets)
    if len(np.unique(targets.groups[targets.weights > 0])) == 1:
        reason, remedy = "All training images are of one group", "Pass images of several groups, or fit without groups."
    elif confined and learned is not None:
        reason = f"All training images of {first_shown(confined)} are of one group"
        if len(confined) == n_columns:
            reason = f"None of the {learned} has training images of several groups"
        remedy = (
            f"The model may recognize the groups instead of the {learned}. Add images of the same {learned} from other "
            "groups."
        )
    else:
        return
    values = {
        "feature_stages": (compared.stages, default.n_stages),
        "weight_decay": (compared.penalties, default.penalty),
    }
    used = [f"{name}={value:g}" for name, (candidates, value) in values.items() if len(candidates) > 1]
    warn(
        f"{reason}, so cross-validation within fit cannot hold out groups, and {' and '.join(used)} "
        f"{'is' if len(used) == 1 else 'are'} used. {remedy}",
        InputWarning,
    )


def _of_one_group(targets: Targets) -> tuple[int, list[Any]]:
    """Return the number of classes, or of labels that are not constant, and those whose images are of one group.

    A single image could not be held out without groups either.
    """
    has, groups = targets.memberships()[targets.weights > 0] > 0, targets.groups[targets.weights > 0]  # type: ignore[index]
    varies = has.any(axis=0) & ~has.all(axis=0)
    names = [
        name
        for column, name in zip(has.T[varies], np.array(targets.outputs.names(), dtype=object)[varies], strict=True)
        if column.sum() > 1 and len(np.unique(groups[column])) == 1
    ]
    return int(varies.sum()), names


def candidates_of(predictor: Any, layout: StageLayout, loss: str, n_trainable: int) -> Candidates:
    """Return what cross-validation compares.

    AdamW decays weights by itself and has no penalty: only the number of stages is chosen for it.

    Parameters
    ----------
    predictor : PretrainedImagePredictor
    layout : StageLayout
    loss : str
        Name of the loss.
    n_trainable : int
        Number of stages that will be trained. Only trained stages contribute features then.
    """
    estimator = _plain_parameters(predictor)
    is_open = estimator.feature_stages == "auto"
    most = layout.count(estimator.feature_stages)
    if n_trainable:
        limit = min(n_trainable, _FEW_STAGES) if is_open else n_trainable
        most = 1 if is_open and estimator.weights is None else min(most, limit)
    stages: tuple[int, ...] = (most,)
    if is_open:  # the last stage of a few networks has no blocks, so that two stages have the features of one
        stages = tuple(sorted({layout.length(n): n for n in (most, min(_FEW_STAGES, most), 1)}.values()))
    penalties = PENALTIES[loss]
    if n_trainable:
        # Early stopping compares the stages with an output layer alone, whose penalty may be weaker.
        compares = estimator.early_stopping and _probes_to_optimum(estimator)
        weaker = tuple(penalty for penalty in penalties if compares and penalty < min(_STAGE_PENALTIES))
        penalties = _STAGE_PENALTIES + weaker
    if _kind(optimizers_of(estimator)[0]) == "adamw":
        return Candidates(stages, penalties if len(stages) > 1 else (math.nan,))
    if n_trainable and not _probes_to_optimum(estimator):
        penalties = (_HEAD["sgd"]["weight_decay"],)
    return Candidates(stages, penalties if estimator.weight_decay == "auto" else (float(estimator.weight_decay),))


def _head_recipe(estimator: Any, training: TrainingSet, n_features: int, chosen: Chosen | None) -> Recipe:
    """Return the recipe of the output layer alone."""
    optimizer, _ = optimizers_of(estimator)
    defaults = _HEAD[_kind(optimizer)]
    chosen = chosen or Chosen(1, defaults["weight_decay"], {})
    penalty = chosen.penalty
    if _kind(optimizer) == "adamw":
        penalty = defaults["weight_decay"]
    lr = defaults["lr"] if optimizer == "lbfgs" else defaults["lr"] * min(1.0, _FEATURES_OF_LR / n_features)
    return Recipe(
        optimizer=optimizer,
        lr=_value(estimator, "lr", lr),
        weight_decay=_value(estimator, "weight_decay", penalty),
        max_epochs=_value(estimator, "max_epochs", defaults["max_epochs"]),
        batch_size=_value(estimator, "batch_size", _head_batch_size(optimizer, training.n_samples)),
        lr_schedule=_value(estimator, "lr_schedule", defaults["lr_schedule"]),
        label_smoothing=estimator.label_smoothing,
        dropout=estimator.dropout,
        verbose=int(estimator.verbose),
        patience=_patience(estimator, defaults["lr_schedule"]) if estimator.early_stopping else None,
        feature_stages=chosen.n_stages,
        loss=training.loss,
        temperature=chosen.temperature,
    )


def _may_diverge(estimator: Any, recipe: Recipe) -> bool:
    """Return True if numbers are learned at the default learning rate for classes, whose gradients are bounded.

    So are the steps of other optimizers. Random stages are trained on features that are not standardized.
    """
    from_scratch = estimator.weights is None and estimator.trainable_stages != 0
    of_numbers = issubclass(LOSSES[recipe.loss], SquaredLoss)
    return of_numbers and recipe.optimizer == "sgd" and estimator.lr == "auto" and not from_scratch


def _alone(estimator: Any, recipe: Recipe, training: TrainingSet, n_features: int) -> Recipe:
    """Return the recipe of an output layer that is trained alone."""
    if not _may_diverge(estimator, recipe):
        return recipe
    return replace(recipe, lr=_lr_of_numbers(recipe, training, n_features))


def _lr_of_numbers(recipe: Recipe, training: TrainingSet, n_features: int) -> float:
    """Return the default learning rate of an output layer for numbers."""
    assert recipe.batch_size is not None
    takes_all = recipe.batch_size >= training.n_samples
    batch = math.inf if takes_all else recipe.batch_size * training.evenness
    return stable_lr(n_features, recipe.l2, recipe.dropout, batch=batch)


def _patience(estimator: Any, lr_schedule: str | None) -> int | None:
    """Return the number of epochs without improvement after which early stopping stops; None never stops.

    With a cosine schedule, the loss falls most at the end, as steps become small; earlier epochs do not predict it.
    """
    schedule = _value(estimator, "lr_schedule", lr_schedule)
    return _value(estimator, "n_iter_no_change", None if schedule == "cosine" else _PATIENCE)


def _tail_recipe(
    estimator: Any,
    head: Recipe,
    n_trainable: int,
    training: TrainingSet,
    n_features: int,
    device: torch.device,
    augmentation: Change | None,
) -> TailRecipe:
    """Return the recipe of the stages; `head` contains the values that they share with the output layer."""
    _, stage_optimizer = optimizers_of(estimator)
    pretrained = estimator.weights is not None
    defaults = _stage_defaults(estimator, training.n_samples, augmentation)
    own = {name: _value(estimator, name, defaults[name]) for name in ("max_epochs", "backbone_lr_ratio", "layer_decay")}
    own["batch_size"] = _value(estimator, "batch_size", _STAGES_BATCH)
    return TailRecipe(
        **vars(head) | own,
        n_trainable=n_trainable,
        probing=_probing(estimator, head, training, n_features),
        stage_optimizer=stage_optimizer,
        head_lr_ratio=_head_lr_ratio(estimator, head, training, n_features),
        augmentation=augmentation,
        n_views=estimator.augmentation_views,
        mixup_alpha=estimator.mixup_alpha,
        warmup=_WARMUP if pretrained else 0.1,
        interpolation=_INTERPOLATION if pretrained else 1.0,
        keeps_statistics=pretrained,
        amp=estimator.amp == "auto" and device.type != "cpu" and computes_in_bfloat16(device),
        compile=estimator.compile,
    )


def _head_lr_ratio(estimator: Any, head: Recipe, training: TrainingSet, n_features: int) -> float:
    """Return the learning rate of the output layer while stages are trained, as a fraction of `lr`."""
    if estimator.weights is not None and estimator.optimizer == "auto":
        return _HEAD_LR_RATIO
    if not _may_diverge(estimator, head):
        return 1.0
    assert head.lr is not None
    with_stages = replace(head, batch_size=_value(estimator, "batch_size", _STAGES_BATCH))
    return _lr_of_numbers(with_stages, training, n_features) / head.lr


def _stage_defaults(estimator: Any, n_samples: int, augmentation: Change | None) -> dict[str, Any]:
    """Return the `"auto"` values for the training of stages."""
    defaults = _STAGES[_stage_kind(estimator)]
    if estimator.weights is None:
        return defaults
    ratio = defaults["backbone_lr_ratio"] * min(1.0, n_samples / _ENOUGH_IMAGES)
    if augmentation is None and estimator.optimizer == "auto":
        ratio *= _WITHOUT_AUGMENTATION
    return defaults | {"backbone_lr_ratio": ratio}


def with_choice(
    predictor: Any, recipe: TailRecipe, chosen: Chosen, training: TrainingSet, layout: StageLayout
) -> TailRecipe:
    """Return the recipe of the stages with the choice of cross-validation.

    More features lower `lr`, but not the rates of the stages.
    """
    estimator, n_features = _plain_parameters(predictor), layout.length(chosen.n_stages)
    own, head = (_head_recipe(estimator, training, length, chosen) for length in (layout.length(1), n_features))
    assert own.lr is not None
    assert head.lr is not None
    factor = own.lr / head.lr if estimator.backbone_lr_ratio == "auto" else 1.0
    return replace(
        recipe,
        lr=head.lr,
        head_lr_ratio=_head_lr_ratio(estimator, head, training, n_features),
        backbone_lr_ratio=recipe.backbone_lr_ratio * factor,
        weight_decay=head.weight_decay,
        feature_stages=head.feature_stages,
        probing=_probing(estimator, head, training, n_features),
        alone=_without_stages(estimator, head, chosen, training, n_features),
    )


def _without_stages(
    estimator: Any, head: Recipe, chosen: Chosen, training: TrainingSet, n_features: int
) -> Recipe | None:
    """Return the recipe of the output layer that early stopping compares the stages with, if it is not their start."""
    if chosen.penalty_alone is None or not _probes_to_optimum(estimator):
        return None
    return _probing(estimator, replace(head, weight_decay=chosen.penalty_alone), training, n_features)


def _stage_kind(estimator: Any) -> str:
    """Return the key in `_STAGES` for an estimator."""
    if estimator.weights is None:
        return "random"
    optimizer, stage_optimizer = optimizers_of(estimator)
    return "auto" if stage_optimizer != optimizer else _kind(optimizer)


def augmentations(predictor: Any) -> list[Change | None]:
    """Return the augmentations that a trial compares; the first is the default without a trial."""
    estimator = _plain_parameters(predictor)
    change = resolve_augmentation(_value(estimator, "augmentation", _STAGES[_stage_kind(estimator)]["augmentation"]))
    is_open = estimator.augmentation == "auto" and estimator.augmentation_views is None
    return [change, None] if is_open and estimator.weights is not None else [change]


def _probing(estimator: Any, head: Recipe, training: TrainingSet, n_features: int) -> Recipe | None:
    """Return the recipe of the output layer before stages are trained; its batch size is not that of the stages."""
    if _probes_to_optimum(estimator):
        optimizer: OptimizerName = "lbfgs"
        own = {"lr": None, "lr_schedule": None, "max_epochs": _HEAD["lbfgs"]["max_epochs"]}
    else:
        optimizer, pretrained = head.optimizer, estimator.weights is not None
        own = {"max_epochs": _value(estimator, "freeze_epochs", _HEAD[_kind(optimizer)]["max_epochs"] * pretrained)}
    own |= {"optimizer": optimizer, "batch_size": _head_batch_size(optimizer, training.n_samples)}
    probing = _alone(estimator, replace(head, **own, patience=None, keeps_best=False), training, n_features)
    return probing if own["max_epochs"] else None


def _probes_to_optimum(estimator: Any) -> bool:
    """Return True if "lbfgs" trains the output layer before stages are trained."""
    by_default = estimator.optimizer == "auto" and estimator.freeze_epochs == "auto" and not _has_options(estimator)
    return by_default and estimator.weights is not None and not estimator.dropout


def _has_options(estimator: Any) -> bool:
    """Return True if the user set options of an optimizer."""
    return any(key.startswith("optimizer__") for key in estimator.net_params or {})


def _head_batch_size(optimizer: OptimizerName, n_samples: int) -> int | None:
    return None if optimizer == "lbfgs" else max(_LEAST_BATCH, math.ceil(n_samples / _STEPS_PER_EPOCH))


def _kind(optimizer: OptimizerName) -> str:
    """Return the key in `_HEAD` and `_STAGES` for an optimizer."""
    if isinstance(optimizer, str):
        return optimizer
    return "adamw" if issubclass(optimizer, torch.optim.AdamW) else "class"


def _value(estimator: Any, name: str, auto: Any) -> Any:
    """Return a parameter of an estimator, with `"auto"` replaced."""
    given = getattr(estimator, name)
    return auto if isinstance(given, str) and given == "auto" else given


def optimizers_of(estimator: Any) -> tuple[OptimizerName, OptimizerName]:
    """Return the optimizers of the output layer and of the stages."""
    if not isinstance(estimator.optimizer, str) or estimator.optimizer != "auto":
        return estimator.optimizer, estimator.optimizer
    if estimator.trainable_stages == 0:
        in_steps = any(
            getattr(estimator, name) != unset for name, unset in (OF_STEPS | {"max_epochs": "auto"}).items()
        ) or _has_options(estimator)
        return ("sgd", "sgd") if in_steps else ("lbfgs", "lbfgs")
    return "sgd", "sgd" if estimator.weights is None else "adamw"
