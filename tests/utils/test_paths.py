"""What a name of a file is made of."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import in_child, needs_fork

from sktl._utils.paths import (
    check_features_suffix,
    check_model_suffix,
    check_page_suffix,
    checked_path,
    common_folder,
    draft_path,
    is_utf8,
    kept_path,
    naming,
    shown,
    user_path,
    why_no_file,
    working_folder,
)
from sktl.exceptions import InvalidParameterError


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@given(name=st.binary(min_size=1).filter(lambda name: not set(name) & set(b"/\0")))
def test_a_name_is_utf8_if_its_bytes_are(name):
    try:
        name.decode()
        expected = True
    except UnicodeDecodeError:
        expected = False
    path = os.fsdecode(name)
    assert is_utf8(path) == is_utf8(Path(path)) == expected


@pytest.mark.parametrize("character", ["a", "\u00e9", "\u8c93", "\U0001f408"])
def test_a_draft_can_be_made_beside_every_file_and_is_new(tmp_path, character):
    target = tmp_path / (character * (255 // len(character.encode())))
    drafts = {draft_path(target, ".suffix") for _ in range(2)}
    assert len(drafts) == 2
    for draft in drafts:
        draft.touch(exist_ok=False)
        assert (draft.parent, draft.suffix) == (tmp_path, ".suffix")
        assert is_utf8(draft)


@given(name=st.text(st.characters(exclude_characters="~\0", codec="utf-8"), min_size=1))
def test_only_a_tilde_at_the_start_is_replaced(name):
    assert user_path(name) == user_path(Path(name) if name == str(Path(name)) else name) == name
    assert user_path(f"{name}~") == f"{name}~"


def test_a_home_directory_is_replaced(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(user_path("~/a")) == Path(user_path(Path("~/a"))) == tmp_path / "a"


@pytest.mark.skipif(sys.platform != "linux", reason="Windows guesses the home directories of others")
def test_an_unknown_home_directory_is_refused_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "~nobody-of-this-name"
    assert user_path(f"{name}/a") == f"{name}/a"
    with pytest.raises(
        InvalidParameterError, match=rf"^path='{name}/a': the home directory '{name}' is unknown\. Pass"
    ):
        checked_path(f"{name}/a", "path")
    assert checked_path(f"./{name}/a", "path") == f"./{name}/a"
    assert checked_path("~model.sktl", "path") == "~model.sktl"
    Path(name).touch()
    assert checked_path(name, "path") == name


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/x", "https://anna:s3cret@h/x?sig=s3cret", Path("gs://b/x"), "simplecache::s3://b/x", "file:///x"],
)
def test_a_url_is_refused_before_it_becomes_a_folder_and_its_secrets_are_not_shown(url):
    with pytest.raises(
        InvalidParameterError, match=r"^checkpoint='\w+://\.\.\.' is a URL, .*\. Pass a path or None\.$"
    ) as error:
        checked_path(url, "checkpoint", " or None")
    assert "s3cret" not in str(error.value)


def test_a_variable_is_refused_before_it_becomes_a_folder_unless_it_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "/elsewhere")
    for name in ("$PLACE/x", "${PLACE}/x"):
        with pytest.raises(InvalidParameterError, match=r"^cache='\$.*/x' begins with a variable\. Variables are not"):
            checked_path(name, "cache")
    assert checked_path("$NO_PLACE/x", "cache") == "$NO_PLACE/x"
    Path("$PLACE").mkdir()
    assert checked_path("$PLACE", "cache") == "$PLACE"


def test_a_string_of_numpy_is_shown_like_any_other():
    assert shown(np.str_("a/b")) == "'a/b'"


@pytest.mark.parametrize("name", ["c://x", "./s3://x", "a:b/x", "run:1.parquet", "s3:/x", "s3:", Path("gs:")])
def test_other_names_with_colons_are_paths(name):
    assert checked_path(name, "path") == os.fspath(name)


def test_a_path_below_a_folder_that_is_named_like_a_scheme_is_no_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match="is a URL"):
        checked_path(Path("s3:/bucket"), "path")
    if os.name != "nt":
        Path("s3:").mkdir()
        assert checked_path(Path("s3:/bucket"), "path") == "s3:/bucket"
    with pytest.raises(InvalidParameterError, match="is a URL"):
        checked_path("s3://bucket", "path")


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        (["/data/train/cat/1.jpg", "/data/train/cow/1.jpg"], "/data/train/"),
        (["/data/cat/1.jpg", "/data/cat/10.jpg"], "/data/cat/"),
        (["/a/1.jpg", "/b/1.jpg"], ""),
        (["a/1.jpg", "1.jpg"], ""),
        (["data/a/1.jpg", "data/b/1.jpg", "data/1.jpg"], "data/"),
        (["X[0]", "X[1]"], ""),
        (["/data/1.jpg"], ""),
        ([], ""),
    ],
)
def test_the_common_folder_is_the_longest(names, folder):
    assert common_folder(names) == folder


@needs_fork
def test_a_working_folder_that_was_removed_is_said_to_be(tmp_path):
    def removed():
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        return working_folder()

    assert in_child(removed) == "a folder that was removed"
    assert working_folder() == os.getcwd()


@given(
    name=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1) | st.sampled_from(["~", "~root/a"])
)
def test_a_kept_path_is_the_same_path_also_for_a_user(name):
    kept = kept_path(name)
    assert user_path(kept) == kept
    assert Path(kept) == Path(name)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_what_is_no_file_is_named_without_opening_it(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert [why_no_file(tmp_path / name) for name in ("file", "link", "absent")] == [None, None, None]
    assert why_no_file(tmp_path) == "is a folder"
    os.mkfifo(tmp_path / "pipe")
    assert why_no_file(str(tmp_path / "pipe")) == "is not a regular file"


@pytest.mark.parametrize("name", ["cats.onnx", "a.b/cats.PT2", Path("cats.xml")])
def test_a_model_with_the_suffix_of_an_exported_format_is_refused_with_the_remedy(name):
    with pytest.raises(InvalidParameterError, match=r"to '.*cats\.sktl'; `export` writes "):
        check_model_suffix(name)


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".html", ".pth", ".JPG", ".csv", ".h5"])
def test_a_model_with_the_suffix_of_another_format_is_refused(suffix):
    with pytest.raises(InvalidParameterError, match=rf"^path='~/m\{suffix}' has the suffix of \w+, .*'~/m\.sktl'\.$"):
        check_model_suffix(f"~/m{suffix}")


@pytest.mark.parametrize("name", ["model", "model.sktl", "model.v2", "model.onnx.sktl", ".onnx", "folder.pkl/model"])
def test_a_model_may_have_any_other_name(name):
    check_model_suffix(name)


def test_a_new_folder_of_features_has_no_suffix_of_another_format(tmp_path):
    for name in ("f.parquet", "f", "f_v1.2", "f.csv/", str(tmp_path)):
        check_features_suffix(name)
    for name in ("f.CSV", "f.PARQUET"):
        with pytest.raises(InvalidParameterError, match=rf"^path='{name}' does not end in \.parquet\. .* such as 'f/'"):
            check_features_suffix(name)
    (tmp_path / "f.csv").mkdir()
    check_features_suffix(str(tmp_path / "f.csv"))


def test_a_page_ends_like_html_or_has_no_suffix():
    for name in ("page", "page.html", Path("page.HTM"), "page_v1.2"):
        check_page_suffix(name)
    with pytest.raises(InvalidParameterError, match=r"'page\.pdf' does not end in \.html, and the page is HTML"):
        check_page_suffix("page.pdf")


@pytest.mark.parametrize("error", [OSError(28, "full"), OSError(28, "full", "draft"), BrokenPipeError(32, "broken")])
def test_errors_of_the_system_name_the_path(error, tmp_path):
    with pytest.raises(type(error)) as raised, naming(tmp_path):
        raise error
    assert (raised.value.errno, raised.value.strerror, raised.value.filename) == (*error.args[:2], str(tmp_path))


def test_errors_without_a_number_name_the_path(tmp_path):
    with pytest.raises(OSError, match=rf"{tmp_path.name}' cannot be written: broken"), naming(tmp_path):
        raise OSError("broken")


def test_a_time_limit_is_left_as_it_is(tmp_path):
    def on_alarm(number, frame):
        raise TimeoutError("time limit")

    with pytest.raises(TimeoutError, match=r"^time limit$"), naming(tmp_path):
        on_alarm(14, sys._getframe())
