"""Check callbacks of skorch before training: callbacks that cannot do their job are refused by name."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring
from sklearn.utils import Tags
from torch.optim import Optimizer

from sktl._short_text import shown_value
from sktl._targets.outputs import ClassOutputs, LogitOutputs, Outputs
from sktl._utils.docstrings import documented
from sktl.exceptions import InvalidParameterError

from .net_params import own_callbacks
from .skorch_net import tags_of

with documented("skorch"):
    from skorch.callbacks import (
        Callback,
        Checkpoint,
        EarlyStopping,
        InputShapeSetter,
        LoadInitState,
        LRScheduler,
        ParamMapper,
        PassthroughScoring,
        TrainEndCheckpoint,
        WandbLogger,
    )
    from skorch.callbacks.scoring import ScoringBase

_ANYTHING = ""  # stands for any column, which a user's class may record
# Names of parameters: the output layer's, and how the names in a network start while its stages are trained.
_OUTPUT_LAYER = ("output.weight", "output.bias")
_NETWORK = "cut.network."
_LOSSES = {"train_loss", "train_loss_best", "valid_loss", "valid_loss_best", "valid_loss_near_best"}


def check_callbacks(
    net_params: Mapping[str, Any] | None, *, validated: bool, trains_stages: bool, scheduled: bool
) -> None:
    """Raise `InvalidParameterError` for callbacks that cannot do their job.

    Parameters
    ----------
    net_params : dict or None
    validated : bool
        Whether there is a validation set.
    trains_stages : bool
        Whether stages are trained, not only the output layer.
    scheduled : bool
        Whether the estimator sets the learning rate of each step.
    """
    columns = {"epoch", "dur", *(name for name in _LOSSES if validated or name.startswith("train"))}
    for name, callback in own_callbacks(net_params).items():
        problems = [
            *_contradictions(callback, trains_stages, scheduled),
            *_naming_problems(callback),
            *_scoring_problems(callback, columns, validated),
            *_monitoring_problems(callback, columns),
        ]
        if problems:
            raise InvalidParameterError(f"net_params['callbacks']: {name} {problems[0]}")
        columns |= _recorded(callback)


def _contradictions(callback: Callback, trains_stages: bool, scheduled: bool) -> Iterator[str]:
    """Yield the reasons why a callback contradicts the way nets are trained."""
    if isinstance(callback, LoadInitState):
        yield 'would start from the state of another net. Pass checkpoint="folder" instead to resume after a crash.'
    if isinstance(callback, InputShapeSetter):
        yield "has nothing to set: the network decides the shape of what enters the output layer. Drop it."
    if isinstance(callback, LRScheduler) and scheduled:
        yield 'would set the learning rates that lr_schedule="cosine" sets. Pass lr_schedule="constant" with it.'
    if isinstance(callback, Checkpoint | TrainEndCheckpoint) and callback.f_pickle and trains_stages:
        yield "cannot pickle a net that trains stages. Pass f_pickle=None; f_params has its weights."


def _naming_problems(callback: Callback) -> Iterator[str]:
    """Yield the reason why a callback finds no parameters, in whatever phase."""
    if not isinstance(callback, ParamMapper):
        return
    patterns = callback.patterns if isinstance(callback.patterns, list | tuple) else [callback.patterns]
    if patterns and not any(map(_may_match, patterns)):
        yield (
            f"has the pattern {patterns[0]!r}, which matches no parameter. The parameters are "
            f"{', '.join(_OUTPUT_LAYER)} and, while stages are trained, {_NETWORK}*. trainable_stages freezes the "
            "network or its first stages."
        )


def _may_match(pattern: Any) -> bool:
    """Return True unless a pattern matches no parameter, whatever the network and the number of trained stages."""
    if not isinstance(pattern, str):
        return True
    fixed = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    in_network = fixed.startswith(_NETWORK) or _NETWORK.startswith(fixed)
    return in_network or any(fnmatch(name, pattern) for name in _OUTPUT_LAYER)


def _scoring_problems(callback: Callback, columns: set[str], validated: bool) -> Iterator[str]:
    """Yield the reasons why a score cannot be computed or recorded."""
    if not isinstance(callback, ScoringBase | PassthroughScoring):
        return
    if not callback.on_train and not validated:
        yield (
            "scores a validation set, and there is none. Set early_stopping=True, or on_train=True to score the "
            "training set."
        )
    try:
        recorded = _recorded(callback)
        if isinstance(callback, ScoringBase) and isinstance(callback.scoring, str):
            check_scoring(_Guess(ClassOutputs(np.arange(2))), callback.scoring)
    except Exception as error:
        yield f"has no score: {error}"
        return
    clash = sorted(recorded & columns - ({callback.name} if isinstance(callback, PassthroughScoring) else set()))
    if clash and isinstance(callback, ScoringBase):
        yield f"would overwrite {clash[0]!r} in the history. Give it another: name={clash[0] + '_2'!r}."


def _monitoring_problems(callback: Callback, columns: set[str]) -> Iterator[str]:
    """Yield the reasons why the column that a callback monitors does not exist."""
    if isinstance(callback, WandbLogger) and callback.save_model and "valid_loss_best" not in columns:
        yield (
            "saves the model with the best loss on a validation set, and there is none. Set early_stopping=True, or "
            "save_model=False."
        )
    if not isinstance(callback, EarlyStopping | Checkpoint | LRScheduler) or not isinstance(callback.monitor, str):
        return
    if isinstance(callback, LRScheduler) and "Plateau" not in getattr(callback.policy, "__name__", callback.policy):
        return
    monitor = callback.monitor
    if monitor in columns or (_ANYTHING in columns and monitor not in _LOSSES):
        return
    if monitor in _LOSSES:
        yield (
            f"monitors {monitor!r}, and there is no validation set. Set early_stopping=True, or monitor "
            f"{monitor.replace('valid', 'train')!r}."
        )
    else:
        known = ", ".join(sorted(columns - {_ANYTHING}))
        yield f"monitors {monitor!r}, which no callback before it records. It may monitor {known}."


def _recorded(callback: Callback) -> set[str]:
    """Return the columns of the history that a callback writes. A user's class may write any column."""
    if isinstance(callback, ScoringBase):
        name = copy.copy(callback).initialize().name_
    elif isinstance(callback, PassthroughScoring):
        name = callback.name
    elif type(callback).__module__.partition(".")[0] == "skorch":
        return {name for name in [getattr(callback, "event_name", None)] if name}
    else:
        return {_ANYTHING}
    return {name, f"{name}_best"}


