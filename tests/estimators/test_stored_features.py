"""Estimators on features in a file instead of images: equal fits, bit for bit, and errors where images are needed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import Pixels, backbone_of, small_conv_net
from joblib import parallel_config
from numpy.testing import assert_array_equal
from processes import in_child
from representatives import slow_except
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._datasets.embedding_content import Embedding, Part
from sktl._features import features_as_input
from sktl._features.extractor import FeatureExtractor
from sktl._features.features_as_input import source_of
from sktl._head import train_head
from sktl._images.samples import as_samples
from sktl._storage.parquet_files import Rows, first_row, write_rows
from sktl.datasets import load_features, make_cats, write_features
from sktl.exceptions import InvalidInputError

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytestmark = pytest.mark.all_penalties  # some processes are not forked

CATS = make_cats(60, random_state=0)
X, NEW = list(CATS.data[:40]), list(CATS.data[40:])
CODES = np.unique(CATS.target, return_inverse=True)[1]
Y = CODES[:40]
LABELS = np.stack([CODES % 2, CODES > 2], axis=1).astype(int)[:40]
TINY = {"image_size": 64, "random_state": 0}


def extractor_of(network):
    return FeatureExtractor(resolve_backbone(network, "default", None, 0), torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    estimator = PretrainedImageClassifier(**TINY)
    write_features(X, folder / "x.parquet", y=Y, estimator=estimator, images_per_part=16)
    write_features(NEW, folder / "new", estimator=estimator, images_per_part=16)
    return folder


@pytest.fixture(scope="module")
def features(folder):
    return load_features(folder / "x.parquet").data


@pytest.fixture(scope="module")
def new(folder):
    return load_features(folder / "new").data


ARGUMENTS = {
    "classes": (PretrainedImageClassifier, {}, {"y": Y}),
    "weights": (PretrainedImageClassifier, {"class_weight": "balanced"}, {"y": Y, "sample_weight": np.arange(40) % 3}),
    "groups": (PretrainedImageClassifier, {}, {"y": Y, "groups": np.arange(40) // 2}),
    "early stopping": (PretrainedImageClassifier, {"early_stopping": True, "validation_fraction": 0.25}, {"y": Y}),
    "one stage": (PretrainedImageClassifier, {"feature_stages": 1, "weight_decay": 0.1}, {"y": Y}),
    "all stages": (PretrainedImageClassifier, {"feature_stages": 2}, {"y": Y}),
    "adamw": (PretrainedImageClassifier, {"optimizer": "adamw", "max_epochs": 3}, {"y": Y}),
    "invalid images": (PretrainedImageClassifier, {"invalid_images": "skip"}, {"y": Y}),
    "labels": (PretrainedImageClassifier, {}, {"y": LABELS}),
    "numbers": (PretrainedImageRegressor, {}, {"y": Y + 0.5}),
}


# One of each way in which targets reach the fit.
ALWAYS = ["weights", "groups", "early stopping", "labels", "numbers"]


@pytest.mark.parametrize("name", slow_except(ARGUMENTS, *ALWAYS, thorough=["weights", "early stopping", "numbers"]))
def test_a_fit_on_features_is_the_fit_on_the_images(name, features, new, tmp_path):
    kind, params, arguments = ARGUMENTS[name]
    by_images = kind(**TINY | params).fit(X, **arguments)
    by_features = kind(**TINY | params).fit(features, **arguments)
    assert_array_equal(by_features.net_.module_.output.weight.detach(), by_images.net_.module_.output.weight.detach())
    by_features.save(tmp_path / "m.sktl")
    loaded = sktl.load(tmp_path / "m.sktl")
    for method in ("predict", "transform", "typicality", "predict_proba"):
        if hasattr(by_images, method):
            expected = getattr(by_images, method)(NEW)
            for estimator in (by_images, by_features, loaded):
                assert_array_equal(getattr(estimator, method)(new), expected)
            assert_array_equal(getattr(by_features, method)(NEW), expected)
    assert by_features.score(new, by_images.predict(NEW)) == 1.0
    assert by_features.feature_stages_ == by_images.feature_stages_
    assert by_features.get_feature_names_out().tolist() == by_images.get_feature_names_out().tolist()


@pytest.mark.thorough
def test_images_and_features_can_be_mixed_in_a_fit(features, new):
    params = TINY | {"early_stopping": True}
    known = np.flatnonzero(np.isin(CODES[40:], Y))
    held_out = {"y_val": CODES[40:][known]}
    fits = [
        PretrainedImageClassifier(**params).fit(some, Y, X_val=others, **held_out)
        for some in (X, features)
        for others in ([NEW[i] for i in known], new[known])
    ]
    for clf in fits[1:]:
        assert_array_equal(clf.predict_proba(NEW), fits[0].predict_proba(NEW))


@pytest.mark.thorough
def test_searches_and_splits_of_scikit_learn_select_rows(features):
    clf = PretrainedImageClassifier(**TINY)
    assert_array_equal(cross_val_score(clf, features, Y, cv=2), cross_val_score(clf, X, Y, cv=2))
    grid = {"weight_decay": [0.01, 1.0]}
    results = [GridSearchCV(clf, grid, cv=2).fit(some, Y).cv_results_["mean_test_score"] for some in (X, features)]
    assert_array_equal(*results)
    train, test, y_train, _ = train_test_split(features, Y, random_state=0)
    images, held_out, *_ = train_test_split(X, Y, random_state=0)
    assert_array_equal(clf.fit(train, y_train).predict(test), clf.fit(images, y_train).predict(held_out))


@pytest.mark.thorough
@pytest.mark.parametrize("backend", slow_except(["multiprocessing", "loky"], "multiprocessing"))
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_other_processes_select_rows(features, backend):
    clf = PretrainedImageClassifier(**TINY)
    with parallel_config(backend, n_jobs=2):
        found = cross_val_score(clf, features, Y, cv=2)
    assert_array_equal(found, cross_val_score(clf, X, Y, cv=2))


def test_encoders_and_other_estimators_take_features(features):
    encoder = PretrainedImageEncoder(feature_stages=2, **TINY)
    assert_array_equal(encoder.fit_transform(features), encoder.fit_transform(X))
    pipeline = make_pipeline(encoder, LogisticRegression(max_iter=1000))
    assert_array_equal(pipeline.fit(features, Y).predict(features), pipeline.fit(X, Y).predict(X))
    assert LogisticRegression(max_iter=1000).fit(features, Y).n_features_in_ == features.shape[1]


@pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
def test_random_weights_are_recognized_by_their_seed(tmp_path):
    params = {"backbone": "timm/test_efficientnet", "weights": None, "image_size": 32}
    write_features(X, tmp_path / "f.parquet", estimator=PretrainedImageClassifier(**params, random_state=0))
    features = load_features(tmp_path / "f.parquet").data
    PretrainedImageClassifier(**params, random_state=0).fit(features, Y)
    with pytest.raises(InvalidInputError, match="The weights differ"):
        PretrainedImageClassifier(**params, random_state=1).fit(features, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"backbone": small_conv_net},
            "holds features of backbone='efficientnet_lite0' .* has backbone='small_conv_net'",
        ),
        ({"image_size": 96}, "The preprocessing differs"),
        ({"n_stages": 3}, "The weights differ"),
        ({"trainable_stages": 1}, "X holds features of a pretrained network, but trained stages need images"),
    ],
)
def test_what_the_features_cannot_be_used_for_is_an_error(params, message, features):
    with pytest.raises(InvalidInputError, match=message):
        PretrainedImageClassifier(**TINY | params).fit(features, Y)


def test_features_of_fewer_stages_are_all_that_there_is(tmp_path):
    write_features(X, tmp_path / "f.parquet", estimator=PretrainedImageClassifier(**TINY, feature_stages=2))
    features = load_features(tmp_path / "f.parquet").data
    assert PretrainedImageClassifier(**TINY, feature_stages="all").fit(features, Y).feature_stages_ == 2
    assert set(PretrainedImageClassifier(**TINY).fit(features, Y).selection_["param_feature_stages"]) == {1, 2}
    with pytest.raises(InvalidInputError, match=r"needs features of 3 stages, but X holds features of 2\. Write"):
        PretrainedImageClassifier(**TINY, feature_stages=3).fit(features, Y)


@pytest.mark.thorough
def test_trained_stages_predict_no_features(features):
    clf = PretrainedImageClassifier(**TINY, trainable_stages=1, max_epochs=1, augmentation=None).fit(X, Y)
    with pytest.raises(InvalidInputError, match="trained stages need images"):
        clf.predict(features)
    with pytest.raises(InvalidInputError, match="X_val holds features"):
        clf.set_params(early_stopping=True).fit(X, Y, X_val=features, y_val=Y)


def test_functions_that_need_images_refuse_features(features):
    for function in (lambda X: sktl.check_images(X), lambda X: sktl.audit_images(X, Y)):
        with pytest.raises(InvalidInputError, match="X holds features of images, but images are needed here"):
            function(features)


def test_a_network_is_recognized_by_what_it_computes_not_by_rounding():
    def source(function):
        backbone = backbone_of(function)
        layout = sktl._features.extractor.FeatureExtractor(
            backbone, sktl._features.extractor.torch.device("cpu")
        ).layout
        return source_of(backbone, layout, 1, "float32"), backbone

    own, _ = source(lambda images: images.mean((2, 3)))
    _, rounded = source(lambda images: images.mean((2, 3)) * 1.0001)
    _, other = source(lambda images: images.mean((2, 3)) * 1.5)
    features_as_input._check_source(own, rounded, "float32")
    with pytest.raises(InvalidInputError, match="compute different features with the same weights"):
        features_as_input._check_source(own, other, "float32")


def test_features_beyond_memory_lead_to_the_same_predictions(features, new, monkeypatch):
    found = PretrainedImageClassifier(**TINY).fit(features, Y)
    monkeypatch.setattr(features_as_input, "IN_MEMORY", 0)
    monkeypatch.setattr(train_head, "IN_MEMORY", 0)
    streamed = PretrainedImageClassifier(**TINY).fit(features, Y)
    assert features_as_input.first_columns(features, 3).shape == (40, 3)
    np.testing.assert_allclose(streamed.predict_proba(new), found.predict_proba(new), atol=0.02)
    assert_array_equal(streamed.typicality(new), found.typicality(new))
    assert_array_equal(streamed.transform(new), found.transform(NEW))


@pytest.mark.thorough
def test_two_networks_in_one_process(tmp_path):
    for network in (Pixels, small_conv_net):
        estimator = PretrainedImageClassifier(backbone=network, random_state=0)
        write_features(X, tmp_path / f"{network.__name__}.parquet", estimator=estimator)
        features = load_features(tmp_path / f"{network.__name__}.parquet").data
        assert features.backbone == network.__name__
        assert_array_equal(estimator.fit(features, Y).predict(X), estimator.fit(X, Y).predict(X))


def wide():
    """Return a network with 1,024 features."""
    return Pixels(32)


def anonymous_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def peak_of_fit(path):
    """Return by how much the anonymous memory of this process grows while features are loaded and fitted."""
    before, found, done = anonymous_bytes(), [], threading.Event()

    def watch():
        while not done.wait(0.01):
            found.append(anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        train = load_features(path)
        PretrainedImageClassifier(backbone=wide, random_state=0).fit(train.data, train.target[:, 0])
    finally:
        done.set()
        watcher.join()
    return max(found) - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell anonymous memory")
def test_a_fit_on_features_beyond_memory_takes_a_fraction_of_their_size(tmp_path):
    image, n_parts, size = np.zeros((32, 32), np.uint8), 25, 8192
    labels = np.arange(size) % 10
    small = Embedding(Part(as_samples([image]), ["0"], {"label_0": labels[:1]}, 0), extractor_of(wide), False, False)
    for i in range(n_parts):
        rows = np.random.default_rng(i).standard_normal((size, 1024), dtype=np.float32)
        rows[:, :10] += 2 * np.eye(10, dtype=np.float32)[labels]
        own = {"part": [i, n_parts], "contents": [str(i)], "first_rows": [first_row(rows)]}
        groups = [Rows([*map(str, range(size))], {"label_0": labels}, rows)]
        path = tmp_path / f"part-{i:05}.parquet"
        write_rows(path, tmp_path / "unfinished", groups, 1024, {"label_0": labels}, small.header | own)
    n_bytes = n_parts * size * 1024 * 4
    assert in_child(peak_of_fit, tmp_path) < 0.75 * n_bytes
