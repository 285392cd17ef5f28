"""`evaluation_report`: how well a model performs on test images, for the person who decides whether to deploy it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktl._estimators.estimator_summary import Fact, facts_of, is_fitted
from sktl._estimators.wrapped_estimators import check_instance, innermost, samples_for
from sktl._evaluation.class_figures import ClassFigures
from sktl._evaluation.evaluated_images import names_of, taken
from sktl._evaluation.findings import (
    Finding,
    about_classes,
    about_groups,
    about_images,
    about_labels,
    about_numbers,
    about_training_images,
    about_typicality,
)
from sktl._evaluation.group_figures import Groups
from sktl._evaluation.label_figures import LabelFigures
from sktl._evaluation.model_figures import Figures, figures_of
from sktl._evaluation.true_values import Truth
from sktl._evaluation.typicality_figures import TypicalityFigures, typicality_of
from sktl._hub.model_card import limits_of
from sktl._short_text import count, printable_line
from sktl._utils.settings_isolation import isolated
from sktl.exceptions import ImageFailure
from sktl.runtime.models import OnnxModel

from .evaluation_heat import explained, maps_of
from .evaluation_page import write_evaluation_page
from .evaluation_results import Evaluation
from .evaluation_summary import summary_of
from .page_thumbnails import limit_of

# The worst mistakes that a page shows, with maps of where the model looked.
N_WORST = 12


@dataclass(frozen=True, eq=False)
class EvaluationReport(Evaluation):
    """How well a model performs on test images: figures, findings and a page. Create it with :func:`evaluation_report`.

    All parameters are stored as read-only attributes.

    Parameters
    ----------
    figures : ClassFigures, LabelFigures or NumberFigures
        Figures of a classifier of classes or of several labels, or of a regressor, as attributes. Their arrays have a
        row for each evaluated image.
    positions : int64 ndarray of shape (n_evaluated,)
        Positions in `X` of the evaluated images. Images that cannot be read or lack a value in `y` are left out.
    n_images : int
        Number of images of `X`.
    names : tuple of str
        Names of the images of `X`: paths below the folder that they share, or positions.
    findings : tuple of Finding
        Facts that limit what the figures mean, such as images that cannot be read and classes that the model does not
        know.
    typicality : TypicalityFigures or str
        Whether the images are like the training images or, if the typicality is unavailable, the reason.
    worst : int64 ndarray of shape (n_worst,)
        Rows of the worst mistakes among the evaluated images.
    maps : Maps or str
        The worst mistakes under Grad-CAM maps of where the model looked or, if there are no maps, the reason.
    facts : tuple of Fact
        What the model was trained on, and how.
    limits : tuple of str
        When not to rely on the model.
    samples : list of Sample
        The images of `X`, from which the page reads its thumbnails.

    See Also
    --------
    PredictionsDisplay : Images with their predictions, drawn by matplotlib.
    """

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        images = f"{len(self.positions):,} of {count(self.n_images)}"
        return f"<EvaluationReport: {images}, {count(len(self.findings), 'finding')}>"

    def summary(self) -> str:
        """Return the most important figures and all findings as text.

        Returns
        -------
        text : str
            A few lines.
        """
        return summary_of(self)

    def to_html(
        self, path: str | os.PathLike[str], *, title: str = "Evaluation report", max_megabytes: float = 16
    ) -> None:
        """Write the report as one self-contained HTML page.

        The page loads nothing else, sends nothing, and runs no script. Names of files are relative to the folder that
        all of them share.

        Parameters
        ----------
        path : str or path-like
            File to write, such as "report.html". An existing file is replaced.
        title : str, default="Evaluation report"
            Heading of the page, for instance with the name of the model.
        max_megabytes : float, default=16
            Maximum size of all thumbnails together. When it is reached, less important images are shown without a
            thumbnail, and the page says how many.

        Raises
        ------
        InvalidParameterError
            If `path` is not a path, or has another suffix than HTML files; or if `max_megabytes` is not a number of at
            least 0.
        InvalidInputError
            If the folder does not exist, or `path` is a folder, a pipe or a device.
        OSError
            If the file cannot be written.
        """
        write_evaluation_page(self, path, title, limit_of(max_megabytes))


@isolated()
def evaluation_report(estimator: Any, X: Any, y: Any, *, groups: Any = None) -> EvaluationReport:
    """Evaluate a model on test images, for the person who decides whether to deploy it.

    Parameters
    ----------
    estimator : fitted classifier or regressor
        A :class:`PretrainedImageClassifier` or :class:`PretrainedImageRegressor`, or a search, pipeline or ensemble
        that contains one; or an exported model, such as a :class:`sktl.runtime.OnnxClassifier`.
    X : array-like of shape (n_samples, ...)
        Images that the model was not trained on; see the Notes of :class:`PretrainedImageClassifier` for the accepted
        formats. If the estimator contains a :class:`~sklearn.compose.ColumnTransformer`, a table with a column of
        images.
    y : array-like of shape (n_samples,) or (n_samples, n_columns)
        Labels or numbers of the images, as in `fit`. A data frame must have the same columns as in `fit`, in the same
        order. Images without a value (None or NaN), or without one of several values, are left out. Images of classes
        that the model does not know count as wrong.
    groups : array-like of shape (n_samples,), default=None
        Group of each image, such as its patient. Images of a group resemble each other, so confidence intervals are
        wider, and the report has a table of groups.

    Returns
    -------
    report : EvaluationReport
        Figures as attributes; `summary()` as text, and `to_html(path)` as a page.

    Raises
    ------
    InvalidInputError
        If `estimator` predicts neither probabilities nor numbers, `X`, `y` and `groups` do not match, or no label in
        `y` is a class of the model.
    InvalidImageError
        If no image can be read. Individual images that cannot be read are listed in the findings of the report.

    Notes
    -----
    Figures of classes and labels evaluate what `predict` returns, including thresholds such as those of scikit-learn's
    :class:`~sklearn.model_selection.TunedThresholdClassifierCV`.

    Confidence intervals of proportions are Wilson intervals [1]_. With `groups`, they use the effective number of
    independent images [2]_, and assume that groups differ a little more than the images show. Intervals of mean errors
    use Student's t-distribution, with the variance between groups.

    A threshold reaches an accuracy if the lower limit of the interval is at least this accuracy. Thresholds are chosen
    on the images that they are evaluated on, so confirm them on other images. Probabilities are called too high or too
    low if their mean differs from the accuracy by at least 0.5 percentage points and a binomial test rejects equality
    at the 1 % level.

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
       Statistical Association 22, 1927.
    .. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of positive
       counts estimated from survey data", Survey Methodology 24, 1998.

    Examples
    --------
    >>> from sktl import PretrainedImageClassifier, evaluation_report
    >>> from sktl.datasets import make_cats
    >>> cats = make_cats(24, image_size=32, random_state=0)
    >>> clf = PretrainedImageClassifier(image_size=32, random_state=0).fit(cats.data[:16], cats.target[:16])
    >>> report = evaluation_report(clf, cats.data[16:], cats.target[16:])
    >>> report.figures.accuracy.n
    8
    """
    check_instance(estimator)
    inner, _ = innermost(estimator)
    if hasattr(inner, "fit"):  # exported models have none
        check_is_fitted(inner)
    samples = samples_for(estimator, X, lenient=True)
    truth, of_images = Truth.of(y, len(samples)), Groups.of(groups, len(samples))
    figures, rows, failures = figures_of(estimator, X, truth, of_images)
    used = None if of_images is None else of_images.take(rows)
    typicality = typicality_of(estimator, taken(X, rows), None if used is None else used.codes)
    worst = figures.worst()[:N_WORST]
    facts, limits = _about_model(inner)
    return EvaluationReport(
        figures=figures,
        positions=rows,
        n_images=len(samples),
        names=names_of(samples),
        findings=_findings(figures, rows, failures, truth, used, typicality),
        typicality=typicality,
        worst=worst,
        maps=maps_of(estimator, X, rows[worst], explained(estimator, figures, worst)),
        facts=facts,
        limits=limits,
        samples=samples,
    )


def _about_model(model: Any) -> tuple[tuple[Fact, ...], tuple[str, ...]]:
    """Return the facts and the limits of a model."""
    if is_fitted(model):
        return tuple(facts_of(model)), tuple(limits_of(model))
    kind = Fact("Model", printable_line(type(model).__name__), "")
    if not isinstance(model, OnnxModel):
        return (kind,), ()
    precision = Fact("Precision", model.document.precision, "document")
    facts, limits = (model.document.card.get(name) for name in ("facts", "limits"))  # of any type, if forged
    of_training = [map(printable_line, fact) for fact in facts.items()] if isinstance(facts, dict) else []
    return (
        (kind, precision, *(Fact(name, value, "document") for name, value in of_training)),
        tuple(map(printable_line, limits)) if isinstance(limits, list) else (),
    )


def _findings(
    figures: Figures,
    rows: np.ndarray,
    failures: list[ImageFailure],
    truth: Truth,
    groups: Groups | None,
    typicality: TypicalityFigures | str,
) -> tuple[Finding, ...]:
    if isinstance(figures, ClassFigures):
        findings = about_images(failures, truth.missing, "label") + about_classes(figures, rows)
    elif isinstance(figures, LabelFigures):
        findings = about_images(failures, truth.missing, "label", figures.labels) + about_labels(figures)
    else:
        findings = about_images(failures, truth.missing, "number", figures.numbers) + about_numbers(figures)
    seen = about_training_images(None if isinstance(typicality, str) else typicality.known, rows)
    return (*seen, *findings, *about_groups(groups), *about_typicality(typicality, rows))
