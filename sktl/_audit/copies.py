"""Copies: which images show the same picture, what that breaks, and which groups they form."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl._short_text import fitted

from .copy_confirmation import near_copies
from .issues import LETTERS, Issue, Note
from .subjects import Subjects
from .thumbnails import Thumbnail

# Larger than any image, so that no file is decoded at reduced scale.
_FULL_SIZE = Preprocessing(1 << 20, (1 << 20, 1 << 20))
# Largest difference of gray levels between thumbnails of images that may have equal pixels.
_ALMOST = 3
# Relative difference of numbers that are equal apart from rounding errors. Codes of classes differ by more.
_ROUNDED = 1e-9
_SCENE = "such as photos of a fixed camera or of one kind of part"


@dataclass(frozen=True)
class Copies:
    """Pairs of copies among all images.

    Attributes
    ----------
    pairs : int64 array of shape (n_pairs, 2)
    scores : float64 array of shape (n_pairs,)
    exact : bool array of shape (n_pairs,)
        Whether the files or the pixels are equal.
    contents : int64 array of shape (n_images,)
        Images with the same number have equal files; unreadable images have numbers of their own.
    components : int64 array of shape (n_images,)
        Images with the same number are connected by copies.
    """

    pairs: np.ndarray
    scores: np.ndarray
    exact: np.ndarray
    contents: np.ndarray
    components: np.ndarray


def find_copies(
    thumbnails: dict[int, Thumbnail], samples: list[Sample], features: np.ndarray, pool: ThreadPoolExecutor
) -> Copies:
    """Find copies among images.

    Parameters
    ----------
    thumbnails : dict of int to Thumbnail
        Thumbnails of usable images by their positions.
    samples : list of Sample
    features : float32 array of shape (n_usable, n_features)
        Features of the usable images, in the order of `thumbnails`.
    pool : ThreadPoolExecutor
    """
    contents = np.arange(len(samples))
    of_key: dict[bytes, int] = {}
    for position, kept in thumbnails.items():
        contents[position] = of_key.setdefault(kept.key, position)
    different = np.array([*of_key.values()], dtype=np.int64)
    rows = features if len(different) == len(features) else features[np.searchsorted([*thumbnails], different)]
    ends, of_ends = near_copies({i: thumbnails[i] for i in different.tolist()}, samples, rows, pool)
    first = _first_with_equal_pixels(ends, {i: thumbnails[i] for i in different.tolist()}, samples, pool)
    apart = first[ends[:, 0]] != first[ends[:, 1]]
    first = np.where(contents == np.arange(len(samples)), first, contents)
    repeated = np.flatnonzero(first != np.arange(len(samples)))
    pairs = np.concatenate([np.stack([first[repeated], repeated], axis=1), ends[apart]])
    scores = np.concatenate([np.ones(len(repeated)), of_ends[apart]])
    exact = np.arange(len(pairs)) < len(repeated)
    n = len(samples)
    _, components = connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n)), directed=False)
    return Copies(pairs, scores, exact, contents, components.astype(np.int64))


def _first_with_equal_pixels(
    pairs: np.ndarray, thumbnails: dict[int, Thumbnail], samples: list[Sample], pool: ThreadPoolExecutor
) -> np.ndarray:
    """Return for each image the first one with equal pixels, which may be itself.

    Only images that may have equal pixels are decoded again: pairs of near copies, and images with equal thumbnails,
    which are not found as near copies if they have no detail.

    Parameters
    ----------
    pairs : int64 array of shape (n_pairs, 2)
        Near copies.
    thumbnails : dict of int to Thumbnail
        Thumbnails of different files by their positions.
    samples : list of Sample
    pool : ThreadPoolExecutor
    """
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for position, kept in thumbnails.items():
        alike[*sorted(kept.shape), kept.color.tobytes(), hashlib.sha256(kept.gray.data).digest()].append(position)
    candidates = {position for some in alike.values() if len(some) > 1 for position in some}
    for pair in pairs.tolist():
        candidates |= {*pair} if _may_be_equal(*(thumbnails[position] for position in pair)) else set()
    first, ordered = np.arange(len(samples)), sorted(candidates)
    of_pixels: dict[tuple[tuple[int, ...], bytes], int] = {}
    for position, pixels in zip(ordered, pool.map(_pixels_key, (samples[i] for i in ordered)), strict=True):
        if pixels is not None:
            first[position] = of_pixels.setdefault(pixels, position)
    return first


def _may_be_equal(one: Thumbnail, other: Thumbnail) -> bool:
    # Large JPEG files are decoded at a reduced scale, so their thumbnails differ a little from those of other formats.
    largest = np.abs(one.gray.astype(np.int16) - other.gray).max()
    return sorted(one.shape) == sorted(other.shape) and bool(largest <= _ALMOST)


def _pixels_key(sample: Sample) -> tuple[tuple[int, ...], bytes] | None:
    """Return what identifies the pixels of a sample, or None if it has changed since its thumbnail was made."""
    try:
        pixels = np.ascontiguousarray(decode(sample.read(), _FULL_SIZE))
    except ImageProblem:
        return None
    return pixels.shape, hashlib.sha256(pixels.data).digest()


def connected_note(components: np.ndarray) -> Iterator[Note]:
    """Yield a note if copies connect most of the training images, whose components are given, into one group."""
    largest = int(np.bincount(components).max(initial=0))
    if largest > max(2, len(components) / 2):
        yield Note(
            f"Copies connect {largest:,} of {len(components):,} images into one group, which folds by group cannot "
            f"split. If these images only show the same scene, {_SCENE}, use folds without groups."
        )


def divided(components: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the components in which the labels of more than one image differ from the most common label.

    Parameters
    ----------
    components : int array of shape (n_images,)
    values : array of shape (n_images,) or (n_images, n_columns)
        Code of the class, labels or numbers of each image.
    """
    labels = _LabelCounts.of(components, values)
    return np.unique(components[labels.sizes - labels.most > 1])


