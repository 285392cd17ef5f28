"""Near copies are confirmed on larger images too, with as few comparisons as connect the images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photographs import COPIES, photograph, random_features
from PIL import Image, ImageDraw, ImageOps
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sktl._audit.near_copies import connected, near_copies
from sktl._audit.thumbnails import read_thumbnails
from sktl._images.samples import as_samples

POOL = ThreadPoolExecutor(2)
PAIRS = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1]))


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


ORIGINALS = [photograph(seed, (400, 300)) for seed in range(3)]


@pytest.mark.parametrize("size", [(300, 300), (400, 400), (500, 300)])
def test_copies_between_bars_are_found(size):
    assert found_among([*ORIGINALS, ImageOps.pad(ORIGINALS[1], size, color="black")]) == {(1, 3)}


def test_an_image_is_no_copy_of_what_lies_between_its_own_bars():
    assert not found_among([ImageOps.pad(image, (400, 400)) for image in ORIGINALS])


def test_of_a_file_that_is_gone_the_thumbnail_decides(tmp_path):
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    for path, quality in zip(paths, (90, 60), strict=True):
        ORIGINALS[0].save(path, quality=quality)
    samples = as_samples([*map(str, paths)], lenient=True)
    thumbnails, _ = read_thumbnails(samples, POOL)
    paths[1].unlink()
    assert near_copies(thumbnails, samples, random_features(2), POOL)[0].tolist() == [[0, 1]]
