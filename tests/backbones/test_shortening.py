"""What is left of a network computes the same bits as before, and what was removed is gone."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from backbones import Pixels, TwoBranches, stochastic_net
from families import NEW, QUICK, SMALL, TIMM
from representatives import slow_except
from safetensors.torch import save_file
from torch import nn

from sktl import Preprocessing
from sktl._backbones.backbone import state_shapes
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.stages import tensors
from sktl._backbones.taps import Tapped, mean_over_positions, stage_blocks
from sktl._utils.torch_kernels import place
from sktl.exceptions import BackboneError, InvalidParameterError

CPU = torch.device("cpu")
VIT = "timm/test_vit"


def images_for(backbone, n=3):
    return torch.randn(n, 3, *backbone.preprocessing.crop, generator=torch.Generator().manual_seed(7))


def run(network, images):
    with torch.no_grad():
        return network(images)


def activation(network, boundary, images):
    found = []
    module = network.get_submodule(boundary.module)
    hook = module.register_forward_hook(lambda m, i, output: found.append(tensors(output)[boundary.output].clone()))
    run(network, images)
    hook.remove()
    return found[0]


def groups_of(tapped, images):
    layout = tapped.layout
    return dict(
        zip(
            [name for name, _ in layout.groups],
            run(tapped, images).split([n for _, n in layout.groups], 1),
            strict=True,
        )
    )


def check_all(name, image_size=None, ks=None):
    check(resolve_backbone(name, None, image_size, 0), ks)


def check(backbone, ks=None):
    """Each law of a shortened network, for each number of stages."""
    images = images_for(backbone)
    whole, tapped = place(backbone.build(), CPU), backbone.tapped()
    state, every = whole.state_dict(), groups_of(tapped, images)
    n_stages, n_before = len(backbone.stages), 0
    for k in ks or range(1, n_stages):
        small = backbone.first(k)
        end = backbone.stage_map().boundaries[k - 1]
        network = place(small.build(), CPU)
        assert torch.equal(activation(network, end, images), activation(whole, end, images))
        _check_state(backbone, small, network, state, k)
        n_parameters = sum(p.numel() for p in network.parameters())
        assert n_before < n_parameters < sum(p.numel() for p in whole.parameters())
        n_before = n_parameters
        output = run(network, images)
        pooled = mean_over_positions(activation(whole, end, images), end.channels_last)
        blocks = [group for group in every.values() if group.shape == output.shape]
        assert torch.equal(output, pooled) or any(torch.equal(output, group) for group in blocks)
        assert torch.equal(run(network, images[:2]), run(network, images[:2]))
        _check_taps(small, tapped, backbone.stage_map(), every, output, images, k)
        for n_tail in {1, k}:
            cut = small.cut(n_tail)
            assert cut.split == (n_tail < k)
            torch.testing.assert_close(run(cut, images), output, rtol=1e-4, atol=1e-5 * float(output.abs().max()))
        del cut, network
        gc.collect()


def _check_state(backbone, small, network, state, k):
    """The state is a part of the whole network's, and parameters of later stages are not in it."""
    own = network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())
    sets = small.stage_map().parameters
    assert len(small.stages) == len(sets) == k == small.n_stages == small.first_stages
    assert [stage.name for stage in small.stages] == [stage.name for stage in backbone.stages[:k]]
    assert small.stages[:-1] == backbone.stages[: k - 1]
    assert small.stages[-1].n_parameters == sum(own[name].numel() for name in sets[-1])
    assert sets[:-1] == backbone.stage_map().parameters[: k - 1]
    gone = frozenset().union(*backbone.stage_map().parameters[k:]) - sets[-1]
    assert gone
    assert not gone.intersection(name for name, _ in network.named_parameters())
    assert small.shapes() == state_shapes(network)


def _check_taps(small, tapped, stage_map, every, output, images, k):
    """Features of blocks are those of the whole network's last k stages, so that both parameters span one grid."""
    if k == 1:
        return
    own = small.tapped()
    assert isinstance(own, Tapped)
    assert own.layout.n_stages == k
    found = groups_of(own, images)
    assert torch.equal(found.pop(""), output)
    assert all(torch.equal(group, every[name]) for name, group in found.items())
    of_first = {block.module for stage in stage_blocks(tapped.network, stage_map)[:k] for block in stage}
    pooled = {name.removesuffix("_std") for name in found}
    assert pooled <= of_first
    means = {name for name in of_first if name in every} - found.keys()
    assert all(torch.equal(every[name], output) for name in means)  # the end would be there twice


