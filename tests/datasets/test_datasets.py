"""A folder of class folders becomes sorted paths and labels; whatever is left out is told."""

from __future__ import annotations

import io
import os
import re
import string
import sys
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sktl._images.decoding import decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import as_samples
from sktl.datasets import (
    list_images,
    load_image_folder,
    load_image_parts,
    load_label_table,
    make_cats,
    make_leaves,
    make_radiographs,
    make_surface_defects,
)
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
    WORDS.filter(lambda word: " " not in word),
    st.sets(st.lists(WORDS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30)
@given(tree=TREES)
def test_data_is_every_image_sorted_by_class_and_path_with_its_class(tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for label, files in tree.items():
        for parts in files:
            # Folders and files of the same name get different endings.
            write(root, "/".join([label, *(f"{part}.d" for part in parts[:-1]), f"{parts[-1]}.png"]))
    found = load_folder_quietly(root)  # folders below two classes may have the same names
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


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.filterwarnings("error")
def test_a_file_without_a_suffix_above_the_limit_of_pillow_is_an_image(limit, tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    write(tmp_path, "cat/1", content=file.getvalue())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert names_of(load_image_folder(tmp_path).data, tmp_path) == ["cat/1"]


def test_an_icon_is_listed_without_being_decoded(tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "ICO", sizes=[(16, 16)])
    write(tmp_path, "cat/1", content=file.getvalue())
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    assert names_of(load_image_folder(tmp_path).data, tmp_path) == ["cat/1"]


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
    with pytest.raises(InvalidInputError, match=r"1\.png' is a file\. Pass a folder with one subfolder per class"):
        load_image_folder(tmp_path / "1.png")


@pytest.mark.parametrize("files", [[], ["1.png"], [".hidden/1.png"]], ids=["empty", "flat", "hidden"])
def test_a_folder_without_classes_is_refused_with_an_example(files, tmp_path):
    write(tmp_path, *files)
    with pytest.raises(InvalidInputError, match=r"has no subfolders\. It needs one per class, as in .*/cat/1\.jpg"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("others", "count"),
    [([], ""), (["dog/a.txt"], r" \(1 other file\)"), (["dog/a.txt", "dog/b/c.txt"], r" \(2 other files\)")],
)
def test_a_class_without_images_is_refused_with_the_remedy(others, count, tmp_path):
    write(tmp_path, "cat/1.png")
    (tmp_path / "dog").mkdir()
    write(tmp_path, *others, content=b"text")
    with pytest.raises(InvalidInputError, match=rf"folder '.*dog' has no images{count}\. Remove it"):
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


# Where a link in a class folder leads, and what is listed with it besides the images of both classes.
LINKS = {
    "the root": ("dog/all", ".."),
    "above the root": ("dog/all", "../.."),
    "the root, as a class": ("all", "."),
    "another class": ("dog/more", "../cat"),
    "another class, as a class": ("kitten", "cat"),
    "its own class": ("dog/a/b", "../../dog"),
    "an image of another class": ("dog/2.png", "../cat/1.png"),
}


@pytest.mark.parametrize("name", LINKS)
def test_what_lies_below_the_root_keeps_its_class_whatever_links_lead_there(name, tmp_path):
    path, target = LINKS[name]
    root = write(tmp_path / "pets", "cat/1.png", "dog/1.png", "dog/a/3.png")
    (root / path).symlink_to(target)
    with pytest.warns(ImageFolderWarning, match=f"1 link in .* is not followed.*{path}") as record:
        found = load_image_folder(root)
    assert len(record) == 1
    assert dict(zip(names_of(found.data, root), found.target, strict=True)) == {
        "cat/1.png": "cat", "dog/1.png": "dog", "dog/a/3.png": "dog",
    }  # fmt: skip
    assert names_of(found.ignored, root) == [path]


def test_links_to_what_is_left_out_or_to_an_image_of_the_same_class_are_followed(tmp_path):
    root = write(tmp_path / "pets", ".store/cat/1.png", "dog/1.png", "loose.png")
    (root / "cat").symlink_to(".store/cat")
    (root / "dog" / "2.png").symlink_to("1.png")
    (root / "dog" / "3.png").symlink_to("../loose.png")
    with pytest.warns(ImageFolderWarning, match=r"1 file in .* is left out.*loose\.png"):
        found = load_image_folder(root)
    assert names_of(found.data, root) == ["cat/1.png", "dog/1.png", "dog/2.png", "dog/3.png"]


def test_a_folder_elsewhere_is_read_once_for_a_class_and_said_to_be_in_two(tmp_path):
    outside, root = (
        write(tmp_path / "outside", "a/1.png", "b/2.png"),
        write(tmp_path / "pets", "cat/0.png", "dog/0.png"),
    )
    (outside / "a" / "loop").symlink_to(".")
    for name in ("cat/x", "dog/x", "dog/y"):
        (root / name).symlink_to(outside / "a")
    (root / "dog" / "z").symlink_to(outside)
    with pytest.warns(ImageFolderWarning) as record:
        found = load_image_folder(root)
    assert names_of(found.data, root) == ["cat/0.png", "cat/x/1.png", "dog/0.png", "dog/x/1.png", "dog/z/b/2.png"]
    left_out, shared = (str(warning.message) for warning in record)
    assert "4 links in" in left_out
    assert sorted(names_of(found.ignored, root)) == ["cat/x/loop", "dog/x/loop", "dog/y", "dog/z/a"]
    assert re.search(r"1 link in .* is shared with another class.*dog/x'", shared)


def test_broken_links_are_no_silent_gap(tmp_path):
    write(tmp_path, "cat/1.png")
    for name in ("bird", "cat/more", "cat/2.png"):
        (tmp_path / name).symlink_to("nowhere")
    (tmp_path / "cat" / "loop").symlink_to("loop")
    with pytest.warns(ImageFolderWarning, match="3 files in"):
        found = load_image_folder(tmp_path)
    assert names_of(found.data, tmp_path) == ["cat/1.png", "cat/2.png"]  # for `fit` to name
    assert names_of(found.ignored, tmp_path) == ["bird", "cat/loop", "cat/more"]


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".ipynb_checkpoints", "lost+found",
        "#recycle", ".Trash", "@Recently-Snapshot", ".thumbnails", "$Recycle.Bin",
    ],
)  # fmt: skip
def test_folders_of_the_system_are_neither_classes_nor_images(name, tmp_path):
    write(tmp_path, "cat/1.png", f"{name}/1.png", f"cat/{name}/1.png", f"cat/a/{name}/b/1.png", "cat/._1.png")
    found = load_image_folder(tmp_path)
    assert (names_of(found.data, tmp_path), found.target_names, found.ignored) == (["cat/1.png"], ["cat"], [])
    assert names_of(list_images(tmp_path), tmp_path) == ["cat/1.png"]


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
    with pytest.raises(InvalidInputError, match=r"test, train, which are parts of a dataset.*Pass one of them"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train/cat", "val/cat", "labels"], r"train, val, which are parts of a dataset.*Pass one of them: '.*train'"),
        (["train/cat", "test/cat", "README", "tools"], "test, train, which are parts of a dataset"),
        (["Train/cat"], "parts of a dataset"),
        (["train", "val", "labels"], "object detection"),
        (["images", "labels", "annotations"], "object detection"),
        (["images/train", "labels/train"], "object detection"),
        (["train/images", "train/labels", "valid/images"], "object detection"),
        (["train2017", "val2017", "annotations"], "object detection"),
        (["JPEGImages", "Annotations", "ImageSets"], "object detection"),
        (["images", "masks"], "segmentation"),
    ],
)
def test_layouts_that_are_no_classes_are_refused(folders, message, tmp_path):
    write(tmp_path, *[f"{folder}/1.png" for folder in folders])
    with pytest.raises(InvalidInputError, match=message):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("folders", [["bus", "car", "train"], ["train/2023", "bus/a"], ["mask", "no_mask"], ["test"]])
