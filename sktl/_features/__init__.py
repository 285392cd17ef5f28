"""The pass: each image through the frozen part of a network once."""
