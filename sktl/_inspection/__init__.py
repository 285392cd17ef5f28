"""Displays: what a fitted estimator sees, predicts and learned."""
