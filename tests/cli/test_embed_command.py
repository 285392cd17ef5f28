"""`sktl embed`: features in a file, resumed, checked, and with the messages of the command line."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from command_line import run
from numpy.testing import assert_array_equal
from PIL import Image

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._cli.embed_command import _names
from sktl._cli.image_sources import ImageSource
from sktl.datasets import load_features

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
QUICK = ["--image-size", "32", "--n-jobs", "1", "-q"]
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), np.uint8)


@pytest.fixture
def photos(tmp_path):
    for i, image in enumerate(IMAGES):
        folder = tmp_path / "photos" / ("lemon", "sky")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return tmp_path / "photos"


def test_a_folder_of_classes(photos, tmp_path):
    out, err = run("embed", photos, "-o", tmp_path / "f.parquet", "--images-per-part", "5", *QUICK)
    assert out == f"Wrote 4,960 features of 12 images to {tmp_path / 'f.parquet'}.\n"
    assert err == ""
    found = load_features(tmp_path / "f.parquet")
    assert found.target_names == ["lemon", "sky"]
    assert found.data.names.tolist()[:2] == ["lemon/00.png", "lemon/02.png"]
    encoder = PretrainedImageEncoder(image_size=32, feature_stages="all")
    assert_array_equal(np.asarray(found.data), encoder.fit_transform([*IMAGES[::2], *IMAGES[1::2]]))
    clf = PretrainedImageClassifier(image_size=32, random_state=0).fit(found.data, found.target)
    assert clf.classes_.tolist() == ["lemon", "sky"]


def test_decisions_about_training_images_are_applied(photos, tmp_path):
    rows = ["part,position,name,decision,label", "train,0,lemon/00.png,relabel,sky", "train,1,lemon/02.png,drop,"]
    (tmp_path / "d.csv").write_text("\n".join(rows))
    _, err = run("embed", photos, "--decisions", tmp_path / "d.csv", "-o", tmp_path / "f.parquet", *QUICK)
    assert f"Dropped 1 and relabeled 1 of 12 images by {tmp_path / 'd.csv'}." in err
    found = load_features(tmp_path / "f.parquet")
    assert found.data.names.tolist()[:2] == ["lemon/00.png", "lemon/04.png"]
    assert found.target.tolist() == ["sky"] + ["lemon"] * 4 + ["sky"] * 6


def test_the_file_is_the_same_wherever_the_folder_is(photos, tmp_path, monkeypatch):
    run("embed", photos, "-o", tmp_path / "a.parquet", *QUICK)
    monkeypatch.chdir(photos.parent)
    run("embed", "photos", "-o", "b.parquet", *QUICK)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_folder_without_classes_and_a_table(photos, tmp_path):
    run("embed", photos / "sky", "--unlabeled", "-o", tmp_path / "parts", "--feature-stages", "1", *QUICK)
    found = load_features(tmp_path / "parts")
    assert found.target is None
    assert found.data.shape == (6, 1280)
    table = tmp_path / "labels.csv"
    table.write_text("file,water,trees\n" + "".join(f"photos/sky/{i:02}.png,{i % 4 // 2},1\n" for i in (1, 3, 5)))
    for i, arguments in enumerate((["--labels", table], [table])):
        run("embed", *arguments, "-o", tmp_path / f"t{i}.parquet", *QUICK)
        found = load_features(tmp_path / f"t{i}.parquet")
        assert found.target_names == ["water", "trees"]
        assert_array_equal(found.target, [[0, 1], [1, 1], [0, 1]])
        assert found.data.names.tolist() == ["photos/sky/01.png", "photos/sky/03.png", "photos/sky/05.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_class_whose_name_is_not_utf8(photos, tmp_path):
    os.rename(photos / "sky", os.fsencode(photos) + b"/caf\xe9")
    run("embed", photos, "-o", tmp_path / "f.parquet", *QUICK)
    found = load_features(tmp_path / "f.parquet")
    assert found.target_names == [r"caf\udce9", "lemon"]
    assert found.data.names[0] == r"caf\udce9/01.png"


@pytest.mark.parametrize("name", ["f.csv", "f.npz", "f.PARQUET"])
def test_files_of_other_formats_are_refused(photos, tmp_path, name):
    _, err = run("embed", photos, "-o", tmp_path / name, status=1)
    assert f"{name} does not end in .parquet. Rename it, or pass a folder, such as '{tmp_path / 'f'}/'." in err
    assert not (tmp_path / name).exists()


def test_features_are_not_written_between_the_images(photos, monkeypatch):
    before = sorted(photos.rglob("*"))
    monkeypatch.chdir(photos)
    for folder in (photos, "../photos/"):
        _, err = run("embed", photos, "-o", folder, *QUICK, status=1)
        assert f"{folder} is the folder of the images. Pass another folder, or a file that ends in .parquet." in err
    _, err = run("embed", photos, "-o", "-", *QUICK, status=2)
    assert "it is not written to standard output" in err
    assert sorted(photos.rglob("*")) == before


def test_images_that_cannot_be_used_are_left_out_and_listed(photos, tmp_path):
    (photos / "sky" / "bad.png").write_text("no image")
    for _ in range(2):  # also if nothing is left to compute
        out, err = run("embed", photos, "-o", tmp_path / "f.parquet", *QUICK, status=1)
        assert "of 12 images" in out
        assert err.count(f"{photos / 'sky' / 'bad.png'}: is not an image") == 1
        assert "invalid_images" not in err
    assert len(load_features(tmp_path / "f.parquet").data) == 12


def test_other_content_is_replaced_only_if_wanted(photos, tmp_path):
    target = tmp_path / "f.parquet"
    run("embed", photos, "-o", target, *QUICK)
    before = target.read_bytes()
    _, err = run("embed", photos, "-o", target, "--feature-stages", "1", *QUICK, status=1)
    assert "holds features of 6 stages of --backbone efficientnet_lite0" in err
    assert "Pass --force to replace it, or another path." in err
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.parquet", "photos"]
    run("embed", photos, "-o", target, "--feature-stages", "1", "--force", *QUICK)
    assert load_features(target).data.shape == (12, 1280)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["photos", "--unlabeled", "--labels", "t.csv"], 2, "Pass either --unlabeled or --labels"),
        ([], 2, "Missing argument 'FOLDER'"),
        (["missing"], 1, "missing"),
        (["photos", "--backbone", "resnet17"], 1, "--backbone resnet17 is not known"),
    ],
)
def test_mistakes(arguments, status, message, photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    _, err = run("embed", *arguments, "-o", "f.parquet", *QUICK, status=status)
    assert message in err
    assert [path.name for path in photos.parent.iterdir()] == ["photos"]


def test_an_image_on_another_drive_keeps_its_whole_path(monkeypatch):
    def relative(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", relative)
    path = os.path.abspath("1.png")
    assert _names([path], ImageSource("photos", None)) == [path.replace(os.sep, "/")]
