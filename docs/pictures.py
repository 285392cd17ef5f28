"""The pictures of the site that no example draws, made when it is built."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import fitted_pictures
import measured

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#00795a", "#555555"  # dark enough for text on white


def draw_all(folder: Path) -> None:
    """Draw the pictures that are not there yet, or older than what they are drawn from, into a folder."""
    folder.mkdir(exist_ok=True)
    for name, draw in (
        ("predictions.png", fitted_pictures.draw_predictions),
        ("training_curve.png", fitted_pictures.draw_training_curve),
        ("wrong_predictions.png", fitted_pictures.draw_wrong_predictions),
        ("saliency.png", fitted_pictures.draw_saliency),
        ("feature_map.png", fitted_pictures.draw_feature_map),
        ("learning_rates.png", fitted_pictures.draw_learning_rates),
        ("augmentation.png", fitted_pictures.draw_augmentation),
        ("few_images.png", fitted_pictures.draw_few_images),
        ("data_flow.svg", draw_data_flow),
        ("search.svg", draw_search),
        ("single_fit.svg", draw_single_fit),
        ("predict.svg", draw_predict),
        ("rank_backbones.svg", draw_ranking),
        ("smaller_cat_breeds.svg", draw_smaller),
        ("smaller_magnetic_tile.svg", draw_smaller),
    ):
        path = folder / name
        result = measured.RESULTS / f"{path.stem}.json"
        sources = [Path(inspect.getfile(draw)), *[result] * result.exists()]
        if not path.exists() or path.stat().st_mtime < max(source.stat().st_mtime for source in sources):
            draw(path)


class Box(NamedTuple):
    """A box of the diagram: its middle, width, colour, and lines of text, the first of them bold."""

    x: float
    y: float
    width: float
    colour: str
    lines: tuple[str, ...]

    @property
    def height(self) -> float:
        """Height in pixels."""
        return 16 + 23 * len(self.lines)


FLOW = {
    "X": Box(270, 35, 330, GREY, ("X", "paths, arrays, bytes, Pillow images")),
    "samples": Box(270, 125, 330, GREY, ("samples", "checked, known by their content")),
    "pixels": Box(390, 225, 270, GREY, ("pixels", "decoded, resized, cropped")),
    "trunk": Box(390, 325, 270, BLUE, ("trunk: frozen stages", "once for each image")),
    "kept": Box(105, 325, 190, GREEN, ("kept", "in the cache")),
    "tail": Box(270, 425, 330, ORANGE, ("tail: trained stages", "none for trainable_stages=0")),
    "head": Box(270, 515, 330, ORANGE, ("head: output layer", "trained in a second or two")),
    "classes": Box(270, 605, 330, GREY, ("probabilities of your classes", "one row for each image")),
}
ARROWS = (
    ("X", "samples", ""), ("samples", "pixels", "new images"), ("samples", "kept", "known images"),
    ("pixels", "trunk", ""), ("trunk", "tail", ""), ("kept", "tail", ""), ("tail", "head", ""), ("head", "classes", ""),
)  # fmt: skip


def draw_data_flow(path: Path) -> None:
    """Draw how an image becomes a prediction; narrow enough to be read on a phone."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 540 645" width="540" height="645" '
        'font-family="sans-serif" font-size="17" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{GREY}"/></marker></defs>',
        '<rect width="540" height="645" fill="white"/>',
        *(_arrow(FLOW[start], FLOW[end], text) for start, end, text in ARROWS),
        _line(FLOW["trunk"].x - FLOW["trunk"].width / 2, FLOW["trunk"].y, FLOW["kept"].x + FLOW["kept"].width / 2 + 3),
        *(_box(box) for box in FLOW.values()),
        "</svg>",
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _box(box: Box) -> str:
    left, top = box.x - box.width / 2, box.y - box.height / 2
    lines = [
        f'<text x="{box.x}" y="{top + 25 + 23 * i}" fill="{box.colour}" font-weight="{weight}">{escape(line)}</text>'
        for i, (line, weight) in enumerate(zip(box.lines, ("bold", "normal"), strict=False))
    ]
    return (
        f'<rect x="{left}" y="{top}" width="{box.width}" height="{box.height}" rx="9" fill="white" '
        f'stroke="{box.colour}" stroke-width="2.5"/>' + "".join(lines)
    )


