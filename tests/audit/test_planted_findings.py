"""What was planted in a set of images is found, nothing else changes, and findings follow from the images alone."""

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageRegressor
from sktl._audit import out_of_fold
from sktl.datasets import apply_decisions, make_surface_defects
from sktl.exceptions import InvalidInputError, InvalidParameterError

SURFACES = make_surface_defects(40, random_state=0)
X = list(np.asarray(SURFACES.data))
Y = np.asarray(SURFACES.target)
CLASSES = sorted(set(Y.tolist()))


def classifier(**parameters):
    return PretrainedImageClassifier(image_size=64, random_state=0, **parameters)


def audit(X, y=None, **arguments):
    arguments = {"estimator": classifier(), "cv": 3, "random_state": 0} | arguments
    return sktl.audit_images(X, y, **arguments)


def of_kind(found, kind):
    return found.issues[found.issues["kind"] == kind]


def half_size(image):
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def planted():
    """Return an audit of images with a wrong label, copies, and a file that is no image."""
    y = Y.copy()
    wrong = int(np.flatnonzero(y == CLASSES[0])[0])
    y[wrong] = CLASSES[1]
    images = [*X, X[5], half_size(X[7])[:, ::-1], b"no image"]
    labels = np.array([*y, y[5], y[7], y[0]])
    return audit(images, labels, X_test=[X[9], X[1][::2, ::2]], y_test=[y[9], y[1]]), wrong


def test_a_wrong_label_is_the_most_suspicious(planted):
    found, wrong = planted
    first = of_kind(found, "suspicious_label")[0]
    assert (first["position"], first["label"], first["suggested_label"]) == (wrong, CLASSES[1], CLASSES[0])


@pytest.mark.parametrize("form", ["classes", "labels", "numbers"])
def test_wrong_targets_of_many_images_are_found_by_models_that_are_trained_at_once(form, monkeypatch):
    codes = np.searchsorted(CLASSES, Y)
    wrong = int(np.flatnonzero(codes == 0)[0])
    y = {"classes": Y.copy(), "labels": np.eye(len(CLASSES), dtype=int)[codes], "numbers": codes.astype(float)}[form]
    y[wrong] = {"classes": CLASSES[1], "labels": np.eye(len(CLASSES), dtype=int)[1], "numbers": 60.0}[form]
    estimator = classifier() if form != "numbers" else PretrainedImageRegressor(image_size=64, random_state=0)
    monkeypatch.setattr(out_of_fold, "_MOST_ONE_BY_ONE", 0)
    found = of_kind(audit(X, y, estimator=estimator), "suspicious_label")
    assert found["position"][0] == wrong


def test_copies_are_found_and_named(planted):
    found, _ = planted
    pairs = {
        (issue["kind"], frozenset([(issue["part"], issue["position"]), (issue["other_part"], issue["other_position"])]))
        for issue in found.issues
        if issue["other_position"] >= 0
    }
    n = len(X)
    assert ("exact_copy", frozenset([("train", 5), ("train", n)])) in pairs
    assert ("near_copy", frozenset([("train", 7), ("train", n + 1)])) in pairs
    assert ("exact_copy", frozenset([("train", 9), ("test", 0)])) in pairs


def test_copies_across_train_and_test_come_first(planted):
    found, _ = planted
    crosses = of_kind(found, "exact_copy")["crosses"].tolist()
    assert crosses == sorted(crosses, key=lambda where: where != "test")
    assert "test" in crosses


def test_copies_are_in_one_group_and_other_images_in_groups_of_their_own(planted):
    found, _ = planted
    groups, n = found.duplicate_groups, len(X)
    assert groups.shape == (n + 3,)
    assert groups[5] == groups[n]
    assert groups[7] == groups[n + 1]
    assert len(set(groups.tolist())) == n + 1


def test_a_file_that_is_no_image_is_a_finding(planted):
    found, _ = planted
    (issue,) = of_kind(found, "unreadable")
    assert (issue["part"], issue["position"], issue["name"]) == ("train", len(X) + 2, f"X[{len(X) + 2}]")


def test_issues_are_sorted_by_kind_and_weight(planted):
    found, _ = planted
    for kind in set(found.issues["kind"].tolist()):
        scores = of_kind(found, kind)["score"]
        assert (np.diff(scores) <= 0).all()
        assert ((scores >= 0) & (scores <= 1)).all()


