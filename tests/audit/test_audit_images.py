"""An audit lists what is wrong with a dataset, whatever is wrong with it."""

import collections
import hashlib

import numpy as np
import pandas as pd
import pytest
from backbones import LoggedPixels, Pixels
from photographs import COPIES, photograph, recompressed
from PIL import Image
from representatives import slow_except, thorough_except
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor, audit_images
from sktl._audit.suspicious_labels import LabelModel
from sktl.exceptions import InputWarning, InvalidInputError, InvalidParameterError

N = 48
CODES = np.arange(N) % 2
Y = np.array(["dark", "light"])[CODES]
# Brightness tells the classes apart.
X = [np.asarray(photograph(seed, (96, 72))) // 2 + np.uint8(120 * code) for seed, code in enumerate(CODES)]
OWN = {"backbone": Pixels, "engine": "torch", "cache": False, "n_jobs": 1, "random_state": 0}


def classifier(**parameters):
    return PretrainedImageClassifier(**OWN | parameters)


def audit(images=X, y=Y, **arguments):
    return audit_images(images, y, **{"estimator": classifier(), "random_state": 0} | arguments)


def of_kind(found, *kinds):
    return found.issues[np.isin(found.issues["kind"], kinds)]


def positions(found, *kinds):
    return sorted(of_kind(found, *kinds)["position"].tolist())


@pytest.mark.thorough
def test_a_clean_set_has_neither_copies_nor_suspicious_labels():
    found = audit()
    assert not len(of_kind(found, "unreadable", "exact_copy", "near_copy", "suspicious_label", "rare_class"))
    assert found.duplicate_groups.tolist() == [*range(N)]
    assert found.classes_.tolist() == ["dark", "light"]


@pytest.mark.thorough
def test_wrong_labels_are_found_with_the_right_ones():
    wrong = [3, 10, 31]
    y = Y.copy()
    y[wrong] = Y[np.array(wrong) + 1]
    found = of_kind(audit(y=y), "suspicious_label")
    assert sorted(found["position"].tolist()) == wrong
    assert [*found["suggested_label"]] == [Y[i] for i in found["position"]]
    assert [*found["label"]] == [y[i] for i in found["position"]]


@pytest.mark.parametrize(("y", "rare"), [(["a"] * 8 + ["b"], ["b"]), (["a", "b"], ["a", "b"])])
def test_two_classes_one_of_which_has_a_single_image_are_audited(y, rare):
    found = audit(X[: len(y)], y)
    issues = of_kind(found, "rare_class", "suspicious_label")
    assert [*issues["kind"]] == ["rare_class"] * len(rare)
    assert sorted(issues["name"]) == [str(name) for name in rare]
    assert "1 different image for 5 folds" in issues["suggestion"][0]


@pytest.mark.thorough
def test_an_image_that_cannot_be_used_is_a_finding_and_nothing_else_changes(tmp_path):
    (tmp_path / "empty.jpg").touch()
    bad = [b"<html>", None, str(tmp_path / "empty.jpg"), str(tmp_path / "missing.jpg"), np.full((4, 4), np.nan)]
    found = audit([*bad, *X], [*Y[: len(bad)], *Y])
    assert positions(found, "unreadable") == [*range(len(bad))]
    names = of_kind(found, "unreadable")["name"].tolist()
    assert names == ["X[0]", "X[1]", bad[2], bad[3], "X[4]"]
    whole, rest = of_kind(found, "unlike_the_rest", "shortcut"), of_kind(audit(), "unlike_the_rest", "shortcut")
    assert whole["score"].tolist() == rest["score"].tolist()
    assert len(set(found.duplicate_groups)) == len(bad) + N


@pytest.mark.parametrize("images", [[b"x"], [b"x", b"y"]])
@pytest.mark.parametrize("with_labels", [False, True])
def test_nothing_but_unusable_images(images, with_labels):
    y = ["a", "b"][: len(images)] if with_labels and len(images) > 1 else None
    found = audit(images, y)
    assert positions(found, "unreadable") == [*range(len(images))]
    assert len(found.issues) == len(images)
    assert found.issues["suggestion"][0].startswith("It cannot be used: ")


@pytest.mark.parametrize(
    "images",
    [
        X[:1], X[:2], [np.zeros((5, 5), np.uint8)] * 30, [np.full((5, 5), i, np.uint8) for i in range(30)],
        [np.zeros((1, 3000), np.uint8), np.zeros((3000, 1), np.uint8), np.zeros((1, 1), np.uint8)],
    ],
)  # fmt: skip
def test_degenerate_images_are_no_error(images):
    found = audit(images, None)
    assert np.isfinite(found.issues["score"]).all()
    assert found.duplicate_groups.shape == (len(images),)
    found.summary()


@pytest.mark.thorough
def test_copies_are_found_named_and_grouped(tmp_path):
    path = str(tmp_path / "ä\nb<i>.png")
    Image.fromarray(X[5]).save(path)
    near = recompressed(Image.fromarray(X[7]), 80)
    found = audit([*X, path, X[5], near], [*Y, "dark", Y[5], Y[7]], groups=[*range(N), N, 5, N + 1])
    exact = {issue["position"]: issue for issue in of_kind(found, "exact_copy")}
    assert [*exact] == [N, N + 1]  # the first one contradicts, and crosses groups
    assert exact[N]["name"] == path
    assert (exact[N]["other_name"], exact[N]["crosses"], bool(exact[N]["contradicts"])) == ("X[5]", "groups", True)
    assert (exact[N + 1]["crosses"], bool(exact[N + 1]["contradicts"])) == ("", False)
    assert positions(found, "near_copy") == [N + 2]
    groups = found.duplicate_groups
    assert groups[N] == groups[N + 1] == groups[5]
    assert groups[N + 2] == groups[7]
    assert len(set(groups)) == N


@pytest.mark.thorough
def test_test_images_are_checked_and_no_model_learns_from_them():
    alone = audit()
    found = audit(
        X_test=[X[4], X[9], photograph(99, (96, 72)).point(lambda value: value // 2), b"x"],
        y_test=["dark", "medium", "light", "dark"],
    )
    crossing = of_kind(found, "exact_copy")
    assert sorted(zip(crossing["position"], crossing["other_position"], strict=True)) == [(0, 4), (1, 9)]
    assert set(crossing["part"]) == {"test"}
    assert set(crossing["crosses"]) == {"test"}
    assert crossing["contradicts"].tolist() == [True, False]  # the more important first
    assert crossing["position"].tolist() == [1, 0]
    wrong = of_kind(found, "suspicious_label")
    assert wrong[["part", "position", "name", "suggested_label"]].tolist() == [("test", 2, "X_test[2]", "dark")]
    unusable = of_kind(found, "unreadable")
    assert unusable[["part", "position", "name"]].tolist() == [("test", 3, "X_test[3]")]
    ours = found.issues[(found.issues["part"] == "train")]
    assert ours.tolist() == alone.issues.tolist()
    assert found.duplicate_groups.tolist() == alone.duplicate_groups.tolist()
    assert (found.n_train, found.n_test) == (N, 4)


def test_labels_are_optional():
    found = audit([*X, X[0]], None)
    assert positions(found, "exact_copy") == [N]
    assert set(found.issues["label"]) == {""}
    assert not found.issues["contradicts"].any()
    assert found.classes_.shape == (0,)


def test_several_labels():
    table = pd.DataFrame({"light": CODES, "dark": 1 - CODES})
    table.iloc[6] = [1, 1]
    found = audit(y=table)
    (issue,) = of_kind(found, "suspicious_label")
    assert (issue["position"], issue["label"], issue["suggested_label"]) == (6, "light, dark", "dark")
    assert found.classes_.tolist() == ["light", "dark"]


def test_numbers():
    y = np.array([image.mean() for image in X])
    y[11] += 300
    found = audit(y=y, estimator=PretrainedImageRegressor(**OWN))
    assert 11 in positions(found, "suspicious_label")
    assert of_kind(found, "suspicious_label")["position"][0] == 11


@pytest.mark.parametrize("n_test", [1, 3])
def test_test_numbers_are_compared_with_the_errors_on_training_images(n_test):
    y = np.array([image.mean() for image in X])
    found = audit(
        y=y, estimator=PretrainedImageRegressor(**OWN), X_test=X[:n_test], y_test=y[:n_test] + 1e4
    )  # fmt: skip
    wrong = of_kind(found, "suspicious_label")
    assert sorted(wrong["position"][wrong["part"] == "test"]) == [*range(n_test)]


@pytest.mark.filterwarnings("ignore:No image has the label")
def test_labels_that_no_training_image_has_are_not_judged():
    table = np.stack([CODES, 1 - CODES, 0 * CODES], axis=1)[:16]
    found = audit(X[:16], table, X_test=X[:2], y_test=table[:2] | [0, 0, 1], cv=2)
    assert not len(of_kind(found, "suspicious_label"))


def test_classes_that_appear_late_are_not_judged_by_models_of_earlier_images():
    y = [*Y[:10], "third", "third", *Y[:2], "third", "third"]
    found = audit(X[:16], y, cv=TimeSeriesSplit(3))
    assert not {10, 11} & {*positions(found, "suspicious_label")}


@pytest.mark.parametrize(
    ("groups", "notes", "rare"),
    [
        (None, [], ["third"]),
        ([0] * 16, ["Labels not judged: 16 of 16 images. All training images are of one group."], []),
        (
            [*range(12), 12, 12, 12, 12],
            ["Labels not judged: 4 of 16 images. No fold holds them out and learns their labels from other images."],
            ["third"],
        ),
    ],
)
def test_labels_that_are_not_judged_are_counted(groups, notes, rare):
    found = audit(X[:16], [*Y[:12], *["third"] * 4], groups=groups)
    assert found._notes == notes
    assert of_kind(found, "rare_class")["name"].tolist() == rare


@pytest.mark.parametrize(
    ("cv", "rare"),
    [
        (4, ["third"]),
        (GroupKFold(4), ["third"]),
        ([*GroupKFold(4).split(X[:16], groups=[*range(8), *[8] * 8])], ["third"]),
        ([*StratifiedKFold(4).split(X[:16], CODES[:16])], []),
    ],
)
def test_a_class_of_one_group_is_rare_if_the_folds_keep_groups_together(cv, rare):
    y = [*Y[:8], *["third"] * 8]
    found = audit(X[:16], y, groups=[*range(8), *[8] * 8], cv=cv)
    assert of_kind(found, "rare_class")["name"].tolist() == rare


def test_fits_that_hold_out_images_themselves_get_the_groups():
    groups, fits = np.repeat(np.arange(8), 2), []

    class Recording(PretrainedImageClassifier):
        def fit(self, X, y, groups=None):
            fits.append([] if groups is None else np.unique(groups, return_counts=True)[1].tolist())
            return super().fit(X, y, groups=groups)

    y = Y[groups]
    audit([b"no image", *X[:16]], ["dark", *y], estimator=Recording(**OWN), groups=[8, *groups], cv=2)
    assert fits == [[2] * 4] * 2
    audit(X[:16], y, estimator=Recording(**OWN), cv=2)
    assert fits[2:] == [[]] * 2


@pytest.mark.parametrize(
    ("y", "n_groups"), [(Y[:24], 2), (np.repeat([*"abacbc"], 4), 3)], ids=["one group", "classes of one group"]
)
def test_folds_with_too_few_groups_to_hold_out_are_judged(y, n_groups):
    groups, early = (
        np.repeat(np.arange(n_groups), 24 // n_groups),
        classifier(early_stopping=True, validation_fraction=0.25, lr=0.1),
    )
    with pytest.warns(InputWarning, match="cannot hold out whole groups .* fitted without groups"):
        found = audit([*X[:24], b"no image"], [*y, y[0]], groups=[*groups, 0], estimator=early)
    assert positions(found, "unreadable") == [24]
    assert found._notes == []


def test_copies_of_one_image_are_not_unlike_a_few_others():
    plain = [np.full((64, 64, 3), level, np.uint8) for level in (0, 255)]
    assert not positions(audit([X[0]] * 22 + plain, None), "unlike_the_rest")


def test_shortcuts_are_compared_with_the_model_without_votes_of_copies(monkeypatch):
    given, models, make = [], [], LabelModel.of
    monkeypatch.setattr("sktl._audit.audit_images.shortcuts", lambda *arguments: given.append(arguments[2]) or [])
    monkeypatch.setattr(LabelModel, "of", lambda *arguments: models.append(make(*arguments)) or models[-1])
    audit(X[:8], Y[:8], cv=2)
    assert given[0] is models[0].alone


def test_test_labels_that_no_training_image_has_are_counted():
    found = audit(X[:8], Y[:8], X_test=X[8:11], y_test=["dark", "medium", "dim"])
    assert found._notes == ["Labels not judged: 2 of 3 test images. No training image has their labels."]
    umlauts = np.where(Y[:8] == "dark", "d\u00e4rk", Y[:8])
    (note,) = audit(X[:8], umlauts, X_test=X[8:9], y_test=["da\u0308rk"])._notes
    assert note.startswith("Labels not judged: 1 of 1 test images. No training image has their labels. 'da\\u0308rk' l")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"groups": [0] * 4}, "All training images are of one group."),
        ({"images": [X[0]] * 4}, "All training images are equal."),
        ({"images": [*X[:4], b"no image"], "y": [*["dark"] * 4, "light"]}, "All training images have the same label."),
    ],
)
def test_test_labels_are_counted_if_no_training_label_is_judged(arguments, reason):
    found = audit(**{"images": X[:4], "y": Y[:4]} | arguments, X_test=X[8:11], y_test=["dark", "dark", "dim"])
    counted = [note for note in found._notes if note.startswith("Labels not judged")]
    assert counted == [f"Labels not judged: {n} {reason}" for n in ("4 of 4 images.", "3 of 3 test images.")]


