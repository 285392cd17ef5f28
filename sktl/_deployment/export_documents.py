"""The document of an exported model: what a fitted estimator knows about its outputs, its images and its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sktl._estimators.estimator_summary import facts_of
from sktl._hub.model_card import limits_of
from sktl._short_text import shown_value, type_of
from sktl._utils.paths import is_utf8
from sktl._version import library_versions, version_of
from sktl.exceptions import InvalidParameterError
from sktl.runtime.document import N_REFERENCES, ExportedDocumentError, ModelDocument, References

_OF_THE_MACHINE = "Device"


def kind_of(estimator: Any) -> str:
    """Return what the outputs of a fitted estimator are: "classes", "labels", "numbers" or "features"."""
    if not hasattr(estimator, "net_"):
        return "features"
    if not hasattr(estimator, "classes_"):
        return "numbers"
    return "labels" if estimator.multilabel_ else "classes"


def check_describable(estimator: Any, precision: str, packages: Sequence[str]) -> None:
    """Raise `InvalidParameterError` if the document of an export cannot hold what the estimator knows.

    Conversion may take minutes, so this comes before it.
    """
    kind = kind_of(estimator)
    names = _names(estimator, kind)
    n_outputs = estimator.net_.module_.output.out_features if names is None else len(names)
    pixels = np.zeros((N_REFERENCES, *estimator.backbone_.preprocessing.crop, 3), np.uint8)
    outputs = np.full((N_REFERENCES, n_outputs), -np.pi * 1e-100)  # as long as any number is in JSON
    try:
        document_of(estimator, precision, packages, pixels, outputs).to_json()
    except ExportedDocumentError as fault:
        raise InvalidParameterError(
            f"estimator cannot be exported: {fault}. Fit with fewer or shorter names, and with labels that are "
            "strings, numbers or booleans."
        ) from fault


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
        If a label is of a type that JSON lacks, or is not Unicode.
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
            f"{shown_value(label)} in classes_ is {type_of(label)}, which cannot be exported. Fit with labels that "
            "are strings, numbers or booleans."
        )
    if isinstance(label, str) and not is_utf8(label):
        raise InvalidParameterError(
            f"{shown_value(label)} in classes_ is not Unicode text, which cannot be exported. Fit with other labels."
        )
    return label
