"""Laws of the batches: each sample once per epoch, and every draw decided by seed, epoch and position alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl import Preprocessing
from sktl._fine_tuning.tail_batches import (
    ImageInputs,
    LabeledInputs,
    StoredInputs,
    TrainingBatches,
    ValidationBatches,
    check_change,
)
from sktl._images.augmentation import AUGMENTATIONS, CustomTransform, View
from sktl._images.samples import as_samples
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled
from sktl.exceptions import InvalidImageError, InvalidParameterError

PIXELS = np.random.default_rng(0).integers(0, 256, (13, 20, 20, 3), np.uint8)
PREPROCESSING = Preprocessing(16, (16, 16))


def stored(n):
    inputs = StoredInputs(np.arange(n, dtype=np.float32)[:, None].__getitem__)
    return LabeledInputs(Labeled(inputs, ClassTargets(np.arange(n), np.arange(n), np.arange(n) / 7)), np.arange(n))


@settings(max_examples=60)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 30), seed=st.integers(0, 50), mixup=st.sampled_from([0.0, 0.4]))
def test_every_sample_comes_once_per_epoch_with_its_own_label_and_weight(n, batch_size, seed, mixup):
    batches = TrainingBatches(stored(n), batch_size, seed, mixup)
    again = TrainingBatches(stored(n), batch_size, seed, mixup)
    orders = []
    for _ in range(2):
        epoch, same = list(batches), list(again)
        sizes = [len(batch.inputs) for batch in epoch]
        assert len(sizes) == stored(n).count_batches(batch_size)
        rows = torch.cat([batch.inputs[:, 0] for batch in epoch]).numpy().astype(int)
        assert sorted(rows) == list(range(n))
        assert all(size <= batch_size + 1 for size in sizes)
        assert sizes == [n] or batch_size == 1 or min(sizes) > 1  # BatchNorm cannot train on one image
        assert len({batch.seeds for batch in epoch}) == len(epoch)
        for batch, twin in zip(epoch, same, strict=True):
            assert_array_equal(batch.targets[0], batch.inputs[:, 0])
            assert_array_equal(batch.targets[1], batch.targets[0].numpy() / 7)
            assert torch.equal(batch.inputs, twin.inputs)
            assert batch.share == twin.share
            assert (batch.partners is None) == (mixup == 0)
            if batch.partners is not None:
                assert sorted(batch.partners.tolist()) == list(range(len(batch.inputs)))
                assert 0 <= batch.share <= 1
        orders.append(rows.tolist())
    assert n < 6 or orders[0] != orders[1]


@pytest.mark.parametrize("n_views", [1, 2, 3])
def test_views_come_again_after_as_many_epochs_as_there_are(n_views):
    with ThreadPoolExecutor(2) as pool:
        inputs = ImageInputs(as_samples(PIXELS), PREPROCESSING, AUGMENTATIONS["light"], 0, pool, n_views)
        epochs = [inputs.request(np.arange(13), epoch)() for epoch in range(1, 8)]
    for i, epoch in enumerate(epochs):
        for j, other in enumerate(epochs):
            assert torch.equal(epoch, other) == ((i - j) % n_views == 0)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, unique=True), st.integers(0, 9), st.integers(0, 9))
def test_views_of_other_images_seeds_and_numbers_have_other_keys(contents, seed, number):
    views = [View(change, s, n) for change in AUGMENTATIONS.values() for s in (seed, 10) for n in (number, 10)]
    assert len({view.key(content) for view in views for content in contents}) == len(views) * len(contents)


def test_validation_batches_are_all_samples_in_order_each_time():
    batches = ValidationBatches(stored(150), 7)
    for _ in range(2):
        assert_array_equal(torch.cat([batch.inputs[:, 0] for batch in batches]), np.arange(150))


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as pool:
        yield pool


@settings(max_examples=20)
@given(rows=st.lists(st.integers(0, 12), min_size=1, max_size=9), epoch=st.integers(0, 5))
def test_a_changed_image_depends_on_seed_epoch_and_position_alone(rows, epoch):
    with ThreadPoolExecutor(2) as pool:
        inputs = ImageInputs(as_samples(PIXELS, None), PREPROCESSING, AUGMENTATIONS["trivial"], 7, pool)
        together = inputs.request(np.array(rows), epoch)()
        for row, pixels in zip(rows, together, strict=True):
            assert torch.equal(inputs.request(np.array([row]), epoch)()[0], pixels)


def test_changes_differ_by_epoch_position_and_seed(pool):
    same = np.repeat(PIXELS[:1], 6, axis=0)
    found = set()
    for seed in (0, 1):
        inputs = ImageInputs(as_samples(same, None), PREPROCESSING, AUGMENTATIONS["light"], seed, pool)
        for epoch in (1, 2):
            found |= {pixels.numpy().tobytes() for pixels in inputs.request(np.arange(6), epoch)()}
    assert len(found) == 24


def test_without_a_change_the_images_are_those_of_prediction(pool):
    inputs = ImageInputs(as_samples(PIXELS, None), PREPROCESSING, None, 0, pool)
    assert torch.equal(inputs.request(np.array([3, 4]), 1)(), inputs.request(np.array([3, 4]), 2)())


def test_all_images_of_a_batch_that_cannot_be_read_are_named_by_their_position(pool):
    samples = as_samples([b"no image", PIXELS[0], b"nor this"], None)
    with pytest.raises(InvalidImageError) as info:
        ImageInputs(samples, PREPROCESSING, AUGMENTATIONS["light"], 0, pool).request(np.array([2, 1, 0]), 1)()
    assert sorted(failure.position for failure in info.value.failures) == [0, 2]


def test_a_function_that_fails_is_found_by_one_sample():
    good, bad = as_samples([PIXELS[0], b"no image"], None)
    fails = CustomTransform(lambda image: 1 / 0)
    with pytest.raises(InvalidParameterError, match="augmentation failed on an image of 20 x 20 pixels"):
        check_change(fails, good, PREPROCESSING)
    for change, sample in [(fails, bad), (CustomTransform(lambda image: image), good), (None, bad)]:
        check_change(change, sample, PREPROCESSING)