def test_folds_of_a_generator_are_not_made_if_no_label_is_judged():
    found = audit([*X[:4], b"no image"], [*["dark"] * 4, "light"], cv=StratifiedKFold(2))
    assert found._notes == ["Labels not judged: 4 of 4 images. All training images have the same label."]


def test_what_the_page_needs_of_images():
    found = audit([*X[:4], b"no image"], Y[:5], X_test=X[:1], cv=2)
    *keys, unusable = found._keys["train"]
    assert len({*keys}) == 4
    assert unusable is None
    assert found._keys["test"] == keys[:1]
    assert [found._kind, audit(X[:2], None)._kind] == ["classes", ""]


def test_folds_given_by_position_need_not_be_usable():
    images = [*X[:10], b"no image", b"nor this one"]
    found = audit(images, Y[:12], cv=PredefinedSplit([0] * 5 + [1] * 5 + [2] * 2))
    assert positions(found, "unreadable") == [10, 11]


FOLDS = [2, 100, LeaveOneOut(), GroupKFold(4), ShuffleSplit(2, random_state=0)]


@pytest.mark.parametrize("cv", slow_except(FOLDS, FOLDS[0], FOLDS[3], FOLDS[4]))
def test_any_folds(cv):
    groups = np.arange(12) // 2 if isinstance(cv, GroupKFold) else None
    found = audit(X[:12], Y[:12], cv=cv, groups=groups)
    assert np.isfinite(found.issues["score"]).all()


