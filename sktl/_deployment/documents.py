"""The document of an exported model: what a fitted estimator knows about its outputs, its images and its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sktl._estimators.summary import facts_of
from sktl._hub.model_card import limits_of
from sktl._targets.labels import shown
from sktl._version import library_versions, version_of
from sktl.exceptions import InvalidParameterError
from sktl.runtime.document import ModelDocument, References

_OF_THE_MACHINE = "Device"


def kind_of(estimator: Any) -> str:
    """Return what the outputs of a fitted estimator are: "classes", "labels", "numbers" or "features"."""
    if not hasattr(estimator, "net_"):
        return "features"
    if not hasattr(estimator, "classes_"):
        return "numbers"
    return "labels" if estimator.multilabel_ else "classes"


def document_of(
    estimator: Any, precision: str, packages: Sequence[str], pixels: np.ndarray, outputs: np.ndarray
) -> ModelDocument:
    """Return the document of an exported model.

    Parameters
    ----------
    estimator : fitted estimator
    precision : {"float32", "float16", "int8"}
    packages : sequence of str
        Packages whose versions are noted, apart from those of the estimator.
    pixels : uint8 array of shape (3, H, W, 3)
        Reference images.
    outputs : array of shape (3, n_outputs)
        Outputs of the exported model for these images.

    Raises
    ------
    InvalidParameterError
        If a label is of a type that JSON lacks.
    """
    kind = kind_of(estimator)
    return ModelDocument(
        kind=kind,
        names=_names(estimator, kind),
        dtype=estimator.classes_.dtype.str if kind in ("classes", "labels") else None,
        is_vector=bool(kind == "numbers" and estimator._is_vector),
        precision=precision,
        preprocessing=estimator.backbone_.preprocessing,
        image_reader=estimator.image_reader if isinstance(estimator.image_reader, str) else None,
        versions=library_versions() | {name: version_of(name) for name in packages},
        card={
            "estimator": type(estimator).__name__,
            "facts": {fact.name: fact.value for fact in facts_of(estimator) if fact.name != _OF_THE_MACHINE},
            "limits": limits_of(estimator),
        },
        references=References.of(pixels, outputs),
    )


def _names(estimator: Any, kind: str) -> tuple[Any, ...] | None:
    if kind == "features":
        return tuple(map(str, estimator.get_feature_names_out()))
    if kind == "numbers":
        names = getattr(estimator, "output_names_", None)
        return None if names is None else tuple(map(str, names))
    return tuple(map(_label, estimator.classes_.tolist()))


def _label(label: Any) -> Any:
    if not isinstance(label, str | int | float) or label != label:
        raise InvalidParameterError(
            f"{shown(label)} in classes_ is a {type(label).__name__}, which cannot be exported. Fit with labels that "
            "are strings, numbers or booleans."
        )
    return label
