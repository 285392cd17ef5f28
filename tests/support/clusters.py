"""Clusters for tests: threads whose tasks fail as a test wants, and what real workers are asked to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import cloudpickle
import torch
from backbones import Pixels

from sktl._utils.dask_and_ray import Cluster, active_cluster


class ThreadCluster(Cluster):
    """A cluster of two threads.

    Parameters
    ----------
    fate : callable
        Maps the number of a submission, counted from 0, to "answer", "fail" or "never".
    alter : callable
        Changes the samples of a block on their way.
    """

    def __init__(self, fate: Callable[[int], str] = lambda n: "answer", alter: Callable[[Any], Any] = lambda x: x):
        super().__init__(None)
        self.fate = fate
        self.alter = alter
        self.n_workers = 2
        self.blocks: list[Any] = []
        self.open: set[Future[Any]] = set()
        self.most_open = 0
        self.closed = False

    def wait_for_workers(self) -> None:
        pass

    def _count_all(self) -> int:
        return self.n_workers

    @contextmanager
    def tasks(self, function: Callable[[Any], Any]) -> Iterator[Callable[[Any], Future[Any]]]:
        function = cloudpickle.loads(cloudpickle.dumps(function))
        pool = ThreadPoolExecutor(2)

        def submit(samples: Any) -> Future[Any]:
            fate, argument = self.fate(len(self.blocks)), cloudpickle.dumps(self.alter(samples))
            self.blocks.append(samples)
            future: Future[Any] = Future()
            if fate == "fail":
                future.set_exception(OSError("the worker is gone"))
            elif fate == "answer":
                future = pool.submit(lambda: function(cloudpickle.loads(argument)))
            self.open = {one for one in self.open if not one.done()} | {future}
            self.most_open = max(self.most_open, len(self.open))
            return future

        try:
            yield submit
        finally:
            self.closed = True
            self.open.clear()
            pool.shutdown(wait=True)


class SlowPixels(Pixels):
    """Takes 5 ms for an image, and appends its process to the file that SKTL_TEST_WORKERS names."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with open(os.environ["SKTL_TEST_WORKERS"], "a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.005 * len(images))
        return super().forward(images)


def spreads() -> bool:
    """Return True if a pass would be spread over workers."""
    return active_cluster() is not None
