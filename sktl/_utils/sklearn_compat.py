"""Private parts of scikit-learn that sktl uses: the versions checked, and what happens without each part.

- `sklearn.utils._param_validation` (checked in 1.7.2 to 1.9.1): parameter constraints, with the messages that
  scikit-learn's users know. Without it, sktl cannot be imported. CI tries new versions of scikit-learn first.
- `sklearn.utils._repr_html.estimator._VisualBlock` (1.9.1): the block of an estimator in a diagram. Without it, the
  diagram shows only the name.
- `_sk_visual_block_` and `_get_fitted_attr_html` (1.9.1): methods by which a diagram asks an estimator for its block
  and for a table of fitted attributes. If they are not called, the diagram looks like any other.
- `sklearn.callback` with `_init_callback_context` and `_skl_callbacks` (1.9.1, experimental): callbacks of a fit.
  Without it, estimators have no `set_callbacks`, and no callback is notified.
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
    """Make a method set up callbacks in `fit_task`, and tear them down even after an error."""
    if _framework is not None:
        return _framework.with_callbacks(fit)

    @functools.wraps(fit)
    def without(*args: Any, **kwargs: Any) -> Any:
        return fit(*args, **kwargs)  # as deep as scikit-learn's wrapper, so that warnings have the same stack level

    return without  # type: ignore[return-value]


def callback_context(estimator: Any) -> Any:
    """Return the context that notifies callbacks of a fit of an estimator; None without callbacks."""
    if _framework is None:
        return None
    return estimator._init_callback_context(max_subtasks=None)  # the number of passes depends on the cache


def callbacks_of(estimator: Any) -> list[Any]:
    """Return the callbacks of an estimator."""
    return getattr(estimator, "_skl_callbacks", None) or []


def draws_progress_bar(callback: Any) -> bool:
    """Return True if a callback is scikit-learn's progress bar."""
    return isinstance(callback, _framework.ProgressBar)


def visual_block(estimator: Any, name: str, details: str, caption: str | None) -> Any:
    """Return the block of an estimator in a diagram."""
    from sklearn.utils._repr_html.estimator import _VisualBlock

    return _VisualBlock("single", estimator, names=name, name_details=details, name_caption=caption)
