"""Copies are confirmed in their pixels, larger ones too, with few comparisons; images that only look alike are not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photographs import COPIES, photograph, random_features, thumbnails_of
from PIL import Image, ImageDraw, ImageOps
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sktl._audit.copy_candidates import Descriptors
from sktl._audit.copy_confirmation import CONFIRMED, confirm, connected, near_copies
from sktl._audit.thumbnails import read_thumbnails
from sktl._images.samples import as_samples

POOL = ThreadPoolExecutor(2)
ORIGINALS = [photograph(seed) for seed in range(8)]
LARGER = [photograph(seed, (400, 300)) for seed in range(3)]
PAIRS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1]))


def confirmed(images, features=None):
    """Return the pairs of images that are confirmed, each once, with the best score of each."""
    thumbnails = thumbnails_of(*images)
    gray, aspects = np.stack([kept.gray for kept in thumbnails]), np.float32([kept.aspect for kept in thumbnails])
    features = random_features(len(images)) if features is None else features
    found = confirm(gray, aspects, Descriptors(gray, POOL).candidates(features), POOL)
    best = {}
    for whole, part, score in zip(*(end.tolist() for end in found.candidates[:2]), found.scores, strict=True):
        pair = min(whole, part), max(whole, part)
        best[pair] = max(score, best.get(pair, 0))
    return best


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_confirmed_from_either_side(copy):
    other = COPIES[copy](ORIGINALS[2])
    near = np.eye(2, 3, dtype=np.float32)
    for pair in ((ORIGINALS[2], other), (other, ORIGINALS[2])):
        found = confirmed(pair, near)
        assert [*found] == [(0, 1)]
        assert CONFIRMED <= found[0, 1] <= 1


def test_originals_are_no_copies_of_each_other():
    assert not confirmed(ORIGINALS)


def with_foreground(seed, background):
    """Return a photo with another thing in front of the same background, on a quarter of its area."""
    image = background.copy()
    image.paste(photograph(seed, (60, 45)), (30, 25))
    return image


def test_the_same_background_is_not_enough():
    images = [with_foreground(seed, ORIGINALS[0]) for seed in (20, 21)]
    assert not confirmed(images)


def test_the_same_outline_is_not_enough():
    rng = np.random.default_rng(0)
    base = np.asarray(ORIGINALS[1].resize((12, 9)).resize((120, 90)), dtype=float)
    images = [np.clip(base + rng.normal(0, 25, base.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    assert not confirmed([*map(Image.fromarray, images)])


def test_scores_do_not_depend_on_the_other_images():
    copy = COPIES["cropped to 75 %"](ORIGINALS[0])
    few, many = confirmed([ORIGINALS[0], copy]), confirmed([ORIGINALS[0], copy, *ORIGINALS[1:]])
    assert few == pytest.approx(many, abs=1e-4)
    assert [*few] == [(0, 1)]


def found_among(images):
    samples = as_samples(images, lenient=True)
    thumbnails, _ = read_thumbnails(samples, POOL)
    pairs, scores = near_copies(thumbnails, samples, random_features(len(thumbnails)), POOL)
    assert np.all((scores >= 0) & (scores <= 1))
    return {tuple(pair) for pair in pairs.tolist()}


def components_of(pairs):
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return connected_components(coo_array((np.ones(len(ends)), ends.T), shape=(8, 8)), directed=False)[1].tolist()


@given(PAIRS, st.data())
def test_images_are_connected_as_by_comparing_all_pairs(pairs, data):
    pairs = data.draw(st.permutations(sorted(pairs)))
    good = np.array(data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs))), dtype=bool)
    compared = []

    def agreed(rows):
        compared.extend(rows.tolist())
        return good[rows]

    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    kept = connected(ends, agreed)
    assert components_of(ends[kept]) == components_of(ends[good])
    assert len(compared) == len({*compared})
    assert not (kept & ~good)[compared].any()
    assert good[compared].sum() <= 7  # no more than connect eight images


def page(seed):
    """Return a receipt: the same paper and font, other lines."""
    rng, image = np.random.default_rng(seed), Image.new("RGB", (300, 400), "white")
    pen = ImageDraw.Draw(image)
    for row in range(6):
        words = ["".join(rng.choice([*"abcdefgh"], rng.integers(3, 8))) for _ in range(3)]
        pen.text((30, 30 + 40 * row), " ".join(words), fill="black", font_size=16)
    return image


def part(missing, seed):
    """Return a plate with nine screws, one of which may be missing."""
    image = Image.new("RGB", (240, 240), "gray")
    pen = ImageDraw.Draw(image)
    for k in range(9):
        x, y = 60 + 60 * (k % 3), 60 + 60 * (k // 3)
        if k != missing:
            pen.ellipse((x - 12, y - 12, x + 12, y + 12), fill=(200, 200, 60))
    pen.text((70, 25), "Plate 7", fill="white", font_size=16)
    noise = np.random.default_rng(seed).normal(0, 6, (240, 240, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def scene(seed):
    """Return what a fixed camera sees, with another animal."""
    image = photograph(3, (320, 240))
    image.paste(photograph(seed, (36, 36)), (150, 120))
    return image


@pytest.mark.parametrize(
    "images",
    [[page(seed) for seed in range(3)], [part(k, k) for k in (1, 5, None)], [scene(seed) for seed in range(10, 13)]],
    ids=["receipts", "parts", "scenes"],
)
def test_the_same_form_part_or_scene_with_other_content_is_no_copy(images):
    assert not found_among(images)
    assert found_among([*images, COPIES["recompressed"](images[0])]) == {(0, 3)}


@pytest.mark.parametrize("size", [(300, 300), (400, 400), (500, 300)])
def test_copies_between_bars_are_found(size):
    assert found_among([*LARGER, ImageOps.pad(LARGER[1], size, color="black")]) == {(1, 3)}


def test_an_image_is_no_copy_of_what_lies_between_its_own_bars():
    assert not found_among([ImageOps.pad(image, (400, 400)) for image in LARGER])


def test_of_a_file_that_is_gone_the_thumbnail_decides(tmp_path):
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    for path, quality in zip(paths, (90, 60), strict=True):
        LARGER[0].save(path, quality=quality)
    samples = as_samples([*map(str, paths)], lenient=True)
    thumbnails, _ = read_thumbnails(samples, POOL)
    paths[1].unlink()
    assert near_copies(thumbnails, samples, random_features(2), POOL)[0].tolist() == [[0, 1]]
