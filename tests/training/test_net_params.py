"""Arguments of the skorch nets that users bring by `net_params` are allowed and copied, or refused by name."""

from __future__ import annotations

import pytest
from skorch.callbacks import Checkpoint, EpochScoring, EpochTimer, LoadInitState

from sktl._training.net_params import check_net_params, copied, own_callbacks
from sktl.exceptions import InvalidParameterError


@pytest.mark.parametrize(
    "key",
    ["train_split", "iterator_train__batch_size", "criterion", "module__dropout", "predict_nonlinearity", "verbose",
     "warm_start", "device", "compile", "torch_load_kwargs", "optimizer__param_groups", "use_caching", "dataset",
     "callbackslist", "max_epochs", "history", "classes_"],
)  # fmt: skip
def test_all_else_is_set_by_the_estimator(key):
    with pytest.raises(InvalidParameterError, match=rf"net_params\['{key}'\] is unknown, or set by sktl itself"):
        check_net_params({key: None})


@pytest.mark.parametrize(
    ("callbacks", "others", "words"),
    [
        ([("epoch_timer", EpochTimer())], {}, "cannot be used: Found duplicate.*epoch_timer.* are taken"),
        ([("lr_schedule", EpochTimer())], {}, "Found duplicate.*lr_schedule"),
        ([("a", EpochTimer()), ("a", EpochTimer())], {}, "Found duplicate user-set callback name 'a'"),
        ([(1, EpochTimer())], {}, "must be a list of skorch callbacks"),
        ([EpochScoring], {}, "cannot be used: .*missing 1 required positional argument: 'scoring'"),
        ([EpochTimer()], {"callbacks__EpochTimer__typo": 1}, "cannot be used: .*typo"),
        ([EpochTimer()], {"callbacks__other__name": 1}, "'callbacks__other__name'.*which has EpochTimer"),
        ([], {"callbacks__lr_schedule__n_steps": 1}, "'callbacks__lr_schedule__n_steps'.*which has none"),
        ([], {"callbacks__early_stopping": None}, "'callbacks__early_stopping'"),
        ([], {"callbacks__train_loss": None}, "'callbacks__train_loss'"),
    ],
)
def test_callbacks_that_cannot_be_created_by_their_names_are_named(callbacks, others, words):
    with pytest.raises(InvalidParameterError, match=words):
        check_net_params({"callbacks": callbacks} | others)


def test_copies_share_what_callbacks_shared_and_leave_the_originals():
    kept = Checkpoint(monitor=None)
    params = {"callbacks": [("kept", kept), LoadInitState(kept)], "optimizer__betas": [0.1, 0.2]}
    (_, one), other = copied(params)["callbacks"]
    assert one is other.checkpoint
    assert one is not kept
    assert copied(params)["optimizer__betas"] is not params["optimizer__betas"]
    assert own_callbacks(params).keys() == {"kept", "LoadInitState"}
    assert params["callbacks"] == [("kept", kept), params["callbacks"][1]]
