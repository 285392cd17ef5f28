"""The output layer: its features and penalty chosen, and trained."""
