"""What training the output layer and training stages share: the recipe, the skorch net and its schedule."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ._augmentation import Change
from ._callbacks import Steps, task
from ._descent import LimitedMemoryBFGS
from ._docstrings import documented
from ._optimizers import OptimizerName, find_optimizer
from ._scoring import ScoringNet
from .exceptions import TrainingError

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring, PrintLog
    from skorch.helper import predefined_split
    from skorch.history import History as History

CPU = torch.device("cpu")
# Of variances of features towards their mean, in every recipe.
SHRINKAGE = 1.0


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
        "lbfgs" stops when what it has left to descend is estimated to be this share of the loss.
    shrinkage : float
        A feature is divided by the root of its variance plus this share of the mean variance of all features.
    patience : int or None
        Epochs without a better loss on the validation set after which training stops, the best weights restored, be it
        those of the start; None trains for `max_epochs`.
    keeps_best : bool
        Whether the epoch with the lowest loss on a validation set wins; otherwise the loss is only recorded.
    feature_stages : int
        How many of the last stages of the network give features.
    """

    optimizer: OptimizerName
    lr: float | None
    weight_decay: float
    max_epochs: int
    batch_size: int | None
    lr_schedule: str | None
    label_smoothing: float
    dropout: float
    verbose: int
    tol: float = 1e-12
    shrinkage: float = SHRINKAGE
    patience: int | None = None
    keeps_best: bool = True
    feature_stages: int = 1


@dataclass(frozen=True)
class TailRecipe(Recipe):
    """How the last stages are trained with the output layer; `lr` is that of the output layer trained alone.

    Parameters
    ----------
    n_trainable : int
        Stages to train.
    probing : Recipe or None
        How the output layer is trained alone before.
    stage_optimizer : {"adamw", "sgd"} or subclass of torch.optim.Optimizer
        Of the stages; `optimizer` is that of the output layer.
    head_lr_ratio, backbone_lr_ratio : float
        Learning rates of the output layer, and of the last stage, as fractions of `lr`.
    layer_decay : float in (0, 1]
        The stage j before the last learns at this to the power of j.
    augmentation : Change or None
    n_views : int or None
        Fixed random views of each image, which the epochs take in turn; None changes images anew in each epoch.
    mixup_alpha : float
        Of the beta distribution; 0 is no mixup.
    warmup : float in [0, 1)
        Share of all steps in which the learning rate rises to its highest.
    max_grad_norm : float
        Gradients longer than this are shortened to it.
    interpolation : float in (0, 1]
        Share of the trained weights in the result; the rest is what the stages and the output layer began with.
    keeps_statistics : bool
        Whether BatchNorm keeps its statistics; without pretrained weights it has none worth keeping.
    amp, compile : bool
        Whether the tail computes in bfloat16 where that is safe, and whether torch.compile translates it.
    """

    n_trainable: int = 0
    probing: Recipe | None = None
    stage_optimizer: OptimizerName = "adamw"
    head_lr_ratio: float = 1.0
    backbone_lr_ratio: float = 1.0
    layer_decay: float = 1.0
    augmentation: Change | None = None
    n_views: int | None = None
    mixup_alpha: float = 0.0
    warmup: float = 0.1
    max_grad_norm: float = 5.0
    interpolation: float = 1.0
    keeps_statistics: bool = True
    amp: bool = False
    compile: bool = False


def quiet(recipe: Recipe) -> Recipe:
    """Return a recipe without what is only said about it."""
    if isinstance(recipe, TailRecipe) and recipe.probing is not None:
        recipe = replace(recipe, probing=quiet(recipe.probing))
    return replace(recipe, verbose=0)


