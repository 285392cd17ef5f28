"""Train the output layer on features.

Features are standardized with the weights of the samples, with variances shrunk toward the mean variance of their
block. The layer is trained on the result. The affine map is then folded into the layer, so that the layer applies to
the backbone's raw features. For L-BFGS, features are also rotated, and the layer is rotated back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from sktl._features.features_as_input import IN_MEMORY
from sktl._targets.labeled_samples import Split
from sktl._training.lbfgs import LimitedMemoryBFGS
from sktl._training.losses import LOSSES
from sktl._training.net_callbacks import count_epochs
from sktl._training.recipe import Recipe
from sktl._training.skorch_net import OutputLayer, WeightedNet, restored
from sktl._training.training_run import Run
from sktl._utils.threads import single_threaded
from sktl._utils.warnings import warn

from .feature_batches import HeadBatches, HeadDataset, RotatedFeatures, StandardizedFeatures
from .feature_stream import StreamedFeatures, StreamedHeadNet
from .head_net import Head, HeadNet
from .lbfgs_rotation import Rotation, rotation
from .standardization import Standardization, row_blocks

# With more numbers than this, "lbfgs" computes in float32, in half the time. It stops earlier, which changes
# probabilities by a few hundredths at most.
_MOST_IN_FLOAT64 = 2**19
_TOLERANCE_IN_FLOAT32 = 3e-5


def train_head(
    split: Split[np.ndarray], recipe: Recipe, run: Run, block_sizes: Sequence[int], n_threads: int = 1
) -> WeightedNet:
    """Train an output layer.

    Parameters
    ----------
    split : Split of float32 arrays of shape (n_samples, n_features)
        Features, with each class at least once in training. If the recipe returns the best epoch, this is the epoch
        with the lowest loss on the validation features; the start counts as epoch 0. Otherwise, the validation loss is
        only recorded.
    recipe : Recipe
    run : Run
        Its seed determines the initial layer, the order of the samples and dropout. "lbfgs" saves no checkpoint.
    block_sizes : sequence of int
        Sizes of the blocks of features.
    n_threads : int
        Threads that pass over features that do not fit into memory. Results do not depend on it.

    Returns
    -------
    net : WeightedNet
        `net.module_.output` maps features to one value per output. With "lbfgs", epochs are iterations.

    Raises
    ------
    TrainingError
        If the loss becomes NaN or infinite.
    """
    features, targets = split.training.samples, split.training.targets
    rank = targets.rank
    with single_threaded():
        prepared = _prepare(split, recipe, block_sizes, rank)
        by_lbfgs = recipe.optimizer == "lbfgs"
        run = replace(run, checkpoint=None) if by_lbfgs else run
        net = _make_net(prepared, len(rank), recipe, run)
        if isinstance(net, StreamedHeadNet):
            net.n_threads = n_threads
        run.train(net, prepared.dataset, targets.outputs, rank)
        if by_lbfgs:
            _warn_unless_converged(net)
        net.forget()
        layer, columns, rotation = net.module_.output, torch.from_numpy(rank), prepared.rotation
        if rotation is not None:
            layer.weight.grad, layer.in_features = None, features.shape[1]
            layer.weight.data = rotation.back(layer.weight.data, features)
        layer.to(torch.float64)
        folded = prepared.standardization.fold(layer.weight.data[columns], layer.bias.data[columns])
        layer.weight.data, layer.bias.data = (part / recipe.temperature for part in folded)
    return net


class _Prepared(NamedTuple):
    """Training and validation data, and the transformations by which both were computed from features."""

    dataset: HeadDataset | StreamedFeatures
    held_out: HeadDataset | StreamedFeatures | None
    standardization: Standardization
    rotation: Rotation | None = None


def _prepare(split: Split[np.ndarray], recipe: Recipe, block_sizes: Sequence[int], rank: np.ndarray) -> _Prepared:
    """Transform the features for training: rotated for L-BFGS, otherwise standardized."""
    features, weights = split.training.samples, split.training.targets.weights
    if features.nbytes > IN_MEMORY:
        return _prepare_stream(split, recipe, block_sizes, rank)
    if recipe.optimizer != "lbfgs":
        scale = Standardization.of(features, weights, recipe.shrinkage, block_sizes)
        standardized = [StandardizedFeatures(part, rank, scale) for part in split.weighted()]
        return _Prepared(standardized[0], standardized[1] if split.validation else None, scale)
    dtype = torch.float32 if features.size > _MOST_IN_FLOAT64 else torch.float64
    turned = rotation(features, weights, recipe.shrinkage, block_sizes, dtype)
    rotated = split.map(lambda rows: turned.inputs, lambda rows: turned.of_others(rows, features))
    datasets = [RotatedFeatures(part, rank) for part in rotated.weighted()]
    return _Prepared(datasets[0], datasets[1] if split.validation else None, turned.standardization, turned)


def _prepare_stream(
    split: Split[np.ndarray], recipe: Recipe, block_sizes: Sequence[int], rank: np.ndarray
) -> _Prepared:
    """Prepare features that are read block by block, because they do not fit into memory."""
    features, weights = split.training.samples, split.training.targets.weights
    if recipe.optimizer == "lbfgs":
        turned, dtype = Rotation.of_many(features, weights, recipe.shrinkage, block_sizes), torch.float32
        scale = turned.standardization
    else:
        turned, dtype = None, torch.float64
        scale = Standardization.of(features, weights, recipe.shrinkage, block_sizes)
    datasets = [StreamedFeatures(part, rank, scale, dtype) for part in split.weighted()]
    return _Prepared(datasets[0], datasets[1] if split.validation else None, scale, turned)


def output_values(layer: OutputLayer, features: np.ndarray) -> np.ndarray:
    """Return the logits for features, as float64 of shape (n_samples, n_outputs), computed separately for each row."""
    weight, bias = (p.detach().numpy(force=True) for p in (layer.weight, layer.bias))
    logits = np.empty((len(features), len(bias)))
    for rows in row_blocks(len(features)):
        block = np.asarray(features[rows]).astype(np.float64)
        # A single row and a single output are one vector each, which einsum sums in other steps if they are long.
        pair = np.repeat(block, 2, axis=0) if len(block) == len(bias) == 1 else block
        # With a BLAS, the bits of a row in a matrix product would depend on the number of rows.
        logits[rows] = np.einsum("nd,kd->nk", pair, weight)[: len(block)] + bias
    return logits


def _warn_unless_converged(net: WeightedNet) -> None:
    n_iter = count_epochs(net.history)
    if not net.optimizer_.converged and n_iter >= net.max_epochs:  # otherwise, a callback has stopped it
        warn(
            f"lbfgs did not converge in {n_iter} iterations. Raise max_epochs={net.max_epochs}, or weight_decay.",
            ConvergenceWarning,
        )


def _make_net(prepared: _Prepared, n_outputs: int, recipe: Recipe, run: Run) -> HeadNet:
    dataset = prepared.dataset
    net = run.make_net(
        StreamedHeadNet if isinstance(dataset, StreamedFeatures) else HeadNet,
        Head,
        recipe,
        dataset,
        prepared.held_out,
        module__n_features=dataset.n_inputs,
        module__n_outputs=n_outputs,
        module__dropout=recipe.dropout,
        module__seed=run.seed,
        module__dtype=dataset.dtype,
        iterator_train=HeadBatches,
        iterator_train__seed=run.seed,
        iterator_valid=HeadBatches,
        iterator_valid__batch_size=-1,
        **_optimizer(recipe, dataset.dtype),
    )
    if prepared.rotation is not None:
        net.squares = prepared.rotation.squares
        if isinstance(net, StreamedHeadNet):
            net.basis = prepared.rotation.basis
    return net


def _optimizer(recipe: Recipe, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments of a net that set the optimizer of the output layer differently from the recipe."""
    if recipe.optimizer != "lbfgs":
        return {"optimizer__param_groups": [("*bias", {"weight_decay": 0.0})]}
    tolerance = recipe.tol if dtype == torch.float64 else max(recipe.tol, _TOLERANCE_IN_FLOAT32)
    return {
        "optimizer": LimitedMemoryBFGS,
        "optimizer__tolerance": tolerance,
        "lr": 1.0,
        "l2": recipe.l2,
    }


def restored_head(weight: torch.Tensor, bias: torch.Tensor, recipe: Recipe) -> WeightedNet:
    """Return a net, as `train_head` does, for an output layer that is already trained."""
    sizes = {"module__n_features": weight.shape[1], "module__n_outputs": len(weight)}
    net = restored(
        HeadNet(
            Head,
            module__dropout=recipe.dropout,
            module__seed=0,
            module__dtype=torch.float64,
            criterion=LOSSES[recipe.loss],
            **sizes,
        ),
        recipe.loss,
    )
    with torch.no_grad():
        net.module_.output.weight.copy_(weight)
        net.module_.output.bias.copy_(bias)
    return net
