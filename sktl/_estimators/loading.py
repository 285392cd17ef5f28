"""`load`: turn a file that `save` wrote back into a fitted estimator."""

from __future__ import annotations

from typing import Any

import torch

from sktl._backbones.resolve_backbone import Weights, is_path
from sktl._storage.model_file import DocumentError, ModelFile, PathOrFile, open_model
from sktl._training.json_values import decode
from sktl._utils.devices import resolve_device
from sktl._utils.settings_isolation import isolated
from sktl._words import shown_value
from sktl.exceptions import WeightsError

from .classifier import PretrainedImageClassifier
from .encoder import PretrainedImageEncoder
from .regressor import PretrainedImageRegressor
from .restoring import restore
from .saving import OF_THE_MACHINE

_ESTIMATORS = {
    cls.__name__: cls for cls in (PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder)
}


@isolated()
def load(
    path: PathOrFile | bytes, device: str | torch.device = "auto", weights: Weights = None
) -> PretrainedImageClassifier | PretrainedImageRegressor | PretrainedImageEncoder:
    """Load a fitted estimator from a file that its method `save` wrote.

    Nothing in the file is executed. The file contains numbers and JSON, whose lengths, shapes and types are all checked
    before they are used, and a checksum of its content. A file from a stranger can still be a bad model: it predicts
    what its author made it predict.

    Parameters
    ----------
    path : str, os.PathLike, binary file object or bytes
        The file, the folder that :func:`sktl.save_to_folder` wrote, or the content of the file. A file object is read
        with its method ``read(size)`` from its current position to the end of the model. It does not have to be
        seekable, and stays open.
    device : str or torch.device, default="auto"
        Where the network runs, independently of the device of the fit. It becomes the parameter `device`. The other
        parameters that depend on the machine, `cache`, `checkpoint`, `n_jobs` and `verbose`, have their defaults.
    weights : str, os.PathLike, member of a torchvision enumeration or None, default=None
        The weights of a network that is not in the file, because it was saved with ``include_backbone=False``. It
        becomes the parameter `weights`. None takes published weights by the name that the file states. A local file
        must be named here, because a file from a stranger could name any file of this machine.

    Returns
    -------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        The fitted estimator. Its predictions equal the predictions of the saved estimator, bit for bit on the same
        machine with the same libraries. `history_` contains the epochs without their batches. `fit` starts from
        scratch, as usual.

    Raises
    ------
    InvalidParameterError
        If `path` is not a path, bytes, or a file that is open for binary reading.
    ModelFileNotFoundError
        If the file does not exist.
    ModelFileError
        If the file is damaged, is not a saved model, or has an unknown format; if this version of sktl does not know
        its parameters or its network; if it was saved with ``include_backbone=False`` and the weights on this machine
        are unavailable, differ, or must be passed as `weights`; if `weights` are passed although it contains the
        network; or if the network as built by the installed libraries computes different features.
    MissingPackageError
        If the library of the network is not installed.
    DeviceError
        If the device is unavailable.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, sktl
    >>> X = np.random.default_rng(0).random((8, 8, 8))
    >>> clf = sktl.PretrainedImageClassifier(random_state=0).fit(X, ["a", "b"] * 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save(os.path.join(folder, "model.sktl"))
    ...     loaded = sktl.load(os.path.join(folder, "model.sktl"))
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    found = resolve_device(device)
    with open_model(path) as file:
        kind = _ESTIMATORS[file.document["estimator"]]
        parameters = {name: decode(value) for name, value in file.document["parameters"].items()}
        if forbidden := parameters.keys() & OF_THE_MACHINE:
            raise DocumentError(f"it sets {', '.join(sorted(forbidden))}")
        estimator = kind(**_with_weights(parameters, weights, file), device=device)
        estimator._check_parameters()
        with estimator._draft() as draft:
            draft.device_ = found
            restore(draft, file)
    return estimator


def _with_weights(parameters: dict[str, Any], weights: Weights, file: ModelFile) -> dict[str, Any]:
    """Return the parameters in a file with the weights that the caller has named.

    A path in the file is never opened: errors about it would tell the author of the file what is on this machine.
    """
    complete, named = file.document["backbone"]["complete"], parameters.get("weights")
    if weights is None and (complete or not is_path(named)):
        return parameters
    if complete:
        raise WeightsError(f"it contains the network, so weights={shown_value(weights)} is not used: leave it out")
    if weights is None:
        raise WeightsError(
            f"it was saved without the network, and names the local file of weights {shown_value(named)}. If you trust "
            "it, pass its path as `weights`, or save the model with include_backbone=True."
        )
    return parameters | {"weights": weights}
