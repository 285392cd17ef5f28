"""Ranking of networks for a task."""
