"""The state of a training run on disk, so that a killed fit resumes where it stopped, with identical results.

Each phase of a fit has one file, named by a digest of everything that affects its result. Folds and candidates of a
search therefore have separate files in the same folder, and a repeated call finds its own files. A file is replaced
atomically after each epoch, and contains no pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sktl._short_text import shown_value
from sktl._storage.model_file import Tensors, open_model, write_model
from sktl._utils.docstrings import documented
from sktl._utils.processes import is_running
from sktl._utils.warnings import warn
from sktl.exceptions import CheckpointError, CheckpointWarning, ModelFileError

from .json_values import decode, encode
from .net_callbacks import CosineSchedule
from .skorch_net import NeuralNet, WeightedNet

with documented("skorch"):
    from skorch.callbacks import Callback, EarlyStopping, PassthroughScoring

_SUFFIX = ".checkpoint"
_MODULE, _BEST, _OPTIMIZER = "module.", "best.", "optimizer."
_BEST_LOSSES = "best_losses"
_STOPPING = ("misses_", "best_epoch_", "dynamic_threshold_", "start_loss_")


@dataclass(frozen=True)
class Checkpoint:
    """The file for the states of one phase of one fit.

    Parameters
    ----------
    directory : Path
    header : dict
        Everything that the result of the phase depends on, as a mapping from names to JSON values.
    """

    directory: Path
    header: dict[str, Any]

    def of_phase(self, phase: str) -> Checkpoint:
        """Return the checkpoint of another phase."""
        return replace(self, header=self.header | {"phase": phase})

    @property
    def path(self) -> Path:
        """Path of the file."""
        text = json.dumps(self.header, sort_keys=True)
        return self.directory / (hashlib.sha256(text.encode()).hexdigest()[:32] + _SUFFIX)

    def load(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Return the document and the tensors that were saved last; None if there are none.

        Raises
        ------
        CheckpointError
            If the file is damaged, or belongs to another fit. The message says what differs.
        """
        self._remove_drafts()
        if not self.path.exists():
            return None
        try:
            with open_model(self.path) as file:
                document = file.document
                differences = _differences(document["header"], self.header)
                tensors = {} if differences else file.read_all()
        except ModelFileError as error:
            raise CheckpointError(f"{error} Delete it to train from the start.") from error
        if differences:
            raise CheckpointError(
                f"The checkpoint {os.fspath(self.path)!r} belongs to another fit: {'; '.join(differences[:5])}. It was "
                "renamed or copied. Delete it, or restore its name."
            )
        return document, tensors

    def save(self, document: dict[str, Any], tensors: Tensors) -> None:
        """Replace the saved state. A failure, such as a full disk, only causes a warning, and training continues."""
        try:
            write_model(self.path, document | {"header": self.header}, tensors, private=True)
        except OSError as error:
            warn(
                f"The checkpoint {os.fspath(self.path)!r} cannot be written ({error}). If this fit is killed, the "
                "last epochs will be lost. Free disk space, or choose another folder.",
                CheckpointWarning,
            )

    def _remove_drafts(self) -> None:
        """Remove temporary files of killed writers."""
        for draft in self.directory.glob(f".{self.path.name}.*"):
            owner = draft.name.split(".")[-2]
            if owner.isdecimal() and not is_running(int(owner)):
                with contextlib.suppress(OSError):
                    draft.unlink()


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Describe the differences between two JSON values."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = sorted(there.keys() | here.keys())
        return [
            found for key in names for found in _differences(there.get(key), here.get(key), f"{name} {key}".strip())
        ]
    return [] if there == here else [f"{name} is {shown_value(there)} in the file and {shown_value(here)} here"]


class SaveState(Callback):
    """Save the state of a net after each epoch. Must be the last callback, so that it saves what the others did."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        self.checkpoint.save(*_capture(net))


def fit_from(net: WeightedNet, dataset: torch.utils.data.Dataset, checkpoint: Checkpoint | None) -> WeightedNet:
    """Train a net, from a checkpoint if one exists, and save its state after each epoch."""
    if checkpoint is None:
        return net.fit(dataset)
    state = checkpoint.load()
    net.fit(dataset, resume=None if state is None else lambda net: _resume(net, checkpoint, *state))
    if not net.stopped and (state is None or not state[0]["finished"]):
        checkpoint.save({"finished": True} | _history(net), _module_tensors(net))
    return net


def _resume(net: NeuralNet, checkpoint: Checkpoint, document: dict[str, Any], tensors: Tensors) -> bool:
    try:
        return _restore(net, document, tensors)
    except Exception as error:  # the state of another network may cause any error
        raise CheckpointError(
            f"The checkpoint {os.fspath(checkpoint.path)!r} does not fit this network: {error}. Delete it to train "
            "from the start."
        ) from error


def _history(net: NeuralNet) -> dict[str, Any]:
    """Return the history without the batches of epochs, which may number hundreds of thousands."""
    rows = [{key: value for key, value in row.items() if key != "batches"} for row in net.history]
    return {"history": [encode(row, "history") for row in rows], "draws": getattr(net.module_, "n_draws", None)}


def _trained(net: NeuralNet, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the part of a module's state that training changes. The rest is the same when training resumes."""
    frozen = {name for name, parameter in net.module_.named_parameters() if not parameter.requires_grad}
    return {name: tensor for name, tensor in state.items() if name not in frozen}


