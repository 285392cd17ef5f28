"""Features of images in files: write them once, and load them for training without images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sktl._features.image_features import FeatureStore, ImageFeatures
from sktl._storage.parquet_files import FEATURES, NAMES, check_installed
from sktl._utils.arguments import check_count
from sktl._utils.paths import check_features_suffix, checked_path, in_utf8, shown
from sktl._utils.warnings import warn
from sktl._words import type_of
from sktl.exceptions import InvalidImageWarning, InvalidInputError, InvalidParameterError

from .bunch import Bunch, bunch

if TYPE_CHECKING:
    from sktl._estimators.base import PretrainedImageBase
    from sktl._images.samples import Sample

    from .embedding_content import Embedding


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
        Labels or numbers to write with the features: texts, numbers or booleans. Columns of a data frame, or of a table
        of PyArrow, keep their names. Others are named label, or label_0, label_1, ...
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
        If a parameter is invalid, if another process writes to `path`, or if `path` holds something else and
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
    from .feature_writing import Place, Writer

    target = checked_path(path, "path")
    check_features_suffix(target)
    check_installed()
    check_count(images_per_part, "images_per_part")
    embedding = _embedding(X, y, names, estimator)
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


def _embedding(X: Any, y: Any, names: Sequence[str] | None, estimator: Any) -> Embedding:
    """Return the images of a call, and how their features are computed."""
    from sklearn.base import clone

    from sktl._training.json_values import plain

    from .embedding_content import Embedding, Part

    template: PretrainedImageBase = clone(_checked_estimator(estimator))
    template._check_parameters()
    skips = getattr(template, "invalid_images", "raise") == "skip"
    samples = template._as_samples(X, reset=True, lenient=skips)
    columns, is_vector = _columns_of(y, len(samples))
    backbone, device = template._resolve(template._draw_seeds(1)[0])
    extractor = template._extractor(backbone, device, template.engine, template.precision)
    layout, wanted = extractor.layout, plain(template.feature_stages)
    extractor.count_feature_stages(wanted)
    extractor = replace(extractor, feature_stages=layout.count(wanted))
    return Embedding(Part(samples, _names_of(samples, names), columns, 0), extractor, is_vector, skips)


def _checked_estimator(estimator: Any) -> Any:
    from sktl._estimators.base import PretrainedImageBase
    from sktl._estimators.classifier import PretrainedImageClassifier

    if estimator is None:
        return PretrainedImageClassifier()
    if not isinstance(estimator, PretrainedImageBase):
        raise InvalidParameterError(
            f"estimator is {type_of(estimator)}. Pass a PretrainedImageClassifier, PretrainedImageRegressor or "
            "PretrainedImageEncoder."
        )
    return estimator


def _names_of(samples: Sequence[Sample], names: Sequence[str] | None) -> list[str]:
    """Return the names of samples: as passed, or their paths or positions."""
    if names is None:
        kinds = [getattr(sample, "sample", sample) for sample in samples]
        return [in_utf8(kind.name) if hasattr(kind, "path") else str(i) for i, kind in enumerate(kinds)]
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise InvalidInputError(f"names is {type_of(names)}. Pass a list with one name for each image.")
    found = [in_utf8(str(name)) for name in names]
    if len(found) != len(samples):
        raise InvalidInputError(f"X has {len(samples)} images but names has {len(found)}. Pass one for each image.")
    return found


def _columns_of(y: Any, n_samples: int) -> tuple[dict[str, np.ndarray], bool]:
    """Return labels or numbers as columns with names, and whether `y` is a single column without rows."""
    from sktl._targets.target_columns import as_cells
    from sktl._targets.target_tables import columns_of

    if y is None:
        return {}, False
    if (given := columns_of(y)) is not None:
        _check_shape(y.shape, n_samples)
        names = _checked_names(given)
        # One by one: an array of the whole frame would turn integers beside floats into floats.
        cells = [as_cells(y[name], "y") for name in given]
        return {name: _column(column, name) for name, column in zip(names, cells, strict=True)}, False
    table = as_cells(y, "y")
    _check_shape(table.shape, n_samples)
    if table.ndim == 1:
        return {"label": _column(table, "label")}, True
    return {f"label_{i}": _column(column, f"label_{i}") for i, column in enumerate(table.T)}, False


def _check_shape(shape: tuple[int, ...], n_samples: int) -> None:
    if len(shape) not in (1, 2) or shape[0] != n_samples:
        raise InvalidInputError(
            f"X has {n_samples} images but y has shape {shape}. Pass one label, or one row, for each image."
        )


def _checked_names(given: Sequence[Any]) -> list[str]:
    """Return names of columns as they are written, if files can have them."""
    from sktl._targets.target_columns import first_shown

    names = [in_utf8(str(name)) for name in given]
    if len({*names, NAMES, FEATURES}) < len(names) + 2:
        raise InvalidInputError(
            f"The columns of y need different names, other than {NAMES!r} and {FEATURES!r}: {first_shown(names)}."
        )
    return names


def _column(cells: np.ndarray, name: str) -> np.ndarray:
    """Return a column in a type that files have."""
    values = cells.tolist()
    found = np.array(values) if cells.dtype.kind == "O" else cells
    is_text = found.dtype.kind == "U" and all(isinstance(value, str) for value in values)
    # NaN equals no value in a file, so a run with NaN could not be resumed.
    if not (is_text or found.dtype.kind in "biuf") or (found.dtype.kind == "f" and np.isnan(found).any()):
        raise InvalidInputError(
            f"The column {shown(name)} of y must hold texts, numbers or booleans, and no missing values."
        )
    if is_text:
        return np.array([in_utf8(value) for value in values])
    # Files have no numbers of more than 64 bits, and none in the byte order of other machines.
    return found.astype(np.float64 if found.dtype.itemsize > 8 else found.dtype.newbyteorder("="), copy=False)


def load_features(path: str | os.PathLike[str]) -> Bunch:
    """Load features of images that :func:`write_features` or the command ``sktl embed`` has written.

    The features stay in the file. Needs pyarrow: ``pip install 'sktl[parquet]'``.

    Parameters
    ----------
    path : str or path-like
        The file, the folder of its parts, or a folder of such files, whose images follow in the order of the names of
        the files.

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
        If the file does not exist, is incomplete, or holds no images or no features written by sktl; or if the parts
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
