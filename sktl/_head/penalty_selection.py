"""Choose the features and the penalty of an output layer by cross-validation on features already computed.

No image is embedded again. All folds are trained at once, in coordinates along the principal axes of the samples, where
the penalty is the same. Along the path of penalties, each training run starts where the results of the runs before lead
to. If there are few images, each candidate is also scored with its logits divided by its best temperature. If there are
many, some of them choose the features. The best penalty for fewer images is stronger, so more images refine it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from sktl._targets.base_targets import Targets
from sktl._targets.folds import Folds
from sktl._targets.labeled_samples import Labeled
from sktl._targets.sample_groups import with_copies_together
from sktl._training.lbfgs import Descent
from sktl._training.losses import make_loss
from sktl._utils.threads import single_threaded_pool

from .fold_problem import FoldProblem, PenalizedLosses, outputs_of
from .principal_axes import AXES, Coordinates, coordinates_of_many, principal_coordinates
from .temperature import best_temperature

_OF_LOGITS = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
_OF_NUMBERS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3)
# Candidates for each loss. Few images of hard classes, and rare labels, need the strongest. The loss of numbers does
# not level off, so numbers need even stronger penalties.
PENALTIES = {
    "cross_entropy": _OF_LOGITS,
    "binary_cross_entropy": _OF_LOGITS,
    "squared_error": _OF_NUMBERS,
    "huber": _OF_NUMBERS,
}
N_FOLDS = 5
# More stages are selected only if they lower the loss by more than these fractions of the loss and of the standard
# error of the difference. Smaller differences would not show on test images, and fewer features cost less.
LEAST_GAIN = 0.02
_LEAST_ERRORS = 0.5
# Maximum number of classes, labels or numbers used. More would hardly ever change the choice.
_MOST_COLUMNS = 64
# Maximum number of images that choose the features.
_MOST_IMAGES = 4096
# Maximum number of images that refine the penalty. Along fewer axes, its best value would be too strong.
_MOST_REFINING = 16384
_REFINING_AXES = 1024
_STEPS = 60
# Results from which the next one is extrapolated. For classes and labels, starting from the last result itself takes
# twice as many evaluations. For numbers, extrapolation takes more, because their results are less converged in
# directions that matter little.
_N_EXTRAPOLATED = {"cross_entropy": 3, "binary_cross_entropy": 3, "squared_error": 1, "huber": 1}
_TOLERANCE = 3e-5


@dataclass(frozen=True)
class Conditions:
    """What all candidates of a cross-validation have in common.

    Parameters
    ----------
    shrinkage, label_smoothing : float
        See `Recipe`.
    seed : int
        Seed of the folds, and of the sample of images if there are many.
    n_threads : int
        Number of threads. Results do not depend on it.
    divides : bool
        Whether logits may be divided by a temperature. If so, each candidate is also scored at its best temperature.
    """

    shrinkage: float
    label_smoothing: float
    seed: int
    n_threads: int
    divides: bool = False


@dataclass(frozen=True)
class Candidates:
    """Candidates, each a number of stages, a penalty and a temperature, and their cross-validation results.

    Parameters
    ----------
    feature_stages : int array of shape (n_candidates,)
    penalties : float64 array of shape (n_candidates,)
    temperatures : float64 array of shape (n_candidates,)
        What logits are divided by, in (0, 1].
    losses : float64 array of shape (n_candidates, n_samples)
        Loss of each sample while it was held out; NaN if it was not scored. With several outputs, the mean over them.
    scores : float64 array of shape (n_candidates, n_samples)
        For classes, 1 if the sample was classified correctly and 0 otherwise; NaN if it was not scored.
    folds : int array of shape (n_samples,)
        Fold in which the sample was held out.
    weights : float64 array of shape (n_samples,)
    names : (str, str)
        Names of the loss and of the score.
    """

    feature_stages: np.ndarray
    penalties: np.ndarray
    temperatures: np.ndarray
    losses: np.ndarray
    scores: np.ndarray
    folds: np.ndarray
    weights: np.ndarray
    names: tuple[str, str]

    def lowest(self, n_stages: int, allowed: np.ndarray | bool = True) -> int:
        """Return the position of the candidate with the lowest mean loss for a number of stages, of those allowed."""
        allowed = allowed & (self.feature_stages == n_stages)
        return int(np.nanargmin(np.where(allowed, mean(self.losses, self.weights), np.inf)))

    def best(self, penalties: Sequence[float] | None = None, least_gain: float = LEAST_GAIN) -> int | None:
        """Return the position of the best candidate, of those with some penalties; None if nothing was scored.

        For each number of stages, this is the penalty with the lowest mean loss. More stages are selected only if they
        lower the loss by more than `least_gain` times the loss, and by more than a fraction of the standard error of
        the difference. The same holds for a temperature.
        """
        if not np.isfinite(self.losses).any():
            return None
        allowed = np.isin(self.penalties, self.penalties if penalties is None else penalties)
        best = self._best_of(allowed & (self.temperatures == 1), least_gain)
        divided = self._best_of(allowed, least_gain)
        return divided if self._improves(best, divided, least_gain) else best

    def _best_of(self, allowed: np.ndarray, least_gain: float) -> int:
        first, *others = (self.lowest(int(n_stages), allowed) for n_stages in np.unique(self.feature_stages))
        for other in others:
            if self._improves(first, other, least_gain):
                first = other
        return first

    def _improves(self, simple: int, other: int, least_gain: float) -> bool:
        """Return True if a candidate is clearly better than a simpler one."""
        by, error = excess(self.losses[simple], self.losses[other], self.weights)
        return by > max(least_gain * float(mean(self.losses[[simple]], self.weights)[0]), _LEAST_ERRORS * error)

    def table(self, is_refined: bool = False) -> dict[str, np.ndarray]:
        """Return the results in the form of scikit-learn's `cv_results_`, with one entry per candidate."""
        losses, (loss, score) = mean(self.losses, self.weights), self.names
        of_logits = {"temperature": self.temperatures} if loss == "log_loss" else {}
        of_folds = {
            f"split{fold}_{loss}": mean(np.where(self.folds == fold, self.losses, np.nan), self.weights)
            for fold in range(int(self.folds.max(initial=-1)) + 1)
        }
        return {
            "param_feature_stages": self.feature_stages,
            "param_weight_decay": self.penalties,
            **of_logits,
            **of_folds,
            f"mean_{loss}": losses,
            f"mean_{score}": mean(self.scores, self.weights),
            "refined": np.full(len(losses), is_refined),
        }


