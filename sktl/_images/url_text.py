"""The text of URLs: which text is a URL, and how messages show it without credentials."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, unquote_to_bytes

from sktl._utils.paths import SCHEME

from .problems import ImageProblem

# A chain such as "zip://a.png::https://host/x.zip" is a URL, and so is "simplecache::s3://bucket/a.png".
_URL = re.compile(rf"({SCHEME}::)*{SCHEME}://")
_LOCAL = re.compile(r"(file|local)://", re.IGNORECASE)
_LINK = re.compile(rf"({SCHEME})://(.*)", re.DOTALL)
# Also a URL behind a folder, and one of which pathlib.Path has removed a slash. Only the end of the scheme, because a
# search for all of it takes quadratic time in long text.
_SCHEME_END = re.compile(r"[A-Za-z0-9+.-]{2}:/{1,2}")
_CHAIN = "::"
_HIDDEN = "***"
# Shorter parts of a URL, such as "1", occur in any text.
_SHORTEST_SECRET = 3


def is_url(text: str) -> bool:
    """Return True if a text is a URL, or a chain of URLs in the form of fsspec."""
    return _URL.match(text) is not None


def schemes_of(url: str) -> list[str]:
    """Return the schemes of all links of a chain, in lower case and in order."""
    *links, last = url.split(_CHAIN)
    # The last link may be a path, as in "zip://a.png::photos.zip"; others may be a scheme alone.
    return [link.partition("://")[0].lower() for link in [*links, *([last] if _LINK.match(last) else [])]]


def local_links(url: str) -> list[str]:
    """Return the links of a chain that lead to files on this machine: paths, and URLs such as `file:///photos.zip`."""
    return [link for link in url.split(_CHAIN) if "://" not in link or _LOCAL.match(link)]


def local_path_of(url: str) -> str | None:
    """Return the path that a URL such as `file:///photos/a%20b.png` stands for, or None if it is not such a URL.

    Raises
    ------
    ImageProblem
        If the URL names another machine.
    """
    if not (found := _LOCAL.match(url)) or _CHAIN in url:
        return None
    host, slash, rest = url[found.end() :].partition("/")
    if host.lower() not in ("", "localhost"):
        raise ImageProblem("is a file URL of another machine; pass file:///folder/name, with three slashes, or a path")
    path = os.fsdecode(unquote_to_bytes(slash + rest))
    return path[1:] if re.match(r"/[A-Za-z]:", path) and os.name == "nt" else path


def masked(url: str) -> str:
    """Return a URL, or a path that holds one, without user names, passwords, and queries, which may be signed."""
    return _CHAIN.join(map(_masked_link, url.split(_CHAIN)))


def _masked_link(link: str) -> str:
    if not (found := _SCHEME_END.search(link)):
        return link
    rest, mark, _ = _cut(_without_user(link[found.end() :]))
    return f"{link[: found.end()]}{rest}{mark and mark + _HIDDEN}"


def _cut(rest: str) -> tuple[str, str, str]:
    """Return the part of a link before its query or fragment, the mark between them, and the query or fragment."""
    found = re.search("[?#]", rest)
    return (rest[: found.start()], found[0], rest[found.end() :]) if found else (rest, "", "")


def _user_end(rest: str) -> int:
    """Return where the user name and password of a link end; 0 if it has none.

    A password may hold characters that should have been escaped, such as a slash. If there is a colon in front of the
    first slash, everything up to the last @ counts as credentials, because showing too little does no harm.
    """
    start = re.split("[/?#]", rest, maxsplit=1)[0]
    return rest.rfind("@") + 1 if ":" in start else start.rfind("@") + 1


def _without_user(rest: str) -> str:
    end = _user_end(rest)
    return f"{_HIDDEN}@{rest[end:]}" if end else rest


def without_secrets(text: str, url: str) -> str:
    """Return a text of another library about a URL without URLs; empty if it holds secrets of the URL nevertheless."""
    shown = re.sub(rf"{SCHEME}:(//|%2F%2F)\S+", "(URL)", text)
    return "" if any(secret in shown for secret in _secrets(url)) else shown


def _secrets(url: str) -> set[str]:
    found: set[str] = set()
    for link in url.split(_CHAIN):
        if match := _LINK.fullmatch(link):
            end = _user_end(match[2])
            parts = re.split("[:@&=;?#/]|%2[Ff]", match[2][:end] + "&" + _cut(match[2][end:])[2])
            found |= {form for part in parts for form in (part, unquote(part))}
    return {part for part in found if len(part) >= _SHORTEST_SECRET}
