"""The estimators: resolving parameters to recipes, fitting, saving and loading."""
