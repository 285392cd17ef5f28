"""Exported models with the methods of the estimators from which they were exported."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktl._images.image_reader import ImageReader

from .base_model import OnnxModel, PredictingModel, open_session
from .model_source import ModelSource, PathOrContent


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
