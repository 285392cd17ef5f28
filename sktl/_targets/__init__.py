"""The targets: labels, sample weights, groups and cross-validation folds."""
