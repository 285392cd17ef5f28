"""Messages about missing files name the file that was meant, with few requests to the file system."""

from __future__ import annotations

import os
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._images.command_reasons import for_command_line
from sktl._images.missing_files import file_meant, why_missing


@pytest.mark.parametrize("name", ["a.heic", "a.TIF", "a.BMP", "a.Jpg", "a.dicom", "a.jp2", "absent/a"])
def test_no_suffix_is_tried_for_the_name_of_an_image_or_in_a_folder_that_does_not_exist(name, tmp_path, monkeypatch):
    (tmp_path / f"{name}.jpg" if os.sep not in name else tmp_path / "a.jpg").touch()
    asked = []
    monkeypatch.setattr(os.path, "isfile", lambda path: bool(asked.append(path)))
    assert why_missing(str(tmp_path / name)) == "no such file"
    assert file_meant(str(tmp_path / name)) is None
    assert asked == [str(tmp_path / name)]


def test_only_names_that_have_several_forms_are_looked_for(tmp_path, monkeypatch):
    asked, path = [], f"{tmp_path}/a/b/K\u00e4se/c/1.png"
    monkeypatch.setattr(os.path, "exists", lambda path: bool(asked.append(path)))
    assert why_missing(path) == "no such file"
    assert asked == [f"{tmp_path}/a/b/{name}" for name in ("K\u00e4se", "Ka\u0308se")]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_the_path_of_a_file_are_pointed_out_with_a_remedy_that_works(quote, tmp_path):
    (tmp_path / "a.jpg").touch()
    x = f"{quote}{tmp_path / 'a.jpg'}{quote}"
    remedy = why_missing(x).removeprefix("no such file: its path is in quotes; pass ")
    assert eval(remedy, {"x": x}) == str(tmp_path / "a.jpg")
    assert for_command_line(why_missing(x)) == "no such file: its path is in quotes; leave them out"
    assert why_missing(f"{quote}{tmp_path / 'b.jpg'}{quote}") == "no such file"


@pytest.mark.skipif(os.name == "nt", reason="there, these are paths of this system")
@pytest.mark.parametrize("path", ["C:\\Users\\Ann\\x.jpg", "c:/x.jpg", "\\\\server\\photos\\x.jpg"])
def test_a_full_path_of_windows_is_not_advised_to_be_completed(path):
    assert why_missing(path) == "no such file: it is a path of Windows; pass the path of the file on this system"
    for other in ("//server/photos/x.jpg", "a:b.jpg", "C:", "Users\\x.jpg", "/C:/x.jpg"):
        assert why_missing(other) in ("no such file", "no such file in the working folder")


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere take such names for one")
@given(forms=st.lists(st.sampled_from(["NFC", "NFD"]), min_size=2, max_size=2), asked=st.sampled_from(["NFC", "NFD"]))
def test_a_file_whose_names_are_in_other_forms_of_unicode_is_found_with_a_remedy_that_works(
    forms, asked, tmp_path_factory
):
    folder, name = (unicodedata.normalize(form, "K\u00e4se") for form in forms)
    path = tmp_path_factory.mktemp("forms") / folder / f"{name}.png"
    path.parent.mkdir()
    path.touch()
    x = unicodedata.normalize(asked, str(path))
    assert file_meant(x) == str(path)
    reason, lead = why_missing(x), "no such file: its name is in another Unicode form; "
    if x == str(path):
        assert reason == "no such file"
    elif len({*forms}) == 2:
        assert reason == f"{lead}pass it as os.listdir returns it"
        assert for_command_line(reason) == f"{lead}write it as the system lists it"
    else:
        assert eval(reason.removeprefix(f"{lead}pass "), {"x": x, "unicodedata": unicodedata}) == str(path)
        assert for_command_line(reason) == f"{lead}write it in {forms[0]}"
