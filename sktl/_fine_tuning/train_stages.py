"""Train stages in two phases: first the output layer on cached features, then the stages together with it.

Linear probing first prevents the gradients of a random output layer from distorting the pretrained features
(Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from sktl._backbones.cut import Cut
from sktl._features.extractor import FeatureExtractor
from sktl._features.tail_extractor import TailExtractor, tail_features
from sktl._head.head_net import random_layer
from sktl._head.standardization import Standardization
from sktl._head.train_head import train_head
from sktl._images.augmentation import Change, View
from sktl._images.samples import Sample
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.checkpoints import Checkpoint
from sktl._training.json_values import encode
from sktl._training.net_callbacks import History, count_epochs
from sktl._training.optimizers import OptimizerName, has_option
from sktl._training.recipe import Recipe, TailRecipe
from sktl._training.skorch_net import WeightedNet, as_output_layer
from sktl._training.training_run import Run
from sktl._utils.paths import user_path
from sktl._utils.threads import n_threads, single_threaded_pool
from sktl._version import library_versions

from .micro_batches import Workers
from .tail_batches import CycledInputs, ImageInputs, Inputs, StoredInputs
from .tail_net import Start, keeps_start, train_tail

Images: TypeAlias = Labeled[Sequence[Sample]]
# Returns a recipe with the number of feature stages and the penalty that suit features best, and all candidates with
# their losses. The features come from the recipe's number of feature stages, the largest number to choose from.
Choose: TypeAlias = "Callable[[Labeled[np.ndarray], TailRecipe], tuple[TailRecipe, dict[str, np.ndarray]]]"

# Training keeps activations up to this many bytes in memory. More are read from the cache when they are needed.
_IN_MEMORY = 512 << 20


@dataclass(frozen=True)
class _Source:
    """Samples as input of a cut network.

    Parameters
    ----------
    extractor : FeatureExtractor
        Extractor of the pretrained features.
    samples : sequence of Sample
    trunks : tuple of FeatureExtractor
        Extractors of the cached activations, one for each view of the images. Empty if activations are not cached.
    """

    extractor: FeatureExtractor
    samples: Sequence[Sample]
    trunks: tuple[FeatureExtractor, ...]

    @cached_property
    def _activations(self) -> list[np.ndarray]:
        """The activations of each view, if they fit into memory."""
        n_bytes = len(self.samples) * sum(trunk.row_bytes for trunk in self.trunks)
        return [trunk(self.samples) for trunk in self.trunks] if n_bytes <= _IN_MEMORY else []

    def features(self, cut: Cut) -> np.ndarray:
        """Return the pretrained features."""
        if not self.trunks or self.trunks[0].view is not None:
            return self.extractor(self.samples)
        if self._activations:
            return tail_features(cut, self._activations[0], self.extractor.device, self.extractor.n_jobs)
        return TailExtractor(self.trunks[0], cut)(self.samples)

    def inputs(self, recipe: TailRecipe, change: Change | None, seed: int, pool: ThreadPoolExecutor) -> Inputs:
        """Return the inputs of the cut network in training."""
        images = ImageInputs(self.samples, self.extractor.backbone.preprocessing, change, seed, pool, recipe.n_views)
        if not self.trunks:
            return images
        of_views = images.unchanged if self.trunks[0].view is not None else None
        if self._activations:
            return CycledInputs([StoredInputs(rows.__getitem__) for rows in self._activations], of_views)
        # Each fetch is a single task of the pool.
        trunks = [replace(trunk, verbose=0, n_jobs=1) for trunk in self.trunks]
        return CycledInputs([StoredInputs(partial(_fetch, trunk, self.samples), pool) for trunk in trunks], of_views)


def _fetch(trunk: FeatureExtractor, samples: Sequence[Sample], rows: np.ndarray) -> np.ndarray:
    return trunk([samples[row] for row in rows])


def _trunks(trunk: FeatureExtractor, recipe: TailRecipe, run: Run) -> tuple[FeatureExtractor, ...]:
    """Return the extractors of the cached activations of training images."""
    if recipe.augmentation is None:
        return (trunk,)
    n_views = min(recipe.n_views or 0, run.count_epochs(recipe))
    return tuple(replace(trunk, view=View(recipe.augmentation, run.seed, i)) for i in range(n_views))


def open_checkpoint(
    directory: str | os.PathLike[str] | None,
    split: Split[Sequence[Sample]],
    extractor: FeatureExtractor,
    recipe: Recipe,
    seeds: tuple[int, ...],
    candidates: tuple[Any, ...] = (),
) -> Checkpoint | None:
    """Return the checkpoint of a training run, identified by everything that affects its result, or None.

    Parameters
    ----------
    directory : str, os.PathLike or None
        Created if it does not exist.
    split : Split of sequences of Sample
    extractor : FeatureExtractor
        Extractor of the pretrained features.
    recipe : Recipe
    seeds : tuple of int
        Seeds of the training run.
    candidates : tuple
        Values of the recipe among which the training run chooses.
    """
    if directory is None:
        return None
    targets = hashlib.sha256()
    for part in split:
        in_order = np.arange(len(part.targets.outputs))
        targets.update(part.targets.values().tobytes() + part.targets.ranked_weights(in_order).tobytes())
        if part.targets.groups is not None:  # they determine the folds that choose the penalty
            targets.update(np.unique(part.targets.groups, return_inverse=True)[1].tobytes())
    header = {
        "versions": library_versions(),
        "network": extractor.backbone.identity,
        "engine": extractor.fingerprint,
        "device": str(extractor.device),
        "images": [extractor.digest(part.samples) for part in split],
        "labels": encode(split.training.targets.outputs.names(), "a label"),
        "targets": targets.hexdigest(),
        "seeds": list(seeds),
        "recipe": encode(recipe.quiet(), "recipe_"),
        "candidates": encode(candidates, "the candidates"),
    }
    folder = Path(user_path(directory))
    folder.mkdir(parents=True, exist_ok=True)
    return Checkpoint(folder, header)


class Tuned(NamedTuple):
    """The result of training stages.

    Attributes
    ----------
    net : WeightedNet
        As returned by `train_tail`, with the history of both phases.
    recipe : TailRecipe
        With the number of feature stages and the penalty that were chosen.
    selection : dict of arrays
        The candidates among which they were chosen; empty if nothing was chosen.
    """

    net: WeightedNet
    recipe: TailRecipe
    selection: dict[str, np.ndarray]


def train_stages(
    extractor: FeatureExtractor,
    split: Split[Sequence[Sample]],
    recipe: TailRecipe,
    probing: Run,
    tuning: Run,
    choose: Choose,
) -> Tuned:
    """Train an output layer, then the last stages of a backbone together with it.

    Parameters
    ----------
    extractor : FeatureExtractor
        Extractor of the pretrained features.
    split : Split of sequences of Sample
    recipe : TailRecipe
    probing, tuning : Run
        The runs of the first and of the second phase.
    choose : callable
        Chooses the number of feature stages and the penalty of the output layer.
    """
    extractor = replace(extractor, feature_stages=recipe.feature_stages)
    cut = extractor.backbone.cut(recipe.n_trainable, recipe.feature_stages)
    trunk = replace(extractor, n_tail_stages=recipe.n_trainable)
    trunks, of_validation = (_trunks(trunk, recipe, tuning), (trunk,)) if cut.split else ((), ())
    sources = split.map(
        lambda some: _Source(extractor, some, trunks), lambda some: _Source(extractor, some, of_validation)
    )
    most = recipe.feature_stages
    start, recipe, selection = _start(sources, cut, recipe, probing, choose)
    if recipe.feature_stages < most:
        cut = extractor.backbone.cut(recipe.n_trainable, recipe.feature_stages)
    with single_threaded_pool(n_threads(extractor.n_jobs)) as pool:
        inputs = sources.map(
            lambda source: source.inputs(recipe, recipe.augmentation, tuning.seed, pool),
            lambda source: source.inputs(recipe, None, tuning.seed, pool),
        )
        workers = Workers(pool, extractor.device)
        net = train_tail(cut, extractor.backbone.preprocessing, start, inputs, recipe, tuning, workers)
    if recipe.alone is not None and keeps_start(net.history, tuning):
        recipe = replace(recipe, weight_decay=recipe.alone.weight_decay)
    net.history = _joined(start.history, net.history)
    return Tuned(net, recipe, selection)


def _start(
    sources: Split[_Source], cut: Cut, recipe: TailRecipe, run: Run, choose: Choose
) -> tuple[Start, TailRecipe, dict[str, np.ndarray]]:
    """Train the output layer on the pretrained features, as specified by the recipe."""
    targets = sources.training.targets
    n_outputs = len(targets.outputs)
    if not recipe.keeps_statistics:  # features of random weights will change completely
        n_features = sources.training.samples.extractor.n_features
        layer = random_layer(n_features, n_outputs, run.seed)
        return Start(layer, Standardization.identity(n_features), History()), recipe, {}
    features = sources.map(lambda source: source.features(cut))
    recipe, selection = choose(features.training, recipe)
    groups = sources.training.samples.extractor.layout.groups_of(recipe.feature_stages)
    sizes = [size for _, size in groups]
    features = features.map(lambda some: np.ascontiguousarray(some[:, : sum(sizes)]))
    rows = features.training.samples
    standardization = Standardization.of(rows, targets.weights, recipe.shrinkage, sizes)
    if recipe.probing is None:
        layer = random_layer(rows.shape[1], n_outputs, run.seed)
        with torch.no_grad():
            layer = as_output_layer(*standardization.fold(layer.weight, layer.bias))
        return Start(layer, standardization, History()), recipe, selection
    run = replace(run, net_params=_known(run.net_params, recipe.probing.optimizer))
    n_workers = n_threads(sources.training.samples.extractor.n_jobs)
    # Trained for all epochs: the converged layer is more accurate than the layer with the lowest validation loss.
    net = train_head(features, recipe.probing, run, sizes, n_workers)
    alone = None
    if recipe.alone is not None:
        alone = train_head(features, recipe.alone, _without_callbacks(run), sizes, n_workers).module_.output
    return Start(net.module_.output, standardization, net.history, alone), recipe, selection


def _without_callbacks(run: Run) -> Run:
    """Return a run without the user's callbacks, which expect two phases."""
    others = {key: value for key, value in (run.net_params or {}).items() if not key.startswith("callbacks")}
    return replace(run, net_params=others, on=f", without stages{run.on}")


def _known(net_params: Mapping[str, Any] | None, optimizer: OptimizerName) -> dict[str, Any]:
    """Return the arguments of a net without options that an optimizer does not accept."""
    return {
        key: value
        for key, value in (net_params or {}).items()
        if not key.startswith("optimizer__") or has_option(optimizer, key.removeprefix("optimizer__"))
    }


def _joined(probing: History, tuning: History) -> History:
    """Return one history of both phases, with the phase of each row, and with consecutive epoch numbers."""
    before = count_epochs(probing)
    rows = [row | {"phase": "output layer"} for row in probing]
    return History(rows + [row | {"phase": "stages", "epoch": before + row["epoch"]} for row in tuning])
