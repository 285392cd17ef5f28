"""Sequences are read item by item, one thread at a time, and scikit-learn selects parts without reading any."""

from __future__ import annotations

import copy
import pickle
import random
import threading
import time
import weakref
from collections import UserList, deque
from io import BytesIO

import numpy as np
import pytest
import torch
from backbones import Pixels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from processes import in_child, needs_fork
from sklearn.model_selection import GridSearchCV, cross_val_predict, train_test_split
from sklearn.utils import resample, shuffle
from torch.utils.data import Dataset, TensorDataset

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import LazyImages
from sktl.exceptions import InvalidImageError, InvalidInputError, InvalidParameterError

X = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)
Y = np.arange(24) % 2


class Counted:
    """A sequence that counts how often it is read, and how many of its images exist at once."""

    def __init__(self, n=24):
        self.n, self.reads, self.alive, self.most, self.readers = n, 0, 0, 0, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        assert isinstance(i, int)
        if not -self.n <= i < self.n:
            raise IndexError(i)
        self.readers += 1
        time.sleep(1e-4)  # so that other threads would be noticed
        assert self.readers == 1
        image = np.random.default_rng(i % self.n).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        self.reads += 1
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self._gone)
        self.readers -= 1
        return image

    def _gone(self):
        self.alive -= 1


def encoder(cache=False, n_jobs=4):
    return PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=cache, n_jobs=n_jobs)


def classifier(**parameters):
    fast = {"max_epochs": 2, "feature_stages": 1, "weight_decay": 0.1, "n_jobs": 4, "random_state": 0}
    return PretrainedImageClassifier(backbone=Pixels, engine="torch", **fast | parameters)


def encoded(image):
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class Images(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]).permute(2, 0, 1)


