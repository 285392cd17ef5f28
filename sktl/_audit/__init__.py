"""Audit of a data set: unreadable images, copies, suspicious labels, unusual images, rare classes and shortcuts."""
