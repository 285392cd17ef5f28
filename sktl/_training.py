"""Train the output layer on features. The only file that imports skorch.

Features are standardised with the weights of the samples, their variances shrunk towards the mean of all; the layer is
trained in float64 on the result, and the affine map is folded into the layer afterwards, so that it applies to features
as the backbone gives them.
"""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.history import History as History
from torch import nn

from ._labels import Targets
from ._torch import generator, single_threaded
from .exceptions import InvalidParameterError, TrainingError

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}
# What `net_params` may name: all else is set by parameters of the estimator, or would change the loss.
_OPEN = ("callbacks", "optimizer")
_INITIAL_SCALE = 0.01
_INITIAL, _ORDER, _DROPPED = range(3)


@dataclass(frozen=True)
class Recipe:
    """How the output layer is trained; every value is resolved.

    Parameters
    ----------
    optimizer : {"adamw", "sgd", "lbfgs"} or subclass of torch.optim.Optimizer
        "lbfgs" sees all samples at once, and `weight_decay` is then an L2 penalty.
    lr : float or None
        The highest learning rate; None for "lbfgs".
    weight_decay : float
        Of the weights in units of standardised features; the intercept is never decayed.
    max_epochs : int
    batch_size : int or None
        None is all samples.
    lr_schedule : {"cosine", "constant"}
        "cosine" decays from `lr` to 0 over all steps.
    label_smoothing, dropout : float in [0, 1)
    verbose : int
        2 or more prints a line per epoch.
    tol : float
        "lbfgs" stops when no entry of the gradient is larger; near the square root of float64's precision the loss is
        too coarse to go on.
    shrinkage : float
        A feature is divided by the root of its variance plus this share of the mean variance of all features.
    """

    optimizer: str | type[torch.optim.Optimizer]
    lr: float | None
    weight_decay: float
    max_epochs: int
    batch_size: int | None
    lr_schedule: str | None
    label_smoothing: float
    dropout: float
    verbose: int
    tol: float = 1e-6
    shrinkage: float = 1.0


class OutputLayer(nn.Linear):
    """A fully connected layer that computes in the precision of its own weights, whatever its input's."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.to(self.weight.dtype))


class _Head(nn.Module):
    """Dropout and output layer as they are trained, their random numbers drawn from a seed."""

    def __init__(self, n_features: int, n_classes: int, dropout: float, seed: int):
        super().__init__()
        self.dropout = dropout
        self.seed = seed
        self.n_draws = 0
        self.output = nn.utils.skip_init(OutputLayer, n_features, n_classes, dtype=torch.float64)
        # Small: what the start adds in directions that the samples do not span is never trained away.
        bound = _INITIAL_SCALE / math.sqrt(n_features)
        draw = generator(seed, _INITIAL)
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.uniform_(-bound, bound, generator=draw)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if self.training and self.dropout:
            self.n_draws += 1
            draw = generator(self.seed, _DROPPED, self.n_draws)
            kept = torch.rand(features.shape, generator=draw) >= self.dropout
            features = features * kept / (1 - self.dropout)
        return self.output(features)


class _StandardizedFeatures(torch.utils.data.Dataset):
    """Features, class codes and weights of the training samples, with the weighted mean and scale of each feature."""

    def __init__(self, features: np.ndarray, codes: np.ndarray, weights: np.ndarray, shrinkage: float):
        self.features = torch.from_numpy(features)
        self.codes = torch.from_numpy(codes)
        self.weights = torch.from_numpy(weights)
        shares = weights / weights.sum()
        # Two passes over blocks of rows keep the memory of a float64 copy small; NumPy's own sums, not those of a BLAS,
        # keep the bits independent of the number of cores.
        mean, variance = np.zeros(features.shape[1]), np.zeros(features.shape[1])
        for rows in _blocks(len(features)):
            mean += np.einsum("n,nd->d", shares[rows], features[rows].astype(np.float64))
        for rows in _blocks(len(features)):
            variance += np.einsum("n,nd->d", shares[rows], (features[rows] - mean) ** 2)
        # Few images hardly vary in features that other images vary in: without a floor those would decide everything.
        scale = np.sqrt(variance + shrinkage * variance.mean())
        constant = scale <= 10 * np.finfo(np.float32).eps * np.abs(mean)
        self.mean = torch.from_numpy(mean)
        self.scale = torch.from_numpy(np.where(constant, 1.0, scale))

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: torch.Tensor | slice) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return the standardised features of rows in float64, and their codes and weights."""
        standardized = self.features[rows].to(torch.float64).sub_(self.mean).div_(self.scale)
        return standardized, (self.codes[rows], self.weights[rows])


