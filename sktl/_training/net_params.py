"""The user's additions to the skorch nets, `net_params`: which are allowed, and copies of them for each net."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from sktl._short_text import shown_value
from sktl._utils.docstrings import documented
from sktl.exceptions import InvalidParameterError

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks import Callback

# Arguments allowed in `net_params`. Others are set by parameters of the estimator, or would change the loss.
_OPEN = ("callbacks", "optimizer")
# Names of callbacks that always exist, from skorch and from sktl.
_TUNABLE = ("print_log", "epoch_timer")
_RESERVED = ("train_loss", "valid_loss", "lr_schedule", "early_stopping", "keeping")


def check_net_params(net_params: Mapping[str, Any] | None) -> None:
    """Raise `InvalidParameterError` for arguments of the skorch net that users must not set."""
    for key, value in (net_params or {}).items():
        if not isinstance(key, str):
            raise InvalidParameterError(
                f"net_params has the key {shown_value(key)}. Its keys are names of arguments: strings."
            )
        base, _, inner = key.partition("__")
        if base not in _OPEN or (base == "optimizer" and inner in ("", "lr", "weight_decay", "param_groups")):
            raise InvalidParameterError(
                f"net_params[{key!r}] is unknown, or set by sktl itself. Use the estimator's own parameters; "
                'net_params is for what they do not cover: "callbacks", "callbacks__<name>__<parameter>" and '
                '"optimizer__<parameter>".'
            )
        listed = value is None or (isinstance(value, list | tuple) and all(map(_is_callback, value)))
        if key == "callbacks" and not listed:
            raise InvalidParameterError(
                f"net_params['callbacks'] is {shown_value(value)}; it must be a list of skorch callbacks, or of "
                "(name, callback)."
            )
    own_callbacks(net_params)


def _is_callback(item: Any) -> bool:
    callback = item[1] if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) else item
    return isinstance(callback, Callback) or (isinstance(callback, type) and issubclass(callback, Callback))


def copied(net_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy for one net. A callback that cannot be copied, such as one with a file, is copied shallowly."""
    memo: dict[int, Any] = {}

    def copy_of(item: Any) -> Any:
        if isinstance(item, tuple):
            return (item[0], copy_of(item[1]))
        try:
            return copy.deepcopy(item, memo)
        except Exception:  # users' classes may raise anything
            return copy.copy(item)

    params = dict(net_params or {})
    if params.get("callbacks"):
        params["callbacks"] = [copy_of(item) for item in params["callbacks"]]
    return {key: value if key == "callbacks" else copy.deepcopy(value) for key, value in params.items()}


def own_callbacks(net_params: Mapping[str, Any] | None) -> dict[str, Callback]:
    """Return copies of the user's callbacks by name, with their parameters set, as skorch creates them.

    Raises
    ------
    InvalidParameterError
        If this is not possible, or if parameters belong to a callback that does not exist.
    """
    params = {key: value for key, value in copied(net_params).items() if key.startswith("callbacks")}
    ours = [(name, Callback()) for name in _RESERVED[2:]]
    params["callbacks"] = [*ours, *(params.get("callbacks") or [])]
    net = NeuralNet(nn.Identity, nn.CrossEntropyLoss, **params)
    try:
        named = dict(net._uniquely_named_callbacks())
        for name in (*_TUNABLE, *_RESERVED):
            del named[name]
        for name, callback in named.items():
            own = net.get_params_for(f"callbacks__{name}")
            named[name] = callback(**own) if isinstance(callback, type) else callback
            if named[name] is callback:
                callback.set_params(**own)
    except Exception as error:  # users' classes may raise anything
        raise InvalidParameterError(
            f"net_params['callbacks'] cannot be used: {error} The names {', '.join((*_TUNABLE, *_RESERVED))} are taken."
        ) from error
    for key in params:
        name, _, parameter = key.removeprefix("callbacks__").partition("__")
        if key != "callbacks" and not (parameter and name in (*named, *_TUNABLE)):
            raise InvalidParameterError(
                f"net_params[{key!r}] sets no parameter of a callback in net_params['callbacks'], which has "
                f"{', '.join(named) or 'none'}. Name it callbacks__<name>__<parameter>."
            )
    return named
