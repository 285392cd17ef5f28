"""The bundled family of networks, which is written here so that timm need not be imported."""

import pytest
import timm
import torch
from timm.models._efficientnet_builder import efficientnet_init_weights

from sktl._backbones.efficientnet_lite import EfficientNetLite
from sktl._backbones.resolve_backbone import resolve_backbone

NAMES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    """Return timm's network and ours, with the same weights."""
    torch.manual_seed(0)
    reference, network = timm.create_model(f"tf_{request.param}", num_classes=0), EfficientNetLite(request.param)
    assert list(network.state_dict()) == list(reference.state_dict())
    network.load_state_dict(reference.state_dict())
    return reference, network


@pytest.mark.parametrize("size", [(96, 96), (75, 64)])
def test_features_are_those_of_timm_bit_for_bit(pair, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    reference, network = (module.eval() for module in pair)
    with torch.no_grad():
        assert torch.equal(network(images), reference(images))


def test_so_are_gradients_and_statistics_in_training(pair):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for module in pair:
        module.train().zero_grad()
        module(images).square().sum().backward()
    reference, network = pair
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.grad, reference.get_parameter(name).grad), name
    for name, value in network.state_dict().items():
        assert torch.equal(value, reference.state_dict()[name]), name


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_are_drawn_as_in_timm(name):
    network, reference = EfficientNetLite(name), EfficientNetLite(name)
    torch.manual_seed(3)
    network.draw_weights()
    torch.manual_seed(3)
    efficientnet_init_weights(reference)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, reference.state_dict()[key]), key
    first, again, other = (resolve_backbone(name, None, None, seed).build().state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert not torch.equal(first["conv_head.weight"], other["conv_head.weight"])
