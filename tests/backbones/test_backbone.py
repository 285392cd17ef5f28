"""The backbone, weights and image_size parameters become one value that describes a network, and is a network."""

import io
import math
import pickle
import re

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from backbones import NEW_TIMM, SmallConvNet, features_of, images_for, resolve, small_conv_net
from representatives import thorough_except
from timm.layers import resample_abs_pos_embed
from torch import nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights
from torchvision.models.vision_transformer import interpolate_embeddings

from sktl._backbones import model_libraries as _libraries
from sktl._backbones import weight_downloads as _downloads
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._utils.threads import single_threaded
from sktl.exceptions import (
    InvalidParameterError,
    UnknownBackboneError,
    WeightsMismatchError,
    WeightsNotFoundError,
)


@pytest.fixture(autouse=True)
def one_thread():
    """Other processes share the cores of a test machine: small networks are slow when their threads must wait."""
    with single_threaded():
        yield


def original_of(name):
    """A network of this name with its output layer and with weights that no initialisation would give."""
    generator = torch.Generator().manual_seed(2)
    if name.startswith("timm/"):
        module = timm.create_model(name.removeprefix("timm/"))
    elif name == "efficientnet_lite0":
        module = timm.create_model("tf_efficientnet_lite0")
    else:
        module = torchvision.models.get_model(name, weights=None)
    for key, tensor in module.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


# ---------------------------------------------------------------------------------------------------------------- names


def test_the_default_is_the_bundled_network():
    backbone = resolve("efficientnet_lite0")
    assert (backbone.name, backbone.weights) == ("efficientnet_lite0", "ImageNet")
    assert features_of(backbone).shape == (2, 1280)


@pytest.mark.parametrize(
    "weights",
    ["default", "IMAGENET1K_V1", "ResNet18_Weights.IMAGENET1K_V1", "DEFAULT", ResNet18_Weights.IMAGENET1K_V1],
)
def test_every_way_to_name_the_same_weights_gives_the_same_backbone(weights):
    backbone = resolve("resnet18", weights)
    assert backbone.weights == "IMAGENET1K_V1"
    assert backbone == resolve("resnet18")
    assert backbone.identity == resolve("resnet18").identity


