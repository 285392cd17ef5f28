"""The skorch net that trains the output layer and stages: weighted loss, scoring callbacks, the weights to return."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import RegressorTags, Tags
from torch import nn

from sktl._targets.base_targets import Targets
from sktl._targets.outputs import LogitOutputs, NumberOutputs, Outputs
from sktl._utils.docstrings import documented
from sktl._utils.fit_tasks import Steps, task
from sktl.exceptions import TrainingError

from .lbfgs import LimitedMemoryBFGS
from .learning_rates import stable_lr
from .losses import LOSSES, smoothing_of
from .net_callbacks import CosineSchedule, MeanLoss, QuickHistory, StartOrBest
from .optimizers import find_optimizer
from .recipe import Recipe

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks import Callback, EarlyStopping, PrintLog
    from skorch.callbacks.scoring import ScoringBase
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

CPU = torch.device("cpu")


class OutputLayer(nn.Linear):
    """A fully connected layer that computes in the precision of its weights, whatever the precision of its input.

    Its creator must set the weights.
    """

    def reset_parameters(self) -> None:
        """Draw no random numbers. torch's way to do this, `skip_init`, would import a computer algebra system."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features.to(self.weight.dtype))


def as_output_layer(weight: torch.Tensor, bias: torch.Tensor, device: torch.device = CPU) -> OutputLayer:
    """Return an output layer with copies of these values on a device, in float64 if the device supports it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    layer = OutputLayer(weight.shape[1], len(weight), device=device, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def drop(features: torch.Tensor, share: float, draw: torch.Generator) -> torch.Tensor:
    """Set a random fraction of features to 0, and scale up the others so that the mean stays the same."""
    mask = torch.rand(features.shape, generator=draw).to(features.device) >= share
    return features * mask / (1 - share)


def tags_of(tags: Tags, outputs: Outputs | None) -> Tags:
    """Return the tags of a classifier, changed to the tags of a regressor if the outputs are numbers."""
    if isinstance(outputs, NumberOutputs):
        tags.estimator_type, tags.classifier_tags, tags.regressor_tags = "regressor", None, RegressorTags()
    return tags


class LabeledDataset(Dataset):
    """Samples with targets and weights, in the form of a skorch dataset of samples and labels.

    Parameters
    ----------
    targets : Targets
    rank : int array of shape (n_outputs,)
        Column of the module's output for each column of the outputs.
    """

    def __init__(self, targets: Targets, rank: np.ndarray):
        self.values = torch.from_numpy(targets.ranked_values(rank))
        self.weights = torch.from_numpy(targets.ranked_weights(rank))
        self.y = targets.outputs.observed(targets.values())  # only used by callbacks

    @property
    def X(self) -> LabeledDataset:  # noqa: N802 (skorch's name)
        """The input for predictions."""
        return self

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, Any]:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self.inputs_of(i), self.y[i]

    def count_batches(self, batch_size: int) -> int:
        """Return the number of training batches of an epoch."""
        return math.ceil(len(self) / batch_size)

    def inputs_of(self, i: int) -> torch.Tensor:
        """Return the module's input for a sample."""
        raise NotImplementedError


