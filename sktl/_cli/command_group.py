"""The group of commands, which turns errors and warnings into messages for the command line, and exit statuses."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TextIO

import click

from sktl._short_text import one_line
from sktl.exceptions import InputWarning, InvalidImageError, SktlError

from .command_messages import Wording, printable
from .options import wording_of

_INTERRUPTED = 130
# Errors that are no mistakes of the program.
_EXPLAINED = (SktlError, Warning, OSError, UnicodeError, ImportError, MemoryError)


class CommandGroup(click.Group):
    """Turns errors and warnings of commands into messages for the command line, and exit statuses."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        if sys.stdout is None:  # click would drop the results, and the exit status would be 0
            sys.stdout = _unwritable()
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError:
            raise
        except OSError as error:  # --help and --version write while arguments are parsed
            raise click.ClickException(_of_the_system(error)) from error

    def invoke(self, ctx: click.Context) -> Any:
        def words() -> Wording:
            return wording_of(self.commands.get(ctx.invoked_subcommand or ""))

        def show_warning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            with _above_bars():
                click.echo(f"Warning: {' '.join(words().say(str(message)).splitlines())}", err=True)

        try:
            with warnings.catch_warnings():
                # Tables have been checked for joined labels before, and folders have one class for each image.
                warnings.filterwarnings("ignore", "y has the class .* If images have several labels", InputWarning)
                # Images are checked against our own limit, and the error about it follows.
                warnings.filterwarnings("ignore", "Image size .* exceeds limit", module="PIL")
                warnings.showwarning = show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            raise  # handled by click, so that `sktl ... | head` ends quietly
        except _EXPLAINED as error:
            raise click.ClickException(_explained(error, words())) from error


def _explained(error: Exception, words: Wording) -> str:
    """Return the message of the command line for an error."""
    if isinstance(error, InvalidImageError):
        return words.list_failures(error)
    if isinstance(error, SktlError | Warning):  # `python -W error` raises warnings
        return words.say(str(error))
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, UnicodeError):
        return f"A name cannot be written as text: {error}"
    if isinstance(error, ImportError):  # of a shared object, such as those of PyTorch
        advice = "Free some memory, or install the packages again."
        return f"A library cannot be loaded: {printable(one_line(error))}. {advice}"
    return f"Out of memory: {error}. Free some memory, or use smaller images, fewer threads or another network."


def _above_bars() -> AbstractContextManager[object]:
    """Print on a line of its own: remove progress bars for the duration of the block."""
    tqdm = sys.modules.get("tqdm")
    return nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(file=sys.stderr)


def _unwritable() -> TextIO:
    """Return a stream to which every write fails, in the place of a standard output that is closed."""
    # Without a buffer, which would be written again when Python ends.
    return io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_RDONLY), "w"), encoding="utf-8", write_through=True)


def _of_the_system(error: OSError) -> str:
    place = printable(os.fsdecode(error.filename)) if error.filename else _stream_of(error)
    return f"{place}: {error.strerror or error}." if place else f"{error.strerror or error}."


def _stream_of(error: OSError) -> str:
    """Return the name of standard output if an error was raised by writing to it, which click does in one place."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return "standard output" if frame.f_globals.get("__name__") == click.utils.__name__ else ""
