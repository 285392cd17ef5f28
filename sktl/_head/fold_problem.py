"""The output layers of all folds of a cross-validation as one problem: their penalized losses, and their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from sktl._targets.base_targets import Targets
from sktl._targets.folds import Folds
from sktl._training.lbfgs import usable_curvatures
from sktl._training.losses import CrossEntropy, ElementwiseLoss

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class FoldProblem:
    """Data shared by all candidates.

    Parameters
    ----------
    values : tensor of shape (n_samples,) or (n_samples, n_outputs)
        Codes of classes, or the target of each output.
    wanted : float32 tensor of shape (n_outputs, n_samples) or (n_folds, n_outputs, n_samples)
        Targets for the loss. They differ between folds if a label is constant in the training of some folds.
    shares : float32 tensor of shape (n_folds, n_samples)
        Weights of the samples in the training of each fold, which sum to 1.
    of_outputs : float32 tensor of shape (n_outputs, n_samples) or None
        Weights of single outputs.
    folds : int64 tensor of shape (n_samples,)
    scored : bool array of shape (n_samples,) or (n_samples, n_outputs)
        Whether each sample, or each of its outputs, is scored while it is held out.
    weights : float64 array of shape (n_samples,)
    loss : CrossEntropy or ElementwiseLoss
    """

    values: torch.Tensor
    wanted: torch.Tensor
    shares: torch.Tensor
    of_outputs: torch.Tensor | None
    folds: torch.Tensor
    scored: np.ndarray
    weights: np.ndarray
    loss: CrossEntropy | ElementwiseLoss

    @classmethod
    def of(
        cls,
        targets: Targets,
        folds: Folds,
        loss: CrossEntropy | ElementwiseLoss,
        trusted: np.ndarray | None = None,
    ) -> FoldProblem:
        """Return the problem of learning from the samples of the other folds, or from those that are trusted."""
        in_order = np.arange(len(targets.outputs))
        shares = (folds.of_sample != np.arange(folds.n_folds)[:, None]) * targets.weights
        if trusted is not None:
            shares *= trusted
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), _TINY)
        learned = np.stack([targets.learnable(each) for each in shares])

        def wanted(seen: Targets) -> torch.Tensor:
            return loss.wanted(torch.from_numpy(seen.ranked_values(in_order)), len(in_order))

        is_alike = learned.all() or targets.loss == "cross_entropy"
        problem = cls(
            torch.from_numpy(targets.ranked_values(in_order)),
            wanted(targets) if is_alike else torch.stack([wanted(targets.trained_with(each)) for each in shares]),
            torch.from_numpy(shares.astype(np.float32)),
            _weights_of_outputs(targets, in_order),
            torch.from_numpy(folds.of_sample),
            targets.scored(learned[folds.of_sample]),
            targets.weights,
            loss,
        )
        return problem.scoring_several_classes()

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.wanted.shape[-2]

    def of_fold(self, fold: int) -> FoldProblem:
        """Return the problem of the training of a single fold."""
        wanted = self.wanted if self.wanted.ndim == 2 else self.wanted[fold : fold + 1]
        return replace(self, wanted=wanted, shares=self.shares[fold : fold + 1])

    def holding_out(self, fold: int) -> FoldProblem:
        """Return the problem in which only samples of one fold are held out, and therefore scored."""
        is_held_out = self.folds.numpy() == fold
        scored = self.scored & (is_held_out if self.scored.ndim == 1 else is_held_out[:, None])
        held_out = replace(self.of_fold(fold), folds=torch.zeros_like(self.folds), scored=scored)
        return held_out.scoring_several_classes()

    def scoring_several_classes(self) -> FoldProblem:
        """Return the problem in which nothing is scored if all scored samples are of one of several classes.

        They show only how often this class is predicted, so the weakest penalty would be the best.
        """
        is_of_classes = isinstance(self.loss, CrossEntropy) and self.n_outputs > 1
        if not is_of_classes or len(torch.unique(self.values[self.scored])) > 1:
            return self
        return replace(self, scored=np.zeros_like(self.scored))

    def scores(self, outputs: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss and the score of each sample, given its outputs while it was held out; NaN if not scored.

        Of several outputs, the mean is taken.
        """
        losses, scores = self.loss.held_out(outputs, self.values, torch.from_numpy(self.weights))
        scored = self.scored
        if scored.ndim == 2:
            factors, scored = self._factors(), np.asarray(scored.any(axis=1))
            losses, scores = ((some * factors).nanmean(dim=1) for some in (losses, scores))
        return np.where(scored, losses, np.nan), np.where(scored, scores, np.nan)

    def weights_of_scores(self) -> torch.Tensor:
        """Return the weights of samples, or of their outputs, in the mean over what is scored; 0 if not scored."""
        weights = torch.from_numpy(self.weights)
        if self.scored.ndim == 1:
            return weights * torch.from_numpy(self.scored)
        return (weights[:, None] * self._factors()).nan_to_num().expand(self.scored.shape)

    def _factors(self) -> torch.Tensor | float:
        """Return factors with which the mean over all scored samples is the mean over the weighted means of outputs.

        Returns
        -------
        factors : float64 tensor of shape (n_samples, n_outputs) or float
            NaN for outputs that are never scored. A float if all factors are equal.
        """
        if self.of_outputs is None and self.scored.all():
            return 1.0
        factors = self.scored * (1.0 if self.of_outputs is None else self.of_outputs.numpy().T.astype(np.float64))
        totals = (self.weights[:, None] * factors).sum(axis=0)
        total = self.weights[self.scored.any(axis=1)].sum()
        return torch.from_numpy(factors * np.divide(total, totals, out=np.full(len(totals), np.nan), where=totals > 0))


