"""Copies form groups, and one finding names each image that is a copy of another."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photographs import COPIES, photograph, random_features
from PIL import Image

from sktl._audit.copies import Copies, _connecting, connected_note, copy_issues, divided, find_copies
from sktl._audit.subjects import Part, Subjects
from sktl._audit.thumbnails import read_thumbnails
from sktl._images.samples import as_samples

POOL = ThreadPoolExecutor(2)
NUMBERS = st.lists(st.integers(0, 4), min_size=1, max_size=12).map(np.array)


def subjects_of(train, test=(), groups=None):
    """Return images that have nothing but labels; None without `y`."""
    parts = {"train": list(train), "test": list(test)}
    return Subjects(
        {
            name: Part([None] * len(labels), [None] * len(labels), [label or "" for label in labels], values_of(labels))
            for name, labels in parts.items()
        },
        None if groups is None else np.array(groups),
    )


def values_of(labels):
    """Return the row of each text of labels, a label being a letter."""
    if None in labels:
        return None
    return np.array([[letter in label for letter in "abc"] for label in labels]).reshape(-1, 3)


def copies_of(n, pairs, scores=None, components=None):
    pairs = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    scores = np.ones(len(pairs)) if scores is None else np.array(scores)
    components = np.arange(n) if components is None else np.array(components)
    return Copies(pairs, scores, np.zeros(len(pairs), dtype=bool), np.arange(n), components)


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1])))
def test_dropping_all_findings_leaves_one_image_of_each_picture(pairs):
    copies = copies_of(8, sorted(pairs))
    dropped = [issue.position for issue in copy_issues(copies, subjects_of([""] * 8))]
    assert len(dropped) == len(set(dropped))
    left = set(range(8)) - set(dropped)
    neighbors = {i: {i} for i in range(8)}
    for _ in range(8):
        for a, b in pairs:
            neighbors[a] = neighbors[b] = neighbors[a] | neighbors[b]
    assert {min(some) for some in neighbors.values()} == left


def test_copies_across_train_and_test_are_named_first():
    copies = copies_of(4, [(0, 1), (1, 2), (2, 3)], [0.99, 0.91, 0.95])
    issues = {issue.part + str(issue.position): issue for issue in copy_issues(copies, subjects_of("aa", "ab"))}
    assert issues["test0"].crosses == "test"
    assert (issues["test0"].other_part, issues["test0"].other_position) == ("train", 1)
    assert issues["test1"].crosses == ""
    assert issues["test1"].contradicts
    assert issues["test0"].score > 0.5 > issues["train1"].score


@pytest.mark.parametrize(("groups", "crosses"), [([0, 1], "groups"), ([5, 5], ""), (None, "")])
def test_copies_across_groups_say_so(groups, crosses):
    (issue,) = copy_issues(copies_of(2, [(0, 1)]), subjects_of("aa", groups=groups))
    assert issue.crosses == crosses


@pytest.mark.parametrize(
    ("labels", "contradicts"),
    [("ab", True), ("aa", False), (["", ""], False), ([None, None], False), (["a", ""], True), (["ab", "ba"], False)],
)
def test_contradicting_labels_say_so(labels, contradicts):
    (issue,) = copy_issues(copies_of(2, [(0, 1)]), subjects_of(labels))
    assert issue.contradicts is contradicts
    assert ("contradict" in issue.suggestion) is contradicts


def test_an_image_without_labels_is_named_in_the_advice():
    (issue,) = copy_issues(copies_of(2, [(0, 1)]), subjects_of(["a", ""]))
    assert "The labels contradict: no label and a." in issue.suggestion


def test_numbers_contradict_if_they_differ_by_more_than_rounding_errors():
    numbers = np.array([[1e6], [1e6 + 1], [0.3], [0.1 + 0.2]])
    subjects = Subjects({"train": Part([None] * 4, [None] * 4, ["1e+06"] * 2 + ["0.3"] * 2, numbers)})
    found = {issue.position: issue.contradicts for issue in copy_issues(copies_of(4, [(0, 1), (2, 3)]), subjects)}
    assert found == {1: True, 3: False}


def test_advice_about_contradicting_labels_is_short_whatever_they_are_called():
    names = ["x" * 5000 + end for end in ("\n\u202ea", "b")]
    values = np.arange(2)[:, None]
    subjects = Subjects({"train": Part([None] * 2, [None] * 2, names, values)}, np.arange(2))
    (issue,) = copy_issues(copies_of(2, [(0, 1)]), subjects)
    assert issue.suggestion.isprintable()
    assert len(issue.suggestion) < 400
    assert "xb and xxx" in issue.suggestion


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_components_are_divided_if_several_labels_differ_from_the_most_common(images):
    components, codes = np.array(images, dtype=np.int64).reshape(-1, 2).T
    expected = [
        component
        for component in np.unique(components)
        if (components == component).sum() - np.bincount(codes[components == component]).max() > 1
    ]
    assert divided(components, codes).tolist() == expected
    assert divided(components, np.eye(3)[codes]).tolist() == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("numbers", "are"),
    [
        ([16777216, 16777217] * 2, True),
        ([1e39, 2e39] * 2, True),
        ([0.1 + 0.2, 0.3] * 2, False),
        ([0.0, 1e-300] * 2, True),
        ([True, False] * 2, True),
    ],
)
def test_numbers_that_differ_by_more_than_rounding_errors_divide_a_component(numbers, are):
    assert divided(np.zeros(4, dtype=int), np.array(numbers)).tolist() == [0] * are


@pytest.mark.parametrize(("labels", "is_scene"), [("aabb", True), ("aaab", False), ("aaaa", False)])
def test_near_copies_with_many_different_labels_may_only_show_one_scene(labels, is_scene):
    copies = copies_of(4, [(0, 1), (1, 2), (2, 3)], components=[0] * 4)
    for issue in copy_issues(copies, subjects_of(labels)):
        assert ("Labels of several of its near copies differ" in issue.suggestion) == is_scene
        assert ("Correct one" in issue.suggestion) == (issue.contradicts and not is_scene)
    exact = replace(copies, exact=np.ones(3, dtype=bool))
    assert not any("the same scene" in issue.suggestion for issue in copy_issues(exact, subjects_of(labels)))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("alone", range(4))
def test_one_label_that_differs_from_all_others_contradicts_in_its_own_finding_alone(alone, exact):
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    copies = replace(copies_of(4, pairs, components=[0] * 4), exact=np.full(len(pairs), exact))
    issues = [*copy_issues(copies, subjects_of("".join("b" if i == alone else "a" for i in range(4))))]
    assert {issue.position: issue.contradicts for issue in issues if issue.contradicts} == {alone: True}
    (advice,) = [issue.suggestion for issue in issues if issue.contradicts]
    assert advice.startswith("The labels contradict: b and a, which 3 of 4 copies have. Correct one")
    assert ("unless they only show the same scene" in advice) is not exact


def test_memory_does_not_grow_by_objects_for_each_pair():
    n = 120
    pairs = np.stack(np.triu_indices(n, 1), axis=1)
    tracemalloc.start()
    found = [*_connecting(pairs, np.arange(len(pairs))[::-1], np.zeros(n, dtype=bool))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 * len(pairs)
    assert all({member, parent} == {*pairs[edge].tolist()} for member, parent, edge in found)


def test_copies_with_a_label_of_their_own_are_named_even_if_all_others_are_copies_of_it():
    for issue in copy_issues(copies_of(3, [(0, 1), (0, 2)], components=[0] * 3), subjects_of("baa")):
        assert "b and a, which 2 of 3 copies have" in issue.suggestion


def test_advice_about_one_scene_keeps_what_copies_across_train_and_test_or_groups_break():
    copies = copies_of(4, [(0, 1), (1, 2), (2, 3)], components=[0] * 4)
    for subjects in (subjects_of("aab", "b"), subjects_of("aabb", groups=[0, 0, 0, 1])):
        issues = [*copy_issues(copies, subjects)]
        assert all("the same scene" in issue.suggestion for issue in issues)
        crossing = {"": "", "test": "If it is a copy, keep it on one side", "groups": "If it is a copy, put both into"}
        assert all(crossing[issue.crosses] in issue.suggestion for issue in issues)
        assert sum("If it is a copy" in issue.suggestion for issue in issues) == 1


@pytest.mark.parametrize(("components", "n"), [([], 0), ([0, 0], 0), ([0, 0, 0, 1, 2, 3], 0), ([3, 1, 1, 1], 3)])
def test_copies_that_connect_most_images_are_noted(components, n):
    notes = [note.text for note in connected_note(np.array(components, dtype=np.int64))]
    assert [note.startswith(f"Copies connect {n} of {len(components)} images") for note in notes] == [True] * bool(n)


def found_among(items):
    samples = as_samples(items, lenient=True)
    thumbnails, failures = read_thumbnails(samples, POOL)
    return find_copies(thumbnails, samples, random_features(len(thumbnails)), POOL), failures


def test_equal_pixels_in_different_formats_are_exact_copies(tmp_path):
    image = photograph(0)
    paths = [tmp_path / name for name in ("a.png", "b.bmp", "c.png", "d.jpg")]
    for path in paths:
        image.save(path)
    found, _ = found_among([*map(str, paths), np.asarray(image), photograph(1)])
    exact = {tuple(pair) for pair, equal in zip(found.pairs.tolist(), found.exact, strict=True) if equal}
    assert {(0, 1), (0, 2), (0, 4)} <= exact
    assert not any(3 in pair for pair in exact)
    assert found.components[3] == found.components[0] != found.components[5]


SIDE = np.linspace(-1, 1, 64)
PLAIN = {
    "white": np.full((64, 64), 255), "gradient": np.tile(SIDE * 127 + 128, (64, 1)),
    "blob": 128 + 20 * np.exp(-4 * (SIDE[:, None] ** 2 + SIDE**2)), "one pixel": np.pad([[255]], (31, 32)),
    "wide": np.random.default_rng(0).integers(0, 256, (8, 512)), "tiny": np.array([[7]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
def test_equal_pixels_are_found_in_images_without_detail(kind, tmp_path):
    pixels = PLAIN[kind].astype(np.uint8)
    other = pixels.copy()
    other[-1, -1] ^= 1
    for name in ("a.png", "b.bmp", "c.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(other).save(tmp_path / "d.png")
    found, _ = found_among([str(tmp_path / name) for name in ("d.png", "a.png", "b.bmp", "c.tif", "a.png")])
    exact = sorted(map(tuple, found.pairs[found.exact].tolist()))
    assert exact == [(1, 2), (1, 3), (1, 4)]
    assert len({*found.components[1:].tolist()}) == 1


def test_images_that_differ_are_decoded_once(monkeypatch):
    for module in ("copies", "copy_confirmation"):
        monkeypatch.setattr(f"sktl._audit.{module}.decode", None)
    found, _ = found_among([photograph(seed, (64, 48)) for seed in range(6)])
    assert not len(found.pairs)


def test_a_turn_that_exif_undoes_is_the_same_picture(tmp_path):
    image, exif = photograph(0), Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "upright.png")
    found, _ = found_among([str(tmp_path / "turned.png"), str(tmp_path / "upright.png")])
    assert found.exact.tolist() == [True]


def test_unusable_images_are_no_copies_of_each_other():
    found, failures = found_among([b"x", b"x", photograph(0), COPIES["recompressed"](photograph(0))])
    assert [failure.position for failure in failures] == [0, 1]
    assert found.pairs.tolist() == [[2, 3]]
    assert len(set(found.components[:3])) == 3
