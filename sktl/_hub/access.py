"""Access to the Hugging Face Hub: checks before each request, and the hub's errors as errors of sktl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sktl._backbones.weight_downloads import NoAnswerError, ask_hub, behind
from sktl._short_text import shown_value
from sktl._storage.model_file import MODEL_FILE
from sktl._utils.optional import require
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import HubRequestError, InvalidParameterError


def open_hub() -> Any:
    """Return huggingface_hub; raise `MissingPackageError` if it is not installed."""
    return require("huggingface_hub", "Sharing models", "sktl[hub]")


def fetch_model(hub: Any, repo_id: str, revision: str | None, endpoint: str | None, **access: Any) -> str:
    """Return the path of a downloaded model file, or of an earlier download if the hub does not answer."""
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
    """Raise `InvalidParameterError` if the ID is not of the form "user/name" that the hub accepts."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo_id)
        legal = isinstance(repo_id, str) and repo_id.count("/") == 1
    except HFValidationError:
        legal = False
    if not legal:
        raise InvalidParameterError(
            f"repo_id={shown_value(repo_id)} must be 'user/name' or 'organization/name', of letters, digits, '-', '_' "
            "and '.'."
        )


def check_access(token: Any, endpoint: Any) -> None:
    """Raise `InvalidParameterError` if the token or the endpoint is invalid."""
    # The messages do not show the values, which may contain secrets. A token with a line break is refused here, because
    # the HTTP client would show it in an error about its header.
    if not (token is None or isinstance(token, bool) or (isinstance(token, str) and re.fullmatch("[!-~]+", token))):
        raise InvalidParameterError("token must be True, False, None or printable ASCII without spaces.")
    if endpoint is not None and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", str(endpoint)):
        raise InvalidParameterError("endpoint must be like 'https://hub.example.org', without a password.")


def check_text(name: str, text: Any) -> None:
    """Raise `InvalidParameterError` if the value is neither None nor one line of text."""
    if text is not None and not (isinstance(text, str) and text.strip() and text.isprintable()):
        raise InvalidParameterError(f"{name}={shown_value(text)} must be text in one line.")


@contextmanager
def explained(what: str, token: str | bool | None) -> Iterator[None]:
    """Turn errors of the hub's library, which have no common base class, into `HubRequestError`, without the token."""
    try:
        yield
    except Exception as error:
        raise_process_error(error)
        chain = "\n".join(_told(error))
        # A server may repeat the token in its answer, and the traceback of a chained error would show it.
        secret = chain != _without_secrets(chain, token)
        raise HubRequestError(f"{what}: {_remedy(error, token)}") from (None if secret else error)


def _told(error: BaseException | None) -> Iterator[str]:
    """Yield the messages of an error and of its causes."""
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
        return "its owner grants access on request. Ask for access on the repository's page, then pass your token."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "there is no such repository, or the token has no access to it. Check the name; log in with `hf auth "
            "login`, or pass token."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision. Pass a branch, a tag or a full commit hash."
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub did not answer, and this machine has no earlier download ({reason}). Check the connection, the "
            "endpoint and HF_HUB_OFFLINE."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"it has no file {MODEL_FILE}. Pass a repository, or a revision of it, that `push_to_hub` made."
    if isinstance(error, errors.LocalTokenNotFoundError) or status in (401, 403):
        return "the token is missing or has no access to it. Log in with `hf auth login`, or pass token."
    if status is not None:
        return f"the hub answered {status}: {reason}."
    return f"{type(error).__name__}: {reason}. Check the connection, the endpoint and HF_HUB_OFFLINE."
