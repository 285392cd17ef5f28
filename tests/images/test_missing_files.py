"""Messages about missing files name the file that was meant, with few requests to the file system."""

from __future__ import annotations

import os

import pytest

from sktl._images.missing_files import file_meant, why_missing


@pytest.mark.parametrize("name", ["a.heic", "a.TIF", "a.BMP", "a.Jpg", "a.dicom", "a.jp2", "absent/a"])
def test_no_suffix_is_tried_for_the_name_of_an_image_or_in_a_folder_that_does_not_exist(name, tmp_path, monkeypatch):
    (tmp_path / f"{name}.jpg" if os.sep not in name else tmp_path / "a.jpg").touch()
    asked = []
    monkeypatch.setattr(os.path, "isfile", lambda path: bool(asked.append(path)))
    assert why_missing(str(tmp_path / name)) == "no such file"
    assert file_meant(str(tmp_path / name)) is None
    assert asked == [str(tmp_path / name)]
