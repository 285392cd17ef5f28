"""Combinations of parameters that contradict each other."""

from __future__ import annotations

import pytest

from sktl import PretrainedImageClassifier
from sktl._estimators.parameter_combinations import check_combinations
from sktl.exceptions import InvalidParameterError


@pytest.mark.parametrize("params", [{"lr": 0.1}, {"batch_size": 8}, {"lr_schedule": "cosine"}, {"dropout": 0.1}])
def test_what_lbfgs_cannot_use_is_refused_by_name(params):
    with pytest.raises(InvalidParameterError, match=f"{next(iter(params))}=.* has no meaning with optimizer="):
        check_combinations(PretrainedImageClassifier(optimizer="lbfgs", **params))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weights": None, "trainable_stages": "all", "freeze_epochs": 3}, "freeze_epochs=3 has no meaning"),
        ({"weights": None, "trainable_stages": "all", "batch_size": 1}, "batch_size=1 has no meaning"),
        ({"net_params": {"optimizer__typo": 1}}, r"optimizer__typo.*no such option. It has .*momentum"),
        ({"net_params": {"optimizer__eps": 1}}, "optimizer__eps.*no such option"),
        ({"optimizer": "lbfgs", "early_stopping": True}, "early_stopping=True has no meaning"),
        ({"optimizer": "lbfgs", "trainable_stages": 1}, "trainable_stages=1 has no meaning"),
    ],
)
def test_combinations_without_meaning_are_refused_by_name(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        check_combinations(PretrainedImageClassifier(**params))
