"""Typicality, a method of the classifier and the regressor: compare images with the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktl._features.extractor import FeatureExtractor
from sktl._images.samples import Sample
from sktl._typicality.typicality import Typicality
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import TypicalityError

from .base import PretrainedImageBase
from .fitted_features import TunedFeatures, other_blocks


class TypicalityEstimator(PretrainedImageBase):
    """Base class of estimators that compare images with their training images."""

    trainable_stages: int | str
    _typicality: Typicality | None

    @isolated()
    def typicality(self, X: Any) -> np.ndarray:
        """Return the typicality of images relative to the training images, as conformal p-values.

        A low value means that an image is unlike the training images, or does not clearly resemble any of the classes
        or labels. If you reject images with values of at most 0.05, you reject about 5 % of the images that come from
        the same source as the training images. See :doc:`/guide/none_of_these`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of the class for the accepted formats.

        Returns
        -------
        p_values : float64 ndarray of shape (n_samples,)
            Values in (0, 1], multiples of 1 / (n + 1) for n reference images, so no value is at most 0.05 with fewer
            than 19 training images. They do not depend on the other images of `X`.

        Raises
        ------
        TypicalityError
            If stages were trained, if the model was saved by a version of sktl without typicality, or if it was fitted
            on a single image or group.

        Notes
        -----
        `fit` draws up to 1,024 training images with nonzero weight as references. An image is scored by the cosine
        between its features and the features of the nearest reference; for classes and labels, by the largest output of
        a ridge regression on the references; and by the same cosine for the features of the third stage from the end,
        which describe texture. Texture is left out if `feature_stages` is 1 or 2, if the network has fewer than three
        stages, or if its third stage from the end returns tokens, as in transformers. Each score is converted to the
        probability of a score at most as high, as if scores were normally distributed; the logarithms of these
        probabilities are added, with half the weight for texture. The p-value is the proportion of such sums, among
        those of the references and of the image itself, that are not higher than the image's. For each reference, the
        scores are fitted without the fifth of the references that contains it; images of a group are in the same fifth.
        This is cross-conformal prediction [V1]_: the proportion of exchangeable images with a value of at most `a` is
        about `a`, and is proven to be at most about `2a` [V2]_.

        References
        ----------
        .. [V1] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial Intelligence 74, 2015.
        .. [V2] R. Barber, E. Candès, A. Ramdas and R. Tibshirani, "Predictive inference with the jackknife+", Annals of
           Statistics 49, 2021.
        """
        return self._typicality_of(self._comparable(X), self._fitted_extractor())

    @isolated()
    def _compare_with_training(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the typicality of images, and which of them are references, or copies of them."""
        directions = self._directions_of(self._comparable(X), self._fitted_extractor())
        assert self._typicality is not None
        return self._typicality(directions), self._typicality.are_references(directions)

    def _comparable(self, X: Any) -> Sequence[Sample]:
        """Return the samples of an `X`, if they can be compared with training images."""
        check_is_fitted(self)
        if getattr(self, "_typicality", None) is None:
            raise TypicalityError(self._why_not_typical())
        return self._inputs(X, reset=False)

    def _typicality_of(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return the typicality of samples, with features computed by an extractor."""
        assert self._typicality is not None
        return self._typicality(self._directions_of(samples, extractor))

    def _directions_of(self, samples: Sequence[Sample], extractor: FeatureExtractor) -> np.ndarray:
        """Return what is compared of the features of samples, which are not all in memory at once."""
        assert self._typicality is not None
        n_stages, kept = self._typicality.n_stages, self._typicality.reduction
        directions = replace(extractor, feature_stages=n_stages, kept=kept)(samples)
        if not self._typicality.fits(extractor.layout_of(samples)):
            raise other_blocks(self.backbone_)
        return directions

    def _why_not_typical(self) -> str:
        """Return why the typicality of images is unavailable, and what to do."""
        if isinstance(self._features, TunedFeatures):
            return (
                f"typicality is unavailable with trainable_stages={self.trainable_stages!r}: the stages were trained "
                "on the training images, so features of new images are not comparable. Fit another estimator with "
                "trainable_stages=0 on the same images, and use its typicality."
            )
        return (
            "typicality is unavailable: the model was saved without the references, or by a version of sktl without "
            "typicality. Fit it again, or save it with include_references=True."
        )