def test_the_summary_and_the_frame_have_all_kinds(planted):
    found, _ = planted
    assert found.to_frame().shape == (len(found.issues), len(found.issues.dtype.names))
    text = str(found)
    assert all(words in text for words in ("suspicious label", "exact cop", "near cop", "cannot be used"))


def test_the_figure_has_a_cell_for_each_finding(planted):
    found, _ = planted
    display = found.plot(n_images=4)
    assert [bool(axes.images) for axes in display.axes_] == [True] * 4
    with pytest.raises(InvalidParameterError, match="kind='copies'"):
        found.plot(kind="copies")


def test_the_page_leads_to_decisions_that_apply(planted, tmp_path):
    found, wrong = planted
    found.to_html(tmp_path / "audit.html")
    assert "suspicious" in (tmp_path / "audit.html").read_text(encoding="utf-8").lower()
    row = f"train,{wrong},X[{wrong}],relabel,{CLASSES[0]}"
    (tmp_path / "decisions.csv").write_text(f"part,position,name,decision,label\n{row}\n")
    _, y = apply_decisions(tmp_path / "decisions.csv", X, np.where(np.arange(len(Y)) == wrong, CLASSES[1], Y))
    assert y.tolist() == Y.tolist()


@pytest.mark.thorough
def test_the_same_random_state_gives_the_same_findings():
    first, second = audit(X, Y), audit(X, Y)
    assert first.issues.tolist() == second.issues.tolist()


@pytest.mark.thorough
def test_clean_images_have_no_copies_and_findings_never_change_them():
    before = [image.copy() for image in X]
    found = audit(X, Y)
    assert not len(of_kind(found, "exact_copy"))
    assert not len(of_kind(found, "near_copy"))
    assert all(np.array_equal(a, b) for a, b in zip(before, X, strict=True))


def test_without_labels_only_images_are_checked():
    found = audit([*X, X[0]])
    assert set(found.issues["kind"].tolist()) <= {"exact_copy", "near_copy", "unlike_the_rest"}
    assert len(of_kind(found, "exact_copy")) == 1
    assert not len(found.classes_)


@pytest.mark.thorough
def test_copies_with_different_labels_contradict():
    other = next(name for name in CLASSES if name != Y[0])
    found = audit([*X, X[0]], [*Y, other])
    (issue,) = of_kind(found, "exact_copy")
    assert issue["contradicts"]
    assert {issue["label"], issue["other_label"]} == {Y[0], other}


@pytest.mark.thorough
def test_copies_across_groups_are_said_and_join_the_groups():
    groups = np.arange(len(X) + 1) // 2
    found = audit([*X, X[0]], [*Y, Y[0]], groups=groups)
    (issue,) = of_kind(found, "exact_copy")
    assert issue["crosses"] == "groups"
    assert found.duplicate_groups[0] == found.duplicate_groups[1] == found.duplicate_groups[-1]


@pytest.mark.thorough
def test_classes_with_fewer_images_than_folds_are_rare():
    found = audit([*X, half_size(X[3])], [*Y, "crack"])
    assert of_kind(found, "rare_class")["name"].tolist() == ["crack"]


def test_a_wrong_label_among_several_is_suspicious():
    scratched = Y == "scratches"
    labels = np.stack([scratched, scratched | (CLASSES[0] == Y)], axis=1).astype(int)
    wrong = int(np.flatnonzero(scratched)[0])
    labels[wrong] = 0
    found = audit(X, labels)
    assert wrong in of_kind(found, "suspicious_label")["position"]


def test_a_wrong_number_is_suspicious():
    brightness = np.array([image.mean() for image in X])
    brightness[4] += 40 * brightness.std()
    regressor = PretrainedImageRegressor(image_size=64, random_state=0)
    found = audit(X, brightness, estimator=regressor)
    assert of_kind(found, "suspicious_label")["position"].tolist()[:1] == [4]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"cv": 1}, InvalidParameterError, "cv=1"),
        ({"estimator": LogisticRegression}, InvalidParameterError, r"pass an instance, LogisticRegression\(\)"),
        ({"y_test": Y}, InvalidInputError, "y_test needs X_test"),
        ({"random_state": "a"}, InvalidParameterError, "random_state"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        audit(X[:4], Y[:4], **arguments)
