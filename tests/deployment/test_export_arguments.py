"""The images of an export: what each is used for, and errors that name it as it was passed."""

from __future__ import annotations

from copy import copy
from types import SimpleNamespace

import numpy as np
import pytest
from exported import IMAGES, fitted
from PIL import Image

import sktl
from sktl import Preprocessing
from sktl._deployment import export as _export
from sktl._deployment.export_arguments import Images
from sktl._deployment.verification import PixelBatches
from sktl._images.samples import as_samples
from sktl.exceptions import InvalidImageError, InvalidParameterError
from sktl.runtime import document as runtime_document

N = 50
# What `Images.of` reads of an estimator.
ESTIMATOR = SimpleNamespace(
    _as_samples=lambda X, reset: as_samples(X), backbone_=SimpleNamespace(preprocessing=Preprocessing(8, (8, 8)))
)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_each_image_is_compared_or_determines_ranges(precision):
    calibration = None if precision == "float32" else [*np.zeros((N, 8, 8), np.uint8)]
    images = Images.of(ESTIMATOR, precision, calibration, IMAGES)
    assert sorted([*images.for_ranges, *images.compared]) == [*range(len(images.given))]
    assert (len(images.for_ranges) > 0) == (precision == "int8")
    held_out = [images.given[i].argument for i in images.compared]
    assert held_out.count("verify") == len(IMAGES)
    assert ("drawings" in held_out) == (precision == "float32")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_errors_list_all_unusable_images_of_an_argument_by_their_positions_in_it(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "traced", None)
    unusable = [3, 17, 30, 44]
    calibration = [b"not an image" if i in unusable else IMAGES[i % 2] for i in range(N)]
    with pytest.raises(InvalidImageError) as caught:
        sktl.export(fitted("binary"), tmp_path / "m.onnx", precision=precision, calibration=calibration)
    assert ([failure.position for failure in caught.value.failures], caught.value.argument) == (unusable, "calibration")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["ant", "bee\udcff", "cow"], r"'bee\\udcff' in classes_ is not Unicode"),
        (np.arange(3, dtype=np.longdouble), "longdouble, which cannot be exported"),
        (["ant", "bee", "cow"], "3 labels of dtype <U3, too many or too long"),
    ],
)
def test_labels_that_a_file_cannot_hold_are_an_error_before_anything_is_computed(labels, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(_export, "answers_of_estimator", None)
    monkeypatch.setattr(runtime_document, "_MOST_BYTES", 10)
    clf = copy(fitted("classes"))
    clf.classes_ = np.array(labels)
    with pytest.raises(InvalidParameterError, match=reason) as caught:
        sktl.export(clf, tmp_path / "m.onnx")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("argument", ["calibration", "verify"])
def test_errors_about_images_that_have_changed_name_them_as_they_were_passed(argument, tmp_path):
    files = {name: [tmp_path / f"{name}{i}.png" for i in range(N)] for name in ("calibration", "verify")}
    for file in (*files["calibration"], *files["verify"]):
        Image.new("RGB", (8, 8)).save(file)
    images = Images.of(ESTIMATOR, "int8", **files)
    used = [images.given[i] for i in (*images.for_ranges, *images.compared)]
    for position in (0, 20, N - 1):
        files[argument][position].unlink()
        with pytest.raises(InvalidImageError) as caught:
            [*PixelBatches(used, ESTIMATOR.backbone_.preprocessing)]
        assert [failure.position for failure in caught.value.failures] == [position]
        assert caught.value.argument == argument
        Image.new("RGB", (8, 8)).save(files[argument][position])