@dataclass(frozen=True)
class _LabelCounts:
    """Numbers of labels within the component of each image.

    Attributes
    ----------
    own : int64 array of shape (n_images,)
        Images with the label of this image.
    most : int64 array of shape (n_images,)
        Images with the most common label.
    sizes : int64 array of shape (n_images,)
        Images of the component.
    """

    own: np.ndarray
    most: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, components: np.ndarray, values: np.ndarray) -> _LabelCounts:
        _, codes = np.unique(np.apply_along_axis(_ranks, 0, values), axis=0, return_inverse=True)
        pairs = np.stack([components, codes.reshape(-1)], axis=1)
        labels, of_image, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        of_image = of_image.reshape(-1)
        _, of_label = np.unique(labels[:, 0], return_inverse=True)
        most, sizes = np.zeros((2, len(labels)), dtype=np.int64)
        np.maximum.at(most, of_label, counts)
        np.add.at(sizes, of_label, counts)
        return cls(counts[of_image], most[of_label[of_image]], sizes[of_label[of_image]])

    @property
    def are_alone(self) -> np.ndarray:
        """Whether all other images of the component, at least two, have one other label."""
        return (self.own == 1) & (self.most > 1) & (self.sizes - self.most == 1)


def _ranks(numbers: np.ndarray) -> np.ndarray:
    """Return the rank of each number among the different numbers. Numbers that differ by rounding errors are equal."""
    ordered, places = np.unique(numbers, return_inverse=True)
    ranks = np.cumsum(~np.isclose(ordered[1:], ordered[:-1], rtol=_ROUNDED, atol=0))
    return np.concatenate([[0], ranks])[places]


def copy_issues(copies: Copies, subjects: Subjects) -> Iterator[Issue]:
    """Yield one finding for each image that is a copy of another one, which it names.

    Of several copies of one picture, one image has no finding: dropping all images with findings leaves one of each.
    The image named is the other side of a split or has another label, if there is such a copy. If a single one of
    several copies has another label, the labels contradict in its finding only, except across train and test or groups.
    """
    n, values = len(copies.components), subjects.values()
    labels = _LabelCounts.of(copies.components[: len(values)], values)
    are_alone = np.pad(labels.are_alone, (0, n - len(values)))  # test images may have no labels
    are_divided = np.isin(copies.components, divided(copies.components[: len(values)], values))
    crosses = [_crossing(subjects, *pair) for pair in copies.pairs]
    contradicts = np.array([_contradicts(subjects, *pair) for pair in copies.pairs], dtype=bool)
    order = {"test": 0, "groups": 1, "": 2}
    of_crossing = np.array([order[where] for where in crosses], dtype=np.int64)
    of_labels = np.where(are_alone[copies.pairs].any(axis=1), 2, ~contradicts)
    rank = np.lexsort((-copies.scores, ~copies.exact, of_labels, of_crossing))
    for member, parent, edge in _connecting(copies.pairs, rank, are_alone):
        contradiction = ""
        if contradicts[edge]:
            one, other = sorted((member, parent), key=are_alone.__getitem__, reverse=True)
            share = (int(labels.most[one]), int(labels.sizes[one])) if are_alone[one] else None
            contradiction = _contradiction(subjects, one, other, share)
        yield _issue(copies, subjects, (member, parent), edge, crosses[edge], contradiction, bool(are_divided[member]))


