"""`sktl audit` and `sktl fit --decisions`: what is audited, the page, and decisions applied to folders and tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from audits import audit_of
from command_line import run
from PIL import Image

import sktl
from sktl._audit.issues import Issue
from sktl._cli.image_sources import decide

# What is left to the estimator takes a second to choose for each fold.
QUICK = ["--image-size", "32", "--feature-stages", "1", "--weight-decay", "0.1", "--random-state", "0"]
QUICK += ["--n-jobs", "1", "-q"]


def paint(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 30, (32, 32, 3))
    Image.fromarray((noise + color).astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    """Return a folder in which one image of the sky lies among lemons."""
    for part in ("train", "test"):
        for i in range(4):
            paint(tmp_path / part / "lemon" / f"{i}.png", (200, 190, 20))
            paint(tmp_path / part / "sky" / f"{i}.png", (40, 100, 200))
    paint(tmp_path / "train" / "lemon" / "9.png", (40, 100, 200))
    paint(tmp_path / "train" / "rose" / "0.png", (200, 20, 90))
    return tmp_path


@pytest.fixture
def table(photos):
    """Return a table of several labels with a column of splits."""
    rows = [["file", "split", "yellow", "blue, dark"]]
    for part in ("train", "test"):
        for i in range(4):
            rows += [[f"{part}/lemon/{i}.png", part, 1, 0], [f"{part}/sky/{i}.png", part, 0, 1]]
    return write(photos / "labels.csv", rows)


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def decisions(path, *rows):
    return write(path, [["part", "position", "name", "decision", "label"], *rows])


@pytest.fixture
def audited(monkeypatch):
    """Return the calls of `audit_images`, which finds the first image."""
    calls = []

    def audit_images(X, y=None, **options):
        calls.append({"X": X, "y": y, **options})
        issue = Issue(kind="unlike_the_rest", position=0, name=X[0], score=0.5)
        audit = audit_of([issue], X, [] if y is None else ["a"], options["X_test"])
        object.__setattr__(audit, "summary", lambda: "Found one.")
        return audit

    monkeypatch.setattr(sktl, "audit_images", audit_images)
    return calls


def test_a_folder_is_audited_with_its_classes(photos, audited):
    page = photos / "audit.html"
    out, _ = run("audit", photos / "train", "--test", photos / "test", "-o", page, "--cv", "3", "--random-state", "7")
    assert out == f"Found one.\nWrote {page}. Open it in a browser to decide about the findings.\n"
    assert "lemon/0.png" in page.read_text(encoding="utf-8")
    (call,) = audited
    assert (len(call["X"]), len(call["X_test"]), call["cv"], call["random_state"]) == (10, 8, 3, 7)
    assert sorted({*call["y"].tolist()}) == ["lemon", "rose", "sky"]
    assert sorted({*call["y_test"].tolist()}) == ["lemon", "sky"]
    assert call["estimator"].random_state == 7


def test_images_without_classes_are_audited(photos, audited):
    run("audit", photos / "train" / "sky", "--unlabeled", "-o", photos / "audit.html", "-q")
    (call,) = audited
    assert len(call["X"]) == 4
    assert call["random_state"] == 0  # so that another audit finds the same
    assert call["y"] is call["X_test"] is call["y_test"] is None


def test_a_table_is_audited_with_its_test_rows(photos, table, audited):
    run("audit", "--labels", table, "--where", "split=train", "--test-where", "split=test", "-o", photos / "a.html")
    (call,) = audited
    assert (len(call["X"]), len(call["X_test"])) == (8, 8)
    assert [*call["y"].columns] == [*call["y_test"].columns] == ["yellow", "blue, dark"]
    assert np.asarray(call["y_test"]).sum() == 8


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["TRAIN"], 2, "Missing option '-o'"),
        (["-o", "PAGE"], 2, "Missing argument 'FOLDER'"),
        (["TRAIN", "-o", "TRAIN"], 1, "is a folder. Pass a file in it, such as"),
        (["TRAIN", "-o", "TRAIN"], 1, "train.html."),
        (["TRAIN", "-o", "page.csv"], 1, "page.csv does not end in .html, and the page is HTML. Rename it."),
        (["FLAT", "-o", "PAGE"], 1, "`sktl audit --unlabeled` and `sktl embed --unlabeled`."),
        (["TRAIN", "-o", "PAGE", "--test", "ABSENT"], 1, "does not exist"),
        (["TRAIN", "-o", "PAGE", "--test-where", "a=b"], 2, "--test-where needs a table"),
        (["TRAIN", "-o", "PAGE", "--cv", "1"], 2, "--cv"),
        (["TRAIN", "-o", "PAGE", "--max-megabytes", "-1"], 2, "--max-megabytes"),
        (["TRAIN", "-o", "PAGE", "--max-megabytes", "inf"], 2, "'--max-megabytes': inf is not a number of megabytes."),
        (["TRAIN", "-o", "PAGE", "--max-megabytes", "nan"], 2, "'--max-megabytes': nan is not a number of megabytes."),
        (["--labels", "TABLE", "--unlabeled", "-o", "PAGE"], 2, "either --unlabeled or --labels"),
        (["--labels", "TABLE", "--where", "split=train", "--test-where", "split=x", "-o", "PAGE"], 1, "No row of"),
    ],
)
def test_wrong_uses_are_named(photos, table, audited, arguments, status, message):
    places = {
        "FLAT": photos / "train" / "sky",
        "TRAIN": photos / "train",
        "PAGE": photos / "a.html",
        "ABSENT": photos / "absent",
        "TABLE": table,
    }
    _, err = run("audit", *(places.get(argument, argument) for argument in arguments), status=status)
    assert message in " ".join(err.split())


def test_an_existing_page_is_replaced_only_by_force(photos, audited):
    page = photos / "audit.html"
    page.write_text("mine")
    _, err = run("audit", photos / "train", "-o", page, status=1)
    assert "already exists. Pass --force" in err
    assert not audited
    run("audit", photos / "train", "-o", page, "--force")
    assert page.read_text(encoding="utf-8") != "mine"


@pytest.mark.thorough
def test_a_fit_and_an_evaluation_drop_and_relabel(photos):
    found = sktl.datasets.load_image_folder(photos / "train")
    at = {name: found.data.tolist().index(str(photos / "train" / name)) for name in ("lemon/9.png", "rose/0.png")}
    path = decisions(
        photos / "d.csv",
        ["train", at["lemon/9.png"], photos / "train" / "lemon" / "9.png", "relabel", "sky"],
        ["train", at["rose/0.png"], "train/rose/0.png", "drop", ""],
        ["test", 0, "x", "drop", ""],
    )
    out, err = run("fit", photos / "train", "--decisions", path, "-o", photos / "m.sktl", *QUICK[:-1])
    assert f"Dropped 1 and relabeled 1 of 10 images by {path}." in err
    assert "Trained on 9 images of 2 classes" in out
    model = sktl.load(photos / "m.sktl")
    assert dict(zip(model.classes_.tolist(), model.class_count_.tolist(), strict=True)) == {"lemon": 4, "sky": 5}

    tests = decisions(photos / "t.csv", ["test", 0, "test/lemon/0.png", "drop", ""], ["train", 0, "x", "drop", ""])
    out, err = run("evaluate", photos / "m.sktl", photos / "test", "--decisions", tests, "-q")
    assert f"Dropped 1 and relabeled 0 of 8 images by {tests}." in err
    assert "on 7 images" in out


def test_an_audit_begins_with_the_decisions_of_others(photos, audited):
    """Test images may get a class that only training images have, on the page and by its file."""
    anna = decisions(photos / "anna.csv", ["train", 0, "train/lemon/0.png", "drop", ""])
    bert = decisions(
        photos / "bert.csv",
        ["train", 1, "train/lemon/1.png", "relabel", "sky"],
        ["test", 0, "test/lemon/0.png", "relabel", "rose"],
    )
    several = ["--decisions", anna, "--decisions", bert]
    _, err = run("audit", photos / "train", "--test", photos / "test", *several, "-o", photos / "audit.html", "-q")
    assert f"Dropped 1 and relabeled 1 of 10 images by {anna}, {bert}." in err
    assert f"Dropped 0 and relabeled 1 of 8 images by {anna}, {bert}." in err
    (call,) = audited
    assert len(call["X"]) == len(call["y"]) == 9
    assert (call["y"][0], call["y_test"][0]) == ("sky", "rose")


def test_images_without_labels_may_be_dropped(photos, audited):
    path = decisions(photos / "d.csv", ["train", 0, "test/lemon/0.png", "drop", ""])
    page = photos / "audit.html"
    _, err = run("audit", photos / "test", "--unlabeled", "--decisions", path, "-o", page, "-q")
    assert f"Dropped 1 and relabeled 0 of 8 images by {path}." in err
    assert (len(audited[0]["X"]), audited[0]["y"]) == (7, None)
    path = decisions(photos / "d.csv", ["train", 0, "test/lemon/0.png", "relabel", "sky"])
    _, err = run("audit", photos / "test", "--unlabeled", "--decisions", path, "-o", page, "--force", "-q", status=1)
    assert "relabels an image, but these images have no labels. Remove the row." in err


@pytest.mark.thorough
def test_a_fit_on_a_table_drops_and_relabels(photos, table):
    path = decisions(
        photos / "d.csv",
        ["train", 0, "train/lemon/0.png", "relabel", "yellow, blue, dark"],
        ["train", 1, "train/sky/0.png", "drop", ""],
    )
    out, _ = run(
        "fit", "--labels", table, "--where", "split=train", "--decisions", path, "-o", photos / "m.sktl", *QUICK
    )
    assert "Trained on 7 images with 2 labels" in out
    assert sktl.load(photos / "m.sktl").class_count_.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["train", 0, "train/lemon/1.png", "drop", ""], "Row 2 of 'PATH' is about 'train/lemon/1.png'"),
        (
            ["train", 0, "train/lemon/0.png", "relabel", "limon"],
            "relabels to 'limon', but the labels are 'lemon', 'rose', 'sky'. Correct the row, or first add an image of "
            "the new class to the folder or table.",
        ),
        (["train", 99, "train/lemon/0.png", "drop", ""], "position 99, but there are 10 images"),
    ],
)
def test_decisions_that_do_not_fit_the_images_are_named(photos, row, message):
    path = decisions(photos / "d.csv", row)
    _, err = run("fit", photos / "train", "--decisions", path, "-o", photos / "m.sktl", *QUICK, status=1)
    assert message.replace("PATH", str(path)) in err
    assert not (photos / "m.sktl").exists()


def test_whole_numbers_are_audited_as_numbers_or_classes(photos, audited):
    rows = [[f"train/{name}/{i}.png", 10 * i] for name in ("lemon", "sky") for i in range(4)]
    table = write(photos / "ages.csv", [["file", "age"], *rows])
    for option in ("--numbers", "--classes"):
        run("audit", "--labels", table, option, "-o", photos / f"{option}.html", "-q")
    assert [call["y"] is None for call in audited] == [True, False]


@pytest.mark.parametrize("name", ["weights=None", "lr", "X[5]", "n_jobs=4", "image_size"])
def test_suggestions_name_classes_as_they_are(photos, monkeypatch, name):
    advice = f"Probably {name} (97%). Look at it: relabel it, keep it, or drop it."
    issue = Issue(kind="suspicious_label", position=0, name="0.png", score=0.5, suggestion=advice)
    monkeypatch.setattr(sktl, "audit_images", lambda X, y, **options: audit_of([issue], X, ["a"], None))
    out, _ = run("audit", photos / "train", "-o", photos / "audit.html", "-q")
    assert advice in out


def test_reasons_why_a_file_cannot_be_used_are_for_the_command_line(photos, monkeypatch):
    issue = Issue(kind="unreadable", position=0, name="0.png", suggestion="It is too large. Leave n_jobs=4 alone.")
    monkeypatch.setattr(sktl, "audit_images", lambda X, y, **options: audit_of([issue], X, ["a"], None))
    out, _ = run("audit", photos / "train", "-o", photos / "audit.html", "-q")
    assert "n_jobs" not in out


def test_test_images_may_get_a_class_of_the_model_that_they_lack(photos):
    found = sktl.datasets.load_image_folder(photos / "test")
    found.kind, found.groups = "classes", None
    path = decisions(photos / "d.csv", ["test", 0, "test/lemon/0.png", "relabel", "rose"])
    classes = np.array(["lemon", "rose", "sky"], dtype=object)  # as of a model that was fitted on a Series
    assert decide(found, [str(path)], "test", classes) == f"Dropped 0 and relabeled 1 of 8 images by {path}."
    assert found.target.tolist() == ["rose", *["lemon"] * 3, *["sky"] * 4]
    classes = np.arange(3)  # of a model of numbers in a table
    assert decide(found, [str(path)], "test", classes) == f"Dropped 0 and relabeled 0 of 8 images by {path}."


def test_advice_on_the_page_is_for_the_command_line(photos, monkeypatch):
    advice = "Drop one of the two, or keep both in one fold with duplicate_groups."
    issue = Issue(kind="exact_copy", position=0, name="0.png", score=0.5, suggestion=advice)
    monkeypatch.setattr(sktl, "audit_images", lambda X, y, **options: audit_of([issue], X, ["a"], None))
    out, _ = run("audit", photos / "train", "-o", photos / "audit.html", "-q")
    assert "Drop one of the two." in out
    assert "duplicate_groups" not in out + (photos / "audit.html").read_text(encoding="utf-8")