def test_weights_of_one_network_have_their_own_preprocessing_and_identity():
    first, second = (resolve("resnet50", weights) for weights in ("IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V2))
    assert (first.preprocessing.resize, second.preprocessing.resize) == (256, 232)
    assert first.identity != second.identity


def test_timm_names_its_weights_in_the_backbone():
    backbone = resolve("timm/resnet50.a1_in1k")
    config = timm.get_pretrained_cfg("resnet50.a1_in1k")
    assert backbone.preprocessing.resize == math.floor(config.input_size[1] / config.crop_pct)
    assert backbone.identity != resolve("timm/resnet50.tv_in1k").identity
    with pytest.raises(UnknownBackboneError, match=r"'IMAGENET1K_V1' are not known for.*'timm/resnet50'.*a1_in1k"):
        resolve("timm/resnet50", "IMAGENET1K_V1")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resnet-50", "resnet50"),
        ("ResNet50", "resnet50"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("timm/resnt50", "timm/resnet50"),
        ("timm/ResNet50", "timm/resnet50"),
        ("efficientnet-lite0", "efficientnet_lite0"),
        ("EfficientNet_Lite0", "efficientnet_lite0"),
        ("vit-b-16", "vit_b_16"),
        ("timm/vit_tiny_patch16_225", "timm/vit_tiny_patch16_224"),
        ("mobilenetv3small", "mobilenet_v3_small"),
    ],
)
def test_an_unknown_backbone_gets_the_nearest_names(name, nearest):
    with pytest.raises(UnknownBackboneError, match=rf"backbone='{name}' is not known.*'{re.escape(nearest)}'"):
        resolve(name)


@pytest.mark.parametrize("name", ["cats.sktl", "folder/resnet18.PTH", "x.safetensors"])
def test_a_file_as_backbone_is_called_one(name):
    with pytest.raises(UnknownBackboneError, match=rf"backbone='{name}' names a file.*Pass a file .* as weights"):
        resolve_backbone(name, "default", None, 0)


@pytest.mark.parametrize("name", ["qqqqqqqq", "timm/qqqqqqqqq", "", "timm/"])
def test_a_backbone_like_no_other_gets_the_families(name):
    with pytest.raises(UnknownBackboneError, match=rf"backbone='{name}' is not known.*efficientnet_lite0.*timm/<name>"):
        resolve(name)


@pytest.mark.parametrize("weights", ["IMAGENET1K_V9", "ResNet50_Weights.IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V2])
def test_unknown_weights_get_the_known_names(weights):
    with pytest.raises(UnknownBackboneError, match=r"not known for backbone='resnet18'.*'IMAGENET1K_V1'.*path"):
        resolve("resnet18", weights)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/resnet18"])
def test_unknown_weights_of_a_network_with_only_one_kind_get_the_choices(name):
    with pytest.raises(UnknownBackboneError, match=rf"'best' are not known for backbone='{name}'.*default.*None.*path"):
        resolve(name, "best")


@pytest.mark.parametrize(
    ("name", "weights"),
    [("x\n" * 10**6, "default"), ("resnet18", "x\n" * 10**6), ("efficientnet_lite0", "x\n" * 10**6)],
)
def test_a_long_name_is_refused_in_a_short_line(name, weights):
    with pytest.raises(UnknownBackboneError) as caught:
        resolve(name, weights)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_a_missing_file_is_reported_before_anything_is_built(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"absent\.pth'.*no such file.*Check the path"):
        resolve("resnet18", tmp_path / "absent.pth")


# ------------------------------------------------------------------------------------------------------- random weights


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm/test_resnet", "timm/test_vit", "efficientnet_lite0"])
def test_random_weights_come_from_the_seed_and_from_nothing_else(name):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    backbone = resolve(name, None, seed=3)
    features = features_of(backbone)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.weights == "random"
    torch.manual_seed(6)
    again, other = resolve(name, None, seed=3), resolve(name, None, seed=4)
    assert torch.equal(features_of(again), features)
    assert not torch.equal(features_of(other), features)
    assert backbone.identity == again.identity
    assert len({backbone.identity, other.identity, resolve(name).identity}) == 3


def test_the_seed_has_no_say_in_pretrained_weights():
    assert resolve("resnet18", seed=1).identity == resolve("resnet18", seed=2).identity


# ----------------------------------------------------------------------------------------------------------- image size


def test_a_convolutional_network_takes_another_image_size():
    backbone = resolve("mobilenet_v3_small", None, image_size=96)
    native = resolve("mobilenet_v3_small", None)
    assert backbone.preprocessing == native.preprocessing.with_image_size(96)
    assert backbone.preprocessing.crop == (96, 96)
    assert backbone.identity != native.identity
    images = images_for(backbone)
    assert torch.equal(features_of(backbone), features_of(native, images))


@pytest.mark.parametrize(
    ("name", "size"),
    [("timm/test_vit", 96), ("timm/test_resnet", 96), pytest.param("timm/test_maxvit", 320, marks=NEW_TIMM)],
)
def test_random_timm_networks_take_another_image_size(name, size):
    backbone = resolve(name, None, image_size=size)
    assert backbone.preprocessing.crop == (size, size)
    assert features_of(backbone).ndim == 2


def test_the_weights_own_image_size_changes_nothing():
    assert resolve("resnet18", image_size=224) == resolve("resnet18")


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory):
    """Weights of a torchvision ViT as its authors would publish them, under their name in torch's hub directory."""
    folder = tmp_path_factory.mktemp("home")
    path = folder / "hub" / "checkpoints" / "vit_b_16-c867db91.pth"
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(original_of("vit_b_16").state_dict(), path)
    yield path
    path.unlink()  # 350 MB


@pytest.mark.thorough
def test_a_torchvision_vit_takes_another_image_size(vit_file, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(vit_file.parents[2]))
    monkeypatch.setattr(_downloads, "published_hash", lambda file_name: None)  # these weights are not those of the name
    local, published = resolve("vit_b_16", vit_file, image_size=64), resolve("vit_b_16", image_size=64)
    state = torch.load(vit_file, weights_only=True, mmap=True)
    reference = torchvision.models.vit_b_16(image_size=64).eval()
    reference.load_state_dict(interpolate_embeddings(64, 16, dict(state)))
    reference.heads = nn.Identity()
    expected = reference(images_for(local)).detach()
    assert expected.shape == (2, 768)
    for backbone in (local, published):
        assert backbone.preprocessing.crop == (64, 64)
        torch.testing.assert_close(features_of(backbone), expected)


def with_head(state):
    return state


def without_head(state):
    return {key: tensor for key, tensor in state.items() if not key.startswith(("head.", "fc."))}


def with_other_head(state):
    return {key: tensor[:7].clone() if key.startswith(("head.", "fc.")) else tensor for key, tensor in state.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("change", [with_head, without_head, with_other_head])
def test_a_timm_vit_takes_another_image_size_from_a_file(change, prefix, tmp_path):
    torch.manual_seed(0)
    original = original_of("timm/test_vit")
    state = {prefix + key: tensor for key, tensor in change(original.state_dict()).items()}
    torch.save(state, tmp_path / "vit.pth")
    backbone = resolve("timm/test_vit", tmp_path / "vit.pth", image_size=96)
    reference = timm.create_model("test_vit", img_size=96, num_classes=0).eval()
    state = without_head(original.state_dict())
    n_prefix = original.num_prefix_tokens if not original.no_embed_class else 0
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], (6, 6), num_prefix_tokens=n_prefix)
    reference.load_state_dict(state)
    torch.testing.assert_close(features_of(backbone), reference(images_for(backbone)).detach())


# ---------------------------------------------------------------------------------------------------------- local files

HEADS = {
    "mobilenet_v3_small": "classifier.3",
    "timm/resnet18": "fc",
    "timm/vit_tiny_patch16_224": "head",
    "efficientnet_lite0": "classifier",
}


def rename(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


FORMS = {
    "state dict": lambda state, head: state,
    "without head": lambda state, head: {k: t for k, t in state.items() if not k.startswith(head)},
    "with another head": lambda state, head: {k: t[:3].clone() if k.startswith(head) else t for k, t in state.items()},
    "without counters": lambda state, head: {k: t for k, t in state.items() if not k.endswith("num_batches_tracked")},
    "in state_dict": lambda state, head: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
    "in model": lambda state, head: {"model": state, "scaler": torch.zeros(1)},
    "averaged and last": lambda state, head: {
        "state_dict_ema": state,
        "state_dict": {k: torch.zeros_like(t) for k, t in state.items()},
    },
    "module.": lambda state, head: rename(state, "module."),
    "_orig_mod.": lambda state, head: rename(state, "_orig_mod."),
    "wrapped twice": lambda state, head: {"state_dict": rename(state, "module._orig_mod."), "epoch": 1},
}


@pytest.fixture(scope="module")
def originals():
    torch.manual_seed(0)
    return {name: original_of(name) for name in HEADS}


ALL_FORMS_OF_ONE = [("mobilenet_v3_small", form) for form in FORMS]
SOME_FORMS_OF_ALL = [
    (name, form)
    for name in HEADS
    if name != "mobilenet_v3_small"
    for form in ("without head", "with another head", "wrapped twice")
]


def check_file(name, module, path):
    backbone = resolve(name, str(path))
    assert backbone.weights == str(path)
    head = module.get_submodule(HEADS[name])
    images = images_for(backbone, 1)
    with torch.inference_mode():
        torch.testing.assert_close(head(features_of(backbone, images)), module(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "form"), thorough_except(ALL_FORMS_OF_ONE + SOME_FORMS_OF_ALL, *ALL_FORMS_OF_ONE))
def test_a_pth_file_in_any_form_that_people_save(originals, name, form, tmp_path):
    module = originals[name]
    torch.save(FORMS[form](dict(module.state_dict()), HEADS[name] + "."), tmp_path / "weights.pth")
    check_file(name, module, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("form", ["state dict", "module."])
def test_a_safetensors_file(originals, name, form, tmp_path):
    module = originals[name]
    state = FORMS[form](dict(module.state_dict()), HEADS[name] + ".")
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    check_file(name, module, tmp_path / "weights.safetensors")


@pytest.mark.parametrize("name", ["densenet121", "timm/densenet121"])
def test_old_names_of_densenet_are_understood(name, tmp_path):
    torch.manual_seed(0)
    module = original_of(name)
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", k): t for k, t in module.state_dict().items()}
    assert any("denselayer1.norm.1.weight" in key for key in state)
    torch.save(state, tmp_path / "old.pth")
    backbone = resolve(name, tmp_path / "old.pth", image_size=64)
    images = images_for(backbone, 1)
    with torch.inference_mode():
        logits = module.classifier(features_of(backbone))
        torch.testing.assert_close(logits[:1], module(images_for(backbone))[:1], rtol=1e-5, atol=1e-6)
    assert images.shape[-1] == 64


def test_half_precision_files_give_single_precision_networks(tmp_path):
    torch.manual_seed(0)
    state = {key: tensor.half() if tensor.is_floating_point() else tensor
             for key, tensor in original_of("timm/test_resnet").state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "half.pth")
    module = resolve("timm/test_resnet", tmp_path / "half.pth").build()
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert torch.equal(module.state_dict()["conv1.0.weight"], state["conv1.0.weight"].float())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm/test_vit", "efficientnet_lite0"])
def test_a_file_of_another_network_is_refused_with_names(name, tmp_path):
    torch.save(original_of("timm/test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(
        WeightsMismatchError, match=r"other\.pth' holds the weights of another architecture; missing: \w"
    ):
        resolve(name, tmp_path / "other.pth").build()


def test_the_identity_follows_the_bytes_of_the_file_and_not_its_name(tmp_path):
    state = original_of("timm/test_resnet").state_dict()
    for file_name in ("a.safetensors", "b.safetensors"):
        safetensors.torch.save_file(state, tmp_path / file_name)
    before = resolve("timm/test_resnet", tmp_path / "a.safetensors").identity
    assert resolve("timm/test_resnet", tmp_path / "b.safetensors").identity == before
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    assert resolve("timm/test_resnet", tmp_path / "a.safetensors").identity != before


def test_a_module_instead_of_a_callable_is_an_error_that_shows_the_callable():
    with pytest.raises(InvalidParameterError, match=r"SmallConvNet.*(callable|function|lambda)"):
        resolve(SmallConvNet())


def test_weights_beside_a_callable_are_an_error():
    with pytest.raises(InvalidParameterError, match=r"weights='IMAGENET1K_V1' cannot be combined"):
        resolve(small_conv_net, "IMAGENET1K_V1")


def test_no_weights_beside_a_callable_say_that_its_weights_are_random():
    assert resolve(small_conv_net, None).stages == resolve(small_conv_net).stages


# -------------------------------------------------------------------------------------------------------------- pickles


@pytest.mark.parametrize(
    ("name", "weights"),
    [("efficientnet_lite0", "default"), ("resnet18", "default"), ("resnet18", None), ("timm/resnet18", "default")],
)
def test_a_named_backbone_stays_small_when_pickled(name, weights):
    backbone = resolve(name, weights, seed=3)
    content = pickle.dumps(backbone)
    assert len(content) < 100_000
    assert pickle.loads(content) == backbone


@pytest.mark.parametrize("weights", ["default", None])
def test_an_unpickled_named_backbone_gives_the_same_features(weights):
    backbone = resolve("efficientnet_lite0", weights, seed=3)
    assert torch.equal(features_of(pickle.loads(pickle.dumps(backbone))), features_of(backbone))


def test_a_pickle_carries_the_weights_of_a_local_file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(original_of("timm/test_vit").state_dict(), path)
    backbone = resolve("timm/test_vit", path, image_size=96)
    images = images_for(backbone)
    features, content = features_of(backbone), pickle.dumps(backbone)
    path.unlink()
    unpickled = pickle.loads(content)
    assert unpickled == backbone
    assert unpickled.weights == str(path)
    assert torch.equal(features_of(unpickled, images), features)
    assert torch.equal(features_of(pickle.loads(pickle.dumps(unpickled)), images), features)


def test_a_pickle_carries_the_network_of_a_callable():
    backbone = resolve(small_conv_net)
    assert torch.equal(features_of(pickle.loads(pickle.dumps(backbone))), features_of(backbone))


def test_only_local_files_and_callables_are_built_to_be_pickled(monkeypatch):
    def refuse(self, image_size):
        raise AssertionError("a named network was built to be pickled")

    monkeypatch.setattr(_libraries.TorchvisionNetwork, "build", refuse)
    pickle.dump(resolve("resnet18"), io.BytesIO())


def test_the_identity_follows_the_versions_that_decide_features(monkeypatch):
    before = resolve("resnet18").identity
    monkeypatch.setattr("sktl._backbones.resolve_backbone.version_of", lambda library: "0.0")
    assert resolve("resnet18").identity != before


@pytest.mark.parametrize("replace", ["classifier", "classifier.1"])
def test_a_file_whose_whole_classifier_was_replaced_is_accepted(tmp_path, replace):
    network = torchvision.models.mobilenet_v2()
    network.set_submodule(replace, torch.nn.Linear(1280, 3))
    averaged = torch.optim.swa_utils.AveragedModel(network)
    torch.save(averaged.state_dict(), path := tmp_path / "tuned.pth")
    built = resolve_backbone("mobilenet_v2", path, None, 0).build()
    assert torch.equal(built.features[0][0].weight, network.features[0][0].weight)
