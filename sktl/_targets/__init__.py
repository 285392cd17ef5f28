"""What is to be learned of each image: `y`, weights, groups and folds."""
