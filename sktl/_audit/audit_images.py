"""`audit_images`: find what is wrong with images and labels, before a model is trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

from sktl._backbones.taps import StageLayout
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._features.extractor import FeatureExtractor
from sktl._images.samples import Sample
from sktl._short_text import LONGEST_REASON, one_line
from sktl._targets.base_targets import Targets
from sktl._targets.class_targets import ClassTargets
from sktl._targets.label_targets import LabelTargets
from sktl._targets.sample_groups import joined_groups
from sktl._training.json_values import plain
from sktl._utils.settings_isolation import isolated
from sktl._utils.similar_names import resemblances
from sktl._utils.threads import n_threads, single_threaded_pool
from sktl.exceptions import ImageFailure

from .audit_arguments import (
    Given,
    among,
    check_estimator,
    check_folds,
    folds_of_usable,
    keep_together,
)
from .audit_result import ImageAudit
from .copies import Copies, connected_note, copy_issues, find_copies
from .issues import Issue, Note, as_array
from .out_of_fold import learner_of
from .rare_classes import rare_classes
from .shortcuts import shortcuts
from .subjects import Subjects
from .suspicious_labels import LabeledRows, LabelModel, Votes, are_judged, label_issues, unjudged
from .thumbnails import Thumbnail, read_thumbnails
from .unlike_the_rest import typicalities

# With fewer different images, none can be told to be unlike the rest.
_FEWEST = 20
# Deviations below the ordinary.
_FAR_BELOW = 5.0


@isolated()
def audit_images(
    X: Any,
    y: Any = None,
    *,
    groups: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    groups_test: Any = None,
    estimator: Any = None,
    cv: Any = 5,
    random_state: int | np.random.RandomState | None = None,
) -> ImageAudit:
    """Find unreadable images, copies, suspicious labels and other problems in a dataset.

    The audit changes nothing: it lists findings that a person should look at. Features are cached, and later fits with
    the same network reuse them.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats. If `estimator` contains a
        :class:`~sklearn.compose.ColumnTransformer`, a table with a column of images. Images that cannot be used are
        listed as findings, and do not stop the audit.
    y : array-like of shape (n_samples,) or (n_samples, n_columns), default=None
        Labels; a table of 0 and 1 with one column per label; or, for a regressor, numbers. Without `y`, only the images
        are checked.
    groups : array-like of shape (n_samples,), default=None
        Groups of images, such as the images of one patient, which folds do not split. Copies across groups are marked.
        `fit` of `estimator` gets them if it has the parameter `groups`, except in folds with too few groups for early
        stopping to hold out whole groups.
    X_test, y_test : array-like, default=None
        Test images and their labels. They are checked as well, and copies across train and test are marked. No model is
        trained on them. A test label is the class of `y` with the same value or, if there is none, with the same text.
    groups_test : array-like of shape (n_samples_test,), default=None
        Groups of test images. Groups with the same text in `groups` are findings.
    estimator : estimator, default=None
        Classifier or regressor whose predictions reveal suspicious labels; clones of it are fitted, so it must not
        contain a classifier or regressor in a :class:`~sklearn.frozen.FrozenEstimator`. None uses
        ``PretrainedImageClassifier()``. If no stages are trained, each image is embedded once per network, unless an
        sktl estimator within another estimator has ``cache=False``.
    cv : int, cross-validation generator or iterable, default=5
        Folds for the predictions. If `cv` is an integer, the folds are stratified and keep groups and exact copies
        together. Other folds divide all images of `X`; images that cannot be used are then left out.
    random_state : int, RandomState or None, default=None
        Controls the folds, the initial output layers and the images that others are compared with. Pass an integer for
        reproducible findings.

    Returns
    -------
    audit : ImageAudit
        Findings, the most important of each kind first. Print it, plot it, or convert it to a data frame.

    Raises
    ------
    InvalidInputError
        If an argument as a whole is not in a supported format, or labels are missing.
    InvalidParameterError
        If `estimator`, `cv` or `random_state` is invalid.

    See Also
    --------
    check_images : Only find images that cannot be used.

    Notes
    -----
    Candidate copies are found by features of the network and by windows of thumbnails. They are then aligned, and
    confirmed by the fine detail of their pixels, which must agree everywhere in both images. Copies may be
    recompressed, resized, mirrored, rotated by quarter turns, cropped to about 70 % of both sides or 60 % of one side,
    changed in brightness or color, or have bars of one color and equal width on two opposite sides. Photos of the same
    scene with different content are not copies. Therefore, copies with a caption, a date, a logo or a watermark are not
    found, and neither are negatives and most copies that were rotated by other angles.

    A label is suspicious if another label is at least ten times as probable for a model that was not trained on the
    image; labels of copies count as one vote. For classes, and if the estimator trains only an output layer, models are
    fitted twice, the second time without the labels that were suspicious the first time. Labels that a model cannot
    learn, because none of its training images has them, are not judged. A number is suspicious if its residual exceeds
    five standard deviations of the residuals of training images.

    An image is unlike the rest if its typicality, compared with images of other folds, is more than five standard
    deviations below the median. The deviation is estimated from one of each group of copies, of which there must be at
    least 20.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktl import PretrainedImageClassifier, audit_images
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> y[0] = 2  # a zero
    >>> clf = PretrainedImageClassifier(image_shape=(8, 8), random_state=0)
    >>> audit = audit_images(X[:60] / 16, y[:60], estimator=clf, random_state=0)
    >>> suspicious = audit.issues[audit.issues["kind"] == "suspicious_label"]
    >>> suspicious[["name", "label", "suggested_label"]][0].item()
    ('X[0]', '2', '0')
    """
    estimator, computes, seed = check_estimator(estimator, random_state)
    cv = check_folds(cv)
    given = Given.of(X, y, groups, X_test, y_test, groups_test, estimator)
    with single_threaded_pool(n_threads(computes.n_jobs)) as pool:
        usable = _Usable.of(given.subjects, computes, pool)
        copies = find_copies(usable.thumbnails, given.subjects.samples, usable.own, pool)
    subjects = given.subjects
    found: list[Issue | Note] = [*_unreadable(usable.failures, subjects), *copy_issues(copies, subjects)]
    found += [*given.shared_groups, *connected_note(copies.components[: subjects.n_train])]
    if len(usable.train):
        found += _Checks(given, usable, copies, estimator, cv, seed).findings()
    return ImageAudit(
        issues=as_array(finding for finding in found if isinstance(finding, Issue)),
        duplicate_groups=joined_groups(copies.components, subjects.groups, subjects.n_train),
        classes_=given.classes,
        n_train=subjects.n_train,
        n_test=len(subjects) - subjects.n_train,
        _items={name: part.items for name, part in subjects.parts.items()},
        _samples={name: part.samples for name, part in subjects.parts.items()},
        _keys=usable.keys(subjects),
        _kind=given.kind,
        _notes=[finding.text for finding in found if isinstance(finding, Note)],
    )


@dataclass(frozen=True)
class _Usable:
    """What was read of the images, and the images that could not be used.

    Attributes
    ----------
    thumbnails : dict of int to Thumbnail
        By the numbers of the usable images, in order.
    features : float32 array of shape (n_usable, n_features)
    layout : StageLayout
        Layout of the features.
    failures : list of ImageFailure
        Positions are numbers among all images.
    n_train : int
    """

    thumbnails: dict[int, Thumbnail]
    features: np.ndarray
    layout: StageLayout
    failures: list[ImageFailure]
    n_train: int

    @classmethod
    def of(cls, subjects: Subjects, computes: PretrainedImagePredictor, pool: ThreadPoolExecutor) -> _Usable:
        samples = subjects.samples
        thumbnails, failures = read_thumbnails(samples, pool)
        backbone, device = computes._resolve(computes._seeds().backbone)
        extractor = computes._extractor(backbone, device, computes.engine, computes.precision)
        extractor = replace(extractor, feature_stages=plain(computes.feature_stages))
        features, more = _features(samples, [*thumbnails], extractor)
        lost = {failure.position for failure in more}
        kept = {number: thumbnail for number, thumbnail in thumbnails.items() if number not in lost}
        return cls(kept, features, extractor.layout, sorted([*failures, *more]), subjects.n_train)

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the usable images among all images."""
        return np.array([*self.thumbnails], dtype=np.int64)

    @property
    def train(self) -> np.ndarray:
        """Rows of the training images among the usable images."""
        return np.flatnonzero(self.numbers < self.n_train)

    @property
    def test(self) -> np.ndarray:
        """Rows of the test images among the usable images."""
        return np.flatnonzero(self.numbers >= self.n_train)

    def keys(self, subjects: Subjects) -> dict[str, list[bytes | None]]:
        """Return the content keys of the images of each part."""
        keys = [kept.key if (kept := self.thumbnails.get(number)) else None for number in range(len(subjects))]
        parts = {"train": keys[: self.n_train], "test": keys[self.n_train :]}
        return {name: parts[name] for name in subjects.parts}

    @property
    def own(self) -> np.ndarray:
        """The features that the network's own output layer would receive."""
        return self.features[:, : self.layout.length(1)]