# Of the bundled network and of a transformer, two numbers of stages in every run.
SOME = [("efficientnet_lite0", (2, 5)), (VIT, (1, 4))]


@pytest.mark.parametrize(
    ("name", "ks"), slow_except([*SOME, *((name, None) for name in [*QUICK, *NEW])], *SOME, thorough=SOME[:1]), ids=str
)
def test_the_first_stages_compute_what_they_compute_in_the_whole_network(name, ks):
    check_all(name, QUICK.get(name), ks)


OTHERS = {"resnet18": 3, "mobilenet_v2": 3, "regnet_x_400mf": 3, "swin_t": 2, "vit_b_32": 2}


@pytest.mark.parametrize("name", slow_except(OTHERS, "resnet18", "swin_t", thorough=["swin_t"]))
def test_so_do_those_of_other_families(name):
    check(resolve_backbone(name, None, 64, 0), [OTHERS[name]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "inception_v3", "maxvit_t", "mnasnet0_5",
        "mobilenet_v3_small", "resnet50", "squeezenet1_1", "swin_v2_t", "vgg11_bn",
        *(f"timm/{name}" for name in TIMM if "crossvit" not in name),
    ],
)  # fmt: skip
def test_so_do_those_of_many_more(name):
    try:
        check_all(name, SMALL.get(name))
    except BackboneError as error:
        assert "later stages cannot be removed" in str(error)  # noqa: PT017 - networks that are not divisible say so
        assert name in INDIVISIBLE
    gc.collect()


INDIVISIBLE: set[str] = set()


def test_so_do_those_of_a_callables_network_in_training_mode():
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    check(backbone)
    small = backbone.first(2).build().train()
    assert small(images_for(backbone)).shape == (3, 8)
    assert not any(name.startswith(("blocks.1", "blocks.2")) for name in small.state_dict())


def test_all_stages_are_the_whole_network():
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    assert backbone.first("all") is backbone
    assert backbone.first(len(backbone.stages)) is backbone
    assert backbone.first_stages is None


def test_numbers_of_stages_have_identities_of_their_own_that_repeat():
    names = [resolve_backbone(VIT, None, None, 0, k).identity for k in ("all", 1, 2, 2)]
    assert len(set(names)) == 3
    assert names[2] == names[3]


def test_too_many_stages_are_an_error_that_lists_them():
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    with pytest.raises(InvalidParameterError, match=r"n_stages=5 .* 4 stages .*: stem, blocks.0, blocks.1, blocks.2\."):
        backbone.first(5)
    with pytest.raises(InvalidParameterError, match=r"trainable_stages=3 .* 2 stages .* n_stages=2: stem, blocks.0"):
        backbone.first(2).count_trainable(3)


def test_a_network_without_parameters_has_no_stages():
    with pytest.raises(InvalidParameterError, match="has no stages"):
        resolve_backbone(Pixels, "default", None, 0).first(1)


class Chatty(nn.Module):
    """A network of four numbered blocks whose forward method may do unusual things behind the second."""

    def __init__(self, after):
        super().__init__()
        self.after = after
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1)) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(4, 3))
        self.preprocessing = Preprocessing(32, (32, 32))

    def forward(self, images):
        for i, block in enumerate(self.blocks):
            images = block(images)
            images = self.after(self, i, images)
        return images.mean((2, 3))


def add_in_place(net, i, images):
    return images.add_(1) if i >= 2 else images


def read_an_attribute(net, i, images):
    return images * (1 + len(net.blocks[-1]))


def scale_by_a_parameter(net, i, images):
    return images * (net.scale[i].mean() if i else 1)


def add_in_place_at_the_boundary(net, i, images):
    return images.add_(1)


def chatty(after):
    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Chatty(after)

    return resolve_backbone(make, "default", None, 0)


def test_code_after_the_boundary_may_work_in_place():
    check(chatty(add_in_place), [2])


def test_what_changes_the_last_tensor_in_place_is_left_out():
    check(chatty(add_in_place_at_the_boundary), [1])


