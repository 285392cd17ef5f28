"""Parts for training, validation and test are read as such when asked, and nothing is guessed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sktl._datasets.dataset_parts import part_of
from sktl.datasets import load_image_folder, load_image_parts, load_label_table
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError


def write(root, *names):
    """Write images below a folder and return it."""
    for name in names:
        file = Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(file, "PNG")
    return root


def content(root, part):
    return [
        (Path(path).relative_to(root).as_posix(), label) for path, label in zip(part.data, part.target, strict=True)
    ]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("train Training TRAIN train_images train-set trainset", "train"),
        ("val valid Validation dev val_set validation-data", "val"),
        ("test testing Test test_images", "test"),
        ("eval evaluation trains train1 retrain images cat text", None),
    ],
)
def test_names_of_parts(names, part):
    assert {part_of(name) for name in names.split()} == {part}


@pytest.mark.parametrize("order", ["{part}/{label}/{i}.png", "{label}/{part}/{i}.png"])
def test_parts_are_those_of_the_folders(tmp_path, order):
    names = {"train": "train_images", "val": "Validation", "test": "testing"}
    for k, folder in enumerate(names.values()):
        for label in ("cat", "dog"):
            write(tmp_path, *[order.format(part=folder, label=label, i=i) for i in range(k + 1)])
    parts = load_image_parts(tmp_path)
    assert list(parts) == ["train", "val", "test"]
    for k, (part, folder) in enumerate(names.items()):
        expected = [
            (order.format(part=folder, label=label, i=i), label) for label in ("cat", "dog") for i in range(k + 1)
        ]
        assert content(tmp_path, parts[part]) == expected
        assert parts[part].target_names == ["cat", "dog"]
    if order.startswith("{part}"):
        alone = load_image_folder(tmp_path / "train_images")
        assert parts.train.data.tolist() == alone.data.tolist()


@given(st.permutations(["train/cat", "train/dog", "test/cat"]))
def test_a_class_may_be_absent_from_the_test(tmp_path_factory, names):
    root = write(tmp_path_factory.mktemp("x"), *[f"{name}/1.png" for name in names])
    assert load_image_parts(root).test.target_names == ["cat"]


def test_classes_without_training_images_are_told(tmp_path):
    write(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/lynx/1.png")
    with pytest.warns(ImageFolderWarning, match="part test of .* has classes without training images: 'lynx'"):
        load_image_parts(tmp_path)


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (["images/train/cat", "images/train/dog/1", "images/test/cat"], "in 'cat', 'dog'. If .* pass '.*images'."),
        (["p/train/2025", "p/train/2026", "d/train/2025", "d/train/2026"], None),
        (["cat/train/images"], None),
        (["cat/train", "cat/train/Siamese", "cat/train/sphynx"], None),
    ],
)
def test_the_only_class_folder_above_the_parts_that_may_hold_the_classes_is_told(tmp_path, names, advice, recwarn):
    write(tmp_path, *[f"{name}/1.png" for name in names])
    for folder in {name.split("/")[0] for name in names}:
        (tmp_path / folder / "train" / "annotations").mkdir()
        (tmp_path / folder / "train" / "annotations" / "1.xml").write_text("<a/>")
    assert set(load_image_parts(tmp_path).train.target) == {name.split("/")[0] for name in names}
    told = [str(warning.message) for warning in recwarn if "has one class" in str(warning.message)]
    assert len(told) == bool(advice)
    assert all(re.search(advice, text) for text in told)
    recwarn.clear()
    if advice:
        load_image_parts(tmp_path, nested="join")
    assert not any("has one class" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/cat/1.png", "extra/cat/1.png"], "subfolders that are not parts: 'extra'"),
        (["val/cat/1.png", "valid/cat/1.png", "train/cat/1.png"], "two folders for the same part: 'val', 'valid'"),
        (["test/cat/1.png"], "no part for training"),
        (["train/cat/1.png", "1.png"], "images beside its parts"),
        (["cat/train/1.png", "dog/1.png"], "dog' has no parts"),
        (["cat/train/1.png", "dog/train/1.png", "dog/2.png"], "dog' has images beside its parts"),
        (["cat/train/1.png", "dog/best/1.png"], "not parts: 'best'"),
        (["cat/test/1.png"], "no part for training"),
        (["1.png"], "has no subfolders"),
        (["train/cat/1.png", "test/1.png"], "has no subfolders. It needs one per class"),
        (["train/images/1.png", "train/labels/1.png"], "object detection"),
    ],
)
def test_other_layouts_are_refused_with_what_is_wrong(tmp_path, names, message):
    with pytest.raises(InvalidInputError, match=message):
        load_image_parts(write(tmp_path, *names))


def test_parts_are_mentioned_where_they_were_not_asked_for(tmp_path):
    write(tmp_path / "a", "train/cat/1.png", "test/cat/1.png")
    with pytest.raises(InvalidInputError, match="load_image_parts reads all"):
        load_image_folder(tmp_path / "a")
    write(tmp_path / "b", "cat/train/1.png", "cat/test/1.png", "dog/train/1.png")
    with pytest.warns(ImageFolderWarning, match="subfolders test, train, .*read as one set. load_image_parts reads"):
        assert len(load_image_folder(tmp_path / "b").data) == 3


# --------------------------------------------------------------------------------------------------- nested folders


def test_nested_folders_are_merged_or_joined(tmp_path):
    write(tmp_path, "cat/Siamese/1.png", "cat/sphynx/2.png", "dog/3.png", "dog2/old/er/4.png")
    merged, joined = load_image_folder(tmp_path), load_image_folder(tmp_path, nested="join")
    assert merged.target.tolist() == ["cat", "cat", "dog", "dog2"]
    assert joined.target_names == ["cat/Siamese", "cat/sphynx", "dog", "dog2/old/er"]
    assert joined.target.tolist() == joined.target_names
    assert [os.path.basename(path) for path in joined.data] == ["1.png", "2.png", "3.png", "4.png"]
    write(tmp_path / "parts", "train/cat/Siamese/1.png", "test/cat/Siamese/1.png")
    write(tmp_path / "above", "cat/train/Siamese/1.png", "cat/test/Siamese/1.png")
    for order in ("parts", "above"):
        assert load_image_parts(tmp_path / order, nested="join").test.target_names == ["cat/Siamese"]


def test_a_folder_that_is_a_class_and_holds_classes_is_refused(tmp_path):
    write(tmp_path, "cat/1.png", "cat/Siamese/2.png", "cats/3.png")
    with pytest.raises(InvalidInputError, match=r"'cat' has images, and so has 'cat/Siamese'.*nested=\"merge\""):
        load_image_folder(tmp_path, nested="join")
    with pytest.raises(InvalidParameterError, match="nested='deep' must be 'merge' or 'join'"):
        load_image_folder(tmp_path, nested="deep")


# ----------------------------------------------------------------------------------------------------------- tables


def test_a_table_beside_flat_images_is_mentioned(tmp_path):
    write(tmp_path, "1.png")
    (tmp_path / "labels.csv").write_text("file,label\n1.png,cat\n")
    with pytest.raises(
        InvalidInputError, match=r"If 'labels\.csv' holds the labels of the images, use load_label_table"
    ):
        load_image_folder(tmp_path)
    assert load_label_table(tmp_path / "labels.csv").target.tolist() == ["cat"]


def test_a_table_may_hold_urls(tmp_path):
    write(tmp_path, "1.png")
    urls = ["https://host/a//../1.png?id=1", "s3://bucket/2.png"]
    rows = "".join(f"{name},{label}\n" for name, label in zip([*urls, "1.png", urls[0]], "abca", strict=True))
    (tmp_path / "t.csv").write_text(f"file,label\n{rows}")
    with pytest.warns(ImageFolderWarning, match="row 5"):
        found = load_label_table(tmp_path / "t.csv")
    assert found.data.tolist() == [*urls, str(tmp_path / "1.png")]
    np.testing.assert_array_equal(found.target, list("abc"))
    (tmp_path / "t.csv").write_text("file,label\nhttps://me:secret@host/1.png,a\nhttps://me:secret@host/1.png,b\n")
    with pytest.raises(InvalidInputError, match="different values for the same image") as caught:
        load_label_table(tmp_path / "t.csv")
    assert "secret" not in str(caught.value)


def test_folders_at_urls_are_refused_without_their_secrets():
    with pytest.raises(InvalidInputError, match="Folders at URLs are not listed") as caught:
        load_image_folder("s3://me:secret@bucket/train")
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take such names for one")
def test_classes_of_a_part_that_look_like_training_classes_are_told_with_a_remedy(tmp_path):
    write(tmp_path, "train/Ka\u0308se/1.png", "train/Tee/1.png", "test/K\u00e4se/1.png")
    with pytest.warns(ImageFolderWarning, match=r"never predicts them\. 'K.xe4se' looks like 'Ka.u0308se'.*\(\"NFD\""):
        load_image_parts(tmp_path)
