"""Pretrained networks: where they come from, their weights, and where they can be cut."""
