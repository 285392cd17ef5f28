"""Randomly drawn pictures with known content: cats, metal surfaces, chests and leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Random: TypeAlias = np.random.RandomState
Color: TypeAlias = tuple[int, int, int]
Face: TypeAlias = tuple[float, float, float]  # its center and radius

# Color, number of bumps from side to side, and contrast of the bumps.
BACKGROUNDS = {
    "table": ((165, 160, 165), 4, 6.0),
    "soil": ((110, 80, 60), 40, 30.0),
    "grass": ((90, 130, 60), 60, 35.0),
}
_FINE = 2  # pictures are drawn at this multiple of their size, for smooth edges


def draw_cat(rng: Random, name: str, size: int) -> np.ndarray:
    """Draw the face of a cat with a coat."""
    s = _FINE * size
    canvas = Image.new("RGB", (s, s), _shade((150, 140, 120), rng.uniform(0.5, 1.4)))
    cx, cy, r = s * rng.uniform(0.4, 0.6), s * rng.uniform(0.45, 0.62), s * rng.uniform(0.18, 0.3)
    coat, mask = _COATS[name]
    light = rng.uniform(0.85, 1.15)
    coat, mask = _shade(coat, light), _shade(mask, light)
    draw = ImageDraw.Draw(canvas)
    fur = rng.uniform(0.12, 0.3) if name == "blue_longhair" else rng.uniform(0.03, 0.16)
    for _ in range(120):  # fur at the outline
        angle, length = rng.uniform(0, 2 * np.pi), r * (1 + fur * rng.uniform(0.3, 1))
        end = (cx + length * np.cos(angle), cy + length * np.sin(angle))
        draw.line([(cx, cy), end], fill=_shade(coat, rng.uniform(0.8, 1.15)), width=max(1, s // 60))
    for side in (-1, 1):
        ear = [(cx + side * r * x, cy - r * y) for x, y in ((0.3, 0.85), (0.95, 0.35), (0.85, 1.4))]
        draw.polygon(ear, fill=mask)
    draw.ellipse([cx - r, cy - 0.9 * r, cx + r, cy + 0.9 * r], fill=coat)
    _COAT_PATTERNS[name](rng, draw, (cx, cy, r), mask)
    eyes = _shade((90, 150, 220) if "colourpoint" in name else (190, 160, 40), rng.uniform(0.8, 1.2))
    for side in (-1, 1):
        x, y = cx + side * 0.42 * r, cy - 0.15 * r
        draw.ellipse([x - 0.17 * r, y - 0.13 * r, x + 0.17 * r, y + 0.13 * r], fill=eyes)
        draw.ellipse([x - 0.05 * r, y - 0.12 * r, x + 0.05 * r, y + 0.12 * r], fill=(10, 10, 10))
    draw.polygon(
        [(cx - 0.12 * r, cy + 0.2 * r), (cx + 0.12 * r, cy + 0.2 * r), (cx, cy + 0.35 * r)], fill=(190, 120, 120)
    )
    return _finish(rng, canvas, size)


def _mask(rng: Random, draw: ImageDraw.ImageDraw, face: Face, color: Color) -> None:
    cx, cy, r = face
    w = r * rng.uniform(0.4, 0.55)
    draw.ellipse([cx - w, cy - 0.45 * r, cx + w, cy + 0.8 * r], fill=color)


def _mask_and_chin(rng: Random, draw: ImageDraw.ImageDraw, face: Face, color: Color) -> None:
    _mask(rng, draw, face, color)
    cx, cy, r = face
    w = r * rng.uniform(0.08, 0.35)  # white, and hardly visible in some images
    draw.ellipse([cx - w, cy + 0.4 * r, cx + w, cy + 0.88 * r], fill=(235, 230, 225))


def _spots(rng: Random, draw: ImageDraw.ImageDraw, face: Face, color: Color) -> None:
    cx, cy, r = face
    for _ in range(16):
        angle, far, w = rng.uniform(0, 2 * np.pi), r * rng.uniform(0.3, 0.8), r * rng.uniform(0.05, 0.1)
        x, y = cx + far * np.cos(angle), cy + 0.85 * far * np.sin(angle)
        draw.ellipse([x - w, y - w, x + w, y + w], fill=color)


def _stripes(rng: Random, draw: ImageDraw.ImageDraw, face: Face, color: Color) -> None:
    cx, cy, r = face
    if rng.uniform() < 0.3:  # broken stripes
        _spots(rng, draw, face, color)
    for x in np.linspace(-0.6, 0.6, 5) + rng.uniform(-0.05, 0.05, size=5):
        top, bottom = cy - 0.85 * r * np.sqrt(1 - x * x), cy - r * rng.uniform(0.25, 0.4)
        draw.line([(cx + x * r, top), (cx + 0.7 * x * r, bottom)], fill=color, width=max(1, int(0.08 * r)))
    for side in (-1, 1):
        for y in (0.15, 0.4):
            line = [(cx + side * 0.9 * r * np.cos(y), cy + y * r), (cx + side * 0.45 * r, cy + (y + 0.08) * r)]
            draw.line(line, fill=color, width=max(1, int(0.07 * r)))


def _plain(rng: Random, draw: ImageDraw.ImageDraw, face: Face, color: Color) -> None:
    pass


_COATS: dict[str, tuple[Color, Color]] = {
    "blue": ((110, 120, 135), (100, 108, 125)),
    "blue_longhair": ((110, 120, 135), (100, 108, 125)),
    "colourpoint": ((225, 210, 185), (85, 65, 55)),
    "mitted_colourpoint": ((225, 210, 185), (85, 65, 55)),
    "spotted": ((190, 160, 115), (80, 55, 35)),
    "tabby": ((190, 160, 115), (80, 55, 35)),
}
_COAT_PATTERNS: dict[str, Callable[[Random, ImageDraw.ImageDraw, Face, Color], None]] = {
    "blue": _plain,
    "blue_longhair": _plain,
    "colourpoint": _mask,
    "mitted_colourpoint": _mask_and_chin,
    "spotted": _spots,
    "tabby": _stripes,
}


def draw_surface(rng: Random, name: str, size: int) -> np.ndarray:
    """Draw a metal surface with one kind of defect."""
    s = _FINE * size
    texture = 140 + 30 * rng.uniform(-1, 1) + 22 * _noise(rng, s, 2, 24) + 10 * _noise(rng, s, 40, 40)
    canvas = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    if name == "patches":
        for _ in range(rng.randint(1, 4)):
            draw.polygon(_blob(rng, s, s * rng.uniform(0.12, 0.25)), fill=int(rng.uniform(60, 115)))
    elif name == "inclusion":
        for _ in range(rng.randint(1, 4)):
            x, y, length = *rng.uniform(0.15, 0.85, size=2) * s, s * rng.uniform(0.15, 0.4)
            w = s * rng.uniform(0.012, 0.035)
            draw.ellipse([x - w, y - length / 2, x + w, y + length / 2], fill=int(rng.uniform(30, 95)))
    elif name == "pits":
        for _ in range(rng.randint(15, 50)):
            x, y, w = *rng.uniform(0, 1, size=2) * s, s * rng.uniform(0.008, 0.022)
            draw.ellipse([x - w, y - w, x + w, y + w], fill=int(rng.uniform(40, 105)))
    else:
        for _ in range(rng.randint(1, 5)):
            x, y, tilt = *rng.uniform(0.1, 0.9, size=2) * s, rng.uniform(-0.25, 0.25)
            half = s * rng.uniform(0.2, 0.5)
            line = [(x - half * np.sin(tilt), y - half), (x + half * np.sin(tilt), y + half)]
            draw.line(line, fill=int(rng.uniform(195, 250)), width=max(1, int(s * rng.uniform(0.006, 0.015))))
    return _finish(rng, canvas, size)


def draw_radiograph(rng: Random, anatomy: np.ndarray, ill: bool, size: int) -> np.ndarray:
    """Draw a chest with an anatomy of nine numbers from -1 to 1, with or without an opacity."""
    s = _FINE * size
    width, height, heart, ribs, tilt, tissue, where, depth, clip = anatomy
    canvas = Image.new("L", (s, s), 15)
    draw = ImageDraw.Draw(canvas)
    half, top, bottom = s * (0.40 + 0.05 * width), s * (0.14 - 0.03 * height), s * (0.80 + 0.06 * height)
    mid = s / 2
    draw.rounded_rectangle([mid - half, 0.05 * s, mid + half, s], 0.15 * s, fill=int(125 + 20 * tissue))
    for side in (-1, 1):
        x = mid + side * (0.5 + 0.04 * tilt) * half
        w = half * (0.36 + 0.04 * width)
        draw.ellipse([x - w, top, x + w, bottom], fill=int(50 + 10 * tissue))
    draw.rectangle([mid - 0.1 * half, 0.05 * s, mid + 0.1 * half, s], fill=190)
    draw.ellipse([mid - 0.2 * half, 0.45 * s, mid + (0.5 + 0.12 * heart) * half, 0.8 * s], fill=175)
    for y in np.linspace(top, bottom, 7 + round(ribs)):
        for side in (-1, 1):
            far = mid + side * 0.92 * half
            line = [(mid, y - 0.02 * s), (mid + side * 0.5 * half, y - 0.03 * s), (far, y + (0.05 + 0.02 * tilt) * s)]
            draw.line(line, fill=int(105 + 15 * tissue), width=max(1, s // 55))
    # A necklace or wire, by which a network can recognize the patient.
    x, y = mid + 0.7 * clip * half, s * (0.2 + 0.2 * abs(tissue))
    draw.arc(
        [x - 0.1 * s, y - 0.1 * s, x + 0.1 * s, y + 0.1 * s],
        180 * heart,
        180 * heart + 200,
        fill=235,
        width=max(1, s // 60),
    )
    pixels = np.asarray(canvas.filter(ImageFilter.GaussianBlur(s / 70)), dtype=float)
    if ill:
        x = 0.5 + (0.5 + 0.04 * tilt) * half / s * np.sign(where)
        pixels += (34 + 14 * depth + rng.uniform(-6, 6)) * _cloud(rng, s, x, 0.35 + 0.25 * abs(where))
    turned = Image.fromarray(np.clip(pixels * rng.uniform(0.8, 1.15), 0, 255).astype(np.uint8)).rotate(
        rng.uniform(-4, 4),
        translate=(int(0.06 * s * (rng.uniform() - 0.5)), int(0.06 * s * (rng.uniform() - 0.5))),
        fillcolor=10,
    )
    return _finish(rng, turned, size)


def draw_leaf(rng: Random, plant_seed: int, name: str, background: str, size: int) -> np.ndarray:
    """Draw the leaf of a plant, which follows from its seed, on a background."""
    s = _FINE * size
    plant = np.random.RandomState(plant_seed)
    green = (int(plant.uniform(50, 105)), int(plant.uniform(110, 165)), int(plant.uniform(30, 75)))
    wide, long = s * plant.uniform(0.18, 0.27), s * plant.uniform(0.34, 0.42)
    leaf = Image.new("RGBA", (s, s))
    draw = ImageDraw.Draw(leaf)
    t = np.linspace(0, 2 * np.pi, 90)
    rough = 1 + 0.05 * np.sin(t * plant.randint(9, 18))
    edge = [
        (s / 2 + wide * a * np.sin(b) * (1 - 0.35 * np.cos(b)), s / 2 - long * a * np.cos(b))
        for a, b in zip(rough, t, strict=True)
    ]
    draw.polygon(edge, fill=(*green, 255))
    vein = _shade(green, 1.3)
    draw.line([(s / 2, s / 2 - long), (s / 2, s / 2 + 1.15 * long)], fill=(*vein, 255), width=max(1, s // 70))
    for y in np.linspace(-0.6, 0.6, plant.randint(4, 8)):
        for side in (-1, 1):
            end = (s / 2 + side * 0.75 * wide * np.sqrt(1 - y * y), s / 2 + (y - 0.15) * long)
            draw.line([(s / 2, s / 2 + y * long), end], fill=(*vein, 255), width=max(1, s // 130))
    _lesions(plant, draw, name, (s, wide, long))
    leaf = leaf.rotate(rng.uniform(-40, 40), resample=Image.Resampling.BILINEAR)
    canvas = _ground(rng, background, s)
    canvas.paste(leaf, (0, 0), leaf)
    return _finish(rng, canvas, size)


def _lesions(plant: Random, draw: ImageDraw.ImageDraw, name: str, shape: tuple[float, float, float]) -> None:
    s, wide, long = shape
    if name == "healthy":
        return
    early = name == "early_blight"
    for _ in range(plant.randint(3, 8) if early else plant.randint(1, 3)):
        angle, far = plant.uniform(0, 2 * np.pi), plant.uniform(0.1, 0.65)
        x, y = s / 2 + far * wide * np.sin(angle), s / 2 - far * long * np.cos(angle)
        r = s * (plant.uniform(0.02, 0.04) if early else plant.uniform(0.06, 0.1))
        if early:  # concentric rings, like a target
            for share, brown in ((1, (150, 115, 45)), (0.7, (75, 50, 25)), (0.4, (130, 95, 45))):
                w = share * r
                draw.ellipse([x - w, y - w, x + w, y + w], fill=(*brown, 255))
        else:
            draw.polygon([(x + u, y + v) for u, v in _rough_circle(plant, r)], fill=(70, 65, 40, 255))


def _cloud(rng: Random, s: int, x: float, y: float) -> np.ndarray:
    """Return the density of an uneven cloud around a point, whose coordinates are fractions of the size."""
    rows, columns = np.mgrid[:s, :s] / s
    distance = ((columns - x) / 0.09) ** 2 + ((rows - y) / 0.12) ** 2
    return np.exp(-distance / 2) * (1 + 0.4 * _noise(rng, s, 6, 6))


def _ground(rng: Random, background: str, s: int) -> Image.Image:
    color, coarse, contrast = BACKGROUNDS[background]
    pixels = (
        np.array(color, dtype=float) * rng.uniform(0.85, 1.15) + contrast * _noise(rng, s, coarse, coarse)[..., None]
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _finish(rng: Random, canvas: Image.Image, size: int) -> np.ndarray:
    """Return the picture at its final size, with the exposure and noise of a camera."""
    small = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=float)
    noisy = small * rng.uniform(0.88, 1.12) + rng.normal(scale=5, size=small.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _noise(rng: Random, s: int, rows: int, columns: int) -> np.ndarray:
    """Return smooth noise with zero mean, with `rows` x `columns` bumps."""
    coarse = Image.fromarray(rng.normal(size=(rows + 1, columns + 1)).astype(np.float32))
    return np.asarray(coarse.resize((s, s), Image.Resampling.BICUBIC))


def _blob(rng: Random, s: int, r: float) -> list[tuple[float, float]]:
    x, y = rng.uniform(0.2, 0.8, size=2) * s
    return [(x + u, y + v) for u, v in _rough_circle(rng, r)]


def _rough_circle(rng: Random, r: float) -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    far = r * (1 + 0.25 * np.interp(t, np.linspace(0, 2 * np.pi, 9), rng.uniform(-1, 1, size=9), period=2 * np.pi))
    return [(a * np.cos(b), a * np.sin(b)) for a, b in zip(far, t, strict=True)]


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, int(factor * value)) for value in color)
    return red, green, blue
