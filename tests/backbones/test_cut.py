"""A cut changes nothing: the tail after the trunk is the network, in both modes, at every boundary."""

from __future__ import annotations

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from backbones import NEW_TIMM, TwoBranches, small_conv_net
from families import NEW, QUICK, SMALL, TIMM, TORCHVISION
from hypothesis import given, settings
from hypothesis import strategies as st
from representatives import slow_except
from torch import nn

from sktl._backbones.cut import Cut
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.stages import find_stages
from sktl._utils.torch_kernels import place

# Relative to the largest output; the halves usually agree to the last bit.
TOLERANCE = 1e-5


def images_for(backbone, n, seed=0):
    height, width = backbone.preprocessing.crop
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_close(found, expected):
    assert float((found - expected).detach().abs().max()) <= TOLERANCE * float(expected.detach().abs().max())


def check_all_cuts(name, image_size=None):
    backbone = resolve_backbone(name, None, image_size, 0)
    images = images_for(backbone, 2)
    whole = backbone.build()
    if name in SMALL:  # copying takes less than drawing so many weights anew
        backbone = backbone.with_network(whole, name)
    with torch.no_grad():
        expected = whole(images)
    names = list(whole.state_dict())
    place(whole, torch.device("cpu"))  # on two images BatchNorm can amplify what other kernels change
    n_stages = len(backbone.stages)
    for k in range(1, n_stages + 1):
        cut = backbone.cut(k)
        assert list(cut.network.state_dict()) == names
        with torch.no_grad():
            found = cut.tail(cut.trunk(images))
            assert_close(found, expected)
            assert torch.equal(cut.tail(cut.trunk(images)), found)
            assert_close(cut.network(images), expected)
        _check_training(backbone, whole, cut, images, k)
        del cut
        gc.collect()  # a cut refers to itself, and some take gigabytes
    assert backbone.stage_map().exact == cut_is_expected_to_be_exact(name)


def cut_is_expected_to_be_exact(name):
    return "crossvit" not in name


def _check_training(backbone, whole, cut, images, k):
    """In train mode, with the same seed, the halves give what a network gives whose frozen modules are in eval mode.

    The statistics of the whole network change, but for growing k those modules that are in train mode for good.
    """
    cut.train()
    for name, module in whole.named_modules():
        module.training = cut.network.get_submodule(name).training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = whole(images)
        activations = cut.trunk(images)
        torch.manual_seed(1)
        found = cut.tail(activations)
    assert_close(found, expected)
    trained = [p for p in cut.network.parameters() if p.requires_grad]
    names = {name for name, p in cut.network.named_parameters() if p.requires_grad}
    assert names == frozenset().union(*backbone.stage_map().parameters[len(backbone.stages) - k :])
    gradients = torch.autograd.grad(found.square().sum(), trained, allow_unused=True)
    assert not cut.exact or all(gradient is not None for gradient in gradients)
    cut.eval()


# The bundled network, one whose blocks branch, and a transformer; the others are slow tests.
ALWAYS = ["efficientnet_lite0", "googlenet", "timm/test_vit"]


