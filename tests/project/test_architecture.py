"""The walls between the files, and what importing the package may not do."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

import sktl

PACKAGE = Path(sktl.__file__).parent
ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("files", ROOT / "docs" / "files.py")
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ONLY_IN = {
    "torchvision.models": {"_backbones.model_libraries"},
    "timm": {"_backbones.model_libraries"},
    "skorch": {
        "_training.skorch_net", "_training.net_callbacks", "_training.net_params",
        "_training.callback_checks", "_training.checkpoints",
    },
    "openvino": {"_features.openvino"},
    "safetensors": {"_backbones.weights", "_storage.tensor_streams", "_storage.model_file"},
    "huggingface_hub": {"_backbones.weight_downloads", "_hub.model_card", "_hub.access"},
    "sqlite3": {"_storage.sqlite_database", "_storage.sqlite_store"},
    "click": {
        "_cli.commands", "_cli.audit_command", "_cli.embed_command", "_cli.evaluate_command", "_cli.report_command",
        "_cli.export_command", "_cli.saved_models", "_cli.options", "_cli.command_group",
        "_cli.output_files", "_cli.text_formats",
    },
    "pandas": {"_ranking.ranking_table"},
    "sklearn": {
        "_audit.shortcuts", "_audit.audit_arguments", "_audit.out_of_fold", "_cli.metrics_text",
        "_utils.sklearn_compat",
        "_targets.label_checks", "_targets.class_targets",
        "_targets.number_targets", "_training.skorch_net",
        "_training.callback_checks", "_training.training_run", "_head.train_head", "_estimators.base",
        "_estimators.predictor", "_estimators.typical_images", "_estimators.classifier", "_estimators.regressor",
        "_estimators.encoder",
        "_hub.sharing", "_evaluation.metrics", "_inspection.training_curve_display", "_estimators.wrapped_estimators",
        "_inspection.saliency_display",
        "_inspection.feature_map_display", "_ranking.rank_backbones", "_ranking.cv_and_scoring",
        "_ranking.features_estimator",
        "_reports.evaluation_report", "_evaluation.label_figures",
        "datasets", "_datasets.bunch", "_datasets.embedding_content", "_datasets.synthetic_datasets",
        "_cli.accuracy_estimates", "_deployment.export_arguments",
    },
    "sklearn.callback": {"_utils.sklearn_compat"},
    "captum": {"_inspection.gradcam"},
    "onnx": {"_deployment.onnx_file", "_deployment.quantization"},
    "onnxruntime": {"_deployment.quantization"},  # `_utils.onnx_runtime` imports it without its telemetry
    "fsspec": set(),  # imported when the first URL needs it
    "redis": set(),  # imported when the first cache on a server is opened
    "pyarrow": set(),  # `_storage.parquet_files` imports it when a file is opened
}  # fmt: skip
# Methods that import a folder below them when they are called.
LATE = {
    ("_audit.audit_result", "_reports.audit_page"),  # `ImageAudit.to_html`; pages import the kinds of findings
    ("_estimators.base", "_deployment.export"),  # the method `export`
    ("_estimators.base", "_deployment.export_report"),  # its annotation
}


@functools.cache
def _imports(name: str) -> list[str]:
    """Return the full names of all modules, and of all names of modules, that a module imports."""
    folder = ["sktl", *name.split(".")[:-1]]
    found = []
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            base = [*(folder if node.level else []), *(node.module or "").split(".")]
            source = ".".join(part for part in base if part)
            found += [source, *(f"{source}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def _own_imports(name: str) -> set[str]:
    """Return the modules of the package that one of them imports."""
    return {full.removeprefix("sktl.") for full in _imports(name)} & set(MODULES) - {name}


def _unit(name: str) -> str:
    """Return the folder of a module, or the module itself where it lies in none."""
    return name.partition(".")[0]


def test_every_folder_and_every_file_outside_of_them_has_its_place():
    assert {_unit(name) for name in MODULES} == set(files.ORDER)


@pytest.mark.parametrize("folder", files.ORDER)
def test_folders_import_from_those_above_alone(folder):
    above = files.ORDER[: files.ORDER.index(folder) + 1]
    wrong = {
        (name, own)
        for name in MODULES
        if _unit(name) == folder
        for own in _own_imports(name)
        if _unit(own) not in above and (name, own) not in LATE
    }
    assert not wrong


@pytest.mark.parametrize(("name", "own"), sorted(LATE))
def test_late_imports_are_in_functions(name, own):
    outside = [node for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.ImportFrom)]
    assert own in _own_imports(name)
    assert f"sktl.{own}" not in {node.module for node in outside}


@pytest.mark.parametrize("folder", files.FOLDERS)
def test_files_of_a_folder_do_not_import_each_other_in_circles(folder):
    within = {
        name: {own for own in _own_imports(name) if _unit(own) == folder} for name in MODULES if _unit(name) == folder
    }
    list(graphlib.TopologicalSorter(within).static_order())


def test_no_two_files_of_the_package_import_each_other():
    list(
        graphlib.TopologicalSorter({name: _own_imports(name) for name in MODULES if name != "__init__"}).static_order()
    )


@pytest.mark.thorough
def test_the_page_says_of_each_file_what_the_file_says():
    text = files.PAGE.read_text()
    assert files.page(text) == text
    assert all(files.opening_line(path) for path in MODULES.values())


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_behind_their_walls(library):
    users = {name for name in MODULES for full in _imports(name) if full == library or full.startswith(f"{library}.")}
    assert users <= ONLY_IN[library]


def test_all_folders_are_in_the_wheel():
    """Those that setuptools finds are those that Python does."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    assert set(setuptools.find_packages(str(ROOT), **settings)) == {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sktl").rglob("__init__.py")
    }


