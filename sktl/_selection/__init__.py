"""Ranking networks for a task."""
