"""`sktl evaluate`: compare the predictions of a saved model with the true values of test images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sktl._short_text import first_few, fitted

from .command_messages import printable
from .image_sources import WIDTH, ImageSource, resembling
from .options import (
    decisions,
    images,
    machine,
    saved_model,
    with_source,
)
from .saved_models import load_with_test_images
from .text_formats import as_json, print_data

if TYPE_CHECKING:
    import numpy as np

    from .metrics_text import ClassMetrics, LabelMetrics, NumberMetrics


@click.command(short_help="Compare predictions with the true values.")
@saved_model
@images
@click.option("--json", "form", flag_value="json", help="All figures as JSON.")
@decisions
@machine
@with_source
def evaluate(
    model: str, source: ImageSource, form: str | None, decisions: tuple[str, ...], quiet: bool, **machine: Any
) -> None:
    """Compare the predictions of MODEL with the classes of FOLDER/<class>/*.jpg, or with a table.

    For classes, prints the accuracy, the precision and recall of each class, and the confusion matrix; for several
    labels, average precision and F1; for numbers, R2, the mean absolute error and the largest errors. By default,
    columns of labels or of several numbers are the columns whose names are stored in MODEL.

    \b
    sktl evaluate cats.sktl photos/test
    sktl evaluate cats.sktl photos/test --json > figures.json
    sktl evaluate cats.sktl photos/test --decisions decisions.csv
    sktl evaluate tags.sktl --labels labels.csv --where split=test
    """
    from .predictions import training_images_among

    estimator, photos = load_with_test_images(model, source, decisions, quiet, **machine)
    metrics = _metrics(estimator, photos, printable(Path(model).name))
    if seen := training_images_among(estimator, photos.data):
        click.echo(f"Warning: {seen}", err=True)
    if form == "json":
        print_data(as_json(metrics.figures()))
    else:
        click.echo(metrics.report())


def _metrics(estimator: Any, photos: Any, model: str) -> ClassMetrics | LabelMetrics | NumberMetrics:
    """Return the metrics of the predictions for a test set."""
    from .metrics_text import ClassMetrics, LabelMetrics, NumberMetrics
    from .predictions import values_of

    if photos.kind == "classes":
        target = photos.target.astype(str)
        _warn_of_other_classes(target, estimator.classes_, model)
        return ClassMetrics(target, estimator.predict(photos.data).astype(str))
    values = values_of(estimator, photos.data)
    if photos.kind == "labels":
        return LabelMetrics(photos.target_names, photos.target, values)
    return NumberMetrics(photos.target_names, photos.data, photos.target, values)


def _warn_of_other_classes(target: np.ndarray, classes: np.ndarray, model: str) -> None:
    """Warn of classes that only the test images or only the model have."""
    known = {*classes.astype(str).tolist()}
    unknown = sorted((name, n) for name, n in Counter(target.tolist()).items() if name not in known)
    if unknown:
        names = first_few([f"{fitted(name, WIDTH)!a} ({n})" for name, n in unknown])
        message = f"{model} was not trained on these classes, whose images count as wrong: {names}."
        hint = resembling([name for name, _ in unknown], sorted(known))
        click.echo(f"Warning: {message} {hint}".rstrip(), err=True)
    if absent := sorted(known - {*target.tolist()}):
        names = first_few([f"{fitted(name, WIDTH)!a}" for name in absent])
        message = f"No test image has these classes, so the figures say nothing about them: {names}."
        click.echo(f"Warning: {message}", err=True)
