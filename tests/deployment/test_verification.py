"""What an error about an exported file advises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._deployment.output_differences import Comparison
from sktl._deployment.paired_outputs import Answers
from sktl._deployment.verification import check_rounding
from sktl.exceptions import ExportError

SPREAD = np.linspace(-1, 1, 9)[:, None]


def check(found, expected):
    found, expected = Answers(found), Answers(expected)
    check_rounding("numbers", Comparison.of("numbers", found, expected), expected, 0, "ONNX Runtime")


@given(scale=st.floats(1e-3, 1e3), offset=st.sampled_from([-1, 1]), size=st.floats(1e6, 1e9))
def test_numbers_that_float32_cannot_tell_apart_need_another_offset_which_then_helps(scale, offset, size):
    numbers = scale * (SPREAD + offset * size)
    rounded = numbers.astype(np.float32).astype(float)
    with pytest.raises(ExportError, match=r"No file was written\. float32 has too few digits .* Subtract a constant"):
        check(rounded + np.spacing(np.float32(np.abs(numbers).max())), numbers)
    centered = numbers - numbers.mean()
    check(centered.astype(np.float32), centered)


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
def test_other_numbers_that_differ_need_another_format_or_backbone(scale, offset):
    numbers = scale * (SPREAD + offset)
    with pytest.raises(ExportError, match="Export to another format, or fit with another backbone"):
        check(numbers + 0.1 * scale * SPREAD, numbers)
