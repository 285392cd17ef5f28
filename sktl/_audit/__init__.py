"""Audit of a data set: unreadable images, copies, suspicious labels, images unlike the rest, rare classes and shortcuts."""
