"""Determine by short training runs whether random changes of the images help when stages are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import log_softmax

from sktl._features.extractor import FeatureExtractor, TailExtractor
from sktl._head.train_head import output_logits
from sktl._images.augmentation import Change
from sktl._targets.folds import deal
from sktl._targets.split import Split
from sktl._targets.targets import Targets
from sktl._training.recipe import TailRecipe
from sktl._training.training_run import Run

from .phases import Images, train_stages

# Only the last stages are trained, on cached activations. This is enough to compare changes, in a fraction of the time.
_STAGES = 2
_VIEWS = 4
_EPOCHS = 6
# One part is held out.
_PARTS = 5
_LEAST_IMAGES = 50
_MOST_IMAGES = 1000


def choose_augmentation(
    extractor: FeatureExtractor,
    training: Images,
    changes: Sequence[Change | None],
    recipe_of: Callable[[Change | None, int], TailRecipe],
    runs: tuple[Run, Run],
    penalties: Sequence[float] = (),
) -> Change | None:
    """Return the change of images with which short training runs of the last stages do best on held-out images.

    At most a thousand images are used. A fifth of them is held out.

    Parameters
    ----------
    extractor : FeatureExtractor
        Extractor of the pretrained features.
    training : Labelled sequence of Sample
    changes : sequence of Change or None
        Candidates. The first one is returned if there are too few images to compare them.
    recipe_of : callable
        Returns the recipe of a training run, given a change and the number of images.
    runs : (Run, Run)
        The runs of both phases of each training run.
    penalties : sequence of float
        As in `train_stages`.
    """
    parts = _parts(training, runs[1].seed)
    if parts is None or not _can_be_cut(extractor):
        return changes[0]
    learned, held_out = parts
    losses = []
    for change in changes:
        recipe = _shortened(recipe_of(change, len(learned.samples)), len(extractor.backbone.stages))
        silent = replace(extractor, verbose=0)
        module = train_stages(silent, Split(learned), recipe, *runs, penalties).net.module_
        features = TailExtractor(replace(silent, n_tail_stages=recipe.n_trainable), module.cut)(held_out.samples)
        losses.append(_loss(output_logits(module.output, features), held_out.targets))
    return changes[int(np.argmin(losses))]


def _can_be_cut(extractor: FeatureExtractor) -> bool:
    backbone = extractor.backbone
    return len(backbone.stages) > 1 and backbone.cut(1).split


def _shortened(recipe: TailRecipe, n_stages: int) -> TailRecipe:
    """Return the recipe of a training run that takes a fraction of the time."""
    return replace(
        recipe,
        n_trainable=min(_STAGES, recipe.n_trainable, n_stages - 1),
        max_epochs=min(_EPOCHS, recipe.max_epochs),
        n_views=None if recipe.augmentation is None else _VIEWS,
        patience=None,
        compile=False,
        verbose=0,
    )


def _parts(images: Images, seed: int) -> tuple[Images, Images] | None:
    """Return the training images and the held-out images; None if there are too few to compare changes."""
    targets = images.targets
    rows = np.flatnonzero(targets.weights > 0)
    if len(rows) > _MOST_IMAGES:
        rows = rows[deal(targets.codes[rows], None, -(-len(rows) // _MOST_IMAGES), seed).of_sample == 0]
    folds = deal(targets.codes[rows], None if targets.groups is None else targets.groups[rows], _PARTS, seed)
    is_held_out = (folds.of_sample == 0) & folds.scored
    classes = np.unique(targets.codes[rows[~is_held_out]])
    if len(rows) < _LEAST_IMAGES or not is_held_out.any() or len(classes) < 2:
        return None
    learned, held_out = (_numbered(images.take(rows[part]), classes) for part in (~is_held_out, is_held_out))
    return learned, held_out


def _numbered(images: Images, classes: np.ndarray) -> Images:
    """Return images with codes renumbered for the classes that occur."""
    targets = images.targets
    codes = np.searchsorted(classes, targets.codes)
    return replace(images, targets=replace(targets, classes=targets.classes[classes], codes=codes))


def _loss(logits: np.ndarray, targets: Targets) -> float:
    """Return the mean log loss."""
    of_each = -log_softmax(logits, axis=1)[np.arange(len(logits)), targets.codes]
    return float(np.average(of_each, weights=targets.weights))
