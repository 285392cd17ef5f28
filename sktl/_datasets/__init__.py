"""Folders of images, and synthetic images."""
