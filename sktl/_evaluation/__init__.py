"""Evaluation: what a model can do on test images, as figures, findings and sentences."""