def joined(table: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the rows of one table and then those of another one, which may have fewer folds."""
    n_rows = len(other["refined"])
    return {name: np.concatenate([column, other.get(name, np.full(n_rows, np.nan))]) for name, column in table.items()}


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
    labeled: Labeled[np.ndarray],
    block_sizes: Mapping[int, Sequence[int]],
    penalties: Sequence[float],
    conditions: Conditions,
) -> Candidates:
    """Return the cross-validation results of each number of stages with each penalty.

    Parameters
    ----------
    labeled : Labeled float32 array of shape (n_samples, n_features)
        Features of the largest number of stages. Samples of the same group are held out together.
    block_sizes : mapping of int to sequence of int
        The sizes of the blocks of features for each number of stages. Features of a block are standardized together.
        The features of fewer stages are a prefix of all features.
    penalties : sequence of float
        Penalties from strong to weak.
    conditions : Conditions
    """
    features, targets = _looked_at(labeled, block_sizes, _MOST_IMAGES, conditions.seed)
    folds, problem = _problem(targets, conditions)
    with single_threaded_pool(conditions.n_threads) as pool:
        stages = [*sorted(block_sizes.items())]
        arguments = AXES[targets.loss], features, targets.weights, stages, conditions.shrinkage, pool
        coordinates = principal_coordinates(*arguments)
        n_known = _N_EXTRAPOLATED[targets.loss]
        # Otherwise, the axes do not describe the samples completely, and logits are too small for this reason alone.
        divides = conditions.divides and len(features) <= AXES[targets.loss]
        path = partial(_path, problem=problem, penalties=penalties, n_known=n_known, divides=divides)
        found = [*pool.map(path, coordinates)]
    return _candidates(found, sorted(block_sizes), folds, problem)


def refine(
    labeled: Labeled[np.ndarray],
    block_sizes: Mapping[int, Sequence[int]],
    penalties: Sequence[float],
    conditions: Conditions,
) -> Candidates | None:
    """Return results for penalties from a chosen one to weaker ones on more images, or None if there are no more.

    One fold is held out, and more axes are used than by `cross_validate`.

    Parameters
    ----------
    block_sizes : mapping of int to sequence of int
        The sizes of the blocks of features for the chosen number of stages.
    labeled, penalties, conditions
        See `cross_validate`.
    """
    if len(penalties) == 1 or len(labeled.targets) <= _MOST_IMAGES:
        return None
    features, targets = _looked_at(labeled, block_sizes, _MOST_REFINING, conditions.seed)
    if len(features) <= _MOST_IMAGES:
        return None
    folds, problem = _problem(targets, conditions)
    problem = problem.holding_out(targets.typical_fold(folds, conditions.seed))
    (sizes,) = block_sizes.values()
    with single_threaded_pool(conditions.n_threads) as pool:
        arguments = features, targets.weights, sizes, conditions.shrinkage, pool
        coordinates = coordinates_of_many(_REFINING_AXES, *arguments)
        found = pool.submit(_path, coordinates, problem, penalties, _N_EXTRAPOLATED[targets.loss]).result()
    if not np.isfinite(found.losses).any():  # what could be scored is in the folds that were not held out
        return None
    return _candidates([found], [*block_sizes], folds, problem)


def _problem(targets: Targets, conditions: Conditions) -> tuple[Folds, FoldProblem]:
    folds = targets.deal(N_FOLDS, conditions.seed)
    return folds, FoldProblem.of(targets, folds, make_loss(targets.loss, conditions.label_smoothing))


def _candidates(found: Sequence[_Path], stages: Sequence[int], folds: Folds, problem: FoldProblem) -> Candidates:
    penalties, temperatures, losses, scores = map(np.concatenate, zip(*found, strict=True))
    of_each = np.repeat(stages, [len(path.penalties) for path in found])
    rest = folds.of_sample, problem.weights, problem.loss.names
    return Candidates(of_each, penalties, temperatures, losses, scores, *rest)


def _looked_at(
    labeled: Labeled[np.ndarray], block_sizes: Mapping[int, Sequence[int]], most: int, seed: int
) -> tuple[np.ndarray, Targets]:
    """Return the features and the targets of a limited number of samples with nonzero weight and of columns.

    If there are many classes, only samples of some classes are returned. Copies are in one group.
    """
    # In the order of training, so that renamed classes and permuted labels lead to the same folds.
    rows, targets = labeled.targets.ordered().narrowed(_MOST_COLUMNS, np.random.RandomState(seed))
    rows = targets.thinned(rows, most, seed)
    features, n_features = labeled.samples, max(map(sum, block_sizes.values()))
    if isinstance(features, np.ndarray):  # rows of a file are only read as a whole
        features = features[:, :n_features]
    seen = np.asarray(features if len(rows) == len(features) else features[rows])
    own = seen[:, : min(map(sum, block_sizes.values()))]
    return seen[:, :n_features], with_copies_together(targets.restricted(rows), own)


class _Path(NamedTuple):
    """Penalties and temperatures of candidates, and losses and scores of shape (n_candidates, n_samples)."""

    penalties: np.ndarray
    temperatures: np.ndarray
    losses: np.ndarray
    scores: np.ndarray


def _path(
    coordinates: Coordinates, problem: FoldProblem, penalties: Sequence[float], n_known: int, divides: bool = False
) -> _Path:
    """Return the results of held-out samples for one number of stages.

    Each training run starts from an extrapolation of the last `n_known` results. If `divides`, further rows have the
    results at the best temperatures that are below 1.
    """
    inputs, squares = coordinates
    n_samples, n_axes = inputs.shape
    n_outputs, n_folds = problem.n_outputs, problem.shares.shape[0]
    n_penalties = len(penalties)
    temperatures = np.ones(2 * n_penalties)
    losses, scores = np.full((2, 2 * n_penalties, n_samples), np.nan)
    found: deque[tuple[float, torch.Tensor]] = deque(maxlen=n_known)
    for i, penalty in enumerate(penalties):
        loss = PenalizedLosses(inputs, squares, problem, penalty * problem.loss.penalty_share)
        start = _extrapolated(found, penalty) if found else inputs.new_zeros(n_folds, n_outputs * (n_axes + 1))
        point = Descent(loss, start, _TOLERANCE, loss.precondition).run(_STEPS).point
        found.append((penalty, point))
        outputs = outputs_of(inputs, point.view(n_folds, n_outputs, n_axes + 1))
        held_out = outputs[problem.folds, :, torch.arange(n_samples)]
        losses[i], scores[i] = problem.scores(held_out)
        if divides:
            temperatures[n_penalties + i] = temperature = best_temperature(held_out, problem)
            losses[n_penalties + i], scores[n_penalties + i] = problem.scores(held_out / temperature)
        if _rises(losses[: i + 1], problem.weights):
            break
    rows = np.r_[:n_penalties, n_penalties + np.flatnonzero(temperatures[n_penalties:] < 1)]
    return _Path(
        np.tile(np.asarray(penalties, dtype=np.float64), 2)[rows], temperatures[rows], losses[rows], scores[rows]
    )


def _extrapolated(found: Collection[tuple[float, torch.Tensor]], penalty: float) -> torch.Tensor:
    """Return the point for a penalty on the polynomial, in its logarithm, through the points of other penalties."""
    points = torch.zeros_like(next(iter(found))[1])
    for own, point in found:
        others = (other for other, _ in found if other != own)
        points.add_(point, alpha=math.prod(math.log(penalty / other) / math.log(own / other) for other in others))
    return points


def _rises(losses: np.ndarray, weights: np.ndarray) -> bool:
    """Return True if the last loss along a path clearly exceeds the lowest. Weaker penalties would raise it further."""
    means = mean(losses, weights)
    if not np.isfinite(means).all():
        return True
    by, error = excess(losses[-1], losses[means.argmin()], weights)
    return by > error
