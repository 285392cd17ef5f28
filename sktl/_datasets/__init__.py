"""Folders of images, and drawn images."""
