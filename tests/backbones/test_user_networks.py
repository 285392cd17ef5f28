"""Networks that users built: they are copied and identified, without wrappers, and mistakes in them are named."""

from __future__ import annotations

import copy
import re
import threading
import warnings
from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from backbones import Function, SmallConvNet, features_of, images_for, resolve, small_conv_net
from torch import nn
from torchvision import models

from sktl import Preprocessing, PretrainedImageEncoder
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.taps import Tapped
from sktl._backbones.user_networks import uncompiled
from sktl._images.preprocessing import IMAGENET_MEAN
from sktl._short_text import type_of
from sktl._utils.threads import single_threaded
from sktl.exceptions import (
    BackboneError,
    BackboneWarning,
    InvalidParameterError,
)

X = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.fixture(autouse=True)
def one_thread():
    """Other processes share the cores of a test machine: small networks are slow when their threads must wait."""
    with single_threaded():
        yield


def body(n_features=160):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, n_features, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).eval()


def prepared(network):
    network.preprocessing = Preprocessing(32, (32, 32))
    return network


def warnings_of(network):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resolve_backbone(lambda: prepared(network), "default", None, 0)
    return [str(warning.message) for warning in caught]


class Wrapped(nn.Module):
    """A network that does something with the output of another."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, images):
        return self.function(self.inner(images))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: nn.Sequential(body(), nn.Linear(160, 3)), "the 3 outputs of its layer '1'.* The 160 values"),
        (lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.Identity()), "layer '1'"),
        (lambda: nn.Sequential(body(1280), nn.Dropout(0.2), nn.Linear(1280, 102)), "layer '2'"),
        (lambda: nn.Sequential(body(), nn.Linear(160, 1000)), "layer '1'"),
        (lambda: models.resnet18(num_classes=1000), "the 1000 outputs of its layer 'fc'.* The 512 values"),
        (lambda: models.mobilenet_v3_small(num_classes=37), r"layer 'classifier\.3'.* The 1024 values"),
    ],
)
def test_a_network_with_its_output_layer_is_a_warning(network, words):
    (message,) = warnings_of(network())
    assert re.search(words, message)


def without(network, name):
    network.set_submodule(name, nn.Identity())
    return network


@pytest.mark.parametrize(
    "network",
    [
        body,
        lambda: nn.Sequential(body(), nn.Linear(160, 128)),
        lambda: nn.Sequential(body(1280), nn.Linear(1280, 512)),
        lambda: nn.Sequential(body(1280), nn.Linear(1280, 64)),
        lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.BatchNorm1d(3)),
        lambda: nn.Sequential(body(), nn.Linear(160, 3), nn.ReLU(inplace=True)),
        lambda: Wrapped(nn.Sequential(body(), nn.Linear(160, 128)), nn.functional.normalize),
        lambda: without(models.resnet18(), "fc"),
        lambda: without(models.mobilenet_v3_small(), "classifier.3"),
        lambda: without(models.alexnet(), "classifier.6"),
    ],
)
def test_a_network_that_returns_features_is_none(network):
    assert warnings_of(network()) == []


def test_timm_tells_how_many_classes_a_network_has():
    timm = pytest.importorskip("timm")
    assert "layer 'fc'" in warnings_of(timm.create_model("resnet10t"))[0]
    assert warnings_of(timm.create_model("resnet10t", num_classes=0)) == []
    clip = nn.Sequential(body(768), nn.Linear(768, 512))
    clip.pretrained_cfg = {"architecture": "vit_base_patch16_clip_224", "num_classes": 512}
    assert warnings_of(clip) == []


def test_wrappers_of_compiled_networks_are_removed():
    plain = prepared(body())
    whole, part = torch.compile(copy.deepcopy(plain), backend="eager"), copy.deepcopy(plain)
    part[0] = torch.compile(part[0], backend="eager")
    expected = PretrainedImageEncoder(backbone=lambda: plain).fit_transform(X)
    for network in (whole, prepared(torch.compile(part, backend="eager"))):
        encoder = PretrainedImageEncoder(backbone=lambda network=network: network)
        np.testing.assert_array_equal(encoder.fit_transform(X), expected)
        assert [stage.name for stage in encoder.backbone_.stages]
        assert not any("_orig_mod" in name for name, _ in encoder.backbone_.build().named_modules())
    assert uncompiled(plain) is plain
    assert type(whole).__name__ == "OptimizedModule"
    assert type(part[0]).__name__ == "OptimizedModule"


def test_a_callable_gives_the_network_and_its_preprocessing():
    backbone = resolve(small_conv_net)
    assert backbone.name == "small_conv_net"
    assert backbone.preprocessing == Preprocessing(16, (16, 16))
    images = images_for(backbone)
    with torch.inference_mode():
        assert torch.equal(features_of(backbone), small_conv_net().eval()(images))


def test_a_built_network_is_frozen_and_its_own():
    module = small_conv_net()
    backbone = resolve(lambda: module)
    built = backbone.build()
    assert not built.training
    assert not any(p.requires_grad for p in built.parameters())
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    assert not {p.data_ptr() for p in built.parameters()} & {p.data_ptr() for p in module.parameters()}


def test_a_callable_without_preprocessing_gets_imagenets_with_a_warning():
    def bare():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.warns(BackboneWarning, match=r"bare declares no preprocessing.*Set module.preprocessing"):
        backbone = resolve(bare)
    assert backbone.preprocessing == Preprocessing(256, (224, 224), mean=IMAGENET_MEAN)


def test_a_callable_that_returns_a_timm_model_gets_its_preprocessing():
    backbone = resolve(lambda: timm.create_model("test_vit", num_classes=0))
    assert backbone.preprocessing == resolve("timm/test_vit").preprocessing


def test_declared_preprocessing_beats_timms():
    def declares():
        module = timm.create_model("test_resnet", num_classes=0)
        module.preprocessing = Preprocessing(40, (32, 32))
        return module

    assert resolve(declares).preprocessing == Preprocessing(40, (32, 32))


def test_a_callable_takes_another_image_size():
    backbone = resolve(small_conv_net, image_size=24)
    assert backbone.preprocessing == Preprocessing(24, (24, 24))
    assert backbone.identity != resolve(small_conv_net).identity


@pytest.mark.parametrize("returned", [None, "resnet18", SmallConvNet])
def test_a_callable_that_returns_no_module_is_an_error(returned):
    with pytest.raises(InvalidParameterError, match=rf"returned {type_of(returned)}; it must return.*Module"):
        resolve(lambda: returned)


def test_a_callables_random_weights_come_from_the_seed():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (resolve(SmallConvNet, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(features_of(first), features_of(again))
    assert first.identity == again.identity
    assert not torch.equal(features_of(first), features_of(other))
    assert first.identity != other.identity


class Stages(nn.Module):
    """Three stages that can be tapped."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(16, (16, 16))
        widths = (3, 4, 8, 12)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1))
                for a, b in pairwise(widths)
            )
        )

    def forward(self, images):
        return self.layers(images).mean((2, 3))


