"""Audit of a data set: unreadable images, copies, suspicious labels, strangers, rare classes and shortcuts."""
