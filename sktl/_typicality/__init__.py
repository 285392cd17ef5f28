"""Typicality: conformal p-values that an image comes from the same source as the training images."""
