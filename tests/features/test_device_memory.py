"""Too little memory of an accelerator, simulated by networks that have room for so many images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from backbones import SmallConvNet, stochastic_net
from torch import nn

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features import engines as _engines
from sktl._features.extractor import FeatureExtractor
from sktl._features.tail_extractor import tail_features
from sktl._images.samples import as_samples
from sktl._storage.cache import open_cache
from sktl._utils.devices import halved, is_out_of_memory, within_memory
from sktl.exceptions import DeviceMemoryError, DeviceWarning

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 16, 16, 3), np.uint8)


class Room:
    """Room for so many images at once, from the n-th call on."""

    def __init__(self, images: int, after: int = 0):
        self.images, self.after, self.sizes = images, after, []

    def take(self, images: torch.Tensor) -> None:
        self.sizes.append(len(images))
        if len(self.sizes) > self.after and len(images) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Crowded(SmallConvNet):
    """A network that shares the memory of a device with others."""

    room = Room(1000)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.room.take(images)
        return super().forward(images)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Give each test a registry of its own."""
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())


@pytest.fixture
def accelerator(monkeypatch, simulated_cuda):
    """Return a device whose arithmetic nobody asks about."""
    monkeypatch.setattr("sktl._features.engines.describe_arithmetic", lambda device: (str(device),))
    return simulated_cuda


def extract(monkeypatch, device, room, cache=False):
    """Return the features of the images, the fingerprint, and how many device warnings there were."""
    monkeypatch.setattr(Crowded, "room", room)
    extractor = FeatureExtractor(
        resolve_backbone(Crowded, "default", None, 0), device, n_jobs=2, cache=open_cache(cache)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        features = extractor(as_samples(IMAGES, None))
    assert all(issubclass(warning.category, DeviceWarning) for warning in caught)
    return features, extractor.fingerprint, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("images", "after"), [(20, 0), (20, 3), (1, 0), (63, 4)])
def test_the_pass_starts_again_with_smaller_chunks_and_says_so_once(monkeypatch, accelerator, images, after):
    expected, with_room, none = extract(monkeypatch, accelerator, Room(1000))
    assert not none
    room = Room(images, after)
    _engines.registry = _engines.EngineRegistry()
    found, fingerprint, messages = extract(monkeypatch, accelerator, room)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    size = next(64 >> i for i in range(7) if 64 >> i <= images)
    assert room.sizes[-1] == size
    # A network is looked at with one image, and its taps with two, before the pass.
    sizes = [n for n in room.sizes if n > 2 or size == 1]
    assert sorted(set(sizes)) == sorted({64 >> i for i in range(7) if 64 >> i >= size})
    assert fingerprint != with_room
    assert len(messages) == 1
    assert "device='cuda'" in messages[0]
    assert "64 images" in messages[0]
    # What was learned once is heeded from then on, to the same bits.
    room = Room(images)
    again, same, silent = extract(monkeypatch, accelerator, room)
    np.testing.assert_array_equal(again, found)
    assert (same, silent, room.sizes[-1]) == (fingerprint, [], size)


def test_rows_of_larger_chunks_are_not_mixed_with_those_of_smaller_ones(monkeypatch, accelerator, tmp_path):
    alone = extract(monkeypatch, accelerator, Room(32))[0]
    _engines.registry = _engines.EngineRegistry()
    # Two chunks of 64 are stored before the memory is full.
    found = extract(monkeypatch, accelerator, Room(32, after=4), cache=str(tmp_path))[0]
    np.testing.assert_array_equal(found, alone)


def test_where_not_one_image_fits_the_remedy_is_named(monkeypatch, accelerator):
    with pytest.raises(DeviceMemoryError, match=r"Not even one image.*device='cuda'.*Crowded.*device=\"cpu\""):
        extract(monkeypatch, accelerator, Room(0))


def test_a_tail_takes_smaller_chunks_to_the_same_features(accelerator):
    cut = resolve_backbone(stochastic_net, "default", None, 0).cut(1)
    activations = np.random.default_rng(0).normal(size=(70, 12, 4, 4)).astype(np.float32)
    expected, room = tail_features(cut, activations, accelerator, None), Room(10)
    cut.network.blocks[2].register_forward_pre_hook(lambda module, inputs: room.take(inputs[0]))
    np.testing.assert_allclose(tail_features(cut, activations, accelerator, None), expected, rtol=1e-4, atol=1e-5)
    assert sorted(set(room.sizes)) == [8, 16, 32, 64]


def test_errors_of_memory_are_told_from_others():
    cuda = torch.device("cuda")
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."), cuda)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), torch.device("mps"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"), cuda)
    assert not is_out_of_memory(ValueError("out of memory"), cuda)
    assert not is_out_of_memory(RuntimeError("out of memory"), CPU)  # of a function of the user's, perhaps


def test_other_errors_are_not_tried_again():
    tries = []

    def fail():
        tries.append(1)
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        within_memory(fail, nn.Identity(), torch.device("cuda"))
    assert len(tries) == 1


def test_halving_ends_at_one():
    sizes = [64]
    while sizes[-1] > 1:
        sizes.append(halved(sizes[-1], "a test", CPU))
    assert sizes == [64, 32, 16, 8, 4, 2, 1]