CLASSIFIERS = [
    classifier(early_stopping=True, lr=0.1, batch_size=8),
    classifier(optimizer="adamw", lr=0.1),
    classifier(class_weight="balanced", feature_stages=1),
    make_pipeline(PretrainedImageEncoder(**OWN), LogisticRegression()),
    GridSearchCV(classifier(), {"weight_decay": [0.1, 1]}, cv=2),
]


@pytest.mark.parametrize("estimator", slow_except(CLASSIFIERS, CLASSIFIERS[0], CLASSIFIERS[3]))
def test_any_classifier_with_probabilities(estimator):
    y = Y.copy()
    y[8] = "light"
    assert 8 in positions(audit(y=y, estimator=estimator, cv=3), "suspicious_label")


@pytest.mark.thorough
def test_each_image_is_embedded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))
    audit(estimator=classifier(backbone=LoggedPixels))
    seen = collections.Counter((tmp_path / "log").read_text().split())
    features = PretrainedImageEncoder(**OWN).fit_transform(X)
    assert [seen[hashlib.md5(row.tobytes()).hexdigest()] for row in features] == [1] * N


@pytest.mark.thorough
def test_findings_depend_on_the_random_state_alone():
    same = [audit(random_state=3).issues.tolist() for _ in range(2)]
    assert same[0] == same[1]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    audit(random_state=None)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_copies_do_not_depend_on_the_order_of_the_images():
    images = [
        *X[:10],
        *(COPIES[copy](Image.fromarray(X[i])) for i, copy in enumerate(["mirrored", "brighter", "gray"])),
    ]
    order = np.random.default_rng(0).permutation(len(images))
    groups = audit(images, None).duplicate_groups[order]
    shuffled = audit([images[i] for i in order], None).duplicate_groups
    assert np.array_equal(groups[:, None] == groups, shuffled[:, None] == shuffled)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_given_folds_hold_for_the_images_of_x(kind):
    """The folds of a generator are needed twice, and unusable images have no rows."""
    y = Y.copy()
    y[3] = "dark"
    images = [*X[:-1], b"no image"]
    folds = [*KFold(4, shuffle=True, random_state=0).split(X)]
    found = audit(images, y, cv=folds if kind == "list" else iter(folds))
    assert positions(found, "unreadable") == [N - 1]
    assert positions(found, "suspicious_label") == [3]
    with pytest.raises(InvalidParameterError, match="is not possible with this y"):
        audit(images, y, cv=[([0, 1], [N])])


