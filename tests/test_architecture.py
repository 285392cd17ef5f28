"""The walls between the files, and what importing the package may not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sktl

PACKAGE = Path(sktl.__file__).parent
# Each file imports only from files above it.
ORDER = [
    "_words", "exceptions", "_version", "_warnings", "_paths", "_optional", "_docstrings", "_isolation", "_torch",
    "_preprocessing", "_advice", "_formats", "_corrections", "_pixels", "_containers", "_images", "_file_kinds",
    "_streams", "_model_file", "_weights", "_downloads", "_sources", "_catalogue", "_stages", "_augmentation",
    "_decoder", "_cut", "_taps", "_backbones", "_folding", "_openvino", "_trunk", "_engines", "_database", "_store",
    "_cache", "_pass", "_callbacks", "_progress", "_checking", "_features", "_columns", "_folds", "_labels", "_descent",
    "_optimizers", "_scoring", "_nets", "_net_params", "_values", "_checkpoints", "_standardization", "_rotation",
    "_axes", "_choice", "_training", "_batches", "_gradients", "_finetuning", "_transfer", "_trial", "_recipes",
    "_saving", "_summary", "_base", "_classifier", "_encoder", "_loading", "_model_card", "_hub_access", "_hub",
    "_pictures", "_drawing", "_training_curve", "_predictions", "_gradcam", "_saliency", "_feature_map", "_logme",
    "_ranking", "_selection", "_synthetic", "_folders", "_layouts", "datasets", "__init__", "_cli_words",
    "_cli_options", "_cli", "__main__",
]  # fmt: skip
ONLY_IN = {
    "torchvision.models": {"_sources"},
    "timm": {"_sources"},
    "skorch": {"_scoring", "_nets", "_net_params", "_checkpoints"},
    "openvino": {"_openvino"},
    "safetensors": {"_weights", "_streams", "_model_file"},
    "huggingface_hub": {"_downloads", "_model_card", "_hub_access"},
    "sqlite3": {"_database", "_store"},
    "click": {"_cli", "_cli_options"},
    "pandas": {"_ranking"},
    "sklearn": {
        "_callbacks", "_containers", "_columns", "_labels", "_scoring", "_net_params", "_training", "_base",
        "_classifier", "_encoder", "_loading", "_hub", "_training_curve", "_predictions", "_saliency", "_feature_map",
        "_selection", "datasets", "_cli",
    },
    "sklearn.callback": {"_callbacks"},
    "captum": {"_gradcam"},
}  # fmt: skip


def _imports(path: Path) -> list[tuple[str, str]]:
    """Return (kind, name) of each import in a file: "own" names are modules of the package."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [("own", name) for name in names]
        elif isinstance(node, ast.ImportFrom):
            found.append(("other", node.module or ""))
        elif isinstance(node, ast.Import):
            found += [("other", alias.name) for alias in node.names]
    return found


def test_every_file_has_its_place():
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_one_way(name):
    above = ORDER[: ORDER.index(name)]
    below = [own for kind, own in _imports(PACKAGE / f"{name}.py") if kind == "own" and own not in above]
    assert not below, f"{name} imports {below}, which stand below it"


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_stay_behind_their_walls(library):
    users = {
        path.stem
        for path in PACKAGE.glob("*.py")
        for kind, name in _imports(path)
        if kind == "other" and (name == library or name.startswith(f"{library}."))
    }
    assert users <= ONLY_IN[library]


def _run(program: str) -> str:
    root = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    return done.stdout


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
assert state() == before
assert not {"captum", "matplotlib", "openvino"} & set(sys.modules)
"""
    _run(program)


def test_importing_costs_little_more_than_the_libraries_it_stands_on():
    """At most 15 % more time than importing them alone, in the best of three fresh processes."""
    program = """
import time
started = time.perf_counter()
import torch, skorch, sklearn
libraries = time.perf_counter() - started
import sktl
print((time.perf_counter() - started) / libraries)
"""
    assert min(float(_run(program)) for _ in range(3)) <= 1.15


def test_a_fit_on_cached_features_imports_no_networks_and_no_compiler(tmp_path):
    """Worker processes of a search start with it."""
    program = f"""
import sys
import numpy as np, sktl
X = np.random.default_rng(0).random((8, 8, 8))
clf = sktl.PretrainedImageClassifier(cache={str(tmp_path)!r}, random_state=0).fit(X, [0, 1] * 4)
clf.score(X, [0, 1] * 4)
print(*{{
    "timm", "torchvision", "openvino", "captum", "matplotlib", "huggingface_hub", "torch._dynamo", "sympy"
}} & set(sys.modules))
"""
    assert "timm" in _run(program)  # the first one computes them
    assert not _run(program).split()


def test_everything_public_is_documented():
    for name in sktl.__all__:
        if name != "__version__":
            assert getattr(sktl, name).__doc__, name