@pytest.mark.parametrize(
    "name",
    [
        *slow_except(QUICK, *ALWAYS, thorough=["googlenet"]),
        *(pytest.param(name, marks=[NEW_TIMM, pytest.mark.slow]) for name in NEW),
    ],
)
def test_the_tail_after_the_trunk_is_the_network(name):
    check_all_cuts(name, QUICK.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_the_tail_after_the_trunk_is_the_network_for_all_of_torchvision(name):
    check_all_cuts(name, SMALL.get(name))
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_the_tail_after_the_trunk_is_the_network_for_families_of_timm(name):
    check_all_cuts(f"timm/{name}")
    gc.collect()


@given(seed=st.integers(0, 1000), n=st.integers(1, 5), k=st.integers(1, 5), scale=st.floats(0.01, 10))
@settings(max_examples=5)
def test_it_holds_for_any_images_and_any_number_of_them(seed, n, k, scale):
    backbone = resolve_backbone("resnet18", None, 64, 0)
    images = scale * images_for(backbone, n, seed)
    cut = backbone.cut(k)
    with torch.no_grad():
        assert_close(cut(images), backbone.build()(images))


def test_a_cut_survives_pickle_and_deepcopy():
    backbone = resolve_backbone("timm/test_vit", None, None, 0)
    images = images_for(backbone, 3)
    cut = backbone.cut(1)
    with torch.no_grad():
        expected = cut(images)
        for other in (pickle.loads(pickle.dumps(cut)), copy.deepcopy(cut)):
            assert torch.equal(other(images), expected)
    for parameter in copy.deepcopy(cut).network.parameters():
        parameter.data.zero_()
    with torch.no_grad():
        assert torch.equal(cut(images), expected)


@pytest.mark.thorough
def test_threads_may_run_trunk_tail_and_network_of_one_cut_at_once():
    backbone = resolve_backbone("resnet18", None, 64, 0)
    cut = backbone.cut(2)
    batches = [images_for(backbone, 2, seed) for seed in range(12)]

    def run(images):
        torch.set_num_threads(1)
        with torch.no_grad():
            return cut.network(images), cut.tail(cut.trunk(images))

    with ThreadPoolExecutor(4) as pool:
        for whole, halves in pool.map(run, batches):
            assert_close(halves, whole)


def test_the_trunk_stays_in_eval_mode_and_the_tail_follows():
    cut = resolve_backbone("resnet18", None, 64, 0).cut(1).train()
    modes = {name: module.training for name, module in cut.network.named_modules()}
    assert all(mode == name.startswith("layer4") for name, mode in modes.items() if name.startswith(("conv", "layer")))
    assert not any(module.training for module in cut.eval().modules())


def test_an_operation_in_place_behind_the_cut_leaves_the_activations_alone():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

        def forward(self, images):
            return self.second(self.first(images).relu_()).mean((2, 3))

    network, images = InPlace().eval(), torch.randn(2, 3, 8, 8)
    stage_map = find_stages(network, images[:1])
    cut = Cut(network, stage_map, 1, images)
    assert cut.split
    activations = cut.trunk(images)
    before = activations.clone()
    cut.tail(activations)
    assert torch.equal(activations, before)


def test_where_no_cut_is_exact_the_whole_network_runs_with_its_first_stages_frozen():
    torch.manual_seed(0)
    network, images = TwoBranches().eval(), torch.randn(2, 3, 8, 8)
    expected = network(images)
    cut = Cut(network, find_stages(network, images[:1]), 1, images)
    assert not cut.split
    assert torch.equal(cut.trunk(images), images)
    assert_close(cut(images), expected)
    assert [p.requires_grad for branch in network.branches for p in branch.parameters()] == 4 * [False] + 4 * [True]
    cut.train()
    assert not network.branches[0].training
    assert network.branches[1].training


@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit"])
def test_cuts_of_one_network_do_not_see_each_other(name):
    backbone = resolve_backbone(name, None, QUICK.get(name, 64), 0)
    images, network, stage_map = images_for(backbone, 2), backbone.build(), backbone.stage_map()
    cuts = [Cut(network, stage_map, k, images) for k in (1, 3, 2)]
    with torch.no_grad():
        for cut in cuts:
            assert cut.split
            assert_close(cut.tail(cut.trunk(images)), network(images))
        cuts[1]._remove_gates()
        assert_close(cuts[2].tail(cuts[2].trunk(images)), network(images))


def test_small_networks_are_cut_too():
    network, images = small_conv_net().eval(), torch.randn(2, 3, 16, 16)
    expected = network(images)
    cut = Cut(network, find_stages(network, images[:1]), 1, images)
    assert cut.split
    assert_close(cut(images), expected)


def test_a_network_that_changes_its_input_in_place_is_cut_too():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

        def forward(self, images):
            return self.second(self.first(images.sub_(0.3).mul_(2.0)).relu()).mean((2, 3))

    network, images = InPlace().eval(), torch.randn(2, 3, 8, 8)
    before = images.clone()
    cut = Cut(network, find_stages(network, images[:1]), 1, images)
    assert cut.split
    assert torch.equal(images, before)
    assert_close(cut(images.clone()), network(images.clone()))


class ViewedPositions(nn.Module):
    """A convolution with outputs of axes (n, H, W, C), whose positions are then viewed as one axis."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), MovedToTheEnd())
        self.linear = nn.Linear(6, 5)

    def forward(self, images):
        found = self.conv(images)
        return self.linear(found.view(len(found), -1, 6)).mean(1)


class MovedToTheEnd(nn.Module):
    def forward(self, images):
        return images.permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("size", [(16, 16), (16, 32)])
def test_the_layout_of_activations_is_that_which_the_tail_can_view(size):
    network, images = ViewedPositions().eval(), torch.rand(2, 3, *size)
    cut = Cut(network, find_stages(network, images[:1]), 1, images)
    assert cut.split
    assert_close(cut.tail(cut.laid_out(cut.trunk(images).clone())), network(images))
