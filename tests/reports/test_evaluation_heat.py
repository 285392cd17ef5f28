"""Maps over images: nothing without heat, pale where the model does not see, and reasons instead of errors."""

from __future__ import annotations

import sys

import numpy as np
from backbones import small_conv_net
from sklearn.linear_model import LogisticRegression

from sktl import PretrainedImageClassifier
from sktl._reports.evaluation_heat import Maps, maps_of, overlaid

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def test_without_heat_the_image_stays_as_it_is():
    np.testing.assert_array_equal(overlaid(IMAGE, np.zeros((6, 8))), IMAGE)


def test_unseen_parts_are_pale_and_hot_parts_are_warm():
    heat = np.zeros((6, 8))
    heat[:, :2], heat[:, 6:] = np.nan, 1
    shown = overlaid(IMAGE, heat)
    assert shown[:, :2].min() >= 165
    assert (shown[:, 6:, 0].astype(int) > shown[:, 6:, 2]).all()  # red above blue
    np.testing.assert_array_equal(shown[:, 2:6], IMAGE[:, 2:6])


def test_maps_of_some_images(monkeypatch):
    X = np.random.default_rng(0).integers(0, 256, (8, 16, 400, 3), np.uint8)
    clf = PretrainedImageClassifier(backbone=small_conv_net, engine="torch", random_state=0, max_epochs=2)
    clf.fit(X, ["a", "b"] * 4)
    maps = maps_of(clf, X, np.array([5, 2]), ["a", "b"])
    assert isinstance(maps, Maps)
    assert maps.targets == ("a", "b")
    assert [picture.shape for picture in maps.pictures] == [(8, 192, 3)] * 2
    assert maps_of(clf, X, np.zeros(0, np.int64), []).pictures == []
    monkeypatch.setitem(sys.modules, "captum", None)
    assert "install captum" in maps_of(clf, X, np.array([5]), ["a"])


def test_other_estimators_have_no_maps():
    assert "LogisticRegression" in maps_of(LogisticRegression(), IMAGE, np.array([0]), ["a"])
