"""Outputs of an exported model as records for JSON: what is predicted, and the value for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sktl._utils.short_text import distinct_texts

from .document import ModelDocument


def records(document: ModelDocument, outputs: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return a record for each image.

    Parameters
    ----------
    document : ModelDocument
        The attribute `document` of the model.
    outputs : sequence of ndarray
        What the method `run` of the model returned.

    Returns
    -------
    records : list of dict
        `prediction` is a class, a list of labels, or numbers by name. Classes and labels have `probabilities` by name;
        features are a list. Models with references add `typicality`. Names are text; if two names have the same text,
        such as the labels 1 and "1", strings are in quotes.
    """
    found = [_record(document, row) for row in outputs[0].tolist()]
    typicality = [{"typicality": value} for output in outputs[1:] for value in output.tolist()]
    return [a | b for a, b in zip(found, typicality, strict=True)] if typicality else found


def _record(document: ModelDocument, row: list[float]) -> dict[str, Any]:
    if document.kind == "features":
        return {"features": row}
    names = document.names or [f"number {i}" for i in range(len(row))]
    values = dict(zip(distinct_texts(names), row, strict=True))
    if document.kind == "numbers":
        return {"prediction": values}
    if document.kind == "labels":
        labels = [name for name, value in zip(names, row, strict=True) if value > 0.5]
        return {"prediction": labels, "probabilities": values}
    best = int(np.argmax(row))
    return {"prediction": names[best], "probability": row[best], "probabilities": values}
