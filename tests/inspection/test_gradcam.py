"""Where in a network Grad-CAM looks, and what it finds there."""

from __future__ import annotations

import pytest
import timm
import torch
from backbones import pixel_net, small_conv_net, stochastic_net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._inspection.gradcam import Layout, class_maps, find_layout, find_target_layer
from sktl._utils.random import generator
from sktl.exceptions import BackboneError, InvalidParameterError

pytest.importorskip("captum", reason="the extra `explain` installs it")


def _vit(pool: str = "token", **options):
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, "num_classes": 0, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.models.vision_transformer.VisionTransformer(global_pool=pool, **options).eval()


def _swin():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.models.swin_transformer.SwinTransformer(
            img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), num_classes=0
        ).eval()


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.sampled_from(["first", "last", 0, 1, 5]))
def test_a_map_is_put_back_where_it_was(n_channels, height, width, kind):
    if isinstance(kind, int):
        layout, shape = Layout(height, width, True, kind), (2, height * width + kind, n_channels)
    elif kind == "last":
        layout, shape = Layout(height, width, True), (2, height, width, n_channels)
    else:
        layout, shape = Layout(height, width, False), (2, n_channels, height, width)
    tensor = torch.randn(shape, generator=generator(0))
    places = layout.to_map(tensor)
    assert places.shape == (2, n_channels, height, width)
    assert torch.equal(layout.with_map(tensor, places), tensor)
    assert torch.equal(layout.to_map(layout.with_map(tensor, 2 * places)), 2 * places)


def test_tokens_stand_row_by_row():
    tokens = torch.arange(7.0).reshape(1, 7, 1)
    assert Layout(2, 3, True, 1).to_map(tokens).tolist() == [[[[1, 2, 3], [4, 5, 6]]]]


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((1, 1280, 7, 7), (224, 224), Layout(7, 7, False)),
        ((1, 7, 7, 768), (224, 224), Layout(7, 7, True)),
        ((1, 7, 7, 7), (224, 224), Layout(7, 7, False)),
        ((1, 64, 4, 8), (128, 256), Layout(4, 8, False)),
        ((1, 4, 8, 64), (128, 256), Layout(4, 8, True)),
        ((1, 197, 192), (224, 224), Layout(14, 14, True, 1)),
        ((1, 198, 192), (224, 224), Layout(14, 14, True, 2)),
        ((1, 196, 192), (224, 224), Layout(14, 14, True, 0)),
        ((1, 261, 384), (224, 224), Layout(16, 16, True, 5)),
        ((1, 33, 384), (128, 256), Layout(4, 8, True, 1)),
        ((1, 1280, 1, 1), (224, 224), None),
        ((1, 1280), (224, 224), None),
        ((1, 3, 5, 11), (224, 224), None),
        ((1, 100, 64), (224, 100), None),
    ],
)
def test_layouts_of_the_families_of_networks(shape, image_shape, expected):
    assert find_layout(shape, image_shape) == expected


@pytest.mark.parametrize(
    ("network", "module", "layout"),
    [
        (small_conv_net, "layers.3", Layout(5, 5, False)),
        (stochastic_net, "blocks", Layout(2, 2, False)),
        (_swin, "norm", Layout(4, 4, True)),
        (_vit, "blocks.1.norm1", Layout(4, 4, True, 1)),
        (lambda: _vit(reg_tokens=4), "blocks.1.norm1", Layout(4, 4, True, 5)),
        (lambda: _vit("avg"), "norm", Layout(4, 4, True, 1)),
        (lambda: _vit("avg", class_token=False), "blocks", Layout(4, 4, True, 0)),
    ],
)
def test_the_last_map_that_counts_is_taken(network, module, layout):
    place = find_target_layer(network().requires_grad_(False).eval(), (16, 16))
    assert (place.module, place.layout) == (module, layout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module", "layout"),
    [
        ("efficientnet_lite0", "bn2", Layout(7, 7, False)),
        ("resnet18", "layer4", Layout(7, 7, False)),
        ("densenet121", "features", Layout(7, 7, False)),
        ("convnext_tiny", "features", Layout(7, 7, False)),
        ("swin_t", "permute", Layout(7, 7, False)),
        ("maxvit_t", "blocks.3", Layout(7, 7, False)),
        ("vit_b_32", "encoder.layers.encoder_layer_11.ln_1", Layout(7, 7, True, 1)),
        ("timm/swin_tiny_patch4_window7_224", "norm", Layout(7, 7, True)),
        ("timm/deit_tiny_distilled_patch16_224", "blocks.11.norm1", Layout(14, 14, True, 2)),
        ("timm/mixer_s32_224", "norm", Layout(7, 7, True, 0)),
    ],
)
def test_published_networks_have_a_map(name, module, layout):
    backbone = resolve_backbone(name, None, None, 0)
    place = find_target_layer(backbone.build(), backbone.preprocessing.crop)
    assert (place.module, place.layout) == (module, layout)


