"""Properties that give a class away."""

import warnings
import weakref

import numpy as np
import pytest
from photographs import photograph
from PIL import Image
from sklearn.ensemble import ExtraTreesClassifier

from sktl._audit import shortcuts as _shortcuts
from sktl._audit.out_of_fold import OutOfFold
from sktl._audit.shortcuts import shortcuts
from sktl._audit.thumbnails import thumbnail
from sktl._targets.class_targets import check_classes

N = 60
CODES = np.arange(N) % 2
TARGETS = check_classes(np.array(["cat", "dog"])[CODES], None, None, N)
FOLDS = np.arange(N) // 2 % 5
IMAGES = [photograph(seed, (48, 48)) for seed in range(N)]
RNG = np.random.default_rng(0)
RIGHT = OutOfFold(np.eye(2)[CODES], FOLDS, np.ones((N, 2), dtype=bool))


def file_of(image, tmp_path, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path.read_bytes()


def found_in(contents, predicted=RIGHT):
    return {
        issue.name: issue for issue in shortcuts(TARGETS, [thumbnail(content) for content in contents], predicted, 0)
    }


def test_images_without_shortcuts_have_no_warning():
    assert not found_in([np.asarray(image) for image in IMAGES])


def framed(image, code):
    pixels = np.array(image)
    if code:
        pixels[:4] = pixels[-4:] = 255
    return pixels


def camera(code):
    exif = Image.Exif()
    exif[0x010F] = ["Nokia", "Canon"][code]
    return exif


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("border", lambda image, code, folder: framed(image, code)),
        ("mean color", lambda image, code, folder: (np.array(image) // (1 + code)).astype(np.uint8)),
        ("image size", lambda image, code, folder: np.asarray(image.resize((48 + 8 * code, 48)))),
        ("file format", lambda image, code, folder: file_of(image, folder, ["a.png", "a.jpg"][code])),
        ("camera", lambda image, code, folder: file_of(image, folder, "a.jpg", exif=camera(code))),
        ("file size", lambda image, code, folder: file_of(image, folder, "a.jpg", quality=[95, 60][code])),
    ],
)
def test_a_property_that_tells_the_classes_apart_is_named(name, content, tmp_path):
    found = found_in([content(image, code, tmp_path) for image, code in zip(IMAGES, CODES, strict=True)])
    assert name in found
    assert "chance is 50 %" in found[name].suggestion
    assert "a model reaches 100 % by what the network sees" in found[name].suggestion
    assert "hardly uses" not in found[name].suggestion
    assert 0.6 < found[name].score <= 1


def test_a_shortcut_that_the_model_hardly_uses_is_named_as_such():
    guesses = OutOfFold(np.eye(2)[RNG.integers(0, 2, N)], FOLDS, RIGHT.learned)
    found = found_in([framed(image, code) for image, code in zip(IMAGES, CODES, strict=True)], guesses)
    assert "The model hardly uses the border, perhaps because the network does not see it" in found["border"].suggestion


def test_images_that_no_fold_held_out_do_not_count():
    nowhere = OutOfFold(np.full((N, 2), np.nan), np.full(N, -1), np.ones((N, 2), dtype=bool))
    assert not found_in([framed(image, code) for image, code in zip(IMAGES, CODES, strict=True)], nowhere)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_classes", [2, 20, 200])
def test_the_accuracy_is_that_of_scikit_learns_forest_without_its_warnings(n_classes):
    codes = np.r_[np.arange(n_classes), RNG.integers(0, n_classes, 100)]
    table = (codes[:, None] + RNG.normal(size=(len(codes), 3))).astype(np.float32)
    folds = np.arange(len(codes)) % 2
    halves = [(folds != fold, folds == fold) for fold in (0, 1)]
    forest = ExtraTreesClassifier(50, min_samples_leaf=3, random_state=7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")
        hits = sum((forest.fit(table[a], codes[a]).predict(table[b]) == codes[b]).sum() for a, b in halves)
    assert _shortcuts._accuracy(table, codes, folds, 7) == hits / len(codes)


def test_a_single_tree_is_in_memory_at_a_time_and_its_size_is_limited(monkeypatch):
    alive, most, sizes = weakref.WeakSet(), [], []

    class Tree(_shortcuts.ExtraTreeClassifier):
        def fit(self, X, y, sample_weight):
            alive.add(self)
            most.append(len(alive))
            sizes.append(len(X) * len({*y.tolist()}))
            return super().fit(X, y, sample_weight)

    monkeypatch.setattr(_shortcuts, "ExtraTreeClassifier", Tree)
    codes, folds = np.arange(300) % 10, np.arange(300) // 10 % 2
    table = codes[:, None].astype(np.float32)
    assert _shortcuts._accuracy(table, codes, folds, 0) == 1
    assert max(most) <= 2
    assert max(sizes) == 1500
    sizes.clear()
    monkeypatch.setattr(_shortcuts, "_MOST_CELLS", 1000)
    assert _shortcuts._accuracy(table, codes, folds, 0) > 0.8
    assert max(sizes) <= 1000
