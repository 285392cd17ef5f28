"""Results are remembered up to a total cost, and computed again otherwise."""

import numpy as np

from sktl._head.sample_memo import SampleMemo

FEATURES, WEIGHTS = np.zeros((3, 2), np.float32), np.ones(3)


def remembered(memo, result):
    """Return True if a result was remembered."""
    computed = []
    assert memo.get(FEATURES, WEIGHTS, result, lambda: (computed.append(result), result)[1]) == result
    return not computed


def test_the_results_that_were_used_last_are_remembered_up_to_the_limit():
    memo = SampleMemo(10, len)
    assert not remembered(memo, "one")
    assert not remembered(memo, "three")
    assert remembered(memo, "one")
    assert not remembered(memo, "four")
    assert memo.total_cost() == 7
    assert remembered(memo, "one")
    assert not remembered(memo, "three")


def test_a_result_above_the_limit_leaves_the_others_in_place():
    memo = SampleMemo(10, len)
    assert not remembered(memo, "one")
    assert not remembered(memo, "a hundred thousand")
    assert not remembered(memo, "a hundred thousand")
    assert remembered(memo, "one")


def test_equal_samples_with_other_parameters_or_weights_have_other_results():
    memo = SampleMemo(100, len)
    found = {
        memo.get(features, weights, parameters, lambda i=i: str(i))
        for i, (features, weights, parameters) in enumerate(
            [(FEATURES, WEIGHTS, 0), (FEATURES, WEIGHTS, 1), (FEATURES, 2 * WEIGHTS, 0), (FEATURES + 1, WEIGHTS, 0)]
        )
    }
    assert found == {"0", "1", "2", "3"}
    memo.clear()
    assert memo.total_cost() == 0
