"""Numbers with decimal commas are recognized, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._utils.decimal_commas import have_decimal_commas


@given(
    st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000), min_size=1)
)
def test_numbers_are_recognized_by_their_commas(numbers):
    texts = [str(number) for number in numbers]
    assert not have_decimal_commas(texts)
    assert have_decimal_commas([text.replace(".", ",") for text in texts])


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1))
def test_numbers_with_commas_or_points_between_thousands_are_recognized(numbers):
    english = [f"{number:,}.5" for number in numbers if abs(number) > 999]
    assert have_decimal_commas(english) == bool(english)
    assert have_decimal_commas([f"{number:,}".replace(",", ".") + ",5" for number in numbers])


@pytest.mark.parametrize("texts", [[], ["1", "2"], ["1,5", "cat"], ["1,5", ""], ["1,2,3"], [",5"], ["1.00,5"], ["1.5"]])
def test_other_texts_are_not(texts):
    assert not have_decimal_commas(texts)