def _module_tensors(net: NeuralNet) -> dict[str, torch.Tensor]:
    return {_MODULE + name: tensor for name, tensor in _trained(net, net.module_.state_dict()).items()}


def _capture(net: NeuralNet) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    tensors = _module_tensors(net)
    options: list[dict[str, Any]] = []
    for number, (parameter, _) in enumerate(_parameters(net)):
        state = net.optimizer_.state.get(parameter, {})
        plain = {name: value for name, value in state.items() if not isinstance(value, torch.Tensor)}
        options.append({name: encode(value, name) for name, value in plain.items()})
        found = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"{_OPTIMIZER}{number}.{name}": value for name, value in found.items()}
    document = {"finished": False, "optimizer": options} | _history(net)
    for _, callback in net.callbacks_:
        if isinstance(callback, CosineSchedule):
            document["schedule"] = callback.step_
        if isinstance(callback, EarlyStopping):
            document["stopping"] = {name: encode(getattr(callback, name), name) for name in _STOPPING}
            best = _trained(net, callback.best_model_weights_ or {})
            tensors |= {_BEST + name: value for name, value in best.items()}
            tensors[_BEST_LOSSES] = torch.from_numpy(callback.best_losses_)
    return document, tensors


def _parameters(net: NeuralNet) -> list[tuple[torch.nn.Parameter, bool]]:
    """Return the trained parameters, with True if the optimizer counts steps on the device of the parameter."""
    groups = net.optimizer_.param_groups
    return [(p, bool(g.get("fused") or g.get("capturable"))) for g in groups for p in g["params"]]


def _part(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _restore(net: NeuralNet, document: dict[str, Any], tensors: Tensors) -> bool:
    """Put an initialized net into a saved state. Return True if its training had finished."""
    own = _trained(net, net.module_.state_dict())
    saved = _part(tensors, _MODULE)
    _check_like(saved, own)
    with torch.no_grad():
        for name, tensor in saved.items():
            own[name].copy_(tensor)
    net.history_ = type(net.history)([decode(row) | {"batches": []} for row in document["history"]])
    if (draws := document["draws"]) is not None:
        net.module_.n_draws = operator.index(draws)
    if document["finished"]:
        return True
    _restore_optimizer(net, document, tensors)
    for _, callback in net.callbacks_:
        _restore_callback(callback, net, document, tensors)
    return False


def _restore_optimizer(net: NeuralNet, document: dict[str, Any], tensors: Tensors) -> None:
    states = zip(_parameters(net), document["optimizer"], strict=True)
    for number, ((parameter, counts_there), options) in enumerate(states):
        moments = _part(tensors, f"{_OPTIMIZER}{number}.")
        laid_out = {name: _laid_out_as(parameter, name, value, counts_there) for name, value in moments.items()}
        if options or laid_out:
            net.optimizer_.state[parameter] = {**{name: decode(value) for name, value in options.items()}, **laid_out}


def _restore_callback(callback: Callback, net: NeuralNet, document: dict[str, Any], tensors: Tensors) -> None:
    if isinstance(callback, CosineSchedule):
        callback.resume(net, operator.index(document["schedule"]))
    if isinstance(callback, PassthroughScoring):
        best_rows = [row for row in net.history if row.get(f"{callback.name}_best")]
        callback.best_score_ = best_rows[-1][callback.name] if best_rows else callback.best_score_
    if isinstance(callback, EarlyStopping):
        for name in _STOPPING:
            setattr(callback, name, decode(document["stopping"][name]))
        callback.best_losses_ = tensors[_BEST_LOSSES].numpy()
        if best := _part(tensors, _BEST):
            _check_like(best, _trained(net, net.module_.state_dict()))
            callback.best_model_weights_ = net.module_.state_dict() | best


def _check_like(found: Tensors, expected: Tensors) -> None:
    """Raise an error unless tensors have the expected names, shapes and dtypes: kernels would read out of bounds."""
    of = [{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} for tensors in (found, expected)]
    if of[0] != of[1]:
        raise ValueError("its tensors belong to another module")


def _laid_out_as(parameter: torch.Tensor, name: str, value: torch.Tensor, counts_there: bool) -> torch.Tensor:
    """Return a moment in the memory layout and on the device of its parameter, as fused optimizers require."""
    if name == "step" and value.ndim == 0 and value.dtype == torch.float32:
        return value.to(parameter.device) if counts_there else value
    _check_like({name: value}, {name: parameter})
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
