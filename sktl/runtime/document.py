"""The document inside an exported model: what its outputs mean, how images are prepared, and reference outputs.

An exported file may come from anywhere, so each field is checked before it is used, and nothing is larger than a limit.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice, pairwise
from typing import Any

import numpy as np
from PIL import Image

from sktl._images.format_readers import READERS
from sktl._images.preprocessing import Preprocessing, preprocessing_fault
from sktl._short_text import cut_middle
from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import ModelFileError

FORMAT = 1
# Under this key the metadata of a file contains the document.
KEY = "sktl"
# Name of the first output for each kind of model.
OUTPUTS = {"classes": "probabilities", "labels": "probabilities", "numbers": "numbers", "features": "features"}
INPUT, TYPICALITY = "images", "typicality"
PRECISIONS = ("float32", "float16", "int8")
N_REFERENCES = 3

_LONGEST = 64 << 20  # three images of 2,048 x 2,048 pixels of noise, in base64
_MOST_OUTPUTS = 1 << 18
_MOST_VALUES = 1 << 21  # each takes some fifty bytes of memory, and may be two characters of text
# What begins a value: a string, which may contain the others, a comma or a bracket. It backtracks nowhere.
_VALUE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[,\[{]', re.DOTALL)
_MOST_BYTES = 64 << 20  # of `classes_`
_DTYPE = re.compile(r"[<>|]?(b1|[iu][1248]|f[248]|U[0-9]{1,8})|\|O")


class ExportedDocumentError(ValueError):
    """A document that `to_json` does not write. The message is the reason in plain words."""


@dataclass(frozen=True)
class References:
    """Images with the outputs that the model must give for them on every machine.

    Parameters
    ----------
    images : tuple of bytes
        PNG files of the network's size, after resizing and cropping.
    outputs : tuple of tuple of float
        First output of the exported model for each image.
    """

    images: tuple[bytes, ...]
    outputs: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, pixels: np.ndarray, outputs: np.ndarray) -> References:
        """Return references.

        Parameters
        ----------
        pixels : uint8 ndarray of shape (3, H, W, 3)
        outputs : ndarray of shape (3, n_outputs)
        """
        rows = np.asarray(outputs, dtype=np.float64).tolist()
        return cls(tuple(_to_png(image) for image in pixels), tuple(map(tuple, rows)))

    def pixels(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the images as uint8 of shape (n, H, W, 3).

        Raises
        ------
        ExportedDocumentError
            If an image is damaged, or has another shape than (H, W).
        """
        return np.stack([_from_png(image, shape) for image in self.images])


@dataclass(frozen=True)
class ModelDocument:
    """What a program needs to use an exported model, and what a person may want to know about it.

    Parameters
    ----------
    kind : {"classes", "labels", "numbers", "features"}
        What the first output of the model contains.
    names : tuple or None
        Labels of the classes, or names of labels, numbers or features: one for each column of the first output. None if
        numbers or features have no names.
    dtype : str or None
        NumPy dtype of `classes_`; None for numbers and features.
    is_vector : bool
        Whether `y` had one dimension, and predicted numbers have shape (n_samples,).
    precision : {"float32", "float16", "int8"}
        Precision in which the model computes.
    preprocessing : Preprocessing
        How images are resized and cropped. The model normalizes them itself.
    image_reader : str or None
        Name of the reader of image files if one was chosen.
    versions : mapping of str to str
        Versions of libraries at the time of the export.
    card : mapping
        Facts about the training, for people.
    references : References
        Images with the outputs that the model must give.
    """

    kind: str
    names: tuple[Any, ...] | None
    dtype: str | None
    is_vector: bool
    precision: str
    preprocessing: Preprocessing
    image_reader: str | None
    versions: Mapping[str, str]
    card: Mapping[str, Any]
    references: References

    @property
    def n_outputs(self) -> int:
        """Number of columns of the first output."""
        return len(self.references.outputs[0])

    @property
    def classes(self) -> np.ndarray:
        """The attribute `classes_` of the estimator, for classes and labels."""
        return _as_array(self.names or (), self.dtype or "O")

    def to_json(self) -> str:
        """Return the document as JSON text.

        Raises
        ------
        ExportedDocumentError
            If the document is not one that `from_json` accepts.
        """
        content = {"format": FORMAT} | {own.name: getattr(self, own.name) for own in fields(self)}
        images = [base64.b64encode(image).decode() for image in self.references.images]
        content["preprocessing"] = asdict(self.preprocessing)
        content["references"] = {"images": images, "outputs": self.references.outputs}
        try:
            text = json.dumps(content, allow_nan=False)
        except ValueError as error:
            raise ExportedDocumentError(f"its document is not JSON ({error})") from error
        _parsed(_load(text))
        return text

    @classmethod
    def from_json(cls, text: str, source: str = "The model") -> ModelDocument:
        """Return the document that `to_json` wrote.

        Parameters
        ----------
        text : str
        source : str, default="The model"
            Name of the file, for errors.

        Raises
        ------
        ModelFileError
            If the document is damaged, too large, or of another version.
        """
        try:
            content = _load(text)
            if type(number := content.get("format")) is int and number != FORMAT:
                raise ModelFileError(
                    f"{source} has format {_shown(number)}, and this version of sktl reads format {FORMAT}. Update "
                    "sktl, or export the model again with this version."
                )
            return _parsed(content)
        except ExportedDocumentError as fault:
            raise damaged(source, str(fault)) from fault


