"""Sections of an evaluation's page about classes: the table, the confusions, the mistakes, and the probabilities."""

from __future__ import annotations

from sktl._evaluation.calibration import Calibration
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.confidence_intervals import fewest_images
from sktl._evaluation.selective_classification import Coverage
from sktl._evaluation.sentences import interval, of_calibration, short, threshold
from sktl._short_text import NONE, count, decimal, percent

from .evaluation_charts import Axis, Frame, interval_mark, with_intervals
from .evaluation_elements import (
    Pictures,
    beside,
    folded,
    grid,
    paragraphs,
    rest,
    section,
    table,
    tile,
    with_interval,
)
from .evaluation_results import Evaluation
from .markup import Markup, joined, named, plain, tag

_MOST_CLASSES = 200
# Larger matrices are unreadable; the page lists their most frequent confusions instead.
_MOST_COLUMNS = 25
_MOST_CELLS = 150
_MOST_EXAMPLES, _MOST_PER_CELL = 600, 6
_N_SHADES = 9
# Cells of the matrix whose images open below it; the others are one level deeper.
_UNFOLDED = 10


def tiles(figures: ClassFigures) -> list[Markup]:
    """Return the most important figures in large letters."""
    return [
        tile(percent(figures.accuracy.value), "accuracy", f"95 % interval {interval(figures.accuracy)}"),
        tile(percent(figures.balanced_accuracy), "balanced accuracy", "mean over classes"),
        tile(decimal(figures.log_loss), "log loss", "0 is perfect"),
        calibration_tile(figures.calibration),
    ]


def sections(report: Evaluation, figures: ClassFigures, pictures: Pictures) -> list[Markup]:
    """Return the sections about classes, the table first."""
    return [
        _of_classes(figures),
        _of_confusions(figures, pictures),
        _of_mistakes(report, figures, pictures),
        calibration_section(figures.calibration),
        _of_coverage(figures.coverage),
    ]


def _of_classes(figures: ClassFigures) -> Markup:
    rows = sorted(figures.of_classes, key=lambda row: (not row.recall.n, row.recall.value, row.name))
    heads = ["class", "images", "recognized", "", "right when predicted", "F1", "training images"]
    body = [
        [
            joined(named(short(row.name)), "" if row.known else tag("span", " not known to the model", class_="bad")),
            f"{row.recall.n:,}",
            with_interval(percent(row.recall.value), row.recall),
            interval_mark(row.recall) or "",
            with_interval(percent(row.precision.value), row.precision),
            decimal(row.f1),
            NONE if row.n_trained is None else f"{row.n_trained:,}",
        ]
        for row in rows[:_MOST_CLASSES]
    ]
    words = (
        "Recognized: the share of the images of a class for which the model names this class (recall). Right when "
        "predicted: the share of correct predictions when the model names this class (precision). Small figures are "
        "95 % confidence intervals. The least recognized classes come first."
    )
    return section(
        "classes", "Each class", tag("p", words), table(heads, body), rest(len(rows), _MOST_CLASSES, "classes")
    )


def _of_mistakes(report: Evaluation, figures: ClassFigures, pictures: Pictures) -> Markup:
    n_wrong = figures.accuracy.n - figures.accuracy.n_hits
    if not n_wrong:
        return section("mistakes", "The worst mistakes", tag("p", "No prediction is wrong."))
    words = [
        f"These are the {count(len(report.worst), 'wrong answer')} of {n_wrong:,} that the model was most certain of. "
        "Look for wrong labels in the test set, for images that people cannot tell apart either, and for a common "
        "cause."
    ]
    cards = []
    for i, row in enumerate(report.worst.tolist()):
        predicted, true = (figures.classes[code[row]] for code in (figures.y_pred, figures.y_true))
        caption = [
            tag("span", "predicted: ", named(short(predicted)), f" {percent(figures.proba_pred[row])}", class_="bad"),
            tag("span", "true: ", named(short(true)), f" {percent(figures.proba_true[row])}"),
        ]
        map_ = None if isinstance(report.maps, str) else report.maps.pictures[i]
        cards.append(pictures.card(row, *caption, beside=map_))
    words.append(map_words(report, "supports the wrong answer"))
    return section("mistakes", "The worst mistakes", paragraphs(words), grid(cards))


def map_words(report: Evaluation, what: str) -> str:
    """Return what the maps beside images show, or why there are none. `what` is what warm colors show."""
    if isinstance(report.maps, str):
        return report.maps
    return (
        f"Warm colors in the second picture show what {what} (Grad-CAM). The model does not see pale edges. A map "
        "shows where the model found something, not whether this is a good reason."
    )


def _of_confusions(figures: ClassFigures, pictures: Pictures) -> Markup:
    confused = [cell for cell in figures.cells if cell[0] != cell[1]]
    if len(figures.classes) > _MOST_COLUMNS:
        words = "There are too many classes for a matrix. These are the most frequent confusions, with images."
        shown = confused[:_MOST_CELLS]
        parts = [*_cells(figures, pictures, shown), rest(len(confused), len(shown), "confusions")]
        return section("confusions", "Which classes are confused", tag("p", words), *parts)
    words = (
        "A cell counts the images of the class of its row for which the model names the class of its column, whose "
        "number is above it. Select a count to see images."
    )
    # Confusions before correct predictions, which matter less if the page is full.
    opened = _cells(figures, pictures, [*confused, *(cell for cell in figures.cells if cell[0] == cell[1])])
    parts = [
        *opened[:_UNFOLDED],
        folded("All other cells", *opened[_UNFOLDED:]) if len(opened) > _UNFOLDED else None,
    ]
    return section("confusions", "Which classes are confused", tag("p", words), _matrix(figures), *parts)


