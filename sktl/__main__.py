"""``python -m sktl`` runs the command line."""

from ._cli.commands import main

if __name__ == "__main__":
    main(prog_name="sktl")