def damaged(source: str, reason: str) -> ModelFileError:
    """Return the error for a file that the export cannot have written."""
    return ModelFileError(
        f"{source} is damaged, or was not written by sktl.export: {reason}. Export the model again, or fetch it again."
    )


# --------------------------------------------------------------------------------------------------------------- fields


def _parsed(content: dict[str, Any]) -> ModelDocument:
    if type(content.get("format")) is not int:
        raise ExportedDocumentError("its document has no format")
    names = {own.name for own in fields(ModelDocument)}
    _check_keys(content, {"format", *names}, "its document")
    _check_unicode({name: content[name] for name in ("names", "versions", "card")})
    document = ModelDocument(
        kind=_one_of(content["kind"], OUTPUTS, "kind"),
        names=_names(content),
        dtype=content["dtype"],
        is_vector=_typed(content["is_vector"], bool, "is_vector"),
        precision=_one_of(content["precision"], PRECISIONS, "precision"),
        preprocessing=_preprocessing(content["preprocessing"]),
        image_reader=_one_of(content["image_reader"], (None, *READERS), "image_reader"),
        versions=_versions(content["versions"]),
        card=_typed(content["card"], dict, "card"),
        references=_references(content["references"]),
    )
    document.references.pixels(document.preprocessing.crop)  # readable now means readable later
    if document.names is not None and len(document.names) != document.n_outputs:
        raise ExportedDocumentError(f"it has {len(document.names)} names for {document.n_outputs} outputs")
    if document.is_vector and (document.kind != "numbers" or document.n_outputs != 1):
        raise ExportedDocumentError(f"is_vector is true for {document.n_outputs} {document.kind}")
    return document


def _load(text: Any) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ExportedDocumentError(f"its document is not text of at most {_LONGEST:,} characters")
    if _has_many_values(text):
        raise ExportedDocumentError(f"its document has more than {_MOST_VALUES:,} values")
    try:
        content = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except ExportedDocumentError:
        raise
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, and depth, included
        raise_process_error(error)
        raise ExportedDocumentError(f"its document is not JSON ({error})") from error
    return _typed(content, dict, "the document")


def _has_many_values(text: str) -> bool:
    if sum(map(text.count, '",[{')) <= _MOST_VALUES:  # more than there are values, and counted at once
        return False
    return next(islice(_VALUE.finditer(text), _MOST_VALUES, None), None) is not None


