"""Train the output layer on features.

Features are standardised with the weights of the samples, their variances shrunk towards the mean of all in their
block; the layer is trained on the result, and the affine map is folded into the layer afterwards, so that it applies to
features as the backbone gives them. For L-BFGS they are rotated as well, and the layer is rotated back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sktl._targets.targets import Targets, appearance
from sktl._training.callbacks import count_epochs, kept_start
from sktl._training.checkpoints import Checkpoint, Keeping, fit_from
from sktl._training.descent import LimitedMemoryBFGS
from sktl._training.net import Converged, OutputLayer, WeightedNet, net_arguments, restored
from sktl._training.net_params import copied
from sktl._training.recipe import Recipe
from sktl._training.scoring import LabelledDataset
from sktl._utils.random import generator
from sktl._utils.threads import single_threaded
from sktl._utils.warnings import warn

from .rotation import Rotation, rotation
from .standardization import Standardization, row_blocks

_INITIAL_SCALE = 0.01
# Standardised features are kept up to this many bytes, and made anew for each batch beyond.
_MAX_KEPT = 64 * 2**20
_PIECE = 64
# With more numbers than this, "lbfgs" computes in float32, in half the time. It stops earlier: what is left changes
# probabilities by a few hundredths at most.
_MOST_IN_FLOAT64 = 2**19
_TOLERANCE_IN_FLOAT32 = 3e-5
_INITIAL, _ORDER, _DROPPED = range(3)


def random_layer(n_features: int, n_classes: int, seed: int, dtype: torch.dtype = torch.float64) -> OutputLayer:
    """Return an output layer of small random numbers."""
    layer = OutputLayer(n_features, n_classes, dtype=dtype)
    # Small: what the start adds in directions that the samples do not span is never trained away.
    bound = _INITIAL_SCALE / math.sqrt(max(1, n_features))
    draw = generator(seed, _INITIAL)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=draw)
    return layer


class _Head(nn.Module):
    """Dropout and output layer as they are trained, their random numbers drawn from a seed."""

    def __init__(self, n_features: int, n_classes: int, dropout: float, seed: int, dtype: torch.dtype):
        super().__init__()
        self.dropout = dropout
        self.seed = seed
        self.n_draws = 0
        self.output = random_layer(n_features, n_classes, seed, dtype)

    def drop(self, features: torch.Tensor) -> torch.Tensor:
        """Return features with some set to 0 at random, in train mode."""
        if not (self.training and self.dropout):
            return features
        self.n_draws += 1
        draw = generator(self.seed, _DROPPED, self.n_draws)
        kept = torch.rand(features.shape, generator=draw) >= self.dropout
        return features * kept / (1 - self.dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.output(self.drop(features))


class _StandardizedFeatures(LabelledDataset):
    """Features of samples as they are standardised, their class codes and weights."""

    def __init__(
        self,
        features: np.ndarray,
        codes: np.ndarray,
        weights: np.ndarray,
        standardization: Standardization,
        labels: np.ndarray | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        super().__init__(codes, weights, labels)
        self.features = torch.from_numpy(features)
        self.standardization = standardization
        self.dtype = dtype
        kept = self.features.numel() * dtype.itemsize <= _MAX_KEPT
        self.standardized = self._standardize(torch.arange(len(features))) if kept else None

    @property
    def n_inputs(self) -> int:
        """How many numbers of a sample enter the module."""
        return self.features.shape[1]

    def inputs_of(self, i: int) -> torch.Tensor:
        return self.batch(torch.tensor([i % len(self)]))[0][0]

    def all_rows(self) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the standardised features, and the codes and weights."""
        if self.standardized is None:
            return self.batch(torch.arange(len(self)))
        return self.standardized, (self.codes, self.weights)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the same of some rows, with the same bits whether they were kept or are standardised now."""
        kept = self.standardized
        features = self._standardize(rows) if kept is None else kept.index_select(0, rows)
        return features, (self.codes.index_select(0, rows), self.weights.index_select(0, rows))

    def _standardize(self, rows: torch.Tensor) -> torch.Tensor:
        standardized = torch.empty(len(rows), self.features.shape[1], dtype=self.dtype)
        # A piece stays in the processor's cache; copies of a large batch would spend their time mapping memory.
        for piece, its_rows in zip(standardized.split(_PIECE), rows.split(_PIECE), strict=True):
            raw = self.features.index_select(0, its_rows)
            piece.copy_((raw - self.standardization.mean).div_(self.standardization.scale))
        return standardized


class _RotatedFeatures(LabelledDataset):
    """Coordinates of samples, as a rotation has them, their class codes and weights."""

    def __init__(self, inputs: torch.Tensor, codes: np.ndarray, weights: np.ndarray, labels: np.ndarray | None):
        super().__init__(codes, weights, labels)
        self.inputs = inputs
        self.dtype = inputs.dtype

    @property
    def n_inputs(self) -> int:
        """How many numbers of a sample enter the module."""
        return self.inputs.shape[1]

    def inputs_of(self, i: int) -> torch.Tensor:
        return self.inputs[i]

    def all_rows(self) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the coordinates, and the codes and weights."""
        return self.inputs, (self.codes, self.weights)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the same of some rows."""
        return self.inputs[rows], (self.codes[rows], self.weights[rows])


_Dataset: TypeAlias = _StandardizedFeatures | _RotatedFeatures


class _Batches:
    """Iterate over batches of whole tensors, shuffled anew each epoch by a seed; one batch of all rows is made once."""

    def __init__(self, dataset: _Dataset, batch_size: int, seed: int = 0):
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.all_rows = dataset.all_rows() if batch_size >= len(dataset) else None

    def __iter__(self) -> Iterator[Any]:
        if self.all_rows is not None:
            yield self.all_rows
            return
        self.epoch += 1
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, _ORDER, self.epoch))
        for rows in order.split(self.batch_size):
            yield self.dataset.batch(rows)


class _HeadNet(WeightedNet):
    """A net of one layer on features, whose gradients are computed in closed form.

    The detour through a graph of autograd would cost as much as one of the two matrix products of a step.
    """

    phase = "output layer"

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        """Leave the gradients: each evaluation of the loss sets them anew."""

    # Mean squares of the inputs, and mean second derivatives of the loss by the logits: of L-BFGS while it trains.
    squares: torch.Tensor | None = None
    curvature_: torch.Tensor | None = None

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> _HeadNet:
        super().initialize_optimizer(*args, **kwargs)
        if self.squares is not None:
            self.optimizer_.precondition = self._precondition
        return self

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Set the gradients of a batch."""
        features, (codes, weights) = batch
        module, layer = self.module_, self.module_.output
        if not module.training:
            self._set_training(True)
        with torch.no_grad():
            inputs = module.drop(features)
            # The few classes along the rows: the products are faster, and so is all that goes over the samples.
            logits = torch.addmm(layer.bias[:, None], layer.weight, inputs.t()).t()
            found = weighted_loss(logits, codes, weights * self.loss_scale, self.criterion_.label_smoothing)
            loss, slopes, self.curvature_ = found
            by_weight, by_bias = slopes.t() @ inputs, slopes.sum(dim=0)
            if self.l2:
                loss += self.l2 / 2 * layer.weight.square().sum()
                by_weight.add_(layer.weight, alpha=self.l2)
            for parameter, gradient in ((layer.weight, by_weight), (layer.bias, by_bias)):
                parameter.grad = gradient if parameter.requires_grad else None  # callbacks may freeze either
        return {"loss": loss, "y_pred": logits}

    def _precondition(self, gradients: torch.Tensor) -> torch.Tensor:
        """Divide gradients by about the second derivatives where the loss was last evaluated."""
        assert self.squares is not None
        assert self.curvature_ is not None
        layer, curvature = self.module_.output, self.curvature_
        floor = torch.finfo(gradients.dtype).tiny
        parts = []
        if layer.weight.requires_grad:
            by_weight = torch.addr(torch.full_like(layer.weight, self.l2), curvature, self.squares)
            parts.append(by_weight.flatten())
        if layer.bias.requires_grad:
            parts.append(curvature)
        return gradients / torch.cat(parts).clamp_min_(floor)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if getattr(self.optimizer_, "converged", False):
            raise Converged
        super().on_epoch_begin(net, **kwargs)

    def forget(self) -> None:
        """Let go of what only training needed."""
        super().forget()
        self.squares = self.curvature_ = None


