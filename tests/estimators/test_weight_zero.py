"""A fit with images of weight zero is the fit without them, whatever is trained and whatever their targets are."""

from __future__ import annotations

import numpy as np
import pytest
from backbones import Pixels, pixel_net
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from sktl import Preprocessing, PretrainedImageClassifier, PretrainedImageRegressor
from sktl.exceptions import InputWarning, InvalidImageError

pytestmark = pytest.mark.all_penalties

RNG = np.random.default_rng(0)
N = 40
X = RNG.integers(0, 256, (N, 8, 8)).astype(np.uint8)
CODES = np.arange(N) % 3
X[CODES == 1, :4] //= 2
WEIGHTS = np.where(np.arange(N) % 5 == 0, 0.0, 1.0 + np.arange(N) % 2)
COUNTED = WEIGHTS > 0
TARGETS = {
    "classes": CODES,
    "a class more": np.where(COUNTED, CODES, 3),
    "labels": np.stack([CODES % 2, CODES > 1, ~COUNTED], axis=1).astype(int),
    # What stands for a missing number must be lost in neither squares nor float32.
    "numbers": np.where(COUNTED, X.mean(axis=(1, 2)), 1e200),
}
FITS = {
    "lbfgs": {},
    "steps": {"optimizer": "sgd", "max_epochs": 3},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 3},
    "stages": {"backbone": pixel_net, "trainable_stages": 1, "max_epochs": 1, "augmentation": None},
}


def fitted(kind, rows=slice(None), X=X, **params):
    estimator = PretrainedImageRegressor if kind == "numbers" else PretrainedImageClassifier
    estimator = estimator(**{"backbone": Pixels, "random_state": 0, "n_jobs": 1} | params)
    groups = np.arange(N) // 2
    return estimator.fit([*X[rows]], TARGETS[kind][rows], WEIGHTS[rows], groups=groups[rows])


@pytest.mark.filterwarnings("ignore:No image has the label:UserWarning")
@pytest.mark.filterwarnings("ignore:.* so the initial weights are returned:UserWarning")
@pytest.mark.parametrize("params", FITS.values(), ids=FITS)
@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_the_bits_are_those_of_a_fit_without_them(kind, params):
    found, expected = fitted(kind, **params), fitted(kind, COUNTED, **params)
    assert_array_equal(found.predict(X), expected.predict(X))
    for name, column in getattr(expected, "selection_", {}).items():
        assert_array_equal(found.selection_[name], column)
    assert found.n_iter_ == expected.n_iter_


def test_a_class_of_such_images_alone_changes_no_other_class_and_is_said():
    with pytest.warns(InputWarning, match="All images of 3 in y have weight zero") as caught:
        found = fitted("a class more")
    assert len(caught) == 1
    expected = fitted("a class more", COUNTED)
    assert found.classes_.tolist() == [0, 1, 2, 3]
    assert found.recipe_.weight_decay == expected.recipe_.weight_decay
    probabilities = found.predict_proba(X)
    assert probabilities[:, 3].max() < 0.05
    assert_allclose(probabilities[:, :3], expected.predict_proba(X), atol=0.05)


class Wide(nn.Module):
    """So many features of few images that the output layer is trained in float32."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing((8, 8), (8, 8), "nearest", mean=(0.5,) * 3, std=(0.5,) * 3)

    def forward(self, images):
        return images[:, 0].flatten(1).repeat(1, 300)


def test_large_features_of_such_images_cost_no_precision():
    strange = X.copy()
    strange[~COUNTED] = 255 * (np.arange(64).reshape(8, 8) % 2)
    params = {"backbone": Wide, "weight_decay": 0.001}
    found, expected = fitted("numbers", X=strange, **params), fitted("numbers", COUNTED, **params)
    assert_array_equal(found.predict(X), expected.predict(X))


def test_an_image_of_weight_zero_that_cannot_be_read_is_named_by_its_position_in_x():
    broken = [*X]
    broken[35] = b"nonsense"
    for params in (FITS["lbfgs"], FITS["stages"]):
        estimator = PretrainedImageRegressor(**{"backbone": Pixels, "random_state": 0} | params)
        with pytest.raises(InvalidImageError) as caught:
            estimator.fit(broken, TARGETS["numbers"], WEIGHTS)
        assert [failure.position for failure in caught.value.failures] == [35]


def test_validation_images_of_weight_zero_do_not_count():
    numbers, losses = TARGETS["numbers"], []
    for rows in (slice(None), COUNTED):
        reg = PretrainedImageRegressor(backbone=Pixels, early_stopping=True, max_epochs=3, random_state=0, n_jobs=1)
        validation = {"X_val": X[rows], "y_val": numbers[rows], "sample_weight_val": WEIGHTS[rows]}
        reg.fit(X[COUNTED], numbers[COUNTED], **validation)
        losses.append(reg.history_[:, "valid_loss"])
    assert losses[0] == losses[1]