def _refuse(constant: str) -> None:
    raise ExportedDocumentError(f"its document contains {constant}, which is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ExportedDocumentError("its document has a key twice")
    return content


def _check_keys(content: Mapping[str, Any], expected: Iterable[str], what: str) -> None:
    if different := sorted(content.keys() ^ set(expected)):
        raise ExportedDocumentError(
            f"{what} {'has an unexpected' if different[0] in content else 'lacks'} {_shown(different[0])}"
        )


def _check_unicode(content: Any) -> None:
    """Raise `ExportedDocumentError` for halves of characters, which could be neither printed nor sent."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ExportedDocumentError("its document contains text that is not Unicode") from error


def _typed(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise ExportedDocumentError(f"{name} is {_shown(value)}, not a {kind.__name__}")
    return value


def _one_of(value: Any, choices: Iterable[str | None], name: str) -> Any:
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ExportedDocumentError(f"{name} is {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    return cut_middle(repr(value), 60)


def _names(content: Mapping[str, Any]) -> tuple[Any, ...] | None:
    names, dtype = content["names"], content["dtype"]
    if content["kind"] in ("classes", "labels"):
        return _labels(_typed(names, list, "names"), dtype)
    if dtype is not None:
        raise ExportedDocumentError(f"dtype is {_shown(dtype)} for {content['kind']}, which have none")
    return None if names is None else tuple(_typed(name, str, "a name") for name in _typed(names, list, "names"))


def _labels(labels: list[Any], dtype: Any) -> tuple[Any, ...]:
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ExportedDocumentError(f"dtype is {_shown(dtype)}")
    if not 1 <= len(labels) <= _MOST_OUTPUTS or np.dtype(dtype).itemsize * len(labels) > _MOST_BYTES:
        raise ExportedDocumentError(f"it has {len(labels):,} labels of dtype {dtype}, too many or too long")
    if not all(isinstance(label, str | int | float) for label in labels):
        raise ExportedDocumentError("its labels are not all strings, numbers or bools")
    try:
        same = _as_array(labels, dtype).tolist() == labels
    except (ValueError, TypeError, OverflowError):
        same = False
    if not same or not are_different(labels):
        raise ExportedDocumentError(f"its labels are not different values of dtype {dtype}")
    return tuple(labels)


def are_different(labels: Iterable[Any]) -> bool:
    """Return True if no two labels are equal.

    Numbers are sorted, because a file can contain integers of equal hash, which a set compares each with each.
    """
    texts: list[Any] = []
    numbers: list[Any] = []
    for label in labels:
        (texts if isinstance(label, str) else numbers).append(label)
    return len(set(texts)) == len(texts) and all(low < high for low, high in pairwise(sorted(numbers)))


def _as_array(labels: Iterable[Any], dtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.array(list(labels), dtype=dtype)


def _preprocessing(content: Any) -> Preprocessing:
    _check_keys(_typed(content, dict, "preprocessing"), [own.name for own in fields(Preprocessing)], "preprocessing")
    resize = content["resize"]
    found = Preprocessing(
        resize=resize if type(resize) is int else _sizes(resize),
        crop=_sizes(content["crop"]),
        interpolation=_typed(content["interpolation"], str, "interpolation"),
        mean=_channels(content["mean"], "mean"),
        std=_channels(content["std"], "std"),
    )
    if fault := preprocessing_fault(found):
        raise ExportedDocumentError(fault)
    return found


def _sizes(values: Any) -> tuple[int, int]:
    if len(_typed(values, list, "a size")) != 2 or not all(type(value) is int for value in values):
        raise ExportedDocumentError(f"{_shown(values)} is not a height and a width")
    return values[0], values[1]


def _channels(values: Any, name: str) -> tuple[float, float, float]:
    red, green, blue = _floats(values, 3, name)
    return red, green, blue


def _floats(values: Any, n: int, name: str) -> tuple[float, ...]:
    if len(_typed(values, list, name)) != n or not all(type(value) in (int, float) for value in values):
        raise ExportedDocumentError(f"{name} is {_shown(values)}, not {n} numbers")
    try:
        numbers = tuple(map(float, values))
    except OverflowError:
        numbers = (math.inf,)
    if not all(map(math.isfinite, numbers)):
        raise ExportedDocumentError(f"{name} is not finite")
    return numbers


def _versions(content: Any) -> dict[str, str]:
    return {key: _typed(version, str, "a version") for key, version in _typed(content, dict, "versions").items()}


def _references(content: Any) -> References:
    _check_keys(_typed(content, dict, "references"), ("images", "outputs"), "references")
    images = [_decoded(image) for image in _typed(content["images"], list, "images")]
    rows = [_typed(row, list, "an output") for row in _typed(content["outputs"], list, "outputs")]
    if len(images) != N_REFERENCES or len(rows) != N_REFERENCES:
        raise ExportedDocumentError(
            f"it has {len(images)} reference images with {len(rows)} outputs, not {N_REFERENCES}"
        )
    if not 1 <= len(rows[0]) <= _MOST_OUTPUTS:
        raise ExportedDocumentError(f"it has {len(rows[0]):,} outputs, not 1 to {_MOST_OUTPUTS:,}")
    return References(tuple(images), tuple(_floats(row, len(rows[0]), "an output") for row in rows))


# --------------------------------------------------------------------------------------------------------------- images


def _to_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()


def _decoded(text: Any) -> bytes:
    _typed(text, str, "an image")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ExportedDocumentError(f"a reference image is not base64 ({error})") from error


def _from_png(image: bytes, shape: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(image), formats=("PNG",)) as opened:
            if opened.mode != "RGB" or opened.size != shape[::-1]:  # before memory is allocated
                raise ExportedDocumentError(
                    f"a reference image is {opened.mode} of {opened.size}, not RGB of {shape[::-1]} pixels"
                )
            return np.array(opened)
    except ExportedDocumentError:
        raise
    except Exception as error:  # Pillow raises almost anything on damaged files
        raise_process_error(error)
        raise ExportedDocumentError(f"a reference image cannot be read ({error})") from error
