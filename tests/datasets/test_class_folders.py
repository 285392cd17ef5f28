"""Folders above the classes, such as parts, years and cameras, are not learned as classes without a word."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sktl._datasets.dataset_parts import parts_among
from sktl.datasets import load_image_folder, load_image_parts
from sktl.exceptions import ImageFolderWarning, InvalidInputError


def write(root, *folders):
    """Write an image into each of some folders and return their root."""
    for folder in folders:
        Path(root, folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(Path(root, folder, "1.png"))
    return root


def of_each(*upper, lower=("cat", "dog")):
    """Return the paths of the same folders in several folders."""
    return [f"{one}/{name}" for one in upper for name in lower]


WORDS = st.sampled_from(["seg", "asl", "X", "1", "Letters", "été"])
SEPARATORS = st.sampled_from(["_", "-", " ", "."])


@given(st.lists(WORDS, max_size=2), SEPARATORS, st.lists(WORDS, max_size=1), st.sampled_from(["train", "TRN", "Train"]))
def test_names_that_differ_only_in_the_word_for_a_part_are_parts(before, separator, after, train):
    names = [separator.join([*before, word, *after]) for word in (train, "test", "Holdout")]
    assert parts_among(names) == dict(zip(names, ["train", "test", "test"], strict=True))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("train dev", ["train", "val"]),
        ("trainset TestData", ["train", "test"]),
        ("XTrain XTest", ["train", "test"]),
        ("seg_train seg_test seg_pred", ["train", "test"]),
        ("train2017 val2017 test", ["train", "val", "test"]),
        ("trainval eval", ["train", "other"]),
        ("bullet_train crash_test", []),
        ("train_station airport", []),
        ("trains retrain contest invalid device", []),
        ("vehicle_test vehicle_evaluation invoice", []),
        ("blood_test blood_training other", []),
        ("test evaluation invoice", ["test"]),
        ("evaluation exam", []),
    ],
)
def test_words_for_parts(names, parts):
    assert [*parts_among(names.split()).values()] == parts


@pytest.mark.parametrize(
    ("upper", "reads_all"),
    [
        (("train", "dev"), True),
        (("train", "holdout"), False),
        (("trn", "val"), False),
        (("seg_train", "seg_test"), False),
        (("X_train", "X_test"), False),
        (("1_train", "2_test"), False),
    ],
)
def test_parts_by_other_names_are_refused(upper, reads_all, tmp_path):
    write(tmp_path, *of_each(*upper))
    with pytest.raises(InvalidInputError, match="which are parts of a dataset, not classes") as error:
        load_image_folder(tmp_path)
    assert f"'{tmp_path / upper[0]}'" in str(error.value)
    assert ("load_image_parts" in str(error.value)) == reads_all
    if reads_all:
        load_image_parts(tmp_path)


@pytest.mark.parametrize(
    "folders",
    [
        [*of_each("train", "query")],
        [*of_each("train"), "unlabeled"],
        [*of_each("train"), *of_each("test_with_labels")],
        [*of_each("seg_train"), *of_each("train")],
        [*of_each("train", lower="01"), "extra"],
    ],
)
def test_a_part_beside_an_unknown_name_is_doubted_once(folders, tmp_path):
    write(tmp_path, *folders)
    with pytest.warns(ImageFolderWarning, match="If 'train' is a part of a dataset") as record:
        found = load_image_folder(tmp_path)
    assert len(record) == 1
    assert found.target_names == sorted({folder.split("/")[0] for folder in folders})
    advised = re.search(r"pass '(.*)'\.", str(record[0].message))[1]
    assert Path(advised) == tmp_path / "train"
    assert load_image_folder(advised).target_names == sorted(
        {folder.split("/")[1] for folder in folders if folder.startswith("train")}
    )


@pytest.mark.parametrize(
    "folders",
    [
        of_each("2024", "2025"),
        of_each("camera A", "camera B", lower=("ok", "defect")),
        of_each("fold0", "fold1", "fold2"),
        of_each("2024-03-01", "2024-04-01"),
        of_each("batch_1", "batch_2", "batch_10"),
        of_each("siteA", "siteB"),
        [*of_each("Camera 1", "Camera 2"), "Camera 2/owl/x"],
    ],
)
def test_classes_below_years_and_cameras_are_doubted_once_and_both_readings_are_right(folders, tmp_path):
    write(tmp_path, *folders)
    with pytest.warns(ImageFolderWarning, match="of the same names.*Otherwise, nothing needs to be done") as record:
        found = load_image_folder(tmp_path)
    assert len(record) == 1
    assert found.target_names == sorted({folder.split("/")[0] for folder in folders})
    code = re.search(r"pass y = (\[.*?for path in data\])\.", str(record[0].message))[1]
    lower = [folder.split("/")[1] for folder in folders]
    assert sorted(eval(code, {"Path": Path, "data": found.data})) == sorted(lower)
    joined = load_image_folder(tmp_path, nested="join")  # a warning would be an error
    assert joined.target_names == sorted(folders)


def test_the_advice_about_a_long_path_works(tmp_path):
    root = tmp_path / ("x" * 120) / ("y" * 120)
    write(root, *of_each("2024", "2025"))
    with pytest.warns(ImageFolderWarning, match="of the same names") as record:
        found = load_image_folder(root)
    code = re.search(r"pass y = (\[.*?for path in data\])\.", str(record[0].message))[1]
    assert eval(code, {"Path": Path, "data": found.data}) == ["cat", "dog"] * 2


def test_two_folders_for_one_part_are_not_said_to_be_read(tmp_path):
    write(tmp_path, *of_each("train", "val", "valid"))
    with pytest.raises(InvalidInputError, match="parts of a dataset") as error:
        load_image_folder(tmp_path)
    assert "load_image_parts" not in str(error.value)


SOURCES = [
    ("p01", "p02", "p03"), ("s1", "s2"), ("40X", "100X", "200X", "400X"), ("siteA", "siteB"), ("1", "2", "3"),
    ("001", "002"), ("Jan 2024", "Feb 2024"), ("left", "right"), ("front", "side"), ("male", "female"),
    ("raw", "augmented"), ("original", "mirrored"), ("images", "extra"), ("London", "Paris"), ("canon", "nikon"),
    ("256px", "512px"), ("rot0", "rot90"), ("morning1", "evening1"), ("2024-01-02", "2024-01-03"),
]  # fmt: skip


@pytest.mark.parametrize("lower", SOURCES)
@pytest.mark.parametrize(
    "upper", [("benign", "malignant"), ("grade 0", "grade 1"), ("class_0", "class_1"), ("A", "B"), ("0", "1")]
)
def test_sources_below_classes_cause_no_warning(upper, lower, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image_folder(write(tmp_path, *of_each(*upper, lower=lower)))


@pytest.mark.parametrize(
    "folders",
    [
        of_each("1990", "2000", lower=("cam1", "cam2")),
        of_each("1990", "2000", lower=("left", "right")),
        of_each("camera A", "camera B", lower=("day", "night")),
        ["2024/cat", "2025/dog", "2024/owl", "2025/owl"],
        [*of_each("2024"), "2025"],
        ["bus", "car", *of_each("train", lower=("steam", "diesel"))],
        of_each("bus", "car", "train", lower=("day", "night")),
        of_each("bus", "car", "train", lower=("photo", "sketch")),
        ["steam", "horse", *of_each("train", lower=("steam", "diesel"))],
        of_each("valid", "invalid", lower=("front", "back")),
        of_each("test", "quiz", lower=("math", "art")),
        of_each("evaluation", "exam", lower=("math", "art")),
        of_each("dev", "ops", "sales", lower=("x", "y")),
        [*of_each("vehicle_test", "vehicle_evaluation", lower=("a", "b")), "invoice"],
        [*of_each("blood_test", "blood_training", lower=("a", "b")), "other"],
        [*of_each("test", "evaluation", lower=("a", "b")), "invoice"],
        of_each("cat", "dog", lower=("2024", "2025")),
        of_each("bus", "car", "train", lower=("2023", "2024")),
        of_each("cat", "dog", lower=("camera A", "camera B")),
        of_each("cat", "dog", lower=("batch1", "batch2")),
        of_each("cat", "dog", lower=("images",)),
        ["2023", "2024"],
        ["cat/Siamese", "cat/sphynx", "dog/pug", "dog/collie"],
        ["cat/Siamese", "cat/other", "dog/pug", "dog/other"],
        [*of_each("cat", "dog"), "owl"],
        ["train/steam", "bus/old"],
        [*of_each("train", lower=("steam", "diesel")), "bus", "car", "plane", "ship"],
        ["train_station/in", "train_station/out", "test_track/a"],
    ],
)
def test_ordinary_classes_cause_no_warning(folders, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_image_folder(write(tmp_path, *folders))
    assert found.target_names == sorted({folder.split("/")[0] for folder in folders})


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "_todo", "to_label", "TO DO", "unsorted", "trash"])
def test_images_without_a_label_are_not_learned_as_a_class_without_a_word(name, tmp_path):
    write(tmp_path, "cat", "dog", name)
    with pytest.warns(ImageFolderWarning, match=f"has the class '{name}'. If these images have no class yet"):
        found = load_image_folder(tmp_path)
    assert name in found.target_names


@pytest.mark.parametrize(
    "names", ["cat dog unknown other background", "glass paper trash", "plastic_bag trash", "accepted rejected", "todo"]
)
def test_classes_that_only_look_unlabeled_are_classes(names, tmp_path):
    write(tmp_path, *names.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image_folder(tmp_path).target_names == sorted(names.split())


def test_joined_classes_may_have_upper_folders_that_differ_in_case_only(tmp_path):
    write(tmp_path, "A/x", "a/y", "caf\u00e9/x", "cafe\u0301/y")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageFolderWarning)
        names = load_image_folder(tmp_path, nested="join").target_names
    assert len(names) == len(set(names)) == 4
