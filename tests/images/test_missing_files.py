"""Messages about missing files name the file that was meant, with few requests to the file system."""

from __future__ import annotations

import os

import pytest

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


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_the_path_of_a_file_are_pointed_out_with_a_remedy_that_works(quote, tmp_path):
    (tmp_path / "a.jpg").touch()
    x = f"{quote}{tmp_path / 'a.jpg'}{quote}"
    remedy = why_missing(x).removeprefix("no such file: its path is in quotes; pass ")
    assert eval(remedy, {"x": x}) == str(tmp_path / "a.jpg")
    assert for_command_line(why_missing(x)) == "no such file: its path is in quotes; leave them out"
    assert why_missing(f"{quote}{tmp_path / 'b.jpg'}{quote}") == "no such file"
