"""Share models on the Hugging Face Hub: upload in one commit, and load without running code."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from sklearn.utils.validation import check_is_fitted

from sktl._backbones.resolve_backbone import Weights
from sktl._estimators.base import PretrainedImageBase
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._estimators.encoder import PretrainedImageEncoder
from sktl._estimators.loading import load
from sktl._estimators.regressor import PretrainedImageRegressor
from sktl._estimators.saving import to_document
from sktl._short_text import shown_value, type_of
from sktl._storage.model_file import MODEL_FILE, write_model
from sktl._utils.devices import resolve_device
from sktl._utils.paths import checked_path, naming, shown
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import InvalidParameterError, ModelFileError

from .access import check_access, check_repo_id, check_text, explained, fetch_model, open_hub
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
    include_references: bool = False,
) -> None:
    """Write the files that `push_to_hub` would upload, to inspect them or to publish them in another way.

    The files are `model.safetensors` and `README.md`, a model card with facts about the fit. :func:`sktl.load` loads
    the folder.

    Parameters
    ----------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        A fitted estimator.
    folder : str or os.PathLike
        A new or empty folder. It is created if it does not exist.
    repo_id : str, default=None
        Repository in which you will publish the model, `"user/name"`. The card then shows how to load it from there.
    metrics : dict of str to float, default=None
        Your measurements, such as ``{"accuracy": 0.93}``. sktl does not check them.
    license : str, default=None
        Name of a license that the hub knows, such as `"apache-2.0"`.
    description : str, default=None
        Purpose of the model, in plain text. Blank lines separate paragraphs, and Markdown is escaped.
    include_backbone : bool, default=True
        As in the method `save`.
    include_references : bool, default=False
        As in the method `save`. By default, nothing about individual training images is published, and the model has no
        `typicality`.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    InvalidParameterError
        If the folder contains files, if another parameter has an invalid value, or if the estimator cannot be saved.
    OSError
        If the files cannot be written.
    """
    open_hub()
    if repo_id is not None:
        check_repo_id(repo_id)
    target = Path(checked_path(folder, "folder"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        fault = "is not empty" if target.is_dir() else "is not a folder"
        raise InvalidParameterError(f"folder={shown(target)} {fault}. Pass a new folder.")
    check_text("license", license)
    if description is not None and not isinstance(description, str):
        raise InvalidParameterError(f"description={shown_value(description)} must be text.")
    if not isinstance(estimator, PretrainedImageBase):
        raise InvalidParameterError(f"estimator is {type_of(estimator)}, not an estimator of sktl.")
    check_is_fitted(estimator)
    title = Path(repo_id or target.absolute()).name or "model"
    call = f"sktl.load({json.dumps(MODEL_FILE)})" if repo_id is None else f"sktl.load_from_hub({json.dumps(repo_id)})"
    card = model_card(
        estimator, title, call, metrics=check_metrics(estimator, metrics), license=license, description=description,
        complete=include_backbone,
    )  # fmt: skip
    document, tensors = to_document(estimator, include_backbone, include_references)
    target.mkdir(parents=True, exist_ok=True)
    write_model(target / MODEL_FILE, document, tensors)
    with naming(target / _CARD):
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
    include_references: bool = False,
) -> str:
    """Publish a fitted estimator on the Hugging Face Hub, with a model card, in one commit.

    All parameters are checked, and both files are written, before the first connection. In an existing repository, a
    new commit replaces `model.safetensors` and `README.md`.

    Parameters
    ----------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        A fitted estimator.
    repo_id : str
        `"user/name"` or `"organization/name"`. The repository is created if it does not exist.
    metrics : dict of str to float, default=None
        As in :func:`save_to_folder`.
    license : str, default=None
        As in :func:`save_to_folder`.
    description : str, default=None
        As in :func:`save_to_folder`.
    private : bool, default=None
        Whether a new repository is private. None uses the owner's setting, which is public unless it was changed.
    token : str or bool, default=None
        A token with write access. None uses the token that `hf auth login` stored or that the environment contains, if
        there is one. True requires such a token.
    endpoint : str, default=None
        Address of a hub other than huggingface.co. The token is sent to this address.
    commit_message : str, default="Add a model of sktl"
        Commit message, one line.
    include_backbone : bool, default=True
        As in the method `save`.
    include_references : bool, default=False
        As in the method `save`. By default, nothing about individual training images is published, and the model has no
        `typicality`.

    Returns
    -------
    url : str
        URL of the commit.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    HubRequestError
        If the hub cannot be reached or refuses the request, for instance because the token is invalid or has no write
        access, or because the license is unknown.
    InvalidParameterError
        If a parameter has an invalid value, or the estimator cannot be saved.
    """
    hub = open_hub()
    check_repo_id(repo_id)
    check_access(token, endpoint)
    check_text("commit_message", commit_message)
    if private is not None and not isinstance(private, bool):
        raise InvalidParameterError(f"private is {type_of(private)}. Pass True, False or None.")
    with tempfile.TemporaryDirectory(prefix="sktl-") as folder:
        save_to_folder(
            estimator, folder, repo_id=repo_id, metrics=metrics, license=license, description=description,
            include_backbone=include_backbone, include_references=include_references,
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
    weights: Weights = None,
) -> PretrainedImageClassifier | PretrainedImageRegressor | PretrainedImageEncoder:
    """Load a fitted estimator that `push_to_hub` published.

    Only `model.safetensors` is downloaded, once, and :func:`sktl.load` reads it: nothing in the repository is executed.
    A model from a stranger can still be a bad model. Without a connection, an earlier download is loaded.

    Parameters
    ----------
    repo_id : str
        `"user/name"` or `"organization/name"`.
    revision : str, default=None
        Branch, tag or full commit hash. None loads the latest commit of the main branch. Pass a hash to always get the
        same model.
    token : str or bool, default=None
        Token for private repositories. None uses the token that `hf auth login` stored or that the environment
        contains, if there is one. False sends no token.
    endpoint : str, default=None
        Address of a hub other than huggingface.co. The token is sent to this address.
    device : str or torch.device, default="auto"
        As in :func:`sktl.load`.
    cache_dir : str or os.PathLike, default=None
        Folder for downloaded files. None uses huggingface_hub's folder.
    weights : str, os.PathLike, member of a torchvision enumeration or None, default=None
        As in :func:`sktl.load`: the weights of a network that is not in the file.

    Returns
    -------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        The fitted estimator, as returned by :func:`sktl.load`.

    Raises
    ------
    MissingPackageError
        If huggingface_hub is not installed.
    HubRequestError
        If the hub cannot be reached or has no such repository, revision or file.
    ModelFileError
        If the file is damaged or is not an sktl model; see :func:`sktl.load`.
    InvalidParameterError
        If a parameter has an invalid value.
    DeviceError
        If the device is unavailable.
    """
    hub = open_hub()
    check_repo_id(repo_id)
    check_access(token, endpoint)
    if revision is not None:
        check_text("revision", revision)
    if cache_dir is not None:
        cache_dir = checked_path(cache_dir, "cache_dir")
    resolve_device(device)
    with explained(f"No model could be fetched from {repo_id!r}", token):
        path = fetch_model(hub, repo_id, revision, endpoint, token=token, cache_dir=cache_dir)
    try:
        return load(path, device, weights)
    except ModelFileError as error:
        error.add_note(f"It came from {repo_id!r}. If the repository is intact, remove the file to download it again.")
        raise
