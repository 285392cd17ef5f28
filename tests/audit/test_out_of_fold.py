"""Predictions for each image come from models that were not trained on it, and say what these models could learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl import PretrainedImageClassifier
from sktl._audit.out_of_fold import learner_of, out_of_fold
from sktl._backbones.taps import StageLayout
from sktl._estimators import auto_parameters
from sktl._head.penalty_selection import PENALTIES
from sktl._targets.class_targets import check_classes
from sktl._targets.label_targets import check_indicator

CODES = st.lists(st.integers(0, 3), min_size=4, max_size=12).filter(lambda codes: len({*codes}) > 1)


class Anything:
    """Predicts 1 for everything, and keeps what it was trained on."""

    def __init__(self, one_by_one=True):
        self.one_by_one = one_by_one
        self.trained_on = []

    def held_out_values(self, targets, rows, folds, trusted):
        return None if self.one_by_one else np.ones((len(rows), len(targets.outputs)))

    def predict(self, train, y, wanted, targets):
        self.trained_on.append((train.tolist(), wanted.tolist()))
        return np.ones((len(wanted), len(targets.outputs)))


def test_a_fold_whose_images_are_all_unusable_is_skipped():
    rows, model = np.arange(4), Anything()
    folds = [(np.array([0, 1, 2, 3]), np.array([], dtype=int)), (np.array([0, 1]), np.array([2, 3]))]
    found = out_of_fold(model, targets_of([0, 1, 0, 1], "classes"), np.array([0, 1, 0, 1]), rows, folds, 0)
    assert [wanted for _, wanted in model.trained_on] == [[2, 3]]
    assert np.isnan(found.values[:2]).all()


def targets_of(codes, kind):
    if kind == "classes":
        return check_classes([f"class {code}" for code in codes], None, None, len(codes))
    table = (np.array(codes)[:, None] == np.arange(4)).astype(int)
    return check_indicator(table, None, None, len(codes))


@pytest.mark.filterwarnings("ignore:.*cannot be learned")
@pytest.mark.parametrize("kind", ["classes", "labels"])
@given(CODES, st.data())
def test_a_column_is_learned_if_all_models_of_an_image_saw_it(kind, codes, data):
    n, targets = len(codes), targets_of(codes, kind)
    trusted = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    parts = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    splits = [
        (np.flatnonzero(parts > 0), np.flatnonzero(parts == 0)),
        (np.flatnonzero(parts < 2), np.flatnonzero(parts == 2)),
    ]
    learner, memberships = Anything(), targets.memberships() if kind == "classes" else targets.indicator
    found = out_of_fold(learner, targets, targets.outputs.observed(targets.values()), np.arange(n), splits, 0, trusted)
    for i in range(n):
        seen = [memberships[train[trusted[train]]] for train, held_out in splits if i in held_out]
        expected = np.all([some.any(axis=0) & (kind == "classes" or ~some.all(axis=0)) for some in seen], axis=0)
        assert np.array_equal(found.learned[i], np.broadcast_to(expected, memberships.shape[1:]))
    assert not any({*train} & {*wanted} or not trusted[train].all() for train, wanted in learner.trained_on)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_folds_learned_at_once_say_the_same(one_by_one):
    targets = targets_of([0, 0, 1, 1, 2], "classes")
    found = out_of_fold(Anything(one_by_one), targets, targets.codes, np.arange(5), 2, 0)
    assert found.learned[4].tolist() == [True, True, False]
    assert found.learned[:4, :2].all()
    assert {*found.folds.tolist()} == {0, 1}


def test_images_without_a_model_have_no_prediction():
    targets = targets_of([0, 0, 1, 1], "classes")
    splits = [
        (np.array([0, 1]), np.array([2])),
        (np.array([], dtype=int), np.array([3])),
        (np.array([1, 2]), np.array([0])),
    ]
    found = out_of_fold(Anything(), targets, targets.codes, np.arange(4), splits, 0)
    assert np.isnan(found.values).all(axis=1).tolist() == [False, True, True, True]
    assert found.folds.tolist() == [2, -1, 0, 1]


def test_the_penalty_for_models_along_the_axes_of_the_choice_is_not_refined_along_more(monkeypatch):
    monkeypatch.setattr(auto_parameters, "refine", lambda *arguments: pytest.fail("refined"))
    targets = targets_of(np.arange(60) % 3, "classes")
    features = np.random.default_rng(0).normal(size=(60, 14)).astype(np.float32)
    estimator, layout = PretrainedImageClassifier(feature_stages=1), StageLayout((("", 14),), (14,))
    tuned = learner_of(estimator, lambda rows: rows, features, layout, (0, 0)).tuned(targets, np.arange(60))
    assert tuned.estimator.weight_decay in PENALTIES["cross_entropy"]
