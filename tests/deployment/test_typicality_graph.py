"""P-values by operations that every runtime has equal the p-values of typicality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from sktl._backbones.taps import StageLayout
from sktl._deployment.typicality_graph import TypicalityGraph, log_ndtr
from sktl._typicality.directions import directions_of
from sktl._typicality.typicality import Typicality
from sktl.exceptions import TypicalityError


@given(st.floats(-1e3, 5, width=32))
def test_the_logarithm_of_the_normal_distribution_function(z):
    found = log_ndtr(torch.tensor([z], dtype=torch.float64)).item()
    assert found == pytest.approx(special.log_ndtr(z), rel=1e-6, abs=2e-7)


@given(st.integers(2, 60), st.integers(0, 4), st.booleans(), st.integers(0, 2**31 - 1))
def test_p_values_are_those_of_typicality(n, n_columns, has_textures, seed):
    rng = np.random.default_rng(seed)
    references = rng.standard_normal((n, 8)).astype(np.float32)
    memberships = (rng.random((n, n_columns)) < 0.5).astype(np.uint8)
    layout = StageLayout((("", 8), ("b", 3), ("a", 2), ("a_std", 2)), (8, 11, 15))
    textures = directions_of(rng.standard_normal((n, 4 * has_textures)).astype(np.float32))
    typicality = Typicality(directions_of(references), memberships, (np.arange(n) % 5).astype(np.uint8), textures)
    images = np.concatenate([rng.standard_normal((9, 8)), references[:2], np.zeros((1, 8))]).astype(np.float32)
    features = np.concatenate([images, rng.standard_normal((12, 7)).astype(np.float32)], axis=1)
    found = TypicalityGraph(typicality, layout.texture)(torch.from_numpy(features)).numpy()
    # Rounding may move an image past a few references that are just as ordinary.
    assert np.abs(found - typicality(typicality.reduction(features))).max() <= 3.01 / (n + 1)
    assert ((found > 0) & (found <= 1)).all()


def test_a_single_reference_is_an_error():
    one = np.ones((1, 4), np.int8)
    with pytest.raises(TypicalityError, match="single image"):
        TypicalityGraph(Typicality(one, np.ones((1, 2), np.uint8), np.zeros(1, np.uint8), one), slice(4))