def _blocks(n_rows: int, size: int = 1024) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n_rows, size))


class _Batches:
    """Iterate over batches of whole tensors, shuffled anew each epoch by a seed; one batch of all rows is made once."""

    def __init__(self, dataset: _StandardizedFeatures, batch_size: int, seed: int = 0):
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.all_rows = dataset.batch(slice(None)) if batch_size >= len(dataset) else None

    def __iter__(self) -> Iterator[Any]:
        if self.all_rows is not None:
            yield self.all_rows
            return
        self.epoch += 1
        order = torch.randperm(len(self.dataset), generator=generator(self.seed, _ORDER, self.epoch))
        for rows in order.split(self.batch_size):
            yield self.dataset.batch(rows)


class _LastStep:
    """Report the last evaluation of the loss within an optimizer's step, where skorch's default reports the first."""

    def store_step(self, step: dict[str, Any]) -> None:
        self.step = step

    def get_step(self) -> dict[str, Any]:
        return self.step


class _HeadNet(NeuralNet):
    """A skorch net whose loss is weighted, and in which Ctrl-C and a broken loss end the fit with an error."""

    def __init__(self, *args: Any, loss_scale: float = 1.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.loss_scale = loss_scale
        self.l2 = l2

    def get_loss(self, y_pred: torch.Tensor, y_true: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        codes, weights = y_true
        loss = (self.criterion_(y_pred, codes) * weights).sum() * self.loss_scale
        if self.l2:
            loss = loss + self.l2 / 2 * self.module_.output.weight.square().sum()
        return loss

    def get_train_step_accumulator(self) -> _LastStep:
        return _LastStep()

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Make a step, and report its loss per sample: a short last batch counts less in the sum, not in the mean."""
        step = super().train_step(batch, **fit_params)
        return step | {"loss": step["loss"].detach() * (self.batch_size / len(batch[0]))}

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        super().on_batch_end(net, batch=batch, training=training, **kwargs)
        if not math.isfinite(loss := kwargs["loss"].item()):
            raise TrainingError(
                f"The loss became {loss} in epoch {len(self.history)}, batch {len(self.history[-1]['batches'])}, with "
                f"lr={self.lr:g}. Lower lr, for instance to {self.lr / 10:g}."
            )

    def fit(self, X: _StandardizedFeatures, y: None = None, **fit_params: Any) -> _HeadNet:
        """Train from the start; unlike skorch's own `fit`, let KeyboardInterrupt through."""
        self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y)
        except KeyboardInterrupt:
            if not any(isinstance(c, EarlyStopping) and c.misses_ >= c.patience for _, c in self.callbacks_):
                raise
        self.notify("on_train_end", X=X, y=y)
        return self


def train_head(
    features: np.ndarray, targets: Targets, recipe: Recipe, seed: int, net_params: dict[str, Any] | None = None
) -> tuple[NeuralNet, int]:
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

    Returns
    -------
    net : skorch.NeuralNet
        `net.module_.output` maps features to one logit per class.
    n_iter : int
        Epochs, of "lbfgs" iterations.

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    # Classes are trained in the order in which they appear, so that other names of the classes change nothing.
    _, first_positions = np.unique(targets.codes, return_index=True)
    rank = np.argsort(np.argsort(first_positions))
    dataset = _StandardizedFeatures(features, rank[targets.codes], targets.weights, recipe.shrinkage)
    with single_threaded():
        net = _make_net(dataset, len(rank), recipe, seed, copy.deepcopy(net_params or {})).fit(dataset)
        n_iter = _count_iterations(net) if recipe.optimizer == "lbfgs" else len(net.history)
        net.optimizer_.state.clear()  # as large as the layer, many times over for lbfgs
        _fold(net.module_.output, dataset, torch.from_numpy(rank))
    return net, n_iter


def _count_iterations(net: NeuralNet) -> int:
    """Return the iterations of lbfgs, warning if there were too few."""
    state, limits = net.optimizer_.state[net.module_.output.weight], net.optimizer_.param_groups[0]
    n_iter: int = state["n_iter"]
    if n_iter >= limits["max_iter"] or state["func_evals"] >= limits["max_eval"]:
        warnings.warn(
            f"lbfgs did not converge in {n_iter} iterations. Raise max_epochs={limits['max_iter']}, or weight_decay.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return n_iter


def _make_net(
    dataset: _StandardizedFeatures, n_classes: int, recipe: Recipe, seed: int, net_params: dict[str, Any]
) -> _HeadNet:
    batch_size = min(recipe.batch_size or len(dataset), len(dataset))
    arguments: dict[str, Any] = {"max_epochs": recipe.max_epochs, "lr": recipe.lr, "callbacks": []}
    if recipe.optimizer == "lbfgs":
        arguments |= {"max_epochs": 1, "lr": 1.0, "l2": recipe.weight_decay, "optimizer": torch.optim.LBFGS}
        arguments |= {"optimizer__max_iter": recipe.max_epochs, "optimizer__max_eval": 4 * recipe.max_epochs}
        arguments |= {"optimizer__tolerance_grad": recipe.tol, "optimizer__tolerance_change": 0.0}
        arguments |= {"optimizer__line_search_fn": "strong_wolfe", "optimizer__history_size": 20}
    else:
        optimizer, options = _OPTIMIZERS.get(recipe.optimizer, (recipe.optimizer, {}))  # type: ignore[arg-type]
        arguments |= {"optimizer": optimizer, "optimizer__weight_decay": recipe.weight_decay}
        arguments |= {f"optimizer__{key}": value for key, value in options.items()}
        arguments["optimizer__param_groups"] = [("*bias", {"weight_decay": 0.0})]
    if recipe.lr_schedule == "cosine":
        n_steps = recipe.max_epochs * math.ceil(len(dataset) / batch_size)
        decay = functools.partial(_cosine, n_steps=n_steps)
        policy = LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=decay, step_every="batch")
        arguments["callbacks"] = [("lr_schedule", policy)]
    arguments["callbacks"] += net_params.get("callbacks") or []
    arguments |= {key: value for key, value in net_params.items() if key != "callbacks"}
    return _HeadNet(
        _Head,
        module__n_features=dataset.features.shape[1],
        module__n_classes=n_classes,
        module__dropout=recipe.dropout,
        module__seed=seed,
        criterion=nn.CrossEntropyLoss,
        criterion__reduction="none",
        criterion__label_smoothing=recipe.label_smoothing,
        loss_scale=1 / (batch_size * float(dataset.weights.mean())),
        batch_size=batch_size,
        iterator_train=_Batches,
        iterator_train__seed=seed,
        train_split=None,
        predict_nonlinearity=None,
        verbose=max(0, recipe.verbose - 1),
        **arguments,
    )


def _cosine(step: int, n_steps: int) -> float:
    return (1 + math.cos(math.pi * min(step, n_steps) / n_steps)) / 2


def check_net_params(net_params: dict[str, Any] | None) -> None:
    """Raise `InvalidParameterError` for arguments of the skorch net that are not the user's to set."""
    for key, value in (net_params or {}).items():
        base, _, inner = key.partition("__")
        if base not in _OPEN or (base == "optimizer" and inner in ("", "lr", "weight_decay", "param_groups")):
            raise InvalidParameterError(
                f"net_params[{key!r}] is unknown, or set by sktl itself. Use the estimator's own parameters; "
                'net_params is for what they leave open: "callbacks", "callbacks__<name>__<parameter>" and '
                '"optimizer__<parameter>".'
            )
        if key == "callbacks" and not (isinstance(value, list) and all(map(_is_callback, value))):
            raise InvalidParameterError(
                f"net_params['callbacks'] is {value!r}; it must be a list of skorch callbacks, or of (name, callback)."
            )


def _is_callback(item: Any) -> bool:
    callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
    return isinstance(callback, Callback) or (isinstance(callback, type) and issubclass(callback, Callback))


def _fold(layer: OutputLayer, dataset: _StandardizedFeatures, rank: torch.Tensor) -> None:
    """Make a layer trained on standardised features, rows in order of rank, one for raw features in class order."""
    with torch.no_grad():
        weight = layer.weight[rank] / dataset.scale
        bias = layer.bias[rank] - (weight * dataset.mean).sum(dim=1)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
