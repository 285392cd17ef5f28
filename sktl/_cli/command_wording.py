"""The wording of messages for each command, from its options."""

from __future__ import annotations

import click

from .command_messages import Wording
from .options import DEFAULTS, OF_EXPORT, OF_REGRESSOR, OF_TABLE


def wording_of(command: click.Command | None) -> Wording:
    """Return the wording of messages for a command."""
    options = [option for option in (command.params if command else []) if isinstance(option, click.Option)]
    known = {*DEFAULTS, *OF_REGRESSOR, *OF_TABLE, *OF_EXPORT}
    names = {str(option.name): max(option.opts, key=len) for option in options if option.name in known}
    if "--output" in (word for option in options for word in option.opts):
        names["path"] = "--output"
    flags = [str(option.name) for option in options if option.name in known and option.is_flag]
    return Wording(names, flags, known, asks_kind=any(option.name == "numbers" for option in options))
