"""A folder of class folders becomes sorted paths and labels; whatever is left out is told."""

from __future__ import annotations

import io
import os
import string
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sktl._images import as_samples
from sktl._pixels import decode
from sktl._preprocessing import Preprocessing
from sktl.datasets import load_image_folder, make_cats, make_leaves, make_radiographs, make_surface_defects
from sktl.exceptions import ImageFolderWarning, InvalidInputError, InvalidParameterError


def saved(format_="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), "teal").save(buffer, format_)
    return buffer.getvalue()


PNG = saved()


def write(root, *names, content=PNG):
    """Write files below a folder and return it."""
    for name in names:
        file = Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def names_of(paths, root):
    return [Path(path).relative_to(root).as_posix() for path in paths]


# Names that differ on file systems that ignore case, and are hidden on none.
WORDS = st.text(string.ascii_lowercase + string.digits + "_- äßéñ日本語", min_size=1, max_size=6).filter(
    lambda word: word == word.strip()
)
TREES = st.dictionaries(
    WORDS, st.sets(st.lists(WORDS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4), min_size=1, max_size=4
)


@settings(max_examples=30)
@given(tree=TREES)
def test_data_is_every_image_sorted_by_class_and_path_with_its_class(tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for label, files in tree.items():
        for parts in files:
            # Folders and files of the same name get different endings.
            write(root, "/".join([label, *(f"{part}.d" for part in parts[:-1]), f"{parts[-1]}.png"]))
    found = load_image_folder(root)
    expected = [
        (label, str(Path(root, label, *[f"{part}.d" for part in parts[:-1]], f"{parts[-1]}.png")))
        for label, files in tree.items()
        for parts in files
    ]
    assert list(zip(found.target, found.data, strict=True)) == sorted(expected)
    assert found.target_names == sorted(tree) == np.unique(found.target).tolist()
    assert found.ignored == []
    assert (found.data.ndim, found.data.dtype.kind, found.target.dtype.kind) == (1, "U", "U")


def test_str_and_path_give_the_same(tmp_path, monkeypatch):
    write(tmp_path, "pets/cat/1.png", "pets/dog/1.png")
    monkeypatch.chdir(tmp_path)
    for folder in ("pets", "pets" + os.sep, tmp_path / "pets", str(tmp_path / "pets")):
        found = load_image_folder(folder)
        assert [os.path.realpath(path) for path in found.data] == [
            str(Path(tmp_path.resolve(), "pets", label, "1.png")) for label in ("cat", "dog")
        ]
        assert found.target.tolist() == ["cat", "dog"]


def test_every_path_is_a_sample_that_decodes(tmp_path):
    found = load_image_folder(write(tmp_path, "cat/1.png", "dog/a/b/ü.png"))
    for sample in as_samples(found.data):
        assert decode(sample.read(), Preprocessing(8, (8, 8))).size == (4, 3)


def test_hidden_files_and_folders_are_left_out_in_silence(tmp_path):
    write(tmp_path, "cat/1.png", "cat/.hidden.png", "cat/.thumbs/1.png", "cat/a/.b/1.png", ".git/1.png", ".DS_Store")
    write(
        tmp_path, "cat/.DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "Thumbs.db", "__MACOSX/cat/1.png", content=b"x"
    )
    found = load_image_folder(tmp_path)
    assert names_of(found.data, tmp_path) == ["cat/1.png"]
    assert found.target_names == ["cat"]
    assert found.ignored == []


def test_a_folder_of_resource_forks_below_a_class_is_hidden_too(tmp_path):
    write(tmp_path, "cat/1.png", "cat/__MACOSX/1.png")
    assert names_of(load_image_folder(tmp_path).data, tmp_path) == ["cat/1.png"]


def test_other_files_are_left_out_with_a_warning_that_names_them(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png", "loose.png")
    write(tmp_path, "cat/notes.txt", "dog/a/labels.csv", "README", content=b"some text\n")
    with pytest.warns(ImageFolderWarning, match=r"4 files in .* are left out.*notes\.txt.*`ignored`") as record:
        found = load_image_folder(tmp_path)
    assert record[0].filename == __file__
    assert sorted(names_of(found.ignored, tmp_path)) == ["README", "cat/notes.txt", "dog/a/labels.csv", "loose.png"]
    assert names_of(found.data, tmp_path) == ["cat/1.png", "dog/1.png"]


def test_the_warning_lists_a_few_and_the_attribute_all(tmp_path):
    write(tmp_path, "cat/1.png")
    write(tmp_path, *[f"cat/{i}.txt" for i in range(12)], content=b"text")
    with pytest.warns(ImageFolderWarning, match="12 files .* and 7 more"):
        assert len(load_image_folder(tmp_path).ignored) == 12


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.txt", "photo.JPG.bak", "photo.2024"])
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_that_decodes_is_an_image_whatever_its_ending(format_, name, tmp_path):
    write(tmp_path, f"cat/{name}", content=saved(format_))
    assert names_of(load_image_folder(tmp_path).data, tmp_path) == [f"cat/{name}"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png", ".PnG", ".webp", ".tif", ".tiff", ".bmp", ".gif"])
def test_a_damaged_image_is_kept_for_fit_to_name(suffix, tmp_path):
    write(tmp_path, f"cat/1{suffix}", content=b"damaged")
    assert names_of(load_image_folder(tmp_path).data, tmp_path) == [f"cat/1{suffix}"]


# Pillow recognises these, but cannot decode them itself, or they are no images.
STUBS = {
    "features.h5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "weather.grib": b"GRIB" + bytes(3) + b"\1" + bytes(100),
    "weather.bufr": b"BUFR" + bytes(100),
    "film.mpg": bytes.fromhex("000001b3") + b"\x10\x00\x10" + bytes(100),
}


@pytest.mark.parametrize("name", STUBS)
def test_what_pillow_only_recognises_is_no_image(name, tmp_path):
    write(write(tmp_path, "cat/1.png"), f"cat/{name}", content=STUBS[name])
    with pytest.warns(ImageFolderWarning, match=name.replace(".", r"\.")):
        found = load_image_folder(tmp_path)
    assert names_of(found.data, tmp_path) == ["cat/1.png"]


@settings(max_examples=100)
@given(text=st.text(max_size=60))
def test_text_is_no_image(text, tmp_path_factory):
    root = write(tmp_path_factory.mktemp("text"), "cat/1.png")
    Path(root, "cat", "notes").write_text(text, encoding="utf-8")
    with pytest.warns(ImageFolderWarning, match="notes"):
        assert names_of(load_image_folder(root).data, root) == ["cat/1.png"]


def test_files_of_the_metadata_kind_are_not_opened_as_images(tmp_path):
    write(tmp_path, "cat/1.png")
    write(tmp_path, "cat/a.json", content=b'{"label": "cat"}')
    write(tmp_path, "cat/b.xml", content=b"<?xml version='1.0'?><annotation/>")
    write(tmp_path, "cat/c.npy", content=b"\x93NUMPY" + bytes(100))
    write(tmp_path, "cat/empty", content=b"")
    with pytest.warns(ImageFolderWarning, match="4 files"):
        found = load_image_folder(tmp_path)
    assert len(found.data) == 1


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=r"folder=.pets. does not exist \(looked in .*\)\. Pass a folder"):
        load_image_folder("pets")


def test_a_file_is_refused_with_the_remedy(tmp_path):
    write(tmp_path, "1.png")
    with pytest.raises(InvalidInputError, match=r"1\.png' is a file\. Pass a folder with one sub-folder per class"):
        load_image_folder(tmp_path / "1.png")


@pytest.mark.parametrize("files", [[], ["1.png"], [".hidden/1.png"]], ids=["empty", "flat", "hidden"])
def test_a_folder_without_classes_is_refused_with_an_example(files, tmp_path):
    write(tmp_path, *files)
    with pytest.raises(InvalidInputError, match=r"has no sub-folders\. It needs one per class, as in .*/cat/1\.jpg"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(("others", "count"), [([], 0), (["dog/a.txt", "dog/b/c.txt"], 2)])
def test_a_class_without_images_is_refused_with_the_remedy(others, count, tmp_path):
    write(tmp_path, "cat/1.png")
    (tmp_path / "dog").mkdir()
    write(tmp_path, *others, content=b"text")
    with pytest.raises(InvalidInputError, match=rf"folder '.*dog' has no images \({count} other files\)\. Remove it"):
        load_image_folder(tmp_path)


def link(target, path):
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        pytest.skip(f"this user may make no symbolic links: {error}")


def test_linked_folders_and_files_are_followed(tmp_path):
    write(tmp_path, "elsewhere/1.png", "pets/dog/1.png")
    link(tmp_path / "elsewhere", tmp_path / "pets" / "cat")
    link(tmp_path / "elsewhere" / "1.png", tmp_path / "pets" / "dog" / "2.png")
    found = load_image_folder(tmp_path / "pets")
    assert names_of(found.data, tmp_path / "pets") == ["cat/1.png", "dog/1.png", "dog/2.png"]


def test_a_linked_folder_that_contains_itself_is_read_once(tmp_path):
    write(tmp_path, "cat/1.png")
    link(tmp_path / "cat", tmp_path / "cat" / "again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageFolderWarning)
        found = load_image_folder(tmp_path)
    assert names_of(found.data, tmp_path) == ["cat/1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_fifo_is_left_out_without_waiting_for_a_writer(tmp_path):
    write(tmp_path, "cat/1.png")
    fifo = tmp_path / "cat" / "pipe"
    os.mkfifo(fifo)
    found = []

    def load():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageFolderWarning)
            found.append(load_image_folder(tmp_path))

    loader = threading.Thread(target=load, daemon=True)
    loader.start()
    loader.join(timeout=5)
    blocked = loader.is_alive()
    if blocked:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        loader.join(timeout=5)
    assert not blocked
    assert names_of(found[0].data, tmp_path) == ["cat/1.png"]


def test_a_folder_that_may_not_be_listed_is_no_silent_gap(tmp_path):
    write(tmp_path, "cat/1.png", "cat/secret/2.png")
    (tmp_path / "cat" / "secret").chmod(0)
    try:
        if os.access(tmp_path / "cat" / "secret", os.R_OK):
            pytest.skip("this user may list every folder (root, or Windows)")
        with pytest.raises((OSError, InvalidInputError), match="secret"):
            load_image_folder(tmp_path)
    finally:
        (tmp_path / "cat" / "secret").chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps names that are no text")
def test_a_name_that_is_no_utf8_reads_back(tmp_path):
    write(tmp_path, os.fsdecode(b"cat/\xff.png"))
    (sample,) = as_samples(load_image_folder(tmp_path).data)
    assert sample.read() == PNG


def test_nothing_is_decoded(tmp_path, monkeypatch):
    write(tmp_path, "cat/1.png", "cat/no-ending")

    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert len(load_image_folder(tmp_path).data) == 2


def test_the_folder_above_train_and_test_is_refused(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / part / "cat" / "1.png")
    with pytest.raises(InvalidInputError, match=r"test, train, which are parts of a data set.*Pass one of them"):
        load_image_folder(tmp_path)


MAKERS = [make_cats, make_leaves, make_radiographs, make_surface_defects]


@settings(max_examples=10)
@given(make=st.sampled_from(MAKERS), size=st.integers(8, 40), seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12))
def test_drawn_images_follow_from_the_seed_alone(make, size, seed, n):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (make(n, image_size=size, random_state=state) for state in (seed, seed, seed ^ 1))
    assert one.data.dtype == np.uint8
    assert one.data.shape[1:3] == (size, size)
    assert len(one.data) == len(one.target)
    assert set(one.target) <= set(one.target_names)
    np.testing.assert_array_equal(one.data, same.data)
    assert (one.data != other.data).any()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("make", MAKERS)
def test_no_two_drawn_images_are_equal_and_all_classes_are_there(make):
    bunch = make(30, image_size=24, random_state=0)
    assert len({image.tobytes() for image in bunch.data}) == len(bunch.data)
    assert sorted(set(bunch.target)) == bunch.target_names


@pytest.mark.parametrize("make", [make_leaves, make_radiographs])
def test_a_patient_or_plant_has_one_class(make):
    bunch = make(20, image_size=16, random_state=0)
    pairs = set(zip(bunch.groups, bunch.target, strict=True))
    assert len(pairs) == 20 < len(bunch.data)


@pytest.mark.parametrize("backgrounds", [[], ["sand"], ["soil", "sand"]])
def test_backgrounds_that_are_not_drawn_are_named(backgrounds):
    with pytest.raises(InvalidParameterError, match="table, soil, grass"):
        make_leaves(1, backgrounds=backgrounds)
