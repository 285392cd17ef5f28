"""Determine by short training runs whether random changes of the images help when stages are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from sktl._features.extractor import FeatureExtractor
from sktl._features.tail_extractor import TailExtractor
from sktl._head.penalty_selection import excess
from sktl._head.train_head import output_values
from sktl._images.augmentation import Change
from sktl._targets.base_targets import Targets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.losses import make_loss
from sktl._training.recipe import TailRecipe
from sktl._training.training_run import Run

from .train_stages import Choose, Images, train_stages

# Only the last stages are trained, on cached activations. This is enough to compare changes, in a fraction of the time.
_STAGES = 2
_VIEWS = 4
_EPOCHS = 6
# One part is held out.
_PARTS = 5
_LEAST_IMAGES = 50
_MOST_IMAGES = 1000
# Another change must lower the loss by more than this fraction of the standard error of the difference.
_LEAST_ERRORS = 1.0


def choose_augmentation(
    extractor: FeatureExtractor,
    training: Images,
    changes: Sequence[Change | None],
    recipe_of: Callable[[Change | None, Targets], TailRecipe],
    runs: tuple[Run, Run],
    choose: Choose,
) -> Change | None:
    """Return the change of images with which short training runs of the last stages do best on held-out images.

    At most a thousand images are used. A fifth of them is held out. The first change is returned unless another is
    clearly better: short runs gain less from changes of images than long ones.

    Parameters
    ----------
    extractor : FeatureExtractor
        Extractor of the pretrained features.
    training : Labeled sequence of Sample
    changes : sequence of Change or None
        Candidates. The first one is also returned if there are too few images to compare them.
    recipe_of : callable
        Returns the recipe of a training run, given a change and the targets of the images.
    runs : (Run, Run)
        The runs of both phases of each training run.
    choose : callable
        As in `train_stages`.
    """
    parts = _parts(training, runs[1].seed)
    if parts is None or not _can_be_cut(extractor):
        return changes[0]
    learned, held_out = parts
    losses = []
    runs = runs[0], replace(runs[1], title="trial of augmentation")
    for change in changes:
        recipe = _shortened(recipe_of(change, learned.targets), len(extractor.backbone.stages))
        silent = replace(extractor, verbose=0)
        module = train_stages(silent, Split(learned), recipe, *runs, choose).net.module_
        features = TailExtractor(replace(silent, n_tail_stages=recipe.n_trainable), module.cut)(held_out.samples)
        losses.append(_losses(output_values(module.output, features), held_out.targets))
    return changes[_best(losses, _weights(held_out.targets))]


def _can_be_cut(extractor: FeatureExtractor) -> bool:
    backbone = extractor.backbone
    return len(backbone.stages) > 1 and backbone.cut(1).split


def _shortened(recipe: TailRecipe, n_stages: int) -> TailRecipe:
    """Return the recipe of a training run that takes a fraction of the time."""
    n_trainable = min(_STAGES, recipe.n_trainable, n_stages - 1)
    return replace(
        recipe,
        n_trainable=n_trainable,
        feature_stages=min(recipe.feature_stages, n_trainable),
        max_epochs=min(_EPOCHS, recipe.max_epochs),
        n_views=None if recipe.augmentation is None else _VIEWS,
        patience=None,
        compile=False,
        verbose=min(1, recipe.verbose),
    )


def _parts(images: Images, seed: int) -> tuple[Images, Images] | None:
    """Return the training images and the held-out images; None if there are too few to compare changes."""
    targets = images.targets
    rows = targets.thinned(np.flatnonzero(targets.weights > 0), _MOST_IMAGES, seed)
    folds = targets.take(rows).deal(_PARTS, seed)
    # Folds of large groups may be much larger than a fifth.
    fold = np.abs(np.bincount(folds.of_sample) - len(rows) / _PARTS).argmin()
    is_held_out = (folds.of_sample == fold) & folds.scored
    if len(rows) < _LEAST_IMAGES or not is_held_out.any():
        return None
    parts = rows[~is_held_out], rows[is_held_out]
    learned, held_out = (Labeled(images.take(part).samples, targets.restricted(part, parts[0])) for part in parts)
    return None if learned.targets.is_trivial else (learned, held_out)


def _best(losses: Sequence[np.ndarray], weights: np.ndarray) -> int:
    """Return the position of the candidate with the lowest loss, or 0 if its lead over the first may be chance."""
    means = [float(weights @ of_each) for of_each in losses]
    best = int(np.argmin(means))
    by, error = excess(losses[0], losses[best], weights)
    return best if by > _LEAST_ERRORS * error else 0


def _losses(outputs: np.ndarray, targets: Targets) -> np.ndarray:
    """Return the loss of each image, without label smoothing."""
    in_order = np.arange(len(targets.outputs))
    values, weights = torch.from_numpy(targets.ranked_values(in_order)), targets.ranked_weights(in_order)
    of_outputs = make_loss(targets.loss, 0.0)(torch.from_numpy(outputs), values).numpy() * weights
    return of_outputs.reshape(len(weights), -1).sum(axis=1) / _weights(targets)


def _weights(targets: Targets) -> np.ndarray:
    """Return the weight of each image in the loss."""
    return targets.ranked_weights(np.arange(len(targets.outputs))).reshape(len(targets), -1).sum(axis=1)
