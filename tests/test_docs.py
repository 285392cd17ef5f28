"""The Python in the README and the guide runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in a folder with the photos that the pages name."""
    rng = np.random.default_rng(0)
    for breed in ("Siamese", "sphynx"):
        (tmp_path / "cat_breeds" / "train" / breed).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            pixels[..., 0] //= 1 + 3 * (breed == "sphynx")
            Image.fromarray(pixels).save(tmp_path / "cat_breeds" / "train" / breed / f"{i}.jpg")
    Image.fromarray(pixels).save(tmp_path / "my_cat.jpg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/choosing.md", "docs/displays.md"])
def test_every_python_block_of_a_page_runs_after_the_ones_before_it(page, folder, monkeypatch):
    if page == "docs/displays.md":
        pytest.importorskip("captum", reason="the extra `explain` installs it, and matplotlib")
        monkeypatch.setenv("MPLBACKEND", "Agg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
