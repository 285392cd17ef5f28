"""Scores that skorch's callbacks compute in training are those of the classifier on the same samples."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch
from backbones import small_conv_net
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    LRScheduler,
    PrintLog,
)

from sktl import PretrainedImageClassifier
from sktl._training.callback_checks import check_callbacks
from sktl.exceptions import TrainingError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 16, 16, 3), np.uint8)
X[::3, :8] //= 2
X[1::3, :, :8] //= 2
# Not in the order of the sorted labels, which is how the module numbers the classes.
LABELS = {"names": np.tile(["pug", "ant", "cat"], 10), "numbers": np.tile([7, -1, 3], 10)}
Y = LABELS["names"]


def classifier(*callbacks, **changed):
    params = {
        "backbone": small_conv_net, "max_epochs": 3, "freeze_epochs": 2, "random_state": 0, "n_jobs": 1,
        "device": "cpu", "augmentation": None, "net_params": {"callbacks": list(callbacks)},
    }  # fmt: skip
    return PretrainedImageClassifier(**params | changed)


def accuracy(net, X, y):
    return float((net.predict(X) == y).mean())


def by_iteration(net, dataset, y):
    labels = [label for _, label in dataset]
    assert_array_equal(labels, dataset.y)
    return accuracy_score(labels, net.predict(dataset))


SCORINGS = ["accuracy", accuracy, by_iteration, accuracy_score, make_scorer(accuracy_score), None]


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [True, False])
@pytest.mark.parametrize("y", LABELS.values(), ids=LABELS)
def test_a_score_of_an_epoch_is_that_of_the_classifier_on_the_same_samples(y, on_train, use_caching):
    scores = [
        EpochScoring(scoring, lower_is_better=False, on_train=on_train, name=f"score_{i}", use_caching=use_caching)
        for i, scoring in enumerate(SCORINGS)
    ]
    proba = EpochScoring("neg_log_loss", lower_is_better=False, on_train=on_train, use_caching=use_caching)
    clf = classifier(*scores, proba, early_stopping=True, n_iter_no_change=9, dropout=0.2, batch_size=7)
    clf.fit(X[:20], y[:20], X_val=X[20:], y_val=y[20:])
    rows = slice(0, 20) if on_train else slice(20, 30)
    best = clf.history_[int(np.argmin(clf.history_[:, "valid_loss"]))]
    assert [best[f"score_{i}"] for i in range(len(SCORINGS))] == [clf.score(X[rows], y[rows])] * len(SCORINGS)
    expected = -log_loss(y[rows], clf.predict_proba(X[rows]), labels=clf.classes_)
    assert_allclose(best["neg_log_loss"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"trainable_stages": 1}, {"trainable_stages": "all"}, {"trainable_stages": 1, "augmentation": "strong"},
        {"trainable_stages": 1, "augmentation": "strong", "augmentation_views": 2, "mixup_alpha": 0.4},
        {"trainable_stages": "all", "augmentation": "strong", "mixup_alpha": 0.4},
    ],
    ids=str,
)  # fmt: skip
def test_scores_of_both_phases_are_of_the_images_as_they_are(changed):
    """The log loss on the validation set is its loss, and on the same images as training set the same."""
    callbacks = [
        EpochScoring("neg_log_loss", name="of_training", on_train=True),
        EpochScoring("neg_log_loss", name="of_validation"),
        EpochScoring("neg_log_loss", name="without_cache", use_caching=False),
        BatchScoring("neg_log_loss", name="of_batches"),
    ]
    clf = classifier(*callbacks, early_stopping=True, n_iter_no_change=9, **changed).fit(X, Y, X_val=X, y_val=Y)
    rows = [row for row in clf.history_ if "train_loss" in row]  # the start of the last phase is validated, too
    assert len(rows) == 3 + 2 * bool(changed)
    losses = np.array([row["valid_loss"] for row in rows])
    for name in ("of_training", "of_validation", "without_cache", "of_batches"):
        assert_allclose([row[name] for row in rows], -losses, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("stages", [0, 1])
def test_callbacks_may_monitor_the_loss_of_validation_in_both_phases(stages):
    watching = [EarlyStopping("valid_loss", patience=9, sink=lambda *args: None)]
    clf = classifier(*watching, trainable_stages=stages, early_stopping=True, validation_fraction=0.2).fit(X, Y)
    assert all(np.isfinite(row["valid_loss"]) for row in clf.history_)


@pytest.mark.parametrize("stages", [0, 1])
def test_batches_of_training_are_scored_with_their_labels(stages):
    score = BatchScoring("accuracy", on_train=True, lower_is_better=False)
    clf = classifier(score, trainable_stages=stages, batch_size=8, lr=0.05, max_epochs=8).fit(X, Y)
    batches = clf.history_[-1]["batches"]
    sizes = [batch["train_batch_size"] for batch in batches]
    assert sum(sizes) == 30
    assert_allclose(clf.history_[-1, "accuracy"], np.average([b["accuracy"] for b in batches], weights=sizes))
    assert clf.history_[-1, "accuracy"] > 0.5


@pytest.mark.parametrize("stages", [0, 1])
def test_scores_change_no_bit_and_callbacks_of_the_user_stay_as_they_were(stages):
    score = EpochScoring("accuracy", on_train=True, lower_is_better=False)
    plain = classifier(trainable_stages=stages, dropout=0.2).fit(X, Y)
    clf = classifier(score, trainable_stages=stages, dropout=0.2)
    before = dict(vars(score))
    probabilities = [clf.fit(X, Y).predict_proba(X[:5]), clone(clf).fit(X, Y).predict_proba(X[:5])]
    for found in probabilities:
        assert_array_equal(found, plain.predict_proba(X[:5]))
    assert vars(score) == before
    assert clf.net_params["callbacks"] == [score]
    assert_array_equal(pickle.loads(pickle.dumps(clf)).predict(X[:5]), clf.predict(X[:5]))


def test_any_callback_may_ask_the_net_for_predictions_of_its_datasets():
    found = []

    class Asking(Callback):
        def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
            for dataset in (dataset_train, dataset_valid):
                proba = net.predict_proba(dataset)
                assert_allclose(net.forward(dataset).softmax(1), proba, rtol=1e-6)
                assert_array_equal(net.classes_[proba.argmax(1)], net.predict(dataset))
                assert net.score(dataset, dataset.y) == (net.predict(dataset) == dataset.y).mean()
                with pytest.raises(IndexError):
                    dataset[len(dataset)]
                found.append(len(dataset))

    for stages in (0, 1):
        classifier(Asking(), trainable_stages=stages, early_stopping=True, validation_fraction=0.2).fit(X, Y)
    assert found == [24, 6] * (3 + 2 + 3)


@pytest.mark.parametrize("stages", [0, 1])
def test_a_net_does_not_predict_when_its_training_is_over(stages):
    clf = classifier(trainable_stages=stages).fit(X, Y)
    with pytest.raises(TrainingError, match="Call predict of the estimator"):
        clf.net_.predict(torch.zeros(2, 3))


def test_a_checkpoint_of_skorch_has_the_best_epoch(tmp_path):
    kept = Checkpoint(dirname=str(tmp_path), monitor="accuracy_best", load_best=True)
    score = EpochScoring("accuracy", on_train=True, lower_is_better=False)
    clf = classifier(score, kept, lr_schedule="constant").fit(X, Y)
    best = [row["accuracy"] for row in clf.history_ if row["event_cp"]][-1]
    assert best == max(clf.history_[:, "accuracy"])
    assert clf.score(X, Y) == best
    assert (tmp_path / "params.pt").exists()


def test_what_is_frozen_in_a_later_epoch_stays_from_then_on():
    class Watching(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("size", float(net.module_.output.weight.detach().norm()))

    clf = classifier(Freezer("output.weight", at=3), Watching(), max_epochs=5).fit(X, Y)
    first, second, *others = clf.history_[:, "size"]
    assert first != second
    assert set(others) == {second}


@pytest.mark.parametrize(
    ("changed", "phase"),
    [
        ({}, "output layer"),
        ({"max_epochs": "auto", "freeze_epochs": "auto"}, "output layer"),  # by L-BFGS
        ({"trainable_stages": 1}, "output layer"),
        ({"trainable_stages": 1, "freeze_epochs": 0}, "stages"),
    ],
)
def test_a_phase_in_which_a_callback_freezes_every_parameter_is_refused(changed, phase):
    with pytest.raises(TrainingError, match=f"frozen every parameter in the phase '{phase}', so nothing is trained"):
        classifier(Freezer("*"), **changed).fit(X, Y)


def test_the_output_layer_may_be_frozen_in_a_later_epoch():
    clf = classifier(Freezer("output.*", at=2), trainable_stages=1, max_epochs=2, freeze_epochs=2).fit(X, Y)
    assert len(clf.history_) == 4
    assert len(classifier(Freezer("output.*", at=2), max_epochs=2).fit(X, Y).history_) == 2
    with pytest.raises(TrainingError, match="frozen every parameter in the phase 'stages'"):
        classifier(Freezer("*", at=2), trainable_stages=1, max_epochs=2, freeze_epochs=2).fit(X, Y)


@pytest.mark.parametrize("trainable_stages", [0, 1])
def test_no_name_of_a_parameter_in_training_is_refused_as_a_pattern(trainable_stages):
    names = []

    class Listing(Callback):
        def on_train_begin(self, net, **kwargs):
            names.extend(name for name, _ in net.get_all_learnable_params())

    listing = Listing()
    listing.__deepcopy__ = lambda memo: listing
    classifier(listing, trainable_stages=trainable_stages, max_epochs=1).fit(X, Y)
    assert {"output.weight", "output.bias"} <= set(names)
    for name in names:
        check_callbacks(
            {"callbacks": [Freezer(name)]}, validated=False, trains_stages=trainable_stages > 0, scheduled=False
        )


def test_a_log_that_a_user_brings_prints(capsys):
    classifier(PrintLog()).fit(X, Y)
    assert "train_loss" in capsys.readouterr().out
    classifier().fit(X, Y)
    assert not capsys.readouterr().out


def test_a_callback_that_cannot_be_copied_works_too():
    class Logger(Callback):
        def __init__(self, log):
            self.log = log

        def on_train_end(self, net, **kwargs):
            self.log.lines.append(len(net.history))

    class Log:
        def __init__(self):
            self.lines = []
            self.lock = threading.Lock()

    log = Log()
    clf = classifier(Logger(log), trainable_stages=1).fit(X, Y)
    assert log.lines == [2, 3]
    clf.fit(X, Y)
    assert log.lines == [2, 3] * 2


def test_a_schedule_of_skorch_sets_the_rates_of_both_phases():
    halving = LRScheduler("StepLR", step_size=1, gamma=0.5)
    clf = classifier(halving, trainable_stages=1, lr_schedule="constant", lr=0.02).fit(X, Y)
    # With stages, the output layer learns at a tenth.
    assert clf.history_[:, "event_lr"] == pytest.approx([0.02, 0.01, 0.002, 0.001, 0.0005])