def _weights_of_outputs(targets: Targets, in_order: np.ndarray) -> torch.Tensor | None:
    """Return the weights of the outputs relative to the weights of the samples, unless all are 1."""
    weights = targets.ranked_weights(in_order)
    if weights.ndim == 1 or (weights == targets.weights[:, None]).all():
        return None
    relative = weights / np.maximum(targets.weights, _TINY)[:, None]
    return torch.from_numpy(np.ascontiguousarray(relative.T.astype(np.float32)))


def outputs_of(inputs: torch.Tensor, layers: torch.Tensor) -> torch.Tensor:
    """Return the outputs of all samples from the layers of all folds, of shape (n_folds, n_outputs, n_samples)."""
    flat = layers.flatten(0, 1)
    return torch.addmm(flat[:, -1:], flat[:, :-1], inputs.t()).unflatten(0, layers.shape[:2])


@dataclass
class PenalizedLosses:
    """The penalized losses of all folds as functions of their layers.

    Samples are the last axis of all arrays, so sums over the few classes run along contiguous memory.

    Parameters
    ----------
    inputs, squares : tensor
        Coordinates, and their mean squares.
    problem : FoldProblem
    penalty : float
    """

    inputs: torch.Tensor
    squares: torch.Tensor
    problem: FoldProblem
    penalty: float

    def __call__(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the values of all folds and their gradients."""
        problem, shares = self.problem, self.problem.shares
        layers = point.view(len(point), problem.n_outputs, -1)
        outputs = outputs_of(self.inputs, layers)
        of_each, slopes, seconds = problem.loss.along_samples(outputs, problem.wanted, problem.of_outputs)
        penalized = layers[:, :, :-1]
        values = (of_each * shares).sum(dim=1) + self.penalty / 2 * penalized.square().sum(dim=(1, 2))
        self.curvatures = torch.einsum("fkn,fn->fk", seconds, shares)
        slopes = slopes.mul_(shares[:, None])
        gradients = torch.empty_like(layers)
        by_weights = (slopes.flatten(0, 1) @ self.inputs).view_as(penalized)
        torch.add(by_weights, penalized, alpha=self.penalty, out=gradients[:, :, :-1])
        gradients[:, :, -1] = slopes.sum(dim=2)
        return values, gradients.flatten(1)

    def precondition(self, gradients: torch.Tensor) -> torch.Tensor:
        """Divide gradients by approximate second derivatives at the last point at which the loss was evaluated."""
        n_outputs, n_axes = self.problem.n_outputs, len(self.squares)
        curvatures = usable_curvatures(self.curvatures)
        seconds = torch.empty(len(gradients), n_outputs, n_axes + 1)
        torch.mul(curvatures[:, :, None], self.squares, out=seconds[:, :, :-1])
        seconds[:, :, :-1] += self.penalty
        seconds[:, :, -1] = curvatures
        return gradients / seconds.flatten(1).clamp_min_(torch.finfo(seconds.dtype).tiny)
