"""Which stages a network has: the same rule for all families."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from backbones import NEW_TIMM, Pixels, TwoBranches, pixel_net, small_conv_net
from representatives import slow_except
from torch import nn

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.stages import Boundary, _with_layouts, channels_last, find_stages, record, single_tensors

PAGE = Path(__file__).parents[2] / "docs" / "stages.md"
# Names of the stages, from input to output, as the documentation lists them; "..." leaves some out.
FAMILIES = {
    name: stages.split(", ")
    for name, stages in re.findall(r"^\| [^|]+ \| `(\S+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
}
# Lengths of the rows of features, as the documentation lists them.
ROWS = dict(re.findall(r"^\| `(\S+)` \| (\d[\d, .]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
QUICK = ["efficientnet_lite0", "resnet18", "mobilenet_v2", "efficientnet_b0", "regnet_y_400mf", "shufflenet_v2_x0_5"]
QUICK += ["timm/vit_tiny_patch16_224", "timm/convnext_atto"]


def stage_map(name):
    backbone = resolve_backbone(name, None, None, 0)
    return backbone.stage_map(), backbone.build()


@pytest.mark.parametrize("name", slow_except(FAMILIES, *QUICK))
def test_families_have_the_stages_that_are_documented(name):
    found, network = stage_map(name)
    names = [stage.name for stage in found.stages]
    until = FAMILIES[name].index("...") if "..." in FAMILIES[name] else len(names)
    behind = FAMILIES[name][until + 1 :]
    assert names[:until] + names[len(names) - len(behind) :] == FAMILIES[name][:until] + behind
    assert found.exact
    assert sum(stage.n_parameters for stage in found.stages) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", slow_except(ROWS, *(name for name in QUICK if name in ROWS)))
def test_rows_of_features_are_as_long_as_documented(name):
    sizes = resolve_backbone(name, None, None, 0).tapped().layout.sizes
    first, _, last = ROWS[name].partition(", ..., ")
    documented = [int(number) for number in first.split(", ")]
    assert list(sizes[: len(documented)]) == documented
    assert sizes[-1] == int(last or documented[-1])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "mobilenet_v2", "regnet_y_400mf"])
@pytest.mark.parametrize("image_size", [32, 64, 300])
def test_the_size_of_the_images_changes_no_stage(name, image_size):
    stages = resolve_backbone(name, None, image_size, 0).stages
    assert [stage.name for stage in stages] == FAMILIES[name]


@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit", pytest.param("timm/test_maxvit", marks=NEW_TIMM)])
def test_every_parameter_belongs_to_one_stage_and_every_stage_has_weights(name):
    found, network = stage_map(name)
    names = [name for stage in found.parameters for name in stage]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    for stage in found.parameters:
        assert any(network.get_parameter(name).ndim > 1 for name in stage)


def test_a_network_without_parameters_has_no_stages():
    assert find_stages(Pixels().eval(), torch.rand(1, 3, 8, 8)).stages == ()


def test_a_network_of_one_layer_is_one_stage():
    found = find_stages(pixel_net().eval(), torch.rand(1, 3, 8, 8))
    assert [stage.n_parameters for stage in found.stages] == [64 * 64 + 64]


def test_small_networks_of_single_layers_have_a_stage_for_each_layer_with_weights():
    found = find_stages(small_conv_net().eval(), torch.rand(1, 3, 16, 16))
    assert [stage.n_parameters for stage in found.stages] == [3 * 8 * 9 + 8 + 16, 8 * 12 * 9 + 12]


def test_where_no_cut_is_exact_stages_are_those_of_the_blocks_in_the_order_in_which_they_run():
    found = find_stages(TwoBranches().eval(), torch.rand(1, 3, 8, 8))
    assert not found.exact
    assert [stage.name for stage in found.stages] == ["branches.0", "branches.1"]


def test_looking_for_stages_leaves_the_network_as_it_was():
    network = small_conv_net().eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    find_stages(network, torch.rand(1, 3, 16, 16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("whole", [False, True])
def test_a_record_keeps_the_numbers_of_outputs_only_if_they_are_wanted(whole):
    """Those of a large network take gigabytes, with what its gradients would need."""
    calls, output = record(small_conv_net().eval(), torch.rand(2, 3, 16, 16), whole)
    assert {call.output.device.type for call in calls} == {"cpu" if whole else "meta"}
    assert [tuple(call.output.shape) for call in calls][-2:] == [(2, 12, 1, 1), (2, 12)]
    assert output.device.type == "cpu"


class InPlace(nn.Module):
    """Normalizes its input in place."""

    def __init__(self):
        super().__init__()
        self.network = small_conv_net()

    def forward(self, images):
        return self.network(images.sub_(0.3).mul_(2.0))


def test_a_network_may_change_its_input_in_place():
    network, image = InPlace().eval(), torch.rand(1, 3, 16, 16)
    before = image.clone()
    found = find_stages(network, image)
    assert found.exact
    assert len(found.stages) == 2
    boundaries, _ = single_tensors(network, image)
    assert [ends[-1].module for ends in found.singles] == [b.module for b in boundaries]
    record(network, image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((7, 7, 768), (224, 224), True),
        ((768, 7, 7), (224, 224), False),
        ((7, 7, 7), (224, 224), False),
        ((64, 64, 32), (256, 128), False),
        ((8, 16, 24), (32, 64), True),
        ((24, 8, 16), (32, 64), False),
        ((512, 1, 32), (32, 128), False),
        ((24, 48, 96), (96, 192), None),
    ],
)
def test_positions_have_the_aspect_ratio_of_the_input(shape, image_shape, expected):
    assert channels_last(shape, image_shape) is expected


class Rectangular(nn.Module):
    """Blocks whose outputs have the axes (n, H, W, C) or (n, C, H, W)."""

    def __init__(self, channels_last, widths=(16, 24)):
        super().__init__()
        self.channels_last = channels_last
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, 2, 1), nn.ReLU(), nn.Conv2d(b, b, 1), Permuted() if channels_last else nn.ReLU()
            )
            for a, b in zip((3, *widths), widths, strict=False)
        )

    def forward(self, images):
        for i, layer in enumerate(self.layers):
            images = layer(images.permute(0, 3, 1, 2) if i and self.channels_last else images)
        return images.mean((1, 2) if self.channels_last else (2, 3))


class Permuted(nn.Module):
    def forward(self, images):
        return images.permute(0, 2, 3, 1)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("n_channels", [16, 20, 32])  # of 16 x 32 positions
def test_boundaries_of_rectangular_inputs_know_their_positions(last, n_channels):
    found = find_stages(Rectangular(last, (n_channels, 24)).eval(), torch.rand(1, 3, 32, 64))
    (boundary,) = found.boundaries
    assert boundary.channels_last is last
    assert boundary.area == 16 * 32


@pytest.mark.parametrize(("later", "last"), [((8, 16, 24), True), ((24, 8, 16), False), ((24,), False)])
def test_ambiguous_boundaries_have_the_layout_of_the_next_clear_one(later, last):
    cuts = [[Boundary("layers.0", 0, (16, 32, 64))], [Boundary("layers.1", 0, later)]]
    found = _with_layouts(cuts, torch.rand(1, 3, 32, 64))
    assert [aliases[0].channels_last for aliases in found] == [last, last]
    assert found[0][0].area == (16 * 32 if last else 32 * 64)
