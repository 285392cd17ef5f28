"""Warnings point at the line of the user's that led to them."""

from __future__ import annotations

import io
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from backbones import Pixels
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._utils.warnings import warn
from sktl.datasets import load_image_folder
from sktl.exceptions import BackboneWarning, ImageFolderWarning, InvalidImageWarning

X = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
Y = np.tile(["cat", "dog"], 12)
pytestmark = pytest.mark.filterwarnings("always")


class Undeclared(torch.nn.Module):
    """Says nothing of what it expects."""

    def forward(self, images):
        return images.mean((2, 3))


def here(caught, kind):
    """Tell whether all warnings of a kind point into this file, and that there are some."""
    return {warning.filename for warning in caught if warning.category is kind} == {__file__}


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"weights": None, "freeze_epochs": 0}, BackboneWarning),
        ({"optimizer": "lbfgs", "max_epochs": 1}, ConvergenceWarning),
        ({"invalid_images": "skip"}, InvalidImageWarning),
        ({"backbone": Undeclared}, BackboneWarning),
    ],
)
@pytest.mark.parametrize("way", ["fit", "pipeline", "search"])
def test_warnings_of_a_fit_point_at_the_call_that_led_to_it(params, kind, way):
    clf = PretrainedImageClassifier(**{"backbone": Pixels, "random_state": 0} | params)
    images, labels = ([*X, b"no image"], [*Y, "cat"]) if "invalid_images" in params else (list(X), list(Y))
    folds = [(np.arange(len(labels)), np.arange(8))]  # no score of an invalid image
    estimator = {
        "fit": lambda: clf,
        "pipeline": lambda: make_pipeline(clf),
        "search": lambda: GridSearchCV(clf, {"max_epochs": [1]}, cv=folds, error_score="raise"),
    }[way]()
    with pytest.warns(kind) as caught:
        estimator.fit(images, labels)
    assert here(caught, kind)


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_warnings_of_an_encoder_do_too(method):
    encoder = PretrainedImageEncoder(backbone=Undeclared)
    for estimator in (encoder, make_pipeline(encoder, LogisticRegression())):
        if hasattr(estimator, method):
            with pytest.warns(BackboneWarning) as caught:
                getattr(estimator, method)(X, Y)
            assert here(caught, BackboneWarning)


def test_warnings_of_functions_do_too(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "a.png").write_bytes(b"")
    with pytest.warns(ImageFolderWarning) as caught:
        load_image_folder(tmp_path)
    assert here(caught, ImageFolderWarning)


def test_a_thread_without_a_line_of_the_users_warns_where_the_reason_was_found():
    """Threads of a pool end in the standard library, and a warning must not be lost for it."""
    code = compile("def look(): warn('hot', RuntimeWarning)", "deep.py", "exec")
    names = {"__name__": "sktl._features.engines", "warn": warn}
    exec(code, names)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        thread = threading.Thread(target=names["look"])
        thread.start()
        thread.join()
    assert [(str(w.message), w.filename) for w in found] == [("hot", "deep.py")]


def test_a_warning_survives_closed_streams(monkeypatch):
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    # As Python prints them; pytest records them instead.
    monkeypatch.setattr(warnings, "showwarning", lambda message, *rest: sys.stderr.write(str(message)))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warn("nobody reads this", UserWarning)
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):
            warn("an error", UserWarning)
