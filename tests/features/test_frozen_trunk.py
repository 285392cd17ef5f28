"""A trunk is checked on a chunk of noise before it runs on images."""

import numpy as np
import pytest
import torch
from backbones import NEW_TIMM, backbone_of, stochastic_net, trunk_of

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.taps import StageLayout
from sktl._features.feature_provenance import relative_difference
from sktl._features.frozen_trunk import EngineFacts
from sktl.exceptions import BackboneError


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x, r"shape \(4, 3, 8, 8\)"),
        (lambda x: x.mean((2, 3), keepdim=True), r"shape \(4, 3, 1, 1\)"),
        (lambda x: x.mean((1, 2, 3)), r"shape \(4,\)"),
        (lambda x: x.mean(), r"shape \(\)"),
        (lambda x: x.mean((2, 3))[:-1], r"shape \(3, 3\)"),
        (lambda x: (x.mean((2, 3)),), "tuple"),
        (lambda x: {"features": x.mean((2, 3))}, "dict"),
        (lambda x: None, "returns None;"),
    ],
    ids=["maps", "1 x 1 maps", "vector", "number", "one too few", "tuple", "dict", "nothing"],
)
def test_an_output_that_is_no_table_of_features_is_an_error(function, found):
    with pytest.raises(BackboneError, match=rf"backbone='.*' .*{found}.*\(n, n_features\)") as caught:
        trunk_of(backbone_of(function))
    assert "image_size" not in str(caught.value)  # the size of the images has no part in it


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_an_error(value):
    with pytest.raises(BackboneError, match=r"backbone='.*' with weights .* not finite.*Use other weights"):
        trunk_of(backbone_of(lambda x: x.mean((2, 3)) + value))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 8),
        ("timm/test_vit", 100),
        pytest.param("timm/test_maxvit", 100, marks=NEW_TIMM),
        pytest.param("vit_b_32", 100, marks=pytest.mark.slow),
    ],
)
def test_an_image_size_that_the_network_cannot_take_is_an_error(name, size):
    backbone = resolve_backbone(name, None, size, 0)
    with pytest.raises(BackboneError, match=rf"backbone='{name}' .*{size} x {size}.*image_size=None"):
        trunk_of(backbone)


def test_a_failure_without_an_image_size_names_what_a_network_must_do():
    with pytest.raises(BackboneError, match=r"fails on .*AttributeError.*\(n, 3, H, W\).*preprocessing") as caught:
        trunk_of(backbone_of(lambda x: x.nothing))
    assert "image_size" not in str(caught.value)


def test_a_view_of_channels_last_maps_gets_its_replacement():
    with pytest.raises(BackboneError, match=r"view size.*channels_last.*x\.flatten\(1\) or x\.reshape"):
        trunk_of(backbone_of(lambda x: x.view(len(x), -1)))


def test_the_reason_of_a_failure_is_short():
    def fails(x):
        raise RuntimeError("word " * 10_000)

    with pytest.raises(BackboneError) as caught:
        trunk_of(backbone_of(fails))
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("n_trainable", [0, 1, 3])
def test_the_answer_is_that_of_the_network_at_the_cut(n_trainable):
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    trunk = trunk_of(backbone, n_trainable)
    network = backbone.cut(n_trainable).trunk if n_trainable else backbone.tapped()
    with torch.inference_mode():
        expected = network(backbone.preprocessing.normalize(torch.from_numpy(trunk.probe))).numpy()
    assert relative_difference(trunk.answer, expected) <= 1e-5
    np.testing.assert_array_equal(trunk.answer, trunk.run(trunk.probe))


@pytest.mark.parametrize(
    ("function", "reads"),
    [
        (lambda x: x.mean((2, 3)), False),
        (lambda x: x.mean((2, 3)) if x.mean() > -100 else x.amax((2, 3)), True),
        (lambda x: x.mean((2, 3)) * (1.0 + 0.0 * float(x.amax())), True),
        (lambda x: x.mean((2, 3)) if torch.equal(x, x) else x.amax((2, 3)), True),
    ],
    ids=["no", "branches", "a number", "compares"],
)
def test_it_is_seen_where_a_network_reads_values_of_its_images(function, reads):
    assert trunk_of(backbone_of(function)).reads_values == reads


def test_groups_are_compared_by_themselves():
    """A share of the largest number of all would hide what a group of small numbers loses."""
    trunk = trunk_of(resolve_backbone(stochastic_net, "default", None, 0))
    assert trunk.difference(trunk.answer) == 0
    for group in trunk.layout.split(np.arange(trunk.answer.shape[1])[None]):
        other = trunk.answer.copy()
        largest = np.abs(other[:, group[0]]).max()
        other[:, group[0]] += 0.01 * largest
        assert trunk.difference(other) == pytest.approx(0.01, rel=1e-4)
        other[0, group[0, 0]] = np.nan
        assert np.isnan(trunk.difference(other))
    assert trunk.difference(trunk.answer[:, :-1]) == np.inf


@pytest.mark.parametrize("fingerprint", ["ab12", None])
def test_facts_are_what_was_kept_of_them(fingerprint):
    facts = EngineFacts(fingerprint, (7,), "torch", StageLayout((("", 4), ("blocks.0", 3)), (4, 7)))
    assert EngineFacts.parse(facts.format()) == facts
    activations = EngineFacts(fingerprint, (7, 2, 2), "openvino", StageLayout.of_output(7))
    assert EngineFacts.parse(activations.format()) == activations


@pytest.mark.parametrize(
    "text", [None, b"", b"[]", b"{}", b'{"fingerprint": "ab12", "shape": [4], "engine": "torch"}', b'{"layout": 1}']
)
def test_facts_of_other_versions_are_unknown(text):
    assert EngineFacts.parse(text) is None
