"""A library that does not fit the installed torch is named with the remedy, not taken for a fault of the images."""

import subprocess
import sys

import pytest

from sktl._backbones.library_imports import library
from sktl.exceptions import BackboneError


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("no symbol")])
def test_a_library_that_cannot_be_imported_is_named_with_the_remedy(monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "library_that_fails":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(BackboneError, match=f"library_that_fails .*{error}.* pip install --upgrade torch torchvision"):
        library("library_that_fails")


@pytest.mark.thorough
def test_a_fit_beside_a_torchvision_that_does_not_fit_says_so():
    program = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
import numpy as np, sktl
X, params = np.zeros((2, 32, 32, 3), np.uint8), {"cache": False, "engine": "torch", "image_size": 32}
sktl.PretrainedImageClassifier(**params).fit(X, [0, 1])  # the bundled network needs no torchvision
try:
    sktl.PretrainedImageClassifier(backbone="resnet18", **params).fit(X, [0, 1])
except sktl.exceptions.BackboneError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install --upgrade torch torchvision" in found.stdout
    assert "image_size" not in found.stdout
