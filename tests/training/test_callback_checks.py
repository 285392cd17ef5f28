"""Callbacks that users bring by `net_params` can do their job, or are refused by name before any image is read."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
)

from sktl import PretrainedImageClassifier
from sktl._estimators.parameter_combinations import check_combinations
from sktl._targets.outputs import ClassOutputs, LabelOutputs, NumberOutputs
from sktl._training.callback_checks import check_scores
from sktl.exceptions import InvalidParameterError


def check(callbacks, **changed):
    net_params = {"callbacks": callbacks} | {k: changed.pop(k) for k in [*changed] if "__" in k}
    check_combinations(PretrainedImageClassifier(net_params=net_params, **changed))


class Recording(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("own", 1.0)


ACCURACY = functools.partial(EpochScoring, "accuracy", on_train=True)
VALIDATED = {"early_stopping": True}
CONSTANT = {"lr_schedule": "constant"}


@pytest.mark.parametrize(
    ("callbacks", "changed", "words"),
    [
        ([EpochScoring("accuracy")], {}, "EpochScoring scores a validation set, and there is none. Set early_stopping"),
        ([("mine", BatchScoring("accuracy"))], {}, "mine scores a validation set"),
        ([PassthroughScoring("valid_loss")], {}, "PassthroughScoring scores a validation set"),
        ([EpochScoring("acuracy", on_train=True)], {}, "EpochScoring has no score: .*acuracy"),
        ([EpochScoring({"a": "accuracy"}, on_train=True)], {}, "has no score: Dict not supported"),
        ([ACCURACY(), ACCURACY()], {}, "EpochScoring_2 would overwrite 'accuracy'.*name='accuracy_2'"),
        ([ACCURACY(name="train_loss")], {}, "would overwrite 'train_loss'"),
        ([EarlyStopping()], {}, "EarlyStopping monitors 'valid_loss', and there is no validation.*'train_loss'"),
        ([EarlyStopping("accuracy")], {}, "monitors 'accuracy', which no callback before it records.*train_loss_best"),
        ([EarlyStopping("accuracy"), ACCURACY()], {}, "monitors 'accuracy', which no callback before it records"),
        ([Recording(), EarlyStopping()], {}, "there is no validation set"),
        ([Checkpoint()], {}, "Checkpoint monitors 'valid_loss_best', and there is no validation set"),
        ([Checkpoint(monitor="best")], {}, "Checkpoint monitors 'best', which no callback before it records"),
        ([Checkpoint(monitor=None, f_pickle="net")], {"trainable_stages": 1}, "cannot pickle a net that trains stages"),
        ([TrainEndCheckpoint(f_pickle="net")], {"trainable_stages": 1}, "cannot pickle a net that trains stages"),
        ([WandbLogger(None)], {}, "WandbLogger saves the model.*Set early_stopping=True, or save_model=False"),
        ([LoadInitState(Checkpoint())], {}, 'LoadInitState would start from the state.*checkpoint="folder"'),
        ([InputShapeSetter()], {}, "InputShapeSetter has nothing to set"),
        ([Freezer("backbone.*")], {}, r"'backbone\.\*', which matches no parameter\..*output\.bias and"),
        ([Freezer(["layer4.*", "out"])], {}, r"'layer4\.\*', which matches no parameter"),
        ([Unfreezer("layer4.*")], {"trainable_stages": 1}, r"no parameter.*bias and, .*, cut\.network\.\*\. train"),
        ([LRScheduler("StepLR", step_size=1)], {}, 'LRScheduler would set.*Pass lr_schedule="constant"'),
        ([LRScheduler("StepLR")], CONSTANT, "LRScheduler has policy='StepLR', which does not fit.*step_size"),
        ([LRScheduler("Step")], CONSTANT, "LRScheduler has policy='Step', which does not fit.*Step"),
        ([LRScheduler("ReduceLROnPlateau", monitor="valid_loss")], CONSTANT, "monitors 'valid_loss', and there is no"),
        (
            [LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=9)],
            CONSTANT | {"trainable_stages": 1}, "does not fit the optimizer: optimizer must support momentum",
        ),
    ],
)  # fmt: skip
def test_callbacks_that_cannot_do_what_they_are_for_are_named(callbacks, changed, words):
    with pytest.raises(InvalidParameterError, match=words):
        check(callbacks, **changed)


@pytest.mark.parametrize(
    ("callbacks", "changed"),
    [
        ([EpochScoring("accuracy"), EarlyStopping("accuracy")], VALIDATED),
        ([ACCURACY(), Checkpoint(monitor="accuracy_best")], {}),
        ([Recording(), EarlyStopping("own")], {}),
        ([WandbLogger(None)], VALIDATED),
        ([WandbLogger(None, save_model=False)], {}),
        ([Checkpoint(monitor=len), Checkpoint(monitor=None, f_pickle="net")], {}),
        ([ACCURACY(), ACCURACY(name="other")], {}),
        ([EpochScoring], {"callbacks__EpochScoring__scoring": "accuracy", "callbacks__EpochScoring__on_train": True}),
        ([LRScheduler("ReduceLROnPlateau", monitor="train_loss")], CONSTANT),
        ([LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=9)], CONSTANT),
        ([EpochTimer, EpochTimer(), ("third", EpochTimer)], {}),
        ([Initializer("output*", fn=torch.nn.init.zeros_), PrintLog()], {"callbacks__print_log__floatfmt": ".2f"}),
        ([Freezer(["*bias", "output.weigh[t]", "output.bias", str.isupper])], {}),
        ([Freezer(["cut.network.blocks.*", "c*", "output*"])], {"trainable_stages": 1}),
        ([Freezer("cut.network.blocks.*"), Freezer(["output.bias", "layer4.*"])], {}),  # a grid may start with 0 stages
        (None, {}),
        ([], {}),
        ((), {}),
        ((ACCURACY(), ("mine", EarlyStopping("accuracy"))), VALIDATED),
    ],
)
def test_callbacks_that_work_are_not_refused(callbacks, changed):
    check(callbacks, **changed)


def test_scores_are_tried_on_the_classes():
    f1 = {"callbacks": [EpochScoring("f1", on_train=True)]}
    check_scores(f1, ClassOutputs(np.array([0, 1])))
    with pytest.raises(InvalidParameterError, match="EpochScoring cannot score these classes with 'f1': pos_label=1"):
        check_scores(f1, ClassOutputs(np.array(["a", "b"])))
    with pytest.raises(InvalidParameterError, match="cannot score these classes with 'roc_auc'"):
        check_scores({"callbacks": [EpochScoring("roc_auc", on_train=True)]}, ClassOutputs(np.arange(3)))
    check_scores(
        {"callbacks": [EpochScoring(lambda net, X, y: 1 / 0)]}, ClassOutputs(np.arange(3))
    )  # it may need the net
    for classes in (np.arange(3), np.array(["a", "b"]), np.array([False, True])):
        check_scores(
            {"callbacks": [EpochScoring(s) for s in ("accuracy", "neg_log_loss", "f1_macro", None)]},
            ClassOutputs(classes),
        )


def test_scores_are_tried_on_labels_and_numbers():
    labels, numbers = LabelOutputs(np.array(["a", "b", "c"])), NumberOutputs(np.zeros(2), np.ones(2), False)
    for outputs, fitting, other in ((labels, "average_precision", "top_k_accuracy"), (numbers, "r2", "accuracy")):
        check_scores({"callbacks": [EpochScoring(fitting)]}, outputs)
        with pytest.raises(InvalidParameterError, match=f"cannot score {outputs.kind} with '{other}'"):
            check_scores({"callbacks": [EpochScoring(other)]}, outputs)