class OutputLayer(nn.Linear):
    """A fully connected layer that computes in the precision of its own weights, whatever its input's.

    Whoever makes one sets its numbers.
    """

    def reset_parameters(self) -> None:
        """Draw nothing from torch's global generator; `nn.utils.skip_init` does so by importing a computer algebra."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.to(self.weight.dtype))


def as_output_layer(weight: torch.Tensor, bias: torch.Tensor, device: torch.device = CPU) -> OutputLayer:
    """Return an output layer on a device with copies of these values, in float64 where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    layer = OutputLayer(weight.shape[1], len(weight), device=device, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


class _LastStep:
    """Report the last evaluation of the loss within an optimizer's step, where skorch's default reports the first."""

    def store_step(self, step: dict[str, Any]) -> None:
        self.step = step

    def get_step(self) -> dict[str, Any]:
        return self.step


class CosineSchedule(Callback):
    """Set the learning rates of every step: a linear rise to the highest, then half a cosine down to 0.

    skorch's `LRScheduler` with torch's `LambdaLR` would set the same rates, for a tenth of the time of a step.

    Parameters
    ----------
    n_steps : int
    n_warmup : int
        Steps of the rise.
    """

    def __init__(self, n_steps: int, n_warmup: int = 0):
        self.n_steps = n_steps
        self.n_warmup = n_warmup

    def factor(self, step: int) -> float:
        """Return the share of the highest rate in a step, counted from 0."""
        if step < self.n_warmup:
            return (step + 1) / (self.n_warmup + 1)
        n_falling = self.n_steps - self.n_warmup
        return (1 + math.cos(math.pi * min(step - self.n_warmup, n_falling) / max(1, n_falling))) / 2

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self.resume(net, 0)

    def resume(self, net: NeuralNet, step: int) -> None:
        """Set the rates of a step, from which training goes on."""
        self.step_ = step
        self._set_rates(net)

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        if training:
            net.history.record_batch("event_lr", net.optimizer_.param_groups[0]["lr"])
            self.step_ += 1
            self._set_rates(net)

    def _set_rates(self, net: NeuralNet) -> None:
        factor = self.factor(self.step_)
        for group in net.optimizer_.param_groups:
            # The key under which torch's own schedulers look for the highest rate.
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


class StartOrBest(EarlyStopping):
    """Stop when the loss on the validation set no longer falls, and restore the best weights: the start counts as well.

    Unlike skorch's, it takes every better loss for one, however little better, and the start for epoch 0, which is
    validated like the others: the weights that are restored have the lowest of all validated losses. After the training
    the history begins with a row of the start, without a training loss.

    Parameters
    ----------
    patience : int
        Epochs without a better loss after which training stops.
    """

    def __init__(self, patience: int):
        super().__init__(patience=patience, threshold=0.0, load_best=True, sink=_silent)

    def on_train_begin(self, net: WeightedNet, **kwargs: Any) -> None:
        super().on_train_begin(net, **kwargs)
        self.start_loss_: float | None = None

    def on_epoch_begin(self, net: WeightedNet, dataset_valid: Any = None, **kwargs: Any) -> None:
        if self.start_loss_ is None:
            self.start_loss_ = self.dynamic_threshold_ = net.validate(dataset_valid)
            self.best_model_weights_ = copy.deepcopy(net.module_.state_dict())

    def on_epoch_end(self, net: WeightedNet, **kwargs: Any) -> None:
        # skorch has compared the epoch with those before it, without the start.
        net.history.record("valid_loss_best", bool(self._is_score_improved(net.history[-1, self.monitor])))
        super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: WeightedNet, **kwargs: Any) -> None:
        if self.start_loss_ is not None:  # else no epoch began
            super().on_train_end(net, **kwargs)
            net.history.insert(0, _start_row(self.start_loss_))


