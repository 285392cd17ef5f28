"""The command `sktl`, also as `python -m sktl`, which runs the command line."""

import sys

try:
    from ._cli.commands import main as main
except ModuleNotFoundError as error:
    sys.exit(
        f"Error: The command sktl needs {error.name}, which is not installed. Install sktl with its dependencies, or "
        "predict with an exported model and python -m sktl.runtime."
    )

if __name__ == "__main__":
    main(prog_name="sktl")
