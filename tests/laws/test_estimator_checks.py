"""scikit-learn's own checks, and an image-shaped twin for each check that the adapter has to bend."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from backbones import Pixels, pixel_net
from representatives import thorough_except
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import _NotAnArray, estimator_checks_generator, parametrize_with_checks
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import validate_data

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor

_SIDE = 8


class _RowsAsImages:
    """Show each row of numbers to the estimator as a tiny image, one number per pixel.

    The checks pass rows of any numbers and any length; images have values in [0, 1] of eight bits.
    """

    def _as_samples(self, X, *, reset, lenient=False):
        X = validate_data(self, X, reset=reset, dtype="numeric")
        images = np.zeros((len(X), _SIDE * _SIDE))
        images[:, : X.shape[1]] = (np.arctan(X) / np.pi + 0.5)[:, : _SIDE * _SIDE]
        return super()._as_samples(images.reshape(-1, _SIDE, _SIDE), reset=reset, lenient=lenient)


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
        n_iter_no_change=5,
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
            n_iter_no_change=n_iter_no_change,
            n_jobs=n_jobs,
            random_state=random_state,
        )


class RowFineTuner(RowClassifier):
    """The same with a trained stage; `augmentation` would move what stands in a row."""

    def __init__(
        self,
        *,
        backbone=pixel_net,
        trainable_stages=1,
        freeze_epochs=20,
        max_epochs=20,
        augmentation=None,
        class_weight=None,
        n_iter_no_change=5,
        n_jobs=1,
        random_state=None,
    ):
        PretrainedImageClassifier.__init__(
            self,
            backbone=backbone,
            trainable_stages=trainable_stages,
            freeze_epochs=freeze_epochs,
            max_epochs=max_epochs,
            augmentation=augmentation,
            class_weight=class_weight,
            n_iter_no_change=n_iter_no_change,
            n_jobs=n_jobs,
            random_state=random_state,
        )


class RowRegressor(_RowsAsImages, PretrainedImageRegressor):
    """As RowClassifier."""

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
        n_iter_no_change=5,
        n_jobs=1,
        random_state=None,
    ):
        super().__init__(
            backbone=backbone,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            max_epochs=max_epochs,
            batch_size=batch_size,
            weight_decay=weight_decay,
            n_iter_no_change=n_iter_no_change,
            n_jobs=n_jobs,
            random_state=random_state,
        )


class RowNumberTuner(RowRegressor):
    """As RowFineTuner."""

    def __init__(
        self,
        *,
        backbone=pixel_net,
        trainable_stages=1,
        freeze_epochs=20,
        max_epochs=20,
        augmentation=None,
        n_iter_no_change=5,
        n_jobs=1,
        random_state=None,
    ):
        PretrainedImageRegressor.__init__(
            self,
            backbone=backbone,
            trainable_stages=trainable_stages,
            freeze_epochs=freeze_epochs,
            max_epochs=max_epochs,
            augmentation=augmentation,
            n_iter_no_change=n_iter_no_change,
            n_jobs=n_jobs,
            random_state=random_state,
        )


class RowEncoder(_RowsAsImages, PretrainedImageEncoder):
    def __init__(self, *, backbone=Pixels, n_jobs=1):
        super().__init__(backbone=backbone, n_jobs=n_jobs)


def _excused(estimator):
    """Name the checks that an estimator need not pass, with the reason."""
    if not isinstance(estimator, RowFineTuner | RowNumberTuner):
        return {}
    reason = "stages are trained in mini-batches: a repeated sample meets other neighbours than one of double weight"
    return dict.fromkeys(
        ["check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"], reason
    )


def _pass(estimator, check):
    try:
        check(estimator)
    except SkipTest as skip:
        pytest.fail(f"no check may be skipped: {skip}")


# A check gives all images of a class the weight zero.
@pytest.mark.filterwarnings("ignore:All images of 0 in y have weight zero:UserWarning")
@parametrize_with_checks([RowClassifier()])
def test_official_checks(estimator, check):
    _pass(estimator, check)


# Those that found something in the training of stages, or look at what it alone does.
OF_STAGES = [
    "check_dict_unchanged", "check_estimators_pickle", "check_fit2d_1sample", "check_fit_check_is_fitted",
    "check_fit_idempotent", "check_methods_sample_order_invariance", "check_methods_subset_invariance",
    "check_sample_weights_not_overwritten",
]  # fmt: skip


def _name(check):
    """Return the name of a check, with its arguments."""
    arguments = ",".join(f"{name}={value}" for name, value in getattr(check, "keywords", {}).items())
    return getattr(check, "func", check).__name__ + (f"({arguments})" if arguments else "")


def _checks_of(*estimators):
    """Return each estimator with each of its checks. Most of those that the classifier passes too are slow tests."""
    shared = {_name(check) for _, check in estimator_checks_generator(RowClassifier(), mark=None)} - {*OF_STAGES}
    return [
        pytest.param(
            estimator, check, marks=pytest.mark.slow if _name(check) in shared else [],
            id=f"{type(estimator).__name__}-{_name(check)}",
        )
        for estimator in estimators
        for _, check in estimator_checks_generator(estimator, mark=None)
    ]  # fmt: skip


@pytest.mark.parametrize(("estimator", "check"), _checks_of(RowRegressor(), RowEncoder()))
def test_official_checks_of_regressors_and_encoders(estimator, check):
    _pass(estimator, check)


@pytest.mark.slow
@parametrize_with_checks([RowFineTuner(), RowNumberTuner()], expected_failed_checks=_excused)
def test_official_checks_with_stages(estimator, check):
    _pass(estimator, check)


@pytest.mark.parametrize("name", thorough_except(OF_STAGES, *OF_STAGES[::2]))
def test_some_official_checks_with_stages(name):
    """All of them are slow tests."""
    found = [
        (estimator, check)
        for estimator, check in estimator_checks_generator(RowFineTuner(), mark=None)
        if getattr(check, "func", check).__name__ == name
    ]
    assert found
    for estimator, check in found:
        _pass(estimator, check)


@pytest.mark.parametrize(("estimator", "n_checks"), [(RowClassifier(), 73), (RowRegressor(), 66)])
def test_there_are_so_many_checks(estimator, n_checks):
    found = [check for _, check in estimator_checks_generator(estimator, mark=None)]
    # scikit-learn 1.8 and older have one check less.
    assert len(found) >= (n_checks if parse_version(sklearn.__version__) >= parse_version("1.9") else n_checks - 1)


def test_checks_of_several_labels_and_of_several_numbers_are_among_them():
    names = [
        getattr(check, "func", check).__name__
        for estimator in (RowClassifier(), RowRegressor())
        for _, check in estimator_checks_generator(estimator, mark=None)
    ]
    assert sum("multilabel" in name for name in names) == 4
    assert "check_regressor_multioutput" in names


@pytest.mark.parametrize(
    ("adapter", "estimator"),
    [
        (RowClassifier(), PretrainedImageClassifier()),
        (RowFineTuner(), PretrainedImageClassifier()),
        (RowRegressor(), PretrainedImageRegressor()),
        (RowNumberTuner(), PretrainedImageRegressor()),
        (RowEncoder(), PretrainedImageEncoder()),
    ],
)
def test_the_adapter_changes_no_tag(adapter, estimator):
    assert get_tags(adapter) == get_tags(estimator)
    assert isinstance(adapter, BaseEstimator)


# The adapter validates rows itself. These are the same laws on the library's own flattened form, and on images.

ROWS = np.random.default_rng(0).integers(0, 256, (30, _SIDE * _SIDE)).astype(np.uint8)
Y = np.arange(30) % 3


def _flattened(cls=PretrainedImageClassifier, **params):
    return cls(backbone=Pixels, image_shape=(_SIDE, _SIDE), random_state=0, **params)


def _few(**params):
    return _flattened(max_epochs=3, **params)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform"])
def test_twin_of_n_features_in_after_fitting(method):
    clf = _few().fit(ROWS, Y)
    assert clf.n_features_in_ == 64
    with pytest.raises(ValueError, match="X has 63 features, but PretrainedImageClassifier is expecting 64"):
        getattr(clf, method)(ROWS[:, :63])


def test_twin_of_dataframe_column_names_consistency():
    frame = pd.DataFrame(ROWS, columns=[f"pixel{i}" for i in range(64)])
    clf = _few().fit(frame, Y)
    assert list(clf.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame[frame.columns[::-1]])
    with pytest.warns(UserWarning, match="valid feature names"):
        clf.predict(ROWS)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.where(ROWS[0, 0] == ROWS, np.nan, ROWS / 255), "NaN"),
        (np.where(ROWS[0, 0] == ROWS, np.inf, ROWS / 255), "infinity"),
        (ROWS.astype(complex), "Complex data not supported"),
        (sparse.csr_array(ROWS), "[Ss]parse"),
        (sparse.csr_matrix(ROWS), "[Ss]parse"),
        (ROWS[:0], r"0 sample\(s\)"),
        (ROWS[:, :0], r"0 feature\(s\)"),
        (ROWS[0], r"shape \(64,\)"),
    ],
)
def test_twin_of_nan_inf_complex_sparse_empty_and_1d(X, message):
    for estimator in (_few(), _flattened(PretrainedImageEncoder)):
        with pytest.raises((ValueError, TypeError), match=message):
            estimator.fit(X, Y[: X.shape[0]])


def _memmap(array, directory):
    mapped = np.memmap(directory / "X", array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    mapped.flags.writeable = False
    return mapped


def test_twin_of_dtypes_memory_layouts_read_only_and_not_an_array(tmp_path):
    expected = _few().fit(ROWS, Y).decision_function(ROWS)
    forms = [
        (ROWS / 255).astype(np.float32),
        ROWS / 255,
        np.asfortranarray(ROWS),
        _memmap(ROWS, tmp_path),
        (ROWS / 255).astype(object),
        (ROWS / 255).tolist(),
        pd.DataFrame(ROWS),
        torch.from_numpy(ROWS),
        _NotAnArray(ROWS),
    ]
    for form in forms:
        np.testing.assert_array_equal(_few().fit(form, Y).decision_function(form), expected)


@pytest.mark.parametrize("images", [ROWS.reshape(-1, 8, 8), list(ROWS.reshape(-1, 8, 8)), ROWS.reshape(-1, 1, 8, 8)])
def test_twin_of_fit_idempotent_overwriting_nothing_and_dict_unchanged(images):
    clf = PretrainedImageClassifier(backbone=Pixels, max_epochs=3, random_state=0)
    copy = np.array(images, copy=True)
    first = clf.fit(images, Y).decision_function(images)
    before = vars(clf).copy()
    np.testing.assert_array_equal(clf.predict(images), clf.classes_[first.argmax(axis=1)])
    assert vars(clf) == before
    np.testing.assert_array_equal(clf.fit(images, Y).decision_function(images), first)
    np.testing.assert_array_equal(images, copy)


def test_twin_of_unfitted():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform"):
        with pytest.raises(NotFittedError):
            getattr(PretrainedImageClassifier(), method)(ROWS.reshape(-1, 8, 8))


def test_twin_of_fit2d_1sample_and_1feature():
    with pytest.raises(ValueError, match="one class"):
        _few().fit(ROWS[:1], Y[:1])
    one_pixel = PretrainedImageClassifier(backbone=Pixels, image_shape=(1, 1), max_epochs=3)
    assert one_pixel.fit(ROWS[:, :1], Y).n_features_in_ == 1