class ScoringNet(ClassifierMixin, NeuralNet):
    """A skorch net that predicts in the form of `y` during training, so callbacks can score it like any estimator.

    The module has its own order of columns: classes, for instance, in the order in which they appear in the training
    set. Scoring callbacks get labels, and outputs in the estimator's order. Other callbacks get unchanged batches.
    """

    outputs_: Outputs | None = None
    columns: torch.Tensor | None = None
    _is_scored = False

    def number(self, outputs: Outputs, rank: np.ndarray) -> None:
        """Set what the outputs mean, and the module's column for each of them."""
        self.outputs_ = outputs
        self.columns = torch.from_numpy(rank)

    @property
    def classes_(self) -> np.ndarray | None:
        """The classes or labels. None for numbers, and after training."""
        return getattr(self.outputs_, "classes", None)

    def __sklearn_tags__(self) -> Tags:
        return tags_of(super().__sklearn_tags__(), self.outputs_)

    def forget(self) -> None:
        """Release data that only training needs, because the output layer will be changed."""
        self.outputs_ = self.columns = None

    def initialize_callbacks(self) -> ScoringNet:
        super().initialize_callbacks()
        scoring = [callback for _, callback in self.callbacks_ if isinstance(callback, ScoringBase)]
        self._is_scored = bool(scoring)
        for callback in scoring:
            if callback.on_train:
                # Predictions in a training step are made by the weights before the step, with dropout and augmentation.
                callback.use_caching = False
        return self

    def notify(self, method_name: str, **told: Any) -> None:
        if method_name != "on_batch_end" or not self._is_scored:
            super().notify(method_name, **told)
            return
        self.on_batch_end(self, **told)
        labeled = told | self._labeled(told["batch"], told["y_pred"])
        for _, callback in self.callbacks_:
            callback.on_batch_end(self, **(labeled if isinstance(callback, ScoringBase) else told))

    def _labeled(self, batch: Any, y_pred: torch.Tensor | None) -> dict[str, Any]:
        """Return a batch and its predictions in terms of labels."""
        outputs, columns = self._numbers()
        inputs, (values, _) = batch[:2]
        values = columns.argsort()[values] if values.ndim == 1 else values[:, columns]
        labels = outputs.observed(values.numpy())
        return {"batch": (inputs, labels), "y_pred": None if y_pred is None else y_pred[:, columns]}

    def _numbers(self) -> tuple[Outputs, torch.Tensor]:
        if self.outputs_ is None or self.columns is None:
            raise TrainingError("net_ can only predict for callbacks during training. Call predict of the estimator.")
        return self.outputs_, self.columns

    def evaluation_step(self, batch: Any, training: bool = False) -> torch.Tensor:
        """Return the outputs for a batch, in the estimator's order."""
        _, columns = self._numbers()
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return self.infer(batch[0])[:, columns]

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[torch.Tensor]:
        """Yield the outputs for a dataset of the training run, or for the inputs of one batch."""
        if isinstance(X, LabeledDataset):
            yield from super().forward_iter(X, training, device)
        else:
            yield self.evaluation_step((X, None), training).to(device)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of classes or labels, in the order of `classes_`."""
        outputs, _ = self._numbers()
        assert isinstance(outputs, LogitOutputs)
        return outputs.probabilities(self._outputs_for(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the prediction for each sample, in the form of `y`."""
        return self._numbers()[0].predict(self._outputs_for(X))

    def _outputs_for(self, X: Any) -> np.ndarray:
        return torch.cat(list(self.forward_iter(X))).double().numpy()


class _LastStep:
    """Report the last evaluation of the loss in an optimizer's step. skorch's default reports the first."""

    def store_step(self, step: dict[str, Any]) -> None:
        self.step = step

    def get_step(self) -> dict[str, Any]:
        return self.step


class _StopRequested(Exception):  # noqa: N818 (not an error)
    """A callback of scikit-learn asks to stop."""


class Converged(Exception):  # noqa: N818 (not an error)
    """Further epochs would change nothing."""


