"""The shell of a page: one file with its style and script, which can send no requests."""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from sktl._utils.paths import check_page_suffix, checked_path, naming, shown, why_no_file
from sktl._version import __version__
from sktl.exceptions import InvalidInputError

from .markup import Markup, joined, plain, tag


def asset(name: str) -> str:
    """Return a style sheet or script of this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def page(title: str, *content: Markup, styles: str = "", script: str = "") -> str:
    """Return a page as text.

    Parameters
    ----------
    title : str
        Text of the tab.
    *content : Markup
        Content of the page's body.
    styles : str, default=""
        Style sheet for this kind of page, after the common one.
    script : str, default=""
        Script for this kind of page, which runs when the page is complete. The page must be readable without it.
    """
    styles = asset("page.css") + styles
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(styles, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="generator", content=f"sktl {__version__}"),
        tag("link", rel="icon", href="data:,"),  # otherwise browsers ask the server for one
        tag("title", plain(title)),
        tag("style", Markup(styles)),
    ]
    tail = tag("script", Markup(script)) if script else None
    document = tag("html", tag("head", *head), tag("body", *content, tail), lang="en")
    return joined(Markup("<!DOCTYPE html>\n"), document, Markup("\n"))


def _policy(styles: str, script: str) -> str:
    """Return the content security policy: nothing is loaded, and nothing runs but the page's own script.

    Style and script are allowed by their hash rather than as "unsafe-inline", so that even a name that were not
    escaped could not run code.
    """
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(styles)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def checked_page(path: Any) -> str:
    """Return the path of a page, with a leading `~` replaced by the home directory, before images are read.

    Raises
    ------
    InvalidParameterError
        If `path` is not a path, or has another suffix than HTML files.
    InvalidInputError
        If the folder does not exist.
    """
    text = checked_path(path, "path")
    check_page_suffix(path)
    if not os.path.exists(folder := os.path.dirname(os.path.abspath(text))):
        raise InvalidInputError(f"The folder {shown(folder)} does not exist. Create it.")
    return text


def write_page(path: Any, text: str) -> None:
    """Write a page to a file. An existing file is replaced at once, or left as it is if writing fails.

    Raises
    ------
    InvalidParameterError
        If `path` is not a path, or has another suffix than HTML files.
    InvalidInputError
        If the folder does not exist, or the path is a folder, a pipe or a device.
    OSError
        If the file cannot be written.
    """
    target = os.path.realpath(checked_page(path))
    if other := why_no_file(target):
        raise InvalidInputError(f"{shown(path)} {other}, and is not replaced. Pass another path.")
    with naming(path), tempfile.TemporaryDirectory(dir=os.path.dirname(target), prefix=".sktl-") as folder:
        draft = Path(folder) / "page.html"
        draft.write_text(text, encoding="utf-8", newline="\n")
        os.replace(draft, target)