def test_classes_may_be_called_like_parts(folders, tmp_path):
    write(tmp_path, *[f"{folder}/1.png" for folder in folders])
    assert len(load_image_folder(tmp_path).data) == len(folders)


def test_parts_without_classes_and_a_folder_in_a_folder_are_doubted(tmp_path):
    write(tmp_path, "parts/train/1.png", "parts/test/1.png", "pets/pets/cat/1.png", "pets/pets/dog/1.png")
    with pytest.warns(ImageFolderWarning, match="usually parts of a dataset"):
        assert load_image_folder(tmp_path / "parts").target_names == ["test", "train"]
    with pytest.warns(ImageFolderWarning, match="one class, 'pets', whose images are in 'cat', 'dog'"):
        assert load_image_folder(tmp_path / "pets").target_names == ["pets"]


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take such names for one")
@pytest.mark.parametrize(
    "names", [("caf\u00e9", "cafe\u0301"), ("cat", "cat "), ("a b", "a  b"), ("cat", "c\u200bat"), ("cat", "cat\n"),
     ("caf\u00e9", "cafe\u034f\u0301"),
     *[("cat", f"ca{c}t") for c in "\ufe0f\U000e0100\u034f\u115f\u1160\u3164\uffa0\u180b"]],
)  # fmt: skip
def test_classes_that_no_reader_can_tell_apart_are_refused_by_name(names, tmp_path):
    write(tmp_path, *[f"{name}/1.png" for name in names])
    with pytest.raises(InvalidInputError, match="names that look the same") as error:
        load_image_folder(tmp_path)
    for name in names:
        assert ascii(name) in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take such names for one")