class OnAccelerator(Stages):
    """A network that fails on images in the memory of the CPU until it is moved there."""

    moved = False

    def cpu(self):
        self.moved = True
        return super().cpu()

    def forward(self, images):
        if not self.moved:
            raise RuntimeError("Expected all tensors to be on the same device")
        return super().forward(images)


def test_a_network_on_an_accelerator_is_copied_to_the_cpu():
    module = OnAccelerator()
    backbone = resolve(lambda: module)
    assert isinstance(backbone.tapped(), Tapped)
    assert not module.moved


class Traced(nn.Module):
    """A network around a module of TorchScript."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(16, (16, 16))
        self.inner = torch.jit.trace(small_conv_net().eval(), torch.zeros(2, 3, 16, 16))

    def forward(self, images):
        return self.inner(images)


def scripted():
    module = torch.jit.script(small_conv_net().eval().layers)
    module.preprocessing = Preprocessing(16, (16, 16))
    return module


@pytest.mark.filterwarnings("ignore:.*torch.jit:")
@pytest.mark.parametrize("function", [Traced, scripted])
def test_networks_of_torchscript_are_built(function):
    backbone = resolve(function)
    features = features_of(backbone).flatten(1)
    torch.testing.assert_close(features, features_of(resolve(small_conv_net)))
    assert not any(p.requires_grad for p in backbone.build().parameters())
    assert resolve(function).identity == backbone.identity


class Normed(Stages):
    """Its weights are computed anew in each run by torch's older `weight_norm`."""

    def __init__(self, norm=nn.utils.weight_norm):
        super().__init__()
        for stage in self.layers:
            norm(stage[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_weights_normed_by_the_older_function_are_plain_weights_of_the_copy():
    module = Normed()
    backbone = resolve(lambda: module)
    plain = resolve(lambda: Normed(lambda layer: layer))
    assert [stage.name for stage in backbone.stages] == [stage.name for stage in plain.stages]
    torch.testing.assert_close(features_of(backbone), module.eval()(images_for(backbone)).detach())
    copy.deepcopy(backbone.tapped())  # as a fit copies networks
    assert "weight_g" in dict(module.layers[0][0].named_parameters())


def on_meta():
    with torch.device("meta"):
        return SmallConvNet()


def lazy():
    module = SmallConvNet()
    module.layers[0] = nn.LazyConv2d(8, 3, 2)
    return module


def uncopyable():
    module = SmallConvNet()
    module.lock = threading.Lock()
    return module


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (on_meta, "meta device.*Build it on the CPU and load its weights"),
        (lazy, r"lazy layers.*Run the network once.*network\(torch.zeros"),
        (uncopyable, r"cannot be copied by copy.deepcopy: TypeError.*lock.*Remove the attribute"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_that_cannot_be_copied_is_an_error_that_says_what_to_do(function, advice):
    with pytest.raises(BackboneError, match=rf"backbone={function.__name__} .*{advice}"):
        resolve(function)


NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(8, (8, 8))
        self.weight = nn.Parameter(torch.full((3,), {parameter}))
        self.register_buffer("kept", torch.tensor({buffer}))
        self.register_buffer("dropped", torch.tensor({transient_buffer}), persistent=False)
        self.tensor = torch.tensor({tensor})
        self.number = {number}
        self.text = {text!r}
        self.order = {order}
        self.scales = {scales}
        self.activation = torch.{activation}

    def forward(self, x):
        x = x.flip({dims}).cumsum({axis}).mean(({last}, -2)) * {constant} + self.helper(x)
        x = self.activation(x * self.weight + self.kept + self.dropped + self.tensor + self.number)
        return getattr(x[:, self.order] * self.scales["first"] * closure, self.text)()

    def helper(self, x):
        return x[:, :, 0, 0] * {helper_constant}
"""


PLAIN = {
    "parameter": 1.0,
    "buffer": 1.0,
    "transient_buffer": 1.0,
    "tensor": 1.0,
    "number": 1.0,
    "text": "sin",
    "order": [0, 1, 2],
    "scales": {"first": 1.0},
    "activation": "relu",
    "dims": (2,),
    "axis": 2,
    "last": -1,
    "constant": 2.0,
    "helper_constant": 0.5,
    "closure": 1.0,
}


CHANGES = {
    "parameter": 2.0,
    "buffer": 2.0,
    "transient_buffer": 2.0,
    "tensor": 2.0,
    "number": 2.0,
    "text": "cos",
    "order": [2, 1, 0],
    "scales": {"first": 2.0},
    "activation": "tanh",
    "dims": (3,),
    "axis": 3,
    "constant": 3.0,
    "helper_constant": 0.25,
    "closure": 2.0,
}


def net(**changes):
    """A callable whose network differs from `net()`'s in one respect, as when a notebook cell is edited and rerun."""
    values = PLAIN | changes
    scope = {"nn": nn, "torch": torch, "Preprocessing": Preprocessing, "closure": values["closure"], "__name__": "cell"}
    exec(NET.format(**values), scope)
    return scope["Net"]


def test_equal_callables_have_equal_identities():
    assert resolve(net()).identity == resolve(net()).identity
    assert resolve(net()) == resolve(net())


@pytest.mark.parametrize("change", CHANGES)
def test_callables_that_compute_something_else_have_another_identity(change):
    plain, changed = resolve(net()), resolve(net(**{change: CHANGES[change]}))
    assert not torch.equal(features_of(plain), features_of(changed))
    assert plain.identity != changed.identity


class Views(Stages):
    """A network that is right for images in contiguous memory only, as LeNet often is written."""

    def forward(self, images):
        maps = self.layers(images)
        return maps.view(len(maps), -1)


def test_stages_of_a_network_that_fails_are_an_error_with_its_reason():
    with pytest.raises(BackboneError, match=r"stages of backbone='Views' .*view size.*x\.flatten\(1\)"):
        resolve(Views).stage_map()

    def fails():
        network = Function(lambda images: images.nothing)
        network.register_buffer("own_identity", torch.tensor(3.5))
        return network

    with pytest.raises(BackboneError, match=r"stages of .*AttributeError.*nothing.*trainable_stages=0"):
        resolve(fails).stage_map()
