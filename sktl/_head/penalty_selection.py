"""Choose the features and the penalty of an output layer by cross-validation on features already computed.

No image is embedded again. All folds are trained at once, in coordinates along the main axes of the samples, where the
penalty is the same. Along the path of penalties, each training run starts from the previous result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from sktl._targets.folds import Folds, deal
from sktl._targets.split import Labelled
from sktl._targets.targets import Targets, appearance
from sktl._training.lbfgs import Descent
from sktl._utils.threads import single_threaded_pool

from .principal_axes import Coordinates, principal_coordinates

PENALTIES = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
N_FOLDS = 5
# More stages are selected only if they lower the loss by more than these fractions of the loss and of the standard
# error of the difference. Smaller differences would not show on test images, and fewer features cost less.
_LEAST_GAIN = 0.08
_LEAST_ERRORS = 0.5
# Maximum numbers of images and classes used. More would hardly ever change the choice.
_MOST_IMAGES = 4096
_MOST_CLASSES = 64
_STEPS = 60
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Candidates:
    """Candidates, each a number of stages with a penalty, and their cross-validation results.

    Parameters
    ----------
    feature_stages : int array of shape (n_candidates,)
    penalties : float64 array of shape (n_candidates,)
    losses : float64 array of shape (n_candidates, n_samples)
        Log loss of each sample while it was held out; NaN if it was not scored.
    hits : float64 array of shape (n_candidates, n_samples)
        1 if the sample was classified correctly and 0 otherwise; NaN if it was not scored.
    folds : int array of shape (n_samples,)
        Fold in which the sample was held out.
    weights : float64 array of shape (n_samples,)
    """

    feature_stages: np.ndarray
    penalties: np.ndarray
    losses: np.ndarray
    hits: np.ndarray
    folds: np.ndarray
    weights: np.ndarray

    def best(self) -> int | None:
        """Return the position of the best candidate; None if nothing was scored.

        For each number of stages, this is the penalty with the lowest mean loss. More stages are selected only if they
        lower the loss by the given fractions of the loss and of the standard error of the difference.
        """
        means = mean(self.losses, self.weights)
        if not np.isfinite(means).any():
            return None
        taken: int | None = None
        for n_stages in np.unique(self.feature_stages):
            lowest = int(np.nanargmin(np.where(self.feature_stages == n_stages, means, np.inf)))
            if taken is None:
                taken = lowest
                continue
            by, error = excess(self.losses[taken], self.losses[lowest], self.weights)
            if by > max(_LEAST_GAIN * means[taken], _LEAST_ERRORS * error):
                taken = lowest
        return taken

    def table(self) -> dict[str, np.ndarray]:
        """Return the results in the form of scikit-learn's `cv_results_`, with one entry per candidate."""
        losses = mean(self.losses, self.weights)
        of_folds = {
            f"split{fold}_log_loss": mean(np.where(self.folds == fold, self.losses, np.nan), self.weights)
            for fold in range(int(self.folds.max(initial=-1)) + 1)
        }
        return {
            "param_feature_stages": self.feature_stages,
            "param_weight_decay": self.penalties,
            **of_folds,
            "mean_log_loss": losses,
            "mean_accuracy": mean(self.hits, self.weights),
        }


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean of each row over the scored samples; NaN if no sample was scored."""
    known = weights * np.isfinite(values)
    sums, totals = (np.nan_to_num(values) * known).sum(axis=1), known.sum(axis=1)
    return np.divide(sums, totals, out=np.full(len(values), np.nan), where=totals > 0)


def excess(losses: np.ndarray, others: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the mean difference between losses and other losses of the same samples, and its standard error."""
    differences = losses - others
    scored = np.isfinite(differences) & (weights > 0)
    shares = weights[scored] / weights[scored].sum()
    by = float(shares @ differences[scored])
    return by, float(np.sqrt(shares**2 @ (differences[scored] - by) ** 2))


