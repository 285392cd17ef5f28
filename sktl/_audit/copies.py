"""Copies: which images show the same picture, what that breaks, and which groups they form."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from sktl._images.decoding import ImageProblem, decode
from sktl._images.preprocessing import Preprocessing
from sktl._images.samples import Sample
from sktl._utils.short_text import fitted

from .issues import LETTERS, Issue, Note
from .near_copies import near_copies
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
    thumbnails: dict[int, Thumbnail], samples: list[Sample], features: np.ndarray | None, pool: ThreadPoolExecutor
) -> Copies:
    """Find copies among images.

    Parameters
    ----------
    thumbnails : dict of int to Thumbnail
        Thumbnails of usable images by their positions.
    samples : list of Sample
    features : float32 array of shape (n_usable, n_features) or None
        Features of the usable images, in the order of `thumbnails`.
    pool : ThreadPoolExecutor
    """
    contents = np.arange(len(samples))
    of_key: dict[bytes, int] = {}
    for position, kept in thumbnails.items():
        contents[position] = of_key.setdefault(kept.key, position)
    different = np.array([*of_key.values()], dtype=np.int64)
    rows = None if features is None else features[np.searchsorted([*thumbnails], different)]
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


def joined_groups(numbers: np.ndarray, groups: np.ndarray | None, n_train: int) -> np.ndarray:
    """Return the group of each training image, numbered in the order of the images.

    Images with equal numbers are in one group. Groups of the user are joined where such images connect them.
    """
    nodes = numbers
    if groups is not None:
        own = groups + nodes.max(initial=-1) + 1
        edges = np.stack([nodes[:n_train], own])
        n = int(own.max()) + 1
        _, joined = connected_components(coo_array((np.ones(n_train), edges), shape=(n, n)), directed=False)
        nodes = joined[nodes]
    _, first, numbers = np.unique(nodes[:n_train], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)


def connected(components: np.ndarray) -> Iterator[Note]:
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
    _, codes = np.unique(np.apply_along_axis(_ranks, 0, values), axis=0, return_inverse=True)
    labels, counts = np.unique(np.stack([components, codes.reshape(-1)], axis=1), axis=0, return_counts=True)
    found, starts = np.unique(labels[:, 0], return_index=True)
    if not len(found):
        return found
    return found[np.add.reduceat(counts, starts) - np.maximum.reduceat(counts, starts) > 1]


def _ranks(numbers: np.ndarray) -> np.ndarray:
    """Return the rank of each number among the different numbers. Numbers that differ by rounding errors are equal."""
    ordered, places = np.unique(numbers, return_inverse=True)
    ranks = np.cumsum(~np.isclose(ordered[1:], ordered[:-1], rtol=_ROUNDED, atol=0))
    return np.concatenate([[0], ranks])[places]


def copy_issues(copies: Copies, subjects: Subjects) -> Iterator[Issue]:
    """Yield one finding for each image that is a copy of another one, which it names.

    Of several copies of one picture, one image has no finding: dropping all images with findings leaves one of each.
    The image named is the other side of a split or has another label, if there is such a copy.
    """
    values = subjects.values()
    are_divided = np.isin(copies.components, divided(copies.components[: len(values)], values))
    crosses = [_crossing(subjects, *pair) for pair in copies.pairs]
    contradicts = np.array([_contradicts(subjects, *pair) for pair in copies.pairs], dtype=bool)
    order = {"test": 0, "groups": 1, "": 2}
    of_crossing = np.array([order[where] for where in crosses], dtype=np.int64)
    rank = np.lexsort((-copies.scores, ~copies.exact, ~contradicts, of_crossing))
    n = len(copies.components)
    costs = np.empty(len(rank))
    costs[rank] = np.arange(1, len(rank) + 1)
    of_edge = {(int(a), int(b)): edge for edge, (a, b) in enumerate(copies.pairs)}
    tree = minimum_spanning_tree(coo_array((costs, copies.pairs.T), shape=(n, n)).tocsr())
    tree = (tree + tree.T).tocsr()
    degrees = np.diff(tree.indptr)
    seen = np.zeros(n, dtype=bool)
    for root in np.flatnonzero(degrees):
        if seen[root]:
            continue
        members, parents = breadth_first_order(tree, root, directed=False)
        seen[members] = True
        for member in members[1:]:
            parent = parents[member]
            edge = of_edge.get((int(parent), int(member)), of_edge.get((int(member), int(parent)), -1))
            verdict = crosses[edge], bool(contradicts[edge]), bool(are_divided[member])
            yield _issue(copies, subjects, int(member), int(parent), edge, *verdict)


def _issue(
    copies: Copies,
    subjects: Subjects,
    member: int,
    parent: int,
    edge: int,
    crosses: str,
    contradicts: bool,
    is_divided: bool,
) -> Issue:
    exact = bool(copies.exact[edge])
    labels = [fitted(subjects.label(number) or "no label", LETTERS) for number in (member, parent)]
    return Issue(
        kind="exact_copy" if exact else "near_copy",
        **subjects.describe(member),
        **subjects.describe_other(parent),
        score=float((copies.scores[edge] + bool(crosses) + contradicts) / 3),
        suggestion=_advice(crosses, labels if contradicts else [], is_divided and not exact),
        crosses=crosses,
        contradicts=contradicts,
    )


def _advice(crosses: str, contradicting: Sequence[str], may_be_scene: bool) -> str:
    contradiction = f"The labels contradict: {' and '.join(contradicting)}. " if contradicting else ""
    advice = {
        "test": "keep it on one side only: a test image that was trained on makes the test accuracy too high.",
        "groups": "put both into one group, or drop one: folds split by group would still share this picture.",
        "": "drop one of the two, or keep both in one fold with duplicate_groups.",
    }[crosses]
    if may_be_scene:
        return (
            f"{contradiction}Labels of several of its near copies differ: they may only show the same scene, {_SCENE}. "
            f"Look at some of them before you correct or drop any.{f' If it is a copy, {advice}' if crosses else ''}"
        )
    return f"{contradiction}{'Correct one. ' if contradicting else ''}{advice[0].upper()}{advice[1:]}"


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
