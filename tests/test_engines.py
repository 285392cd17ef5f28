"""One network per identity and process, checked on a probe, whose features of an image depend on nothing else."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from backbones import NEW_TIMM, SmallConvNet, small_conv_net
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from sktl import _engines
from sktl._backbones import Backbone, resolve_backbone
from sktl._engines import TorchEngine, engine_facts, open_engine
from sktl._preprocessing import Preprocessing
from sktl._torch import single_threaded_pool
from sktl.exceptions import BackboneError, BackboneWarning

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def builds(monkeypatch):
    """Give each test a registry of its own, and list the identities of the networks that it builds."""
    monkeypatch.setattr(_engines, "_registry", _engines._Registry())
    built = []
    build = Backbone.build
    monkeypatch.setattr(Backbone, "build", lambda self: (built.append(self.identity), build(self))[1])
    return built


def small(seed=0, image_size=None):
    return resolve_backbone(SmallConvNet, "default", image_size, seed)


class Function(nn.Module):
    """A network that is a function of the images."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.preprocessing = Preprocessing(8, (8, 8))

    def forward(self, images):
        return self.function(images)


def engine_of(function):
    return TorchEngine(resolve_backbone(lambda: Function(function), "default", None, 0), CPU)


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
    facts = [engine_facts(backbone, CPU) for backbone in backbones]
    assert len(builds) == 4
    assert [engine_facts(small(seed), CPU) for seed in range(4)] == facts
    assert len(builds) == 4
    assert len({fact.fingerprint for fact in facts}) == 4
    assert {fact.shape for fact in facts} == {(12,)}


def test_the_engines_used_last_are_kept_and_the_others_built_anew_with_the_same_facts(builds):
    kept = _engines._KEPT_ENGINES
    backbones = [small(seed) for seed in range(kept + 1)]
    for backbone in backbones[:kept]:
        open_engine(backbone, CPU)
    open_engine(backbones[0], CPU)
    open_engine(backbones[kept], CPU)
    assert len(builds) == kept + 1
    open_engine(backbones[0], CPU)
    assert len(builds) == kept + 1
    facts = engine_facts(backbones[1], CPU)
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
    base = TorchEngine(small(), CPU).facts.fingerprint
    assert TorchEngine(small(), CPU).facts.fingerprint == base
    assert TorchEngine(small(seed=1), CPU).facts.fingerprint != base
    assert TorchEngine(small(image_size=24), CPU).facts.fingerprint != base


def test_an_engine_computes_the_function_of_its_backbone_also_after_a_look_alike():
    def activation(function):
        return lambda: Function(function)

    engines = [
        open_engine(resolve_backbone(activation(function), "default", None, 0), CPU)
        for function in (lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)))
    ]
    pixels = random_pixels(engines[0], engines[0].chunk)
    mean, largest = (run(engine, pixels) for engine in engines)
    assert (largest > mean).all()


# ---------------------------------------------------------------------------------------------------------------- probe


def test_a_network_whose_output_does_not_repeat_is_not_fingerprinted():
    with pytest.warns(BackboneWarning, match=r"backbone='.*' gives other features each time.*not kept"):
        engine = engine_of(lambda x: x.mean((2, 3)) + torch.rand(len(x), 3))
    assert engine.facts.fingerprint is None
    assert engine.facts.shape == (3,)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x, r"shape \(4, 3, 8, 8\)"),
        (lambda x: x.mean((2, 3), keepdim=True), r"shape \(4, 3, 1, 1\)"),
        (lambda x: x.mean((1, 2, 3)), r"shape \(4,\)"),
        (lambda x: x.mean(), r"shape \(\)"),
        (lambda x: x.mean((2, 3))[:-1], r"shape \(3, 3\)"),
        (lambda x: (x.mean((2, 3)),), "tuple"),
        (lambda x: {"features": x.mean((2, 3))}, "dict"),
        (lambda x: None, "NoneType"),
    ],
    ids=["maps", "1 x 1 maps", "vector", "number", "one too few", "tuple", "dict", "nothing"],
)
def test_an_output_that_is_no_table_of_features_is_an_error(function, found):
    with pytest.raises(BackboneError, match=rf"backbone='.*' .*{found}.*\(n, n_features\)") as caught:
        engine_of(function)
    assert "image_size" not in str(caught.value)  # the size of the images has no part in it


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_an_error(value):
    with pytest.raises(BackboneError, match=r"backbone='.*' with weights .* not finite.*Use other weights"):
        engine_of(lambda x: x.mean((2, 3)) + value)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 8),
        ("timm/test_vit", 100),
        pytest.param("timm/test_maxvit", 100, marks=NEW_TIMM),
        ("vit_b_32", 100),
    ],
)
def test_an_image_size_that_the_network_cannot_take_is_an_error(name, size):
    backbone = resolve_backbone(name, None, size, 0)
    with pytest.raises(BackboneError, match=rf"backbone='{name}' .*{size} x {size}.*image_size=None"):
        TorchEngine(backbone, CPU)