class WeightedNet(ScoringNet):
    """A skorch net with a weighted loss. Ctrl-C and a loss that is not finite end the fit with an error.

    Each `fit` is reported to scikit-learn's callbacks as a task, with its epochs as steps.
    """

    phase: str
    epochs = Steps()
    on = ""  # see `Run`
    stopped = False  # whether a callback of scikit-learn has asked to stop
    loss_of_zeros_ = math.inf  # training loss if all outputs are 0: the same prediction for every image
    evenness_ = 1.0  # of the weights of the training samples
    _losses: tuple[torch.Tensor, ...] = ()  # of the samples of each batch of the last validation

    def __init__(self, *args: Any, loss_scale: float = 1.0, l2: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.loss_scale = loss_scale
        self.l2 = l2

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        own = {"train_loss": MeanLoss("train_loss", on_train=True), "valid_loss": MeanLoss("valid_loss")}
        return [(name, own.get(name, callback)) for name, callback in super()._default_callbacks]

    def initialize_history(self) -> WeightedNet:
        self.history_ = QuickHistory()
        return self

    def get_loss(self, y_pred: torch.Tensor, y_true: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        values, weights = y_true
        loss = (self.criterion_(y_pred, values) * weights).sum() * self.loss_scale
        if self.l2:
            loss = loss + self.l2 / 2 * self.module_.output.weight.square().sum()
        return loss

    def get_train_step_accumulator(self) -> _LastStep:
        return _LastStep()

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Take a step, and report its loss per sample. A short last batch reduces the sum, but not the mean."""
        if not any(parameter.requires_grad for parameter in self.module_.parameters()) and not self._may_pause():
            raise TrainingError(
                f"A callback has frozen every parameter in the phase {self.phase!r}, so nothing is trained. "
                "Freeze fewer."
            )
        step = super().train_step(batch, **fit_params)
        return step | {"loss": step["loss"].detach() * (self.batch_size / len(batch[0]))}

    def _may_pause(self) -> bool:
        """Return True if the phase can go on without a parameter in training: it has trained the output layer."""
        has_trained = len(self.history) > 1
        return has_trained and self.phase == "output layer" and not isinstance(self.optimizer_, LimitedMemoryBFGS)

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        super().on_batch_end(net, batch=batch, training=training, **kwargs)
        if not math.isfinite(loss := kwargs["loss"].item()):
            place = f"epoch {len(self.history)}, batch {len(self.history[-1]['batches'])}"
            if isinstance(self.optimizer_, LimitedMemoryBFGS):
                raise TrainingError(
                    f"The loss became {loss} in {place}. Pass a larger weight_decay, or weights (sample_weight, "
                    "class_weight) that are not as different."
                )
            raise TrainingError(f"The loss became {loss} in {place}. {self.advise_slower(self.phase)}.")

    def stable_lr(self) -> float:
        """Return a learning rate of the output layer at which it does not diverge."""
        module, penalty = self.module_, max(group.get("weight_decay", 0.0) for group in self.optimizer_.param_groups)
        batch, curvature = self.batch_size * self.evenness_, self.criterion_.curvature
        return stable_lr(module.output.in_features, penalty, module.dropout, curvature, batch)

    def advise_slower(self, phase: str) -> str:
        """Return advice for a phase whose learning rate is too high, with a value that works."""
        stable = self.stable_lr()
        return f"Lower lr={self.lr:g}, for instance to {stable if stable < self.lr / 2 else self.lr / 10:.2g}"

    def fit(
        self,
        X: torch.utils.data.Dataset,
        y: None = None,
        resume: Callable[[WeightedNet], bool] | None = None,
        **fit_params: Any,
    ) -> WeightedNet:
        """Train from the start, or from the state set by `resume`, which returns True if training had finished.

        Unlike in skorch's own `fit`, KeyboardInterrupt is raised.
        """
        self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        if resume is None or not resume(self):
            self._train(X, y)
        return self

    def _train(self, X: torch.utils.data.Dataset, y: None) -> None:
        n_epochs = self.max_epochs - len(self.history)
        try:
            with task(f"epochs of the {self.phase}{self.on}", n_epochs, "epoch") as self.epochs:
                self.fit_loop(X, y, epochs=n_epochs)
        except _StopRequested:
            self.stopped = True
        except Converged:
            pass
        except KeyboardInterrupt:
            # skorch's EarlyStopping stops training by raising KeyboardInterrupt. Any other comes from the user.
            if not any(isinstance(c, EarlyStopping) and c.misses_ >= c.patience for _, c in self.callbacks_):
                raise
        finally:
            self.__dict__.pop("epochs", None)  # nets are included in pickles
        self.notify("on_train_end", X=X, y=y)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.epochs.is_enough:
            raise _StopRequested
        self.epochs.begin()
        super().on_epoch_begin(net, **kwargs)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        super().on_epoch_end(net, **kwargs)
        self.epochs.end()

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the batches of a dataset; training batches belong to the next epoch."""
        iterator = super().get_iterator(dataset, training)
        if training:
            iterator.epoch = len(self.history)
        return iterator

    def as_returned(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, replace the weights with the weights that `fit` would return now."""
        return contextlib.nullcontext()

    def run_single_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any) -> None:
        """Process the batches of an epoch; validation uses the weights that would be returned."""
        if not training:
            self._losses = ()
        with contextlib.nullcontext() if training else self.as_returned():
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[torch.Tensor]:
        """Return the logits for data that a callback scores, computed with the weights that would be returned."""
        with contextlib.nullcontext() if training else self.as_returned():
            return iter([*super().forward_iter(X, training, device)])

    def validate(self, dataset: torch.utils.data.Dataset) -> float:
        """Return the loss on a validation set, as recorded in the history."""
        self._losses = ()
        with self.as_returned():
            batches = self.get_iterator(dataset, training=False)
            found = [(self.validation_step(batch)["loss"].item(), len(batch[0])) for batch in batches]
        losses, sizes = zip(*found, strict=True)
        return float(np.average(losses, weights=sizes))

    def validate_start(self, dataset: torch.utils.data.Dataset) -> float:
        """Return the validation loss of what is returned if no epoch has a lower one."""
        return self.validate(dataset)

    def held_out_losses(self) -> np.ndarray:
        """Return the weighted loss of each sample of the validation set in the last validation, in float64."""
        return torch.cat(self._losses).double().cpu().numpy()

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Return the loss of a batch of the validation set, whose weights have mean 1."""
        self._set_training(False)
        inputs, (values, weights) = batch[:2]
        with torch.no_grad():
            outputs = self.infer(inputs)
            of_each = self.criterion_(outputs, values) * weights
            self._losses += (of_each,)
            return {"loss": of_each.sum() / len(of_each), "y_pred": outputs}

    def forget(self) -> None:
        """Release data that only training needs, because nets are included in pickles."""
        super().forget()
        self.train_split = None
        self.device = "cpu"
        self._losses = ()
        self.optimizer_.state.clear()
        if isinstance(self.optimizer_, LimitedMemoryBFGS):
            self.optimizer_.forget()
        for _, callback in self.callbacks_:
            if isinstance(callback, EarlyStopping):
                callback.best_model_weights_ = None
            if isinstance(callback, StartOrBest):
                callback.best_losses_ = None


def restored(net: WeightedNet, loss: str) -> WeightedNet:
    """Initialize a net with a module that is already trained. It cannot be trained further."""
    # skorch requires an optimizer. This one does not import torch's compiler.
    net.set_params(criterion=LOSSES[loss], train_split=None, verbose=0, optimizer=LimitedMemoryBFGS)
    net.initialize()
    net.forget()
    return net


def net_arguments(
    recipe: Recipe, dataset: LabeledDataset, held_out: LabeledDataset | None, net_params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a net that follow from a recipe and the samples, except its optimizer's arguments.

    The caller must add the user's `net_params`. Here, they only determine arguments that would contradict them.
    """
    batch_size = min(recipe.batch_size or len(dataset), len(dataset))
    tuned = any(key.startswith("callbacks__print_log__") for key in net_params)
    callbacks: list[Any] = []
    if recipe.lr_schedule == "cosine":
        n_steps = recipe.max_epochs * dataset.count_batches(batch_size)
        callbacks.append(("lr_schedule", CosineSchedule(n_steps, recipe.count_warmup(n_steps))))
    if held_out is not None and recipe.keeps_best:
        callbacks.append(("early_stopping", StartOrBest(recipe.patience or recipe.max_epochs + 1)))
    return {
        "criterion": LOSSES[recipe.loss],
        **{f"criterion__{key}": value for key, value in smoothing_of(recipe.loss, recipe.label_smoothing).items()},
        "loss_scale": 1 / (batch_size * float(dataset.weights.mean())),
        "batch_size": batch_size,
        "max_epochs": recipe.max_epochs,
        "callbacks": callbacks,
        "train_split": None if held_out is None else predefined_split(held_out),
        "predict_nonlinearity": None,
        # A user's log also prints. skorch composes its own table even if it does not print it.
        "verbose": max(0, recipe.verbose - 1, *map(_prints, net_params.get("callbacks") or [])),
        **({} if recipe.verbose > 1 or tuned else {"callbacks__print_log": None}),
    }


def optimizer_arguments(recipe: Recipe, net_params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer of a recipe as arguments of a net, with the options that the user has not set."""
    optimizer, options = find_optimizer(recipe.optimizer, {key.removeprefix("optimizer__") for key in net_params})
    named = {f"optimizer__{key}": value for key, value in options.items()}
    return {"optimizer": optimizer, "lr": recipe.lr, "optimizer__weight_decay": recipe.l2} | named


def _prints(item: Any) -> bool:
    """Return True if a callback, or a pair of a name and a callback, is a log."""
    callback = item[1] if isinstance(item, tuple) else item
    return isinstance(callback, PrintLog) or callback is PrintLog
