"""Models to and from the Hugging Face hub: two files in one commit, and an estimator back without running code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from sklearn.utils.validation import check_is_fitted

from sktl._estimators.base import PretrainedImageBase
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.encoder import PretrainedImageEncoder
from sktl._estimators.loading import load
from sktl._estimators.saving import to_document
from sktl._storage.model_file import write_model
from sktl._utils.isolation import isolated
from sktl._utils.paths import checked_path, shown
from sktl.exceptions import InvalidParameterError, ModelFileError

from .access import MODEL_FILE, check_access, check_repo_id, check_text, explained, fetch_model, open_hub
from .model_card import check_metrics, model_card

_CARD = "README.md"


@isolated()
def save_to_folder(
    estimator: PretrainedImageBase,
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    description: str | None = None,
    include_backbone: bool = True,
) -> None:
    """Write the files that `push_to_hub` would upload, to look at them or to publish them in another way.

    They are `model.safetensors`, which :func:`sktl.load` loads, and `README.md`, a model card with what the fit knows.

    Parameters
    ----------
    estimator : PretrainedImageClassifier or PretrainedImageEncoder
        Fitted.
    folder : str or os.PathLike
        New or empty; made if it is not there.
    repo_id : str, default=None
        Where it will be published, `"user/name"`, for the card to say how to load it from there.
    metrics : dict of str to float, default=None
        What you measured, such as ``{"accuracy": 0.93}``; they are not checked.
    license : str, default=None
        Name of a licence as the hub knows it, such as `"apache-2.0"`.
    description : str, default=None
        What the model is for, in plain text; blank lines part paragraphs, Markdown shows as it is written.
    include_backbone : bool, default=True
        As of `save`.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    InvalidParameterError
        If the folder has files, or another parameter a value that it cannot have, or `save` would refuse the estimator.
    OSError
        If the files cannot be written.
    """
    open_hub()
    if repo_id is not None:
        check_repo_id(repo_id)
    target = Path(checked_path(folder, "folder"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        fault = "is not empty" if target.is_dir() else "is not a folder"
        raise InvalidParameterError(f"folder={shown(target)} {fault}. Name a new one.")
    check_text("license", license)
    if description is not None and not isinstance(description, str):
        raise InvalidParameterError(f"description={description!r} must be text.")
    if not isinstance(estimator, PretrainedImageBase):
        raise InvalidParameterError(f"estimator is a {type(estimator).__name__}, not an estimator of sktl.")
    check_is_fitted(estimator)
    title = Path(repo_id or target.absolute()).name or "model"
    call = f"sktl.load({json.dumps(MODEL_FILE)})" if repo_id is None else f"sktl.load_from_hub({json.dumps(repo_id)})"
    card = model_card(
        estimator, title, call, metrics=check_metrics(estimator, metrics), license=license, description=description,
        complete=include_backbone,
    )  # fmt: skip
    document, tensors = to_document(estimator, include_backbone)
    target.mkdir(parents=True, exist_ok=True)
    write_model(target / MODEL_FILE, document, tensors)
    (target / _CARD).write_text(card, encoding="utf-8", newline="\n")


@isolated()
def push_to_hub(
    estimator: PretrainedImageBase,
    repo_id: str,
    *,
    metrics: Mapping[str, float] | None = None,
    license: str | None = None,
    description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    commit_message: str = "Add a model of sktl",
    include_backbone: bool = True,
) -> str:
    """Publish a fitted estimator on the Hugging Face hub, with a model card, in one commit.

    Everything is checked, and both files are written, before the first connection. A repository that is there gets a
    new commit, which replaces its `model.safetensors` and `README.md`.

    Parameters
    ----------
    estimator : PretrainedImageClassifier or PretrainedImageEncoder
        Fitted.
    repo_id : str
        `"user/name"` or `"organisation/name"`; the repository is made if it is not there.
    metrics : dict of str to float, default=None
        What you measured; as of :func:`save_to_folder`.
    license : str, default=None
        As of :func:`save_to_folder`.
    description : str, default=None
        As of :func:`save_to_folder`.
    private : bool, default=None
        Whether a new repository is private; None is what its owner has set, which is public unless changed.
    token : str or bool, default=None
        With write access. None is the one that `hf auth login` stored or the environment has, True demands it.
    endpoint : str, default=None
        Address of another hub than huggingface.co, which then is sent the token.
    commit_message : str, default="Add a model of sktl"
        In one line.
    include_backbone : bool, default=True
        As of `save`.

    Returns
    -------
    url : str
        Of the commit.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    HubRequestError
        If the hub cannot be reached or refuses: no such token, no right to write, no such licence.
    InvalidParameterError
        If a parameter has a value that it cannot have, or `save` would refuse the estimator.
    """
    hub = open_hub()
    check_repo_id(repo_id)
    check_access(token, endpoint)
    check_text("commit_message", commit_message)
    if private is not None and not isinstance(private, bool):
        raise InvalidParameterError(f"private is a {type(private).__name__}. Pass True, False or None.")
    with tempfile.TemporaryDirectory(prefix="sktl-") as folder:
        save_to_folder(
            estimator, folder, repo_id=repo_id, metrics=metrics, license=license, description=description,
            include_backbone=include_backbone,
        )  # fmt: skip
        files = [hub.CommitOperationAdd(name, os.path.join(folder, name)) for name in (MODEL_FILE, _CARD)]
        with explained(f"{repo_id!r} could not be published", token):
            api = hub.HfApi(endpoint=endpoint, token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.create_commit(repo_id, files, commit_message=commit_message).commit_url)


def load_from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    device: str | torch.device = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> PretrainedImageClassifier | PretrainedImageEncoder:
    """Load a fitted estimator that `push_to_hub` published.

    Only its `model.safetensors` is fetched, once, and read by :func:`sktl.load`: nothing in the repository is run. A
    model from a stranger can still be a bad model. Without a connection, what was fetched before is loaded.

    Parameters
    ----------
    repo_id : str
        `"user/name"`.
    revision : str, default=None
        Branch, tag or full hash of a commit; None is the newest of the main branch. Name a hash to get the same model
        for ever.
    token : str or bool, default=None
        For private repositories. None is the one that `hf auth login` stored or the environment has, False sends none.
    endpoint : str, default=None
        Address of another hub than huggingface.co, which then is sent the token.
    device : str or torch.device, default="auto"
        As of :func:`sktl.load`.
    cache_dir : str or os.PathLike, default=None
        Where files are kept; None is huggingface_hub's folder.

    Returns
    -------
    estimator : PretrainedImageClassifier or PretrainedImageEncoder
        As :func:`sktl.load` returns it.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    HubRequestError
        If the hub cannot be reached or has no such repository, revision or file.
    ModelFileError
        If the file is damaged, or not an sktl model, as of :func:`sktl.load`.
    InvalidParameterError
        If a parameter has a value that it cannot have.
    """
    hub = open_hub()
    check_repo_id(repo_id)
    check_access(token, endpoint)
    if revision is not None:
        check_text("revision", revision)
    with explained(f"No model could be fetched from {repo_id!r}", token):
        path = fetch_model(hub, repo_id, revision, endpoint, token=token, cache_dir=cache_dir)
    try:
        return load(path, device)
    except ModelFileError as error:
        error.add_note(f"It came from {repo_id!r}. If that is not to blame, remove the file to have it fetched again.")
        raise
