"""Tasks for the workers of the cluster, dask's or ray's, that joblib's active backend uses.

joblib.Parallel itself is not used. One task that fails ends its call and loses the results of the others, so that a
killed worker would cost the whole pass. Its ray backend also starts new processes for each call, and each of them would
load the network again.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import pickle
import sys
import threading
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

from joblib.parallel import get_active_backend

Submit: TypeAlias = Callable[[Any], "Future[Any]"]
# Options of ray's actors, which joblib's backend uses, that tasks have, too.
_TASK_OPTIONS = {
    "num_cpus", "num_gpus", "memory", "resources", "accelerator_type", "runtime_env", "scheduling_strategy",
    "label_selector",
}  # fmt: skip
# Functions that a worker keeps: they may contain a network, so they are not sent and read again with each argument.
_MOST_FUNCTIONS = 2


class Cluster(ABC):
    """Workers on which functions run.

    Parameters
    ----------
    n_jobs : int or None
        Number of tasks at once, as in `joblib.parallel_config`. None and -1 use all workers.
    """

    n_threads: int = 1  # of one task

    def __init__(self, n_jobs: int | None):
        self._n_jobs = n_jobs

    def count_slots(self) -> int:
        """Return how many tasks can run at once now."""
        n_all = self._count_all()
        if self._n_jobs is None or self._n_jobs == -1 or not n_all:
            return n_all
        return min(n_all, self._n_jobs) if self._n_jobs > 0 else max(1, n_all + 1 + self._n_jobs)

    @abstractmethod
    def wait_for_workers(self) -> None:
        """Wait until there are workers, as long as joblib would.

        Raises
        ------
        Exception
            Of any type, if there are none.
        """

    @abstractmethod
    def _count_all(self) -> int:
        """Return how many tasks all workers can run at once."""

    @abstractmethod
    def tasks(self, function: Callable[[Any], Any]) -> AbstractContextManager[Submit]:
        """Yield a function that submits a call with one argument. At the end of the block, calls are canceled.

        Function and arguments are pickled by cloudpickle, so they may contain what the user has defined in a notebook.
        """


class DaskCluster(Cluster):
    """The workers of a dask client. Each task is one thread of a worker, so a worker runs as many as it has threads."""

    def __init__(self, backend: Any, n_jobs: int | None):
        super().__init__(n_jobs)
        self._backend = backend
        self._client = backend.client

    def wait_for_workers(self) -> None:
        """Wait for the first worker, by default for 10 seconds."""
        if self._client.status == "closed":  # dask's own error is about its internals
            raise RuntimeError("its client is closed")
        self._backend.effective_n_jobs(-1)

    def _count_all(self) -> int:
        return sum(self._client.ncores().values())

    @contextmanager
    def tasks(self, function: Callable[[Any], Any]) -> Iterator[Submit]:
        dumps = importlib.import_module("cloudpickle").dumps  # a dependency of dask
        token, content = uuid.uuid4().hex, dumps(function)
        executor = self._client.get_executor(pure=False)
        # The function is the result of a task of its own, because dask computes lost results again. Scattered data
        # would be lost with the workers that hold it.
        sent = self._send(content)

        def submit(argument: Any) -> Future[Any]:
            nonlocal sent
            if sent.status in ("error", "cancelled", "lost"):  # its workers were killed too often
                sent = self._send(content)
            call: Future[Any] = executor.submit(_call, token, sent, dumps(argument), **self._backend.submit_kwargs)
            return call

        try:
            yield submit
        finally:
            with contextlib.suppress(Exception):  # the scheduler is lost
                executor.shutdown(wait=False)

    def _send(self, content: bytes) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # sent once
            return self._client.submit(_unchanged, content, pure=False, **self._backend.submit_kwargs)


class RayCluster(Cluster):
    """The workers of ray. Each task is a process that stays for later tasks, with as many threads as it has CPUs."""

    def __init__(self, backend: Any, n_jobs: int | None):
        super().__init__(n_jobs)
        self._ray = sys.modules["ray"]
        options = {k: v for k, v in (backend.ray_remote_args or {}).items() if k in _TASK_OPTIONS}
        self._options = {"num_cpus": 1} | options
        self.n_threads = max(1, int(self._options["num_cpus"]))

    def wait_for_workers(self) -> None:
        """Start ray, or connect to it, if the program has not done so, as joblib's backend would."""
        if not self._ray.is_initialized():
            self._ray.init()

    def _count_all(self) -> int:
        n_cpus = self._ray.cluster_resources().get("CPU", 0)
        return math.floor(n_cpus / (self._options["num_cpus"] or 1))

    @contextmanager
    def tasks(self, function: Callable[[Any], Any]) -> Iterator[Submit]:
        token, dumps = uuid.uuid4().hex, importlib.import_module("ray.cloudpickle").dumps
        # Boxed, because ray would read an argument itself for each task.
        box = [self._ray.put(dumps(function))]
        remote = self._ray.remote(_call_boxed).options(**self._options)
        references: dict[Future[Any], Any] = {}

        def submit(argument: Any) -> Future[Any]:
            reference = remote.remote(token, box, dumps(argument))
            call: Future[Any] = reference.future()
            references[call] = reference
            call.add_done_callback(lambda call: references.pop(call, None))
            return call

        try:
            yield submit
        finally:
            for reference in list(references.values()):
                with contextlib.suppress(Exception):  # the connection is lost
                    self._ray.cancel(reference)


_lock = threading.Lock()
_functions: OrderedDict[str, Any] = OrderedDict()


def _unchanged(content: bytes) -> bytes:
    return content


def _call(token: str, content: bytes, argument: bytes) -> Any:
    return _function(token, lambda: content)(pickle.loads(argument))


def _call_boxed(token: str, box: list[Any], argument: bytes) -> Any:
    return _function(token, lambda: sys.modules["ray"].get(box[0]))(pickle.loads(argument))


def _function(token: str, fetch: Callable[[], bytes]) -> Any:
    with _lock:
        if token not in _functions:
            _functions[token] = pickle.loads(fetch())
        _functions.move_to_end(token)
        while len(_functions) > _MOST_FUNCTIONS:
            _functions.popitem(last=False)
        return _functions[token]


def count_tasks_at_once() -> int:
    """Return how many tasks of a cluster this process may run at once, in threads."""
    worker = _dask_worker()
    return 1 if worker is None else max(1, int(worker.state.nthreads))


def active_cluster() -> Cluster | None:
    """Return the cluster of joblib's active backend; None if the backend has none, or the caller is a task of one.

    A task never spreads its own work. Its cluster is busy with tasks like it, which would wait for each other.
    """
    backend, n_jobs = get_active_backend()
    if _is(backend, "joblib._dask", "DaskDistributedBackend"):
        return None if _dask_worker() is not None else DaskCluster(backend, n_jobs)
    if _is(backend, "ray.util.joblib.ray_backend", "RayBackend"):
        return None if _in_ray_worker() else RayCluster(backend, n_jobs)
    return None


def _is(value: object, module: str, name: str) -> bool:
    """Return True if a value is an instance of a class whose module is not imported without it."""
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name, ()))


def _dask_worker() -> Any:
    """Return the dask worker whose task runs in the calling thread; None if there is none."""
    if "distributed" not in sys.modules:
        return None
    try:
        return sys.modules["distributed"].get_worker()
    except ValueError:
        return None


def _in_ray_worker() -> bool:
    ray = sys.modules["ray"]
    return bool(ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
