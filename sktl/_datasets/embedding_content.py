"""Images whose features are written to files: what a file contains, and how the content of another file differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from sktl._estimators.base import PretrainedImageBase
from sktl._estimators.classifier import PretrainedImageClassifier
from sktl._features.extractor import FeatureExtractor
from sktl._features.feature_provenance import FeatureSource
from sktl._features.features_as_input import source_of
from sktl._images.samples import Sample
from sktl._short_text import count, first_shown, shortened, shown_value, type_of
from sktl._storage.parquet_files import FEATURES, NAMES, FeatureFile, Rows
from sktl._targets.target_cells import as_cells
from sktl._targets.target_tables import columns_of
from sktl._training.json_values import plain
from sktl._utils.paths import in_utf8, shown
from sktl._version import __version__
from sktl.exceptions import ImageFailure, InvalidImageError, InvalidInputError, InvalidParameterError

# What files of the same features have in common, as messages name it.
_COMMON = {
    "source": "features of", "fingerprint": "features that were computed by", "targets": "the columns",
    "is_vector": "labels in another form,", "sktl": "features by sktl",
}  # fmt: skip


class Part(NamedTuple):
    """The images of one part.

    Attributes
    ----------
    samples : sequence of Sample
    names : list of str
    columns : dict of str to array
    start : int
        Position of the first image among all images.
    """

    samples: Sequence[Sample]
    names: list[str]
    columns: dict[str, np.ndarray]
    start: int

    def without(self, failures: Sequence[ImageFailure]) -> Part:
        """Return the part without images that cannot be used."""
        rows = np.setdiff1d(np.arange(len(self.samples)), [failure.position - self.start for failure in failures])
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Part([self.samples[i] for i in rows], [self.names[i] for i in rows], columns, self.start)

    def stamps_digest(self) -> str | None:
        """Return a digest of the stamps of the samples, or None if a stamp could miss a change."""
        digest = hashlib.sha256()
        for sample in self.samples:
            stamp = sample.stamp()
            if stamp is None or not stamp.is_settled():
                return None
            digest.update(repr(tuple(stamp)).encode(errors="replace"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Embedding:
    """Images, and how their features are computed.

    Parameters
    ----------
    images : Part
        All images.
    extractor : FeatureExtractor
        With a number of feature stages.
    is_vector : bool
        Whether there is one label for each image, instead of a table.
    skips : bool
        Whether images that cannot be used are left out.
    """

    images: Part
    extractor: FeatureExtractor
    is_vector: bool
    skips: bool

    @cached_property
    def header(self) -> dict[str, Any]:
        """What all files of the features have in common, as JSON returns it."""
        extractor = self.extractor
        source = source_of(extractor.backbone, extractor.layout, int(extractor.feature_stages), extractor.precision)
        header = {
            "sktl": __version__,
            "source": source.format(),
            "fingerprint": extractor.fingerprint,
            "n_features": source.sizes[-1],
            "targets": [*self.images.columns],
            "is_vector": self.is_vector,
        }
        found: dict[str, Any] = json.loads(json.dumps(header))
        return found

    def parts(self, size: int) -> list[Part]:
        """Return the images in parts of a size."""
        samples, names, columns, _ = self.images
        return [
            Part(
                samples[start : start + size],
                names[start : start + size],
                {name: values[start : start + size] for name, values in columns.items()},
                start,
            )
            for start in range(0, len(samples), size)
        ]

    def rows(self, part: Part, title: str) -> tuple[Rows, list[ImageFailure]]:
        """Return the features of a part, and the images without features.

        Raises
        ------
        InvalidImageError
            If images cannot be used, and are not to be left out.
        """
        features, failures = replace(self.extractor, title=title).usable(part.samples)
        failures = [failure._replace(position=part.start + failure.position) for failure in failures]
        if failures and not self.skips:
            raise InvalidImageError(failures)
        usable = part.without(failures)
        # If no image can be used, the number of features is unknown to the pass.
        features = features.reshape(len(usable.samples), self.header["n_features"])
        return Rows(usable.names, usable.columns, features), failures

    def difference(self, file: FeatureFile, parts: Sequence[Part], stamps: str | None = None) -> str | None:
        """Return how the content of a file differs from the features of some parts, or None.

        If the stamps of the images are those with which the file was written, the images are not read.
        """
        header = file.header
        for key, what in _COMMON.items():
            if header.get(key) != self.header[key]:
                theirs, own = (_in_words(key, values) for values in (header, self.header))
                return f"{what} {theirs} instead of {own}"
        failures = [ImageFailure(*failure) for failure in header["invalid_images"]]
        if failures and not self.skips:
            return "features without some images that could not be used"
        usable = [part.without([f for f in failures if _is_in(f, part)]) for part in parts]
        names = [name for part in usable for name in part.names]
        try:
            found, columns = file.names().tolist(), file.columns([*self.images.columns])
        except InvalidInputError:
            return "features whose names or labels are damaged"
        if found != names:
            return _other_names(found, names)
        for name, values in columns.items():
            if values.tolist() != [value for part in usable for value in part.columns[name].tolist()]:
                return f"other values of {shown(name)}"
        if stamps is not None and [stamps] == [part.stamps_digest() for part in parts]:
            return None
        for part, digest in zip(parts, header["contents"], strict=True):
            if self.extractor.digest(part.samples) != digest:
                return f"features of files that have changed, among {_ends(part.names)}"
        return None


def embedding_of(X: Any, y: Any, names: Sequence[str] | None, estimator: Any) -> Embedding:
    """Return the images of a call, and how their features are computed."""
    template = clone(_checked_estimator(estimator))
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


def _in_words(key: str, header: Mapping[str, Any]) -> str:
    """Return the value of a header in a message."""
    if key == "source":
        return _source_in_words(header["source"])
    if key == "fingerprint":
        return f"engine {str(header[key])[:8]}"
    return shown_value(header.get(key))


def _source_in_words(values: dict[str, Any]) -> str:
    try:
        source = FeatureSource.parse(values)
    except (KeyError, TypeError, ValueError):
        return "an unknown network"
    n, precision = source.n_stages, " in float32" if source.precision == "float32" else ""
    return (
        f"{count(n, 'stage')} of {source.described}{precision} (digest {source.digest[:8]}) and "
        f"{shortened(source.preprocessing, 400)}"
    )


def _other_names(found: Sequence[str], names: Sequence[str]) -> str:
    """Return how the names in a file differ from the names of some images."""
    n, n_own = len(found), len(names)
    which = "other images" if n == n_own else f"{count(n)} instead of {n_own:,}"
    different = ((one, own) for one, own in zip(found, names, strict=False) if one != own)
    if first := next(different, None):
        which += f"; the first that differs is {shown(first[0])} instead of {shown(first[1])}"
    return f"features of {which}"


def _is_in(failure: ImageFailure, part: Part) -> bool:
    return 0 <= failure.position - part.start < len(part.samples)


def _ends(names: Sequence[str]) -> str:
    return f"{shown(names[0])} to {shown(names[-1])}" if names else "no images"
