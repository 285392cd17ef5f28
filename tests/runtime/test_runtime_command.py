"""``python -m sktl.runtime``: predictions on standard output, what is wrong on standard error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import onnx_models as exported
import pytest
from PIL import Image
from processes import ROOTS

from sktl.runtime import command
from sktl.runtime.command import main
from sktl.runtime.records import as_json


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Be in a folder with a model and two images."""
    monkeypatch.chdir(tmp_path)
    for kind in exported.LAST:
        (tmp_path / f"{kind}.onnx").write_bytes(exported.content(kind, typicality=kind == "classes"))
    Image.new("RGB", (50, 60), "red").save("red.png")
    Image.new("RGB", (50, 60), "blue").save("blue.jpg")
    return tmp_path


def outcome(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    return (status, *capsys.readouterr())


TABLES = {
    "classes": "image     prediction  probability  typicality\nred.png   red         0.9647       1.0000\n",
    "labels": "image     prediction  probability\nred.png   red         0.9820\n",
    "numbers": "image     number 0  number 1  number 2\nred.png   4         0         0\n",
    "features": "image     features\nred.png   3 numbers, printed with --json\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_predictions_are_a_table(place, capsys, kind):
    status, printed, wrong = outcome(capsys, f"{kind}.onnx", "red.png", "blue.jpg")
    assert (status, wrong) == (0, "")
    assert printed.startswith(TABLES[kind])
    assert printed.splitlines()[2].startswith("blue.jpg")


def test_json_is_exact_for_programs_and_does_not_steer_a_terminal(capsys, monkeypatch):
    text = as_json([{"image": "a\u202eb", "prediction": "\x9bcat"}])
    for is_terminal in (True, False):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert command._print(text)
        printed = capsys.readouterr().out
        assert (printed == text) == (not is_terminal)
        assert "".join(printed.splitlines()).isprintable() == is_terminal


def test_all_probabilities_are_json(place, capsys):
    status, printed, _ = outcome(capsys, "classes.onnx", "red.png", "blue.jpg", "--json", "--n-threads", "1")
    red, blue = json.loads(printed)
    assert status == 0
    assert (red["image"], red["prediction"], blue["prediction"]) == ("red.png", "red", "blue")
    assert list(red["probabilities"]) == ["red", "green", "blue"]
    assert sum(red["probabilities"].values()) == pytest.approx(1)


def test_images_that_cannot_be_used_do_not_cost_the_others(place, capsys):
    (place / "text.jpg").write_text("no image")
    status, printed, wrong = outcome(capsys, "classes.onnx", "red.png", "absent.jpg", "blue.jpg", "text.jpg")
    assert status == 1
    assert [line.split()[0] for line in printed.splitlines()] == ["image", "red.png", "blue.jpg"]
    assert [line.partition(":")[0] for line in wrong.splitlines()] == ["absent.jpg", "text.jpg"]
    assert outcome(capsys, "classes.onnx", "absent.jpg")[:2] == (1, "")
    assert outcome(capsys, "classes.onnx", "absent.jpg", "--json")[:2] == (1, "[]\n")


def test_what_is_wrong_with_the_model_is_said_in_one_line(place, capsys):
    (place / "text.onnx").write_text("no model")
    for name in ("absent.onnx", "text.onnx", ".", "red.png"):
        status, printed, wrong = outcome(capsys, name, "red.png")
        assert (status, printed, wrong.count("\n")) == (1, "", 1)
        assert name in wrong


def test_names_on_standard_input_stand_for_images(place, capsys, monkeypatch):
    expected = outcome(capsys, "classes.onnx", "red.png", "blue.jpg")
    for content in (b"red.png\nblue.jpg\n", b"red.png\0blue.jpg\0"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert outcome(capsys, "classes.onnx", "-") == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    twice = outcome(capsys, "classes.onnx", "-", "-")
    assert twice == outcome(capsys, "classes.onnx", *["red.png", "blue.jpg"] * 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, printed, wrong = outcome(capsys, "classes.onnx", "-")
    assert (status, printed) == (1, "")
    assert wrong.startswith("Standard input has no names of images.")


@pytest.mark.parametrize("words", [[], ["classes.onnx"], ["a", "b", "--n-threads", "0"], ["a", "b", "--top", "3"]])
def test_a_wrong_use_is_status_2(place, capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: python -m sktl.runtime" in capsys.readouterr().err


def test_names_cannot_move_the_cursor(place, capsys):
    name = "\x1b[2J\nred\u202e.png"
    Image.new("RGB", (9, 9)).save(place / name)
    evil = exported.content(names=("\x1b[2Jred", "\ngreen", "blue"), dtype="<U7")
    (place / "evil.onnx").write_bytes(evil)
    status, printed, wrong = outcome(capsys, "evil.onnx", name, name + "\x1b")
    assert status == 1
    assert all(c.isprintable() or c == "\n" for c in printed + wrong)
    assert (printed.count("\n"), wrong.count("\n")) == (2, 1)
    assert json.loads(outcome(capsys, "evil.onnx", name, "--json")[1])[0]["image"] == name


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="names are Unicode on Windows")
def test_a_name_that_is_not_utf_8_is_printed_with_escapes(place):
    os.rename(b"red.png", b"red\xff.png")
    for options in ([], ["--json"]):
        done = run("classes.onnx", b"red\xff.png", *options, cwd=place)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"red" in done.stdout


def run(*arguments, **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sktl.runtime", *arguments], capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)}, **options,
    )  # fmt: skip


def test_the_module_is_a_program(place):
    done = run("classes.onnx", "red.png", "absent.jpg", "--json", cwd=place)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["prediction"] == "red"
    assert done.stderr.splitlines() == [b"absent.jpg: no such file in the working folder"]


@pytest.mark.thorough
def test_a_reader_that_has_seen_enough_is_no_error(place):
    for i in range(3_000):
        os.link("red.png", f"{i}.png")
    program = f"{sys.executable} -m sktl.runtime classes.onnx *.png --json | head -c 5"
    done = subprocess.run(
        program, shell=True, capture_output=True, timeout=120, cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"[\n {\n", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_is_an_error_in_a_line(place, options):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sktl.runtime", "classes.onnx", "red.png", *options], stdout=full,
            stderr=subprocess.PIPE, timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"The predictions cannot be written: No space left on device.\n"


def test_a_closed_standard_output_is_an_error_in_a_line(place, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert main(["classes.onnx", "red.png"]) == 1
    assert capsys.readouterr().err == "The predictions cannot be written: standard output is closed.\n"


def test_a_name_that_the_encoding_lacks_is_an_error_in_a_line(place, capsys, monkeypatch):
    os.rename("red.png", "\N{SNOWMAN}.png")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert main(["classes.onnx", "\N{SNOWMAN}.png"]) == 1
    wrong = capsys.readouterr().err
    assert wrong.startswith("A name cannot be written as text: 'ascii' codec")
    assert wrong.count("\n") == 1


def test_reasons_are_about_files(place, capsys):
    Image.new("F", (8, 8), 300).save("float.tif")
    status, _, wrong = outcome(capsys, "classes.onnx", ".", "float.tif", "*.tif", "*.gif")
    assert (status, wrong.splitlines()) == (1, [
        ".: is a directory; pass the images in it",
        "float.tif: has values up to 300; convert it to 8 bits, all images alike",
        "*.tif: no such file: patterns are not expanded within quotes; leave out the quotes",
        "*.gif: no such file: no file matches the pattern",
    ])  # fmt: skip


def test_a_table_of_one_column_of_numbers(place, capsys):
    numbers = exported.content("numbers", names=("r", "g", "b"))
    (place / "named.onnx").write_bytes(numbers)
    assert outcome(capsys, "named.onnx", "red.png")[1].split()[:4] == ["image", "r", "g", "b"]
    assert np.isfinite(float(outcome(capsys, "named.onnx", "red.png")[1].split()[-1]))


def test_numbers_named_like_other_columns_or_each_other_lose_nothing(place, capsys):
    (place / "a.onnx").write_bytes(exported.content("numbers", typicality=True, names=("image", "typicality", "b")))
    heading, row = outcome(capsys, "a.onnx", "red.png")[1].splitlines()
    assert heading.split() == ["image", "image", "typicality", "b", "typicality"]
    assert row.split() == ["red.png", "4", "0", "0", "1.0000"]
    (place / "b.onnx").write_bytes(exported.content("numbers", names=("r", "r", "b")))
    (record,) = json.loads(outcome(capsys, "b.onnx", "red.png", "--json")[1])
    assert record["prediction"] == {"r (0)": 4, "r (1)": 0, "b (2)": 0}


def test_patterns_are_expanded_where_shells_do_not(place, monkeypatch):
    names = ["*.*g", "red[1].png", "absent.*"]
    assert command._expanded(names) == names
    monkeypatch.setattr(os, "name", "nt")
    assert command._expanded(names) == ["blue.jpg", "red.png", "red[1].png", "absent.*"]
