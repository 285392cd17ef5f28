"""Shared by all training: the recipe, the skorch net, optimizers, checkpoints."""
