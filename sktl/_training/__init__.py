"""What every training shares: the recipe, the skorch net, optimizers, checkpoints."""
