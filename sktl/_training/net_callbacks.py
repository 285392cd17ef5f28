"""skorch callbacks: learning rates by step, early stopping that includes the start, and the history."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from sktl._utils.docstrings import documented

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring
    from skorch.history import History as History


# By this many standard errors, a loss is clearly higher than another one of the same images.
_CLEAR = 2.0


class CosineSchedule(Callback):
    """Set the learning rates of each step: a linear rise to the maximum, then half a cosine down to 0.

    skorch's `LRScheduler` with torch's `LambdaLR` would set the same rates, but take a tenth of the time of a step.

    Parameters
    ----------
    n_steps : int
    n_warmup : int
        Number of steps of the rise.
    """

    def __init__(self, n_steps: int, n_warmup: int = 0):
        self.n_steps = n_steps
        self.n_warmup = n_warmup

    def factor(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0, as a fraction of the maximum."""
        if step < self.n_warmup:
            return (step + 1) / (self.n_warmup + 1)
        n_falling = self.n_steps - self.n_warmup
        return (1 + math.cos(math.pi * min(step - self.n_warmup, n_falling) / max(1, n_falling))) / 2

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self.resume(net, 0)

    def resume(self, net: NeuralNet, step: int) -> None:
        """Set the learning rates of the step from which training resumes."""
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
            # torch's own schedulers look for the maximum rate under the same key.
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


class StartOrBest(EarlyStopping):
    """Stop when the validation loss no longer falls, and restore the best weights, which may be the initial ones.

    Unlike skorch's early stopping, any lower loss counts as an improvement, and the start is validated as epoch 0. The
    restored weights therefore have the lowest of all validation losses. After training, the history begins with a row
    for the start, without a training loss. For each epoch, it says whether the loss was the lowest so far, and whether
    it was near the lowest: not higher by more than two standard errors of the difference.

    Parameters
    ----------
    patience : int
        Number of epochs without a lower loss after which training stops.
    """

    def __init__(self, patience: int):
        super().__init__(patience=patience, threshold=0.0, load_best=True, sink=_silent)

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        super().on_train_begin(net, **kwargs)
        self.start_loss_: float | None = None

    def on_epoch_begin(self, net: Any, dataset_valid: Any = None, **kwargs: Any) -> None:
        if self.start_loss_ is None:
            self.start_loss_ = self.dynamic_threshold_ = net.validate_start(dataset_valid)
            self.best_losses_ = net.held_out_losses()
            self.best_model_weights_ = copy.deepcopy(net.module_.state_dict())

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        # skorch has compared the epoch with previous epochs, but not with the start.
        is_best, losses = bool(self._is_score_improved(net.history[-1, self.monitor])), net.held_out_losses()
        net.history.record("valid_loss_best", is_best)
        net.history.record("valid_loss_near_best", is_best or not _clearly_higher(losses, self.best_losses_))
        if is_best:
            self.best_losses_ = losses
        super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        if self.start_loss_ is not None:  # otherwise, no epoch has begun
            super().on_train_end(net, **kwargs)
            net.history.insert(0, _start_row(self.start_loss_))


class MeanLoss(PassthroughScoring):
    """The mean of a value recorded for batches. skorch's own callback is slow to look it up in the history."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        size = "train_batch_size" if self.on_train else "valid_batch_size"
        found = [(batch[self.name], batch[size]) for batch in net.history[-1]["batches"] if self.name in batch]
        if not found:  # without a validation set
            return
        mean = sum(loss * n for loss, n in found) / sum(n for _, n in found)
        is_best = self._is_best_score(mean)
        if is_best:
            self.best_score_ = mean
        net.history.record(self.name, mean)
        net.history.record(f"{self.name}_best", bool(is_best))


def _clearly_higher(losses: np.ndarray, others: np.ndarray) -> bool:
    """Return True if some losses exceed others of the same images by more than two standard errors of the difference.

    Parameters
    ----------
    losses, others : float64 array of shape (n_images,)
    """
    differences = losses - others
    error = differences.std() / math.sqrt(max(1, len(differences) - 1))
    return bool(differences.mean() > _CLEAR * error)


def _start_row(loss: float) -> dict[str, Any]:
    return {"batches": [], "epoch": 0, "valid_loss": loss, "valid_loss_best": True}


def count_epochs(history: History) -> int:
    """Return the number of trained epochs. The start may have a row of its own, which does not count."""
    return sum("train_loss" in row for row in history)


def count_good_epochs(history: History) -> int:
    """Return the number of epochs for which a phase that early stopping ended is repeated on all images.

    Of the last epochs, the one with the lowest loss on a few validation images is mostly the luckiest, and the learning
    rates of fewer epochs fall earlier. The last epoch whose loss is near the lowest is therefore taken, or 0 if the
    start had the lowest loss.
    """
    if kept_start(history):
        return 0
    # Rows of the start, and of checkpoints of versions that recorded only the lowest loss, do not say what is near it.
    near = [i for i, row in enumerate(history) if row.get("valid_loss_near_best", row.get("valid_loss_best"))][-1]
    start = max(i for i, row in enumerate(history) if "train_loss" not in row)
    return near - start


def kept_start(history: History) -> bool:
    """Return True if early stopping found no epoch of the last phase that was better than its start."""
    best = [row for row in history if row.get("valid_loss_best")]
    return bool(best) and "train_loss" not in best[-1]


class QuickHistory(History):
    """A history that finds a row quickly. skorch's history copies the list of all epochs several times per step."""

    def __getitem__(self, i: Any) -> Any:
        return list.__getitem__(self, i) if isinstance(i, int) else super().__getitem__(i)


def _silent(message: str, **kwargs: Any) -> None:
    """Discard a message."""
