"""Rows of a CSV file as text, whatever delimiter the program that wrote it uses in its country."""

from __future__ import annotations

import csv
import io
import re

from sktl._utils.paths import shown, why_no_file
from sktl.exceptions import InvalidInputError

_DELIMITERS = (",", ";", "\t")
# A first line that names the delimiter for Excel, which does not show it as a row.
_DELIMITER_LINE = re.compile(r"(\"?)sep=([^\w\s\"]|\t)\1(?:\r?\n|\r)", re.IGNORECASE)
# The first bytes of files that are not text, and what such files are.
_FORMATS = {
    b"PK\x03\x04": "a workbook or an archive",
    b"\xd0\xcf\x11\xe0": "a workbook or an archive",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed by gzip",
}


def rows_of_csv(path: str, what: str, wanted: str, skips_spaces: bool = False) -> list[tuple[int, list[str]]]:
    """Return the rows of a file that are not blank, with their numbers.

    Parameters
    ----------
    path : str
    what : str
        What the file holds, as messages call it.
    wanted : str
        Sentence that says what to pass.
    skips_spaces : bool, default=False
        Whether spaces at the beginning of cells are left out.

    Raises
    ------
    InvalidInputError
        If the file cannot be read.
    """
    name, text = shown(path), _text(path, what, wanted)
    line = _DELIMITER_LINE.match(text)
    if line:
        text, delimiter = text[line.end() :], line[2]
    else:
        found = re.search(r"[^\r\n]*\S[^\r\n]*", text)
        header = found[0] if found else ""
        delimiter = next((one for one in _DELIMITERS if one in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=skips_spaces, strict=True)
    try:
        return [(number, row) for number, row in enumerate(reader, 1) if any(map(str.strip, row))]
    except csv.Error as error:
        number = reader.line_num + bool(line)  # of the file, with the line that names the delimiter
        raise InvalidInputError(f"{name} is not a CSV file: line {number}: {error}. Correct it.") from error


def _text(path: str, what: str, wanted: str) -> str:
    name = shown(path)
    if other := why_no_file(path):
        raise InvalidInputError(f"The {what} {name} cannot be read: it {other}. {wanted}")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"The {what} {name} cannot be read: {reason}. {wanted}") from error
    if found := [kind for start, kind in _FORMATS.items() if content.startswith(start)]:
        raise InvalidInputError(f"{name} is {found[0]}. Save the {what} as CSV.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f'{name} is not text in UTF-8. Save it as CSV in UTF-8 ("CSV UTF-8" in Excel).'
        ) from error