def _features(
    samples: Sequence[Sample], numbers: list[int], extractor: FeatureExtractor
) -> tuple[np.ndarray, list[ImageFailure]]:
    """Return the features of some samples, without those that the network cannot use."""
    features, failures = extractor.usable([samples[i] for i in numbers])
    return features, [failure._replace(position=numbers[failure.position]) for failure in failures]


@dataclass(frozen=True)
class _Checks:
    """The checks that need features.

    Parameters
    ----------
    given : Given
    usable : _Usable
        With at least one training image.
    copies : Copies
    estimator : estimator
    cv : int, cross-validation generator or iterable
    seed : int
    """

    given: Given
    usable: _Usable
    copies: Copies
    estimator: Any
    cv: Any
    seed: int

    def findings(self) -> Iterator[Issue | Note]:
        """Yield the findings about labels, classes, and images unlike the rest."""
        targets, numbers = self.given.targets, self.usable.numbers[self.usable.train]
        memberships = np.empty((len(numbers), 0))
        if targets is not None:
            groups = joined_groups(self.copies.contents, self.given.subjects.groups, self.usable.n_train)
            targets = targets.with_changes(groups=groups)
            # Labels that no image has stay, so that they are found to be rare.
            targets = targets.take(numbers) if isinstance(targets, LabelTargets) else targets.restricted(numbers)
            memberships = targets.memberships()
            yield from self._about_labels(targets, numbers)
        yield from self._unlike_the_rest(memberships)

    def _about_labels(self, targets: Targets, numbers: np.ndarray) -> Iterator[Issue | Note]:
        """Yield the findings about labels and classes of the training images with these numbers."""
        contents, subjects = self.copies.contents[numbers], self.given.subjects
        reason, is_number = self._why_unjudged(targets), isinstance(self.cv, Integral)
        # Generators may have no folds if nothing can be judged.
        folds = self._folds(numbers) if is_number or not reason else []
        groups = targets.groups if subjects.groups is not None else None
        if groups is not None and not keep_together(folds, groups):
            groups = None
        yield from rare_classes(targets, int(self.cv) if is_number else 2, contents, groups)
        if reason:
            yield from unjudged(np.zeros(len(numbers), dtype=bool), reason)
            if self.given.test_targets is not None:
                yield from unjudged(np.zeros(len(self.usable.test), dtype=bool), reason, "test images")
            return
        votes = Votes.of(targets, contents, self.copies.components[numbers])
        model = self._label_model(targets, votes, numbers, folds)
        found = model.found
        judged = are_judged(targets, found.values, found.learned)
        yield from unjudged(judged, "No fold holds them out and learns their labels from other images.")
        yield from label_issues(targets, found.values, found.learned, numbers, subjects, model.spread)
        yield from shortcuts(targets, [self.usable.thumbnails[int(i)] for i in numbers], model.alone, self.seed)
        if self.given.test_targets is not None and len(self.usable.test):
            yield from self._about_test_labels(targets, model)

    def _why_unjudged(self, targets: Targets) -> str:
        """Return why no model can be validated, if this is so."""
        if len(np.unique(targets.groups)) < 2:  # type: ignore[arg-type]
            are = "equal" if self.given.subjects.groups is None else "of one group"
            return f"All training images are {are}."
        return "All training images have the same label." if targets.is_trivial else ""

    def _label_model(self, targets: Targets, votes: Votes, numbers: np.ndarray, folds: Any) -> LabelModel:
        usable, groups, seeds = self.usable, self._groups(), (self.seed, self.seed)
        groups = None if groups is None else groups[numbers]
        learner = learner_of(self.estimator, self._images, usable.features, usable.layout, seeds, groups)
        labeled = LabeledRows(targets, targets.outputs.observed(targets.values()), self.usable.train)
        return LabelModel.of(learner, labeled, votes, folds, self.seed)

    def _images(self, rows: np.ndarray) -> Any:
        """Return some of the usable images, which are of one part, as they were passed."""
        return self.given.subjects.given(self.usable.numbers[rows])

    def _folds(self, numbers: np.ndarray) -> Any:
        """Return the folds of the training images with these numbers. Generators get groups only from the user."""
        assert self.given.targets is not None
        return folds_of_usable(self.cv, self.given.targets, self._groups(), numbers, self.seed)

    def _groups(self) -> np.ndarray | None:
        """Return the groups of all training images, joined where copies connect them; None if the user passed none."""
        groups = self.given.subjects.groups
        return None if groups is None else joined_groups(self.copies.contents, groups, self.usable.n_train)

    def _about_test_labels(self, targets: Targets, model: LabelModel) -> Iterator[Issue | Note]:
        test, given = self.usable.test, self.given.test_targets
        assert given is not None
        numbers = self.usable.numbers[test]
        given = given.take(numbers - self.usable.n_train)
        learned, why = np.tile(model.learned, (len(test), 1)), "No training image has their labels."
        if isinstance(targets, ClassTargets) and isinstance(given, ClassTargets):
            why = f"{why} {resemblances(given.classes.tolist(), targets.classes.tolist())}".rstrip()
            given, known = among(given, targets.classes)
            learned &= known[:, None]
        values = model.predict(test)
        yield from unjudged(are_judged(given, values, learned), why, "test images")
        yield from label_issues(given, values, learned, numbers, self.given.subjects, model.spread)

    def _unlike_the_rest(self, memberships: np.ndarray) -> Iterator[Issue]:
        train, test, numbers = self.usable.train, self.usable.test, self.usable.numbers
        own, groups = self.usable.own, self.copies.components[numbers[train]]
        if len(np.unique(groups)) < _FEWEST:
            return
        scores = np.concatenate(typicalities(own[train], memberships, groups, own[test], self.seed))
        for row in np.flatnonzero(scores < -_FAR_BELOW):
            yield Issue(
                kind="unlike_the_rest",
                **self.given.subjects.describe(int(numbers[row])),
                score=float(1 - 1 / -scores[row]),
                suggestion="It resembles none of the other images. Drop it if it does not belong here.",
            )


def _unreadable(failures: Sequence[ImageFailure], subjects: Subjects) -> Iterator[Issue]:
    for failure in failures:
        yield Issue(
            kind="unreadable",
            **subjects.describe(failure.position),
            score=1.0,
            suggestion=f"It cannot be used: {one_line(failure.reason, LONGEST_REASON)}. Replace it, or drop it.",
        )
