"""The groups of a row are what a hook would see, and looking on changes nothing of the network's own output."""

from __future__ import annotations

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
import torchvision
from backbones import NEW_TIMM, TwoBranches, backbone_of, small_conv_net, stochastic_net, trunk_of
from families import QUICK, SMALL, TIMM
from hypothesis import given
from hypothesis import strategies as st
from representatives import slow_except, thorough_except
from torch import nn

from sktl import Preprocessing
from sktl._backbones.backbone import Backbone
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.stages import channels_last, tensors
from sktl._backbones.taps import StageLayout, Tapped
from sktl._features import frozen_trunk as _trunk
from sktl._utils.torch_kernels import place
from sktl.exceptions import BackboneError

CPU = torch.device("cpu")
TOLERANCE = 1e-5
TRANSFORMERS = ["timm/test_vit", "timm/deit_tiny_distilled_patch16_224", "timm/vit_tiny_patch16_224"]


def images_for(backbone, n=3):
    return torch.randn(n, 3, *backbone.preprocessing.crop, generator=torch.Generator().manual_seed(7))


def outputs_of(network, names, images):
    """Return the first tensor that each of the named modules of a network returns, and its own output."""
    found = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: found.update({name: tensors(out)[0].clone()})
        )
        for name in names
    ]
    output = network(images)
    for hook in hooks:
        hook.remove()
    return found, output


def check_groups(backbone):
    """The network's own output has the bits of the plain network; each group is a statistic of what its block gives.

    Tokens that the network reads out are looked at by tests of their own.
    """
    images = images_for(backbone, 2)
    plain, tapped = place(backbone.build(), CPU), place(backbone.tapped(), CPU)
    assert isinstance(tapped, Tapped)
    layout = tapped.layout
    with torch.no_grad():
        found, output = outputs_of(plain, {name.removesuffix("_std") for name, _ in layout.groups[1:]}, images)
        row = tapped(images)
        assert torch.equal(tapped.network(images), output)
    groups = [torch.from_numpy(group) for group in layout.split(row.numpy())]
    assert torch.equal(groups[0], output)
    for (name, size), group in zip(layout.groups[1:], groups[1:], strict=True):
        assert group.shape == (2, size)
        returned = found[name.removesuffix("_std")]
        if returned.ndim == 4:
            axes = (1, 2) if channels_last(returned.shape[1:]) else (2, 3)
            expected = returned.double().mean(axes)
            if name.endswith("_std"):  # with a little of the mean, where nothing varies but by rounding
                expected = (returned.double().var(axes, correction=0) + (1e-3 * expected) ** 2).sqrt()
            np.testing.assert_allclose(group, expected, rtol=1e-4, atol=TOLERANCE * group.abs().max())
    assert layout.n_stages == len(backbone.stages)
    return layout


@pytest.mark.parametrize(
    "name",
    [
        # The bundled network, one whose blocks branch, and transformers with and without convolutions.
        *slow_except(QUICK, "efficientnet_lite0", "googlenet", "timm/test_vit"),
        pytest.param("vgg11", marks=pytest.mark.slow),
        pytest.param("timm/test_maxvit", marks=NEW_TIMM),
        pytest.param("timm/test_coatnet", marks=[NEW_TIMM, pytest.mark.slow]),
    ],
)
def test_groups_are_means_and_deviations_of_what_blocks_return_and_the_output_keeps_its_bits(name):
    check_groups(resolve_backbone(name, None, QUICK.get(name, 64 if name == "vgg11" else None), 0))


@pytest.mark.parametrize("make", [small_conv_net, stochastic_net])
def test_so_are_those_of_a_callables_network(make):
    check_groups(resolve_backbone(make, "default", None, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*torchvision.models.list_models(module=torchvision.models), *(f"timm/{n}" for n in TIMM)]
)
def test_so_are_those_of_all_of_torchvision_and_families_of_timm(name):
    check_groups(resolve_backbone(name, None, SMALL.get(name), 0))
    gc.collect()


