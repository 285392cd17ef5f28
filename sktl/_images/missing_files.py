"""Paths at which there is no file: which existing file was probably meant, and what to do about it."""

from __future__ import annotations

import glob
import ntpath
import os
import re
import unicodedata
from typing import Literal

from sktl._short_text import NO_BARE_FILE

from .format_readers import IMAGE_SUFFIXES, READERS

# Suffixes that are tried, usual ones first. Few, because a request to a network drive takes long.
_SUFFIXES = (".jpg", ".png", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".dcm", ".JPG", ".PNG", ".JPEG")
# Forms of Unicode in which systems write names: an umlaut is one character in NFC, and two in NFD, as on a Mac.
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_KNOWN = IMAGE_SUFFIXES.union(*(reader.suffixes for reader in READERS.values()))


def why_missing(path: str) -> str:
    """Return what to do about a path that does not exist."""
    if not path:
        return "no such file: the path is empty"
    if path != path.strip() and os.path.exists(path.strip()):
        return "no such file: its path begins or ends with a line break or spaces; pass str(x).strip()"
    if path[0] in "'\"" and os.path.exists(path.strip("'\"")):
        return "no such file: its path is in quotes; pass str(x).strip('\\'\"')"
    if "*" in path or "?" in path:
        if next(glob.iglob(path), None) is None:
            return "no such file: no file matches the pattern"
        return "no such file: patterns are not expanded; pass the files that glob.glob(x) returns"
    if "\\" in path and os.path.exists(path.replace("\\", "/")):
        return "no such file: on this system the separator is /; pass str(x).replace('\\\\', '/')"
    if suffix := _missing_suffix(path):
        return f"no such file: the file has the suffix {suffix}; pass str(x) + {suffix!r}"
    if (found := _in_existing_forms(path)) != path and os.path.exists(found):
        forms = [form for form in _FORMS if unicodedata.normalize(form, path) == found]
        remedy = f'pass unicodedata.normalize("{forms[0]}", str(x))' if forms else "pass it as os.listdir returns it"
        return f"no such file: its name is in another Unicode form; {remedy}"
    if _is_of_windows(path):
        return "no such file: it is a path of Windows; pass the path of the file on this system"
    return "no such file" if os.path.dirname(path) else NO_BARE_FILE


def _is_of_windows(path: str) -> bool:
    """Return True if a path is a full path of Windows and this system is another."""
    drive, rest = ntpath.splitdrive(path)
    return os.sep == "/" and drive != "" and "/" not in drive and rest.startswith(("\\", "/"))


def file_meant(path: str) -> str | None:
    """Return the existing file that a path was probably meant for.

    It has other separators, a suffix, or another Unicode form: names from a Mac are in NFD.
    """
    path = _in_existing_forms(path.replace("\\", "/"))
    found = path + _missing_suffix(path)
    return found if os.path.isfile(found) else None


def _in_existing_forms(path: str) -> str:
    """Return a path with each of its names in the Unicode form in which it exists, as far as it exists in any."""
    if path.isascii():
        return path
    found = ""
    for piece in re.split(r"([/\\])", path):
        forms = dict.fromkeys([piece, *(unicodedata.normalize(form, piece) for form in _FORMS)])
        # A name with one form is not looked for: a request to a network drive takes long.
        found += next((form for form in forms if len(forms) > 1 and os.path.exists(found + form)), piece)
    return found


def _missing_suffix(path: str) -> str:
    """Return the suffix with which a path without the suffix of an image is an existing file; empty if none is."""
    if os.path.splitext(path)[1].lower() in _KNOWN or not os.path.isdir(os.path.dirname(path) or os.curdir):
        return ""
    return next((suffix for suffix in _SUFFIXES if os.path.isfile(path + suffix)), "")