SEQUENCES = {
    "deque": lambda folder: deque(X),
    "UserList": lambda folder: UserList(map(Image.fromarray, X)),
    "Dataset": lambda folder: Images(),
    "bytes": lambda folder: deque(map(encoded, X)),
    "paths": lambda folder: deque(str(folder / f"{i}.png") for i in range(24)),
    "LazyImages": lambda folder: LazyImages(X),
    "twice": lambda folder: LazyImages(LazyImages(list(X))),
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_features_of_a_sequence_are_those_of_a_list(kind, tmp_path):
    for i, image in enumerate(X):
        (tmp_path / f"{i}.png").write_bytes(encoded(image))
    np.testing.assert_array_equal(encoder().fit_transform(SEQUENCES[kind](tmp_path)), encoder().fit_transform(X))


@given(st.data())
def test_a_part_is_what_an_array_would_select(data):
    positions = st.integers(-24, 23)
    key = data.draw(
        st.one_of(
            positions,
            positions.map(np.int64),
            st.lists(positions),
            st.lists(positions).map(lambda some: np.array(some, np.int32)),
            st.lists(st.booleans(), min_size=24, max_size=24),
            st.lists(st.booleans(), min_size=24, max_size=24).map(np.array),
            st.slices(24),
        )
    )
    images, numbers = LazyImages(list(range(24))), np.arange(24)
    for one in (key, (key, ...)):
        found = images[one]
        assert (list(found) if isinstance(found, LazyImages) else found) == np.asarray(numbers[one]).tolist()
    part = images[::2]
    assert (len(part), part.shape, [*part[1:3]], part[-1]) == (12, (12,), [2, 4], 22)


@pytest.mark.parametrize("key", [24, -25, [0, 24], [True], "a", None, (1, 2)])
def test_keys_that_an_array_refuses_are_refused(key):
    with pytest.raises(IndexError):
        LazyImages(list(range(24)))[key]


@pytest.mark.thorough
def test_a_search_holds_few_images_and_reads_each_once():
    """Its key and its pixels are those of one reading, however many folds and candidates there are."""
    sequence = Counted(300)
    images, y = LazyImages(sequence), np.arange(300) % 2
    found = GridSearchCV(classifier(), {"dropout": [0.0, 0.1]}, cv=3).fit(images, y)
    predicted = cross_val_predict(classifier(), images, y, cv=3)
    assert sequence.most <= 6  # the threads of the pass, and the image that waits for one
    assert sequence.reads == 300
    held = [sequence[i] for i in range(300)]
    np.testing.assert_array_equal(predicted, cross_val_predict(classifier(), held, y, cv=3))
    np.testing.assert_array_equal(found.predict(images), found.predict(held))


@needs_fork
def test_other_processes_find_what_one_has_read(tmp_path):
    sequence = Counted()
    images = pickle.loads(pickle.dumps(LazyImages(sequence)))  # as workers receive it
    first = encoder(tmp_path).fit_transform(images)

    def again():
        before = images._sequence.reads
        features = encoder(tmp_path).fit_transform(images[::-1])
        return features, images._sequence.reads - before

    features, reads = in_child(again)
    np.testing.assert_array_equal(features[::-1], first)
    assert reads == 0


def test_functions_of_scikit_learn_select_without_reading():
    sequence = Counted()
    images = LazyImages(sequence)
    parts = [*train_test_split(images, test_size=0.25, stratify=Y), shuffle(images), resample(images, n_samples=50)]
    assert [len(part) for part in parts] == [18, 6, 24, 50]
    assert all(isinstance(part, LazyImages) for part in parts)
    assert sequence.reads == 0
    np.testing.assert_array_equal(
        encoder().fit_transform(parts[0]), encoder().fit_transform([sequence[int(i)] for i in parts[0]._positions])
    )


def test_parts_and_copies_are_known_again_and_other_sequences_are_not(tmp_path):
    sequence = Counted()
    images = LazyImages(sequence)
    first = encoder(tmp_path).fit_transform(images)
    reads = sequence.reads
    for part in (images, images[:], copy.copy(images), pickle.loads(pickle.dumps(images))):
        np.testing.assert_array_equal(encoder(tmp_path).fit_transform(part), first)
        np.testing.assert_array_equal(encoder(tmp_path).fit_transform(part[5:1:-1]), first[5:1:-1])
    assert sequence.reads == reads
    for other in (LazyImages(sequence), sequence):  # keys are read again; features are cached
        np.testing.assert_array_equal(encoder(tmp_path).fit_transform(other), first)
        reads += 24
    assert sequence.reads < reads + 3  # the first item of a sequence shows whether it is an image
    changed = list(X)
    encoder(tmp_path).fit_transform(changed_images := deque(changed))
    changed_images[0] = X[1]
    np.testing.assert_array_equal(
        encoder(tmp_path).fit_transform(changed_images)[0], encoder().fit_transform(X[1:2])[0]
    )


def test_a_sequence_that_returns_one_buffer_is_read_correctly():
    class Buffer:
        frame = np.empty((8, 8, 3), np.uint8)

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            self.frame[:] = X[i]
            return self.frame

    for _ in range(3):
        np.testing.assert_array_equal(encoder().fit_transform(Buffer()), encoder().fit_transform(X))


def test_images_of_one_file_are_loaded_by_one_thread_at_a_time():
    class Archive:
        """Images that Pillow loads from a shared file when their pixels are needed."""

        def __init__(self):
            contents = list(map(encoded, X))
            self.starts = np.cumsum([0, *map(len, contents)])
            self.file = BytesIO(b"".join(contents))

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return Image.open(Part(self.file, int(self.starts[i]), int(self.starts[i + 1])))

    class Part(BytesIO):
        def __init__(self, file, start, end):
            self.file, self.start, self.at, self.end = file, start, 0, end

        def seek(self, to, whence=0):
            self.at = to + {0: 0, 1: self.at, 2: self.end - self.start}[whence]
            return self.at

        def tell(self):
            return self.at

        def read(self, n=-1):
            self.file.seek(self.start + self.at)
            time.sleep(1e-5)
            content = self.file.read(self.end - self.start - self.at if n < 0 else n)
            self.at += len(content)
            return content

    np.testing.assert_array_equal(encoder().fit_transform(Archive()), encoder().fit_transform(X))


class Broken(Counted):
    def __getitem__(self, i):
        if i == 3:
            raise RuntimeError("record 3 is corrupt")
        return None if i == 5 else super().__getitem__(i)


@pytest.mark.parametrize("make", [Broken, lambda: LazyImages(Broken())])
def test_items_that_cannot_be_read_are_named(make):
    failures = sktl.check_images(make())
    assert [(one.position, one.name) for one in failures] == [(3, "Broken[3]"), (5, "Broken[5]")]
    assert failures[0].reason == "cannot be read: RuntimeError: record 3 is corrupt"
    assert "missing value" in failures[1].reason
    with pytest.warns(sktl.exceptions.InvalidImageWarning):
        fitted = classifier(invalid_images="skip").fit(make(), Y)
    assert [one.position for one in fitted.invalid_images_] == [3, 5]
    (failure,) = sktl.check_images(LazyImages(Broken())[::3])[:1]
    assert (failure.position, failure.name) == (1, "Broken[3]")


class Random(Counted):
    """Returns another image at each access."""

    def __getitem__(self, i):
        super().__getitem__(i)
        return np.random.default_rng(random.getrandbits(60)).integers(0, 256, (8, 8, 3)).astype(np.uint8)


def test_images_that_change_are_named_and_not_cached_when_they_are_read_again(tmp_path):
    images = LazyImages(Random())
    encoder(tmp_path).fit_transform(images)
    n_images = sktl.cache_info(tmp_path).images
    other = encoder(tmp_path).set_params(image_size=16)  # whose features are not cached
    with pytest.raises(
        InvalidImageError, match=r"X\[0\] \(Random\[0\]\): differs when it is read again; remove random"
    ):
        other.fit_transform(images)
    assert sktl.cache_info(tmp_path).images == n_images


def test_images_that_change_are_read_once_so_their_features_are_those_of_one_reading(tmp_path):
    sequence = Random()
    images = LazyImages(sequence)
    first = encoder(tmp_path).fit_transform(images)
    np.testing.assert_array_equal(encoder(tmp_path).fit_transform(images[::-1]), first[::-1])
    assert sequence.reads == len(images)


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        (TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), r"is a tuple.*sktl\.datasets\.from_dataset"),
        (UserList({"image": image} for image in X), r"is a dict.*sktl\.datasets\.from_dataset"),
        (range(5), "is a number, of type int"),
        (deque(), "X is empty"),
    ],
)
def test_sequences_of_other_items_are_refused_with_the_remedy(sequence, reason):
    with pytest.raises(InvalidInputError, match=reason):
        sktl.check_images(sequence)


@pytest.mark.parametrize("sequence", ["abc", b"abc", {0: X[0]}, {1, 2}, 5, iter(X), (image for image in X), len])
def test_lazy_images_of_what_is_no_sequence_are_refused(sequence):
    with pytest.raises(InvalidParameterError, match="Pass an object with __len__ and __getitem__"):
        LazyImages(sequence)


def test_threads_share_a_sequence():
    sequence = Counted()
    expected = encoder().fit_transform([sequence[i] for i in range(24)])
    results = [None] * 4

    def run(k):
        results[k] = encoder().fit_transform(sequence)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


class Faulty(UserList):
    """A sequence whose last item cannot be read."""

    def __getitem__(self, i):
        if i in (len(self) - 1, -1):
            raise RuntimeError("no such shard")
        return super().__getitem__(i)


@pytest.mark.parametrize("item", ["a.png", X[0]])
def test_an_item_that_cannot_be_read_is_named_whatever_the_others_are(item):
    failure = sktl.check_images(Faulty([item] * 3))[-1]
    assert failure == (2, "Faulty[2]", "cannot be read: RuntimeError: no such shard")