@pytest.mark.parametrize("name", slow_except(TRANSFORMERS, *TRANSFORMERS[:2]))
def test_tokens_are_read_as_the_network_reads_its_last_ones(name):
    """By timm's own function for intermediate outputs, and its own pooling."""
    backbone = resolve_backbone(name, None, None, 0)
    images = images_for(backbone)
    plain, tapped = backbone.build(), backbone.tapped()
    with torch.no_grad():
        row = tapped(images).numpy()
        groups = dict(zip([name for name, _ in tapped.layout.groups], tapped.layout.split(row), strict=True))
        n_blocks = len(plain.blocks)
        tokens = plain.forward_intermediates(
            images, norm=True, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
        for i, (of_places, of_classes) in enumerate(tokens[: n_blocks - 1]):
            expected = plain.forward_head(torch.cat([of_classes, of_places], 1))
            np.testing.assert_allclose(groups[f"blocks.{i}"], expected, rtol=1e-4, atol=1e-5)
    assert f"blocks.{n_blocks - 1}" not in groups  # it would be the output again


@pytest.mark.parametrize("scale", [1e-12, 1e-5, 1.0])
def test_the_layout_does_not_depend_on_the_weights(scale):
    """Blocks with LayerScale return almost what they receive before they are trained."""

    def network():
        net = timm.create_model("test_vit", num_classes=0, init_values=scale)
        net.preprocessing = Preprocessing(160, (160, 160))
        return net

    plain = resolve_backbone("timm/test_vit", None, None, 0).tapped()
    assert resolve_backbone(network, "default", None, 0).tapped().layout == plain.layout


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("squeezenet1_0", (512, 4608, 5632, 5824)), ("squeezenet1_1", (512, 5120, 5632, 5760))],
)
def test_no_group_is_the_output_again_if_only_layers_without_weights_follow(name, sizes):
    backbone = resolve_backbone(name, None, 64, 0)
    tapped = backbone.tapped()
    names = [name for name, _ in tapped.layout.groups]
    with torch.no_grad():
        output, *groups = tapped.layout.split(tapped(images_for(backbone)).numpy())
    assert not any(np.array_equal(group, output) for group in groups)
    assert {"features.12_std", "classifier.2_std"} < {*names}
    assert tapped.layout.sizes == sizes  # as in saved models and caches


@pytest.mark.thorough
def test_so_are_those_of_torchvisions():
    backbone = resolve_backbone("vit_b_32", None, 64, 0)
    images = images_for(backbone)
    plain, tapped = backbone.build(), backbone.tapped()
    names = [f"encoder.layers.encoder_layer_{i}" for i in reversed(range(11))]
    assert [name for name, _ in tapped.layout.groups][1:12] == names
    with torch.no_grad():
        found, _ = outputs_of(plain, names, images)
        row = tapped(images).numpy()
        for name, group in zip(names, tapped.layout.split(row)[1:], strict=False):
            np.testing.assert_allclose(group, plain.encoder.ln(found[name])[:, 0], rtol=1e-4, atol=1e-5)


def test_the_bundled_network_has_these_blocks():
    layout = resolve_backbone("efficientnet_lite0", None, None, 0).tapped().layout
    blocks = [
        *((f"blocks.5.{i}", 192) for i in range(4)), ("blocks.6.0", 320), ("bn2", 1280),
        *((f"blocks.3.{i}", 80) for i in range(3)), *((f"blocks.4.{i}", 112) for i in range(3)),
        ("blocks.2.0", 40), ("blocks.2.1", 40), ("blocks.1.0", 24), ("blocks.1.1", 24), ("blocks.0.0", 16), ("bn1", 32),
    ]  # fmt: skip
    groups = [("", 1280), *((name + suffix, size) for name, size in blocks for suffix in ("", "_std"))]
    groups.remove(("bn2", 1280))  # the output again
    assert layout.groups == tuple(groups)
    assert layout.sizes == (1280, 5888, 6048, 6144, 6176, 6240)
    assert layout.texture == slice(5888, 6048)


def test_tokens_and_short_networks_have_no_texture():
    columns = np.arange(512)
    assert not len(columns[resolve_backbone("timm/test_vit", None, None, 0).tapped().layout.texture])
    assert not len(columns[StageLayout((("", 4), ("b", 2), ("b_std", 2)), (4, 8)).texture])


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        pytest.param("resnet101", [f"layer3.{i}" for i in (2, 6, 10, 14, 18, 22)], marks=pytest.mark.thorough),
        pytest.param("vgg11", [f"features.{i}" for i in (19, 14, 9, 4, 1)], marks=pytest.mark.thorough),
        ("efficientnet_b0", ["features.2.0", "features.2.1"]),
        ("timm/convnext_atto", ["stages.2.blocks.0", "stages.2.blocks.5"]),
        ("densenet121", ["features.denseblock4", "features.transition3"]),
    ],
)
def test_blocks_of_a_stage_are_few_and_the_last_is_one_of_them(name, blocks):
    layout = resolve_backbone(name, None, None if "/" in name else 64, 0).tapped().layout
    names = [module for module, _ in layout.groups]
    assert set(blocks) <= set(names)
    if name == "resnet101":
        pooled = [module for module in names if module.startswith("layer3") and not module.endswith("_std")]
        assert pooled == blocks


