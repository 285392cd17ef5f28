"""Images that cannot be used cost no other image its prediction; names say nothing about the computer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sktl._evaluation.evaluated_images import names_of, predict_usable, taken
from sktl._images.lazy_images import LazyImages, items_of
from sktl._images.samples import as_samples
from sktl.exceptions import ImageFailure, InvalidImageError


def picky(bad_at_once, bad_later):
    """Return a predict method that refuses some numbers, as formats are refused before files are read."""

    def predict(X):
        for bad in (bad_at_once, bad_later):
            failures = [ImageFailure(i, str(x), "bad") for i, x in enumerate(X) if x in bad]
            if failures:
                raise InvalidImageError(failures)
        return [10 * x for x in X]

    return predict


def test_images_that_fail_at_different_times_are_left_out():
    rows = np.array([1, 2, 3, 5, 7])
    values, used, failures = predict_usable(picky({2, 5}, {7}), list(range(10)), rows)
    assert used.tolist() == [1, 3]
    assert values == [10, 30]
    assert sorted((failure.position, failure.name) for failure in failures) == [(2, "2"), (5, "5"), (7, "7")]


def test_if_no_image_can_be_used_all_are_in_the_error():
    with pytest.raises(InvalidImageError) as caught:
        predict_usable(picky({1}, {2}), [0, 1, 2], np.array([1, 2]))
    assert [failure.position for failure in caught.value.failures] == [1, 2]


@pytest.mark.parametrize("make", [list, tuple, np.array, pd.Series], ids=lambda make: make.__name__)
def test_some_images_are_taken_from_any_container(make):
    X = make(["a", "b", "c"])
    assert list(taken(X, np.array([2, 0]))) == ["c", "a"]
    assert list(taken(X, np.array([2, 0, 1]))) == ["c", "a", "b"]
    assert taken(X, np.arange(3)) is X


@pytest.mark.parametrize("kind", ["array", "chunked_array", "table"])
def test_some_images_are_taken_from_containers_of_pyarrow(kind):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    make = {"array": lambda x: x, "chunked_array": lambda x: [x], "table": lambda x: {"path": x}}[kind]
    X = getattr(pa, kind)(make(["a", "b", "c"]))
    some = taken(X, np.array([2, 0]))
    assert type(some) is type(X)
    assert np.ravel(some).tolist() == ["c", "a"]


def test_other_sequences_are_read_later():
    class Lazy:
        n_read = 0

        def __len__(self):
            return 5

        def __getitem__(self, i):
            self.n_read += 1
            return 10 * i

    X = Lazy()
    some = taken(X, np.array([4, 1, 3]))
    assert (len(some), X.n_read) == (3, 0)
    assert (some[1], [*some[1:]]) == (10, [10, 30])
    lazy = LazyImages(X)
    assert items_of(taken(lazy, np.array([2, 0]))) == items_of(lazy[[2, 0]])  # so features that are known are found


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_some_images_are_taken_from_a_nested_tensor():
    images = [torch.full((n, n), n) for n in (1, 2, 3)]
    nested = torch.nested.nested_tensor(images)
    for rows in ([0, 1, 2], [2, 0]):
        assert [image.tolist() for image in taken(nested, np.array(rows))] == [images[i].tolist() for i in rows]


def test_names_are_paths_below_the_shared_folder_or_positions(tmp_path):
    paths = [tmp_path / "cats" / "1.jpg", tmp_path / "dogs" / "deep" / "2.jpg"]
    assert names_of(as_samples([*paths, np.zeros((4, 4), np.uint8)])) == ("cats/1.jpg", "dogs/deep/2.jpg", "X[2]")
    assert names_of(as_samples(paths[:1])) == ("1.jpg",)
    assert names_of(as_samples([np.zeros((4, 4), np.uint8)])) == ("X[0]",)