def weighted_loss(
    logits: torch.Tensor, codes: torch.Tensor, weights: torch.Tensor, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weighted sum of cross-entropies with smoothed labels, and its derivatives.

    Parameters
    ----------
    logits : tensor of shape (n_samples, n_classes)
    codes : int64 tensor of shape (n_samples,)
    weights : tensor of shape (n_samples,)
    smoothing : float

    Returns
    -------
    loss : tensor of shape ()
    slopes : tensor of shape (n_samples, n_classes)
        Derivatives by the logits.
    curvatures : tensor of shape (n_classes,)
        Second derivatives by the logits, summed over the samples.
    """
    weights = weights.to(logits.dtype).unsqueeze(1)
    codes = codes.unsqueeze(1)
    # By hand: torch's own softmax and cross-entropy take several times as long for few classes.
    shifted = logits - logits.amax(dim=1, keepdim=True)
    slopes = shifted.exp()
    totals = slopes.sum(dim=1, keepdim=True)
    of_each = totals.log() - (1 - smoothing) * shifted.gather(1, codes)
    if smoothing:
        of_each -= smoothing * shifted.mean(dim=1, keepdim=True)
    loss = (of_each * weights).sum()
    slopes /= totals
    curvatures = ((slopes - slopes.square()) * weights).sum(dim=0)
    if smoothing:
        slopes -= smoothing / logits.shape[1]
    slopes *= weights
    return loss, slopes.scatter_add_(1, codes, weights * (smoothing - 1)), curvatures


def train_head(
    features: np.ndarray,
    targets: Targets,
    recipe: Recipe,
    seed: int,
    net_params: dict[str, Any] | None = None,
    validation: tuple[np.ndarray, Targets] | None = None,
    checkpoint: Checkpoint | None = None,
    block_sizes: Sequence[int] | None = None,
) -> tuple[WeightedNet, int]:
    """Train an output layer.

    Parameters
    ----------
    features : float32 array of shape (n_samples, n_features)
    targets : Targets
        Each class at least once.
    recipe : Recipe
    seed : int
        Of the start of the layer, the order of the samples and dropout.
    net_params : dict or None
        Further arguments of the skorch net; left unchanged.
    validation : (features, targets) or None
        Other samples of the same classes, whose loss is recorded. If the recipe keeps the best epoch, the one with the
        lowest loss on them wins, the start being epoch 0.
    checkpoint : Checkpoint or None
        Where the state of training is kept after each epoch, and where it goes on from; not with "lbfgs".
    block_sizes : sequence of int or None
        How many features each block has; None is one block.

    Returns
    -------
    net : WeightedNet
        `net.module_.output` maps features to one logit per class.
    n_iter : int
        Epochs, which are iterations of "lbfgs".

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    rank = appearance(targets.codes)
    with single_threaded():
        dataset, held_out, standardization, turned = _prepared(features, targets, recipe, validation, block_sizes, rank)
        checkpoint = None if recipe.optimizer == "lbfgs" else checkpoint
        net = _make_net(dataset, held_out, len(rank), recipe, seed, copied(net_params), checkpoint)
        net.squares = None if turned is None else turned.squares
        net.number(targets.classes, rank)
        fit_from(net, dataset, checkpoint)
        warn_if_start(net)
        n_iter = count_epochs(net.history)
        if recipe.optimizer == "lbfgs":
            _warn_unless_converged(net, n_iter)
        net.forget()
        layer, columns = net.module_.output, torch.from_numpy(rank)
        if turned is not None:
            layer.weight.grad, layer.in_features = None, features.shape[1]
            layer.weight.data = turned.back(layer.weight.data, features)
        layer.to(torch.float64)
        layer.weight.data, layer.bias.data = standardization.fold(layer.weight.data[columns], layer.bias.data[columns])
    return net, n_iter


def _prepared(
    features: np.ndarray,
    targets: Targets,
    recipe: Recipe,
    validation: tuple[np.ndarray, Targets] | None,
    block_sizes: Sequence[int] | None,
    rank: np.ndarray,
) -> tuple[_Dataset, _Dataset | None, Standardization, Rotation | None]:
    """Return what is trained on, what is validated on, and how both were made of features."""
    parts = [(features, targets, targets.weights)]
    if validation is not None:
        parts.append((*validation, validation[1].relative_weights()))
    datasets: list[_Dataset] = []
    turned = None
    if recipe.optimizer == "lbfgs":
        dtype = torch.float32 if features.size > _MOST_IN_FLOAT64 else torch.float64
        turned = rotation(features, targets.weights, recipe.shrinkage, block_sizes, dtype)
        for i, (rows, its, weights) in enumerate(parts):
            inputs = turned.of_others(rows, features) if i else turned.inputs
            datasets.append(_RotatedFeatures(inputs, rank[its.codes], weights, its.labels()))
        standardization = turned.standardization
    else:
        standardization = Standardization.of(features, targets.weights, recipe.shrinkage, block_sizes)
        for rows, its, weights in parts:
            datasets.append(_StandardizedFeatures(rows, rank[its.codes], weights, standardization, its.labels()))
    return datasets[0], datasets[1] if validation is not None else None, standardization, turned


def output_logits(layer: OutputLayer, features: np.ndarray) -> np.ndarray:
    """Return what an output layer makes of features, float64 of shape (n_samples, n_classes), each row alone."""
    weight, bias = (p.detach().numpy(force=True) for p in (layer.weight, layer.bias))
    logits = np.empty((len(features), len(bias)))
    for rows in row_blocks(len(features)):
        # Not a matrix product: the bits of a BLAS row depend on how many rows there are.
        logits[rows] = np.einsum("nd,kd->nk", features[rows].astype(np.float64), weight) + bias
    return logits


def warn_if_start(net: WeightedNet) -> None:
    """Warn if early stopping found no epoch of a training better than its start."""
    if kept_start(net.history):
        start, *losses = net.history[:, "valid_loss"]
        warn(
            f"No epoch of the {net.phase} lowered the validation loss (start {start:.4g}, best of {len(losses)} epochs "
            f"{min(losses):.4g}), so the weights from before are returned. Lower lr={net.lr:g}, or use more validation "
            "images.",
            ConvergenceWarning,
        )


def _warn_unless_converged(net: WeightedNet, n_iter: int) -> None:
    if not net.optimizer_.converged and n_iter >= net.max_epochs:  # else a callback ended it
        warn(
            f"lbfgs did not converge in {n_iter} iterations. Raise max_epochs={net.max_epochs}, or weight_decay.",
            ConvergenceWarning,
        )


def _make_net(
    dataset: _Dataset,
    held_out: _Dataset | None,
    n_classes: int,
    recipe: Recipe,
    seed: int,
    net_params: dict[str, Any],
    checkpoint: Checkpoint | None,
) -> WeightedNet:
    arguments = net_arguments(recipe, len(dataset), float(dataset.weights.mean()), held_out, net_params)
    if recipe.optimizer == "lbfgs":
        tolerance = recipe.tol if dataset.dtype == torch.float64 else max(recipe.tol, _TOLERANCE_IN_FLOAT32)
        arguments = {key: value for key, value in arguments.items() if not key.startswith("optimizer")}
        arguments |= {"lr": 1.0, "l2": recipe.weight_decay, "optimizer": LimitedMemoryBFGS}
        arguments |= {"optimizer__tolerance": tolerance}
    else:
        arguments["optimizer__param_groups"] = [("*bias", {"weight_decay": 0.0})]
    arguments["callbacks"] += net_params.pop("callbacks", None) or []
    arguments["callbacks"] += [] if checkpoint is None else [("keeping", Keeping(checkpoint))]
    return _HeadNet(
        _Head,
        module__n_features=dataset.n_inputs,
        module__n_classes=n_classes,
        module__dropout=recipe.dropout,
        module__seed=seed,
        module__dtype=dataset.dtype,
        iterator_train=_Batches,
        iterator_train__seed=seed,
        iterator_valid=_Batches,
        iterator_valid__batch_size=-1,
        **(arguments | net_params),
    )


def restored_head(weight: torch.Tensor, bias: torch.Tensor, recipe: Recipe) -> WeightedNet:
    """Return a net such as `train_head` returns, of an output layer that was trained before."""
    sizes = {"module__n_features": weight.shape[1], "module__n_classes": len(weight)}
    net = restored(
        _HeadNet(
            _Head,
            module__dropout=recipe.dropout,
            module__seed=0,
            module__dtype=torch.float64,
            criterion=nn.CrossEntropyLoss,
            **sizes,
        )
    )
    with torch.no_grad():
        net.module_.output.weight.copy_(weight)
        net.module_.output.bias.copy_(bias)
    return net
