"""Pixels are the same whether they are decoded when asked for or ahead, and decoding ahead is bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl import Preprocessing, PretrainedImageClassifier, PretrainedImageEncoder
from sktl._features import decoding_ahead as _decoder
from sktl._features import engines as _engines
from sktl._features.decoding_ahead import Decoder
from sktl._features.sample_windows import Budget
from sktl._images.augmentation import AUGMENTATIONS, View
from sktl._images.content_keys import content_key
from sktl._images.decoding import ImageProblem
from sktl._images.samples import ArraySample, as_samples

SMALL = Preprocessing(8, (8, 8))
X = np.random.default_rng(2).integers(0, 256, (20, 12, 10, 3), np.uint8)
VIEW = View(AUGMENTATIONS["light"], 3, 0)


def decoder_of(view=None, held=(), budget=None):
    """Return a decoder of X with its keys, in order. It holds the contents of some samples."""
    samples = as_samples(X, None)
    contents = [sample.read() for sample in samples]
    decoder = Decoder(samples, SMALL, view, budget)
    keys = [decoder.key(content_key(content)) for content in contents]
    for i, key in enumerate(keys):
        decoder.add(key, i, content_key(contents[i]), contents[i] if i in held else None)
    return decoder, keys


some = st.sets(st.integers(0, 19))


@settings(max_examples=30)
@given(view=st.sampled_from([None, VIEW]), held=some, ahead=some, forgotten=some, order=st.permutations(range(20)))
def test_pixels_depend_neither_on_what_was_held_nor_on_what_was_decoded_ahead(view, held, ahead, forgotten, order):
    size = X[0].nbytes
    budget = Budget(20 * size)
    assert budget.reserve(len(held) * size, wait=False)
    decoder, keys = decoder_of(view, held, budget)
    plain, _ = decoder_of(view)
    with ThreadPoolExecutor(2) as pool:
        decoder.start([keys[i] for i in sorted(ahead)], pool)
        for i in forgotten:
            decoder.forget(keys[i])
        decoder.stop()
    for i in order:
        assert_array_equal(decoder(keys[i]), plain(keys[i]))
    assert budget._held == 0
    assert not decoder._ahead


def test_what_is_held_is_not_read_and_what_was_forgotten_is(monkeypatch):
    decoder, keys = decoder_of(held=range(20))
    decoder.forget(keys[3])
    read = []
    monkeypatch.setattr(ArraySample, "read", lambda self: (read.append(self), self.array)[1])
    for key in keys:
        decoder(key)
    assert read == [decoder.samples[3]]


def test_what_is_wrong_with_an_image_is_said_when_it_is_asked_for():
    decoder, keys = decoder_of()
    decoder.add(keys[0], 1, keys[0], None)  # the key stands for another image
    with ThreadPoolExecutor(1) as pool:
        decoder.start(keys[:1], pool)
        pool.submit(int).result()
        decoder.stop()
        with pytest.raises(ImageProblem, match="changed while it was being read"):
            decoder(keys[0])


def test_no_more_is_decoded_ahead_than_fits_and_nothing_after_it_was_stopped(monkeypatch):
    monkeypatch.setattr(_decoder, "_BYTES_AHEAD", 5 * 8 * 8 * 3 + 1)
    decoder, keys = decoder_of()
    decoded = []
    decode = Decoder._decode
    monkeypatch.setattr(Decoder, "_decode", lambda self, key: decoded.append(key) or decode(self, key))
    with ThreadPoolExecutor(1) as pool:
        decoder.start(keys[:2], pool)
        decoder.start(keys[2:], pool)
        pool.submit(int).result()
        decoder.stop()
        assert decoded == keys[:5]
        for key in keys[:5]:
            decoder.forget(key)
        occupied, free = threading.Event(), threading.Event()
        pool.submit(lambda: (occupied.set(), free.wait(60)))
        occupied.wait(60)
        decoder.start(keys[5:], pool)
        decoder.stop()
        free.set()
        pool.submit(int).result()
        assert decoded == keys[:5]


def test_images_are_decoded_while_the_network_is_opened(monkeypatch, tmp_path):
    """With a single thread they cannot be, and with a network at hand they need not."""
    started, opened = threading.Event(), []
    decode, opening = Decoder._decode, _engines.EngineRegistry.open

    def decoding(self, key):
        started.set()
        return decode(self, key)

    def open_slowly(*args):
        opened.append(started.wait(60 if n_jobs == 2 else 0))
        return opening(*args)

    expected = [PretrainedImageEncoder(backbone=Pixels, cache=False, n_jobs=1).fit_transform(X)] * 2
    monkeypatch.setattr(Decoder, "_decode", decoding)
    monkeypatch.setattr(_engines.EngineRegistry, "open", open_slowly)
    found = []
    for n_jobs in (2, 1):
        started.clear()
        monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
        clf = PretrainedImageClassifier(backbone=Pixels, cache=tmp_path / str(n_jobs), n_jobs=n_jobs, max_epochs=2)
        clf.fit(X, np.arange(20) % 2)
        assert opened[0] is (n_jobs == 2)
        found.append(clf.transform(X))
        opened.clear()
    assert_array_equal(found, expected)
