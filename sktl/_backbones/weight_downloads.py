"""Download published weights once, from a web server or the Hugging Face hub, and verify them.

Requests to an unreachable server are tried twice, with a time limit, and not again within `one_outage`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from filelock import FileLock

from sktl._utils.paths import draft_path
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import WeightsCorruptError, WeightsUnavailableError

from .weights import verify

_T = TypeVar("_T")

# Seconds without a response from the server, not for the whole file. huggingface_hub uses the same limit.
_PATIENCE = 10
_BLOCK = 1 << 20
_REASON_LENGTH = 200
_TOO_MANY_REQUESTS, _SERVER_ERRORS = 429, 500
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")
_WEB_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)
_CONNECT = "Connect to the network once"

# Servers that did not answer, with the reason. They are only remembered within `one_outage`.
_silent: ContextVar[dict[str, str] | None] = ContextVar("_silent", default=None)


class NoAnswerError(Exception):
    """A server cannot be reached, or reports a server error or too many requests."""


@contextmanager
def one_outage() -> Iterator[None]:
    """Within the block, do not contact unreachable servers again: each attempt may take many seconds."""
    token = _silent.set({})
    try:
        yield
    finally:
        _silent.reset(token)


def _twice(url: str, request: Callable[[], _T]) -> _T:
    """Return the result of a request to a server. Retry once if the answer is missing or damaged."""
    server = urlsplit(url).netloc or url
    silent = _silent.get()
    if silent is not None and server in silent:
        raise NoAnswerError(silent[server])
    try:
        try:
            return request()
        except (NoAnswerError, WeightsCorruptError):
            return request()
    except NoAnswerError as error:
        if silent is not None:
            silent[server] = str(error)
        raise


def _no_answer(url: str, error: object) -> NoAnswerError:
    return NoAnswerError(f"{urlsplit(url).netloc or url} cannot be reached: {brief(error)}")


def brief(error: object) -> str:
    """Return the message of an error on one line of limited length."""
    reason = getattr(error, "reason", None) or error
    told = str(getattr(reason, "strerror", None) or reason) or type(error).__name__
    return textwrap.shorten(told, _REASON_LENGTH, placeholder=" ...").rstrip(".")


def unavailable(what: str, place: object, reason: str, first: str = "") -> WeightsUnavailableError:
    """Return the error for weights that are neither on this machine nor available for download.

    `first` is the remedy to try first.
    """
    remedies = [first, f"copy the file to {place}", "pass weights=<path of a local file>",
                'or use the bundled backbone="efficientnet_lite0", which needs no download']  # fmt: skip
    advice = ", ".join(filter(None, remedies))
    return WeightsUnavailableError(
        f"The weights {what} are not on this machine and could not be downloaded ({reason}). "
        f"{advice[0].upper()}{advice[1:]}."
    )


# --------------------------------------------------------------------------------------------------------- web servers


def published_hash(file_name: str) -> str | None:
    """Return the prefix of the SHA-256 that a file name contains by PyTorch's convention; None if it has none."""
    found = _HASH_IN_NAME.search(file_name)
    return found.group(1) if found else None


