"""Convert any valid `X` to pixels: containers, image files, preprocessing, random changes."""
