"""One training run: the net with the user's additions, trained from the start or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from sktl._targets.outputs import Outputs
from sktl._utils.warnings import warn

from .checkpoints import Checkpoint, SaveState, fit_from
from .learning_rates import evenness
from .net_callbacks import kept_start
from .net_params import copied
from .recipe import Recipe
from .skorch_net import LabeledDataset, WeightedNet, net_arguments, optimizer_arguments

Net = TypeVar("Net", bound=WeightedNet)

# Training has diverged if its last loss exceeds this many times the loss of outputs that are 0. This loss is 1/2 for a
# number, and 0 for a number that is the same for all images.
_DIVERGED = 2.0
_LEAST_LOSS = 0.5
_ROWS = 1024


@dataclass(frozen=True)
class Run:
    """Everything about a training run except its samples and its recipe.

    Parameters
    ----------
    seed : int
        Seed of all random numbers in the run.
    net_params : mapping or None
        Additional arguments of the skorch net. Not modified.
    checkpoint : Checkpoint or None
        Stores the state after each epoch. Training resumes from it.
    title : str
        Title of the progress bar of training stages.
    on : str
        Distinguishes two training runs of the same phase. Appended to the title of the bar and to the name of the task.
    n_epochs : int or None
        Number of epochs for which stages are trained, instead of the recipe's. The schedule of the learning rate spans
        them.
    """

    seed: int
    net_params: Mapping[str, Any] | None = None
    checkpoint: Checkpoint | None = None
    title: str = "training of stages"
    on: str = ""
    n_epochs: int | None = None

    def count_epochs(self, recipe: Recipe) -> int:
        """Return the number of epochs that are trained."""
        return recipe.max_epochs if self.n_epochs is None else self.n_epochs

    def make_net(
        self,
        kind: type[Net],
        module: Any,
        recipe: Recipe,
        dataset: LabeledDataset,
        held_out: LabeledDataset | None,
        **own: Any,
    ) -> Net:
        """Return a net of the given class for a recipe, with its own arguments and the user's."""
        given = copied(self.net_params)
        recipe = replace(recipe, max_epochs=self.count_epochs(recipe))
        arguments = net_arguments(recipe, dataset, held_out, given)
        arguments |= {} if "optimizer" in own else optimizer_arguments(recipe, given)
        arguments["callbacks"] += given.pop("callbacks", None) or []
        arguments["callbacks"] += [] if self.checkpoint is None else [("keeping", SaveState(self.checkpoint))]
        return kind(module, **(arguments | own | given))

    def train(self, net: WeightedNet, dataset: LabeledDataset, outputs: Outputs, rank: np.ndarray) -> None:
        """Train a net whose module has the outputs' column `i` in column `rank[i]`. Warn if its start was best."""
        net.number(outputs, rank)
        net.on, net.evenness_ = self.on, evenness(dataset.weights.numpy())
        fit_from(net, dataset, self.checkpoint)
        net.loss_of_zeros_ = _loss_of_zeros(net, dataset, len(rank))
        if kept_start(net.history):
            start, *losses = net.history[:, "valid_loss"]
            warn(
                f"No epoch of the {net.phase} lowered the validation loss (start {start:.4g}, best epoch "
                f"{min(losses):.4g}), so the initial weights are returned. {net.advise_slower(net.phase)}, "
                "or use more validation images.",
                ConvergenceWarning,
            )


def _loss_of_zeros(net: WeightedNet, dataset: LabeledDataset, n_outputs: int) -> float:
    """Return the loss, as in training, of a module whose outputs are all 0."""
    parts = zip(dataset.values.split(_ROWS), dataset.weights.split(_ROWS), strict=True)
    sums = [(net.criterion_(torch.zeros(len(of), n_outputs), of) * weights).sum().item() for of, weights in parts]
    return sum(sums) / (len(dataset) * float(dataset.weights.mean()))


def warn_if_diverged(net: WeightedNet) -> None:
    """Warn if a phase has ended with a loss far above the loss of the same prediction for every image.

    With early stopping, the weights with the lowest validation loss are returned instead. The history of such a phase
    begins with a row for its start, without a training loss.
    """
    limit = _DIVERGED * max(net.loss_of_zeros_, _LEAST_LOSS)
    for phase, rows in groupby(net.history, lambda row: row.get("phase", net.phase)):
        losses = [row.get("train_loss", math.nan) for row in rows]
        if losses[-1] > limit and not math.isnan(losses[0]):
            warn(
                f"The training loss of the phase {phase!r} ended at {losses[-1]:.4g}, far above "
                f"{net.loss_of_zeros_:.4g}, the loss of the same prediction for every image. "
                f"{net.advise_slower(phase)}.",
                ConvergenceWarning,
            )
            return