@pytest.mark.parametrize("name", ["timm/test_vit", "resnet18"])
def test_a_row_depends_neither_on_its_place_nor_on_its_neighbors(name):
    trunk = trunk_of(resolve_backbone(name, None, None if "/" in name else 64, 0))
    pixels = np.random.default_rng(3).integers(0, 256, trunk.probe.shape, np.uint8)
    rows = trunk.run(pixels)
    assert rows.shape == (4, trunk.layout.sizes[-1])
    np.testing.assert_array_equal(trunk.run(pixels[::-1].copy())[::-1], rows)
    alone = np.zeros_like(pixels)
    alone[2] = pixels[0]
    np.testing.assert_array_equal(trunk.run(alone)[2], rows[0])


@pytest.mark.parametrize(
    "name",
    slow_except(
        ["efficientnet_lite0", "resnet18", "timm/test_efficientnet", "timm/test_convnext"],
        "timm/test_efficientnet", "timm/test_convnext",
    ),
)  # fmt: skip
def test_folding_batchnorm_changes_no_group(name, monkeypatch):
    backbone = resolve_backbone(
        name, "default" if name == "efficientnet_lite0" else None, None if "/" in name else 64, 0
    )
    folded = trunk_of(backbone)
    monkeypatch.setattr(_trunk, "_FOLDING_TOLERANCE", -1.0)
    plain = trunk_of(backbone)
    assert plain.difference(folded.answer) <= TOLERANCE
    assert (plain.difference(folded.answer) == 0) == (name == "timm/test_convnext")  # which has none to fold