def _run(program: str) -> str:
    root = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    return done.stdout


@pytest.mark.thorough
def test_importing_touches_no_network_threads_environment_or_global_state():
    program = """
import os, random, socket, sys, threading
import torch, torchvision, timm, skorch, sklearn
import numpy as np

def refuse(*args, **kwargs):
    raise AssertionError("network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
state = lambda: (dict(os.environ), threading.active_count(), torch.get_num_threads(), random.getstate(),
                 np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled(),
                 torch.cuda.is_initialized())
before = state()
import sktl
for name in sktl.__all__:
    getattr(sktl, name)
assert state() == before
assert not {"captum", "matplotlib", "openvino"} & set(sys.modules)
"""
    _run(program)


@pytest.mark.thorough
def test_the_bundled_network_imports_no_library_of_networks_and_no_compiler_and_cached_features_no_engine(tmp_path):
    """Each new process that predicts an image, and each worker process of a search, would wait for seconds."""
    program = f"""
import sys
import numpy as np, sktl
X = np.random.default_rng(0).random((8, 8, 8))
clf = sktl.PretrainedImageClassifier(image_size=32, cache={str(tmp_path)!r}, random_state=0).fit(X, [0, 1] * 4)
clf.score(X, [0, 1] * 4)
for whole in (True, False):
    clf.save({str(tmp_path / "model")!r}, include_backbone=whole)
    assert sktl.load({str(tmp_path / "model")!r}).set_params(cache={str(tmp_path)!r}).score(X, [0, 1] * 4) > 0
print(*{{
    "timm", "torchvision", "openvino", "captum", "matplotlib", "huggingface_hub", "torch._dynamo", "sympy", "dask",
    "distributed", "ray",
}} & set(sys.modules))
"""
    assert _run(program).split() == ["openvino"]  # the first one computes them
    assert not _run(program).split()


def test_everything_public_is_documented():
    for name in sktl.__all__:
        if name != "__version__":
            assert getattr(sktl, name).__doc__, name
