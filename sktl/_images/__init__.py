"""Any legal `X` to pixels: what holds images, what an image file holds, its size, random changes."""