@pytest.mark.parametrize("names", [("Cat", "cat"), ("a-b", "a\u2013b"), ("\uff21", "A")])
def test_classes_that_differ_little_are_classes_and_said(names, tmp_path):
    write(tmp_path, *[f"{name}/1.png" for name in names])
    with pytest.warns(ImageFolderWarning, match="nearly the same"):
        assert load_image_folder(tmp_path).target_names == sorted(names)


@pytest.mark.skipif(os.name == "nt", reason="names on Windows do not end in a space")
def test_classes_with_spaces_at_their_ends_are_named_at_once(tmp_path):
    write(tmp_path, "a b/1.png", " cat/1.png", "dog /1.png")
    with pytest.warns(ImageFolderWarning, match=r"end with white space, .*: ' cat', 'dog '\. Rename them\.$") as caught:
        assert load_image_folder(tmp_path).target_names == [" cat", "a b", "dog "]
    assert len(caught) == 1


@pytest.mark.parametrize("function", [load_image_folder, list_images])
def test_what_is_no_folder_is_refused_with_the_remedy(function, tmp_path, monkeypatch):
    write(tmp_path, "pets/cat/1.png", "photos.txt")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.write(tmp_path / "pets" / "cat" / "1.png")
    monkeypatch.chdir(tmp_path)
    for folder in (None, b"pets", 3, 1.5, ["pets"], np.array(["pets"]), ()):
        with pytest.raises(InvalidParameterError, match="must be the path of one folder"):
            function(folder)
    for folder, message in {
        "": "is empty",
        "photos.txt": "is a file",
        "pets.zip": "Unpack it",
        "pets\n": "'pets' does: remove the white space",
        "'pets'": "'pets' does: remove the white space or quotes",
        "https://example.org/pets": "download",
        "~nobody-of-this-name/pets": "does not exist",
        "a\0b": "does not exist",
        "x" * 5000: r"does not exist",
    }.items():
        with pytest.raises(InvalidInputError, match=message) as error:
            function(folder)
        assert len(str(error.value)) < 600
    monkeypatch.setenv("PETS", "pets")
    with pytest.raises(InvalidInputError, match="Variables are not replaced"):
        function("$PETS")


@pytest.mark.parametrize("name", ["~", "~/", "~/pets/.."])
def test_a_home_directory_is_replaced(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path, "pets/1.png")
    assert len(load_image_folder(name).data) == len(list_images(name)) == 1