class _MeanLoss(PassthroughScoring):
    """The mean of what batches recorded, as skorch's, which takes long to look it up in the history."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        size = "train_batch_size" if self.on_train else "valid_batch_size"
        found = [(batch[self.name], batch[size]) for batch in net.history[-1]["batches"] if self.name in batch]
        if not found:  # there is no validation set
            return
        mean = sum(loss * n for loss, n in found) / sum(n for _, n in found)
        is_best = self._is_best_score(mean)
        if is_best:
            self.best_score_ = mean
        net.history.record(self.name, mean)
        net.history.record(f"{self.name}_best", bool(is_best))


def _start_row(loss: float) -> dict[str, Any]:
    return {"batches": [], "epoch": 0, "valid_loss": loss, "valid_loss_best": True}


def count_epochs(history: History) -> int:
    """Return how many epochs were trained: the start may have a row of its own."""
    return sum("train_loss" in row for row in history)


def kept_start(history: History) -> bool:
    """Return True if early stopping found no epoch of the last phase better than its start."""
    best = [row for row in history if row.get("valid_loss_best")]
    return bool(best) and "train_loss" not in best[-1]


class _QuickHistory(History):
    """A history that finds a row at once, where skorch's copies the list of all epochs, several times a step."""

    def __getitem__(self, i: Any) -> Any:
        return list.__getitem__(self, i) if isinstance(i, int) else super().__getitem__(i)


class _Enough(Exception):  # noqa: N818 (it is no error)
    """A callback of scikit-learn's wants no further epoch."""


class Converged(Exception):  # noqa: N818 (it is no error)
    """Further epochs would change nothing."""