def _arrow(start: Box, end: Box, text: str) -> str:
    """Return an arrow downwards where the two boxes overlap, with a text on the side of the second one's middle."""
    y, bottom = start.y + start.height / 2, end.y - end.height / 2 - 2
    left = max(start.x - start.width / 2, end.x - end.width / 2)
    x = (left + min(start.x + start.width / 2, end.x + end.width / 2)) / 2
    anchor, far = ("end", x - 8) if end.x < start.x else ("start", x + 8)
    line = f'<path d="M{x} {y} V{bottom}" stroke="{GREY}" stroke-width="2" fill="none" marker-end="url(#tip)"/>'
    return (
        line + f'<text x="{far}" y="{(y + bottom) / 2 + 6}" text-anchor="{anchor}" fill="{GREY}">{escape(text)}</text>'
    )


def _line(x: float, y: float, end: float) -> str:
    return f'<path d="M{x} {y} H{end}" stroke="{GREY}" stroke-width="2" fill="none" marker-end="url(#tip)"/>'


def draw_search(path: Path) -> None:
    """Draw what a search takes."""
    _bars(path, "search", "s", "seconds for a search", log=True)


def draw_single_fit(path: Path) -> None:
    """Draw what one fit takes."""
    _bars(path, "single_fit", "s", "seconds for one fit", log=True)


def draw_predict(path: Path) -> None:
    """Draw how many images a second are predicted."""
    _bars(path, "predict", "images / s", "images predicted in a second")


def draw_ranking(path: Path) -> None:
    """Draw the accuracy of ranked networks by the time of an image; names stand beside the points."""
    from matplotlib.figure import Figure

    header, rows = measured.read_table("rank_backbones")
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    ax = figure.subplots()
    for row in rows:
        name, weights, pixels, accuracy, time = (
            row[header.index(column)]
            for column in ("backbone", "weights", "pixels", "test accuracy in %", "ms per image")
        )
        text = f"  {name.removeprefix('efficientnet_')}, {pixels} px" + ", random weights" * (weights == "random")
        ax.plot(float(time), float(accuracy), "o", color="#999999" if weights == "random" else BLUE)
        ax.annotate(text, (float(time), float(accuracy)), va="center", fontsize=9)
    ax.set(xlabel="ms per image", ylabel="test accuracy in %", ylim=(0, 100))
    ax.set_xlim(0, 1.35 * ax.get_xlim()[1])
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def draw_smaller(path: Path) -> None:
    """Draw the accuracy of parts of a network by the time of an image; image sizes stand beside the points."""
    from matplotlib.figure import Figure

    header, rows = measured.read_table(path.stem)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    ax = figure.subplots()
    numbers = list(dict.fromkeys(row[header.index("n_stages")] for row in rows))
    for number, colour in zip(numbers, ("#999999", "#e69f00", BLUE, GREEN, ORANGE, GREY), strict=False):
        own = [row for row in rows if row[header.index("n_stages")] == number]
        times, accuracies = (
            [float(row[header.index(column)]) for row in own] for column in ("ms per image of 64", "test accuracy in %")
        )
        ax.plot(times, accuracies, "o-", color=colour, linewidth=1, label=f"{number} stages, {own[0][-1]} MB")
        for row, time, accuracy in zip(own, times, accuracies, strict=True):
            ax.annotate(f" {row[header.index('image_size')]}", (time, accuracy), fontsize=8, va="top")
    ax.set(xscale="log", xlabel="ms per image, logarithmic", ylabel="test accuracy in %")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.legend(fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _bars(path: Path, table: str, column: str, label: str, log: bool = False) -> None:
    """Draw a column of a table; what was extrapolated gets a star."""
    from matplotlib.figure import Figure

    header, rows = measured.read_table(table)
    column_of_notes = header.index("extrapolated from") if "extrapolated from" in header else 0
    starred = [bool(row[column_of_notes]) if column_of_notes else "extrapolated" in row[0] for row in rows]
    names = [row[0].split(", extrapolated")[0] + " *" * star for row, star in zip(rows, starred, strict=True)]
    values = [float(row[header.index(column)]) for row in rows]
    figure = Figure(figsize=(5, 1 + 0.4 * len(names)), layout="constrained")
    ax = figure.subplots()
    ours = [BLUE if name.startswith("sktl") else "#999999" for name in names]
    bars = ax.barh(names, values, color=ours)
    ax.bar_label(bars, [f" {value:g}" for value in values])
    ax.set_xscale("log" if log else "linear")
    ax.set_xlim(right=max(values) * (15 if log else 1.25))
    ax.invert_yaxis()
    notes = [label, *["logarithmic"] * log, *["* extrapolated"] * any(starred)]
    ax.set_xlabel(", ".join(notes))
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
