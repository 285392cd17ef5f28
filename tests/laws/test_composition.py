"""Every meta-estimator of scikit-learn with every form of X: what works, and which form to use where one is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from backbones import Pixels
from PIL import Image
from representatives import slow_except
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes HalvingGridSearchCV importable
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor

DIGITS = load_digits(n_class=3)
IMAGES = (DIGITS.images[:48] * 15.9375).astype(np.uint8)
Y = np.array(["zero", "one", "two"])[DIGITS.target[:48]]


def _files(directory: Path) -> list[str]:
    paths = [str(directory / f"{i}.png") for i in range(len(IMAGES))]
    for image, path in zip(IMAGES, paths, strict=True):
        Image.fromarray(image).save(path)
    return paths


def _png(image: np.ndarray) -> bytes:
    Image.fromarray(image).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


FORMS = {
    "list of paths": _files,
    "array of paths": lambda directory: np.array(_files(directory)),
    "series of paths": lambda directory: pd.Series(_files(directory), index=range(1000, 1048)),
    "list of bytes": lambda directory: [_png(image) for image in IMAGES],
    "list of PIL images": lambda directory: [Image.fromarray(image) for image in IMAGES],
    "list of arrays": lambda directory: list(IMAGES),
    "array of images": lambda directory: IMAGES,
    "(n, 1) paths": lambda directory: np.array(_files(directory), dtype=object)[:, None],
    "one column": lambda directory: pd.DataFrame({"path": _files(directory)}),
    "flattened": lambda directory: IMAGES.reshape(48, 64),
}
STEADY = {"list of paths", "flattened"}
TABULAR = {"(n, 1) paths", "one column", "flattened"}


@pytest.fixture(scope="module", params=FORMS)
def X(request, tmp_path_factory):
    """Return X in one of its forms, with the name of the form as an attribute of the fixture's id."""
    return request.param, FORMS[request.param](tmp_path_factory.mktemp("images"))


def _clf(**params):
    return PretrainedImageClassifier(
        backbone=Pixels, image_shape=(8, 8), lr=0.03, max_epochs=10, random_state=0, n_jobs=1, **params
    )


GRID = {"lr": [0.01, 0.1]}
WORKS_WITH_ALL = {
    "GridSearchCV": lambda: GridSearchCV(_clf(), GRID, cv=2, error_score="raise"),
    "RandomizedSearchCV": lambda: RandomizedSearchCV(_clf(), GRID, n_iter=2, cv=2, random_state=0, error_score="raise"),
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(_clf(), GRID, cv=2, random_state=0, error_score="raise"),
    "Pipeline": lambda: make_pipeline(PretrainedImageEncoder(backbone=Pixels, image_shape=(8, 8)), StandardScaler(),
                                      LogisticRegression()),
    "classifier as transformer": lambda: make_pipeline(_clf(), KNeighborsClassifier()),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(_clf(), cv=2),
    "VotingClassifier": lambda: VotingClassifier([("a", _clf()), ("b", _clf(lr_schedule="constant"))], voting="soft"),
    "StackingClassifier": lambda: StackingClassifier([("a", _clf()), ("b", _clf(dropout=0.1))], cv=2),
    "OneVsRestClassifier": lambda: OneVsRestClassifier(_clf()),
}  # fmt: skip


def _pairs(names):
    """Return each form with each name; so many are no slow tests that each form and each name is among them."""
    forms, names = list(FORMS), list(names)
    return [
        pytest.param(form, name, marks=[] if i % len(names) == k else pytest.mark.slow)
        for i, form in enumerate(forms)
        for k, name in enumerate(names)
    ]


@pytest.mark.parametrize(("X", "name"), _pairs(WORKS_WITH_ALL), indirect=["X"])
def test_meta_estimators_that_take_every_form(X, name):
    _, images = X
    model = WORKS_WITH_ALL[name]().fit(images, Y)
    assert (model.predict(images) == Y).mean() > 0.9
    assert set(model.predict(images)) <= set(Y)


