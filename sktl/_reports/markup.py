"""HTML elements whose text is escaped unless it is markup already, and data for scripts.

Names of files and classes come from strangers. Everything that is not `Markup` is escaped here, so no caller can forget
to, and attributes that would run code or send a request are refused.
"""

from __future__ import annotations

import html
import json
import unicodedata
from typing import Any

from sktl._short_text import cut_middle

# Characters that change the order of letters, are no text, or end a line, as on the command line.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML and is written as it is."""

    __slots__ = ()


def plain(text: object, length: int = 400) -> str:
    """Return a name of a stranger as pages show it, of bounded length, with a mark for each character that is none."""
    cut = cut_middle(str(text), length)
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in _UNSHOWN else c for c in cut)


def escaped(text: object) -> Markup:
    """Return text as HTML, for elements and for attributes in quotes."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text).encode("utf-8", "replace").decode()))


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Parameters
    ----------
    name : str
    *content : object
        Markup, and text, which is escaped. None is left out.
    **attributes : object
        Attributes; `class_` is `class`, and `data_kind` is `data-kind`. None and False are left out, and True is an
        attribute without a value.

    Raises
    ------
    ValueError
        If an attribute would run code, is forbidden by the page's content security policy, or would send a request.
    """
    pairs = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    inner = "".join(escaped(part) for part in content if part is not None)
    return Markup(f"<{name}{pairs}>" if name in _VOID else f"<{name}{pairs}>{inner}</{name}>")


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if key == "style" or key.startswith("on"):
        raise ValueError(f"The page's policy forbids the attribute {key}. Use a class, or the page's script.")
    if key in ("src", "href", "action", "srcset") and not str(value).startswith(("#", "data:")):
        raise ValueError(f"{key} would send a request. Pass a data URI, or a place on the page.")
    return f" {key}" if value is True else f' {key}="{escaped(value)}"'


def joined(*parts: object) -> Markup:
    """Return parts after each other as markup; text is escaped."""
    return Markup("".join(escaped(part) for part in parts))


def named(text: object) -> Markup:
    """Return a name of a stranger. Its direction does not change the order of the text around it."""
    return tag("bdi", plain(text))


def data_block(identifier: str, value: Any) -> Markup:
    """Return a value as JSON for the page's script, in an element that browsers do not execute.

    All letters that HTML knows are escaped, so that `</script>` in a name does not end the element.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(f'<script type="application/json" id="{escaped(identifier)}">{text}</script>')
