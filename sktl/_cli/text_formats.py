"""Results as text: a table for people, comma-separated values or JSON."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import click

from .command_messages import printable, printable_lines


def print_data(text: str) -> None:
    """Print text for programs, which get it exactly. On a terminal, replace characters that would control it."""
    click.echo(printable_lines(text) if sys.stdout.isatty() else text)


def as_json(value: Any) -> str:
    """Return a value as JSON."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    # Bytes of names that are not UTF-8 become JSON escapes, so that names that differ on disk also differ here.
    return text.encode("utf-8", "backslashreplace").decode()


def as_csv(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return rows as comma-separated values one at a time, without line breaks at their ends."""
    for row in rows:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([*map(click.format_filename, row)])
        yield text.getvalue().removesuffix("\n")


def as_table(rows: Sequence[Sequence[str]], words: Container[int] = (0, 1)) -> str:
    """Return rows as a table. `words` are the columns that are aligned to the left."""
    rows = [[*map(printable, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        adjusted = [
            cell.ljust(width) if i in words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(adjusted).rstrip())
    return "\n".join(lines)