def _connecting(pairs: np.ndarray, rank: np.ndarray, are_last: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield each image but one of each component, the image that connects it, and the position of their pair.

    Parameters
    ----------
    pairs : int64 array of shape (n_pairs, 2)
    rank : int array of shape (n_pairs,)
        Pairs in the order of preference.
    are_last : bool array of shape (n_images,)
        Images that are only left out if all images of their component are.
    """
    n, costs = len(are_last), np.empty(len(rank))
    costs[rank] = np.arange(1, len(rank) + 1)
    tree = minimum_spanning_tree(coo_array((costs, pairs.T), shape=(n, n)).tocsr())
    # Many copies of one picture have many more pairs than the tree, whose costs say which pairs it consists of.
    edges = rank[tree.data.astype(np.int64) - 1].tolist()
    of_edge = {frozenset(pairs[edge].tolist()): edge for edge in edges}
    tree = (tree + tree.T).tocsr()
    seen = np.zeros(n, dtype=bool)
    for root in sorted(np.flatnonzero(np.diff(tree.indptr)), key=are_last.__getitem__):
        if seen[root]:
            continue
        members, parents = breadth_first_order(tree, root, directed=False)
        seen[members] = True
        for member in members[1:].tolist():
            parent = int(parents[member])
            yield member, parent, of_edge[frozenset((member, parent))]


def _contradiction(subjects: Subjects, one: int, other: int, share: tuple[int, int] | None) -> str:
    """Return what contradicts in a pair. `share` is how many of how many copies have the label of the other image."""
    first, second = (fitted(subjects.label(number) or "no label", LETTERS) for number in (one, other))
    common = "" if share is None else f", which {share[0]:,} of {share[1]:,} copies have"
    return f"The labels contradict: {first} and {second}{common}. "


def _issue(
    copies: Copies,
    subjects: Subjects,
    pair: tuple[int, int],
    edge: int,
    crosses: str,
    contradiction: str,
    is_divided: bool,
) -> Issue:
    exact = bool(copies.exact[edge])
    return Issue(
        kind="exact_copy" if exact else "near_copy",
        **subjects.describe(pair[0]),
        **subjects.describe_other(pair[1]),
        score=float((copies.scores[edge] + bool(crosses) + bool(contradiction)) / 3),
        suggestion=contradiction + _advice(crosses, bool(contradiction), exact, is_divided),
        crosses=crosses,
        contradicts=bool(contradiction),
    )


def _advice(crosses: str, contradicts: bool, exact: bool, is_divided: bool) -> str:
    advice = {
        "test": "keep it on one side only: a test image that was trained on makes the test accuracy too high.",
        "groups": "put both into one group, or drop one: folds split by group would still share this picture.",
        "": "drop one of the two, or keep both in one fold with duplicate_groups.",
    }[crosses]
    if is_divided and not exact:
        return (
            f"Labels of several of its near copies differ: they may only show the same scene, {_SCENE}. "
            f"Look at some of them before you correct or drop any.{f' If it is a copy, {advice}' if crosses else ''}"
        )
    unless = "" if exact else f", unless they only show the same scene, {_SCENE}"
    return f"{f'Correct one{unless}. ' if contradicts else ''}{advice[0].upper()}{advice[1:]}"


def _crossing(subjects: Subjects, one: int, other: int) -> str:
    if subjects.part_of(one) != subjects.part_of(other):
        return "test"
    groups = subjects.groups
    are_in_groups = groups is not None and max(one, other) < subjects.n_train
    return "groups" if are_in_groups and groups[one] != groups[other] else ""  # type: ignore[index]


def _contradicts(subjects: Subjects, one: int, other: int) -> bool:
    first, second = subjects.value(one), subjects.value(other)
    if first is None or second is None:
        return False
    return not np.isclose(first, second, rtol=_ROUNDED, atol=0).all()