def test_a_layer_can_be_named():
    assert find_target_layer(_vit(), (16, 16), "blocks.0").module == "blocks.0"
    assert find_target_layer(small_conv_net().eval(), (16, 16), "layers.0").layout == Layout(7, 7, False)
    with pytest.raises(InvalidParameterError, match=r"layer='nowhere' is not a module that.*patch_embed"):
        find_target_layer(_vit(), (16, 16), "nowhere")
    with pytest.raises(InvalidParameterError, match=r"layer='layers.4' returns a tensor of shape \(1, 12, 1, 1\)"):
        find_target_layer(small_conv_net().eval(), (16, 16), "layers.4")


def test_a_network_without_places_is_refused():
    with pytest.raises(BackboneError, match="Grad-CAM needs a layer that keeps a map"):
        find_target_layer(pixel_net(), (8, 8))


@pytest.mark.parametrize("make", [small_conv_net, _swin, lambda: _vit("avg", class_token=False, final_norm=False)])
def test_where_places_are_pooled_by_their_mean_it_is_the_class_activation_map(make):
    """B. Zhou et al., CVPR 2016: the output layer's weights, at each place."""
    network = make().eval().requires_grad_(False)
    n_features = network(torch.zeros(1, 3, 16, 16)).shape[1]
    model = nn.Sequential(network, nn.Linear(n_features, 3)).eval()
    images = torch.randn(10, 3, 16, 16, generator=generator(0))
    targets = torch.arange(10) % 3
    place = find_target_layer(network, (16, 16))
    maps = class_maps(model, network, place, images, targets)
    held = []
    hook = network.get_submodule(place.module).register_forward_hook(
        lambda m, i, o: held.append(place.layout.to_map(o))
    )
    network(images)
    hook.remove()
    weights = model[1].weight[targets]
    expected = torch.einsum("nc,nchw->nhw", weights, held[0]).relu()
    torch.testing.assert_close(maps / maps.amax(), (expected / expected.amax()).detach(), rtol=1e-3, atol=1e-5)
    assert maps.shape == (10, place.layout.height, place.layout.width)


@pytest.mark.parametrize("make", [small_conv_net, _swin, _vit])
def test_the_model_stays_as_it_is(make):
    network = make().eval().requires_grad_(False)
    model = nn.Sequential(network, nn.LazyLinear(3)).eval()
    images = torch.randn(2, 3, 16, 16, generator=generator(0))
    before = model(images)
    class_maps(model, network, find_target_layer(network, (16, 16)), images, [0, 1])
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not images.requires_grad


def test_a_network_that_changes_its_input_in_place_has_the_maps_of_one_that_does_not():
    class InPlace(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images.mul_(2.0))

    plain, images = small_conv_net().eval(), torch.randn(2, 3, 16, 16, generator=generator(0))
    changing, before = InPlace(plain).eval(), images.clone()
    expected = class_maps(plain, plain, find_target_layer(plain, (16, 16)), 2 * images, [0, 1])
    found = class_maps(changing, changing, find_target_layer(changing, (16, 16)), images, [0, 1])
    assert torch.equal(found, expected)
    assert torch.equal(images, before)
