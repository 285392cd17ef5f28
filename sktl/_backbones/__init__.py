"""Pretrained networks: their sources, their weights, and where they can be cut."""
