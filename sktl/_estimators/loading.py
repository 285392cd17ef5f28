"""`load`: turn a file that `save` wrote back into a fitted estimator."""

from __future__ import annotations

import torch

from sktl._storage.model_file import DocumentError, PathOrFile, open_model
from sktl._training.json_values import decode
from sktl._utils.devices import resolve_device
from sktl._utils.settings_isolation import isolated

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
    path: PathOrFile | bytes, device: str | torch.device = "auto"
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
        are unavailable or differ; or if the network as built by the installed libraries computes different features.
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
        estimator = kind(**parameters, device=device)
        estimator._check_parameters()
        with estimator._draft() as draft:
            draft.device_ = found
            restore(draft, file)
    return estimator
