"""The estimators: parameters to recipes, fitting, saving and loading."""
