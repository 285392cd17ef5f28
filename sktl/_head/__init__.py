"""The output layer: the choice of its features and penalty, and its training."""
