"""Exported models need NumPy, Pillow and ONNX Runtime alone, and predict one photo within a second."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import onnx_models as exported
import pytest
from onnx import numpy_helper
from PIL import Image
from processes import ROOTS

from sktl import PretrainedImageClassifier
from sktl.datasets import make_cats

ROOT = Path(__file__).parents[2]
NEEDED = ("numpy", "pillow", "onnxruntime")

# Everything of the runtime, in a process in which no other package can be imported.
PROGRAM = """
import sys

class Refuse:
    allowed = {*sys.stdlib_module_names, "sktl", "numpy", "PIL", "onnxruntime", "__main__"}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in self.allowed:
            refused.add(top)
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

refused = set()
sys.meta_path.insert(0, Refuse())
import json, pickle
import numpy as np
from PIL import Image
import sktl.runtime
from sktl.exceptions import InvalidImageError
from sktl.runtime import OnnxClassifier, OnnxEncoder, OnnxRegressor, open_model

folder = sys.argv[1]
clf = OnnxClassifier(f"{folder}/classes.onnx")
X = [f"{folder}/red.png", open(f"{folder}/blue.jpg", "rb").read(), Image.new("RGB", (40, 50), "lime"),
     np.zeros((30, 30, 3)), np.zeros((3, 30, 30), np.uint8)]
found = [clf.predict_proba(X).tolist(), clf.predict(np.zeros((2, 8, 8))).tolist(), clf.typicality(X).tolist()]
found += [OnnxEncoder(f"{folder}/features.onnx").transform(X).tolist()]
found += [OnnxRegressor(f"{folder}/numbers.onnx").predict(X).tolist()]
found += [pickle.loads(pickle.dumps(open_model(f"{folder}/labels.onnx"))).predict(X).tolist()]
assert len(clf.predict(sktl.datasets.list_images(f"{folder}/photos"))) == 2
try:
    clf.predict(["https://host/photo.png"])
except sktl.exceptions.MissingPackageError as error:
    assert "pip install 'fsspec[http]'" in str(error), error
for wrong in ([{}], [None], [b"text"], 3, "photo.jpg", [[1, 2], [3]], [["a"]], {"a": 1}, np.zeros((2, 9))):
    try:
        clf.predict(wrong)
    except ValueError as error:
        assert type(error).__module__ == "sktl.exceptions", error
print(json.dumps([found, sorted(refused)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kind in exported.LAST:
        (folder / f"{kind}.onnx").write_bytes(exported.content(kind, typicality=kind == "classes"))
    (folder / "photos").mkdir()
    for name in ("1.png", "2.jpg"):
        Image.new("RGB", (50, 60), "red").save(folder / "photos" / name)
    Image.new("RGB", (50, 60), "red").save(folder / "red.png")
    Image.new("RGB", (50, 60), "blue").save(folder / "blue.jpg")
    return folder


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)}


def results(python: object, folder: Path, env: dict[str, str]) -> tuple[list, list[str]]:
    done = subprocess.run(
        [str(python), "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=300, env=env, cwd=folder
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def check(found: list) -> None:
    red, blue, lime, *black = found[0]
    assert [int(np.argmax(row)) for row in (red, blue, lime)] == [0, 2, 1]
    np.testing.assert_allclose(black, 1 / 3, atol=1e-6)
    np.testing.assert_allclose(found[3], found[4])


def test_nothing_else_is_imported(folder):
    found, refused = results(sys.executable, folder, environment())
    check(found)
    assert not {"torch", "sklearn", "scipy", "skorch", "timm", "joblib", "psutil", "tqdm", "safetensors"} & set(refused)


def test_importing_the_runtime_imports_no_other_package():
    program = """
import sys
before = set(sys.modules)
import sktl.runtime, sktl.runtime.command
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, env=environment()
    )
    assert done.stdout.split() == ["sktl"]


@pytest.fixture(scope="module")
def environment_of_three(tmp_path_factory):
    """Return the Python of an environment with three packages, and sktl without its dependencies."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *NEEDED], check=True, timeout=600)
    subprocess.run([*pip, "--no-deps", str(ROOT)], check=True, timeout=600)
    return python


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.mark.slow
def test_an_environment_with_three_packages_is_enough(folder, environment_of_three):
    """As on a machine that has never seen PyTorch."""
    found, _ = results(environment_of_three, folder, bare())
    check(found)
    here, _ = results(sys.executable, folder, environment())
    np.testing.assert_allclose(found[0], here[0], atol=1e-6)


@pytest.mark.slow
def test_an_exported_classifier_predicts_there_as_the_estimator_here(environment_of_three, tmp_path):
    cats = make_cats(36, random_state=0)
    clf = PretrainedImageClassifier(random_state=0, cache=False, image_size=96).fit(cats.data, cats.target)
    clf.export(tmp_path / "cats.onnx")
    for i, content in enumerate(unusual_files(Image.fromarray(cats.data[0]))):
        (tmp_path / f"{i}.image").write_bytes(content)
    paths = sorted(map(str, tmp_path.glob("*.image")))
    program = """
import json, sys
from sktl.runtime import OnnxClassifier
clf = OnnxClassifier(sys.argv[1])
print(json.dumps([clf.predict(sys.argv[2:]).tolist(), clf.predict_proba(sys.argv[2:]).tolist()]))
"""
    done = subprocess.run(
        [environment_of_three, "-c", program, tmp_path / "cats.onnx", *paths], capture_output=True, text=True,
        timeout=300, env=bare(), cwd=tmp_path,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    labels, probabilities = json.loads(done.stdout)
    assert labels == clf.predict(paths).tolist()
    np.testing.assert_allclose(probabilities, clf.predict_proba(paths), atol=1e-4)


def unusual_files(photo: Image.Image) -> list[bytes]:
    """Return a photo as JPEG that EXIF turns, PNG with alpha, CMYK, and 16 bits."""
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = Image.merge("RGBA", [*photo.split(), photo.getchannel(0)])
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    options = [
        (photo, "JPEG", {"exif": exif}), (alpha, "PNG", {}), (photo.convert("CMYK"), "JPEG", {}), (deep, "PNG", {}),
        (photo.resize((1_500, 1_500)), "JPEG", {}),
    ]  # fmt: skip
    found = []
    for image, kind, extra in options:
        file = io.BytesIO()
        image.save(file, kind, **extra)
        found.append(file.getvalue())
    return found


@pytest.mark.slow
def test_a_photo_is_predicted_within_a_second(tmp_path):
    """Start included, with weights of the size of the bundled network's."""
    model = exported.graph()
    weight = numpy_helper.from_array(np.zeros((3_500_000,), np.float32), "ballast")
    model.graph.initializer.append(weight)
    (tmp_path / "large.onnx").write_bytes(exported.with_text(model, exported.described("classes").to_json()))
    Image.effect_noise((4_000, 3_000), 60).convert("RGB").save(tmp_path / "photo.jpg")
    command = [sys.executable, "-m", "sktl.runtime", "large.onnx", "photo.jpg"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, timeout=60, env=environment(), cwd=tmp_path, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
