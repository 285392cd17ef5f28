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
from sktl._features import engines as _engines
from sktl._features import prefetch as _decoder
from sktl._features.prefetch import Decoder
from sktl._images.augmentation import AUGMENTATIONS, View
from sktl._images.decoding import ImageProblem, content_key
from sktl._images.samples import as_samples

SMALL = Preprocessing(8, (8, 8))
X = np.random.default_rng(2).integers(0, 256, (20, 12, 10, 3), np.uint8)
VIEW = View(AUGMENTATIONS["light"], 3, 0)


def decoder_of(view=None):
    """Return a decoder of X with its keys, in order."""
    samples = as_samples(X, None)
    contents = [content_key(sample.read()) for sample in samples]
    keys = contents if view is None else [view.key(key) for key in contents]
    return Decoder(samples, {key: i for i, key in enumerate(keys)}, SMALL, view), keys


@settings(max_examples=30)
@given(view=st.sampled_from([None, VIEW]), ahead=st.sets(st.integers(0, 19)), order=st.permutations(range(20)))
def test_what_was_decoded_ahead_is_what_is_decoded_when_asked_for(view, ahead, order):
    decoder, keys = decoder_of(view)
    plain, _ = decoder_of(view)
    with ThreadPoolExecutor(2) as pool, decoder.ahead([keys[i] for i in sorted(ahead)], pool):
        pass
    for i in order:
        assert_array_equal(decoder(keys[i]), plain(keys[i]))


def test_what_is_wrong_with_an_image_is_said_when_it_is_asked_for():
    decoder, keys = decoder_of()
    other = dict(zip(reversed(keys), range(20), strict=True))  # each key stands for another image
    decoder = Decoder(decoder.samples, other, SMALL)
    with ThreadPoolExecutor(1) as pool:
        with decoder.ahead(keys[:1], pool):
            pool.submit(int).result()
        with pytest.raises(ImageProblem, match="changed while it was being read"):
            decoder(keys[0])


def test_no_more_is_decoded_ahead_than_fits_and_nothing_after_the_block(monkeypatch):
    monkeypatch.setattr(_decoder, "_BYTES_AHEAD", 5 * 8 * 8 * 3 + 1)
    decoder, keys = decoder_of()
    decoded = []
    decode = Decoder._decode
    monkeypatch.setattr(Decoder, "_decode", lambda self, key: decoded.append(key) or decode(self, key))
    with ThreadPoolExecutor(1) as pool:
        with decoder.ahead(keys, pool):
            pool.submit(int).result()
        assert decoded == keys[:5]
        occupied, free = threading.Event(), threading.Event()
        pool.submit(lambda: (occupied.set(), free.wait(60)))
        occupied.wait(60)
        with decoder.ahead(keys[5:], pool):
            pass
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
