"""Write the tables of folders and files on the page about the architecture, from the opening line of each file.

python docs/files.py [--check]
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- files, from here -->\n", "<!-- files, to here -->\n"
# Each imports only from those before it; "" is what lies in no folder, below all and above all.
FLOOR = ["_short_text", "exceptions", "_version"]
FOLDERS = [
    "_utils", "_images", "runtime", "_storage", "_backbones", "_features", "_targets", "_training", "_head",
    "_typicality", "_fine_tuning", "_estimators", "_hub", "_evaluation", "_inspection", "_ranking", "_audit",
    "_reports", "_datasets", "_deployment",
]  # fmt: skip
ROOF = ["datasets", "__init__", "_cli", "__main__"]
ORDER = [*FLOOR, *FOLDERS, *ROOF]


def opening_line(path):
    """Return the first line of the docstring of a file."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0].rstrip(".").replace("``", "`")


def tables(package=ROOT / "sktl"):
    """Return both tables as Markdown."""
    units = [(name, package / name / "__init__.py") for name in ORDER if (package / name).is_dir()]
    lines = ["| folder | purpose |", "|---|---|"]
    anchors = [f"#folder-{name.lstrip('_').replace('_', '-')}" for name, _ in units]
    lines += [
        f"| [`{name}`]({anchor}) | {opening_line(path)} |" for (name, path), anchor in zip(units, anchors, strict=True)
    ]
    top = [package / f"{name}.py" for name in ORDER if not (package / name).is_dir()]
    sections = [("Top-level files", top)]
    sections += [(f"Folder `{name}`", sorted(path.parent.glob("[!_]*.py"))) for name, path in units]
    for title, paths in sections:
        lines += ["", f"### {title}", "", "| file | purpose |", "|---|---|"]
        lines += [f"| `{path.name}` | {opening_line(path)} |" for path in paths]
    return "\n".join(lines) + "\n"


def page(text):
    """Return the text of the page with today's tables."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    text = PAGE.read_text()
    if "--check" in sys.argv:
        sys.exit("docs/architecture.md: run python docs/files.py" if page(text) != text else 0)
    PAGE.write_text(page(text))
