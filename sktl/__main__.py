"""``python -m sktl``: the command line."""