class InPlace(nn.Module):
    """The operation behind each block is in place."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)) for _ in range(3))
        self.preprocessing = Preprocessing(16, (16, 16))

    def forward(self, images):
        for block in self.blocks:
            images = block(images).relu_()
        return images.amax((2, 3))


def test_a_group_is_what_the_block_returned_before_it_was_changed_in_place():
    torch.manual_seed(0)
    layout = check_groups(resolve_backbone(InPlace, "default", None, 0))
    blocks = ["blocks.2", "blocks.1", "blocks.0"]
    assert layout.groups == (("", 3), *((name + suffix, 3) for name in blocks for suffix in ("", "_std")))


class Constant(InPlace):
    """All blocks return the same everywhere, and the last block returns zeros."""

    def __init__(self):
        super().__init__()
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.ones_(self.blocks[0][1].bias)


def test_where_a_block_returns_the_same_everywhere_deviations_are_small_and_gradients_finite():
    tapped = resolve_backbone(Constant, "default", None, 0).tapped().requires_grad_(True)
    names, sizes = zip(*tapped.layout.groups, strict=True)
    groups = dict(zip(names, tapped(torch.rand(2, 3, 16, 16)).split(sizes, dim=1), strict=True))
    for name in ("blocks.0", "blocks.1", "blocks.2"):
        deviations = groups[f"{name}_std"]
        torch.testing.assert_close(deviations, 1e-3 * groups.get(name, groups[""]).abs())
        gradients = torch.autograd.grad(deviations.sum(), [*tapped.parameters()], retain_graph=True, allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


# --------------------------------------------------------------------------------------------------------- tapped cuts

# The bundled network, one whose blocks branch, and transformers, whose read-out is a cut of its own.
CUT = {"efficientnet_lite0": 64, "googlenet": 64, "timm/test_vit": None, "timm/levit_128s": None}


def assert_close(found, expected):
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize("name", slow_except(CUT, "efficientnet_lite0", "timm/test_vit"))
def test_the_tail_of_a_cut_returns_the_row_of_the_tapped_network(name):
    backbone = resolve_backbone(name, None, CUT[name], 0)
    images, tapped = images_for(backbone), place(backbone.tapped(), CPU)
    names = list(backbone.build().state_dict())
    with torch.no_grad():
        expected = tapped(images)
    for n_trainable, feature_stages in ((2, 2), (len(backbone.stages), 3)):
        cut = backbone.cut(n_trainable, feature_stages)
        assert list(cut.state_dict()) == [f"network.{name}" for name in names]
        assert cut.groups == tapped.layout.groups_of(feature_stages)
        with torch.no_grad():
            row = cut.tail(cut.trunk(images))
            assert_close(row, expected[:, : tapped.layout.length(feature_stages)])
            for other in (copy.deepcopy(cut), pickle.loads(pickle.dumps(cut))):
                assert torch.equal(other(images), row)
            assert_close(cut.network(images), row[:, : tapped.layout.length(1)])


@pytest.mark.parametrize("name", thorough_except(["resnet18", "timm/test_vit"], "timm/test_vit"))
def test_each_group_has_the_gradients_of_its_block(name):
    backbone = resolve_backbone(name, None, CUT.get(name, 64), 0)
    images = images_for(backbone)
    cut, whole = backbone.cut(2, 2), place(backbone.tapped(), CPU)
    whole.requires_grad_(True)
    trained = {name for name, p in cut.network.named_parameters() if p.requires_grad}
    assert trained == frozenset().union(*backbone.stage_map().parameters[-2:])
    activations, start = cut.trunk(images), 0
    for module, size in cut.groups:
        found, expected = (
            torch.autograd.grad(
                row[:, start : start + size].square().sum(),
                [network.get_parameter(name) for name in sorted(trained)],
                allow_unused=True,
            )
            for network, row in ((cut.network, cut.tail(activations)), (whole.network, whole(images)))
        )
        assert any(gradient is not None for gradient in found)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()), err_msg=module)
        start += size


def test_threads_may_run_one_tapped_cut_at_once():
    backbone = resolve_backbone("timm/test_vit", None, None, 0)
    cut = backbone.cut(2, 2)
    batches = [images_for(backbone, n) for n in (1, 2, 3, 4) * 3]

    def run(images):
        torch.set_num_threads(1)
        with torch.no_grad():
            return cut(images), cut.network(images)

    expected = [run(images) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, rows in zip(pool.map(run, batches), expected, strict=True):
            for a, b in zip(found, rows, strict=True):
                assert_close(a, b)


@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit"])
def test_the_network_of_a_tapped_cut_can_be_tapped_again(name):
    backbone = resolve_backbone(name, None, CUT.get(name, 64), 0)
    images, cut = images_for(backbone), backbone.cut(len(backbone.stages), 2)
    with torch.no_grad():
        for parameter in cut.depths():
            parameter.mul_(1.01)
        again = backbone.with_network(cut.network, f"again {name}").tapped()
        assert isinstance(again, Tapped)
        assert again.layout == backbone.tapped().layout
        assert_close(place(again, CPU)(images)[:, : again.layout.length(2)], cut(images))


def test_more_stages_than_a_network_has_are_refused():
    with pytest.raises(BackboneError, match="no features of 2 stages"):
        resolve_backbone(Branches, "default", None, 0).cut(1, 2)


# ---------------------------------------------------------------------------------------- networks that give one stage


class Suspicious(InPlace):
    """Its hooks change what it computes."""

    def forward(self, images):
        return super().forward(images) + any(block._forward_hooks for block in self.blocks)


class ByForward(InPlace):
    """It calls its blocks past their hooks, except where stages are looked for."""

    def forward(self, images):
        for block in self.blocks:
            images = (block if torch.is_grad_enabled() else block.forward)(images).relu()
        return images.amax((2, 3))


class InNumPy(InPlace):
    """It does not run with gradients."""

    def forward(self, images):
        return torch.from_numpy(super().forward(images).numpy())


class Branches(TwoBranches):
    """No single tensor carries the image."""

    def __init__(self):
        super().__init__()
        self.preprocessing = Preprocessing(16, (16, 16))


class Infinite(InPlace):
    """A block overflows, and the output does not show it."""

    def forward(self, images):
        for block in self.blocks:
            images = block(images * 1e30)
        return images.sigmoid().amax((2, 3)).nan_to_num()


@pytest.mark.parametrize("network", [Suspicious, ByForward, InNumPy, Branches, Infinite])
def test_a_network_that_cannot_be_tapped_has_its_output_alone_and_is_left_as_it_was(network):
    backbone = resolve_backbone(network, "default", None, 0)
    trunk = trunk_of(backbone)
    assert trunk.layout == StageLayout.of_output(trunk.answer.shape[1])
    assert trunk.layout.sizes == (trunk.answer.shape[1],)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone.tapped()(images), backbone.build()(images))
    assert not any(module._forward_hooks for module in backbone.tapped().modules())


def test_a_function_without_weights_has_its_output_alone():
    trunk = trunk_of(backbone_of(lambda images: images.mean((2, 3))))
    assert trunk.layout == StageLayout((("", 3),), (3,))


# --------------------------------------------------------------------------------------------------------------- layout

STAGES = st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=4)


@given(n_features=st.integers(1, 9), stages=STAGES)
def test_each_number_of_stages_is_the_beginning_of_the_full_row(n_features, stages):
    sizes = np.cumsum([n_features, sum(stages[0]) + sum(stages[1] if stages[1:] else []), *map(sum, stages[2:])])
    groups = [("", n_features), *((f"{i}.{j}", n) for i, stage in enumerate(stages) for j, n in enumerate(stage))]
    layout = StageLayout(tuple(groups), tuple(map(int, sizes)))
    rows = np.arange(2 * layout.sizes[-1]).reshape(2, -1)
    np.testing.assert_array_equal(np.concatenate(layout.split(rows), axis=1), rows)
    assert [group.shape[1] for group in layout.split(rows)] == [size for _, size in groups]
    for k in range(1, layout.n_stages + 1):
        assert sum(size for _, size in layout.groups_of(k)) == layout.length(k) == layout.sizes[k - 1]
        assert layout.groups_of(k) == layout.groups[: len(layout.groups_of(k))]
    assert layout.groups_of(layout.n_stages) == layout.groups


# ---------------------------------------------------------------------------------------------------------------- trunk


@pytest.mark.parametrize(
    "name",
    slow_except(
        ["efficientnet_lite0", "shufflenet_v2_x0_5", "timm/levit_128s", "timm/test_efficientnet"],
        "efficientnet_lite0", "timm/levit_128s",
    ),
)  # fmt: skip
def test_a_trunk_gives_the_bits_of_the_networks_own_output_folded_as_without_taps(name, monkeypatch):
    backbone = resolve_backbone(name, None, None if "/" in name else 64, 0)
    tapped = trunk_of(backbone)
    monkeypatch.setattr(Backbone, "tapped", Backbone.build)
    plain = trunk_of(backbone)
    assert plain.layout == StageLayout.of_output(plain.answer.shape[1])
    np.testing.assert_array_equal(tapped.answer[:, : plain.answer.shape[1]], plain.answer)
    assert tapped.layout.n_stages > 1


class Wide(nn.Module):
    """For images of 16 x 32 pixels. Its first block has as many channels as rows, or its positions come first."""

    preprocessing = Preprocessing((16, 32), (16, 32))

    def __init__(self, channels_last):
        super().__init__()
        self.channels_last = channels_last
        self.layers = nn.ModuleList([nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in [(3, 8), (8, 12)]])
        self.ends = nn.ModuleList([Moved(channels_last) for _ in self.layers])
        for layer, end in zip(self.layers, self.ends, strict=True):
            layer.append(nn.Conv2d(layer[0].out_channels, layer[0].out_channels, 1)).append(end)

    def forward(self, images):
        images.sub_(0.3).mul_(2.0)
        for i, layer in enumerate(self.layers):
            images = layer(images.movedim(3, 1) if i and self.channels_last else images)
        return images.mean((1, 2) if self.channels_last else (2, 3))


class Moved(nn.Module):
    def __init__(self, channels_last):
        super().__init__()
        self.channels_last = channels_last

    def forward(self, images):
        return images.movedim(1, 3) if self.channels_last else images.relu()


@pytest.mark.parametrize("last", [False, True])
def test_rectangular_images_are_averaged_over_their_positions_by_networks_that_change_them(last):
    backbone = resolve_backbone(lambda: Wide(last), "default", None, 0)
    tapped, images = place(backbone.tapped(), CPU), images_for(backbone)
    assert tapped.layout.groups == (("", 12), ("layers.1_std", 12), ("layers.0", 8), ("layers.0_std", 8))
    with torch.no_grad():
        found, output = outputs_of(backbone.build(), ["layers.0"], images.clone())
        row = tapped(images.clone())
    torch.testing.assert_close(row[:, :12], output)
    torch.testing.assert_close(row[:, 24:32], found["layers.0"].mean((1, 2) if last else (2, 3)))
    with torch.no_grad():
        torch.testing.assert_close(backbone.first(1).build()(images.clone()), row[:, 24:32])
