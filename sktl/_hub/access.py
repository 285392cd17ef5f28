"""The way to the Hugging Face hub: what is checked before it is called, and what it refuses in words of sktl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktl._backbones.downloads import NoAnswerError, ask_hub, behind
from sktl._utils.optional import require
from sktl.exceptions import HubRequestError, InvalidParameterError

MODEL_FILE = "model.safetensors"


def open_hub() -> Any:
    """Return huggingface_hub; raise `MissingPackageError` if it is not there."""
    return require("huggingface_hub", "Sharing models", "sktl[hub]")


def fetch_model(hub: Any, repo_id: str, revision: str | None, endpoint: str | None, **access: Any) -> str:
    """Return the path of a model file that the hub has, or of what was fetched before if the hub does not answer."""
    try:
        ask_hub(repo_id, MODEL_FILE, revision, endpoint)
        silence = None
    except NoAnswerError as error:
        silence = error
    asked = {"revision": revision, "endpoint": endpoint, "local_files_only": silence is not None, **access}
    try:
        return str(hub.hf_hub_download(repo_id, MODEL_FILE, **asked))
    except hub.errors.LocalEntryNotFoundError as error:
        raise error from (silence or error.__cause__)


def check_repo_id(repo_id: Any) -> None:
    """Raise `InvalidParameterError` unless it is "user/name" as the hub allows it."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
        legal = isinstance(repo_id, str) and repo_id.count("/") == 1
    except HFValidationError:
        legal = False
    if not legal:
        raise InvalidParameterError(
            f"repo_id={repo_id!r} must be 'user/name' or 'organisation/name', of letters, digits, '-', '_' and '.'."
        )


def check_access(token: Any, endpoint: Any) -> None:
    """Raise `InvalidParameterError` unless both have legal forms."""
    # Neither value is shown: either may hold a secret. A header with a line break would be shown by an error of others.
    if not (token is None or isinstance(token, bool) or (isinstance(token, str) and re.fullmatch("[!-~]+", token))):
        raise InvalidParameterError("token must be True, False, None or printable ASCII without spaces.")
    if endpoint is not None and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", str(endpoint)):
        raise InvalidParameterError("endpoint must be like 'https://hub.example.org', without a password.")


def check_text(name: str, text: Any) -> None:
    """Raise `InvalidParameterError` unless it is None or one line of text."""
    if text is not None and not (isinstance(text, str) and text.strip() and text.isprintable()):
        raise InvalidParameterError(f"{name}={text!r} must be text in one line.")


@contextmanager
def explained(what: str, token: str | bool | None) -> Iterator[None]:
    """Turn whatever the hub's library raises, which has no common base, into `HubRequestError`, without the token."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        chain = "\n".join(_told(error))
        secret = chain != _without_secrets(chain, token)  # a server may repeat what it was sent
        raise HubRequestError(f"{what}: {_remedy(error, token)}") from (None if secret else error)


def _told(error: BaseException | None) -> Iterator[str]:
    """Yield the messages of an error and of those behind it."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def _without_secrets(text: str, token: str | bool | None) -> str:
    if isinstance(token, str):
        text = text.replace(token, "***")
    return re.sub(r"hf_\w{8,}", "***", text)


def _remedy(error: Exception, token: str | bool | None) -> str:
    from huggingface_hub import errors

    reason = " ".join(_without_secrets(str(behind(error)), token).split())[:300].rstrip(".")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return "its owner gives access on request. Ask for it on the repository's page, then pass your token."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "there is no such repository, or the token has no right to it. Check the name; log in with `hf auth "
            "login`, or pass token."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision. Pass a branch, a tag or the full hash of a commit."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub did not answer, and nothing of it is kept on this machine ({reason}). Check the connection, the "
            "endpoint and HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"it has no file {MODEL_FILE}. Pass a repository, or a revision of it, that `push_to_hub` made."
    if isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403):
        return "the token is missing or has no right to it. Log in with `hf auth login`, or pass token."
    if status is not None:
        return f"the hub answered {status}: {reason}."
    return f"{type(error).__name__}: {reason}. Check the connection, the endpoint and HF_HUB_OFFLINE."
