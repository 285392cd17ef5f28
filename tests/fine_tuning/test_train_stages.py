"""Laws of training stages, seen from the classifier: what changes, what repeats, what is left alone."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import threading

import numpy as np
import pytest
import torch
from backbones import Pixels, stochastic_net
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from representatives import examples, slow_except
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, Freezer
from torch import nn

import sktl
from sktl import PretrainedImageClassifier
from sktl._estimators import auto_parameters as _resolved
from sktl._estimators import predictor as _predictor
from sktl._features import tail_extractor as _features
from sktl._features.engines import TorchEngine
from sktl._features.extractor import FeatureExtractor
from sktl._fine_tuning import tail_net as _tail
from sktl._fine_tuning import train_stages as _transfer
from sktl._targets.class_targets import check_classes
from sktl._targets.labeled_samples import hold_out
from sktl._training.net_callbacks import kept_start
from sktl.exceptions import BackboneError, BackboneWarning, InvalidInputError, InvalidParameterError, TrainingError

RNG = np.random.default_rng(0)
Y = np.array(["cat", "dog", "owl"])[np.arange(33) % 3]
X = RNG.integers(0, 256, (33, 16, 16, 3), np.uint8)
X[np.arange(33), :, :, np.arange(33) % 3] //= 3  # a hint
NEW = RNG.integers(0, 256, (9, 16, 16, 3), np.uint8)
SCRATCH = {"trainable_stages": "all", "weights": None, "backbone": "resnet18", "image_size": 32}
FEW = dict(backbone=stochastic_net, freeze_epochs=3, max_epochs=2, batch_size=8, random_state=0)


def classifier(trainable_stages=2, **params):
    return PretrainedImageClassifier(**FEW | dict(trainable_stages=trainable_stages) | params)


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(X, Y)


# ------------------------------------------------------------------------------------------- frozen means frozen


def changed_tensors(before, after):
    """Return the names of the tensors that differ by a bit, having checked names, order and types."""
    assert list(before) == list(after)
    assert [t.dtype for t in before.values()] == [t.dtype for t in after.values()]
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("trainable_stages", "augmentation"),
    slow_except(
        [(stages, augmentation) for stages in (0, 1, 2, 3, "all") for augmentation in (None, "light")],
        (0, None), (1, "light"), (2, None), ("all", "light"),
    ),
)  # fmt: skip
def test_exactly_the_parameters_of_the_last_stages_change_and_no_statistic_does(trainable_stages, augmentation):
    before = stochastic_net().state_dict()
    clf = classifier(trainable_stages, augmentation=augmentation).fit(X, Y)
    k = len(clf.backbone_.stages) if trainable_stages == "all" else trainable_stages
    stages = clf.backbone_.stage_map().parameters
    expected = frozenset().union(*stages[len(stages) - k :]) if k else set()
    assert changed_tensors(before, clf.module_.backbone.state_dict()) == expected
    assert (len(expected) > 0) == (k > 0)


def test_that_law_fails_for_frozen_layers_of_plain_skorch():
    """`Freezer` keeps the parameters, but the module stays in train mode and BatchNorm drifts."""
    module = nn.Sequential(stochastic_net(), nn.Linear(16, 3))
    before = copy.deepcopy(module.state_dict())
    net = NeuralNetClassifier(
        module, max_epochs=1, train_split=None, verbose=0, callbacks=[Freezer("0.*")], criterion=nn.CrossEntropyLoss
    )
    with torch.random.fork_rng(devices=[]):
        net.fit(X.transpose(0, 3, 1, 2).astype(np.float32) / 255, np.arange(33) % 3)
    changed = changed_tensors(before, net.module_.state_dict())
    assert "0.stem.1.running_mean" in changed
    assert not any(name.endswith("weight") for name in changed if name.startswith("0."))


@pytest.mark.thorough
def test_networks_of_torchvision_and_their_normalisation_layers_are_frozen_too():
    clf = classifier(1, backbone="resnet18", weights=None, image_size=32, max_epochs=1, freeze_epochs=0)
    with pytest.warns(BackboneWarning, match="trainable_stages=1 does not train"):
        clf.fit(X, Y)
    changed = changed_tensors(clf.backbone_.build().state_dict(), clf.module_.backbone.state_dict())
    assert {name.partition(".")[0] for name in changed} == {"layer4"}
    assert "layer4.1.bn2.running_mean" in changed  # of random weights, where what is trained has no statistics yet


def test_the_users_module_is_not_trained():
    module = stochastic_net()
    before = copy.deepcopy(module.state_dict())
    classifier("all", backbone=lambda: module).fit(X, Y)
    assert not changed_tensors(before, module.state_dict())
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("trainable_stages", [5, 99])
def test_more_stages_than_there_are_is_an_error_that_lists_them(trainable_stages):
    with pytest.raises(InvalidParameterError, match=r"(?s)4 stages.*stem.*blocks\.0.*blocks\.1.*blocks\.2"):
        classifier(trainable_stages).fit(X, Y)


@pytest.mark.thorough
def test_without_pretrained_weights_batchnorm_trains_and_so_does_all_else():
    clf = classifier("all", weights=None, backbone="resnet18", image_size=32, max_epochs=1, freeze_epochs="auto")
    clf.fit(X, Y)
    changed = changed_tensors(clf.backbone_.build().state_dict(), clf.module_.backbone.state_dict())
    assert changed == set(clf.module_.backbone.state_dict())


@pytest.mark.parametrize("batch_size", slow_except([2, 4, 8, 16, 32], 16, 32, thorough=[16]))
def test_a_last_batch_of_one_is_no_problem_for_batchnorm(batch_size):
    """33 images: each of these leaves one over, and at 32 x 32 pixels ResNet ends in single pixels."""
    clf = classifier("all", weights=None, backbone="resnet18", image_size=32, max_epochs=1, freeze_epochs="auto")
    assert np.isfinite(clf.set_params(batch_size=batch_size).fit(X, Y).predict_proba(NEW)).all()


# ---------------------------------------------------------------------------------------- what answers depend on


@settings(max_examples=examples(10))
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=9), cache=st.sampled_from(["auto", False]))
def test_prediction_depends_neither_on_batch_nor_order_nor_cache_bit_for_bit(fitted, rows, cache):
    alone = np.concatenate([fitted.decision_function(NEW[[row]]) for row in rows])
    other = copy.deepcopy(fitted).set_params(cache=cache)
    sktl.clear_cache()
    assert_array_equal(other.decision_function(NEW[rows]), alone)


@pytest.mark.parametrize("params", [{}, {"augmentation": None}, {"trainable_stages": "all"}, {"early_stopping": True}])
@pytest.mark.parametrize("n_jobs", slow_except([1, 3], 3))
def test_fits_repeat_bit_for_bit_over_threads_and_cache_states(params, n_jobs):
    params = dict(dropout=0.2, mixup_alpha=0.2) | params
    expected = classifier(**params).fit(X, Y).decision_function(NEW)
    sktl.clear_cache()
    assert_array_equal(classifier(**params, n_jobs=n_jobs).fit(X, Y).decision_function(NEW), expected)


def test_that_law_fails_where_dropout_and_stochastic_depth_are_not_seeded(monkeypatch):
    monkeypatch.setattr(_tail, "_draws", lambda cut: False)
    answers = [classifier().fit(X, Y).decision_function(NEW) for _ in range(2)]
    assert not np.array_equal(*answers)


@pytest.mark.thorough
def test_concurrent_fits_with_augmentation_and_stochastic_depth_equal_sequential_ones():
    searched = [dict(random_state=1, trainable_stages="all"), dict(random_state=2, augmentation="trivial")]
    expected = [classifier(**params).fit(X, Y).decision_function(NEW) for params in searched]
    found = [None] * 4
    barrier = threading.Barrier(4)

    def fit(i):
        barrier.wait()
        found[i] = classifier(**searched[i % 2]).fit(X, Y).decision_function(NEW)

    threads = [threading.Thread(target=fit, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert_array_equal(found[i], expected[i % 2])


def test_fit_leaves_the_global_generators_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    classifier(augmentation="trivial").fit(X, Y)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.is_grad_enabled()


@pytest.mark.thorough
@settings(max_examples=examples(6))
@given(names=st.permutations(["a", "b", "c"]))
def test_other_names_of_the_classes_only_rename_the_answers(fitted, names):
    names = np.array(names)
    renamed = classifier().fit(X, names[np.arange(33) % 3])
    order = np.argsort(names)
    assert_array_equal(renamed.decision_function(NEW), fitted.decision_function(NEW)[:, order])


def test_the_scale_of_the_sample_weights_changes_nothing():
    expected = classifier().fit(X, Y, np.full(33, 8.0)).decision_function(NEW)
    assert_allclose(classifier().fit(X, Y).decision_function(NEW), expected, rtol=1e-5)


# -------------------------------------------------------------------------------------------- the fitted estimator


@pytest.mark.parametrize(("trainable_stages", "feature_stages"), [(1, 1), ("all", 1), (2, 2), ("all", 3)])
def test_fitted_estimators_survive_copy_and_pickle_and_agree_with_their_module(trainable_stages, feature_stages):
    clf = classifier(trainable_stages, feature_stages=feature_stages).fit(X, Y)
    expected = clf.decision_function(NEW)
    for other in (copy.deepcopy(clf), pickle.loads(pickle.dumps(clf))):
        assert_array_equal(other.decision_function(NEW), expected)
    prepared = torch.stack([clf.backbone_.preprocessing(image) for image in map(Image.fromarray, NEW)])
    with torch.no_grad():
        assert_allclose(clf.module_(prepared), expected, atol=1e-5)
    assert not any(type(module).__module__.startswith("sktl") for module in clf.module_.backbone.modules())


def test_a_refit_has_a_module_of_its_own(fitted):
    clf = classifier().fit(X, Y)
    first = clf.module_
    clf.set_params(trainable_stages=0).fit(X, Y)
    assert clf.module_ is not first
    assert not changed_tensors(stochastic_net().state_dict(), clf.module_.backbone.state_dict())


def test_the_history_tells_both_phases_and_n_iter_counts_them(fitted):
    assert fitted.history_[:, "phase"] == 3 * ["output layer"] + 2 * ["stages"]
    assert fitted.history_[:, "epoch"] == [1, 2, 3, 4, 5]
    assert fitted.n_iter_ == 5
    assert classifier(freeze_epochs=0).fit(X, Y).n_iter_ == 2


def test_transform_gives_what_enters_the_output_layer(fitted):
    layer = fitted.net_.module_.output
    features = fitted.transform(NEW)
    logits = features.astype(np.float64) @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    assert_allclose(logits, fitted.decision_function(NEW), rtol=1e-9)


def test_without_augmentation_each_image_passes_the_trunk_once_over_epochs_and_candidates(monkeypatch):
    classifier(augmentation=None, engine="torch").fit(X, Y)  # an engine runs a probe when it is built
    sktl.clear_cache()
    n_images = []
    run = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda self, pixels: n_images.append(len(pixels)) or run(self, pixels))
    for lr in (0.01, 0.03):
        classifier(augmentation=None, lr=lr, engine="torch").fit(X, Y)
    chunk = n_images[0]
    # A chunk has one shape: the last ones are filled up.
    assert len(X) <= sum(n_images) < len(X) + 3 * chunk


@pytest.mark.parametrize("early_stopping", [False, True])
def test_activations_too_many_for_the_memory_are_fetched_and_change_nothing(monkeypatch, early_stopping):
    params = dict(augmentation=None, early_stopping=early_stopping, validation_fraction=0.3)
    expected = classifier(**params).fit(X, Y).decision_function(NEW)
    monkeypatch.setattr(_transfer, "_IN_MEMORY", 0)
    fetched = []
    take = FeatureExtractor.__call__
    monkeypatch.setattr(FeatureExtractor, "__call__", lambda self, x: fetched.append(len(x)) or take(self, x))
    assert_array_equal(classifier(**params).fit(X, Y).decision_function(NEW), expected)
    assert len(fetched) > 4
    assert_array_equal(classifier(**params, cache=False).fit(X, Y).decision_function(NEW), expected)


@pytest.mark.parametrize("n_bytes", [0, 1 << 15])
def test_predictions_hold_few_activations_at_once_and_do_not_depend_on_how_many(monkeypatch, n_bytes):
    clf = classifier(augmentation=None).fit(X, Y)
    expected = clf.decision_function(X)
    monkeypatch.setattr(_features, "_TAIL_BYTES", n_bytes)
    sizes = []
    tail = _features.tail_features
    monkeypatch.setattr(_features, "tail_features", lambda *args: sizes.append(args[1].nbytes) or tail(*args))
    assert_array_equal(clf.decision_function(X), expected)
    trunk = FeatureExtractor(clf.backbone_, clf.device_, n_tail_stages=2)
    assert len(sizes) > 1
    assert max(sizes) <= max(n_bytes, 4 * trunk.row_bytes)


def count_images(monkeypatch, fit):
    """Return how many images pass the trunk in a fit, those that fill up chunks included."""
    fit()  # the networks have been probed
    sktl.clear_cache()
    n_images = []
    run = TorchEngine.run
    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "run", lambda self, pixels: n_images.append(len(pixels)) or run(self, pixels))
        fit()
    return sum(n_images), n_images[0]


@pytest.mark.thorough
def test_views_pass_the_trunk_once_over_epochs_and_candidates(monkeypatch):
    def fit():
        for lr in (0.01, 0.03):
            classifier(augmentation="light", augmentation_views=2, max_epochs=5, lr=lr, engine="torch").fit(X, Y)

    n_images, chunk = count_images(monkeypatch, fit)
    n_passes = 3  # one of them for the output layer, without changes
    assert n_passes * len(X) <= n_images < n_passes * (len(X) + 2 * chunk)


@pytest.mark.thorough
def test_folds_share_views(monkeypatch):
    clf = classifier(augmentation="light", augmentation_views=1, max_epochs=1, freeze_epochs=0, engine="torch")
    n_images, chunk = count_images(monkeypatch, lambda: cross_val_score(clf, X, Y, cv=3))
    n_passes = 3  # features, views, and what predict needs of those that were held out
    assert n_images <= n_passes * (len(X) + 6 * chunk)


def mirrored_or_not(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if np.random.rand() < 0.5 else image  # noqa: NPY002


@pytest.mark.parametrize(
    ("trainable_stages", "augmentation"),
    slow_except(
        [(stages, augmentation) for stages in (2, "all") for augmentation in ("light", mirrored_or_not)],
        (2, "light"), ("all", mirrored_or_not), thorough=[(2, "light")],
    ),
)  # fmt: skip
def test_views_depend_neither_on_threads_nor_on_what_is_kept(monkeypatch, augmentation, trainable_stages):
    params = dict(augmentation=augmentation, augmentation_views=2, max_epochs=3)
    expected = classifier(trainable_stages, **params).fit(X, Y).decision_function(NEW)
    assert_array_equal(classifier(trainable_stages, **params, n_jobs=3).fit(X, Y).decision_function(NEW), expected)
    monkeypatch.setattr(_transfer, "_IN_MEMORY", 0)
    clf = classifier(trainable_stages, **params, cache=False).fit(X, Y)
    assert_array_equal(clf.decision_function(NEW), expected)
    fresh = classifier(trainable_stages, augmentation=augmentation, max_epochs=3).fit(X, Y)
    assert not np.array_equal(fresh.decision_function(NEW), expected)


def count_modules():
    return sum(issubclass(type(thing), nn.Module) for thing in gc.get_objects())


@pytest.mark.thorough
def test_memory_of_a_fit_is_given_back():
    classifier().fit(X, Y)
    gc.collect()
    before = count_modules()
    for _ in range(3):
        classifier().fit(X, Y)
    gc.collect()
    assert count_modules() <= before


# ------------------------------------------------------------------------------------------------------- searching


@pytest.mark.thorough
def test_a_search_over_freezing_and_rates_runs_and_its_winner_reproduces_its_score():
    grid = [
        {"trainable_stages": [0, "all"], "freeze_epochs": [0, 2]},
        {"trainable_stages": [1], "lr": [0.003, 0.03], "backbone_lr_ratio": [0.03]},
    ]
    folds = StratifiedKFold(2)
    search = GridSearchCV(classifier(max_epochs=1), grid, cv=folds, n_jobs=1).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = clone(search.best_estimator_)
    assert cross_val_score(best, X, Y, cv=folds).mean() == search.best_score_
    assert_array_equal(best.fit(X, Y).decision_function(NEW), search.best_estimator_.decision_function(NEW))


@pytest.mark.thorough
def test_the_penalty_before_stages_is_chosen_among_strong_ones_unless_it_is_given():
    clf = classifier(freeze_epochs="auto", feature_stages=1).fit(X, Y)
    penalties, losses = clf.selection_["param_weight_decay"], clf.selection_["mean_log_loss"]
    assert penalties.tolist() == [1, 0.3, 0.1, 0.03]
    assert clf.recipe_.weight_decay == clf.recipe_.probing.weight_decay == penalties[np.nanargmin(losses)]
    for params, penalty in (({"freeze_epochs": "auto", "weight_decay": 0.2}, 0.2), ({}, 0.03)):
        other = classifier(feature_stages=1, **params).fit(X, Y)
        assert not hasattr(other, "selection_")
        assert other.recipe_.weight_decay == other.recipe_.probing.weight_decay == penalty


@pytest.mark.parametrize(
    ("params", "penalties"),
    [
        ({"freeze_epochs": "auto"}, [1, 0.3, 0.1, 0.03]),
        ({"freeze_epochs": "auto", "weight_decay": 0.2}, [0.2]),
        ({"weight_decay": "auto"}, [0.03]),
        ({"freeze_epochs": 0}, [0.03]),
        ({"optimizer": "adamw"}, [1, 0.3, 0.1, 0.03]),
    ],
)
@pytest.mark.parametrize("trainable_stages", slow_except([2, "all"], 2))
def test_so_are_the_stages_whose_features_the_output_layer_receives(trainable_stages, params, penalties):
    clf = classifier(trainable_stages, **params).fit(X, Y)
    table, n_penalties = clf.selection_, len(penalties)
    assert table["param_feature_stages"].tolist() == n_penalties * [1] + n_penalties * [2]
    assert table["param_weight_decay"].tolist() == 2 * penalties
    assert clf.recipe_.feature_stages == clf.feature_stages_
    assert (
        clf.transform(NEW).shape == (9, clf.net_.module_.output.in_features) == (9, {1: 16, 2: 56}[clf.feature_stages_])
    )
    if params.get("optimizer") == "adamw":  # it has no penalty
        assert clf.recipe_.weight_decay == 1
    else:
        own = np.where(table["param_feature_stages"] == clf.feature_stages_, table["mean_log_loss"], np.inf)
        assert clf.recipe_.weight_decay == penalties[np.nanargmin(own) % n_penalties]


@pytest.mark.parametrize(("trainable_stages", "weights"), [(1, "default"), (2, None)])
def test_features_of_stages_that_are_frozen_or_random_are_not_among_them(trainable_stages, weights):
    params = {"backbone": "resnet18", "image_size": 32} if weights is None else {}
    with pytest.warns(BackboneWarning) if weights is None else contextlib.nullcontext():
        clf = classifier(trainable_stages, weights=weights, freeze_epochs="auto", **params).fit(X, Y)
    assert clf.feature_stages_ == 1
    assert set(getattr(clf, "selection_", {}).get("param_feature_stages", [1])) == {1}


@pytest.mark.parametrize("params", [{"augmentation": None}, {"augmentation": "light"}, {"trainable_stages": "all"}])
def test_one_stage_that_was_chosen_gives_the_bits_of_one_stage_that_was_given(params, monkeypatch):
    monkeypatch.setattr(_resolved, "_LEAST_GAIN_OF_STAGES", 1.0)
    chosen, given = (classifier(**params, **more).fit(X, Y) for more in ({}, {"feature_stages": 1}))
    assert_array_equal(chosen.decision_function(NEW), given.decision_function(NEW))
    assert len(chosen.selection_["param_feature_stages"]) == 2


@pytest.mark.parametrize(
    ("trainable_stages", "feature_stages", "augmentation"),
    slow_except(
        [(*pair, how) for pair in ((2, 2), ("all", 2), (3, 3), ("all", "all")) for how in (None, "light")],
        (2, 2, None), ("all", "all", "light"),
    ),
)  # fmt: skip
def test_training_starts_from_the_output_layer_alone_with_the_same_features(
    trainable_stages, feature_stages, augmentation
):
    shared = dict(feature_stages=feature_stages, weight_decay=0.1, freeze_epochs="auto", batch_size="auto")
    alone = classifier(0, **shared, max_epochs="auto").fit(X, Y)
    expected = alone.decision_function(NEW)
    start = classifier(trainable_stages, **shared, lr=1e-12, augmentation=augmentation).fit(X, Y)
    assert_allclose(start.decision_function(NEW), expected, atol=1e-4 * np.abs(expected).max())
    assert_array_equal(start.get_feature_names_out(), alone.get_feature_names_out())
    trained = classifier(trainable_stages, **shared, augmentation=augmentation).fit(X, Y)
    assert np.abs(trained.decision_function(NEW) - expected).max() > 1e-3
    blocks = trained._features.groups[1:]
    changed = trained.transform(NEW)[:, 16:] != alone.transform(NEW)[:, 16:]
    assert changed.any(axis=0).reshape(-1).sum() >= 0.9 * sum(size for _, size in blocks)


@pytest.mark.parametrize("how", ["set_params", "constructor"])
def test_setting_lr_keeps_the_ratios_between_stages(how):
    params = dict(layer_decay=0.5, backbone_lr_ratio=0.3, lr_schedule="constant", max_epochs=1)
    found = {}
    for lr in (0.01, 0.1):
        clf = classifier("all", **params, **({} if how == "set_params" else {"lr": lr}))
        clf.set_params(**({"lr": lr} if how == "set_params" else {}))
        rates = sorted({group["lr"] for group in clf.fit(X, Y).net_.optimizer_.param_groups}, reverse=True)
        found[lr] = rates
        assert_allclose(rates, lr * np.array([0.3, 0.15, 0.1, 0.075, 0.0375]))  # 0.1: the output layer


def test_options_of_either_optimizer_reach_it():
    clf = classifier(net_params={"optimizer__momentum": 0.5, "optimizer__eps": 1e-3}).fit(X, Y)
    groups = clf.net_.optimizer_.param_groups
    assert {group.get("momentum") for group in groups if group["depth"] < 0} == {0.5}
    assert {group.get("eps") for group in groups if group["depth"] >= 0} == {1e-3}


# -------------------------------------------------------------------------------------------------- early stopping


Y_VAL = Y[[1, 2, 0, 2, 0, 1, 0, 0, 1]]
WEIGHTS_VAL = np.linspace(0.1, 2, 9)


def stopped_early(trainable_stages=2, **params):
    """Return a classifier that was stopped by `NEW`, and its loss there."""
    clf = classifier(trainable_stages, **dict(early_stopping=True, max_epochs=6, n_iter_no_change=3) | params)
    clf.fit(X, Y, X_val=NEW, y_val=Y_VAL, sample_weight_val=WEIGHTS_VAL)
    return clf, log_loss(Y_VAL, clf.predict_proba(NEW), sample_weight=WEIGHTS_VAL)


# With a rate at which training helps, and with one at which it does harm.
STOPPED = {
    "output layer": ({"trainable_stages": 0, "max_epochs": 20}, [0.003, 1.0]),
    "output layer, adamw": ({"trainable_stages": 0, "optimizer": "adamw", "dropout": 0.3}, [0.003]),
    "stages": ({}, [0.003, 1.0]),
    "all stages": ({"trainable_stages": "all"}, [1.0]),
    "no first phase": ({"freeze_epochs": 0}, [0.003]),
    "mixup": ({"mixup_alpha": 0.5}, []),
    "no augmentation": ({"augmentation": None}, [1.0]),
    "views": ({"augmentation": "light", "augmentation_views": 2}, []),
    "adamw": ({"optimizer": "adamw"}, []),
    "constant rate": ({"optimizer": torch.optim.SGD, "lr_schedule": "constant"}, [0.003]),
    "from scratch": (SCRATCH | {"freeze_epochs": "auto"}, []),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("name", "lr"),
    slow_except(
        [(name, lr) for name in STOPPED for lr in (0.003, 1.0)],
        *((name, lr) for name, (_, rates) in STOPPED.items() for lr in rates),
    ),
)
def test_what_is_returned_has_the_lowest_of_all_validated_losses_the_starts_included(name, lr):
    clf, loss = stopped_early(**STOPPED[name][0], lr=lr)
    start, *rows = [row for row in clf.history_ if row.get("phase", "stages") == "stages"]
    losses = [row["valid_loss"] for row in [start, *rows]]
    assert start["epoch"] == clf.n_iter_ - len(rows)
    assert_allclose(loss, min(losses), rtol=1e-5)
    assert [row for row in [start, *rows] if row["valid_loss_best"]][-1]["valid_loss"] == min(losses)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("trainable_stages", [0, 2])
def test_epochs_without_a_better_loss_are_counted_from_the_start(trainable_stages):
    clf, _ = stopped_early(trainable_stages, max_epochs=60, freeze_epochs=0)
    losses = clf.history_[:, "valid_loss"]
    assert clf.n_iter_ == int(np.argmin(losses)) + 3 < 60
    with pytest.warns(ConvergenceWarning, match=rf"start {losses[0]:.4g}, best epoch .*Lower lr=1000"):
        clf, _ = stopped_early(trainable_stages, max_epochs=60, freeze_epochs=0, lr=1e3)
    assert clf.n_iter_ == 3
    assert kept_start(clf.history_)


@pytest.mark.parametrize(
    ("trainable_stages", "held_out", "feature_stages"), [(1, True, 1), (2, False, 2), ("all", True, 1), (3, True, 3)]
)
def test_where_no_epoch_of_the_stages_is_better_the_output_layer_alone_is_returned_bit_for_bit(
    trainable_stages, held_out, feature_stages
):
    val = {} if held_out else dict(X_val=NEW, y_val=Y_VAL, sample_weight_val=WEIGHTS_VAL)
    params = dict(batch_size="auto", lr_schedule="constant", feature_stages=feature_stages)
    clf = classifier(
        trainable_stages, **params, early_stopping=True, validation_fraction=0.3, n_iter_no_change=2, freeze_epochs=5,
        max_epochs=9, backbone_lr_ratio=1e3,
    )  # fmt: skip
    expected = classifier(0, **params, max_epochs=5, weight_decay=0.03).fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="No epoch of the stages lowered"):
        clf.fit(X, Y, **val)
    assert_array_equal(clf.decision_function(NEW), expected.decision_function(NEW))
    assert not changed_tensors(stochastic_net().state_dict(), clf.module_.backbone.state_dict())
    start = next(row for row in clf.history_ if row["phase"] == "stages")
    assert (start["epoch"], clf.n_iter_) == (5, 7)
    for other in (copy.deepcopy(clf), pickle.loads(pickle.dumps(clf))):
        assert_array_equal(other.decision_function(NEW), expected.decision_function(NEW))


@pytest.mark.parametrize("held_out", [True, False])
def test_its_penalty_may_be_weaker_than_that_of_the_start_of_the_stages(monkeypatch, held_out):
    for name, penalties in (("_STAGE_PENALTIES", (1.0, 0.3)), ("PENALTIES", {"cross_entropy": (1.0, 0.3, 0.03, 3e-3)})):
        monkeypatch.setattr(_resolved, name, penalties)
    hinted = X.astype(np.int64)  # a strong hint, so that a weak penalty is best
    hinted[np.arange(33), :, :, np.arange(33) % 3] //= 3
    params = dict(batch_size="auto", feature_stages=2, freeze_epochs="auto")
    val = {} if held_out else dict(X_val=NEW, y_val=Y_VAL)
    clf = classifier(**params, early_stopping=True, backbone_lr_ratio=100)
    with pytest.warns(ConvergenceWarning, match="No epoch of the stages lowered"):
        clf.fit(hinted.astype(np.uint8), Y, **val)
    alone = PretrainedImageClassifier(backbone=stochastic_net, feature_stages=2, random_state=0)
    alone.fit(hinted.astype(np.uint8), Y)
    assert clf.recipe_.weight_decay == alone.recipe_.weight_decay < clf.recipe_.probing.weight_decay == 0.3
    assert_array_equal(clf.decision_function(NEW), alone.decision_function(NEW))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "params",
    [
        {"trainable_stages": 0, "dropout": 0.2},
        {"augmentation": None, "dropout": 0.2},
        {"trainable_stages": "all", "mixup_alpha": 0.4},
        pytest.param(
            {"trainable_stages": "all", "weights": None, "backbone": "resnet18", "image_size": 32},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_validation_changes_no_bit_of_the_training(params):
    params = dict(max_epochs=2, freeze_epochs=0) | params
    plain = classifier(**params).fit(X, Y)
    clf, _ = stopped_early(**params, n_iter_no_change=99)
    assert clf.history_[:, "train_loss"] == plain.history_[:, "train_loss"]


@pytest.mark.parametrize(
    ("params", "max_epochs"),
    [
        pytest.param({"backbone_lr_ratio": 3.0, "feature_stages": 1}, 8, marks=pytest.mark.thorough),
        ({"trainable_stages": "all", "augmentation": None}, 3),
        pytest.param(
            {"trainable_stages": "all", "backbone_lr_ratio": 0.3, "mixup_alpha": 0.4}, 8, marks=pytest.mark.slow
        ),
    ],
)
def test_held_out_images_are_trained_on_in_the_end_for_the_last_epochs_near_the_best(params, max_epochs, tmp_path):
    params = dict(freeze_epochs=2) | params
    stopping = dict(early_stopping=True, validation_fraction=0.3, max_epochs=max_epochs)
    clf = classifier(**params, **stopping).fit(X, Y)
    start, *rows = [row for row in clf.history_ if row["phase"] == "stages"]
    n_best = int(np.argmin([row["valid_loss"] for row in (start, *rows)]))
    n_good = max(epoch for epoch, row in enumerate(rows, start=1) if row["valid_loss_near_best"])
    assert 0 < n_best <= n_good <= max_epochs
    expected = classifier(**params, max_epochs=n_good).fit(X, Y).decision_function(NEW)
    assert_array_equal(clf.decision_function(NEW), expected)
    for _ in range(2):
        again = classifier(**params, **stopping, checkpoint=tmp_path).fit(X, Y)
        assert_array_equal(again.decision_function(NEW), expected)
        assert again.n_iter_ == clf.n_iter_ == 2 + max_epochs


def test_the_states_of_fewer_epochs_on_all_images_are_not_those_of_all_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(_predictor, "count_good_epochs", lambda history: 1)
    expected = classifier().fit(X, Y).decision_function(NEW)
    stopping = dict(early_stopping=True, validation_fraction=0.3)
    fewer = classifier(**stopping).fit(X, Y).decision_function(NEW)
    assert not np.array_equal(fewer, expected)
    for _ in range(2):
        assert_array_equal(classifier(**stopping, checkpoint=tmp_path).fit(X, Y).decision_function(NEW), fewer)
        assert_array_equal(classifier(checkpoint=tmp_path).fit(X, Y).decision_function(NEW), expected)


def test_callbacks_may_need_validation_images_so_training_ends_with_them():
    rows, _ = hold_out(check_classes(Y, None, None, len(Y)), 0.3, classifier()._seeds().split)
    params = dict(early_stopping=True, validation_fraction=0.3, freeze_epochs=2)
    score = ("accuracy", EpochScoring("accuracy", lower_is_better=False))
    clf = classifier(**params, net_params={"callbacks": [score]}).fit(X, Y)
    assert all("accuracy" in row for row in clf.history_ if row.get("train_loss") and row["phase"] == "stages")
    losses = [row["valid_loss"] for row in clf.history_ if row["phase"] == "stages"]
    assert losses[-1] == min(losses)  # so that no epoch is left out
    alone = classifier(freeze_epochs=2).fit(X[rows], Y[rows])
    assert_array_equal(clf.decision_function(NEW), alone.decision_function(NEW))


@pytest.mark.parametrize("trainable_stages", [0, 2])
def test_early_stopping_holds_out_a_stratified_part(trainable_stages):
    clf = classifier(trainable_stages, early_stopping=True, validation_fraction=0.2).fit(X, Y)
    assert "valid_loss" in clf.history_[-1]
    assert sum(batch["train_batch_size"] for batch in clf.history_[-1]["batches"] if "train_batch_size" in batch) == 26


@pytest.mark.thorough
def test_early_stopping_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classifier(early_stopping=True).fit(X, Y)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("params", "fit_params", "error", "message"),
    [
        ({}, {"X_val": NEW, "y_val": Y[:9]}, InvalidParameterError, "set early_stopping=True"),
        ({"early_stopping": True}, {"X_val": NEW}, InvalidInputError, "pass both"),
        ({"early_stopping": True}, {"y_val": Y[:9]}, InvalidInputError, "pass both"),
        ({"early_stopping": True}, {"X_val": NEW, "y_val": Y[:8]}, InvalidInputError, "9 images but y_val has 8"),
        (
            {"early_stopping": True},
            {"X_val": NEW, "y_val": ["cat"] * 8 + ["emu"]},
            InvalidInputError,
            "y_val has labels that y does not have: 'emu'",
        ),
        ({"early_stopping": True, "validation_fraction": 0.01}, {}, InvalidParameterError, "cannot hold out"),
    ],
)
def test_validation_sets_that_cannot_be_are_refused(params, fit_params, error, message):
    with pytest.raises(error, match=message):
        classifier(**params).fit(X, Y, **fit_params)


# ------------------------------------------------------------------------------------------------------- accidents


class CtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        if hasattr(net.module_, "cut"):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"net_params": {"callbacks": [CtrlC()]}}, KeyboardInterrupt),
        ({"lr": 1e38, "lr_schedule": "constant", "freeze_epochs": 0}, TrainingError),
        ({"trainable_stages": 7}, InvalidParameterError),
        ({"augmentation": lambda image: 1 / 0}, InvalidParameterError),
    ],
)
def test_whatever_ends_a_fit_leaves_the_estimator_as_it_was(params, error):
    clf = classifier().fit(X, Y)
    before, answers = dict(vars(clf)), clf.decision_function(NEW)
    old = clf.get_params()
    with pytest.raises(error):
        clf.set_params(**params).fit(X, Y)
    clf.set_params(**{name: old[name] for name in params})
    assert {k: id(v) for k, v in vars(clf).items()} == {k: id(v) for k, v in before.items()}
    assert_array_equal(clf.decision_function(NEW), answers)
    assert torch.is_grad_enabled()


def test_an_augmentation_that_fails_is_found_before_the_images_are_read():
    missing = [Image.fromarray(X[0]), "missing.png"]
    with pytest.raises(InvalidParameterError, match="augmentation failed on an image"):
        classifier(augmentation=lambda image: 1 / 0).fit(missing, ["a", "b"])


def test_a_backbone_without_parameters_cannot_be_trained():
    with pytest.raises((InvalidParameterError, BackboneError), match=r"no stages|0 stages|has no"):
        classifier("all", backbone=Pixels).fit(X, Y)
