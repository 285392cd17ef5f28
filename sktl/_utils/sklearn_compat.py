"""What scikit-learn keeps private and sktl uses nevertheless: where each was read, and what happens without it.

- `sklearn.utils._param_validation` (read in 1.7.2 to 1.9.1): constraints of parameters with the messages that
  scikit-learn's users know. Without it sktl cannot be imported; a new version of scikit-learn is tried first in CI.
- `sklearn.utils._repr_html.estimator._VisualBlock` (1.9.1): the block of an estimator in a diagram. Without it the
  diagram shows the name alone.
- `_sk_visual_block_` and `_get_fitted_attr_html` (1.9.1), methods by which a diagram asks an estimator for its block
  and for a table of what was fitted. Where they are not asked for, the diagram looks like any other.
- `sklearn.callback` with `_init_callback_context` and `_skl_callbacks` (1.9.1, experimental): callbacks of a fit.
  Without it estimators have no `set_callbacks`, and nobody is told of anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.utils._param_validation import Interval as Interval
from sklearn.utils._param_validation import InvalidParameterError as SklearnParameterError
from sklearn.utils._param_validation import Options as Options
from sklearn.utils._param_validation import StrOptions as StrOptions
from sklearn.utils._param_validation import validate_parameter_constraints as validate_parameter_constraints

try:
    import sklearn.callback as _framework
except ImportError:  # scikit-learn before 1.9
    _framework = None

__all__ = [
    "CallbackSupport",
    "Interval",
    "Options",
    "SklearnParameterError",
    "StrOptions",
    "callback_context",
    "callbacks_of",
    "draws_progress_bar",
    "validate_parameter_constraints",
    "visual_block",
    "with_callbacks",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])


class _NoSupport:
    """The base of estimators that cannot have callbacks."""


CallbackSupport: Any = _NoSupport if _framework is None else _framework.CallbackSupportMixin


def with_callbacks(fit: _Method) -> _Method:
    """Let a method set callbacks up in `fit_task`, and take them down whatever happens."""
    if _framework is not None:
        return _framework.with_callbacks(fit)

    @functools.wraps(fit)
    def without(*args: Any, **kwargs: Any) -> Any:
        return fit(*args, **kwargs)  # as deep as scikit-learn's, for the stack levels of warnings

    return without  # type: ignore[return-value]


def callback_context(estimator: Any) -> Any:
    """Return the context in which callbacks hear of a fit of an estimator; None if there are none."""
    if _framework is None:
        return None
    return estimator._init_callback_context(max_subtasks=None)  # passes depend on what the cache has


def callbacks_of(estimator: Any) -> list[Any]:
    """Return the callbacks of an estimator."""
    return getattr(estimator, "_skl_callbacks", None) or []


def draws_progress_bar(callback: Any) -> bool:
    """Tell whether a callback is scikit-learn's progress bar."""
    return isinstance(callback, _framework.ProgressBar)


def visual_block(estimator: Any, name: str, details: str, caption: str | None) -> Any:
    """Return what a diagram shows of an estimator."""
    from sklearn.utils._repr_html.estimator import _VisualBlock

    return _VisualBlock("single", estimator, names=name, name_details=details, name_caption=caption)
