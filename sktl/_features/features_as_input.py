"""Features passed as `X` instead of images: of the same network, and of the requested number of stages."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from sktl._backbones.backbone import Backbone, tensors_digest
from sktl._backbones.taps import StageLayout
from sktl._short_text import shortened, shown_value
from sktl._utils.locks import fork_safe_lock
from sktl._utils.random import generator
from sktl._utils.settings_isolation import isolated
from sktl._utils.threads import single_threaded
from sktl.exceptions import InvalidInputError

from .feature_files import ImageFeatures
from .feature_provenance import ANSWER_TOLERANCE, FeatureSource, relative_difference

# Training holds up to this many bytes of features in memory; it reads more from the file, block by block.
IN_MEMORY = 256 << 20
_MOST_REMEMBERED = 16


@dataclass(frozen=True)
class _Known:
    """The digest of a network's tensors, and its features of an image of noise."""

    digest: str
    answer: np.ndarray


_lock = fork_safe_lock()
_known: OrderedDict[str, _Known] = OrderedDict()


def source_of(backbone: Backbone, layout: StageLayout, n_stages: int, precision: str) -> FeatureSource:
    """Return the facts about features of some stages of a backbone."""
    known = _facts_of(backbone)
    return FeatureSource(
        backbone.name,
        backbone.weights,
        backbone.first_stages,
        repr(backbone.preprocessing),
        backbone.preprocessing.crop,
        known.digest,
        tuple(known.answer.tolist()),
        layout.groups_of(n_stages),
        layout.sizes[:n_stages],
        precision,
    )


def layout_of(source: FeatureSource) -> StageLayout:
    """Return the layout of rows in a file."""
    return StageLayout(source.groups, source.sizes)


def check_images(samples: object, argument: str = "X") -> None:
    """Raise `InvalidInputError` if samples are stored features, which stages cannot be trained on."""
    if isinstance(samples, ImageFeatures):
        raise InvalidInputError(
            f"{argument} holds features of a pretrained network, but trained stages need images. Pass the images, or "
            "leave trainable_stages=0."
        )


def first_columns(rows: np.ndarray, n: int) -> np.ndarray:
    """Return the first columns of an array, with contiguous rows, or of features in a file, which stay in the file."""
    if isinstance(rows, ImageFeatures):
        return cast(np.ndarray, rows.columns(n))
    return np.ascontiguousarray(rows[:, :n])


def stored_rows(
    features: ImageFeatures, backbone: Backbone, feature_stages: int | str, precision: str
) -> np.ndarray | ImageFeatures:
    """Return the features of some stages, as an array unless they are large.

    Raises
    ------
    InvalidInputError
        If the features were computed by another network or in another precision, or come from fewer stages.
    """
    _check_source(features.source, backbone, precision)
    layout, wanted = layout_of(features.source), feature_stages
    n_stages = min(layout.count(wanted), layout.n_stages) if isinstance(wanted, str) else int(wanted)
    if n_stages > layout.n_stages:
        raise InvalidInputError(
            f"feature_stages={wanted!r} needs features of {wanted} stages, but X holds features of {layout.n_stages}. "
            f"Write them with estimator=PretrainedImageClassifier(feature_stages={wanted!r}), or by `sktl embed "
            f"--feature-stages {wanted}`."
        )
    rows = features.columns(layout.length(n_stages))
    return np.asarray(rows) if rows.nbytes <= IN_MEMORY else rows


def _check_source(source: FeatureSource, backbone: Backbone, precision: str) -> None:
    """Raise `InvalidInputError` unless features were computed by a backbone in a precision."""
    own = source_of(backbone, layout_of(source), source.n_stages, precision)
    if (different := _difference(source, own)) is None:
        return
    raise InvalidInputError(
        f"X holds features of {source.described}, but the estimator has {own.described}. {different} Pass images, "
        "an estimator with the network of the features, or features that were written with the estimator's network."
    )


def _difference(source: FeatureSource, own: FeatureSource) -> str | None:
    """Return a sentence about what differs, or None."""
    if source.digest != own.digest:
        return "The weights differ."
    if source.preprocessing != own.preprocessing:
        theirs, ours = (shortened(text, 400) for text in (source.preprocessing, own.preprocessing))
        return f"The preprocessing differs: {theirs} and {ours}."
    if not relative_difference(np.array(source.answer), np.array(own.answer)) <= ANSWER_TOLERANCE:
        return "The networks compute different features with the same weights."
    if source.precision != own.precision:
        return f"The precision differs: {shown_value(source.precision)} and {own.precision!r}."
    return None


def _facts_of(backbone: Backbone) -> _Known:
    """Return facts about a network, remembered because a search asks for them in each fit."""
    with _lock:
        if (found := _known.get(backbone.identity)) is not None:
            return found
    found = _measured(backbone)
    with _lock:
        _known[backbone.identity] = found
        while len(_known) > _MOST_REMEMBERED:
            _known.popitem(last=False)
    return found


@isolated()
def _measured(backbone: Backbone) -> _Known:
    network = backbone.build()
    noise = torch.randint(256, (1, *backbone.preprocessing.crop, 3), dtype=torch.uint8, generator=generator(0))
    with single_threaded(), torch.inference_mode():
        answer = network(backbone.preprocessing.normalize(noise))
    return _Known(tensors_digest(network), answer.flatten().float().numpy())
