"""Datasets: folders, tables of labels, datasets of libraries, files of features, decisions, and synthetic images."""
