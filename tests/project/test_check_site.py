"""The check of the built site finds what leads nowhere, and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("check_site", Path(__file__).parents[2] / "docs" / "check_site.py")
check_site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_site)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "index.html").write_text(
        '<h1 id="top">A</h1> <a href="guide/page.html#here">b</a> <a href="guide/">c</a>'
    )
    (tmp_path / "guide" / "index.html").write_text('<a href="../index.html?x=1#top">a</a>')
    (tmp_path / "guide" / "page.html").write_text(
        '<p id="here"> <a href="#here">c</a> <img src="../picture.png" alt="A picture"> <a href="https://x.org/y">d</a>'
    )
    return tmp_path


def test_a_site_whose_links_lead_somewhere_has_no_problems(site):
    assert check_site.find_problems(site) == []
    assert check_site.external_links(site) == ["https://x.org/y"]


@pytest.mark.parametrize(
    ("element", "problem"),
    [
        ('<a href="missing.html">a</a>', "missing.html is not there"),
        ('<a href="page.html#nowhere">a</a>', "names an anchor that is not there"),
        ('<a href="#nowhere">a</a>', "names an anchor that is not there"),
        ('<a href="../nowhere/">a</a>', "../nowhere/ is not there"),
        ('<img src="missing.png" alt="A picture">', "missing.png is not there"),
        ('<script src="missing.js"></script>', "missing.js is not there"),
        ('<link rel="stylesheet" href="missing.css">', "missing.css is not there"),
        ('<img src="../picture.png">', "no alternative text"),
    ],
)
def test_what_leads_nowhere_is_found(site, element, problem):
    page = site / "guide" / "page.html"
    page.write_text(page.read_text() + element)
    (found,) = check_site.find_problems(site)
    assert found.startswith(str(Path("guide", "page.html")))
    assert problem in found


def test_an_empty_folder_is_a_problem(tmp_path):
    assert check_site.find_problems(tmp_path)