def test_parameters_of_modules_that_stay_are_removed_too():
    small = chatty(scale_by_a_parameter).first(1)
    assert set(small.build().state_dict()) == {"blocks.0.0.weight", "blocks.0.0.bias"}
    assert run(small.build(), images_for(small)).isfinite().all()


class Branches(TwoBranches):
    preprocessing = Preprocessing(8, (8, 8))


@pytest.mark.parametrize(
    ("make", "reason"), [(Branches, "no single tensor"), (lambda: Chatty(read_an_attribute), "stages after blocks.0")]
)
def test_a_network_that_cannot_be_divided_says_why(make, reason):
    backbone = resolve_backbone(make, "default", None, 0)
    with pytest.raises(BackboneError, match=rf"n_stages=1 is not possible: later stages cannot be removed .*{reason}"):
        backbone.first(1)


@pytest.mark.parametrize("name", ["efficientnet_lite0", VIT])
def test_copies_and_pickles_compute_the_same_and_are_small(name):
    whole = resolve_backbone(name, None, None if name == VIT else 64, 0)
    small = whole.first(3)
    images, network = images_for(small), small.build()
    expected = run(network, images)
    for other in (
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        pickle.loads(pickle.dumps(small)).build(),
    ):
        assert torch.equal(run(other, images), expected)
    assert len(pickle.dumps(network)) < len(pickle.dumps(whole.build())) * (0.6 if name == VIT else 0.1)


def test_the_pickle_of_a_callables_network_contains_only_what_is_left():
    backbone = resolve_backbone(stochastic_net, "default", None, 0).first(2)
    again = pickle.loads(pickle.dumps(backbone))
    assert again.stages == backbone.stages
    assert set(again._source.module.state_dict()) == set(backbone.build().state_dict())


def test_the_pickle_of_weights_from_a_file_does_not_need_the_file(tmp_path):
    path = tmp_path / "own.safetensors"
    save_file(resolve_backbone(VIT, None, None, 1).build().state_dict(), path)
    backbone = resolve_backbone(VIT, path, None, 0, 3)
    pickled, network = pickle.dumps(backbone), backbone.build()
    path.unlink()
    again = pickle.loads(pickled)
    assert again.stages == backbone.stages
    assert torch.equal(run(again.build(), images_for(backbone)), run(network, images_for(backbone)))
    assert len(pickled) < 0.6 * sum(4 * p.numel() for p in resolve_backbone(VIT, None, None, 1).build().parameters())


def test_trained_weights_keep_the_stages():
    backbone = resolve_backbone(stochastic_net, "default", None, 0).first(3)
    trained = backbone.with_network(backbone.build(), "digest")
    assert (trained.first_stages, trained.stages) == (3, backbone.stages)
    assert pickle.loads(pickle.dumps(trained)).stage_map() == backbone.stage_map()


def test_a_module_that_was_removed_cannot_be_called():
    network = resolve_backbone(stochastic_net, "default", None, 0).first(2).build()
    with pytest.raises(BackboneError, match="was removed"):
        network.blocks[2](torch.zeros(1, 8, 4, 4))


def test_threads_share_a_shortened_network():
    backbone = resolve_backbone(VIT, None, None, 0).first(3)
    network, images = backbone.build(), images_for(backbone, 8)
    expected = [run(network, image[None]) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: run(network, image[None]), images))
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(
    ("name", "size", "taps"),
    slow_except(
        [(name, size, taps) for name, size in (("efficientnet_lite0", 32), (VIT, None)) for taps in (False, True)],
        ("efficientnet_lite0", 32, True), (VIT, None, False), thorough=[("efficientnet_lite0", 32, True)],
    ),
)  # fmt: skip
def test_it_can_be_traced_and_exported_with_any_number_of_images(name, size, taps):
    backbone = resolve_backbone(name, None, size, 0).first(3)
    network = backbone.tapped() if taps else backbone.build()
    two, five = images_for(backbone, 2), images_for(backbone, 5)
    expected = run(network, five)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing, which torch deprecates
        traced = torch.jit.trace(network, two, check_trace=False)
        exported = torch.export.export(network, (two,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},))
    for other in (traced, exported.module()):
        torch.testing.assert_close(run(other, five), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert set(exported.state_dict) <= {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
