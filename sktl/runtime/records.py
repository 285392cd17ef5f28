"""Outputs of an exported model as records, what is predicted and the value for each name, and these as JSON or a table.

The command's help is printed without NumPy, which this file therefore does not import.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sktl._short_text import distinct_texts

if TYPE_CHECKING:
    import numpy as np

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
    found = [_record(document, row) for row in outputs[0]]
    typicality = [{"typicality": value} for output in outputs[1:] for value in output.tolist()]
    return [a | b for a, b in zip(found, typicality, strict=True)] if typicality else found


def _record(document: ModelDocument, outputs: np.ndarray) -> dict[str, Any]:
    row: list[float] = outputs.tolist()
    if document.kind == "features":
        return {"features": row}
    names = document.names or [f"number {i}" for i in range(len(row))]
    values = dict(zip(distinct_texts(names), row, strict=True))
    if document.kind == "numbers":
        return {"prediction": values}
    if document.kind == "labels":
        labels = [name for name, value in zip(names, row, strict=True) if value > 0.5]
        return {"prediction": labels, "probabilities": values}
    best = int(outputs.argmax())
    return {"prediction": names[best], "probability": row[best], "probabilities": values}


def as_json(found: Sequence[dict[str, Any]]) -> str:
    """Return records as JSON."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    # Bytes of names that are not UTF-8 become JSON escapes.
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def as_table(found: Sequence[dict[str, Any]]) -> str:
    """Return records as a table for people, with a line for each image."""
    rows = [[("image", record["image"]), *_cells(record)] for record in found]
    heading = [column for column, _ in rows[0]] if rows else []
    table = [list(map(printable, row)) for row in (heading, *([text for _, text in row] for row in rows)) if row]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)
    return "".join(f"{line}\n" for line in lines)


def _cells(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the column and the text of each cell of a record. Names of numbers may be those of other columns."""
    typicality = [("typicality", f"{record['typicality']:.4f}")] if "typicality" in record else []
    if "features" in record:
        return [("features", f"{len(record['features']):,} numbers, printed with --json")]
    prediction = record["prediction"]
    if isinstance(prediction, dict):
        return [*((name, f"{number:.6g}") for name, number in prediction.items()), *typicality]
    is_list = isinstance(prediction, list)
    labels = prediction if is_list else [prediction]
    likely = [p for p in record["probabilities"].values() if p > 0.5] if is_list else [record["probability"]]
    cells = [("prediction", ", ".join(map(str, labels))), ("probability", ", ".join(f"{p:.4f}" for p in likely))]
    return [*((column, text or "-") for column, text in cells), *typicality]


def printable(text: str) -> str:
    """Return a text that is safe to print: names from strangers may contain control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
