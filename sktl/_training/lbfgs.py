"""L-BFGS for several smooth problems at once, and as a torch optimizer for a single problem.

Unlike torch's L-BFGS, it keeps the gradient of the last step, so each step costs one evaluation, and it accepts an
estimate of the curvature, which may change from step to step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.optim import Optimizer

# Maps points (n_problems, n_numbers) to values (n_problems,) and gradients (n_problems, n_numbers).
Evaluate: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# Maps gradients to tensors of the same shape.
Change: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

# Number of remembered steps. With a preconditioner, 6 are enough; without one, about 20 would be needed.
_MEMORY = 6
_SHORTENINGS = 20
_SHORTER = 0.35
# A step must achieve at least this fraction of the decrease that the slope predicts (Armijo condition).
_LEAST_SHARE = 1e-4
# Smallest curvature, as a fraction of the largest. With 0.1, hard problems take fewer steps, but rare labels take more.
_LEAST_CURVATURE = 0.01


class Descent:
    """The limited-memory BFGS method (J. Nocedal and S. Wright, "Numerical Optimization", 2006, algorithm 7.5).

    Parameters
    ----------
    evaluate : callable
        Maps points of shape (n_problems, n_numbers) to values and gradients.
    start : tensor of shape (n_problems, n_numbers)
    tolerance : float
        A problem is done when the remaining decrease, predicted by a quadratic model, is at most this fraction of its
        value, or negligible compared with its first value.
    precondition : callable or None
        Linear map that approximately multiplies gradients by the inverse matrix of second derivatives at the last point
        at which `evaluate` was called.

    Attributes
    ----------
    point, value, gradient : tensor
        Current state of the descent.
    done : bool tensor of shape (n_problems,)
    n_evaluations : int
    """

    def __init__(
        self, evaluate: Evaluate, start: torch.Tensor, tolerance: float, precondition: Change | None = None
    ) -> None:
        self.evaluate = evaluate
        self.tolerance = tolerance
        self.precondition = precondition
        self.point = start
        self.value, self.gradient = evaluate(start)
        # A value whose minimum is 0 would fall until it underflows, and products of its gradients would do so earlier.
        self._negligible = torch.finfo(self.value.dtype).eps ** 2 * self.value.abs()
        self.n_evaluations = 1
        self.done = torch.zeros(len(start), dtype=torch.bool)
        self._pairs: deque[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = deque(maxlen=_MEMORY)
        self._aim()

    def run(self, n_steps: int) -> Descent:
        """Take at most `n_steps` steps, until all problems are done."""
        for _ in range(n_steps):
            if self.done.all():
                break
            self.step()
        return self

    def step(self) -> None:
        """Take a step in each problem that is not done."""
        size = (~self.done).to(self.value.dtype)
        # Rounding errors of the value must not make a step fail.
        noise = 8 * torch.finfo(size.dtype).eps * self.value.abs()
        for _ in range(_SHORTENINGS):
            point = torch.addcmul(self.point, size[:, None], self._towards)
            value, gradient = self.evaluate(point)
            self.n_evaluations += 1
            failed = ~(value <= self.value - _LEAST_SHARE * size * self._promised + noise) & ~self.done
            if not failed.any():
                break
            size = torch.where(failed, _SHORTER * size, size)
        else:
            self.done |= failed  # the values cannot decrease further in this precision
            return
        self._remember(point - self.point, gradient - self.gradient)
        self.point, self.value, self.gradient = point, value, gradient
        self._aim()

    def _aim(self) -> None:
        """Determine the next step, and whether the predicted decrease is worth it."""
        self._towards = self._direction()
        self._promised = -_dot(self.gradient, self._towards)
        self.done |= self._promised / 2 <= (self.tolerance * self.value.abs()).maximum(self._negligible)

    def _direction(self) -> torch.Tensor:
        """Return the direction of the next step: minus an estimated inverse Hessian times the gradient."""
        found = self.gradient.clone()
        shares = []
        for step, change, inverse in reversed(self._pairs):
            shares.append((inverse * _dot(step, found))[:, None])
            found.addcmul_(shares[-1], change, value=-1)
        found = self._scaled(found)
        for (step, change, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            found.addcmul_(share - (inverse * _dot(change, found))[:, None], step)
        return found.neg_()

    def _scaled(self, gradient: torch.Tensor) -> torch.Tensor:
        scaled = gradient if self.precondition is None else self.precondition(gradient)
        if not self._pairs:
            return scaled if self.precondition else gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1)
        _, change, inverse = self._pairs[-1]
        guess = _dot(change, change if self.precondition is None else self.precondition(change))
        factor = torch.where(inverse > 0, 1 / (inverse * guess).clamp_min(torch.finfo(guess.dtype).tiny), 1)
        return scaled * factor[:, None]

    def _remember(self, step: torch.Tensor, change: torch.Tensor) -> None:
        curved = _dot(step, change)
        usable = curved > torch.finfo(curved.dtype).eps * change.norm(dim=1) * step.norm(dim=1)
        self._pairs.append((step, change, torch.where(usable, 1 / torch.where(usable, curved, 1), 0)))


def usable_curvatures(curvatures: torch.Tensor) -> torch.Tensor:
    """Return mean second derivatives with respect to each output, for a preconditioner, none far below the largest.

    Outputs that saturate have derivatives that are too small to say anything about the next step, or 0 after rounding.
    Dividing by them would lead to steps without bound, after which the loss is infinite.

    Parameters
    ----------
    curvatures : tensor of shape (..., n_outputs)
    """
    return curvatures.maximum(_LEAST_CURVATURE * curvatures.amax(dim=-1, keepdim=True))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(a, b)


class LimitedMemoryBFGS(Optimizer):
    """One descent as an optimizer. Each step uses all samples, and normally evaluates the loss once.

    Parameters
    ----------
    params : iterable of tensors
        A single group with one dtype.
    lr : float
        Ignored, because the method determines its step sizes. Schedules and skorch require it.
    tolerance : float
        See `Descent`.

    Attributes
    ----------
    precondition : callable or None
        See `Descent`. Must be set before the first step.
    converged : bool
        Whether further steps would change nothing.
    """

    def __init__(self, params: Any, lr: float = 1.0, tolerance: float = 1e-9):
        super().__init__(params, {"lr": lr, "tolerance": tolerance})
        self.precondition: Change | None = None
        self._descent: Descent | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group without importing torch's compiler. torch's own method imports it, which takes a second."""
        method = Optimizer.add_param_group
        getattr(method, "__wrapped__", method)(self, param_group)

    @property
    def converged(self) -> bool:
        return self._descent is not None and bool(self._descent.done.all())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> torch.Tensor:  # type: ignore[override]
        """Take a step. `closure` sets gradients and returns the loss."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]

        def evaluate(point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            torch.nn.utils.vector_to_parameters(point[0], parameters)
            with torch.enable_grad():
                loss = closure()
            gradient = torch.cat([parameter.grad.flatten() for parameter in parameters])
            return loss.detach().to(gradient.dtype).reshape(1), gradient[None]

        if self._descent is None:
            start = torch.nn.utils.parameters_to_vector(parameters)[None].clone()
            self._descent = Descent(evaluate, start, self.defaults["tolerance"], self.precondition)
        descent = self._descent
        descent.evaluate = evaluate
        descent.step()
        torch.nn.utils.vector_to_parameters(descent.point[0], parameters)
        return descent.value[0]

    def forget(self) -> None:
        """Release data that only further steps would need."""
        self._descent = self.precondition = None
