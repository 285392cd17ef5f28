"""Laws of the choice of features and penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge

from sktl._head import penalty_selection as _choice
from sktl._head import principal_axes as _axes
from sktl._head.penalty_selection import Candidates, Conditions, cross_validate, joined, refine
from sktl._head.standardization import Standardization
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled
from sktl._targets.number_targets import check_numbers
from sktl._utils.threads import single_threaded_pool

RNG = np.random.default_rng(0)
N = 90
CODES = RNG.permutation(np.arange(N) % 3)
# The first features say little of the class, those of the second block much.
FEATURES = np.concatenate(
    [
        RNG.normal(size=(N, 8)) + 0.5 * RNG.normal(size=(3, 8))[CODES],
        10 * (RNG.normal(size=(N, 6)) + 1.5 * RNG.normal(size=(3, 6))[CODES]),
    ],
    axis=1,
).astype(np.float32)
SIZES = {1: [8], 2: [8, 6]}
PENALTIES = (0.3, 0.03, 0.003)


def choose(features=FEATURES, codes=CODES, weights=None, groups=None, seed=0, sizes=SIZES, n_threads=1, **kwargs):
    classes = np.unique(codes)
    weights = np.ones(len(codes)) if weights is None else weights
    targets = ClassTargets(classes, np.searchsorted(classes, codes), weights, groups)
    penalties = kwargs.pop("penalties", PENALTIES)
    conditions = Conditions(**{"shrinkage": 1.0, "label_smoothing": 0.0, "seed": seed, "n_threads": n_threads} | kwargs)
    return cross_validate(Labeled(features, targets), sizes, penalties, conditions)


@pytest.mark.parametrize("n_known", [1, 2, 3])
def test_extrapolation_is_exact_for_polynomials_in_the_logarithm_of_the_penalty(n_known):
    coefficients = torch.from_numpy(RNG.normal(size=(n_known, 2, 5)))

    def point(penalty):
        return sum(c * np.log(penalty) ** power for power, c in enumerate(coefficients))

    known = [(penalty, point(penalty)) for penalty in (1.0, 0.3, 0.1)[:n_known]]
    torch.testing.assert_close(_choice._extrapolated(known, 0.03), point(0.03))


def test_repeated_images_are_chosen_for_like_images_of_more_weight():
    """Otherwise, folds would share them, and the weakest penalty would be the best."""
    rng = np.random.default_rng(0)
    codes, features = np.arange(40) % 2, rng.normal(size=(40, 300)).astype(np.float32)
    rows = np.repeat(np.arange(40), 5)
    sizes, penalties = {1: [300]}, np.logspace(0.5, -3.5, 9)
    repeated = choose(features[rows], codes[rows], sizes=sizes, penalties=penalties)
    weighted = choose(features, codes, np.full(40, 5.0), sizes=sizes, penalties=penalties)
    assert repeated.best() == weighted.best() == 0


def test_nothing_is_chosen_if_only_one_class_can_be_held_out():
    """Otherwise, the weakest penalty, with which the other class is never predicted, would be the best."""
    codes = np.r_[np.zeros(20, dtype=int), 1]
    features = RNG.normal(size=(21, 14)).astype(np.float32)
    assert choose(features, codes).best() is None
    assert choose(np.r_[features, features[-1:] + 1], np.r_[codes, 1]).best() is not None
    assert choose(np.r_[features, features[:9] + 1], np.r_[codes, [2] * 9]).best() is not None


def test_starting_from_extrapolated_layers_takes_fewer_evaluations(monkeypatch):
    rng, codes = np.random.default_rng(0), np.arange(300) % 3
    features = (rng.normal(size=(300, 40)) + rng.normal(size=(3, 40))[codes]).astype(np.float32)
    evaluate, counts = _choice.PenalizedLosses.__call__, {1: 0, 3: 0}
    for n in counts:

        def counted(self, point, n=n):
            counts[n] += 1
            return evaluate(self, point)

        with monkeypatch.context() as patch:
            patch.setitem(_choice._N_EXTRAPOLATED, "cross_entropy", n)
            patch.setattr(_choice.PenalizedLosses, "__call__", counted)
            choose(features, codes, sizes={1: [40]}, penalties=np.logspace(0.5, -4.5, 11))
    assert counts[3] < 0.8 * counts[1]


def test_losses_are_those_of_a_cross_validation_by_scikit_learn(monkeypatch):
    coarse = choose().table()["mean_log_loss"]
    monkeypatch.setattr(_choice, "_TOLERANCE", 1e-7)
    found = choose()
    assert_allclose(coarse, found.table()["mean_log_loss"], rtol=0.01)
    scaled = Standardization.of(FEATURES, np.ones(N), 1.0, SIZES[2])
    inputs = (FEATURES - scaled.mean.numpy()) / scaled.scale.numpy()
    for i in np.flatnonzero(np.isfinite(found.losses).all(axis=1)):
        n_stages, penalty = found.feature_stages[i], found.penalties[i]
        seen = inputs[:, : sum(SIZES[n_stages])]
        for fold in range(5):
            held_out = found.folds == fold
            C = 1 / (penalty * (~held_out).sum())
            reference = LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(seen[~held_out], CODES[~held_out])
            expected = -reference.predict_log_proba(seen[held_out])[np.arange(held_out.sum()), CODES[held_out]]
            assert_allclose(found.losses[i, held_out], expected, atol=0.01)


def test_losses_of_numbers_are_those_of_ridge_regression(monkeypatch):
    """For more images than the axes of classes, of which weak penalties would leave out some."""
    monkeypatch.setattr(_choice, "_TOLERANCE", 1e-7)
    rng, n = np.random.default_rng(0), 450
    features = rng.normal(size=(n, 500)).astype(np.float32)
    numbers = check_numbers(features[:, :50].sum(axis=1) + rng.normal(size=n), None, "squared_error", n)
    conditions = Conditions(1.0, 0.0, 0, 1)
    found = cross_validate(Labeled(features, numbers), {1: [500]}, (1.0, 0.1), conditions)
    scaled = Standardization.of(features, np.ones(n), 1.0, [500])
    inputs, y = (features - scaled.mean.numpy()) / scaled.scale.numpy(), numbers.standardized[:, 0]
    for penalty, losses in zip(found.penalties, found.losses, strict=True):
        for fold in range(5):
            held_out = found.folds == fold
            ridge = Ridge(alpha=penalty * (~held_out).sum()).fit(inputs[~held_out], y[~held_out])
            squares = (ridge.predict(inputs[held_out]) - y[held_out]) ** 2 / 2
            assert_allclose(losses[held_out], squares, atol=0.02)


def test_coordinates_of_the_folds_of_a_search_are_remembered():
    n, n_folds, n_stages = 4096 * 4 // 5, 5, 3
    assert n_folds * n_stages * 4 * (n + 1) * max(_axes.AXES.values()) <= _axes.memo.limit


def test_coordinates_along_more_axes_are_their_own():
    with single_threaded_pool(1) as pool:
        arguments = FEATURES, np.ones(N), [(2, SIZES[2])], 1.0, pool
        lengths = [_axes.principal_coordinates(n_axes, *arguments)[0][0].shape[1] for n_axes in (3, 5)]
    assert lengths == [3, 5]


def test_more_stages_are_taken_where_they_help_and_not_where_they_are_noise():
    found = choose()
    assert found.feature_stages[found.best()] == 2
    noise = FEATURES.copy()
    noise[:, 8:] = RNG.normal(size=(N, 6))
    noise[:, :8] += 2 * RNG.normal(size=(3, 8))[CODES]
    found = choose(noise)
    assert found.feature_stages[found.best()] == 1


def candidates(losses, stages=(1, 2), temperatures=(1.0, 1.0)):
    losses = np.array(losses, dtype=float)
    n = len(losses)
    nothing = np.zeros(losses.shape[1])
    weights, names = np.ones(losses.shape[1]), ("log_loss", "accuracy")
    columns = np.array(stages), np.full(n, 0.1), np.array(temperatures), losses, losses, nothing.astype(int)
    return Candidates(*columns, weights, names)


@pytest.mark.parametrize(
    ("two", "taken"),
    [([0.5, 0.5, 0.5, 0.5], 1), ([0.99, 0.99, 0.99, 0.99], 0), ([1.2, 1, 1, 1], 0), ([4, 0, 0, -0.8], 0)],
)
def test_a_gain_must_be_a_share_of_the_loss_and_of_its_standard_error(two, taken):
    assert candidates([[1, 1, 1, 1], two]).best() == taken
    assert candidates([[1, 1, 1, 1], two], stages=(1, 1), temperatures=(1.0, 0.3)).best() == taken


@pytest.mark.parametrize(("n_samples", "divides"), [(90, True), (384, True), (387, False)])
def test_candidates_of_few_samples_are_also_scored_at_their_best_temperature(n_samples, divides):
    rng, codes = np.random.default_rng(0), np.arange(n_samples) % 3
    features = (rng.normal(size=(n_samples, 14)) + rng.normal(size=(3, 14))[codes]).astype(np.float32)
    found = choose(features, codes, divides=True)
    assert (found.temperatures == 1).sum() == 2 * len(PENALTIES)
    assert (found.temperatures < 1).any() == divides
    means = np.nanmean(found.losses, axis=1)
    for divided in np.flatnonzero(found.temperatures < 1):
        alike = (found.feature_stages == found.feature_stages[divided]) & (found.penalties == found.penalties[divided])
        (plain,) = np.flatnonzero(alike & (found.temperatures == 1))
        assert means[divided] < means[plain] + 0.01  # labels are smoothed when the temperature is determined


@pytest.mark.parametrize(("least_gain", "taken"), [(0.02, 1), (0.14, 1), (0.16, 0)])
def test_more_stages_must_gain_the_share_of_the_loss_that_is_asked_for(least_gain, taken):
    assert candidates([[1, 1, 1, 1], [0.85] * 4]).best(least_gain=least_gain) == taken


def test_where_nothing_was_scored_there_is_nothing_to_take():
    assert candidates(np.full((2, 4), np.nan)).best() is None
    assert choose(FEATURES[:3], np.arange(3)).best() is None


def test_threads_do_not_matter():
    assert_array_equal(choose(n_threads=1).losses, choose(n_threads=3).losses)


def test_names_of_classes_do_not_matter():
    renamed = np.array([7, 5, 6])[CODES]
    assert_array_equal(choose().losses, choose(codes=renamed).losses)


def test_samples_of_weight_zero_are_not_there():
    more = np.concatenate([FEATURES, 100 + FEATURES[:9]]), np.concatenate([CODES, CODES[:9]])
    found = choose(*more, weights=np.r_[np.ones(N), np.zeros(9)])
    assert_array_equal(found.losses, choose().losses)


def test_the_scale_of_weights_does_not_matter():
    weights = RNG.uniform(0.5, 2, N)
    one, other = choose(weights=weights), choose(weights=1000 * weights)
    assert_allclose(one.losses, other.losses, atol=1e-4)
    assert_allclose(one.table()["mean_log_loss"], other.table()["mean_log_loss"], atol=1e-4)


def test_weights_count_in_training_and_in_the_mean():
    weights = np.where(CODES == 0, 20.0, 1.0)
    light, heavy = choose(), choose(weights=weights)
    assert heavy.losses[0, CODES == 0].mean() < light.losses[0, CODES == 0].mean()
    expected = np.average(heavy.losses, axis=1, weights=weights)
    assert_allclose(heavy.table()["mean_log_loss"], expected)


def test_groups_are_held_out_together():
    groups = np.arange(N) // 6
    found = choose(groups=groups)
    for group in set(groups):
        assert len(set(found.folds[groups == group])) == 1


def test_scales_of_blocks_do_not_matter():
    scaled = FEATURES * np.r_[np.full(8, 64), np.full(6, 1 / 32)].astype(np.float32)
    assert_allclose(choose().losses, choose(scaled).losses, atol=1e-4)


def test_a_path_ends_where_losses_rise(monkeypatch):
    noise = RNG.normal(size=(N, 14)).astype(np.float32)
    penalties = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    found = choose(noise, penalties=penalties)
    means = found.table()["mean_log_loss"]
    assert np.isnan(means).any()
    monkeypatch.setattr(_choice, "_rises", lambda losses, weights: False)
    whole = choose(noise, penalties=penalties)
    known = np.isfinite(means)
    assert_array_equal(means[known], whole.table()["mean_log_loss"][known])
    assert found.best() == whole.best()


def test_of_many_images_some_of_each_class_are_looked_at(monkeypatch):
    monkeypatch.setattr(_choice, "_MOST_IMAGES", 30)
    found = choose()
    assert found.losses.shape[1] == 30
    assert_array_equal(np.bincount(found.folds), [6] * 5)


def test_of_many_classes_some_are_looked_at(monkeypatch):
    monkeypatch.setattr(_choice, "_MOST_COLUMNS", 2)
    found = choose()
    assert found.losses.shape[1] == 60
    assert np.nanmin(found.table()["mean_log_loss"]) < np.log(2)


def test_the_main_axes_of_many_images_are_those_of_all(monkeypatch):
    exact = choose().losses
    monkeypatch.setitem(_axes.AXES, "cross_entropy", 14)  # as many as there are features
    _axes.memo.clear()
    assert_allclose(choose().losses, exact, atol=0.02)


def refined(n_looked_at, features=FEATURES, codes=CODES, penalties=PENALTIES, n_threads=1, groups=None):
    targets = ClassTargets(np.unique(codes), np.searchsorted(np.unique(codes), codes), np.ones(len(codes)), groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_choice, "_MOST_IMAGES", n_looked_at)
        return refine(Labeled(features, targets), {2: SIZES[2]}, penalties, Conditions(1.0, 0.0, 0, n_threads))


def test_a_penalty_is_refined_by_images_that_did_not_choose_it():
    assert refined(N) is None
    assert refined(N // 2, penalties=PENALTIES[:1]) is None
    found, whole = refined(N // 2), choose(sizes={2: SIZES[2]})
    held_out = whole.folds == 0
    assert_allclose(found.losses[:, held_out], whole.losses[:, held_out], atol=0.02)
    assert np.isnan(found.losses[:, ~held_out]).all()
    assert set(found.feature_stages) == {2}


def test_the_fold_that_refines_is_not_that_of_a_large_group():
    groups = np.where(np.arange(N) < N // 3, 0, np.arange(N))
    targets = ClassTargets(np.arange(3), CODES, np.ones(N), groups)
    folds = targets.deal(5, 0)
    found = refined(N // 2, groups=groups)
    held_out = np.isfinite(found.losses[0])
    assert folds.of_sample[groups == 0][0] == 0
    assert not held_out[groups == 0].any()
    assert len(set(folds.of_sample[held_out])) == 1


def test_refining_does_not_depend_on_threads_names_or_other_stages():
    found = refined(N // 2)
    assert_array_equal(refined(N // 2, n_threads=3).losses, found.losses)
    assert_array_equal(refined(N // 2, codes=np.array([7, 5, 6])[CODES]).losses, found.losses)
    more = np.concatenate([FEATURES, FEATURES[::-1]], axis=1)
    assert_array_equal(refined(N // 2, features=more).losses, found.losses)


def test_the_best_penalty_of_more_images_is_weaker():
    rng = np.random.default_rng(1)
    codes = np.arange(900) % 3
    features = (rng.normal(size=(900, 14)) + 0.4 * rng.normal(size=(3, 14))[codes]).astype(np.float32)
    penalties = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_choice, "_MOST_IMAGES", 90)
        few = choose(features, codes, sizes={2: SIZES[2]}, penalties=penalties)
    chosen = few.penalties[few.lowest(2)]
    found = refined(90, features, codes, penalties[penalties.index(chosen) :])
    assert found.penalties[found.lowest(2)] < chosen


def test_a_refined_table_follows_the_first():
    first, second = choose().table(), refined(N // 2).table(is_refined=True)
    table = joined(first, second)
    assert table["refined"].tolist() == [False] * 6 + [True] * 3
    for name, column in table.items():
        assert_array_equal(column, np.concatenate([first[name], second.get(name, np.full(3, np.nan))]))


def test_the_table_has_an_entry_for_each_candidate():
    table = choose().table()
    assert {len(column) for column in table.values()} == {6}
    assert table["param_feature_stages"].tolist() == [1] * 3 + [2] * 3
    splits = np.stack([table[f"split{i}_log_loss"] for i in range(5)])
    assert_allclose(splits.mean(axis=0), table["mean_log_loss"], atol=1e-12)
    known = np.isfinite(table["mean_log_loss"])
    assert known.sum() >= 4
    assert ((table["mean_accuracy"] >= 0) & (table["mean_accuracy"] <= 1)).tolist() == known.tolist()


def test_candidates_of_a_search_share_the_axes(monkeypatch):
    _axes.memo.clear()
    expected = choose().losses
    monkeypatch.setattr(_axes, "_products", lambda *arguments: pytest.fail("computed again"))
    assert_array_equal(choose().losses, expected)
    assert_array_equal(choose(penalties=PENALTIES[:1]).losses, expected[[0, 3]])


def test_axes_of_other_samples_or_weights_are_their_own():
    weights = np.ones(N)
    weights[0] = 3
    other = FEATURES.copy()
    other[0, 0] += 1
    first = choose().losses
    for changed in (choose(other), choose(weights=weights)):
        assert (changed.losses != first).any()
    assert_array_equal(choose().losses, first)


def test_coordinates_are_forgotten_before_they_take_too_much_memory(monkeypatch):
    _axes.memo.clear()
    first = choose().losses
    monkeypatch.setattr(_axes.memo, "limit", 3 * _axes.memo.total_cost())
    for i in range(5):
        choose(FEATURES + i)
    assert _axes.memo.total_cost() == _axes.memo.limit
    assert_array_equal(choose().losses, first)
