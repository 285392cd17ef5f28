"""Laws of the classifier: what its answers may depend on, and what a fit may touch."""

from __future__ import annotations

import copy
import io
import pickle
import random
import re
import threading
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from backbones import Pixels, SmallConvNet, small_conv_net
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from representatives import examples, slow_except
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import validate_data
from torchvision.transforms import v2

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.exceptions import (
    BackboneWarning,
    DeviceError,
    InputWarning,
    InvalidImageError,
    InvalidImageWarning,
    InvalidInputError,
    InvalidParameterError,
    TrainingError,
    UnknownBackboneError,
    WeightsCorruptError,
)

DIGITS = load_digits()
IMAGES = (DIGITS.images * 15.9375).astype(np.uint8)
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[DIGITS.target]
FEW = dict(max_epochs=5, random_state=0)
LOW = FEW | dict(image_size=64)  # of the bundled network


@pytest.fixture(scope="module")
def fitted():
    return PretrainedImageClassifier(**LOW).fit(IMAGES[:40], NAMES[:40])


@pytest.fixture
def photos(tmp_path):
    """Return paths of twelve small photos-like images of two classes, larger than the network's input."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(12):
        pixels = rng.integers(0, 256, (6, 7, 3), np.uint8)
        pixels[..., i % 2] //= 4
        Image.fromarray(pixels).resize((280, 260), Image.Resampling.BICUBIC).save(path := tmp_path / f"{i}.png")
        paths.append(str(path))
    return paths


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# --------------------------------------------------------------------------------------- what answers may depend on


@settings(max_examples=examples(15))
@given(rows=st.lists(st.integers(40, 69), min_size=1, max_size=13), cache=st.sampled_from(["auto", False]))
def test_prediction_depends_neither_on_batch_nor_order_nor_subset_bit_for_bit(fitted, rows, cache):
    alone = np.concatenate([_proba(fitted, IMAGES[[row]]) for row in rows])
    together = _proba(clone_fitted(fitted, cache=cache), IMAGES[rows])
    assert_array_equal(alone, together)


def _proba(clf, images):
    sktl.clear_cache()
    return np.hstack([clf.predict_proba(images), clf.decision_function(images), clf.transform(images)])


def clone_fitted(clf, **params):
    return copy.deepcopy(clf).set_params(**params)


@pytest.mark.parametrize("n_jobs", slow_except([1, 2, 3], 3))
def test_results_do_not_depend_on_the_number_of_threads(fitted, n_jobs):
    sktl.clear_cache()
    again = PretrainedImageClassifier(**LOW, n_jobs=n_jobs).fit(IMAGES[:40], NAMES[:40])
    assert_array_equal(again.decision_function(IMAGES[40:50]), fitted.decision_function(IMAGES[40:50]))


@pytest.mark.parametrize("torch_threads", [1, 2])
def test_results_do_not_depend_on_torchs_thread_count(fitted, torch_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(torch_threads)
    try:
        sktl.clear_cache()
        again = PretrainedImageClassifier(**LOW).fit(IMAGES[:40], NAMES[:40])
    finally:
        torch.set_num_threads(before)
    assert_array_equal(again.decision_function(IMAGES[40:50]), fitted.decision_function(IMAGES[40:50]))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_images_of_each_class_are_counted(early_stopping):
    clf = PretrainedImageClassifier(
        **FEW, backbone=small_conv_net, invalid_images="skip", early_stopping=early_stopping, validation_fraction=0.5
    )
    images, names = [*IMAGES[:30], np.zeros((0, 3), np.uint8)], [*NAMES[:30], "zero"]
    with pytest.warns(InvalidImageWarning):
        clf.fit(images, names)
    assert dict(zip(clf.classes_, clf.class_count_, strict=True)) == Counter(NAMES[:30])
    assert clf.class_count_.dtype == np.int64


def test_what_fit_says_about_y_and_groups_it_says_once_if_images_are_left_out():
    images, names = [*IMAGES[:30], np.zeros((0, 3), np.uint8)], np.array([*NAMES[:30], NAMES[0]])
    clf = PretrainedImageClassifier(**FEW, backbone=small_conv_net, invalid_images="skip")
    with pytest.warns(UserWarning, match="A column-vector|left out") as caught:
        clf.fit(images, names[:, None], groups=np.arange(31)[:, None])
    categories = [warning.category for warning in caught]
    assert categories == [DataConversionWarning, DataConversionWarning, InvalidImageWarning]


@pytest.mark.thorough
@settings(max_examples=examples(20))
@given(names=st.permutations([str(i) for i in range(10)]))
def test_relabelling_the_classes_only_relabels_the_output(names):
    original = small().fit(IMAGES[:60], DIGITS.target[:60])
    names = np.array(names)
    renamed = small().fit(IMAGES[:60], names[DIGITS.target[:60]])
    order = np.argsort(names)
    assert_array_equal(renamed.classes_, names[order])
    assert_array_equal(renamed.decision_function(IMAGES[60:80]), original.decision_function(IMAGES[60:80])[:, order])
    assert_allclose(renamed.predict_proba(IMAGES[60:80]), original.predict_proba(IMAGES[60:80])[:, order], rtol=1e-12)


def small(**params):
    return PretrainedImageClassifier(**(dict(backbone=Pixels) | FEW | params))


FORMS = {
    "paths": lambda paths: paths,
    "array of paths": np.array,
    "bytes": lambda paths: [Path(path).read_bytes() for path in paths],
    "PIL": lambda paths: [Image.open(path) for path in paths],
    "arrays": lambda paths: [np.asarray(Image.open(path)) for path in paths],
    "channels last": lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
    "channels first": lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2),
    "floats": lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]) / 255,
    "tensor": lambda paths: torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])),
    "object column": lambda paths: np.array(paths, dtype=object).reshape(-1, 1),
    "series": lambda paths: pd.Series(paths, index=range(100, 100 + len(paths))),
    "data frame": lambda paths: pd.DataFrame({"path": paths}),
    "flattened": lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]).reshape(len(paths), -1),
}
FEW_FORMS = ["paths", "PIL", "channels first", "floats", "flattened"]


# `test_samples.py` compares the pixels of all forms.
@pytest.mark.parametrize("form", slow_except(FORMS, *FEW_FORMS, thorough=["PIL", "floats"]))
def test_every_legal_form_of_the_same_pixels_gives_the_same_features(photos, form):
    sktl.clear_cache()
    reference = PretrainedImageEncoder().fit_transform(photos[:3])
    sktl.clear_cache()
    encoder = PretrainedImageEncoder(image_shape=(260, 280, 3))
    assert_array_equal(encoder.fit_transform(FORMS[form](photos[:3])), reference)


def test_fitting_on_one_form_and_predicting_on_another_is_legal_and_silent(photos, recwarn):
    clf = PretrainedImageClassifier(**LOW).fit(photos, [0, 1] * 6)
    assert_array_equal(clf.predict(photos), clf.predict(FORMS["channels last"](photos)))
    assert_array_equal(clf.predict(photos), clf.predict(pd.DataFrame({"path": photos})))
    assert clf.n_features_in_ == 1
    assert not recwarn.list


def test_large_jpegs_are_decoded_at_reduced_scale_within_a_tolerance(tmp_path):
    """A JPEG of 8 times the size is decoded at 1/4; features differ by less than 5 % of their norm."""
    small_photo = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(small_photo).resize((2048, 2048), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=92)
    full = np.asarray(Image.open(tmp_path / "large.jpg"))
    from_path, from_array = PretrainedImageEncoder().fit_transform([str(tmp_path / "large.jpg"), full])
    assert not np.array_equal(from_path, from_array)
    assert np.linalg.norm(from_path - from_array) < 0.05 * np.linalg.norm(from_array)


# ------------------------------------------------------------------------------------------------- round trips


def test_fitted_estimators_survive_copy_deepcopy_and_pickle(fitted):
    for restored in (copy.copy(fitted), copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert_array_equal(restored.decision_function(IMAGES[40:50]), fitted.decision_function(IMAGES[40:50]))
        assert restored.module_.head.weight is restored.net_.module_.output.weight


@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_an_estimator_from_a_machine_with_an_accelerator_predicts_on_one_without(fitted, device):
    restored = pickle.loads(pickle.dumps(fitted))
    restored.device_, restored.engine_ = torch.device(device), "torch"
    assert_array_equal(restored.decision_function(IMAGES[40:50]), fitted.decision_function(IMAGES[40:50]))
    assert restored.device_ == torch.device(device)


def test_pickles_of_named_backbones_are_small(fitted):
    fitted.module_  # noqa: B018 - builds the network
    assert len(pickle.dumps(fitted)) < 1_000_000


def test_a_pickle_of_a_callable_backbone_needs_no_callable():
    def local():
        return small_conv_net()

    clf = small(backbone=local).fit(IMAGES[:40], NAMES[:40])
    expected = clf.decision_function(IMAGES[40:50])
    clf.backbone = "efficientnet_lite0"
    restored = pickle.loads(pickle.dumps(clf))
    sktl.clear_cache()
    assert_array_equal(restored.decision_function(IMAGES[40:50]), expected)


def test_clone_is_unfitted_and_equal_in_parameters(fitted):
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(IMAGES[:1])
    assert not hasattr(clone(fitted), "module_")


def test_module_is_backbone_and_linear_layer_and_agrees_with_the_estimator(fitted):
    images = [Image.fromarray(image).convert("RGB") for image in IMAGES[40:44]]
    inputs = torch.stack([fitted.backbone_.preprocessing(image) for image in images])
    with torch.no_grad():
        logits = fitted.module_(inputs).numpy()
    assert_allclose(logits, fitted.decision_function(images), rtol=1e-3, atol=1e-4)
    assert isinstance(fitted.module_.head, torch.nn.Linear)
    assert fitted.module_.head.out_features == len(fitted.classes_)
    assert not any(module.training for module in fitted.module_.modules())


def test_transform_equals_the_encoder_and_set_output_names_the_features(fitted):
    encoder = PretrainedImageEncoder(feature_stages=fitted.feature_stages_, image_size=64).fit(IMAGES[:1])
    assert_array_equal(fitted.transform(IMAGES[:5]), encoder.transform(IMAGES[:5]))
    frame = clone_fitted(fitted).set_output(transform="pandas").transform(IMAGES[:5])
    assert list(frame.columns) == list(fitted.get_feature_names_out())
    assert frame.columns[0] == "pretrainedimageclassifier0"
    frame = encoder.set_output(transform="pandas").transform(IMAGES[:5])
    names = [name.replace("classifier", "encoder") for name in fitted.get_feature_names_out()]
    assert list(frame.columns) == names
    assert names[:1280] == [f"pretrainedimageencoder{i}" for i in range(1280)]


# ------------------------------------------------------------------------------------------ what a fit may touch


def _global_state():
    new_thread: list[int] = []
    thread = threading.Thread(target=lambda: new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is what is watched
    return name, keys.tobytes(), rest, random.getstate(), torch.get_rng_state().numpy().tobytes(), (
        torch.get_num_threads(), *new_thread, torch.is_grad_enabled(), torch.get_default_dtype()
    )  # fmt: skip


@pytest.mark.parametrize("params", [{}, {"random_state": None}, {"weights": None}, {"dropout": 0.5}])
@pytest.mark.filterwarnings("ignore::sktl.exceptions.BackboneWarning")
def test_fit_and_predict_leave_the_state_of_the_process_alone(params):
    sktl.clear_cache()
    before = _global_state()
    PretrainedImageClassifier(**(LOW | params)).fit(IMAGES[:8], NAMES[:8]).predict(IMAGES[8:12])
    assert _global_state() == before


def test_the_state_of_the_process_is_left_alone_when_fit_raises():
    before = _global_state()
    with pytest.raises(InvalidImageError):
        PretrainedImageClassifier(**LOW).fit([IMAGES[0], b"no image"], [0, 1])
    with pytest.raises(TrainingError):
        small(lr=1e300, optimizer="sgd").fit(IMAGES[:40], NAMES[:40])
    assert _global_state() == before


@pytest.mark.thorough
@settings(max_examples=examples(10))
@given(seed=st.integers(0, 2**32 - 1), dropout=st.sampled_from([0.0, 0.3]))
def test_refits_with_the_same_random_state_are_bit_equal(seed, dropout):
    torch.rand(1)
    first, second = (small(random_state=seed, dropout=dropout).fit(IMAGES[:40], NAMES[:40]) for _ in range(2))
    assert_array_equal(first.decision_function(IMAGES), second.decision_function(IMAGES))


def test_other_random_states_give_other_layers():
    first, second = (small(random_state=seed).fit(IMAGES[:40], NAMES[:40]) for seed in range(2))
    assert not np.array_equal(first.decision_function(IMAGES[:9]), second.decision_function(IMAGES[:9]))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::sktl.exceptions.BackboneWarning")
def test_random_weights_come_from_random_state():
    params = {"backbone": "timm/test_resnet", "weights": None}
    first, again, other = (
        PretrainedImageEncoder(**params, random_state=seed).fit_transform(IMAGES[:2]) for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert not np.array_equal(first, other)


class _Interrupt(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.preprocessing = Pixels().preprocessing
        self.seen = 0

    def forward(self, images):
        self.seen += 1
        if self.seen > 3:
            raise KeyboardInterrupt
        return images.flatten(1)


@pytest.mark.thorough
def test_an_error_or_ctrl_c_in_a_refit_leaves_the_previous_fit_intact(fitted):
    clf = clone_fitted(fitted)
    before = vars(clf).copy()
    with pytest.raises(InvalidImageError):
        clf.fit([IMAGES[0], b"no image"], [0, 1])
    assert vars(clf) == before
    clf.backbone = _Interrupt
    with pytest.raises(KeyboardInterrupt):
        clf.fit(IMAGES[:40], NAMES[:40])
    assert {**vars(clf), "backbone": fitted.backbone} == before
    assert_array_equal(clf.predict(IMAGES[40:44]), fitted.predict(IMAGES[40:44]))


def test_ctrl_c_during_training_is_raised_and_leaves_the_previous_fit_intact():
    from skorch.callbacks import Callback

    class CtrlC(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    clf = small().fit(IMAGES[:40], NAMES[:40])
    before = vars(clf).copy()
    clf.net_params = {"callbacks": [CtrlC()]}
    with pytest.raises(KeyboardInterrupt):
        clf.fit(IMAGES[:50], NAMES[:50])
    assert {**vars(clf), "net_params": None} == before


def test_a_refit_on_another_form_forgets_the_number_of_features():
    clf = small(image_shape=(8, 8)).fit(IMAGES[:40].reshape(40, -1), NAMES[:40])
    assert clf.n_features_in_ == 64
    assert clf.fit(IMAGES[:40], NAMES[:40]).n_features_in_ == 1
    assert clf.predict(IMAGES[:2].reshape(2, -1)).tolist() == clf.predict(IMAGES[:2]).tolist()


def test_a_single_column_has_the_name_that_was_fitted_or_none():
    frame = pd.DataFrame({"front": [*IMAGES[:12]]})
    encoder = PretrainedImageEncoder(backbone=Pixels).fit(frame)
    assert (encoder.n_features_in_, encoder.feature_names_in_.tolist()) == (1, ["front"])
    expected = encoder.transform(frame)
    with pytest.raises(InvalidInputError, match="unseen at fit time:\n- back"):
        encoder.transform(frame.rename(columns={"front": "back"}))
    with warnings.catch_warnings(action="error"):
        for X in (frame["front"], IMAGES[:12], [*IMAGES[:12]]):
            assert_array_equal(encoder.transform(X), expected)


def test_ensembles_name_their_outputs_and_put_them_into_data_frames(fitted):
    """scikit-learn asks the first member for its number of columns to find out whether it is fitted."""
    stack = StackingClassifier([("clf", fitted)], cv="prefit", final_estimator=DummyClassifier())
    stack.set_output(transform="pandas").fit(IMAGES[:4], NAMES[:4])
    names = [f"stackingclassifier_clf{i}" for i in range(len(fitted.classes_))]
    assert stack.transform(IMAGES[:4]).columns.tolist() == stack.get_feature_names_out().tolist() == names


class Subclass(PretrainedImageClassifier):
    """Checks its input by scikit-learn, and notes something, before it fits."""

    def fit(self, X, y):
        validate_data(self, X, skip_check_array=True)
        self.notes_ = len(y)
        return super().fit([row.reshape(8, 8) / 16 for row in X], y)


@pytest.mark.thorough
def test_what_a_subclass_sets_before_it_calls_fit_stays_and_is_set_anew_in_a_refit():
    clf = Subclass(**FEW, image_size=32)
    for n in (20, 12):
        clf.fit(DIGITS.data[:n], NAMES[:n])
        assert (clf.notes_, clf.n_features_in_) == (n, 64)
    assert clone(clf).fit(DIGITS.data[:12], NAMES[:12]).notes_ == 12


def test_a_refit_forgets_what_the_fit_before_set():
    clf = PretrainedImageClassifier(random_state=0, image_size=32).fit(IMAGES[:20], NAMES[:20])
    assert clf.module_ is clf.module_
    network = clf.module_
    clf.set_params(weight_decay=0.1, feature_stages=1).fit(IMAGES[:12], NAMES[:12])
    assert not hasattr(clf, "selection_")
    assert clf.module_ is not network


# ----------------------------------------------------------------------------------------- labels and weights


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"], dtype=object),
        np.array([-3, 0, 7]),
        np.array([-3, 0, 7], dtype=object),
        np.array([0.0, 1.0, 2.0]),
        np.array([1, 2, 3], dtype=np.uint8),
        pd.Categorical(["x", "y", "z"]),
        ["p", "q", "r"],
    ],
    ids=str,
)
def test_any_label_type_maps_through_classes(labels):
    codes = np.resize([0, 1, 2], 60)
    y = labels[codes] if not isinstance(labels, list) else [labels[code] for code in codes]
    clf = small(max_epochs=30).fit(IMAGES[:60], y)
    assert list(clf.classes_) == sorted(set(y))
    assert clf.predict(IMAGES[:60]).dtype == clf.classes_.dtype
    assert set(clf.predict(IMAGES[:60])) <= set(y)


def test_score_warns_of_labels_that_look_like_classes(recwarn):
    y = np.where(DIGITS.target[:60] == 0, "n\u00fcll", "other")
    clf = small(max_epochs=30).fit(IMAGES[:60], y)
    right = clf.score(IMAGES[:60], y)
    assert not recwarn.list
    with pytest.warns(InputWarning, match=r"count as wrong: 'nu.u0308ll' looks like 'n.xfcll'.*\(\"NFC\", name\)\.$"):
        assert clf.score(IMAGES[:60], np.char.replace(y, "\u00fc", "u\u0308")) < right
    with warnings.catch_warnings(action="error"):
        assert clf.score(IMAGES[:60], np.char.upper(y)) == 0  # may be other classes, of which a fold has no image


def test_booleans_are_labels(recwarn):
    y = DIGITS.target[:60] == 0
    clf = small(max_epochs=30).fit(IMAGES[:60], y)
    assert clf.classes_.dtype == bool
    assert clf.score(IMAGES[:60], y) > 0.9
    assert clf.score(IMAGES[:60], pd.Series(y, dtype=object)) == clf.score(IMAGES[:60], y)
    recwarn.clear()
    assert clf.score(IMAGES[:60], np.reshape(y, (-1, 1))) == clf.score(IMAGES[:60], y)
    assert not recwarn.list  # as in scikit-learn's `score`
    assert clf.decision_function(IMAGES[:60]).shape == (60,)


CONVEX = dict(optimizer="lbfgs", weight_decay=1.0, max_epochs=200)


def test_weights_count_as_repetitions_and_class_weights_as_sample_weights():
    rng = np.random.default_rng(0)
    repeats = rng.integers(0, 4, 60)
    repeats[:10] = 1
    weighted = small(**CONVEX).fit(IMAGES[:60], NAMES[:60], sample_weight=repeats)
    repeated = small(**CONVEX).fit(IMAGES[:60].repeat(repeats, axis=0), NAMES[:60].repeat(repeats))
    assert_allclose(weighted.predict_proba(IMAGES[60:80]), repeated.predict_proba(IMAGES[60:80]), atol=1e-6)

    balanced = small(**CONVEX, class_weight="balanced").fit(IMAGES[:55], NAMES[:55])
    _, codes, counts = np.unique(NAMES[:55], return_inverse=True, return_counts=True)
    by_hand = small(**CONVEX).fit(IMAGES[:55], NAMES[:55], sample_weight=55 / 10 / counts[codes])
    assert_allclose(balanced.predict_proba(IMAGES[60:80]), by_hand.predict_proba(IMAGES[60:80]), atol=1e-6)


def test_the_scale_of_the_weights_changes_nothing():
    one, ten = (small().fit(IMAGES[:40], NAMES[:40], sample_weight=np.full(40, w)) for w in (1.0, 10.0))
    assert_allclose(one.decision_function(IMAGES[40:60]), ten.decision_function(IMAGES[40:60]), rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------------- bad input

GOOD = IMAGES[:6]
BAD_X = [
    (IMAGES[:0], "empty"),
    ([], "empty"),
    ("cat.jpg", r"a single path.*\[x\]"),
    (IMAGES[:6] / 10.0, r"values up to 25.*X\[0\]|values up to 25"),
    (np.where(np.arange(64).reshape(8, 8) == 9, np.nan, GOOD / 255), r"X\[0\].*NaN"),
    (np.where(np.arange(64).reshape(8, 8) == 9, np.inf, GOOD / 255), r"X\[0\].*infinity"),
    ([*GOOD[:5], "missing.png"], r"X\[5\] \(missing.png\): no such file"),
    ([*GOOD[:5], "."], r"X\[5\] \(\.\): is a directory"),
    ([*GOOD[:5], b"\x89PNG broken"], r"X\[5\] \(bytes\): is a \.png file that is damaged"),
    ([*GOOD[:5], None], r"X\[5\] \(NoneType\)"),
    (DIGITS.data[:6] / 16, r"image_shape=\(8, 8\)"),
    (None, "X is None; it must be"),
]


@pytest.mark.parametrize(("X", "message"), BAD_X, ids=[message for _, message in BAD_X])
def test_bad_images_are_refused_before_training_by_name_and_remedy(X, message):
    for estimator in (small(), PretrainedImageEncoder(backbone=Pixels)):
        with pytest.raises(InvalidInputError, match=message):
            estimator.fit(X, list("ababab")[: len(X) if X is not None else 6]).transform(X)


BAD_Y = [
    (None, "requires y to be passed"),
    ([0, 1], "X has 6 images but y has 2 labels"),
    ([0] * 6, r"only one class, 0; .* If this is one of several labels, some images must have it, and some must not"),
    (["a"] * 6, r"only one class, 'a'; a classifier needs images of at least two classes\.$"),
    ([0.5, 1.5, 2.5, 1, 2, 3], r"Unknown label type: continuous.*For numbers, use PretrainedImageRegressor"),
    (np.zeros((6, 2, 2), dtype=int), "1d array"),
    ([[0], [1, 2], [0], [1], [0], [1]], "y must hold one label"),
    (np.array([0, 1, None, 1, 0, 1]), r"y\[2\] is a missing value"),
    (np.array([0, 1, "a", 1, 0, 1], dtype=object), "mixes labels of types int and str"),
    ([0, 1, "a", 1, 0, 1], "mixes labels of types int and str"),
    (["a", "b", np.nan, "b", "a", "b"], r"y\[2\] is a missing value"),
    (pd.Series(["a", "b", pd.NA, "b", "a", "b"], dtype="string"), r"y\[2\] is a missing value"),
    ([0, 1, np.nan, 1, 0, 1], "NaN"),
    ([*map(np.str_, "ab"), np.nan, *map(np.str_, "bab")], r"y\[2\] is a missing value, NaN"),
    ([*map(np.str_, "ab"), 1, *map(np.str_, "bab")], "mixes labels of types int and str"),
    ([True, 1, 0, 1, 0, 1], "mixes labels of types bool and int"),
    (np.ma.array([0, 1, 0, 1, 0, 1], mask=[0, 0, 1, 0, 0, 0]), r"y\[2\] is a missing value"),
    (iter("ababab"), "is a str_.*iterator.*Pass a list"),
]


@pytest.mark.parametrize(("y", "message"), BAD_Y, ids=[message for _, message in BAD_Y])
def test_bad_labels_are_refused_by_name_and_remedy(y, message):
    with pytest.raises(InvalidInputError, match=message):
        small().fit(GOOD, y)


BAD_WEIGHTS = [
    (np.ones(5), r"sample_weight has shape \(5,\)"),
    (np.zeros(6), "all zero"),
    ([1, 1, -1, 1, 1, 1], r"sample_weight\[2\] is -1"),
    ([1, 1, np.nan, 1, 1, 1], r"sample_weight\[2\] is nan"),
    (["a"] * 6, "sample_weight must hold numbers"),
]


@pytest.mark.parametrize(("weights", "message"), BAD_WEIGHTS, ids=[message for _, message in BAD_WEIGHTS])
def test_bad_sample_weights_are_refused_by_name_and_remedy(weights, message):
    with pytest.raises(InvalidInputError, match=message):
        small().fit(GOOD, list("ababab"), sample_weight=weights)


BAD_PARAMETERS = [
    ({"lr": -1}, "'lr'"),
    ({"lr": "fast"}, "'lr'"),
    ({"max_epochs": 0}, "'max_epochs'"),
    ({"batch_size": 2.5}, "'batch_size'"),
    ({"weight_decay": -1e-9}, "'weight_decay'"),
    ({"optimizer": "adam"}, "optimizer='adam' is unknown"),
    ({"optimizer": int}, "torch.optim.Optimizer"),
    ({"lr_schedule": "step"}, "'lr_schedule'"),
    ({"label_smoothing": 1.0}, "'label_smoothing'"),
    ({"dropout": 1}, "'dropout'"),
    ({"class_weight": "even"}, "'class_weight'"),
    ({"class_weight": {"c": 2.0}}, "class_weight"),
    ({"class_weight": {"a": -1.0}}, "class_weight.*not negative"),
    ({"class_weight": {"a": 0.0, "b": 0.0}}, "class_weight.*not all zero"),
    ({"optimizer": torch.optim.LBFGS}, "has no weight_decay"),
    ({"net_params": {"typo": 1}}, r"net_params\['typo'\]"),
    ({"trainable_stages": 3}, "trainable_stages=3 is not possible.*no trainable parameters"),
    ({"trainable_stages": "some"}, "'trainable_stages'"),
    ({"trainable_stages": True}, 'trainable_stages=True is ambiguous.*"all"'),
    ({"trainable_stages": np.True_}, "trainable_stages=True is ambiguous"),
    ({"image_size": True}, "image_size=True is not a number. Pass image_size=1 if"),
    ({"batch_size": np.True_}, "batch_size=True is not a number"),
    ({"lr": True}, "lr=True is not a number"),
    ({"freeze_epochs": -1}, "'freeze_epochs'"),
    ({"backbone_lr_ratio": 0}, "'backbone_lr_ratio'"),
    ({"layer_decay": 1.1}, "'layer_decay'"),
    ({"augmentation": "heavy"}, "'augmentation'"),
    ({"mixup_alpha": -0.1}, "'mixup_alpha'"),
    ({"early_stopping": True}, "early_stopping=True cannot hold out"),
    ({"validation_fraction": 1.0}, "'validation_fraction'"),
    ({"n_iter_no_change": 0}, "'n_iter_no_change'"),
    ({"amp": True}, "'amp'"),
    ({"compile": 2}, "'compile'"),
    ({"net_params": {1: 2}}, "net_params has the key 1"),
    ({"optimizer": "lbfgs", "trainable_stages": 1}, "trainable_stages=1 has no meaning"),
    ({"optimizer": "lbfgs", "early_stopping": True}, "early_stopping=True has no meaning"),
    ({"trainable_stages": -1}, "'trainable_stages'"),
    ({"image_size": 0}, "'image_size'"),
    ({"image_shape": (8,)}, "image_shape"),
    ({"cache": 3}, "'cache'"),
    ({"n_jobs": 0}, "'n_jobs'"),
    ({"random_state": "seed"}, "'random_state'"),
    ({"net_params": {"lr": 1}}, r"net_params\['lr'\]"),
    ({"net_params": {"optimizer__lr": 1}}, r"net_params\['optimizer__lr'\]"),
    ({"optimizer": "lbfgs", "lr": 0.1}, "lr=0.1 has no meaning"),
    ({"optimizer": "lbfgs", "batch_size": 3}, "batch_size=3 has no meaning"),
    ({"weights": "IMAGENET"}, "callable"),
]


@pytest.mark.parametrize(("params", "message"), BAD_PARAMETERS, ids=[str(params) for params, _ in BAD_PARAMETERS])
def test_bad_parameters_are_refused_by_name(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        small(**params).fit(GOOD, list("ababab"))


@pytest.mark.parametrize("name", ["optimizer__momentum", "net_params__optimizer__momentum"])
def test_an_option_of_the_optimizer_is_no_parameter_but_net_params_takes_it(name):
    search = GridSearchCV(small(), {name: [0.5]}, cv=2)
    with pytest.raises(InvalidParameterError, match=f"^'{name}' is not a parameter of") as caught:
        search.fit(GOOD, list("ababab"))
    value = re.search(r"Set net_params=({.*?})\.", str(caught.value))[1]
    search.set_params(param_grid={"net_params": [eval(value)]}).fit(GOOD, list("ababab"))
    assert search.best_params_ == {"net_params": {"optimizer__momentum": 0.5}}


def test_other_nested_names_are_no_parameters():
    with pytest.raises(InvalidParameterError, match=r"'backbone__x' is not a parameter of .*Set 'backbone'\.$"):
        PretrainedImageEncoder().set_params(backbone__x=1)
    with pytest.raises(ValueError, match="Invalid parameter 'typo'"):
        small().set_params(typo__x=1)
    assert small().set_params(lr=0.5).lr == 0.5


def test_unknown_networks_and_devices_are_refused_with_the_known_ones():
    with pytest.raises(UnknownBackboneError, match="'resnet50'"):
        PretrainedImageClassifier(backbone="resnet-50").fit(GOOD, list("ababab"))
    with pytest.raises(DeviceError, match="'cpu'"):
        small(device="cuda:7").fit(GOOD, list("ababab"))


def test_frozen_random_weights_warn_and_name_the_remedy():
    with pytest.warns(BackboneWarning, match='trainable_stages="all"'):
        PretrainedImageClassifier(backbone="timm/test_resnet", weights=None, max_epochs=1).fit(GOOD, list("ababab"))


def test_a_broken_loss_is_an_error_that_names_epoch_batch_and_remedy():
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+.*Lower lr"):
        small(lr=1e300, optimizer="sgd").fit(IMAGES[:40], NAMES[:40])


# ------------------------------------------------------------------------------------------------------- the cache


def _count_calls(monkeypatch):
    """Count the networks that are built and the rows that pass through their engines, probes aside."""
    counts = {"built": 0, "rows": 0}
    build, load = sktl._backbones.backbone.Backbone.build, sktl._features.engines._load

    def counted_build(self):
        counts["built"] += 1
        return build(self)

    def counted_load(*arguments):
        engine = load(*arguments)
        run = engine.run
        engine.run = lambda pixels: counts.update(rows=counts["rows"] + len(pixels)) or run(pixels)
        return engine

    monkeypatch.setattr(sktl._backbones.backbone.Backbone, "build", counted_build)
    monkeypatch.setattr(sktl._features.engines, "_load", counted_load)
    monkeypatch.setattr(sktl._features.engines, "registry", sktl._features.engines.EngineRegistry())
    sktl.clear_cache()
    return counts


@pytest.mark.thorough
def test_no_image_passes_through_the_network_twice(monkeypatch):
    counts = _count_calls(monkeypatch)
    clf = PretrainedImageClassifier(**LOW).fit(IMAGES[:10], NAMES[:10])
    assert counts == {"built": 1, "rows": 12}  # ten images, and the padding of the last chunk
    clf.fit(IMAGES[:10], NAMES[:10])
    clf.predict(np.concatenate([IMAGES[9:11], IMAGES[10:11]]))
    assert counts == {"built": 1, "rows": 12 + 4}


@pytest.mark.thorough
def test_a_fit_whose_features_are_all_kept_builds_no_network(monkeypatch):
    counts = _count_calls(monkeypatch)
    PretrainedImageClassifier(**LOW).fit(IMAGES[:10], NAMES[:10])
    sktl._features.engines.registry._engines.clear()
    PretrainedImageClassifier(lr=0.1, image_size=64).fit(IMAGES[:10], NAMES[:10])
    assert counts["built"] == 1


def test_a_file_overwritten_in_place_is_embedded_anew(tmp_path):
    path = tmp_path / "image.png"
    encoder = PretrainedImageEncoder(backbone=small_conv_net)
    features = []
    for image in IMAGES[:2]:
        path.write_bytes(png(image))
        features.append(encoder.fit_transform([str(path)]))
    assert not np.array_equal(*features)
    assert_array_equal(np.concatenate(features), encoder.fit_transform(IMAGES[:2]))


def test_without_a_cache_results_are_the_same_and_nothing_is_kept():
    sktl.clear_cache()
    kept = small(backbone=SmallConvNet).fit(IMAGES[:20], NAMES[:20]).decision_function(IMAGES[:30])
    sktl.clear_cache()
    free = small(backbone=SmallConvNet, cache=False).fit(IMAGES[:20], NAMES[:20])
    assert_array_equal(free.decision_function(IMAGES[:30]), kept)
    assert sktl.cache_info().images == 0


def test_all_bad_images_are_reported_together_and_the_good_ones_kept():
    sktl.clear_cache()
    with pytest.raises(InvalidImageError) as caught:
        small().fit([IMAGES[0], b"x", IMAGES[1], b"", IMAGES[2], "missing.png", b"x"], list("ababaab"))
    assert [failure.position for failure in caught.value.failures] == [1, 3, 5, 6]
    assert "the file is empty" in str(caught.value)
    assert sktl.cache_info().images == 3
    assert pickle.loads(pickle.dumps(caught.value)).failures == caught.value.failures


@pytest.mark.thorough
def test_threads_that_fit_at_once_compute_each_image_once(monkeypatch):
    counts = _count_calls(monkeypatch)
    results = []

    def fit():
        results.append(PretrainedImageClassifier(**LOW).fit(IMAGES[:12], NAMES[:12]).decision_function(IMAGES[:12]))

    threads = [threading.Thread(target=fit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {"built": 1, "rows": 12}
    for result in results[1:]:
        assert_array_equal(result, results[0])


def test_changing_ones_own_module_after_a_fit_changes_nothing():
    network = small_conv_net()
    clf = small(backbone=lambda: network).fit(IMAGES[:20], NAMES[:20])
    expected = clf.decision_function(IMAGES[:20])
    network.layers[0].weight.data.zero_()
    sktl.clear_cache()
    sktl._features.engines.registry._engines.clear()
    assert_array_equal(clf.decision_function(IMAGES[:20]), expected)


def test_a_weights_file_that_changed_after_the_fit_is_refused(tmp_path):
    """Its features would be those of other weights, kept under the name of the old ones."""
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    encoder = PretrainedImageEncoder(backbone="timm/test_resnet", weights=path).fit(IMAGES[:2])
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    sktl._features.engines.registry._engines.clear()
    with pytest.raises(WeightsCorruptError, match=r"weights.pth.*changed.*fit again"):
        encoder.transform(IMAGES[:2])


@pytest.mark.thorough
def test_few_images_do_not_make_the_classifier_absurdly_sure():
    clf = PretrainedImageClassifier(random_state=0).fit(IMAGES[:8], np.arange(8) % 2)
    assert np.abs(clf.decision_function(IMAGES[:40])).max() < 30


def test_values_with_a_method_get_params_are_no_estimators():
    """Many transforms of torchvision have one."""
    clf = PretrainedImageClassifier(augmentation=v2.RandomRotation(10), random_state=3)
    copied = clone(clf).set_params(random_state=4)
    assert copied.get_params().keys() == clf.get_params(deep=False).keys()
    assert isinstance(copied.augmentation, v2.RandomRotation)
    assert copied.augmentation is not clf.augmentation
    assert clf.get_params()["random_state"] == 3