def check_schedulers(net_params: Mapping[str, Any] | None, optimizers: Sequence[Optimizer]) -> None:
    """Raise `InvalidParameterError` if the schedule of an `LRScheduler` does not fit the optimizer of a phase."""
    for name, callback in own_callbacks(net_params).items():
        if isinstance(callback, LRScheduler):
            for optimizer in optimizers:
                try:
                    callback._get_policy_cls()(copy.deepcopy(optimizer), **callback.kwargs)
                except Exception as error:
                    raise InvalidParameterError(
                        f"net_params['callbacks']: {name} has policy={callback.policy!r}, which does not fit the "
                        f"optimizer: {error}"
                    ) from error


class _Guess(ClassifierMixin, BaseEstimator):
    """Predict in the same form as a net in training, without having learned anything."""

    def __init__(self, outputs: Outputs):
        self.outputs = outputs
        self.classes_ = getattr(outputs, "classes", None)

    def fit(self, X: Any, y: Any) -> _Guess:
        return self

    def __sklearn_tags__(self) -> Tags:
        return tags_of(super().__sklearn_tags__(), self.outputs)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.outputs.predict(self._guessed(X))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        assert isinstance(self.outputs, LogitOutputs)
        return self.outputs.probabilities(self._guessed(X))

    def _guessed(self, X: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).uniform(0, 1, (len(X), len(self.outputs)))


def check_scores(net_params: Mapping[str, Any] | None, outputs: Outputs) -> None:
    """Raise `InvalidParameterError` if callbacks use scikit-learn scores that cannot be computed for the outputs."""
    for name, callback in own_callbacks(net_params).items():
        if not isinstance(callback, ScoringBase):
            continue
        if not isinstance(callback.scoring, str):
            continue  # a user's function may need the images themselves
        scoring = copy.copy(callback).initialize().scoring_
        y = outputs.example()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about guesses would be meaningless
                guess = _Guess(outputs)
                check_scoring(guess, scoring)(guess, np.zeros((len(y), 1)), y)
        except Exception as error:
            raise InvalidParameterError(
                f"net_params['callbacks']: {name} cannot score {outputs.kind} with {shown_value(callback.scoring)}: "
                f"{error}"
            ) from error
