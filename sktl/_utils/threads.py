"""Intra-op threads of PyTorch, a process-wide setting that is changed at most for the duration of a block."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import joblib
import torch

from .devices import Result
from .settings_isolation import Loan


def _run_in_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# `torch.set_num_threads` sets the number of the calling thread and also the number with which later threads of the
# process start. The second number would leak, so a new thread reads and restores it.
_loan = Loan(
    lambda: _run_in_new_thread(torch.get_num_threads),
    lambda _: None,  # each block sets the number of its own threads
    lambda saved: _run_in_new_thread(functools.partial(torch.set_num_threads, saved)),
)


def _compute_alone() -> None:
    """Set the number of intra-op threads to one in the calling thread."""
    # A thread that has never queried its number uses the number of the process when it first computes, even if it has
    # set its own.
    torch.get_num_threads()
    torch.set_num_threads(1)


def n_threads(n_jobs: int | None) -> int:
    """Return the number of threads for an `n_jobs` parameter."""
    if n_jobs is None:
        return torch.get_num_threads()
    return n_jobs if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + n_jobs)


@contextmanager
def single_threaded_pool(n_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads in each of which torch computes with one intra-op thread.

    If the block raises an error, KeyboardInterrupt included, work that has not started is canceled.
    """
    with _loan.block():
        pool = ThreadPoolExecutor(n_workers, "sktl", initializer=_compute_alone)
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Compute with one intra-op thread in the calling thread, so that results do not depend on the number of cores."""
    before = torch.get_num_threads()
    with _loan.block():
        try:
            torch.set_num_threads(1)
            yield
        finally:
            torch.set_num_threads(before)
