"""Milliseconds from the bytes of a JPEG file to the pixels of a network, by three decoders, beside their differences.

    python benchmarks/decoding.py DATA [--photos 12] [--repeats 5] [--write docs/scaling.md]

Photos of all sets in DATA are enlarged to each number of megapixels and saved as JPEG (quality 90), since the sets have
no large ones. Each way ends with the library's own resizing to 224 x 224; one thread; ways take turns:

- "Pillow": what sktl does, at a reduced scale where that leaves twice the needed size;
- "Pillow, whole": without the reduced scale;
- "torchvision.io": `decode_jpeg`, which has no reduced scale;
- "simplejpeg": libjpeg-turbo at the smallest scale that leaves twice the needed size (`pip install simplejpeg`).

Differences are those of the resulting pixels from "Pillow", of 255. The last column counts damaged files (cut off at
half of their bytes) that a decoder accepts without an error; Pillow names them.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from measuring import report, write_page
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from sktl._backbones.model_libraries import PACKAGED
from sktl._images.network_pixels import network_pixels

MEGAPIXELS = (0.2, 2.0, 12.0)
PREPROCESSING = PACKAGED["efficientnet_lite0"][1]


def whole(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return PREPROCESSING.pixels(image.convert("RGB"))


def torchvision_io(content: bytes) -> np.ndarray:
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    pixels = decode_jpeg(data, ImageReadMode.RGB).permute(1, 2, 0).numpy()
    return PREPROCESSING.pixels(Image.fromarray(pixels))


def turbo(content: bytes) -> np.ndarray:
    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    needed_width, needed_height = PREPROCESSING.resized_shape(width, height)
    pixels = simplejpeg.decode_jpeg(content, min_height=2 * needed_height, min_width=2 * needed_width)
    return PREPROCESSING.pixels(Image.fromarray(pixels))


WAYS: dict[str, Callable[[bytes], np.ndarray]] = {
    "Pillow": lambda content: network_pixels(content, PREPROCESSING),
    "Pillow, whole": whole,
    "torchvision.io": torchvision_io,
    "simplejpeg": turbo,
}


def photos(data: str, n: int, megapixels: float) -> list[bytes]:
    """Return JPEG files of a size, made from photos of all sets in turn."""
    sets = [sorted((folder / "test").glob("**/*.jp*g")) for folder in sorted(Path(data).iterdir()) if folder.is_dir()]
    paths = [paths[i] for i in range(n) for paths in sets if len(paths) > i][:n]
    contents = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = round(scale * image.width), round(scale * image.height)
        buffer = io.BytesIO()
        image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    return contents


def accepts(way: Callable[[bytes], np.ndarray], content: bytes) -> bool:
    """Return True if a decoder returns pixels of a damaged file."""
    try:
        way(content)
    except Exception:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    record, rows = [], []
    for megapixels in MEGAPIXELS:
        contents = photos(arguments.data, arguments.photos, megapixels)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(arguments.repeats):
            for name, way in WAYS.items():
                started = time.perf_counter()
                for content in contents:
                    way(content)
                times[name].append(1000 * (time.perf_counter() - started) / len(contents))
        expected = [WAYS["Pillow"](content).astype(int) for content in contents]
        for name, way in WAYS.items():
            apart = [np.abs(way(content) - pixels) for content, pixels in zip(contents, expected, strict=True)]
            accepted = sum(accepts(way, content[: len(content) // 2]) for content in contents)
            ms, base = statistics.median(times[name]), statistics.median(times["Pillow"])
            mean, most = np.mean([a.mean() for a in apart]), max(int(a.max()) for a in apart)
            rows.append((megapixels, name, f"{ms:.1f}", f"{base / ms:.2f}", f"{mean:.2f}", most, accepted))
            record.append({"megapixels": megapixels, "way": name, "ms": times[name], "mean": mean, "most": most})
    title = f"JPEG files to pixels of 224 x 224, {arguments.photos} photos of each size, one thread."
    header = (
        "megapixels", "decoder", "ms", "times as fast as Pillow", "mean difference", "largest", "damaged, accepted"
    )  # fmt: skip
    report("decoding", title, header, rows, record)
    if arguments.write:
        write_page("decoding", arguments.write)


if __name__ == "__main__":
    main()
