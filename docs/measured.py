"""The figures that benchmarks measured: what stands between marks on a page is what the JSON of a benchmark says.

    <!-- begin search -->
    ...
    <!-- end search -->

is the command and the text of `results/search.json`, which `benchmarks/search.py ... --write PAGE` writes, and the
block with it. A single figure within a sentence is a cell of that table, by its row and column:

    took <!-- figure search; sktl, one fit; s -->12.7<!-- end --> s

It must not begin a line, where Markdown takes the line for HTML. A build of the site fills both anew, as does
`python docs/measured.py`, and a test compares them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
_BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
_FIGURE = re.compile(r"(<!-- figure (\w+); ([^;]+); ([^;]+) -->)[^<]*(<!-- end -->)")


def names(text: str) -> list[str]:
    """Return the benchmarks whose blocks a page has."""
    return [match[2] for match in _BLOCK.finditer(text)]


def sources(text: str) -> list[str]:
    """Return the benchmarks that a page has blocks or figures of."""
    return [*names(text), *(match[2] for match in _FIGURE.finditer(text))]


def result(name: str) -> dict[str, Any]:
    """Return what a benchmark wrote: `command`, `machine`, `text`, and `runs`, or a `note` why there are none."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def block(name: str) -> str:
    """Return what a page shows of a benchmark."""
    found = result(name)
    return "\n".join([f"`{found['command']}`", "", *found["text"], ""])


def fill(text: str) -> str:
    """Return a page with what its benchmarks wrote between their marks."""
    text = _BLOCK.sub(lambda match: match[1] + block(match[2]) + match[3], text)
    return _FIGURE.sub(lambda match: match[1] + figure(*match.group(2, 3, 4)) + match[5], text)


def keep(name: str, found: dict[str, Any], page: Path) -> None:
    """Keep what a benchmark found, and show it on a page that has marks for it."""
    text = page.read_text(encoding="utf-8")
    if name not in names(text):
        raise ValueError(f"{page} has no block <!-- begin {name} -->.")
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(fill(text), encoding="utf-8")


def read_table(name: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of a benchmark."""
    lines = [line for line in result(name)["text"] if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return header, rows


def figure(name: str, row: str, column: str) -> str:
    """Return a cell of the table of a benchmark."""
    header, rows = read_table(name)
    return {cells[0]: cells for cells in rows}[row][header.index(column)]


def main() -> None:
    """Fill the blocks and figures of all pages."""
    for page in (HERE.parent / "README.md", *HERE.glob("**/*.md")):
        text = page.read_text(encoding="utf-8")
        if sources(text):
            page.write_text(fill(text), encoding="utf-8")


if __name__ == "__main__":
    main()
