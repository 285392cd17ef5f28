"""A program that runs the main paths of sktl in forked children, each after something else has changed their process.

Its argument is a folder for its own use. It reads names of states and the name of a backbone, null for a small network,
as a line of JSON, forks, and writes a line of JSON: what the child computed. It forks before it has computed anything
itself, so that its children are like new processes, without the seconds of imports.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib
import io
import json
import locale
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader

import numpy as np
import safetensors.torch
import sklearn
import timm
import torch
import torch._dynamo  # which optimizers import
import torchvision.transforms.v2  # noqa: F401 - which augmentation imports
from PIL import Image

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder

Image.init()  # imports all of its formats
STATES: dict[str, Callable[[], object]] = {}
_entered = contextlib.ExitStack()  # never left


def state(function: Callable[[], object]) -> Callable[[], object]:
    STATES[function.__name__] = function
    return function


# ---------------------------------------------------------------------------------------------------------------- torch


@state
def default_dtype_of_notebooks_for_language_models():
    torch.set_default_dtype(torch.bfloat16)


@state
def default_dtype_double():
    torch.set_default_dtype(torch.float64)


@state
def default_device():
    torch.set_default_device("meta")


@state
def device_block():
    _entered.enter_context(torch.device("meta"))


@state
def inference_mode():
    _entered.enter_context(torch.inference_mode())


@state
def no_grad():
    torch.set_grad_enabled(False)


@state
def autocast():
    _entered.enter_context(torch.autocast("cpu", torch.bfloat16))


@state
def anomaly_detection():
    torch.autograd.set_detect_anomaly(True)


@state
def backward_hooks_of_all_modules():
    torch.nn.modules.module.register_module_full_backward_hook(lambda *call: None)
    torch.nn.modules.module.register_module_full_backward_pre_hook(lambda *call: None)


@state
def forbidden_saved_tensors_hooks():
    _entered.enter_context(torch.autograd.graph.disable_saved_tensors_hooks("forbidden"))


@state
def deterministic_algorithms():
    torch.use_deterministic_algorithms(True)


@state
def medium_precision():
    torch.set_float32_matmul_precision("medium")


@state
def reduced_precision_of_onednn():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"


@state
def flushed_denormals():
    torch.set_flush_denormal(True)


@state
def without_onednn():
    torch.backends.mkldnn.enabled = False


@state
def other_numbers_of_threads():
    torch.set_num_threads(5)
    torch.set_num_interop_threads(3)


@state
def swapped_parameters():
    torch.__future__.set_swap_module_params_on_conversion(True)


@state
def global_generators():
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002


# ---------------------------------------------------------------------------------------------- NumPy and scikit-learn


@state
def floating_point_errors():
    np.seterr(all="raise")


@state
def numpy_printing():
    np.set_printoptions(legacy="1.13", precision=1, threshold=1)


@state
def frames():
    sklearn.set_config(transform_output="pandas")


@state
def metadata_routing():
    sklearn.set_config(enable_metadata_routing=True, assume_finite=True, array_api_dispatch=True)


@state
def warnings_as_errors():
    warnings.simplefilter("error")


# -------------------------------------------------------------------------------------------------------------- Python


@state
def without_docstrings():
    """Import sktl again as `python -OO` does; a process of its own would spend its time compiling torch."""

    class Optimizing(SourceFileLoader):
        def get_code(self, fullname):
            if fullname.partition(".")[0] != "sktl":
                return super().get_code(fullname)
            return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True, optimize=2)

    sys.path_hooks.insert(0, FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (Optimizing, [".py"])))
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "sktl"]:
        del sys.modules[name]
    again = importlib.import_module("sktl")
    assert again.load.__doc__ is None
    names = ("PretrainedImageClassifier", "PretrainedImageEncoder")
    globals().update(sktl=again, **{name: getattr(again, name) for name in names})


# -------------------------------------------------------------------------------------------------------------- system


@state
def no_stderr():
    sys.stderr = None


@state
def no_stdout():
    sys.stdout = None


@state
def closed_streams():
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    sys.stdout.close(), sys.stderr.close()


@state
def stderr_that_only_writes():
    class WriteOnly:
        def write(self, text):
            return len(text)

    sys.stderr = WriteOnly()


@state
def closed_descriptors():
    os.close(0)
    os.close(2)
    sys.stderr = sys.__stderr__ = None


@state
def the_c_locale():
    locale.setlocale(locale.LC_ALL, "C")
    os.environ.update(LC_ALL="C", LANG="C")


@state
def removed_directory():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


@state
def umask_of_nothing():
    os.umask(0o777)


@state
def umask_of_everything():
    os.umask(0)


@state
def no_environment():
    for name in set(os.environ) - {"PYTHONPATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "SCIPY_ARRAY_API"}:
        del os.environ[name]


@state
def signals():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)


@state
def tracing():
    sys.settrace(lambda *event: None)
    threading.settrace(lambda *event: None)
    threading.setprofile(lambda *event: None)


@state
def scheduling():
    sys.setswitchinterval(1e-6)
    gc.disable()
    gc.freeze()


@state
def forking_by_default():
    multiprocessing.set_start_method("fork", force=True)


# ---------------------------------------------------------------------------------------------------------- main paths


def images() -> list[object]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 40, 40, 3)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels[0]).save(png, "PNG")
    return [png.getvalue(), Image.fromarray(pixels[1]), *pixels[2:]]


def digest(array: object) -> str:
    return hashlib.sha256(np.ascontiguousarray(np.asarray(array)).tobytes()).hexdigest()[:16]


def small_network(folder: str) -> dict[str, object]:
    """Return the parameters that say so, its weights in a file in a folder."""
    path = os.path.join(folder, "weights.safetensors")
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), path)
    return {"backbone": "timm/test_resnet", "weights": path, "engine": "torch"}


def features(folder: str, network: dict[str, object]) -> str:
    cache = os.path.join(folder, "cache")
    encoder = PretrainedImageEncoder(**network, image_size=32, cache=cache, n_jobs=2, random_state=0, verbose=1)
    return digest(encoder.fit_transform(images()))


def main_paths(folder: str, network: dict[str, object]) -> dict[str, object]:
    X, y = images(), ["a", "b"] * 6
    shared = {"image_size": 32, "cache": os.path.join(folder, "cache"), "n_jobs": 2, "random_state": 0} | network
    found = features(folder, network), len(sktl.check_images([*X, b"no image"]))
    results: dict[str, object] = {"features": found[0], "failures": found[1]}
    head = PretrainedImageClassifier(max_epochs=2, **shared).fit(X, y)
    few = {"trainable_stages": 1, "max_epochs": 1, "freeze_epochs": 1, "lr": 0.003, "early_stopping": True}
    stages = PretrainedImageClassifier(**few, validation_fraction=0.25, **shared).fit(X, y)
    for name, clf in {"head": head, "stages": stages}.items():
        results[name] = [digest(clf.predict_proba(X)), clf.predict(X).tolist()]
        results[f"module of {name}"] = digest(
            torch.cat([p.detach().flatten().float() for p in clf.module_.parameters()])
        )
    path = os.path.join(folder, "model.sktl")
    stages.save(path)
    loaded = sktl.load(path).set_params(cache=shared["cache"], n_jobs=2)
    return results | {"loaded": digest(loaded.predict_proba(X))}


def under(names: list[str], folder: str, network: dict[str, object]) -> dict[str, object]:
    """Return what is computed under some states at once."""
    for name in names:
        STATES[name]()
    return main_paths(folder, network)


def later_features(folder: str, network: dict[str, object]) -> dict[str, object]:
    """Return the features alone, which are in the cache of the process before."""
    return {"features": features(folder, network)}


def in_child(compute: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Return what a forked child computes; its error, if it raises one."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            answer = compute()
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.wait()
    return json.loads(answer) if answer else {"error": "the process died"}


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    small = small_network(sys.argv[1])
    for line in sys.stdin:
        names, backbone = json.loads(line)
        network = {"backbone": backbone} if backbone else small
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o777)
        found = in_child(functools.partial(under, names, folder, network))
        later = in_child(functools.partial(later_features, folder, network)) if "error" not in found else {}
        print(json.dumps([found, later]), file=out, flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
