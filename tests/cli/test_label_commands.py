"""Tables of labels on the command line: several labels, numbers and classes, from `fit` to `evaluate`."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from command_line import run
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, r2_score
from sklearn.model_selection import KFold, cross_val_predict

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageRegressor, load
from sktl._cli import accuracy_estimates
from sktl._cli.image_sources import ImageSource
from sktl._cli.options import DEFAULTS, OF_CLASSIFIER, OF_REGRESSOR
from sktl.datasets import load_label_table
from sktl.exceptions import InvalidInputError

PARAMETERS = {"image_size": 32, "random_state": 0, "n_jobs": 1, "weight_decay": 0.03, "feature_stages": 1}
QUICK = [word for name, value in PARAMETERS.items() for word in (f"--{name.replace('_', '-')}", value)]
COLUMNS = ["blue", "dark, or dim", "gray"]


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with images and their tables: labels.csv, numbers.csv and classes.csv."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    labels, numbers, classes = [["image", "split", *COLUMNS]], [["file", "light", "blueness"]], [["path", "grade"]]
    for i in range(24):
        blue, dark = i % 2, i // 2 % 2
        color = np.array([90, 90, 230] if blue else [160, 160, 160]) * (0.4 if dark else 1)
        Image.fromarray(np.clip(rng.normal(color, 15, (32, 32, 3)), 0, 255).astype(np.uint8)).save(
            folder / "images" / f"{i}.png"
        )
        name = f"images/{i}.png"
        labels.append([name, "test" if i >= 16 else "train", blue, dark, 1 - blue])
        numbers.append([name, 0.5 + color.mean(), blue])
        classes.append([name, 3 + dark])
    write(folder / "labels.csv", labels)
    write(folder / "numbers.csv", numbers)
    write(folder / "classes.csv", classes)
    return folder


@pytest.fixture(scope="module")
def labels_model(tables):
    model = tables / "labels.sktl"
    out, err = run("fit", "--labels", tables / "labels.csv", "--where", "split=train", "-o", model, *QUICK)
    assert err.startswith(f"Read 16 images with 3 labels (blue, dark, or dim, gray) from {tables / 'labels.csv'}.\n")
    assert out.startswith(f"Trained on 16 images with 3 labels on cpu, and saved as {model}.\n")
    return model


@pytest.fixture(scope="module")
def numbers_model(tables):
    model = tables / "numbers.sktl"
    out, err = run("fit", "--labels", tables / "numbers.csv", "--numbers", "-o", model, *QUICK)
    assert err.startswith(f"Read 24 images with 2 numbers (light, blueness) from {tables / 'numbers.csv'}.\n")
    assert out.startswith(f"Trained on 24 images with 2 numbers on cpu, and saved as {model}.\n")
    return model


@pytest.fixture(scope="module")
def light_model(tables):
    model = tables / "light.sktl"
    out, err = run("fit", "--labels", tables / "numbers.csv", "--column", "light", "-o", model, *QUICK)
    assert err.startswith(f"Read 24 images with 1 number (light) from {tables / 'numbers.csv'}.\n")
    assert out.startswith("Trained on 24 images with 1 number on cpu")
    return model


# ------------------------------------------------------------------------------------------------------------------ fit


@pytest.mark.thorough
def test_a_fit_of_labels_is_that_of_the_classifier(tables, labels_model):
    train = load_label_table(tables / "labels.csv", where={"split": "train"})
    clf = PretrainedImageClassifier(**PARAMETERS)
    clf.fit(train.data, train.target)
    loaded = load(labels_model)
    assert loaded.classes_.tolist() == COLUMNS
    np.testing.assert_array_equal(loaded.predict_proba(train.data), clf.predict_proba(train.data))


@pytest.mark.thorough
def test_a_fit_of_numbers_is_that_of_the_regressor(tables, numbers_model, light_model):
    data = load_label_table(tables / "numbers.csv", kind="numbers")
    reg = PretrainedImageRegressor(**PARAMETERS)
    reg.fit(data.data, data.target)
    loaded = load(numbers_model)
    assert loaded.output_names_.tolist() == ["light", "blueness"]
    np.testing.assert_array_equal(loaded.predict(data.data), reg.predict(data.data))
    reg.fit(data.data, data.target[:, 0])
    assert not hasattr(load(light_model), "output_names_")
    np.testing.assert_array_equal(load(light_model).predict(data.data), reg.predict(data.data))


def test_whole_numbers_are_classes_unless_they_are_said_to_be_numbers(tables, tmp_path):
    out, err = run("fit", "--labels", tables / "classes.csv", "-o", tmp_path / "c", *QUICK)
    assert err.startswith(
        f"Read 24 images of 2 classes (3, 4) from {tables / 'classes.csv'}. To learn numbers, pass --numbers.\n"
    )
    assert "Estimated accuracy on new images: " in out
    assert load(tmp_path / "c").classes_.tolist() == [3, 4]
    out, _ = run("evaluate", tmp_path / "c", "--labels", tables / "classes.csv", "-q")
    assert re.match(r"Accuracy \d\.\d{4} on 24 images\.", out)
    _, err = run("fit", "--labels", tables / "classes.csv", "--numbers", "-o", tmp_path / "n", *QUICK)
    assert err.startswith("Read 24 images with 1 number (grade) from ")
    assert isinstance(load(tmp_path / "n"), PretrainedImageRegressor)


def test_a_table_of_many_whole_numbers_asks_for_an_option(tables, tmp_path):
    rows = [["path", "age"], *([tables / "images" / f"{i}.png", i] for i in range(24))]
    _, err = run("fit", "--labels", write(tmp_path / "t.csv", rows), "-o", tmp_path / "m", status=1)
    assert err == (
        f"Error: Column 'age' of '{tmp_path / 't.csv'}' has 24 different whole numbers. To learn numbers, pass "
        "--numbers; to learn each value as a class, pass --classes.\n"
    )


def test_messages_about_tables_speak_of_options(tables, tmp_path):
    table = tables / "labels.csv"
    _, err = run("fit", "--labels", table, "-o", tmp_path / "m", status=1)
    assert err == (
        f"Error: Column 'split' of '{table}' holds the parts of a dataset: 'test', 'train'. Pass --where split=train "
        "to train, and --where split=test to evaluate. To use all rows, pass --ignore-column split. If it is a label, "
        "name all columns of labels as --column.\n"
    )
    sites = write(tmp_path / "sites.csv", [["path", "site", "blue"], [tables / "images" / "0.png", "north", 1]])
    _, err = run("fit", "--labels", sites, "-o", tmp_path / "m", status=1)
    assert err == (
        f"Error: 'north' in row 2 of '{sites}', column 'site', is neither 0 nor 1. Several columns are several "
        "labels, with 1 for an image that has the label. Name the columns of labels as --column, or those to leave out "
        "as --ignore-column; to learn numbers, pass --numbers.\n"
    )
    rows = [["picture", "a"], ["1.png", "x"]]
    other = write(tmp_path / "other.csv", rows)
    assert "Pass the column of paths as --path-column." in run("fit", "--labels", other, "-o", "m", status=1)[1]
    _, err = run("fit", "--labels", other, "--path-column", "picture", "-o", tmp_path / "m", status=1)
    assert err.endswith("Correct the paths, or pass the folder that they are relative to as FOLDER.\n")
    assert err.startswith(f"Error: '1.png' in row 2 of '{other}', column 'picture', is not a file (looked in ")
    assert "is a table: pass it by --labels." in run("fit", table, "-o", tmp_path / "m", status=1)[1]


def test_paths_are_relative_to_a_folder_that_is_passed(tables, tmp_path):
    table = tmp_path / "moved.csv"
    table.write_bytes((tables / "classes.csv").read_bytes())
    _, err = run("fit", tables, "--labels", table, "-o", tmp_path / "m", *QUICK)
    assert err.startswith("Read 24 images of 2 classes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing argument 'FOLDER'. Pass a folder, or a table by --labels."),
        (["photos", "--numbers"], "Options of tables need a table. Pass it by --labels."),
        (["photos", "--column", "a"], "Options of tables need a table. Pass it by --labels."),
        (["--labels", "t.csv", "--numbers", "--classes"], "Pass either --numbers or --classes."),
        (["--labels", "t.csv", "--where", "split"], "pass COLUMN=VALUE."),
        (["photos", "--suffix", ".png"], "Options of tables need a table. Pass it by --labels."),
    ],
)
def test_wrong_uses_of_the_options_of_tables(options, message):
    assert message in run("fit", *options, "-o", "m", status=2)[1]


def test_an_option_of_another_kind_is_never_ignored(tables, tmp_path):
    fit = ["fit", "--labels", tables / "numbers.csv", "-o", tmp_path / "m", "--column", "light", *QUICK]
    assert "--class-weight has no meaning for numbers." in run(*fit, "--class-weight", "balanced", status=2)[1]
    fit = ["fit", "--labels", tables / "classes.csv", "-o", tmp_path / "m", *QUICK]
    assert "--loss has no meaning for classes." in run(*fit, "--loss", "huber", status=2)[1]


@pytest.mark.parametrize("value", ["strong", "none"])
def test_an_augmentation_without_stages_is_never_ignored(value):
    message = run("fit", "no_folder", "-o", "m", "--augmentation", value, status=2)[1]
    assert "--augmentation has no effect without --trainable-stages." in message
    words = ["--augmentation", value, "--trainable-stages", "1"]
    assert "--augmentation" not in run("fit", "no_folder", "-o", "m", *words, status=1)[1]


def test_options_of_the_regressor_are_its_parameters():
    defaults = {name: value for name, value in DEFAULTS.items() if name not in OF_CLASSIFIER} | OF_REGRESSOR
    assert PretrainedImageRegressor().get_params() == defaults


# --------------------------------------------------------------------------------------------------------- the estimate


@pytest.mark.thorough
def test_the_estimate_of_numbers_is_that_of_cross_validation(tables, tmp_path):
    fit = ["fit", "--labels", tables / "numbers.csv", "-o", tmp_path / "m", *QUICK, "--loss", "huber", "-q"]
    data = load_label_table(tables / "numbers.csv", kind="numbers")
    reg = PretrainedImageRegressor(**PARAMETERS, loss="huber")
    folds = KFold(5, shuffle=True, random_state=0)
    for columns, target in ((["light"], data.target[:, 0]), (["light", "blueness"], data.target)):
        out, _ = run(*fit, "--numbers", "--force", *(word for name in columns for word in ("--column", name)))
        held_out = cross_val_predict(reg, data.data, target, cv=folds)
        errors = mean_absolute_error(
            target, held_out, multioutput="raw_values" if len(columns) > 1 else "uniform_average"
        )
        assert f"Estimated R2 on new images: {r2_score(target, held_out):.3f} (" in out
        told = f"{errors:.3g}" if len(columns) == 1 else f"light {errors[0]:.3g}, blueness {errors[1]:.3g}"
        assert f"mean absolute error: {told}.\n" in out


def test_the_estimate_of_labels_counts_each_image_once_when_it_is_held_out(tables, tmp_path, monkeypatch):
    seen = []
    values_of = accuracy_estimates.values_of

    def watch(estimator, paths):
        seen.extend(paths)
        return values_of(estimator, paths)

    monkeypatch.setattr(accuracy_estimates, "values_of", watch)
    table = tables / "labels.csv"
    out, _ = run("fit", "--labels", table, "--ignore-column", "split", "-o", tmp_path / "m", *QUICK, "-q")
    assert sorted(seen) == sorted(load_label_table(table, ignore="split").data)
    figures = r"(\d\.\d{3}) \(mean over 3 labels, 5-fold cross-validation\); guessing gives 0.500\."
    assert float(re.search(f"Estimated average precision on new images: {figures}", out)[1]) > 0.8


def test_what_cannot_be_estimated_is_said(tables, tmp_path):
    images = [tables / "images" / f"{i}.png" for i in range(4)]
    constant = write(tmp_path / "c.csv", [["path", "x"], *([image, 2.5] for image in images)])
    out, _ = run("fit", "--labels", constant, "-o", tmp_path / "m", *QUICK, "-q")
    assert out.splitlines()[1] == "R2 is unknown, because all images have the same number."
    out, err = run("evaluate", tmp_path / "m", "--labels", constant, "-q")
    assert out.startswith("R2 -, mean absolute error ")
    one = write(tmp_path / "one.csv", [["path", "x"], [images[0], 2.5]])
    out, _ = run("fit", "--labels", one, "-o", tmp_path / "n", *QUICK, "-q")
    assert out.splitlines()[1] == "The accuracy is unknown, because there is only one image. Add images."
    rare = write(tmp_path / "r.csv", [["path", "a", "b"], *([image, 0, i % 2] for i, image in enumerate(images))])
    out, err = run("fit", "--labels", rare, "-o", tmp_path / "o", *QUICK, "-q")
    assert "(mean over the labels that some image has, 4-fold cross-validation)" in out
    assert err.startswith("Warning: No image has the label 'a'.")


def test_a_table_of_a_competition_has_identifiers_and_folds(tables, tmp_path):
    rows = [["id_code", "fold", "grade"], *([f"{i}", i % 3, "ab"[i % 2]] for i in range(12))]
    options = ["--labels", write(tmp_path / "t.csv", rows), tables / "images", "--path-column", "id_code"]
    _, err = run("fit", *options, "-o", tmp_path / "m", "--ignore-column", "fold", status=1)
    assert "If all paths lack '.png', pass --suffix .png." in err
    folds = ["--where", "fold=1", "--where", "fold=2"]
    _, err = run("fit", *options, "-o", tmp_path / "m", "--suffix", ".png", *folds, *QUICK)
    assert err.startswith("Read 8 images of 2 classes (a, b) from ")


@pytest.mark.thorough
@pytest.mark.filterwarnings("always::sktl.exceptions.ImageFolderWarning")
def test_joined_labels_are_said_once(tables, tmp_path):
    names = ["blue", "gray", "blue;gray"]
    rows = [["path", "tags"], *([tables / "images" / f"{i}.png", names[i % 3]] for i in range(6))]
    out, err = run("fit", "--labels", write(tmp_path / "t.csv", rows), "-o", tmp_path / "m", *QUICK)
    assert (out + err).count("its parts are classes") == 1
    rows[1][1] = ""
    _, err = run("fit", "--labels", write(tmp_path / "t.csv", rows), "-o", tmp_path / "n", status=1)
    assert "remove the row. If an image has no label, give each label a column of 0 and 1." in err


# -------------------------------------------------------------------------------------------------------------- predict


@pytest.mark.thorough
def test_labels_are_a_table_csv_or_json(tables, labels_model):
    paths = [str(tables / "images" / f"{i}.png") for i in range(4)]
    expected = load(labels_model).predict_proba(paths)
    has = [[name for name, p in zip(COLUMNS, row, strict=True) if p > 0.5] for row in expected]
    assert {len(names) for names in has} >= {1, 2}
    out, _ = run("predict", labels_model, *paths, "-q")
    lines = out.splitlines()
    assert lines[0].split() == ["image", "prediction", "probability"]
    assert all(", ".join(names) in line for names, line in zip(has, lines[1:], strict=True))
    rows = list(csv.DictReader(io.StringIO(run("predict", labels_model, *paths, "--csv", "-q")[0])))
    assert [*rows[0]] == ["image", "prediction", *COLUMNS]
    assert [row["prediction"] for row in rows] == [", ".join(names) for names in has]
    np.testing.assert_array_equal([[float(row[name]) for name in COLUMNS] for row in rows], expected)
    records = json.loads(run("predict", labels_model, *paths, "--json", "-q")[0])
    assert [record["prediction"] for record in records] == has
    assert [record["image"] for record in records] == paths
    np.testing.assert_array_equal([[*record["probabilities"].values()] for record in records], expected)


def test_an_image_without_labels_has_an_empty_prediction(tables, labels_model, monkeypatch):
    clf = load(labels_model)
    monkeypatch.setattr(clf, "predict_proba", lambda paths: np.full((len(paths), 3), 0.5))
    monkeypatch.setattr(sktl, "load", lambda path, device: clf)
    image = tables / "images" / "0.png"
    assert run("predict", labels_model, image, "-q")[0].splitlines()[1].split() == [str(image), "-", "-"]
    assert run("predict", labels_model, image, "-q", "--csv")[0].splitlines()[1] == f"{image},,0.5,0.5,0.5"
    assert json.loads(run("predict", labels_model, image, "-q", "--json")[0])[0]["prediction"] == []


@pytest.mark.thorough
def test_numbers_are_a_table_csv_or_json(tables, numbers_model, light_model):
    paths = [str(tables / "images" / f"{i}.png") for i in range(3)]
    for model, names in ((numbers_model, ["light", "blueness"]), (light_model, ["prediction"])):
        expected = load(model).predict(paths).reshape(3, -1)
        assert run("predict", model, *paths, "-q")[0].splitlines()[0].split() == ["image", *names]
        rows = list(csv.DictReader(io.StringIO(run("predict", model, *paths, "--csv", "-q")[0])))
        np.testing.assert_array_equal([[float(row[name]) for name in names] for row in rows], expected)
        records = json.loads(run("predict", model, *paths, "--json", "-q")[0])
        if model is light_model:
            assert [record["prediction"] for record in records] == expected[:, 0].tolist()
        else:
            assert [record["prediction"] for record in records] == [
                dict(zip(names, row, strict=True)) for row in expected.tolist()
            ]


@pytest.mark.parametrize("model", ["labels_model", "numbers_model"])
def test_an_image_that_cannot_be_used_costs_no_prediction_of_the_others(tables, model, tmp_path, request):
    (tmp_path / "page.jpg").write_bytes(b"<html>not found</html>")
    arguments = (tables / "images" / "0.png", tmp_path / "page.jpg")
    out, err = run("predict", request.getfixturevalue(model), *arguments, "-q", status=1)
    assert out.splitlines()[1].startswith(str(arguments[0]))
    assert str(tmp_path / "page.jpg") in err


# ------------------------------------------------------------------------------------------------------------- evaluate


@pytest.mark.thorough
def test_the_evaluation_of_labels_finds_its_columns_by_name(tables, labels_model, tmp_path):
    arguments = ["evaluate", labels_model, "--labels", tables / "labels.csv", "--where", "split=test"]
    out, err = run(*arguments)
    assert f"Read 8 images with 3 labels (blue, dark, or dim, gray) from {tables / 'labels.csv'}.\n" in err
    data = load_label_table(tables / "labels.csv", where={"split": "test"})
    truth, scores = data.target, load(labels_model).predict_proba(data.data)
    macro, micro = (average_precision_score(truth, scores, average=average) for average in ("macro", "micro"))
    f1 = f1_score(truth, scores > 0.5, average="samples")
    assert out.startswith(f"Average precision {macro:.4f} (mean over labels), {micro:.4f} (over all pairs of image and")
    assert f"example-based F1 {f1:.4f} on 8 images with 3 labels." in out
    figures = json.loads(run(*arguments, "--json", "-q")[0])
    assert [figures[key] for key in ("macro_average_precision", "micro_average_precision", "example_f1")] == [
        pytest.approx(value) for value in (macro, micro, f1)
    ]
    assert [*figures["labels"]] == COLUMNS
    assert figures["labels"]["gray"]["support"] == 4
    rows = list(csv.reader((tables / "labels.csv").read_text().splitlines()))
    other = write(tmp_path / "t.csv", [[row[0], row[1], row[4], row[3], "note", row[2]] for row in rows])
    again = ["evaluate", labels_model, tables, "--labels", other, "--where", "split=test", "--json", "-q"]
    assert json.loads(run(*again)[0]) == figures
    shuffled = [word for name in reversed(COLUMNS) for word in ("--column", name)]
    assert json.loads(run(*again, *shuffled)[0]) == figures


def test_a_label_that_no_image_has_is_left_out_of_the_mean(tables, labels_model, tmp_path):
    rows = [["path", *COLUMNS], [tables / "images" / "0.png", 0, 0, 1], [tables / "images" / "1.png", 1, 0, 0]]
    table = write(tmp_path / "t.csv", rows)
    figures = json.loads(run("evaluate", labels_model, "--labels", table, "--json", "-q")[0])
    assert figures["labels"]["dark, or dim"]["average_precision"] is None
    assert figures["macro_average_precision"] == pytest.approx(
        np.mean([figures["labels"][name]["average_precision"] for name in ("blue", "gray")])
    )
    out, err = run("evaluate", labels_model, "--labels", table, "-q")
    assert any(line.split()[:4] == ["dark,", "or", "dim", "-"] for line in out.splitlines())
    assert err.startswith("Warning: All 2 images are training images, or copies of them.")


@pytest.mark.thorough
def test_the_evaluation_of_numbers(tables, numbers_model, light_model, tmp_path):
    data = load_label_table(tables / "numbers.csv", kind="numbers")
    predicted = load(numbers_model).predict(data.data)
    r2, errors = (score(data.target, predicted, multioutput="raw_values") for score in (r2_score, mean_absolute_error))
    figures = json.loads(run("evaluate", numbers_model, "--labels", tables / "numbers.csv", "--json", "-q")[0])
    assert figures["r2"] == pytest.approx(r2.mean())
    assert figures["numbers"] == {
        name: {"r2": pytest.approx(r2[i]), "mean_absolute_error": pytest.approx(errors[i])}
        for i, name in enumerate(("light", "blueness"))
    }
    assert len(figures["largest_errors"]) == 5
    out, _ = run("evaluate", numbers_model, "--labels", tables / "numbers.csv", "-q")
    assert out.startswith(f"R2 {r2.mean():.4f} (mean over numbers) on 24 images.\n")
    assert "Largest errors:" in out
    out, _ = run("evaluate", light_model, "--labels", tables / "numbers.csv", "--column", "light", "-q")
    predicted = load(light_model).predict(data.data)
    worst = np.argmax(np.abs(predicted - data.target[:, 0]))
    assert out.startswith(f"R2 {r2_score(data.target[:, 0], predicted):.4f}, mean absolute error ")
    assert out.splitlines()[5].split()[0] == data.data[worst]
    rows = list(csv.reader((tables / "numbers.csv").read_text().splitlines()))
    other = write(tmp_path / "t.csv", [[row[2], row[0], row[1]] for row in rows])
    again = json.loads(run("evaluate", numbers_model, tables, "--labels", other, "--json", "-q")[0])
    assert again["numbers"] == figures["numbers"]


def test_tables_that_do_not_fit_the_model(tables, labels_model, numbers_model, light_model):
    _, err = run("evaluate", labels_model, tables, status=1)
    assert err == "Error: labels.sktl predicts labels, which need a table. Pass --labels.\n"
    _, err = run("evaluate", labels_model, "--labels", tables / "numbers.csv", status=1)
    assert "has no column named 'blue', 'dark, or dim', 'gray'. Its columns are 'file', 'light', 'blueness'." in err
    _, err = run("evaluate", light_model, "--labels", tables / "numbers.csv", status=1)
    assert f"light.sktl predicts 1 number, but {tables / 'numbers.csv'} has 2: light, blueness." in err
    assert "Choose columns by --column." in err
    _, err = run("evaluate", labels_model, "--labels", tables / "labels.csv", "--column", "blue", status=1)
    assert "Several labels need several columns" in err
    assert err.endswith("Add columns.\n")


@pytest.mark.thorough
def test_a_model_whose_labels_have_no_names_takes_columns_in_their_order(tables, tmp_path):
    data = load_label_table(tables / "labels.csv", ignore="split")
    clf = PretrainedImageClassifier(**PARAMETERS)
    clf.fit(data.data, data.target).save(tmp_path / "m")
    columns = [word for name in COLUMNS for word in ("--column", name)]
    figures = json.loads(
        run("evaluate", tmp_path / "m", "--labels", tables / "labels.csv", *columns, "-q", "--json")[0]
    )
    assert [*figures["labels"]] == COLUMNS
    record = json.loads(run("predict", tmp_path / "m", data.data[0], "-q", "--json")[0])[0]
    assert [*record["probabilities"]] == ["0", "1", "2"]


def test_a_column_of_parts_that_is_not_used_is_said(tables):
    source = ImageSource(None, str(tables / "labels.csv"), columns=COLUMNS[:2])
    assert source.describe(source.load()).endswith(
        " Column split was not used. To use some of the rows, pass --where split=VALUE."
    )
    chosen = replace(source, where={"split": "train"}, columns=COLUMNS)
    assert chosen.describe(chosen.load()).endswith(f"from {tables / 'labels.csv'}.")


# --------------------------------------------------------------------------------------------------------------- groups


@pytest.fixture(scope="module")
def with_patients(tables):
    """A table of classes with a column of patients, each of whom has four images; one row is repeated."""
    rows = [[f"images/{i}.png", f"p{i // 4}", "ab"[i % 2]] for i in range(12)]
    return write(tables / "patients.csv", [["path", "patient", "class"], *rows, rows[0]])


@pytest.mark.filterwarnings("ignore:Rows of .* that repeat an image")
def test_groups_of_a_table_reach_the_fit_the_estimate_the_audit_and_the_report(
    tables, with_patients, tmp_path, monkeypatch
):
    received = []
    fit = PretrainedImageClassifier.fit

    def watched(self, X, y, groups=None):
        received.append(groups)
        return fit(self, X, y, groups=groups)

    def seen(*args, **options):
        received.append([options[name].tolist() for name in ("groups", "groups_test") if name in options])
        raise InvalidInputError("no more is needed")

    monkeypatch.setattr(PretrainedImageClassifier, "fit", watched)
    monkeypatch.setattr(sktl, "audit_images", seen)
    monkeypatch.setattr(sktl, "evaluation_report", seen)
    patients = [f"p{i // 4}" for i in range(12)]
    options = ["--labels", with_patients, "--groups", "patient", "-q"]
    out, _ = run("fit", *options, "-o", tmp_path / "m", *QUICK)
    assert "12 images of 2 classes" in out
    assert "copies across groups" in out
    whole, *folds = received
    assert whole.tolist() == patients
    assert len(folds) == 3
    for fold in folds:
        assert all(patients.count(name) == fold.tolist().count(name) for name in set(fold))
    run("audit", *options, "--test", with_patients, "-o", tmp_path / "a.html", status=1)
    run("report", tmp_path / "m", *options, "-o", tmp_path / "r.html", status=1)
    assert received[-2:] == [[patients, patients], [patients]]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--groups", "person"], 1, "has no column named 'person'"),
        (["--groups", "patient", "--column", "patient"], 2, "--groups and --column name the same column"),
        (["--groups", "patient", "--groups", "patient"], 2, "'--groups': is given several times. Pass one column"),
        (["--groups", "gap"], 1, "column 'gap', is empty"),
        (["--groups", "gap"], 1, "such as state, and pass --where state=labeled."),
    ],
)
def test_groups_that_are_absent_or_labels_are_refused(tables, tmp_path, options, status, message):
    table = write(
        tables / "gap.csv",
        [["path", "patient", "gap", "class"], *([f"images/{i}.png", i, "", "ab"[i % 2]] for i in range(4))],
    )
    ignored = [] if "--column" in options else ["--ignore-column", "gap", "--ignore-column", "patient"]
    assert message in run("fit", "--labels", table, *options, *ignored, "-o", tmp_path / "m", status=status)[1]


def test_groups_need_a_table(tables, tmp_path):
    assert "Options of tables need a table" in run("fit", tables, "--groups", "x", "-o", tmp_path / "m", status=2)[1]


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_folds_of_the_estimate_do_not_split_groups(kind):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 7, 40)
    target = {
        "classes": np.array(["a", "b"])[groups % 2],
        "labels": rng.integers(0, 2, (40, 3)),
        "numbers": rng.random(40),
    }
    images = accuracy_estimates._Images(np.arange(40).astype(str), target[kind], groups)
    for train, test in images.folds(kind, 3).split(images.paths):
        assert set(groups[train]).isdisjoint(groups[test])
