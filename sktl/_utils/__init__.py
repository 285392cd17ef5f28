"""Shared helpers: warnings, paths, optional packages, process state, devices, progress."""
