"""Check a built site without a network: `python docs/check_site.py build/docs`.

Every link, image, script and style sheet within the site must lead to a file that is there, and every anchor to an
element that has this name. What leads out of the site is listed with `--external`, and not opened.
"""

from __future__ import annotations

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_TARGETS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "src", "object": "data"}


class Page(HTMLParser):
    """What a page names, and what can be named in it.

    Attributes
    ----------
    targets : list of str
        Links, images and the like.
    names : set of str
        Anchors.
    unnamed : list of str
        Sources of images without an alternative text.
    """

    def __init__(self, html: str):
        super().__init__()
        self.targets: list[str] = []
        self.names: set[str] = set()
        self.unnamed: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the targets and names of one element."""
        values = dict(attrs)
        self.names |= {name for name in (values.get("id"), values.get("name") if tag == "a" else None) if name}
        if target := values.get(_TARGETS.get(tag, "")):
            self.targets.append(target)
        if tag == "img" and values.get("alt") is None:  # an empty one says that the image says nothing more
            self.unnamed.append(values.get("src") or "")


def _read(site: Path) -> dict[Path, Page]:
    """Return the pages of a folder; themes keep templates in `_static`, which are none."""
    paths = [path for path in sorted(site.resolve().rglob("*.html")) if "_static" not in path.parts]
    return {path: Page(path.read_text(encoding="utf-8")) for path in paths}


def find_problems(site: Path) -> list[str]:
    """Return what is wrong with the pages of a folder, one line each."""
    pages = _read(site)
    problems = [] if pages else [f"{site} has no pages"]
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        problems += [f"{where}: the image {source} has no alternative text" for source in page.unnamed]
        for target in dict.fromkeys(page.targets):
            if reason := _why_broken(target, path, pages):
                problems.append(f"{where}: {target} {reason}")
    return problems


def external_links(site: Path) -> list[str]:
    """Return the addresses outside of the site that its pages name, sorted."""
    targets = {target for page in _read(site).values() for target in page.targets}
    return sorted(target for target in targets if urlsplit(target).scheme in ("http", "https"))


def _why_broken(target: str, path: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if found.is_dir():
        found /= "index.html"
    if not found.exists():
        return "is not there"
    anchor = unquote(parts.fragment)
    if anchor and found in pages and anchor not in pages[found].names:
        return "names an anchor that is not there"
    return None


def main() -> int:
    """Check the site that the command line names; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="list the addresses outside of the site")
    arguments = parser.parse_args()
    problems = find_problems(arguments.site)
    print("\n".join(problems) or "Every link within the site leads somewhere.")
    if arguments.external:
        print("\n".join(external_links(arguments.site)))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