def kept_at(url: str) -> Path:
    """Return the path of the local copy of a weights file in torch's hub directory, whether or not it exists."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def fetch(url: str) -> Path:
    """Return the local copy of a weights file, after downloading it to torch's hub directory if it is missing.

    Raises
    ------
    WeightsUnavailableError
        If the file is missing and cannot be downloaded.
    WeightsCorruptError
        If the file differs from the published file.
    """
    path = kept_at(url)
    published = published_hash(path.name)
    if not path.exists():
        try:
            locks = path.parent / ".sktl-locks"
            locks.mkdir(parents=True, exist_ok=True)
            with FileLock(locks / f"{path.name}.lock"):  # another process may be downloading it
                if not path.exists():
                    _twice(url, lambda: _download(url, path, published))
        except NoAnswerError as error:
            raise unavailable(url, path, str(error), _CONNECT) from error
        except WeightsUnavailableError:
            raise
        except OSError as error:  # a full disk or a read-only folder
            raise unavailable(url, path, f"{path.parent} cannot be written: {brief(error)}") from error
    verify(path, published)
    return path


def _download(url: str, path: Path, published: str | None) -> None:
    """Download a file. It gets its name only when it is complete."""
    draft = draft_path(path)
    digest = hashlib.sha256()
    try:
        with _answer(url) as answer, open(draft, "wb") as file:
            announced = answer.headers.get("Content-Length")
            while block := answer.read(_BLOCK):
                if not file.tell() and _WEB_PAGE.match(block):  # from a network that asks for a password first
                    raise unavailable(url, path, "a web page was sent instead", "Log in to the network")
                file.write(block)
                digest.update(block)
            size = file.tell()
        if not size or (announced or str(size)) != str(size):
            raise _arrived_damaged(url, f"{size} of {announced} bytes")
        if published and not digest.hexdigest().startswith(published):
            raise _arrived_damaged(url, f"it has SHA-256 {digest.hexdigest()[: len(published)]}..., not {published}...")
        os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _arrived_damaged(url: str, reason: str) -> WeightsCorruptError:
    return WeightsCorruptError(f"The weights from {url} arrived damaged: {reason}. Try again.")


@contextmanager
def _answer(url: str) -> Iterator[Any]:
    """Open a URL for reading."""
    request = urllib.request.Request(url, headers={"User-Agent": "sktl"})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        reason = f"{urlsplit(url).netloc} answered {error.code} {error.reason}"
        if error.code >= _SERVER_ERRORS or error.code == _TOO_MANY_REQUESTS:
            raise NoAnswerError(reason) from error
        raise unavailable(url, kept_at(url), reason) from error
    except http.client.IncompleteRead as error:
        raise _arrived_damaged(url, str(error)) from error
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise_process_error(error)
        raise _no_answer(url, error) from error


# ------------------------------------------------------------------------------------------------- the Hugging Face hub


def ask_hub(repository: str, file_name: str, revision: str | None = None, endpoint: str | None = None) -> None:
    """Raise `NoAnswerError` if the hub does not answer. The hub's own client interprets the answer.

    Without this check, the client would try six times over half a minute, and write to the program's log each time.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repository, file_name, revision=revision, endpoint=endpoint)

    def ask() -> None:
        try:
            answer = get_session().head(url, headers=build_hf_headers(), timeout=_PATIENCE)
        except Exception as error:  # errors depend on the version of the client and have no common base
            raise_process_error(error)
            raise _no_answer(url, error) from error
        if answer.status_code >= _SERVER_ERRORS or answer.status_code == _TOO_MANY_REQUESTS:
            raise NoAnswerError(f"{urlsplit(url).netloc} answered {answer.status_code}")

    _twice(url, ask)


def behind(error: Exception) -> BaseException:
    """Return the most informative error of the hub's client: for a missing file, why it was not downloaded."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return (error.__cause__ or error) if isinstance(error, LocalEntryNotFoundError) else error


def fetch_from_hub(repository: str, file_name: str | None) -> Path:
    """Return a verified local copy of weights from the Hugging Face hub.

    Raises
    ------
    WeightsUnavailableError
        If the weights are missing and cannot be downloaded.
    WeightsCorruptError
        If the weights differ from the published weights.
    """
    if (cached := in_hub_cache(repository, file_name)) is not None:
        return _verified_by_hub(cached)
    names = _hub_names(file_name)
    place = "the Hugging Face cache"
    try:
        ask_hub(repository, names[0])
        return _verified_by_hub(_first_there(repository, names))
    except NoAnswerError as error:
        raise unavailable(repository, place, str(error), _CONNECT) from error
    except Exception as error:
        if isinstance(error, WeightsCorruptError):
            raise
        raise_process_error(error)
        raise unavailable(repository, place, brief(behind(error))) from error


def _first_there(repository: str, names: list[str]) -> Path:
    """Return the first file of the given names that exists in a repository on the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except LocalEntryNotFoundError:  # no answer; trying the next name would only mean waiting again
            raise
        except EntryNotFoundError:
            continue
    raise FileNotFoundError(f"it has none of the files {', '.join(names)}")


def _hub_names(file_name: str | None) -> list[str]:
    return [file_name] if file_name else ["model.safetensors", "pytorch_model.bin"]


def in_hub_cache(repository: str, file_name: str | None) -> Path | None:
    """Return the local copy of weights from the Hugging Face hub; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in _hub_names(file_name))
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _verified_by_hub(path: Path) -> Path:
    """Return a file of the hub's cache after verifying it. Large files are named by their published SHA-256."""
    published = path.resolve().name
    verify(path, published if len(published) == 64 else None)
    return path
