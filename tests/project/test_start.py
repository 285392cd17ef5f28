"""What each way to start imports, and the public names, which are imported when they are first used."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
import types
import typing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from PIL import Image
from processes import ROOTS

import sktl

ROOT = Path(__file__).parents[2]
# Prints the top-level modules of other packages that a program imported; those of pytest-cov are there before.
REPORT = """
import sys
before = set(sys.modules)
def foreign():
    tops = {name.partition(".")[0] for name in set(sys.modules) - before}
    return sorted(tops - set(sys.stdlib_module_names) - {"sktl", "__main__", "__mp_main__"})
"""


def start(program: str, *arguments: object) -> str:
    """Run a program in a new process; return what it prints."""
    path = os.pathsep.join(filter(None, [*ROOTS, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", REPORT + program, *map(str, arguments)], check=True, capture_output=True, text=True,
        timeout=300, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    return done.stdout


def imported(program: str, *arguments: object) -> set[str]:
    """Return the packages of others that a program imports."""
    return set(start(program + "\nprint(*foreign())", *arguments).split())


# --------------------------------------------------------------------------------------------------------- public names


def test_type_checkers_see_the_names_that_there_are():
    tree = ast.parse(Path(sktl.__file__).read_text())
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    seen = {}
    for node in branch.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # else they would not be public to type checkers
            seen[alias.name] = node.module
    assert seen == sktl._HOME_OF | dict.fromkeys(sktl._MODULES)
    assert sorted([*seen, "__version__"]) == sktl.__all__ == dir(sktl)


@pytest.mark.parametrize("name", sktl.__all__)
def test_a_public_name_is_one_object_wherever_it_is_taken_from(name):
    value = getattr(sktl, name)
    taken: dict[str, object] = {}
    exec(f"from sktl import {name}", taken)
    assert taken[name] is getattr(sktl, name) is value
    if not isinstance(value, types.ModuleType | str):
        assert pickle.loads(pickle.dumps(value)) is value
        assert value.__module__ == f"sktl.{sktl._HOME_OF[name]}"


def test_a_name_that_is_not_there_is_an_attribute_error_with_the_nearest_one():
    assert not hasattr(sktl, "Classifier")
    with pytest.raises(AttributeError, match=r"^module 'sktl' has no attribute 'list_backbone'$") as caught:
        sktl.list_backbone  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("list_backbone", sktl)  # of which Python makes "Did you mean"
    with pytest.raises(ImportError, match="cannot import name 'list_backbone'"):
        exec("from sktl import list_backbone")


@pytest.mark.parametrize("home", [sktl, sktl.datasets])
def test_type_hints_of_public_names_can_be_evaluated(home):
    for name in home.__all__:
        value = getattr(home, name)
        if isinstance(value, types.FunctionType):
            assert "return" in typing.get_type_hints(value)


def test_a_module_that_an_old_version_lacks_is_not_called_a_missing_package():
    program = """
sys.modules["joblib.parallel"] = None
import sktl
try:
    sktl.check_images
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert start(program) == "joblib.parallel\n"


@pytest.mark.parametrize("name", ["check_images", "load"])
def test_a_dependency_that_is_not_installed_is_named(name):
    program = f"""
sys.modules.update(joblib=None, torch=None)
import sktl
try:
    sktl.{name}
except ModuleNotFoundError as error:
    assert type(error) is sktl.exceptions.MissingPackageError
    print(error)
"""
    assert re.match(rf"sktl\.{name} needs (joblib|torch), which is not installed\. Install", start(program))


def command_without(module, error, printed):
    """Return what a program prints that catches the error of the command `sktl` where a module cannot be imported."""
    program = f"""
import runpy
sys.modules[{module!r}] = None
try:
    runpy.run_module("sktl", run_name="__main__")
except {error} as error:
    print({printed})
"""
    return start(program)


def test_a_lacking_module_of_the_command_is_not_called_a_missing_package():
    assert command_without("sktl._cli.commands", "ModuleNotFoundError", "error.name") == "sktl._cli.commands\n"


def test_the_command_without_click_is_an_error_of_one_line():
    printed = command_without("click", "SystemExit", "error")
    assert re.fullmatch(r"Error: The command sktl needs click, which is not installed\. .*\n", printed)


def test_a_star_gives_all_names_at_once():
    taken: dict[str, object] = {}
    exec("from sktl import *", taken)
    assert sorted(taken.keys() - {"__builtins__"}) == sktl.__all__