def test_a_label_that_a_fold_lacks_is_improbable_there():
    table = np.stack([CODES, np.zeros(N, dtype=int)], axis=1)
    table[5, 1] = 1
    forest = make_pipeline(PretrainedImageEncoder(**OWN), RandomForestClassifier(10, random_state=0))
    found = of_kind(audit(X, table, estimator=forest, cv=3), "suspicious_label")
    assert set(found["position"].tolist()) <= {5}


@pytest.mark.parametrize("form", thorough_except(["array", "pil", "flat"], "flat"))
def test_forms_of_images(form):
    array = np.stack([image[:64, :64] for image in X])
    if form == "flat":
        estimator = classifier(image_shape=(64, 64, 3))
        found = audit(array.reshape(N, -1), estimator=estimator)
        assert found.images("train")[2].shape == (64, 64, 3)
        return
    images = array if form == "array" else [Image.fromarray(image) for image in array]
    found = audit(images)
    assert np.array_equal(np.asarray(found.images("train")[2]), array[2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": ["one"] * N}, InvalidInputError, "y has only one class, 'one'.* Pass y=None to audit the images alone"),
        ({"y": Y[:3]}, InvalidInputError, "X has 48 images but y has 3 labels"),
        ({"y": [None, *Y[1:]]}, InvalidInputError, r"y\[0\] is a missing value"),
        ({"groups": [1, 2]}, InvalidInputError, "groups has 2 entries"),
        ({"groups_test": [1, 2], "X_test": X[:2]}, InvalidInputError, "groups_test needs X_test and groups"),
        ({"y_test": ["dark"]}, InvalidInputError, "y_test needs X_test and y"),
        ({"X_test": X[:2], "y_test": ["dark"]}, InvalidInputError, "X_test has 2 images but y_test has 1 labels"),
        ({"X_test": "cat.jpg"}, InvalidInputError, "^X_test: X is a single path"),
        ({"cv": 1}, InvalidParameterError, "cv=1 must be at least 2 folds"),
        ({"cv": "five"}, InvalidParameterError, "cv='five' must be at least 2 folds"),
        ({"cv": GroupKFold(60)}, InvalidParameterError, "is not possible with this y"),
        ({"estimator": PretrainedImageClassifier}, InvalidParameterError, "estimator is the class"),
        ({"estimator": PretrainedImageEncoder()}, InvalidParameterError, "must be a classifier or a regressor"),
        ({"estimator": "resnet50"}, InvalidParameterError, "must be a classifier or a regressor"),
        (
            {"estimator": make_pipeline(PretrainedImageEncoder(**OWN), LinearSVC())}, InvalidParameterError,
            "has no predict_proba",
        ),
        (
            {"estimator": CalibratedClassifierCV(FrozenEstimator(PretrainedImageClassifier(**OWN)))},
            InvalidParameterError, "FrozenEstimator, which is not fitted again",
        ),
        ({"random_state": "x"}, InvalidParameterError, "random_state"),
        ({"y": np.arange(N) / 7}, InvalidInputError, "continuous"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        audit(**arguments)


def test_numbers_without_a_regressor_and_classes_with_one_are_told_how_to_audit_them():
    with pytest.raises(InvalidInputError, match=r"For numbers, pass estimator=PretrainedImageRegressor\(\)\.$"):
        audit(y=np.arange(N) / 7)
    with pytest.raises(InvalidInputError, match=r"classes, pass estimator=PretrainedImageClassifier\(\)\.$"):
        audit(y=["cat"] * N, estimator=PretrainedImageRegressor())


def test_other_formats_and_readers(tmp_path):
    Image.fromarray(X[0]).save(tmp_path / "a.tif")
    pydicom = pytest.importorskip("pydicom", reason="DICOM files need pydicom")
    from pydicom.data import get_testdata_file

    dicom = get_testdata_file("CT_small.dcm")
    found = audit([str(tmp_path / "a.tif"), dicom, dicom, X[0]], None)
    assert pydicom is not None
    assert positions(found, "exact_copy") == [2, 3]
    assert not positions(found, "unreadable")


def test_the_estimators_reader_reads_the_images(tmp_path):
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path, image in zip(paths, (X[0], X[1], X[0]), strict=True):
        np.save(path, image)
    found = audit(paths, None, estimator=classifier(image_reader=np.load))
    assert positions(found, "unreadable") == []
    assert positions(found, "exact_copy") == [2]


def test_meta_estimators_are_fitted_on_the_table_that_was_passed(tmp_path):
    paths = [str(tmp_path / f"{i}.npy") for i in range(8)]
    for path, image in zip(paths, X, strict=False):
        np.save(path, image)
    table = pd.DataFrame({"age": range(8), "path": paths})
    encoder = PretrainedImageEncoder(backbone=Pixels, cache=False, n_jobs=1, image_reader=np.load)
    columns = make_column_transformer((encoder, "path"), ("passthrough", ["age"]))
    voting = VotingClassifier([("one", make_pipeline(columns, LogisticRegression()))], voting="soft")
    found = audit(table, Y[:8], estimator=voting, cv=2, X_test=table[:2], y_test=Y[:2])
    assert not positions(found, "unreadable")
    assert len(of_kind(found, "exact_copy")) == 2
    assert found.issues["name"][0] in paths