@pytest.mark.parametrize("X", slow_except(FORMS, *STEADY), indirect=True)
def test_validation_functions_take_every_form(X):
    _, images = X
    assert cross_validate(_clf(), images, Y, cv=2, error_score="raise")["test_score"].mean() > 0.9
    assert (cross_val_predict(_clf(), images, Y, cv=2) == Y).mean() > 0.9
    _, _, scores = learning_curve(_clf(), images, Y, cv=2, train_sizes=[0.5, 1.0], shuffle=True, error_score="raise")
    assert scores.mean() > 0.8


ONLY_TABULAR = {
    "BaggingClassifier": lambda: BaggingClassifier(_clf(), n_estimators=2, random_state=0),
    "AdaBoostClassifier": lambda: AdaBoostClassifier(_clf(), n_estimators=2, random_state=0),
}


def _only(names, *forms):
    """Return each name with each form; those of these forms are no slow tests."""
    return slow_except(
        [(form, name) for name in names for form in FORMS], *((form, name) for name in names for form in forms)
    )


@pytest.mark.parametrize(
    ("X", "name"), _only(ONLY_TABULAR, "one column", "array of images", "list of bytes"), indirect=["X"]
)
def test_meta_estimators_that_want_a_column_or_rows(X, name):
    """scikit-learn checks their X itself: use the (n, 1), one-column or flattened form."""
    form, images = X
    model = ONLY_TABULAR[name]()
    if form in TABULAR:
        assert (model.fit(images, Y).predict(images) == Y).mean() > 0.8
    elif name == "AdaBoostClassifier" and form in ("array of images", "list of arrays"):
        # It lets arrays of more axes through, and makes one of images of equal size.
        assert (model.fit(images, Y).predict(images) == Y).mean() > 0.8
    else:
        with pytest.raises((ValueError, TypeError)):
            model.fit(images, Y).predict(images)


ONLY_FLATTENED = {
    "SelfTrainingClassifier": lambda: SelfTrainingClassifier(_clf()),
    "OneVsOneClassifier": lambda: OneVsOneClassifier(_clf()),
}


@pytest.mark.parametrize(("X", "name"), _only(ONLY_FLATTENED, "flattened", "list of paths"), indirect=["X"])
def test_meta_estimators_that_want_rows_of_numbers(X, name):
    """scikit-learn converts their X to numbers: use the flattened form."""
    form, images = X
    y = np.where(np.arange(48) % 4 == 3, -1, DIGITS.target[:48]) if name.startswith("Self") else DIGITS.target[:48]
    model = ONLY_FLATTENED[name]()
    if form == "flattened":
        assert (model.fit(images, y).predict(images) == DIGITS.target[:48]).mean() > 0.8
    else:
        with pytest.raises((ValueError, TypeError)):
            model.fit(images, y)


def test_metadata_routing_carries_sample_weights():
    weights = np.random.default_rng(0).uniform(size=48)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = _clf().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(clf, {"lr": [0.03]}, cv=2, error_score="raise").fit(IMAGES, Y, sample_weight=weights)
    alone = _clf().fit(IMAGES, Y, sample_weight=weights)
    np.testing.assert_array_equal(search.decision_function(IMAGES), alone.decision_function(IMAGES))
    assert not np.array_equal(alone.decision_function(IMAGES), _clf().fit(IMAGES, Y).decision_function(IMAGES))


@pytest.mark.parametrize("n_photos", slow_except([60, 300], 60))
def test_a_search_of_4_rates_and_5_folds_passes_each_photo_through_the_network_once(tmp_path, monkeypatch, n_photos):
    """Counted by a forward hook: no padding since 4 divides their number, and the probe's two chunks of 4."""
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(n_photos)]
    labels = np.arange(n_photos) % 3
    for path, label in zip(paths, labels, strict=True):
        pixels = rng.integers(0, 256, (5, 6, 3), np.uint8)
        pixels[..., label] //= 3
        Image.fromarray(pixels).resize((120, 100)).save(path)
    seen = []
    load = sktl._features.engines._load

    def counted(*arguments):
        engine = load(*arguments)
        run = engine.run
        engine.run = lambda pixels: seen.append(len(pixels)) or run(pixels)
        return engine

    monkeypatch.setattr(sktl._features.engines, "_load", counted)
    monkeypatch.setattr(sktl._features.engines, "registry", sktl._features.engines.EngineRegistry())
    sktl.clear_cache()
    clf = PretrainedImageClassifier(max_epochs=3, weight_decay=0.1, random_state=0)
    GridSearchCV(clf, {"lr": [1e-4, 1e-3, 1e-2, 1e-1]}, cv=5, error_score="raise").fit(paths, labels)
    assert sum(seen) == n_photos


