"""The bundled family of networks, which is written here so that timm need not be imported."""

import pytest
import timm
import torch

from sktl._backbones.efficientnet_lite import EfficientNetLite


@pytest.fixture(scope="module", params=["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
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
