"""Report a fit to scikit-learn's callbacks: passes over images and epochs, as subtasks of the fit.

A context variable holds the current fit, so features and nets need no argument for it. The threads of a pool start
without a context, so nothing is reported twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .sklearn_compat import callback_context, callbacks_of, draws_progress_bar


@dataclass(frozen=True)
class _Task:
    """A task, and the estimator whose callbacks are notified of it."""

    estimator: Any
    context: Any

    def subtask(self, name: str, n_subtasks: int = 0) -> _Task:
        """Begin a task within this one."""
        context = self.context.subcontext(task_name=name, max_subtasks=n_subtasks)
        return _Task(self.estimator, context.call_on_fit_task_begin(estimator=self.estimator))

    def end(self) -> bool:
        """End the task. Return True if a callback asks to stop."""
        return self.context.call_on_fit_task_end(estimator=self.estimator)


_current: ContextVar[_Task | None] = ContextVar("fit", default=None)


class Steps:
    """The equal steps of a task, one after the other. Without a task, callbacks are not notified."""

    def __init__(self, name: str = "", task: _Task | None = None):
        self.name = name
        self.is_enough = False  # whether a callback asked to stop
        self._task = task
        self._step: _Task | None = None

    def begin(self) -> None:
        """Begin a step."""
        if self._task is not None:
            self._step = self._task.subtask(self.name)

    def end(self) -> None:
        """End the step that was begun, if one was."""
        if self._step is not None:
            step, self._step = self._step, None
            self.is_enough |= step.end()


@contextmanager
def task(name: str, n_steps: int, step: str) -> Iterator[Steps]:
    """Run a block as a task of the current fit, if any. The task has at most `n_steps` steps."""
    if (fit := _current.get()) is None:
        yield Steps()
        return
    under_way = fit.subtask(name, n_steps)
    steps = Steps(step, under_way)
    token = _current.set(None)  # tasks within a step are not reported
    try:
        yield steps
    finally:
        _current.reset(token)
        steps.end()
        under_way.end()


@contextmanager
def fit_task(estimator: Any, X: Any, y: Any = None, sample_weight: Any = None) -> Iterator[None]:
    """Run a block as the fit of an estimator, which must be fitted when the block ends. Its tasks become subtasks."""
    if (context := callback_context(estimator)) is None:
        yield
        return
    data = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
    context.call_on_fit_task_begin(estimator=estimator, **data)
    token = _current.set(_Task(estimator, context) if callbacks_of(estimator) else None)
    try:
        yield
    finally:
        _current.reset(token)
    if getattr(estimator, "invalid_images_", ()):  # callbacks cannot predict for all of X
        data = {}
    context.call_on_fit_task_end(estimator=estimator, reconstruction_attributes={}, **data)


def draws_progress() -> bool:
    """Return True if a progress bar of scikit-learn shows the current fit."""
    fit = _current.get()
    return fit is not None and any(map(draws_progress_bar, callbacks_of(fit.estimator)))