def test_messages_are_bounded(tmp_path):
    write(tmp_path, "cat/1.png", *[f"cat/{'n' * 240}{i}/{'m' * 240}.txt" for i in range(50)], content=b"text")
    write(tmp_path, "cat/1.png")
    with pytest.warns(ImageFolderWarning) as record:
        load_image_folder(tmp_path)
    assert len(str(record[0].message)) < 2000


@settings(max_examples=20)
@given(tree=TREES)
def test_every_image_below_a_folder_is_listed_without_classes(tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for label, files in tree.items():
        for parts in files:
            write(root, "/".join([label, *(f"{part}.d" for part in parts[:-1]), f"{parts[-1]}.png"]))
    write(root, "loose.jpg")
    assert list_images(root).tolist() == sorted([*load_folder_quietly(root).data, str(root / "loose.jpg")])


def load_folder_quietly(root):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageFolderWarning)
        return load_image_folder(root)


def test_a_flat_folder_is_listed_and_an_empty_one_refused(tmp_path):
    write(tmp_path, "new/1.png", "new/more/2.png")
    write(tmp_path, "new/notes.txt", content=b"text")
    with pytest.warns(ImageFolderWarning, match="notes"):
        assert names_of(list_images(tmp_path / "new"), tmp_path) == ["new/1.png", "new/more/2.png"]
    write(tmp_path, "flat/1.png")
    with pytest.raises(InvalidInputError, match=r"has no subfolders.*use list_images"):
        load_image_folder(tmp_path / "flat")
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidInputError, match="has no images"):
        list_images(tmp_path / "none")


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
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_size": 0}, "image_size=0 must be an integer of at least 1"),
        ({"image_size": 8.5}, r"image_size=8\.5 must be an integer"),
        ({"random_state": "x"}, "random_state='x' must be an integer from 0"),
        ({"random_state": -1}, "random_state=-1 must be an integer from 0"),
    ],
)
def test_sizes_and_seeds_that_cannot_be_are_named(make, arguments, words):
    with pytest.raises(InvalidParameterError, match=words):
        make(2, **arguments)
    for n in (0, -3, "a", 2.5, True, None, object()):
        with pytest.raises(InvalidParameterError, match=r"n_\w+=.* must be an integer of at least 1") as caught:
            make(n)
        assert " at 0x" not in str(caught.value)


@pytest.mark.parametrize("backgrounds", [(), "table", 5, [5], [["table"]], ["sky"], None])
def test_backgrounds_that_do_not_exist_are_named(backgrounds):
    with pytest.raises(InvalidParameterError, match="must be a list of some of table, soil, grass"):
        make_leaves(2, backgrounds=backgrounds)


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


@pytest.mark.parametrize("name", ["~", "~root"])
def test_a_folder_whose_name_begins_with_a_tilde_is_no_home_directory(tmp_path, monkeypatch, name):
    """Its images would be read from the home directory, where other images may have the same paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    write(tmp_path, f"{name}/train/a/1.png", f"classes/{name}/1.png")
    write(tmp_path, f"{name}/t.csv", content=b"path,class\ntrain/a/1.png,a\n")
    write(tmp_path / "home", "train/a/1.png", "1.png", content=saved("BMP"))
    here = f"./{name}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageFolderWarning)
        found = [
            list_images(here), load_image_folder(f"{here}/train").data, load_image_parts(here).train.data,
            load_label_table(f"{here}/t.csv").data, load_label_table(f"{here}/t.csv", folder=here).data,
        ]  # fmt: skip
    monkeypatch.chdir(tmp_path / "classes")
    assert [as_samples(load_image_folder(".").data)[0].read(), as_samples(list_images("."))[0].read()] == [PNG, PNG]
    monkeypatch.chdir(tmp_path)
    assert [as_samples(paths)[0].read() for paths in found] == [PNG] * len(found)
    assert load_image_folder("classes").target_names == [name]


def test_what_is_left_out_of_a_folder_named_tilde_is_in_it_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "~/a/1.png", "~/notes.txt")
    write(tmp_path, "~/notes.txt", content=b"no image")
    with pytest.warns(ImageFolderWarning, match="notes"):
        assert load_image_folder("./~").ignored == [os.path.join(".", "~", "notes.txt")]
