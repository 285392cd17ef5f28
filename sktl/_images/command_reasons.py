"""Reasons why images cannot be used, reworded for command lines: files instead of arrays and Python expressions."""

from __future__ import annotations

import re

# Advice for Python, and the corresponding advice for a command line. Each key must occur in a message.
PHRASES = {
    "pass its files, as sktl.datasets.list_images or load_image_folder return them": "pass the images in it",
    "pass str(x).strip()": "leave them out",
    "pass str(x).strip('\\'\"')": "leave them out",
    "expanded; pass the files that glob.glob(x) returns": "expanded within quotes; leave out the quotes",
    "pass str(x).replace('\\\\', '/')": "write / instead of \\",
    "pass the path of the file on this system": "use its path on this system",
    "pass it as os.listdir returns it": "write it as the system lists it",
    "sktl.set_pixel_limit": "the environment variable SKTL_MAX_PIXELS",
    ", or set PIL.Image.MAX_IMAGE_PIXELS if you trust its source": "",
    "load it with numpy.load and pass the arrays": "save its arrays as PNG images",
    ", or load an .npz file with numpy.load": "",
    "and pass the images in it": "and save the images in it as PNG",
    "and pass those, as bytes or arrays": "and pass those as files",
    "pass its slices as arrays": "save its slices as PNG images",
    "pass three of them as an array": "save three of them as a PNG image",
    "and pass the arrays in it": "and save the arrays in it as PNG images",
    "and pass uint8 arrays": "and save the pixels as PNG",
    "and pass arrays": "and save the pixels as PNG",
    "is a URL of which pathlib.Path made a path; pass the URL as a str": "is a URL that lacks a slash after its scheme",
    "pass the URL alone, as a str": "pass the URL alone",
    "convert it to uint8 or to [0, 1]": "convert it to 8 bits",
    "pass image_reader, a function that reads it and applies a window": "convert it to PNG with a window",
}
_PATTERNS = {
    r'pass unicodedata\.normalize\("(\w+)", str\(x\)\)': r"write it in \1",
    r"pass str\(x\) \+ '(\.\w+)'": r"add \1 to its name",
    r"(has (?:values|dtype)[^;\n]*; ).*? \(x = the pixels of the file\)": r"\1convert it to 8 bits, all images alike",
    r"pass the bytes: base64\.\w+\(x\S*( \(x = the text of the file\))?": "decode it, and pass the decoded file",
}


def for_command_line(message: str) -> str:
    """Return a message with the reasons in it reworded."""
    for phrase, words in PHRASES.items():
        message = message.replace(phrase, words)
    for pattern, words in _PATTERNS.items():
        message = re.sub(pattern, words, message)
    return message