def _cells(figures: ClassFigures, pictures: Pictures, cells: list[tuple[int, int]]) -> list[Markup]:
    per_cell = max(1, min(_MOST_PER_CELL, _MOST_EXAMPLES // max(1, len(cells))))
    return [_cell(figures, pictures, *cell, per_cell) for cell in cells]


def _matrix(figures: ClassFigures) -> Markup:
    numbers = [str(k + 1) for k in range(len(figures.classes))]
    head = tag("tr", tag("th", "true class"), *(tag("th", k, class_="number", scope="col") for k in numbers))
    rows = []
    for i, name in enumerate(figures.classes):
        title = tag("th", f"{numbers[i]} ", named(short(name)), scope="row")
        rows.append(tag("tr", title, *(_count(figures, i, j) for j in range(len(numbers)))))
    body = tag("table", tag("thead", head), tag("tbody", *rows), class_="confusion")
    return tag("div", body, class_="wide", tabindex=0)


def _count(figures: ClassFigures, true: int, predicted: int) -> Markup:
    n, total = figures.cells.get((true, predicted), 0), figures.of_classes[true].recall.n
    if not n:
        return tag("td", class_="number")
    shade = max(1, round(n / total * _N_SHADES))
    label = f"{count(n)} of {figures.classes[true]}, predicted {figures.classes[predicted]}"
    link = tag("a", f"{n:,}", href=f"#cell-{true}-{predicted}", title=plain(label))
    return tag("td", link, class_=f"number {'right' if true == predicted else 'wrong'} shade-{shade}")


def _cell(figures: ClassFigures, pictures: Pictures, true: int, predicted: int, most: int) -> Markup:
    n, total = figures.cells.get((true, predicted), 0), figures.of_classes[true].recall.n
    of, as_ = named(short(figures.classes[true])), named(short(figures.classes[predicted]))
    words = (
        joined(f"{n:,} of {count(total)} of ", of, f" {'is' if n == 1 else 'are'} recognized")
        if true == predicted
        else joined(f"{n:,} of {count(total)} of ", of, f" {'is' if n == 1 else 'are'} taken for ", as_)
    )
    cards = [
        pictures.card(row, tag("span", percent(figures.proba_pred[row])), small=True)
        for row in figures.examples(true, predicted, most)
    ]
    left_out = rest(n, len(cards), "images, the surest first")
    return folded(words, grid(cards), left_out, anchor=f"cell-{true}-{predicted}")


def calibration_tile(calibration: Calibration) -> Markup:
    """Return the calibration error in large letters."""
    return tile(percent(calibration.error), "calibration error", "stated against true probability")


def calibration_section(calibration: Calibration) -> Markup:
    """Return the section about the calibration of probabilities."""
    return section("calibration", "Can the probabilities be trusted?", _calibration_chart(calibration))


def _calibration_chart(calibration: Calibration) -> Markup:
    """Return the calibration curve and what it means."""
    lowest = min(0.5, *(min(bin.low, bin.rate.low) for bin in calibration.bins))
    frame = Frame(Axis("stated probability", lowest, 1, True), Axis("share of correct predictions", lowest, 1, True))
    rates = [bin.rate for bin in calibration.bins]
    content = [
        frame.line([lowest, 1], [lowest, 1], "ideal"),
        *with_intervals(frame, [bin.probability for bin in calibration.bins], rates),
    ]
    fullest = max(calibration.bins, key=lambda bin: bin.rate.n)
    example = (
        f"For example, where the model states {percent(fullest.low, 0)} to {percent(fullest.high, 0)}, its answer is "
        f"right for {percent(fullest.rate.value)} of {count(fullest.rate.n)}."
    )
    words = (
        "Points on the dashed line are right: of the answers that the model is 80 % sure of, 80 % should be right. "
        "Points below it mean that the model is too sure. Larger points are more images; lines are 95 % confidence "
        "intervals."
    )
    chart = frame.draw(*content, text=of_calibration(calibration)[0])
    return beside(chart, paragraphs([words, example, *of_calibration(calibration)]))


def _of_coverage(coverage: Coverage) -> Markup:
    lowest = float(coverage.accuracies.min())
    frame = Frame(
        Axis("share of images that are answered", 0, 1, True),
        Axis("accuracy for them", min(0.9, lowest - 0.02), 1, True),
    )
    content = [frame.line([0, 1], [target.accuracy] * 2, "ideal") for target in coverage.targets]
    content.append(frame.line(coverage.shares, coverage.accuracies, "series"))
    words = (
        "How often the model is right if a person looks at the images that it is least sure of. Further left, more "
        "images are left to a person. The dashed lines are the accuracies in the table."
    )
    fewest = " or ".join(f"{fewest_images(target.accuracy):,}" for target in coverage.targets)
    caution = (
        "A threshold reaches an accuracy if the lower limit of the 95 % confidence interval is at least this accuracy. "
        f"This takes at least {fewest} images without a mistake, or more with some. The thresholds were chosen on "
        "these images: confirm them on other images."
    )
    return section(
        "coverage",
        "What if uncertain images are left to a person?",
        beside(
            frame.draw(*content, text=words),
            tag("p", words),
            table(
                ["to reach", "left to a person", "lowest probability", "other images", "accuracy for them"],
                _targets(coverage),
                (),
            ),
            tag("p", caution, class_="muted"),
        ),
    )


def _targets(coverage: Coverage) -> list[list[object]]:
    return [
        [percent(target.accuracy, 0), "not reached", NONE, NONE, NONE]
        if target.threshold is None
        else [
            percent(target.accuracy, 0),
            percent(target.turned_away),
            threshold(target.threshold),
            f"{target.kept.n:,}",
            with_interval(percent(target.kept.value), target.kept),
        ]
        for target in coverage.targets
    ]
