"""What the library says, as a command prints it."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sktl
from sktl import PretrainedImageClassifier
from sktl._cli.command_messages import PHRASES, Wording, printable
from sktl.exceptions import ImageFailure, InvalidImageError

PARAMETERS = PretrainedImageClassifier().get_params()
OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("lr", "n_jobs", "checkpoint", "early_stopping", "cache")}
WORDING = Wording(OPTIONS, ["early_stopping"], PARAMETERS)


@pytest.mark.thorough
def test_each_phrase_is_one_of_the_library():
    """Else a message was reworded, and the command line speaks of Python again."""
    texts = [
        node.value
        for path in Path(sktl.__file__).parent.rglob("*.py")
        if path != Path(sktl.__file__).parent / "_cli" / "command_messages.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [phrase for phrase in PHRASES if not any(phrase in text for text in texts)] == []


@given(value=st.text() | st.integers() | st.floats(allow_nan=False))
def test_a_parameter_with_its_value_is_an_option_whatever_the_value(value):
    said = WORDING.say(f"checkpoint={value!r} is wrong.")
    assert said.startswith("--checkpoint ")
    assert said.endswith(" is wrong.")
    assert "checkpoint=" not in said.removesuffix(" is wrong.")[:12]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "path='' is not a path. Pass a path, or a file that is open for binary reading.",
            "path='' is not a path. Pass a path.",
        ),
        (
            "The 'lr' parameter of X must be a float. Got 'a. Got b' instead.",
            "--lr 'a. Got b' is not possible; it must be a number.",
        ),
        ("early_stopping=True fails; pass early_stopping=False.", "--early-stopping fails; pass no --early-stopping."),
        ("Leave checkpoint=None.", "Leave out --checkpoint."),
        ("cache=False and checkpoint='a b'", "--cache none and --checkpoint 'a b'"),
        ("set n_jobs, lower lr or `checkpoint`", "set --n-jobs, lower --lr or --checkpoint"),
        ("batch_size=1 is small; another validation_fraction", "batch size 1 is small; another validation fraction"),
        ("X[95] (a/b (1).jpg): is no image", "a/b (1).jpg: is no image"),
        ("class np.str_('cat') has np.int64(3)", "class 'cat' has 3"),
        ("folder='a/b' is a file.", "a/b is a file."),
        ("folder='lr' has no subfolders, as in lr/cat/1.jpg", "lr has no subfolders, as in lr/cat/1.jpg"),
        ("folder='no lr' does not exist", "no lr does not exist"),
        ("folder='validation_fraction' has no images.", "validation_fraction has no images."),
        ("The table 'my lr table.csv' cannot be read", "The table 'my lr table.csv' cannot be read"),
        ('The file "an artist\'s lr=1 n_jobs" is empty', 'The file "an artist\'s lr=1 n_jobs" is empty'),
        ("another estimator's lr, for the users' n_jobs", "another estimator's --lr, for the users' --n-jobs"),
        ("2 images of X cannot be used and were left out", "2 images cannot be used and were left out"),
        ("folder='images of X-ray' is a file.", "images of X-ray is a file."),
        (
            "y has 26 different numbers for 30 images. A classifier treats each as a class.",
            "There are 26 different numbers for 30 images. A classifier treats each as a class.",
        ),
        ("the sky has 26 different numbers", "the sky has 26 different numbers"),
        (
            "If a cell holds several labels, pass y = pandas.Series(table.target).str.get_dummies(';') to fit, with "
            'table = load_label_table(..., kind="classes"). Add columns.',
            "If a cell holds several labels, give each label a column of 0 and 1. Add columns.",
        ),
        (
            "If the subfolders are the classes, pass y = [Path(path).relative_to('a b').parts[1] for path in data]. If "
            "each subfolder of each class is a class of its own, pass nested='join'.",
            "If the subfolders are the classes, move the images into one folder for each of them, or list the images "
            "in a table.",
        ),
        ("y has the label 'None' for 3 images.", "There is the label 'None' for 3 images."),
        ("Pass X_val and y_val, or early_stopping=False.", "Add images, or leave out --early-stopping."),
        (
            "Pass X_val and y_val, validation_fraction=0.2, or early_stopping=False.",
            "Add images, or leave out --early-stopping.",
        ),
        (
            "y_test has the columns 'p', 'r', but y has 'p', 'q'. Pass the same columns in the same order.",
            "The test images have the columns 'p', 'r', but the others have 'p', 'q'. Pass tables with the same "
            "columns in the same order.",
        ),
        (
            "y_test has shape (8, 1); pass 8 rows, one for each image of X_test, and 2 columns, one for each number of "
            "y.",
            "The test images need 2 columns, one for each number of the others.",
        ),
        (
            "Every image has exactly one of the 3 labels of y. If y holds one-hot classes, pass one class for each "
            "image, np.argmax(y, axis=1). If images may have several labels, y is right as it is.",
            "Every image has exactly one of the 3 labels. If they are classes, write the class of each image in one "
            "column. If images may have several labels, the table is right as it is.",
        ),
        ("cannot be used ([Errno 17] File exists: 'a')", "cannot be used (File exists: 'a')"),
        ("a \x1b[2J b\u202e", "a \ufffd[2J b\ufffd"),
        ("a cache of checkpoints, on this device", "a cache of checkpoints, on this device"),
        *[(text, text) for text in ("n_jobs/1.jpg, my-lr.jpg", "/a/lr=0.1/1.jpg", "class 'lr'", "/lr.jpg: is torn")],
    ],
)
def test_messages(message, expected):
    assert WORDING.say(message) == expected


@pytest.mark.parametrize(("column", "word"), [("split", "split=test"), ("part of", "'part of=test'")])
def test_a_condition_of_a_table_is_an_option(column, word):
    said = Wording({"where": "--where"}, [], []).say(f"Pass where={ {column: 'test'} }.")
    assert said == f"Pass --where {word}."
    owners = "it's"
    quoted = Wording({"where": "--where"}, [], []).say(f"Pass where={ {owners: 'test'} }.")
    assert shlex.split(quoted) == ["Pass", "--where", "it's=test."]


def test_failures_are_listed_by_name_up_to_a_bound():
    error = InvalidImageError([ImageFailure(i, f"{i}.jpg", "is torn") for i in range(1000)])
    lines = WORDING.list_failures(error).splitlines()
    assert lines[:2] == ["These images cannot be used:", "0.jpg: is torn"]
    assert len(lines) == 22
    assert lines[-1] == "and 980 more; `sktl check` lists all."


def test_images_that_were_to_be_left_out_are_not_advised_to_be():
    wording = Wording({"invalid_images": "--invalid-images"}, [], PARAMETERS)
    failures = [ImageFailure(0, "0.jpg", "is torn")]
    advice = "Replace or remove them, or leave them out by --invalid-images skip."
    assert wording.list_failures(InvalidImageError(failures)).splitlines()[-1] == advice
    lead = "invalid_images='skip' would leave no image: add good ones."
    said = wording.list_failures(InvalidImageError(failures, lead=lead))
    assert said == "--invalid-images skip would leave no image: add good ones.\n0.jpg: is torn"


def test_long_names_are_shown_by_their_ends():
    (line,) = WORDING.failures([ImageFailure(0, "a" * 4000 + "\n.jpg", "is torn")])
    assert len(line) < 300
    assert line.endswith("a\ufffd.jpg, 4,005 characters: is torn")


@given(name=st.text())
def test_what_is_shown_can_be_encoded_and_steers_nothing(name):
    assert len(printable(name)) == len(name)
    printable(name).encode()
    assert not set(printable(name)) & {"\n", "\r", "\x1b", "\u202e", "\x07"}
