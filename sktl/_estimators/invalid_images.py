"""The images of a fit that can be used; the others raise an error or are left out, as `invalid_images` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from sktl._features.checking_pass import find_failures
from sktl._features.extractor import FeatureExtractor
from sktl._features.feature_files import ImageFeatures
from sktl._fine_tuning.train_stages import Images
from sktl._short_text import first_shown
from sktl._targets.labeled_samples import Labeled
from sktl._training.json_values import plain
from sktl._utils.warnings import warn
from sktl.exceptions import ImageFailure, InvalidImageError, InvalidImageWarning

# What errors about images of `X` advise, by the value of `invalid_images` that raises no error.
_REMEDIES = {
    "skip": "pass invalid_images='skip' (except in a cross-validation, because predict skips no images)",
    "nan": "pass invalid_images='nan', which returns a row of NaN",
}


@contextmanager
def offering(value: str, estimator: Any) -> Iterator[None]:
    """Make errors about images of `X` name the value of `invalid_images` with which an estimator accepts them."""
    try:
        yield
    except InvalidImageError as error:
        if error.argument != "X" or estimator.invalid_images == value:
            raise
        raise InvalidImageError(error.failures, lead=error.lead, remedy=_REMEDIES[value]) from error.__cause__


class Usable(NamedTuple):
    """Images that can be used.

    Attributes
    ----------
    images : Labeled sequence of Sample
    features : float32 array or None
        Features of these images, if they were computed to find out.
    failures : tuple of ImageFailure
        Why the others cannot be used.
    """

    images: Images
    features: np.ndarray | None
    failures: tuple[ImageFailure, ...]


def find_usable(predictor: Any, images: Images, of_samples: tuple[Any, Any], extractor: FeatureExtractor) -> Usable:
    """Return the images, without unusable ones if `invalid_images="skip"`.

    If stages are trained, features of all images may not be needed, so images are only decoded.

    Parameters
    ----------
    predictor : PretrainedImagePredictor
        With its network.
    images : Labeled sequence of Sample
    of_samples : tuple
        The arguments `y` and `sample_weight` of `fit`.
    extractor : FeatureExtractor
    """
    if predictor.invalid_images != "skip":
        return Usable(images, None, ())
    if predictor.backbone_.count_trainable(predictor.trainable_stages):
        features, failures = None, _failures(predictor, images, extractor)
    else:
        features, failures = of_all_stages(predictor, extractor).usable(images.samples)
    if failures:
        images = _without(predictor, failures, images, of_samples)
    return Usable(images, features, tuple(failures))


def check_usable(predictor: Any, images: Images, extractor: FeatureExtractor, argument: str) -> None:
    """Raise `InvalidImageError` if images cannot be decoded."""
    if failures := _failures(predictor, images, extractor):
        raise InvalidImageError(failures, argument)


def of_all_stages(predictor: Any, extractor: FeatureExtractor) -> FeatureExtractor:
    """Return the extractor of all features from which the output layer may choose."""
    return replace(extractor, feature_stages=plain(predictor.feature_stages))


def _failures(predictor: Any, images: Images, extractor: FeatureExtractor) -> list[ImageFailure]:
    if isinstance(images.samples, ImageFeatures):  # unusable images were left out when features were written
        return []
    preprocessing = predictor.backbone_.preprocessing
    return find_failures(images.samples, preprocessing, extractor.cache, predictor.n_jobs, predictor.verbose)


def _without(predictor: Any, failures: list[ImageFailure], images: Images, of_samples: tuple[Any, Any]) -> Images:
    """Return the images without unusable ones, with a warning."""
    usable = np.setdiff1d(np.arange(len(images.samples)), [failure.position for failure in failures])
    if len(lost := images.targets.losing(usable)):
        labels = images.targets.outputs.observed(images.targets.values()[lost])
        names = first_shown(np.unique(labels).tolist())
        raise InvalidImageError(
            [failure for failure in failures if failure.position in lost],
            lead=f"invalid_images='skip' would leave no image of class {names}: add good ones, or drop the class.",
        )
    if not images.targets.weights[usable].any():
        what = "only images of weight zero" if len(usable) else "no image"
        raise InvalidImageError(failures, lead=f"invalid_images='skip' would leave {what}: add good ones.")
    warn(
        f"{len(failures)} of {len(images.samples)} images of X cannot be used and were left out; the attribute "
        f"invalid_images_ lists them. The first: {failures[0]}",
        InvalidImageWarning,
    )
    targets = predictor._check_targets(*of_samples, len(images.samples), usable, images.targets.groups)
    return Labeled([images.samples[i] for i in usable], targets)