@pytest.mark.slow
def test_cross_validation_in_two_processes_works_from_a_fresh_process_which_then_needs_no_network():
    program = (
        "from sklearn.datasets import load_digits\n"
        "from sklearn.model_selection import cross_validate\n"
        "from sktl import PretrainedImageClassifier\n"
        "from sktl._features import engines\n"
        "if __name__ == '__main__':\n"
        "    X, y = load_digits(n_class=2, return_X_y=True)\n"
        "    clf = PretrainedImageClassifier(image_shape=(8, 8), image_size=64, random_state=0)\n"
        "    scores = cross_validate(clf, X[:24] / 16, y[:24], cv=2, n_jobs=2, error_score='raise')['test_score']\n"
        "    assert scores.min() > 0.7, scores\n"
        "    clf.fit(X[:24] / 16, y[:24])\n"
        "    assert not engines.registry._engines\n"
    )
    root = str(Path(sktl.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, env={**os.environ, "PYTHONPATH": path})


MULTILABEL = np.stack([DIGITS.target[:48] > 0, IMAGES.mean(axis=(1, 2)) > IMAGES.mean()], axis=1).astype(int)
NUMBERS = np.stack([IMAGES.mean(axis=(1, 2)), IMAGES.std(axis=(1, 2))], axis=1)
SEVERAL_OUTPUTS = {
    "labels, one-vs-rest": (lambda clf, _: OneVsRestClassifier(clf), MULTILABEL),
    "labels, multi-output": (lambda clf, _: MultiOutputClassifier(clf), MULTILABEL),
    "labels, features": (lambda _, encoder: make_pipeline(encoder, KNeighborsClassifier()), MULTILABEL),
    "a number": (lambda _, encoder: make_pipeline(encoder, Ridge()), NUMBERS[:, 0]),
    "numbers": (lambda _, encoder: make_pipeline(encoder, Ridge()), NUMBERS),
    "numbers, multi-output": (lambda _, encoder: make_pipeline(encoder, MultiOutputRegressor(Ridge())), NUMBERS),
}


@pytest.mark.parametrize("name", SEVERAL_OUTPUTS)
def test_several_labels_and_numbers_embed_each_image_once(name, tmp_path):
    make, y = SEVERAL_OUTPUTS[name]
    model = make(_clf(cache=tmp_path), PretrainedImageEncoder(backbone=Pixels, cache=tmp_path))
    assert cross_val_predict(model, IMAGES, y, cv=3).shape == y.shape
    assert sktl.cache_info(tmp_path).misses == len(IMAGES)


def test_mapies_sets_and_intervals_have_the_chosen_coverage():
    """Around a fitted classifier and a fitted regressor, calibrated on images that `fit` has not seen."""
    pytest.importorskip("mapie", reason="MAPIE is not a dependency; the guide shows it")
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import SplitConformalRegressor

    digits = load_digits(n_class=4)
    images, y = digits.images / 16, digits.target
    train, calibration, test = slice(60), slice(60, 260), slice(260, 560)
    clf = PretrainedImageClassifier(image_size=48, random_state=0).fit(images[train], y[train])
    del clf.n_features_in_  # otherwise, MAPIE calls `predict` on a row of zeros
    sets = SplitConformalClassifier(clf, confidence_level=0.9, prefit=True)
    predicted, members = sets.conformalize(images[calibration], y[calibration]).predict_set(images[test])
    np.testing.assert_array_equal(predicted, clf.predict(images[test]))
    assert members[np.arange(300), y[test], 0].mean() > 0.85
    regressor = PretrainedImageRegressor(image_size=48, random_state=0).fit(images[train], y[train].astype(float))
    del regressor.n_features_in_
    intervals = SplitConformalRegressor(regressor, confidence_level=0.9, prefit=True)
    _, ends = intervals.conformalize(images[calibration], y[calibration]).predict_interval(images[test])
    assert 0.85 < ((ends[:, 0, 0] <= y[test]) & (y[test] <= ends[:, 1, 0])).mean() < 0.97
