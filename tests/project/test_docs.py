"""The Python in the README and the documentation runs as it is written; the reference names all that is public."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import less_to_compute as less
import numpy as np
import onnx_models
import pytest
from PIL import Image
from representatives import thorough_except

import sktl
from sktl._evaluation.class_figures import ClassFigures
from sktl._utils import devices

ROOT = Path(__file__).parents[2]
GENERATED = {"api", "auto_examples", "generated"}  # by a build of the site
PAGES = sorted(ROOT.glob("*.md")) + sorted(
    page for page in ROOT.glob("docs/**/*.md") if not GENERATED & set(page.relative_to(ROOT).parts)
)
BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in PAGES}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def docs_module(name):
    """Import a file beside the pages of the documentation."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Stand in a folder with the photos that the pages name."""
    rng = np.random.default_rng(0)
    for breed in ("Siamese", "Sphynx"):
        for part in ("train", "test"):
            (tmp_path / "cat_breeds" / part / breed).mkdir(parents=True)
            for i in range(5):
                pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
                pixels[..., 0] //= 1 + 3 * (breed == "Sphynx")
                Image.fromarray(pixels).save(tmp_path / "cat_breeds" / part / breed / f"{i}.jpg")
    Image.fromarray(pixels).save(tmp_path / "my_cat.jpg")
    shutil.copytree(tmp_path / "cat_breeds", tmp_path / "photos")
    (tmp_path / "new").mkdir()
    Image.fromarray(pixels).save(tmp_path / "new" / "my_cat.jpg")
    for patient in range(8):
        for i in range(2):
            file = tmp_path / "xrays" / ("normal", "opacity")[patient % 2] / f"patient{patient}_{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 100 + 100 * (patient % 2), (40, 40), np.uint8)).save(file)
    first = "cat_breeds/train/Siamese/0.jpg"
    (tmp_path / "decisions.csv").write_text(f"part,position,name,decision,label\ntrain,0,{first},drop,\n")
    (tmp_path / "cats.onnx").write_bytes(onnx_models.content())
    monkeypatch.chdir(tmp_path)


# The pages on which people start, and the one on images. Elsewhere the bundled network takes smaller images: the code
# that runs is the same.
FULL_SIZE = {"README.md", "docs/index.md", "docs/guide/index.md", "docs/guide/images.md", "docs/guide/features.md"}


@pytest.fixture
def less_to_compute(page, monkeypatch):
    if name_of(page) not in FULL_SIZE:
        less.take_small_images(monkeypatch)
        less.try_few_penalties(monkeypatch)
        less.compile_nothing(monkeypatch)
    if page.name == "export.md":
        less.keep_two_stages(monkeypatch)


# The pages on which people start, and others whose blocks run in less than a second.
QUICK = {
    "docs/index.md", "docs/guide/index.md", "docs/guide/saving.md", "docs/guide/long_fits.md",
    "docs/guide/none_of_these.md", "docs/guide/deployment.md",
    "docs/guide/unusual_images.md", "docs/guide/sharing.md", "docs/guide/imbalanced_classes.md",
    "docs/guide/evaluation_report.md", "docs/guide/several_machines.md", "docs/guide/gpu.md",
    "docs/coming_from/torch.md", "docs/coming_from/skorch.md",
}  # fmt: skip
WITH_BLOCKS = [page for page in PAGES if BLOCKS[page]]


@pytest.mark.parametrize("page", thorough_except(WITH_BLOCKS, *(ROOT / name for name in sorted(QUICK))), ids=name_of)
@pytest.mark.usefixtures("less_to_compute")
def test_every_python_block_of_a_page_runs_after_the_ones_before_it(page, folder, monkeypatch):
    monkeypatch.setattr(devices, "computes_in_bfloat16", lambda device: True)  # emulated on processors without it
    if "matplotlib" in page.read_text(encoding="utf-8"):
        pytest.importorskip("captum", reason="the extra `explain` installs it, and matplotlib")
        monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict[str, object] = {"__name__": "__main__"}
    # scikit-learn has callbacks from 1.9 on.
    blocks = [block for block in BLOCKS[page] if find_spec("sklearn.callback") or "sklearn.callback" not in block]
    for block in blocks:
        exec(compile(block, name_of(page), "exec"), namespace)


@pytest.mark.parametrize("cut", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("n", [20, 400])
def test_the_recipe_for_uncertain_images_answers_as_the_report_says(cut, n):
    """Also for classifiers with a threshold, and if no threshold reaches the accuracy."""
    (block,) = [block for block in BLOCKS[ROOT / "docs/guide/evaluation_report.md"] if '"ask a person"' in block]
    rng = np.random.default_rng(0)
    high = rng.beta(0.3, 0.3, n)
    proba, predicted, codes = np.c_[1 - high, high], (high > cut).astype(int), (rng.random(n) < high).astype(int)
    figures, classes = ClassFigures.of(["defect", "ok"], codes, proba, predicted=predicted), np.array(["defect", "ok"])
    clf = SimpleNamespace(classes_=classes, predict=lambda X: classes[predicted], predict_proba=lambda X: proba)
    namespace: dict[str, Any] = {"figures": figures, "clf": clf}
    exec(compile(block, "recipe", "exec"), namespace)
    answered, target = namespace["answers"] != "ask a person", figures.coverage.targets[0]
    assert (target.threshold is None) == (n == 20)
    assert answered.sum() == target.kept.n
    assert (namespace["answers"] == classes[codes]).sum() == target.kept.n_hits
    assert (namespace["answers"] == classes[predicted])[answered].all()


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_thresholds_and_calibration_are_chosen_on_shuffled_folds(page):
    """Images of a folder are sorted by class: if classes are joined to one, folds of consecutive images lack some."""
    calls = [node for block in BLOCKS[page] for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) in ("TunedThresholdClassifierCV", "CalibratedClassifierCV"):
            (cv,) = (keyword.value for keyword in call.keywords if keyword.arg == "cv")
            assert re.search(rf"^{ast.unparse(cv)} = .*shuffle=True", "\n".join(BLOCKS[page]), flags=re.MULTILINE)


def test_there_is_no_code_that_the_test_above_overlooks():
    """Code of other languages, and indented or tilde fences, would pass unseen."""
    for page in PAGES:
        languages = re.findall(r"^\s*(?:```|~~~)([^\s`]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        languages = {language for language in languages if not language.startswith("{")}
        assert languages <= {"python", "bash", "text"}, page
        assert not re.search(r"^(?:[ \t]+```|~~~)", page.read_text(encoding="utf-8"), flags=re.MULTILINE), page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists() or GENERATED & set(Path(target).parts), target


def test_the_reference_names_all_that_is_public_and_nothing_else():
    modules = {name: getattr(sktl, name) for name in ("datasets", "exceptions", "runtime")}
    public = set(sktl.__all__) - {"__version__", *modules}
    public |= {f"{module}.{name}" for module in modules for name in modules[module].__all__}
    listed = [name for section in docs_module("api_reference").API_REFERENCE for name in section.names]
    assert sorted(listed) == sorted(public)
