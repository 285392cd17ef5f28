"""A program that runs the main paths of sktl in forked children, each after something else has changed their process.

It reads the names of a state and of a backbone as a line of JSON, forks, and writes a line of JSON: what the child
computed. It forks before it has computed anything itself, so that its children are like new processes, without the
seconds of imports.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
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

import numpy as np
import sklearn
import torch
import torch._dynamo  # which optimizers import
from PIL import Image

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder

STATES: dict[str, Callable[[], object]] = {"none": lambda: None}
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
    for name in set(os.environ) - {"PYTHONPATH", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}:
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


def small_network() -> torch.nn.Module:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, 2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    )  # fmt: skip
    network.preprocessing = sktl.Preprocessing(32, (32, 32))
    return network


def features(folder: str, backbone: object) -> str:
    cache = os.path.join(folder, "cache")
    encoder = PretrainedImageEncoder(backbone=backbone, image_size=32, cache=cache, n_jobs=2, random_state=0, verbose=1)
    return digest(encoder.fit_transform(images()))


def main_paths(folder: str, backbone: object) -> dict[str, object]:
    X, y = images(), ["a", "b"] * 6
    shared = {"image_size": 32, "cache": os.path.join(folder, "cache"), "n_jobs": 2, "random_state": 0}
    found = features(folder, backbone), len(sktl.check_images([*X, b"no image"]))
    results: dict[str, object] = {"features": found[0], "failures": found[1]}
    head = PretrainedImageClassifier(backbone=backbone, max_epochs=2, **shared).fit(X, y)
    few = {"trainable_stages": 1, "max_epochs": 1, "freeze_epochs": 1, "early_stopping": True}
    stages = PretrainedImageClassifier(backbone=backbone, **few, validation_fraction=0.25, **shared).fit(X, y)
    for name, clf in {"head": head, "stages": stages}.items():
        results[name] = [digest(clf.predict_proba(X)), clf.predict(X).tolist()]
        results[f"module of {name}"] = digest(
            torch.cat([p.detach().flatten().float() for p in clf.module_.parameters()])
        )
        if not callable(backbone):
            path = os.path.join(folder, f"{name}.sktl")
            clf.save(path)
            loaded = sktl.load(path).set_params(cache=shared["cache"], n_jobs=2)
            results[f"loaded {name}"] = digest(loaded.predict_proba(X))
    return results


def in_child(name: str | None, folder: str, backbone: object) -> dict[str, object]:
    """Return what a forked child computes after its state was changed; its error, if it raises one.

    Without a state, the features alone, which it finds in the cache of the child before.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            if name is None:
                answer = {"features": features(folder, backbone)}
            else:
                STATES[name]()
                answer = main_paths(folder, backbone)
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
    for line in sys.stdin:
        name, backbone = json.loads(line)
        backbone = backbone or small_network
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o777)
        found = in_child(name, folder, backbone)
        later = in_child(None, folder, backbone) if "error" not in found else {}
        print(json.dumps([found, later]), file=out, flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