def cross_validate(
    labelled: Labelled[np.ndarray],
    block_sizes: Mapping[int, Sequence[int]],
    penalties: Sequence[float],
    shrinkage: float,
    label_smoothing: float,
    seed: int,
    n_threads: int,
) -> Candidates:
    """Return the cross-validation results of each number of stages with each penalty.

    Parameters
    ----------
    labelled : Labelled float32 array of shape (n_samples, n_features)
        Features of the largest number of stages. Samples of the same group are held out together.
    block_sizes : mapping of int to sequence of int
        The sizes of the blocks of features for each number of stages. Features of a block are standardized together.
        The features of fewer stages are a prefix of all features.
    penalties : sequence of float
        Penalties from strong to weak.
    shrinkage, label_smoothing : float
        See `Recipe`.
    seed : int
        Seed of the folds, and of the sample of images if there are many.
    n_threads : int
        Number of threads. Results do not depend on it.
    """
    # Numbered in order of appearance, so that renamed classes lead to the same folds.
    features, targets = labelled.samples, labelled.targets
    targets = replace(targets, codes=appearance(targets.codes)[targets.codes])
    rows = _looked_at(targets, seed)
    classes, codes = np.unique(targets.codes[rows], return_inverse=True)
    targets = replace(targets.take(rows), classes=classes, codes=codes.astype(np.int64))
    folds = deal(targets.codes, targets.groups, N_FOLDS, seed)
    problem = _Problem.of(targets, folds, label_smoothing)
    seen = features if len(rows) == len(features) else features[rows]
    with single_threaded_pool(n_threads) as pool:
        coordinates = principal_coordinates(seen, targets.weights, [*sorted(block_sizes.items())], shrinkage, pool)
        found = [*pool.map(partial(_path, problem=problem, penalties=penalties), coordinates)]
    n_candidates = len(penalties) * len(block_sizes)
    return Candidates(
        np.repeat(sorted(block_sizes), len(penalties)),
        np.tile(np.asarray(penalties, dtype=np.float64), len(block_sizes)),
        np.concatenate([losses for losses, _ in found]).reshape(n_candidates, -1),
        np.concatenate([hits for _, hits in found]).reshape(n_candidates, -1),
        folds.of_sample,
        targets.weights,
    )


