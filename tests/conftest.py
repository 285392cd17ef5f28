"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# SciPy reads it at import, and one of scikit-learn's checks is skipped without it.
os.environ["SCIPY_ARRAY_API"] = "1"
# Workers share the cores. With as many threads in each as there are cores, they would wait for one another, spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
sys.path.insert(0, str(Path(__file__).parent / "support"))
# How long an example takes says what else the machine does. Where changes are checked, examples are the same in each
# run, so that no change is refused for an example that has nothing to do with it. Other runs find new ones. "many" is
# chosen by `pytest --hypothesis-profile=many`.
settings.register_profile("sktl", deadline=None, derandomize="CI" in os.environ, max_examples=25)
settings.register_profile("many", settings.get_profile("sktl"), max_examples=100)
settings.load_profile("sktl")


def pytest_configure(config):
    """Let warnings of ours be errors; not in pyproject.toml, where pytest imports sktl before coverage is measured."""
    for kind in ("BackboneWarning", "ImageFolderWarning"):
        config.addinivalue_line("filterwarnings", f"error::sktl.exceptions.{kind}")


def pytest_collection_finish(session):
    """Let no collection of garbage look at torch and at all tests again, which takes half a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def few_penalties(request):
    """Let classifiers choose among three penalties only, because the choice takes most of the time of a small fit.

    Modules with the mark `all_penalties` try all, and so does every process that tests start without a fork.
    """
    if request.node.get_closest_marker("all_penalties"):
        yield
        return
    from less_to_compute import try_few_penalties  # not before the environment is set

    with pytest.MonkeyPatch.context() as patch:
        try_few_penalties(patch, 3, ["cross_entropy"])
        yield


@pytest.fixture
def simulated_cuda(monkeypatch):
    """Let tensors that are sent to CUDA stay where they are; all else behaves as on an accelerator."""
    import torch  # not before the environment is set

    to = torch.Tensor.to

    def stay(self, *arguments, **named):
        cpu = torch.device("cpu")
        replaced = [cpu if isinstance(a, torch.device) and a.type == "cuda" else a for a in arguments]
        return to(self, *replaced, **named)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    return torch.device("cuda")


@pytest.fixture(scope="session")
def redis_server():
    """Run one server for all tests that ask for it; they take turns, and empty it first."""
    import redis_server

    if missing := redis_server.missing():
        pytest.skip(missing)
    with redis_server.running_redis() as server:
        yield server
