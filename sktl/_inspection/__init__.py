"""Displays of what a fitted estimator sees, predicts and has learned."""