def _looked_at(targets: Targets, seed: int) -> np.ndarray:
    """Return the rows of samples with nonzero weight, from a limited number of classes, in a limited number."""
    drawn = np.random.RandomState(seed).permutation(len(targets.classes))[:_MOST_CLASSES]
    rows = np.flatnonzero((targets.weights > 0) & np.isin(targets.codes, drawn))
    if len(rows) <= _MOST_IMAGES:
        return rows
    parts = deal(targets.codes[rows], None, -(-len(rows) // _MOST_IMAGES), seed)
    return rows[parts.of_sample == 0]


@dataclass(frozen=True)
class _Problem:
    """Data shared by all candidates.

    Parameters
    ----------
    codes : int64 tensor of shape (n_samples,)
    wanted : float32 tensor of shape (n_classes, n_samples)
        Target probabilities.
    shares : float32 tensor of shape (n_folds, n_samples)
        Weights of the samples in the training of each fold, which sum to 1.
    folds : int64 tensor of shape (n_samples,)
    scored : bool tensor of shape (n_samples,)
    weights : float64 array of shape (n_samples,)
    """

    codes: torch.Tensor
    wanted: torch.Tensor
    shares: torch.Tensor
    folds: torch.Tensor
    scored: torch.Tensor
    weights: np.ndarray

    @classmethod
    def of(cls, targets: Targets, folds: Folds, label_smoothing: float) -> _Problem:
        n_classes = len(targets.classes)
        codes = torch.from_numpy(targets.codes)
        wanted = torch.full((n_classes, len(codes)), label_smoothing / n_classes, dtype=torch.float32)
        wanted[codes, torch.arange(len(codes))] += 1 - label_smoothing
        trained = folds.of_sample != np.arange(folds.n_folds)[:, None]
        shares = trained * targets.weights
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return cls(
            codes,
            wanted,
            torch.from_numpy(shares.astype(np.float32)),
            torch.from_numpy(folds.of_sample),
            torch.from_numpy(folds.scored),
            targets.weights,
        )


def _path(coordinates: Coordinates, problem: _Problem, penalties: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return losses and hits of the held-out samples, each of shape (n_penalties, n_samples)."""
    inputs, squares = coordinates
    n_samples, n_axes = inputs.shape
    n_classes, n_folds = problem.wanted.shape[0], problem.shares.shape[0]
    losses, hits = np.full((2, len(penalties), n_samples), np.nan)
    point = inputs.new_zeros(n_folds, n_classes * (n_axes + 1))
    for i, penalty in enumerate(penalties):
        loss = _Loss(inputs, squares, problem, penalty)
        point = Descent(loss, point, _TOLERANCE, loss.precondition).run(_STEPS).point
        logits = _logits(inputs, point.view(n_folds, n_classes, n_axes + 1))[problem.folds, :, torch.arange(n_samples)]
        of_each = torch.nn.functional.cross_entropy(logits, problem.codes, reduction="none")
        losses[i] = np.where(problem.scored, of_each, np.nan)
        hits[i] = np.where(problem.scored, logits.argmax(dim=1) == problem.codes, np.nan)
        if _rises(losses[: i + 1], problem.weights):
            break
    return losses, hits


def _rises(losses: np.ndarray, weights: np.ndarray) -> bool:
    """Return True if the last loss along a path is clearly above the lowest. Weaker penalties would raise it."""
    means = mean(losses, weights)
    if not np.isfinite(means).all():
        return True
    by, error = excess(losses[-1], losses[means.argmin()], weights)
    return by > error


def _logits(inputs: torch.Tensor, layers: torch.Tensor) -> torch.Tensor:
    """Return the logits of all samples from the layers of all folds, of shape (n_folds, n_classes, n_samples)."""
    flat = layers.flatten(0, 1)
    return torch.addmm(flat[:, -1:], flat[:, :-1], inputs.t()).unflatten(0, layers.shape[:2])


@dataclass
class _Loss:
    """The penalized losses of all folds as functions of their layers.

    Samples are the last axis of all arrays, so sums over the few classes run along contiguous memory.

    Parameters
    ----------
    inputs, squares : tensor
        Coordinates, and their mean squares.
    problem : _Problem
    penalty : float
    """

    inputs: torch.Tensor
    squares: torch.Tensor
    problem: _Problem
    penalty: float

    def __call__(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the values of all folds and their gradients."""
        wanted, shares = self.problem.wanted, self.problem.shares
        layers = point.view(len(point), len(wanted), -1)
        logits = _logits(self.inputs, layers)
        # Written out, because torch's softmax takes three times as long for few classes.
        logits -= logits.amax(dim=1, keepdim=True)
        found = logits.exp()
        totals = found.sum(dim=1, keepdim=True)
        of_each = totals[:, 0].log() - (logits * wanted).sum(dim=1)
        penalized = layers[:, :, :-1]
        values = (of_each * shares).sum(dim=1) + self.penalty / 2 * penalized.square().sum(dim=(1, 2))
        found /= totals
        self.curvatures = torch.einsum("fkn,fn->fk", found - found.square(), shares)
        slopes = found.sub_(wanted).mul_(shares[:, None])
        gradients = torch.empty_like(layers)
        by_weights = (slopes.flatten(0, 1) @ self.inputs).view_as(penalized)
        torch.add(by_weights, penalized, alpha=self.penalty, out=gradients[:, :, :-1])
        gradients[:, :, -1] = slopes.sum(dim=2)
        return values, gradients.flatten(1)

    def precondition(self, gradients: torch.Tensor) -> torch.Tensor:
        """Divide gradients by approximate second derivatives at the last point at which the loss was evaluated."""
        n_classes, n_axes = len(self.problem.wanted), len(self.squares)
        seconds = torch.empty(len(gradients), n_classes, n_axes + 1)
        torch.mul(self.curvatures[:, :, None], self.squares, out=seconds[:, :, :-1])
        seconds[:, :, :-1] += self.penalty
        seconds[:, :, -1] = self.curvatures
        return gradients / seconds.flatten(1).clamp_min_(torch.finfo(seconds.dtype).tiny)