@pytest.mark.thorough
def test_threads_that_use_a_name_first_at_once_get_the_same():
    program = """
from concurrent.futures import ThreadPoolExecutor
import threading, sktl
barrier = threading.Barrier(6)
names = ["load", "PretrainedImageEncoder", "check_images"] * 2
def use(name):
    barrier.wait()
    return name, getattr(sktl, name)
with ThreadPoolExecutor(6) as pool:
    found = list(pool.map(use, names))
print(all(value is getattr(sktl, name) for name, value in found))
"""
    assert start(program).split() == ["True"]


# --------------------------------------------------------------------------------------------------- what starts import


@pytest.mark.parametrize(
    "program",
    [
        "import sktl; dir(sktl); hasattr(sktl, 'no such name'); sktl.__version__",
        "import sktl.exceptions",
        "import sktl; dir(sktl.runtime)",
        "import sktl; sktl.cache_info(); sktl.set_cache_limit(10**9)",
    ],
)
def test_what_computes_nothing_imports_no_other_package(program):
    assert imported(program) == set()


@pytest.mark.thorough
def test_folders_are_listed_without_torch(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").touch()
    found = imported("import sktl, sys; sktl.datasets.load_image_folder(sys.argv[1])", tmp_path)
    assert {"numpy", "PIL", "sklearn"} <= found
    assert "torch" not in found


COMMANDS = """
import json, runpy
outcomes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["sktl", *words]
    try:
        runpy.run_module("sktl", run_name="__main__")
    except SystemExit as end:
        outcomes.append([end.code, foreign()])
print("\\n" + json.dumps(outcomes))
"""


def outcomes(commands: list[list[str]]) -> list[tuple[int, set[str]]]:
    """Return the status of each of some commands of one process, and the packages of others imported till then."""
    printed = start(COMMANDS, json.dumps(commands)).splitlines()[-1]
    return [(status, set(found)) for status, found in json.loads(printed)]


def test_help_and_wrong_uses_import_click_alone():
    names = ("fit", "predict", "evaluate", "report", "backbones", "check")
    right = [["--help"], ["-h"], ["--version"], *([name, "--help"] for name in names)]
    wrong = [
        [], ["train"], ["--verbose"], ["fit"], ["fit", "photos"], ["fit", "photos", "-o", "m", "--lr", "high"],
        ["fit", "photos", "-o", "m", "--augmentation", "much"], ["fit", "", "-o", "m"], ["predict", "m"],
        ["predict", "m", "cat.jpg", "--n-jobs", "0"], ["evaluate", "m"], ["evaluate", "m", "a", "b"],
        ["report", "m", "a"], ["check"],
    ]  # fmt: skip
    assert outcomes(right) == [(0, {"click"})] * len(right)
    assert outcomes(wrong) == [(2, {"click"})] * len(wrong)


@pytest.mark.thorough
def test_what_is_wrong_on_the_disk_is_said_without_torch(tmp_path):
    (tmp_path / "m").touch()
    (there, found), (absent, later) = outcomes(
        [
            ["fit", str(tmp_path), "-o", str(tmp_path / "m")],
            ["fit", str(tmp_path / "absent"), "-o", str(tmp_path / "new")],
        ]
    )
    assert (there, found) == (1, {"click"})
    assert absent == 1
    assert "torch" not in later


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:weights=None")  # random weights are at hand
def test_a_saved_model_imports_the_library_of_its_own_network_alone_and_predicts_the_same_bits(tmp_path):
    image = tmp_path / "1.png"
    Image.effect_noise((32, 32), 60).save(image)
    clf = sktl.PretrainedImageClassifier(
        backbone="shufflenet_v2_x0_5", weights=None, image_size=32, engine="torch", random_state=0, cache=False
    )
    expected = clf.fit([image, image], ["a", "b"]).predict_proba([image]).tobytes().hex()
    clf.save(tmp_path / "model")
    program = "import sktl; print(sktl.load(sys.argv[1]).predict_proba(sys.argv[2:]).tobytes().hex(), *foreign())"
    predicted, *found = start(program, tmp_path / "model", image).split()
    assert predicted == expected
    assert {"torchvision", "skorch"} <= {*found}
    assert not {"timm", "openvino", "captum", "matplotlib", "huggingface_hub", "click"} & {*found}


def test_the_command_that_the_wheel_installs_is_the_command_line():
    from sktl.__main__ import main

    (script,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items()
    assert EntryPoint(*script, "console_scripts").load() is main
