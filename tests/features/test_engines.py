"""One engine per identity and process, whose features of an image depend on nothing else."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from backbones import SmallConvNet, backbone_of, small_conv_net, trunk_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opening import known_facts, open_engine
from representatives import examples
from torch import nn

from sktl._backbones.backbone import Backbone
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features import engines as _engines
from sktl._features.engines import TorchEngine
from sktl._images.preprocessing import Preprocessing
from sktl._utils.threads import single_threaded_pool
from sktl.exceptions import BackboneWarning

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def builds(monkeypatch):
    """Give each test a registry of its own, and list the identities of the networks that it builds."""
    monkeypatch.setattr(_engines, "registry", _engines.EngineRegistry())
    built = []
    build = Backbone.build
    monkeypatch.setattr(Backbone, "build", lambda self: (built.append(self.identity), build(self))[1])
    return built


def small(seed=0, image_size=None):
    return resolve_backbone(SmallConvNet, "default", image_size, seed)


def torch_engine(backbone, device=CPU):
    return TorchEngine(trunk_of(backbone, device=device))


def run(engine, pixels):
    with single_threaded_pool(1) as pool:
        return pool.submit(engine.run, pixels).result()


def random_pixels(engine, n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *engine.new_chunk().shape[1:]), np.uint8)


# ------------------------------------------------------------------------------------------------------------- registry


def test_a_network_is_built_once_per_identity(builds):
    first, equal, other = small(1), small(1), small(2)
    assert open_engine(first, CPU) is open_engine(equal, CPU)
    assert open_engine(other, CPU) is not open_engine(first, CPU)
    assert builds == [first.identity, other.identity]


def test_facts_are_known_without_building_again_even_when_the_engine_is_gone(builds):
    backbones = [small(seed) for seed in range(4)]
    facts = [open_engine(backbone, CPU).facts for backbone in backbones]
    assert len(builds) == 4
    assert [known_facts(small(seed), CPU, 0, "auto") for seed in range(4)] == facts
    assert len(builds) == 4
    assert len({fact.fingerprint for fact in facts}) == 4
    assert {fact.shape for fact in facts} == {(2 * (12 + 8),)}  # of the output and of the first convolution
    assert {fact.layout.sizes for fact in facts} == {(12, 2 * (12 + 8))}


def test_the_engines_used_last_are_kept_and_the_others_built_anew_with_the_same_facts(builds):
    kept = _engines._MOST_ENGINES
    backbones = [small(seed) for seed in range(kept + 1)]
    for backbone in backbones[:kept]:
        open_engine(backbone, CPU)
    open_engine(backbones[0], CPU)
    open_engine(backbones[kept], CPU)
    assert len(builds) == kept + 1
    open_engine(backbones[0], CPU)
    assert len(builds) == kept + 1
    facts = known_facts(backbones[1], CPU, 0, "auto")
    assert open_engine(backbones[1], CPU).facts == facts
    assert len(builds) == kept + 2


def test_threads_that_want_the_same_engine_at_once_build_it_once(builds):
    barrier = threading.Barrier(4, timeout=60)

    def open_together(_):
        barrier.wait()
        return open_engine(small(), CPU)

    with ThreadPoolExecutor(4) as pool:
        engines = set(pool.map(open_together, range(4)))
    assert len(engines) == len(builds) == 1


def test_the_fingerprint_repeats_and_follows_what_decides_features():
    base = torch_engine(small()).facts.fingerprint
    assert torch_engine(small()).facts.fingerprint == base
    assert torch_engine(small(seed=1)).facts.fingerprint != base
    assert torch_engine(small(image_size=24)).facts.fingerprint != base


def test_an_engine_computes_the_function_of_its_backbone_also_after_a_look_alike():
    engines = [
        open_engine(backbone_of(function), CPU) for function in (lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)))
    ]
    pixels = random_pixels(engines[0], engines[0].chunk)
    mean, largest = (run(engine, pixels) for engine in engines)
    assert (largest > mean).all()


# -------------------------------------------------------------------------------------------------------------- repeats


def test_a_network_whose_output_does_not_repeat_is_not_fingerprinted():
    with pytest.warns(BackboneWarning, match=r"backbone='.*' returns different features.*not cached"):
        engine = torch_engine(backbone_of(lambda x: x.mean((2, 3)) + torch.rand(len(x), 3)))
    assert engine.facts.fingerprint is None
    assert engine.facts.shape == (3,)


# --------------------------------------------------------------------------------------------------------------- chunks


def test_a_chunk_is_a_few_images_of_the_networks_size():
    engine = torch_engine(small())
    chunk = engine.new_chunk()
    assert chunk.shape == (engine.chunk, 16, 16, 3)
    assert chunk.dtype == np.uint8
    assert not chunk.any()
    features = run(engine, chunk)
    assert (features.shape, features.dtype) == ((engine.chunk, 40), np.float32)


def test_features_are_those_of_the_normalised_pixels():
    engine = torch_engine(resolve_backbone(small_conv_net, "default", None, 0))
    pixels = random_pixels(engine, engine.chunk)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = small_conv_net().eval()((scaled - mean) / std)
    np.testing.assert_allclose(run(engine, pixels)[:, :12], expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def bundled():
    """The engine of the bundled network, eight images, and the features of each beside black neighbours."""
    engine = torch_engine(resolve_backbone("efficientnet_lite0", "default", None, 0))
    pixels = random_pixels(engine, 8)
    alone = []
    for image in pixels:
        chunk = engine.new_chunk()
        chunk[0] = image
        alone.append(run(engine, chunk)[0])
    return engine, pixels, np.stack(alone)


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)))
def test_the_features_of_an_image_depend_neither_on_its_place_nor_on_its_neighbours(bundled, order):
    engine, pixels, alone = bundled
    features = [run(engine, pixels[list(order[i : i + engine.chunk])]) for i in range(0, 8, engine.chunk)]
    np.testing.assert_array_equal(np.concatenate(features), alone[list(order)])


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3), image=st.integers(0, 7), neighbours=st.sampled_from([0, 255]))
def test_an_image_in_a_padded_chunk_has_the_same_features(bundled, place, image, neighbours):
    engine, pixels, alone = bundled
    chunk = np.full_like(engine.new_chunk(), neighbours)
    chunk[place] = pixels[image]
    np.testing.assert_array_equal(run(engine, chunk)[place], alone[image])


def test_threads_that_share_an_engine_get_the_bits_of_one(bundled):
    engine, pixels, alone = bundled
    chunks = [pixels[i : i + 4] for i in (0, 4)] * 3
    with single_threaded_pool(3) as pool:
        features = list(pool.map(engine.run, chunks))
    np.testing.assert_array_equal(np.concatenate(features), np.concatenate([alone] * 3))


# ---------------------------------------------------------------------------------------------------------- accelerator


class Busy(nn.Module):
    """Counts the threads that are inside its forward at once."""

    def __init__(self):
        super().__init__()
        self.layers = SmallConvNet().layers
        self.preprocessing = Preprocessing(16, (16, 16))
        self.lock, self.inside, self.most = threading.Lock(), 0, 0

    def forward(self, images):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            return self.layers(images).flatten(1)
        finally:
            with self.lock:
                self.inside -= 1

    def __deepcopy__(self, memo):
        return self


def test_an_accelerator_takes_large_chunks_one_at_a_time(simulated_cuda):
    module = Busy()
    engine = torch_engine(resolve_backbone(lambda: module, "default", None, 0), simulated_cuda)
    assert engine.chunk > torch_engine(small()).chunk
    chunk = random_pixels(engine, engine.chunk)
    with single_threaded_pool(4) as pool:
        features = list(pool.map(engine.run, [chunk] * 8))
    assert module.most == 1
    assert all(np.array_equal(each, features[0]) for each in features)
    assert features[0].shape == (engine.chunk, 40)


def test_an_accelerator_has_its_own_fingerprint_and_nearly_the_same_features(simulated_cuda):
    cpu, accelerator = torch_engine(small()), torch_engine(small(), simulated_cuda)
    assert cpu.facts.shape == accelerator.facts.shape
    assert cpu.facts.fingerprint != accelerator.facts.fingerprint
    assert open_engine(small(), CPU) is not open_engine(small(), simulated_cuda)
    chunk = random_pixels(accelerator, accelerator.chunk)
    np.testing.assert_allclose(run(accelerator, chunk)[: cpu.chunk], run(cpu, chunk[: cpu.chunk]), rtol=1e-4, atol=1e-5)
