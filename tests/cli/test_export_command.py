"""`sktl export`: a file that runs without sktl, and errors in words of the command line."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import run
from exported import IMAGES, TARGETS, answers, pixels_of, run_file
from PIL import Image

import sktl

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
SMALL = {"backbone": "timm/test_efficientnet", "weights": None, "image_size": 32, "random_state": 0, "n_jobs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two models and photos."""
    folder = tmp_path_factory.mktemp("export")
    sktl.PretrainedImageClassifier(**SMALL).fit(IMAGES, TARGETS["classes"]).save(folder / "m.sktl")
    sktl.PretrainedImageEncoder(**SMALL).fit(IMAGES).save(folder / "e.sktl")
    (folder / "photos").mkdir()
    for i, image in enumerate(IMAGES[:6]):
        Image.fromarray(image).save(folder / "photos" / f"{i}.png")
    return folder


@pytest.mark.thorough
def test_a_model_is_exported_and_replaced_only_if_wanted(folder, tmp_path):
    out, _ = run("export", folder / "m.sktl", "-o", tmp_path / "m.pt2", "--verify", folder / "photos", "-q")
    assert out.startswith(f"Wrote '{tmp_path / 'm.pt2'}': classes in float32")
    assert "on 14 images" in out
    clf = sktl.load(folder / "m.sktl")
    found = run_file(tmp_path / "m.pt2", pixels_of(clf, IMAGES))[0]
    np.testing.assert_allclose(found, answers(clf, IMAGES), atol=1e-4)
    before = (tmp_path / "m.pt2").read_bytes()
    _, err = run("export", folder / "e.sktl", "-o", tmp_path / "m.pt2", status=1)
    assert "already exists. Pass --force" in err
    assert (tmp_path / "m.pt2").read_bytes() == before
    out, _ = run("export", folder / "e.sktl", "-o", tmp_path / "m.pt2", "--force", "-q")
    assert "features in float32" in out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-o", "m.h5"], "Error: --output m.h5 does not end in the suffix of a format"),
        (
            ["-o", "m.onnx", "--precision", "int8"],
            "needs calibration images: pass --calibration, at least 40",
        ),
        (
            ["-o", "m.onnx", "--calibration", "photos"],
            "--calibration is for --precision float16 and int8. With",
        ),
        (["-o", "m.pt2", "--max-drop", "0.1"], "--max-drop is for --precision float16 and --precision int8"),
        (
            ["-o", "m.onnx", "--precision", "int8", "--calibration", "photos"],
            "--calibration has 6 images. Pass at least 40 with --precision int8",
        ),
        (["-o", "m.pt2", "--precision", "float16"], "--precision float16 is not possible"),
        (["-o", "missing/m.onnx"], "does not exist"),
        (["-o", "m.onnx", "--verify", "missing"], "missing"),
    ],
)
def test_mistakes_are_errors_in_words_of_the_command_line(folder, options, reason, monkeypatch):
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    _, err = run("export", "m.sktl", *options, "-q", status=1)
    assert reason in err
    assert sorted(folder.iterdir()) == before
