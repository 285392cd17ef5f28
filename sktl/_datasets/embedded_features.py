"""Features of images in files: write them once, and load them for training without images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sktl._features.image_features import FeatureStore, ImageFeatures
from sktl._storage.parquet_files import check_installed
from sktl._utils.arguments import check_count
from sktl._utils.paths import check_features_suffix, checked_path, shown
from sktl._utils.warnings import warn
from sktl.exceptions import InvalidImageWarning, InvalidInputError

from .bunch import Bunch, bunch


def write_features(
    X: Any,
    path: str | os.PathLike[str],
    *,
    y: Any = None,
    names: Sequence[str] | None = None,
    estimator: Any = None,
    images_per_part: int = 4096,
    overwrite: bool = False,
) -> Bunch:
    """Write the features of images to a Parquet file, or to a folder of such files.

    Repeat the call to resume a run that was killed: finished parts are not computed again, and the result is the same,
    byte for byte. Needs pyarrow: ``pip install 'sktl[parquet]'``.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images; see the Notes of :class:`sktl.PretrainedImageClassifier` for the accepted formats.
    path : str or path-like
        A path that ends in ``.parquet`` is a file. Its parts are in the folder ``PATH.parts`` until it is complete. Any
        other path is a folder for the files ``part-00000.parquet``, ``part-00001.parquet``, ... A new folder cannot
        have the suffix of another format, such as ``.csv``.
    y : array-like of shape (n_samples,) or (n_samples, n_columns), default=None
        Labels or numbers to write with the features: strings, numbers or booleans. Columns of a data frame, or of a
        table of PyArrow, keep their names. Others are named label, or label_0, label_1, ...
    names : sequence of str, default=None
        Names of the images in the file. None uses their paths or, for images without a path, their positions in `X`.
    estimator : estimator, default=None
        The estimator for which features are written, fitted or not, such as
        ``PretrainedImageClassifier(backbone="resnet50")``. Its parameters determine the network, the stages that
        contribute features, and how they are computed. None uses ``PretrainedImageClassifier()``. With
        ``invalid_images="skip"``, images that cannot be used are left out.
    images_per_part : int, default=4096
        Number of images per part. A killed run resumes after its last complete part. The features of one part are held
        in memory.
    overwrite : bool, default=False
        Whether files with other content are replaced.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `path`: str, the file or folder;
        - `n_images`, `n_features`: int, the shape of the features;
        - `n_computed`: int, the number of images in the parts that this call has written;
        - `invalid_images`: tuple of :class:`sktl.exceptions.ImageFailure`, the images that were left out.

    Raises
    ------
    InvalidParameterError
        If a parameter is invalid, if another process writes to `path`, or if `path` contains something else and
        `overwrite` is False. The message says what differs.
    InvalidInputError
        If `X`, `y` or `names` is not in a supported format.
    InvalidImageError
        If images cannot be used. The error lists them all, and the features of parts without such images are written.
    MissingPackageError
        If pyarrow is not installed.

    Warns
    -----
    InvalidImageWarning
        If images were left out.

    See Also
    --------
    load_features : Load features as `X` for an estimator.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sktl.datasets import load_features, write_features
    >>> X, y = load_digits(return_X_y=True)
    >>> path = os.path.join(tempfile.mkdtemp(), "digits.parquet")
    >>> write_features(list(X[:8].reshape(8, 8, 8) / 16), path, y=y[:8]).n_images
    8
    >>> load_features(path).data
    ImageFeatures('efficientnet_lite0', 8 images, 6240 features)
    """
    # Imports PyTorch, which opening a file does not need.
    from .embedding_content import embedding_of
    from .feature_writing import Place, Writer

    target = checked_path(path, "path")
    check_features_suffix(target)
    check_installed()
    check_count(images_per_part, "images_per_part")
    embedding = embedding_of(X, y, names, estimator)
    place = Place(target)
    with place.locked():
        n_computed, failures = Writer(embedding, place, int(images_per_part), overwrite).write()
    n_all = len(embedding.images.samples)
    if failures:
        warn(
            f"{len(failures)} of {n_all} images of X cannot be used and were left out; `invalid_images` of the result "
            f"lists them. The first: {failures[0]}",
            InvalidImageWarning,
        )
    return bunch(
        path=target, n_images=n_all - len(failures), n_features=embedding.header["n_features"],
        n_computed=n_computed, invalid_images=tuple(failures),
    )  # fmt: skip


def load_features(path: str | os.PathLike[str]) -> Bunch:
    """Load features of images that :func:`write_features` or the command ``sktl embed`` has written.

    The features stay in the file. Needs pyarrow: ``pip install 'sktl[parquet]'``.

    Parameters
    ----------
    path : str or path-like
        The file, the folder of its parts, or a folder of such files, whose images are in the order of the file names.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        Dictionary-like object with the attributes

        - `data`: :class:`ImageFeatures` of shape (n_samples, n_features), to be passed as `X` to `fit`, `predict` and
          other methods of an estimator with the same network;
        - `target`: the labels or numbers, an ndarray of shape (n_samples,) or (n_samples, n_columns), or None;
        - `target_names`: list, the sorted classes if `target` has one text for each image, and otherwise the names of
          its columns.

    Raises
    ------
    InvalidInputError
        If the file does not exist, is incomplete, or contains no images or no features written by sktl; or if the parts
        in a folder come from different runs, or its files from different networks.
    OSError
        If the file cannot be read, for instance because of its permissions.
    InvalidParameterError
        If `path` is not a path.
    MissingPackageError
        If pyarrow is not installed.

    See Also
    --------
    write_features : Write features, with an example.
    """
    store = FeatureStore(checked_path(path, "path"))
    if not len(store):
        raise InvalidInputError(
            f"{shown(store.path)} holds no images: none could be used, or another program has removed them. Write the "
            "features of other images."
        )
    columns = [str(name) for name in store.header["targets"]]
    parts = [file.columns(columns) for file in store.files if columns]
    values = [_joined(store.path, name, [part[name] for part in parts if len(part[name])]) for name in columns]
    target: np.ndarray | None = None
    if values:
        target = values[0] if store.header["is_vector"] else np.stack(values, axis=1)
    if target is not None and target.ndim == 1 and target.dtype.kind == "U":
        columns = np.unique(target).tolist()
    return bunch(data=ImageFeatures(store), target=target, target_names=columns)


def _joined(path: str, name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return a column of several files."""
    kinds = {part.dtype.kind for part in parts}
    if "U" in kinds and kinds & {*"biuf"}:  # numbers would become texts
        raise InvalidInputError(
            f"{shown(path)} has files with texts and files with numbers in the column {shown(name)}. Write them with "
            "labels of one type."
        )
    return np.concatenate(parts)
