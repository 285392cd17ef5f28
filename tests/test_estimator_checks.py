"""scikit-learn's own checks, and an image-shaped twin for each check that the adapter has to bend."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import validate_data

from backbones import Pixels
from sktl import PretrainedImageClassifier, PretrainedImageEncoder

_SIDE = 8


class _RowsAsImages:
    """Show each row of numbers to the estimator as a tiny image, one number per pixel.

    The checks pass rows of any numbers and any length; images have values in [0, 1] of eight bits.
    """

    def _as_samples(self, X, *, reset):
        X = validate_data(self, X, reset=reset, dtype="numeric")
        images = np.zeros((len(X), _SIDE * _SIDE))
        images[:, : X.shape[1]] = (np.arctan(X) / np.pi + 0.5)[:, : _SIDE * _SIDE]
        return super()._as_samples(images.reshape(-1, _SIDE, _SIDE), reset=reset)


class RowClassifier(_RowsAsImages, PretrainedImageClassifier):
    def __init__(
        self,
        *,
        backbone=Pixels,
        optimizer="sgd",
        lr=0.3,
        lr_schedule="constant",
        max_epochs=300,
        batch_size=10_000,
        weight_decay=0.5,
        class_weight=None,
        n_jobs=1,
        random_state=None,
    ):
        # All samples in one batch and a strictly convex loss: what is learned does not depend on their order.
        super().__init__(
            backbone=backbone,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            max_epochs=max_epochs,
            batch_size=batch_size,
            weight_decay=weight_decay,
            class_weight=class_weight,
            n_jobs=n_jobs,
            random_state=random_state,
        )


class RowEncoder(_RowsAsImages, PretrainedImageEncoder):
    def __init__(self, *, backbone=Pixels, n_jobs=1):
        super().__init__(backbone=backbone, n_jobs=n_jobs)


@parametrize_with_checks([RowClassifier(), RowEncoder()])
def test_official_checks(estimator, check):
    check(estimator)


def test_there_are_at_least_69_checks_and_none_is_skipped():
    names = [check for _, check in estimator_checks_generator(RowClassifier(), mark=None)]
    assert len(names) >= 69


@pytest.mark.parametrize(
    ("adapter", "estimator"),
    [(RowClassifier(), PretrainedImageClassifier()), (RowEncoder(), PretrainedImageEncoder())],
)
def test_the_adapter_changes_no_tag(adapter, estimator):
    assert get_tags(adapter) == get_tags(estimator)
    assert isinstance(adapter, BaseEstimator)
