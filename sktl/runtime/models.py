"""Exported models: opened, checked and pickled, with the methods of the estimators that were exported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np

from sktl._images.image_reader import ImageReader, check_image_reader
from sktl._images.samples import as_samples
from sktl._short_text import shown_value
from sktl.exceptions import InvalidInputError, InvalidParameterError, ModelFileError, TypicalityError

from .batches import batches
from .document import OUTPUTS
from .model_source import ModelSource, PathOrContent
from .session import Session

# Largest difference between outputs here and at the time of the export. Probabilities are compared as they are, numbers
# and features relative to the largest value. Kernels for whole and half-precision numbers differ between processors.
_TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "int8": 5e-2}
_MOST_THREADS = 1_024  # ONNX Runtime starts as many as it is told, all at once


class OnnxModel:
    """Base class of exported models. `open_model` returns one of its subclasses.

    Parameters
    ----------
    model : path, bytes or binary file object
        A file that `sktl.export` wrote, or its content. It is read when the object is created.
    n_threads : int, default=None
        Number of threads for decoding images and for computation. None uses all cores that the process may use. Results
        do not depend on it, except for the last bits.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read, as in :class:`sktl.PretrainedImageClassifier`. None uses the reader that was
        chosen by name when the estimator was fitted.

    Attributes
    ----------
    document : ModelDocument
        What the file says about the model: preprocessing, precision, versions of libraries, facts about the training.
    has_typicality : bool
        Whether the model contains references for `typicality`.
    """

    kinds: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, model: PathOrContent, *, n_threads: int | None = None, image_reader: ImageReader | None = None
    ) -> None:
        self._use(open_session(ModelSource.of(model), n_threads), n_threads, image_reader)

    @classmethod
    def _from_session(cls, session: Session, n_threads: int | None, image_reader: ImageReader | None) -> Self:
        """Return a model of an open session. The other arguments are those of the constructor."""
        model = cls.__new__(cls)
        model._use(session, n_threads, image_reader)
        return model

    def _use(self, session: Session, n_threads: int | None, image_reader: ImageReader | None) -> None:
        check_image_reader(image_reader)
        if session.document.kind not in self.kinds:
            raise ModelFileError(
                f"{session.source.name} predicts {session.document.kind}, not {' or '.join(self.kinds)}. Open it with "
                "sktl.runtime.open_model."
            )
        self.n_threads, self.image_reader = n_threads, image_reader
        self._session, self.document = session, session.document
        self.has_typicality = session.has_typicality

    def preprocess(self, X: Any) -> np.ndarray:
        """Decode, resize and crop images to the pixels that the network receives.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images in one of the formats that the estimators accept: a list of paths, bytes, arrays or PIL images; or an
            array of shape (n, H, W), (n, H, W, C) or (n, C, H, W).

        Returns
        -------
        pixels : uint8 ndarray of shape (n_samples, height, width, 3)
            Input of `run`.

        Raises
        ------
        InvalidInputError
            If `X` as a whole is not in a supported format.
        InvalidImageError
            If images cannot be used. The error lists them.
        """
        return np.concatenate([*self.batches(X)])

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of the network for pixels from `preprocess`, as one batch.

        Parameters
        ----------
        pixels : uint8 ndarray of shape (n_samples, height, width, 3)
            Pixels of the network's size.

        Returns
        -------
        outputs : list of float32 ndarray
            Probabilities, numbers or features, of shape (n_samples, n_outputs); and the typicality, of shape
            (n_samples,), if the model contains references for it.
        """
        shape = (*self.document.preprocessing.crop, 3)
        is_array = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
        if not is_array or pixels.shape[1:] != shape or not len(pixels):
            raise InvalidInputError(f"pixels must be a uint8 array of shape (n, {shape[0]}, {shape[1]}, 3) with n > 0.")
        return self._session.run(pixels)

    def batches(self, X: Any) -> Iterator[np.ndarray]:
        """Return the result of `preprocess` in parts, for more images than fit into memory.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        parts : iterator of uint8 ndarray of shape (n, height, width, 3)
            Inputs of `run`, each for the next n images.
        """
        samples = as_samples(X, image_reader=self.image_reader or self.document.image_reader)
        return batches(samples, self.document.preprocessing, count_threads(self.n_threads))

    def _outputs(self, X: Any, which: int = 0) -> np.ndarray:
        """Return one of the outputs for all images."""
        return np.concatenate([self._session.run(pixels)[which] for pixels in self.batches(X)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._session.source, self.n_threads, self.image_reader)

    def __repr__(self) -> str:
        place = self._session.source.place
        return f"{type(self).__name__}({repr(place) if isinstance(place, str) else f'{len(place):,} bytes'})"


class PredictingModel(OnnxModel):
    """Base class of exported models that predict."""

    def typicality(self, X: Any) -> np.ndarray:
        """Return the typicality of images relative to the training images, as conformal p-values.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        p_values : float64 ndarray of shape (n_samples,)
            Values in (0, 1]. Low values mean that an image is unlike the training images.

        Raises
        ------
        TypicalityError
            If the model was exported without references.
        """
        if not self.has_typicality:
            raise TypicalityError(
                "typicality is unavailable: the model was exported without references. Export an estimator that was "
                "fitted with trainable_stages=0, with its references."
            )
        return self._outputs(X, 1).astype(np.float64)


def open_session(source: ModelSource, n_threads: int | None) -> Session:
    """Open a model whose outputs for its reference images are the same here as where it was exported.

    Raises
    ------
    ModelFileError
        If the model cannot be opened, or computes other outputs.
    """
    session = Session(source, count_threads(n_threads))
    _check_references(session)
    return session


def _restored(
    cls: type[OnnxModel], source: ModelSource, n_threads: int | None, image_reader: ImageReader | None
) -> OnnxModel:
    """Return the model of a pickle."""
    return cls._from_session(open_session(source, n_threads), n_threads, image_reader)


def count_threads(n_threads: int | None) -> int:
    """Return the number of threads for an `n_threads` parameter."""
    if n_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(n_threads, bool) or not isinstance(n_threads, Integral) or not 1 <= n_threads <= _MOST_THREADS:
        raise InvalidParameterError(
            f"n_threads={shown_value(n_threads)} must be an integer from 1 to {_MOST_THREADS}, or None."
        )
    return int(n_threads)


def _check_references(session: Session) -> None:
    """Raise `ModelFileError` unless the network computes here what it computed when it was exported."""
    document = session.document
    expected = np.array(document.references.outputs)
    found = session.run(document.references.pixels(document.preprocessing.crop))[0]
    unit = 1.0 if OUTPUTS[document.kind] == "probabilities" else np.abs(expected).max() or 1.0
    difference, limit = np.abs(found - expected).max(), _TOLERANCES[document.precision] * unit
    if not difference <= limit:
        raise ModelFileError(
            f"{session.source.name} computes other outputs here than where it was exported: they differ by "
            f"{difference:.2g} on its reference images, more than {limit:.2g}. Update onnxruntime, or export the model "
            "again."
        )


class OnnxClassifier(PredictingModel):
    """A classifier that was exported to ONNX, for classes or several labels.

    Parameters
    ----------
    model : path, bytes or binary file object
        A file that `sktl.export` wrote, or its content. It is read when the object is created.
    n_threads : int, default=None
        Number of threads for decoding images and for computation. None uses all cores that the process may use. Results
        do not depend on it, except for the last bits.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None uses the reader that was chosen by name when the estimator was fitted.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes, or names of the labels, as in the estimator.
    multilabel_ : bool
        Whether an image can have several labels.
    document : ModelDocument
        What the file says about the model: preprocessing, precision, versions of libraries, facts about the training.
    has_typicality : bool
        Whether the model contains references for `typicality`.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by `sktl.export`, contains another kind of model, or computes other
        outputs for its reference images than at the time of the export.
    MissingPackageError
        If ONNX Runtime is not installed.

    Examples
    --------
    >>> from sktl.runtime import OnnxClassifier
    >>> clf = OnnxClassifier("cats.onnx")  # doctest: +SKIP
    >>> clf.predict(["my_cat.jpg"])  # doctest: +SKIP
    array(['Siamese'], dtype='<U17')
    """

    kinds = ("classes", "labels")

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the classes, or names of the labels."""
        return self.document.classes

    @property
    def multilabel_(self) -> bool:
        """Whether an image can have several labels."""
        return self.document.kind == "labels"

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class, or the probable labels, of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted labels, in the dtype of `classes_`. With several labels, an int64 table, which is 1 where the
            probability of a label is above 0.5, and 0 elsewhere.
        """
        probabilities = self._outputs(X)
        if self.multilabel_:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class or label.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        probabilities : float64 ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
            Probabilities in the order of `classes_`, computed in single precision.
        """
        return self._outputs(X).astype(np.float64)


class OnnxRegressor(PredictingModel):
    """A regressor that was exported to ONNX.

    Parameters
    ----------
    model : path, bytes or binary file object
        A file that `sktl.export` wrote, or its content. It is read when the object is created.
    n_threads : int, default=None
        Number of threads for decoding images and for computation. None uses all cores that the process may use. Results
        do not depend on it, except for the last bits.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None uses the reader that was chosen by name when the estimator was fitted.

    Attributes
    ----------
    output_names_ : ndarray of str or None
        Names of the numbers, if they have names.
    document : ModelDocument
        What the file says about the model: preprocessing, precision, versions of libraries, facts about the training.
    has_typicality : bool
        Whether the model contains references for `typicality`.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by `sktl.export`, contains another kind of model, or computes other
        outputs for its reference images than at the time of the export.
    MissingPackageError
        If ONNX Runtime is not installed.
    """

    kinds = ("numbers",)

    @property
    def output_names_(self) -> np.ndarray | None:
        """Names of the numbers, if they have names."""
        names = self.document.names
        return None if names is None else np.array(names)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted number or numbers for each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        numbers : float64 ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, in the unit and with the number of columns of `y`.
        """
        numbers = self._outputs(X).astype(np.float64)
        return numbers[:, 0] if self.document.is_vector else numbers


class OnnxEncoder(OnnxModel):
    """An encoder that was exported to ONNX.

    Parameters
    ----------
    model : path, bytes or binary file object
        A file that `sktl.export` wrote, or its content. It is read when the object is created.
    n_threads : int, default=None
        Number of threads for decoding images and for computation. None uses all cores that the process may use. Results
        do not depend on it, except for the last bits.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None uses the reader that was chosen by name when the estimator was fitted.

    Attributes
    ----------
    document : ModelDocument
        What the file says about the model: preprocessing, precision, versions of libraries, facts about the training.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by `sktl.export`, contains another kind of model, or computes other
        outputs for its reference images than at the time of the export.
    MissingPackageError
        If ONNX Runtime is not installed.
    """

    kinds = ("features",)

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, as in `preprocess`.

        Returns
        -------
        features : float32 ndarray of shape (n_samples, n_features)
            Features in the same order as the estimator's features.
        """
        return self._outputs(X)


_CLASSES: tuple[Any, ...] = (OnnxClassifier, OnnxRegressor, OnnxEncoder)


def open_model(
    model: PathOrContent, *, n_threads: int | None = None, image_reader: ImageReader | None = None
) -> OnnxClassifier | OnnxRegressor | OnnxEncoder:
    """Open an exported model of any kind.

    Parameters
    ----------
    model : path, bytes or binary file object
        A file that `sktl.export` wrote, or its content.
    n_threads : int, default=None
        Number of threads for decoding images and for computation. None uses all cores that the process may use.
    image_reader : {"dicom", "heic", "tiff"}, callable or None, default=None
        How files and bytes are read. None uses the reader that was chosen by name when the estimator was fitted.

    Returns
    -------
    model : OnnxClassifier, OnnxRegressor or OnnxEncoder
        The model, as an object of the class for its kind.

    Raises
    ------
    ModelFileError
        If the file is damaged, was not written by `sktl.export`, or computes other outputs for its reference images
        than at the time of the export.
    """
    session = open_session(ModelSource.of(model), n_threads)
    cls = next(cls for cls in _CLASSES if session.document.kind in cls.kinds)
    return cls._from_session(session, n_threads, image_reader)
