"""`sktl report`: a page and a summary from a folder or a table, and what cannot be read is said."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from command_line import run
from PIL import Image

# What is left to the estimator takes a second to choose for each fold.
QUICK = ["--image-size", "32", "--feature-stages", "1", "--weight-decay", "0.1", "--random-state", "0"]
QUICK += ["--n-jobs", "1", "-q"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Return a folder of photos, with a table of a number for each."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows = [["file", "light"]]
    for name, color in (("lemon", (200, 190, 20)), ("sky", (40, 100, 200))):
        (folder / "images" / name).mkdir(parents=True)
        for i in range(8):
            path = folder / "images" / name / f"{i}.png"
            Image.fromarray((rng.integers(0, 40, (32, 32, 3)) + color).astype(np.uint8)).save(path)
            rows.append([path, sum(color) / 3 + i / 10])
    with open(folder / "numbers.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def model(photos):
    run("fit", photos / "images", "-o", photos / "fruit.sktl", *QUICK)
    return photos / "fruit.sktl"


@pytest.mark.thorough
def test_of_a_folder(model, photos, tmp_path):
    out, err = run("report", model, photos / "images", "-o", tmp_path / "report.html", "-q")
    assert out.startswith("The model is right for 100 % of 16 images of 2 classes.")
    assert out.endswith(f"Wrote {tmp_path / 'report.html'}. Open it in a browser.\n")
    text = (tmp_path / "report.html").read_text()
    assert "fruit.sktl" in text
    assert "lemon/0.png" in text
    assert str(photos) not in text
    assert not err


def test_an_existing_page_is_kept_unless_it_may_be_replaced(model, photos, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    _, err = run("report", model, photos / "images", "-o", tmp_path / "report.html", status=1)
    assert "already exists" in err
    assert (tmp_path / "report.html").read_text() == "mine"
    for size in ("inf", "nan", "-1"):
        _, err = run("report", "absent", photos, "-o", "r.html", "--max-megabytes", size, status=2)
        assert "--max-megabytes" in err
    assert "does not end in .html" in run("report", model, photos, "-o", tmp_path / "report.pdf", status=1)[1]
    run("report", model, photos / "images", "-o", tmp_path / "report.html", "--force", "-q")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_bad_files_and_unknown_classes_are_findings(model, photos, tmp_path):
    for name in ("lemon", "sky", "rose"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.png").write_bytes((photos / "images" / "sky" / "0.png").read_bytes())
    (tmp_path / "test" / "sky" / "bad.png").write_text("not an image")
    out, _ = run("report", model, tmp_path / "test", "-o", tmp_path / "report.html", "-q")
    assert "- 1 image cannot be read and is left out of all figures." in out
    assert "The model was not trained on the class 'rose'. It cannot predict it, so 1 image counts as wrong" in out


def test_decisions_about_test_images_are_applied(model, photos, tmp_path):
    rows = ["part,position,name,decision,label", "test,0,lemon/0.png,drop,", "test,1,lemon/1.png,relabel,sky"]
    (tmp_path / "decisions.csv").write_text("\n".join(rows))
    arguments = [model, photos / "images", "--decisions", tmp_path / "decisions.csv", "-q"]
    out, err = run("report", *arguments, "-o", tmp_path / "report.html")
    assert f"Dropped 1 and relabeled 1 of 16 images by {tmp_path / 'decisions.csv'}." in err
    assert out.startswith("The model is right for 93.3 % of 15 images of 2 classes.")


@pytest.mark.thorough
def test_of_a_table(photos, tmp_path):
    table = photos / "numbers.csv"
    run("fit", "--labels", table, "-o", tmp_path / "model", *QUICK)
    out, _ = run("report", tmp_path / "model", "--labels", table, "-o", tmp_path / "report.html", "-q")
    assert out.startswith("Evaluated on 16 images.")
    assert "The largest errors" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("command", ["report", "evaluate"])
def test_images_of_which_the_model_knows_no_class_are_a_mistake(model, photos, tmp_path, command):
    page = ["-o", tmp_path / "report.html"] if command == "report" else []
    for i in range(8):
        (tmp_path / "test" / f"rose {i}").mkdir(parents=True)
        (tmp_path / "test" / f"rose {i}" / "0.png").write_bytes((photos / "images" / "sky" / "0.png").read_bytes())
    _, err = run(command, model, tmp_path / "test", *page, "-q", status=1)
    assert err == (
        f"Error: No class of {tmp_path / 'test'} is a class of fruit.sktl: the classes are rose 0, rose 1, rose 2, "
        "rose 3, rose 4, and 3 more; fruit.sktl predicts lemon, sky. Pass another folder or model.\n"
    )
    _, err = run(command, model, "--labels", photos / "numbers.csv", *page, status=1)
    assert "pass --" not in err
    assert "Choose the column of the classes by --column, or pass another model." in err
    assert not [*tmp_path.glob("*.html")]