class WeightedNet(ScoringNet):
    """A skorch net whose loss is weighted, and in which Ctrl-C and a broken loss end the fit with an error.

    Each `fit` is a task of which scikit-learn's callbacks hear, its epochs the steps.
    """

    phase: str
    epochs = Steps()
    stopped = False  # by a callback of scikit-learn's

    def __init__(self, *args: Any, loss_scale: float = 1.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.loss_scale = loss_scale
        self.l2 = l2

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        own = {"train_loss": _MeanLoss("train_loss", on_train=True), "valid_loss": _MeanLoss("valid_loss")}
        return [(name, own.get(name, callback)) for name, callback in super()._default_callbacks]

    def initialize_history(self) -> WeightedNet:
        self.history_ = _QuickHistory()
        return self

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

    def fit(
        self,
        X: torch.utils.data.Dataset,
        y: None = None,
        resume: Callable[[WeightedNet], bool] | None = None,
        **fit_params: Any,
    ) -> WeightedNet:
        """Train from the start, or from the state into which `resume` puts the net unless it says that this is the end.

        Unlike skorch's own `fit`, let KeyboardInterrupt through.
        """
        self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        if resume is None or not resume(self):
            self._train(X, y)
        return self

    def _train(self, X: torch.utils.data.Dataset, y: None) -> None:
        n_epochs = self.max_epochs - len(self.history)
        try:
            with task(f"epochs of the {self.phase}", n_epochs, "epoch") as self.epochs:
                self.fit_loop(X, y, epochs=n_epochs)
        except _Enough:
            self.stopped = True
        except Converged:
            pass
        except KeyboardInterrupt:
            if not any(isinstance(c, EarlyStopping) and c.misses_ >= c.patience for _, c in self.callbacks_):
                raise
        finally:
            self.__dict__.pop("epochs", None)  # a net travels in pickles
        self.notify("on_train_end", X=X, y=y)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.epochs.is_enough:
            raise _Enough
        self.epochs.begin()
        super().on_epoch_begin(net, **kwargs)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        super().on_epoch_end(net, **kwargs)
        self.epochs.end()

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the batches of a dataset, those of training from the epoch that comes next."""
        iterator = super().get_iterator(dataset, training)
        if training:
            iterator.epoch = len(self.history)
        return iterator

    def as_returned(self) -> contextlib.AbstractContextManager[None]:
        """Hold the weights that `fit` would return now for the length of a block."""
        return contextlib.nullcontext()

    def run_single_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any) -> None:
        """Go through batches, in validation with the weights that would be returned."""
        with contextlib.nullcontext() if training else self.as_returned():
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[torch.Tensor]:
        """Return the logits of what a callback scores, with the weights that would be returned."""
        with contextlib.nullcontext() if training else self.as_returned():
            return iter([*super().forward_iter(X, training, device)])

    def validate(self, dataset: torch.utils.data.Dataset) -> float:
        """Return the loss on a validation set, as the history has it of an epoch."""
        with self.as_returned():
            batches = self.get_iterator(dataset, training=False)
            found = [(self.validation_step(batch)["loss"].item(), len(batch[0])) for batch in batches]
        losses, sizes = zip(*found, strict=True)
        return float(np.average(losses, weights=sizes))

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Return the loss of a batch of the validation set, whose weights have mean 1."""
        self._set_training(False)
        inputs, (codes, weights) = batch[:2]
        with torch.no_grad():
            logits = self.infer(inputs)
            return {"loss": (self.criterion_(logits, codes) * weights).mean(), "y_pred": logits}

    def forget(self) -> None:
        """Let go of what only training needed: a net travels in pickles."""
        super().forget()
        self.train_split = None
        self.device = "cpu"
        self.optimizer_.state.clear()
        if isinstance(self.optimizer_, LimitedMemoryBFGS):
            self.optimizer_.forget()
        for _, callback in self.callbacks_:
            if isinstance(callback, EarlyStopping):
                callback.best_model_weights_ = None


def restored(net: WeightedNet) -> WeightedNet:
    """Initialize a net around a module that was trained elsewhere; it is not for further training."""
    net.set_params(criterion=nn.CrossEntropyLoss, criterion__reduction="none", train_split=None, verbose=0)
    net.initialize()
    net.forget()
    return net


def net_arguments(
    recipe: Recipe,
    n_samples: int,
    mean_weight: float,
    validation: torch.utils.data.Dataset | None,
    net_params: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a net that follow from a recipe and the training samples; "lbfgs" needs others.

    Those of the user, `net_params`, are for the caller to add; here they decide what would contradict them.
    """
    batch_size = min(recipe.batch_size or n_samples, n_samples)
    optimizer, options = find_optimizer(recipe.optimizer, {key.removeprefix("optimizer__") for key in net_params})
    tuned = any(key.startswith("callbacks__print_log__") for key in net_params)
    callbacks: list[Any] = []
    if recipe.lr_schedule == "cosine":
        n_steps = recipe.max_epochs * math.ceil(n_samples / batch_size)
        n_warmup = math.ceil(n_steps * recipe.warmup) if isinstance(recipe, TailRecipe) else 0
        callbacks.append(("lr_schedule", CosineSchedule(n_steps, n_warmup)))
    if validation is not None and recipe.keeps_best:
        callbacks.append(("early_stopping", StartOrBest(recipe.patience or recipe.max_epochs + 1)))
    return {
        "criterion": nn.CrossEntropyLoss,
        "criterion__reduction": "none",
        "criterion__label_smoothing": recipe.label_smoothing,
        "loss_scale": 1 / (batch_size * mean_weight),
        "batch_size": batch_size,
        "max_epochs": recipe.max_epochs,
        "lr": recipe.lr,
        "optimizer": optimizer,
        "optimizer__weight_decay": recipe.weight_decay,
        **{f"optimizer__{key}": value for key, value in options.items()},
        "callbacks": callbacks,
        "train_split": None if validation is None else predefined_split(validation),
        "predict_nonlinearity": None,
        # A log of the user's prints, too; skorch composes the table of its own even where it does not print it.
        "verbose": max(0, recipe.verbose - 1, *map(_prints, net_params.get("callbacks") or [])),
        **({} if recipe.verbose > 1 or tuned else {"callbacks__print_log": None}),
    }


def _prints(item: Any) -> bool:
    """Return True if a callback, or a pair of a name and a callback, is a log."""
    callback = item[1] if isinstance(item, tuple) else item
    return isinstance(callback, PrintLog) or callback is PrintLog


def _silent(message: str, **kwargs: Any) -> None:
    """Drop a message."""
