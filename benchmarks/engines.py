"""Time and processor time of an image in each engine and size of chunk, two threads each running chunks of their own.

    python benchmarks/engines.py efficientnet_lite0 resnet18

Random weights. Ratios are medians over rounds in which all engines take turns, so that they hold on a busy machine.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch

from sktl._backbones import resolve_backbone
from sktl._openvino import CompiledFunction
from sktl._torch import single_threaded_pool
from sktl._trunk import Trunk

CPU = torch.device("cpu")
N_IMAGES, ROUNDS, THREADS = 32, 10, 2


def main() -> None:
    warnings.simplefilter("ignore")
    for name in sys.argv[1:]:
        measure(name)


def measure(name: str) -> None:
    backbone = resolve_backbone(name, None, None, 0)
    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *backbone.preprocessing.crop, 3), np.uint8)
    with patch.object(Trunk, "_fold"):
        plain = Trunk(backbone, CPU)
    folded = Trunk(backbone, CPU)
    runs: dict[str, tuple[int, Callable]] = {"torch 4, not folded": (4, plain.run), "torch 4": (4, folded.run)}
    for chunk in (1, 4, 8):
        compiled = CompiledFunction(folded.compute, torch.from_numpy(images[:chunk]), THREADS)
        runs[f"openvino {chunk}"] = (chunk, compiled.run)
    times = defaultdict(list)
    with single_threaded_pool(THREADS) as pool:
        for _ in range(ROUNDS):
            for engine, (chunk, run) in runs.items():
                chunks = [images[start : start + chunk] for start in range(0, N_IMAGES, chunk)]
                before = time.perf_counter(), time.process_time()
                list(pool.map(run, chunks))
                times[engine].append((time.perf_counter() - before[0], time.process_time() - before[1]))
    for engine, rounds in times.items():
        values = [statistics.median(r[i] for r in rounds[1:]) / N_IMAGES * 1000 for i in (0, 1)]
        pairs = list(zip(rounds, times["torch 4"], strict=True))[1:]
        ratios = [statistics.median(r[i] / base[i] for r, base in pairs) for i in (0, 1)]
        print(
            f"{name:28} {engine:20} {values[0]:6.1f} ms, {values[1]:6.2f} ms of processor time per image; "
            f"of torch 4: {ratios[0]:.2f}, {ratios[1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
