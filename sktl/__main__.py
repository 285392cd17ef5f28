"""The command `sktl`, also as `python -m sktl`, which runs the command line."""

import sys

try:
    from ._cli.commands import main as main
except ModuleNotFoundError as error:
    from ._utils.optional import lacking_package

    if (package := lacking_package(error)) is None:
        raise
    sys.exit(
        f"Error: The command sktl needs {package}, which is not installed. Install sktl with its dependencies, or "
        "predict with an exported model and python -m sktl.runtime."
    )

if __name__ == "__main__":
    main(prog_name="sktl")
