"""The command ``python -m sktl.runtime``: predictions of an exported model for image files."""

from __future__ import annotations

import argparse
import functools
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from sktl._images.command_reasons import for_command_line
from sktl._short_text import cut_middle, shown_name
from sktl._utils.names_on_stdin import FROM_INPUT, names_on_input
from sktl.exceptions import InvalidImageError, SktlError

from .records import as_json, as_table, printable, records

_EXAMPLES = """examples:
  python -m sktl.runtime cats.onnx my_cat.jpg
  python -m sktl.runtime cats.onnx new/*.jpg --json
  find new -name '*.jpg' | python -m sktl.runtime cats.onnx -
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 if the model, or an image, cannot be used."""
    options = _parser().parse_args(arguments)
    from .models import open_model  # NumPy and Pillow would delay help and usage errors

    try:
        model = open_model(options.model, n_threads=options.n_threads)
        names = _expanded(options.images)
    except SktlError as error:
        return _complain(str(error))
    found, problems = _predict(model, names)
    is_printed = _print(as_json(found) if options.json else as_table(found))
    for problem in problems:
        _complain(problem)
    return 0 if is_printed and not problems else 1


def _print(text: str) -> bool:
    """Print to standard output. Return False, after an error message, if that is not possible.

    Programs get the exact text. On a terminal, characters that would control it are replaced.
    """
    if sys.stdout is None:  # it was closed before Python started
        _complain("The predictions cannot be written: standard output is closed.")
        return False
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    try:
        print(text, end="", flush=True)
    except OSError as error:
        # Otherwise, Python tries again at exit, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
            _complain(f"The predictions cannot be written: {error.strerror or error}.")
        return False
    except UnicodeError as error:
        _complain(f"A name cannot be written as text: {error}. Set PYTHONIOENCODING=utf-8.")
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m sktl.runtime", description="Predict images with a model that sktl exported to ONNX.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("model", help="the exported model, such as cats.onnx")
    parser.add_argument(
        "images", nargs="+", metavar="image",
        help="an image file; - for files whose paths are on standard input, one on each line or separated by NUL",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print all probabilities as JSON")
    parser.add_argument("--n-threads", type=_count, metavar="N", help="number of threads (default: all cores)")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= 1_024:
        raise argparse.ArgumentTypeError(f"{cut_middle(repr(text), 40)} is not a whole number from 1 to 1024")
    return int(text)


def _expanded(names: Sequence[str]) -> list[str]:
    """Return names of files, with those that match a pattern in its place: shells of Windows leave this to programs.

    In the place of `-` are the names on standard input.
    """
    on_input = functools.cache(names_on_input)  # it can be read once, and `-` may be given twice
    return [
        file
        for name in names
        for file in (on_input() if name == FROM_INPUT else (os.name == "nt" and _matching(name)) or [name])
    ]


def _matching(pattern: str) -> list[str]:
    # Names on Windows may contain brackets, but neither * nor ?.
    return sorted(glob.glob(pattern, recursive=True)) if set("*?") & set(pattern) else []


def _predict(model: Any, names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the records of the images that can be used, and what is wrong with the others."""
    try:
        return list(_records_of(model, names)), []
    except InvalidImageError as error:
        failures = {failure.position: failure for failure in error.failures}
    except SktlError as error:
        return [], [str(error)]
    usable = [name for position, name in enumerate(names) if position not in failures]
    problems = [f"{shown_name(one.name)}: {for_command_line(one.reason)}" for one in failures.values()]
    found, others = _predict(model, usable) if usable else ([], [])
    return found, problems + others


def _records_of(model: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    found = (record for pixels in model.batches(names) for record in records(model.document, model.run(pixels)))
    for name, record in zip(names, found, strict=True):
        yield {"image": name} | record


def _complain(message: str) -> int:
    print("\n".join(map(printable, message.splitlines())), file=sys.stderr)
    return 1