# --------------------------------------------------------------------------------------------------------------- chunks


def test_a_chunk_is_a_few_images_of_the_networks_size():
    engine = TorchEngine(small(), CPU)
    chunk = engine.new_chunk()
    assert chunk.shape == (engine.chunk, 16, 16, 3)
    assert chunk.dtype == np.uint8
    assert not chunk.any()
    features = run(engine, chunk)
    assert (features.shape, features.dtype) == ((engine.chunk, 12), np.float32)


def test_features_are_those_of_the_normalised_pixels():
    engine = TorchEngine(resolve_backbone(small_conv_net, "default", None, 0), CPU)
    pixels = random_pixels(engine, engine.chunk)
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = small_conv_net().eval()((scaled - mean) / std)
    np.testing.assert_allclose(run(engine, pixels), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def bundled():
    """The engine of the bundled network, eight images, and the features of each beside black neighbours."""
    engine = TorchEngine(resolve_backbone("efficientnet_lite0", "default", None, 0), CPU)
    pixels = random_pixels(engine, 8)
    alone = []
    for image in pixels:
        chunk = engine.new_chunk()
        chunk[0] = image
        alone.append(run(engine, chunk)[0])
    return engine, pixels, np.stack(alone)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)))
def test_the_features_of_an_image_depend_neither_on_its_place_nor_on_its_neighbours(bundled, order):
    engine, pixels, alone = bundled
    features = [run(engine, pixels[list(order[i : i + engine.chunk])]) for i in range(0, 8, engine.chunk)]
    np.testing.assert_array_equal(np.concatenate(features), alone[list(order)])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.fixture
def simulated_cuda(monkeypatch):
    """Let tensors that are sent to CUDA stay where they are; all else of an engine behaves as on an accelerator."""
    to = torch.Tensor.to

    def stay(self, *arguments, **named):
        replaced = [CPU if isinstance(a, torch.device) and a.type == "cuda" else a for a in arguments]
        return to(self, *replaced, **named)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    return torch.device("cuda")


def test_an_accelerator_takes_large_chunks_one_at_a_time(simulated_cuda):
    module = Busy()
    engine = TorchEngine(resolve_backbone(lambda: module, "default", None, 0), simulated_cuda)
    assert engine.chunk > TorchEngine(small(), CPU).chunk
    chunk = random_pixels(engine, engine.chunk)
    with single_threaded_pool(4) as pool:
        features = list(pool.map(engine.run, [chunk] * 8))
    assert module.most == 1
    assert all(np.array_equal(each, features[0]) for each in features)
    assert features[0].shape == (engine.chunk, 12)


def test_an_accelerator_has_its_own_fingerprint_and_nearly_the_same_features(simulated_cuda):
    cpu, accelerator = TorchEngine(small(), CPU), TorchEngine(small(), simulated_cuda)
    assert cpu.facts.shape == accelerator.facts.shape
    assert cpu.facts.fingerprint != accelerator.facts.fingerprint
    assert open_engine(small(), CPU) is not open_engine(small(), simulated_cuda)
    chunk = random_pixels(accelerator, accelerator.chunk)
    np.testing.assert_allclose(run(accelerator, chunk)[: cpu.chunk], run(cpu, chunk[: cpu.chunk]), rtol=1e-4, atol=1e-5)
