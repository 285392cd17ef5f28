"""Compute features: each image passes through the frozen part of a network once."""
