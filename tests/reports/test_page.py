"""The shell of a page: its policy, and the file that is written."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
from pathlib import Path

import pytest

from sktl._reports.markup import tag
from sktl._reports.page import asset, page, write_page
from sktl.exceptions import InvalidInputError, InvalidParameterError


def test_the_policy_allows_this_style_and_this_script_alone():
    text = page("A title", tag("p", "content"), styles="p { color: red }", script="console.log(1 < 2 && 3)")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for name in ("style", "script"):
        inline = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_titles_of_strangers_are_escaped():
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in page("</title><script>")


def test_the_style_loads_nothing():
    assert "url(" not in asset("page.css")
    assert "@import" not in asset("page.css")


def test_a_page_replaces_an_older_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "report.html"
    write_page(path, "old")
    write_page(str(path), "new \N{SNOWMAN}")
    assert path.read_text(encoding="utf-8") == "new \N{SNOWMAN}"
    assert [*tmp_path.iterdir()] == [path]


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InvalidInputError, match="is a folder"):
        write_page(tmp_path, "x")
    with pytest.raises(InvalidInputError, match=r"The folder .*absent' does not exist\. Create it\."):
        write_page(tmp_path / "absent" / "report.html", "x")
    with pytest.raises(InvalidParameterError, match="path"):
        write_page(None, "x")
    with pytest.raises(InvalidParameterError, match=r"path='a.pdf' does not end in \.html"):
        write_page("a.pdf", "x")


def test_a_full_disk_is_an_error_of_the_system_that_names_the_page(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_page(tmp_path / "report.html", "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").read_text() == "old"
    assert len([*tmp_path.iterdir()]) == 1


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_links_are_followed_and_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to("report.html")
    write_page(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "report.html").read_text() == "x"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    for name in ("pipe", "to pipe"):
        with pytest.raises(InvalidInputError, match="is not a regular file, and is not replaced"):
            write_page(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo()
