"""Evaluation: how well a model performs on test images, as figures, findings and sentences."""
