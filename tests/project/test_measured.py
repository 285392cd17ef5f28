"""Figures that were measured are on the pages because the JSON of a benchmark says them, and nowhere else."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import sktl
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features.extractor import FeatureExtractor

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("measured", ROOT / "docs" / "measured.py")
measured = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(measured)

GENERATED = {"api", "auto_examples", "generated"}  # by a build of the site
PAGES = {
    page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8")
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if not GENERATED & set(page.relative_to(ROOT).parts)
}
RESULTS = sorted(path.stem for path in measured.RESULTS.glob("*.json"))
# Its tables outside of marks are of runs on a GPU, of which no JSON was kept; each says by which command.
WITHOUT_JSON = {"docs/defaults.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if measured.sources(PAGES[page])])
def test_blocks_and_figures_of_a_page_are_what_the_benchmarks_wrote(page):
    assert measured.fill(PAGES[page]) == PAGES[page], "run `python docs/measured.py`"


def test_every_result_is_on_a_page():
    assert sorted({name for text in PAGES.values() for name in measured.names(text)}) == RESULTS


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_says_how_it_came_about(name):
    found = measured.result(name)
    script = re.match(r"python (benchmarks/\w+\.py)( |$)", found["command"])
    assert (ROOT / script[1]).exists()
    assert found["machine"]
    assert found.get("runs") or found["note"]
    assert not re.search(r"(?<![\w.])/\w+/", json.dumps(found)), "a path of the machine where it ran"


@pytest.mark.parametrize("page", sorted(PAGES.keys() - WITHOUT_JSON))
def test_no_measured_figure_is_typed_into_a_table(page):
    text = re.sub(r"<!-- begin (\w+) -->.*?<!-- end \1 -->", "", PAGES[page], flags=re.DOTALL)
    cells = [cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.strip("|").split("|")]
    assert not [cell for cell in cells if re.match(r"[+±-]?(\d+\.\d+( |$)|\d+ (%|ms|s|MB|points)(?!\w))", cell)]


def test_marks_that_nothing_was_measured_for_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    (page := tmp_path / "page.md").write_text("<!-- begin a -->\nold\n<!-- end a -->\nafter\n")
    found = {"command": "python benchmarks/a.py", "machine": "here", "text": ["| x |", "|---|", "| 1 |"], "runs": [1]}
    with pytest.raises(ValueError, match="no block <!-- begin b -->"):
        measured.keep("b", found, page)
    with pytest.raises(FileNotFoundError):
        measured.fill(page.read_text())
    measured.keep("a", found, page)
    text = "<!-- begin a -->\n`python benchmarks/a.py`\n\n| x |\n|---|\n| 1 |\n<!-- end a -->\nafter\n"
    assert page.read_text() == measured.fill(text) == text
    assert json.loads((tmp_path / "a.json").read_text()) == found
    assert measured.read_table("a") == (["x"], [["1"]])


def test_a_figure_within_a_sentence_is_a_cell_of_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"text": ["| x | s |", "|---|---|", "| one | 1 |", "| two | 2 |"]}))
    text = "took <!-- figure a; two; s -->{}<!-- end --> s, not <!-- figure a; one; s -->{}<!-- end --> s"
    assert measured.sources(text) == ["a", "a"]
    assert measured.fill(text.format("old", "")) == text.format(2, 1)
    for absent in ("<!-- figure a; three; s -->1<!-- end -->", "<!-- figure a; one; ms -->1<!-- end -->"):
        with pytest.raises((KeyError, ValueError)):
            measured.fill(absent)


def test_no_figure_begins_a_line():
    """Markdown takes such a line for HTML and shows its text as it is."""
    assert not [page for page in PAGES if re.search(r"^\s*<!-- figure", PAGES[page], flags=re.MULTILINE)]


def numbers(pattern):
    """Return the numbers that pages state in a phrase."""
    found = [match for text in PAGES.values() for match in re.findall(pattern, text)]
    assert found, pattern
    return {int(number.replace(",", "")) for number in found}


@pytest.mark.thorough
def test_numbers_of_the_bundled_network_are_its_own():
    backbone = resolve_backbone("efficientnet_lite0", "default", None, 0)
    extractors = [FeatureExtractor(backbone, torch.device("cpu"), 1, n_tail_stages=n, engine="torch") for n in (0, 1)]
    features, whole, activations = extractors[0].n_features, *(extractor.row_bytes // 4 for extractor in extractors)
    assert numbers(r"(\d[\d,]*)\s+features\s+at\s+its\s+output") == {features}
    assert numbers(r"(\d[\d,]*)\s+features\s+in\s+all\s+stages") == {whole}
    assert numbers(r"bundled\s+network\s+has\s+(\d[\d,]*)") == {features}
    assert numbers(r"(\d[\d,]*)\s+numbers\s+to\s+its\s+last") == {activations}


def test_sizes_of_saved_models_are_their_own(tmp_path):
    rng = np.random.default_rng(0)
    sizes = {}
    for n_classes in (2, 12):
        X, y = rng.integers(0, 256, (24, 32, 32, 3), np.uint8), np.arange(24) % n_classes
        clf = sktl.PretrainedImageClassifier(image_size=32, max_epochs=1, random_state=0).fit(X, y)
        for whole in (False, True):
            clf.save(tmp_path / "model.sktl", include_backbone=whole)
            sizes[n_classes, whole] = (tmp_path / "model.sktl").stat().st_size
    per_class = (sizes[12, False] - sizes[2, False]) / 10
    assert numbers(r"about\s+(\d+)\s+kB\s+per\s+class") == {round(per_class / 1000)}
    assert numbers(r"bundled\s+network\s+takes\s+(\d+)\s+MB") == {round(sizes[12, True] / 1e6)}


def test_numbers_of_networks_are_those_of_the_catalogue():
    of_torchvision = set(torchvision.models.list_models(module=torchvision.models))
    assert of_torchvision <= {info.name for info in sktl.list_backbones()}
    assert numbers(r"all\s+(\d+)\s+classification\s+models\s+of\s+torchvision") == {len(of_torchvision)}
