"""Typicality: conformal p-values that an image comes from where the training images came from."""
