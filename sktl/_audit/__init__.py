"""Audit of a dataset: unreadable images, copies, suspicious labels, unusual images, rare classes and shortcuts."""
