"""Processor time of an image in each engine and size of chunk, two threads each running chunks of their own.

    python benchmarks/engines.py efficientnet_lite0 resnet18 [--write docs/guide/speed_and_cache.md]

Random weights. Ratios are medians over rounds in which all engines take turns, so that they hold on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from measuring import report, write_page

from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._features.engines import FrozenPart
from sktl._features.frozen_trunk import Trunk
from sktl._features.openvino import CompiledFunction
from sktl._utils.threads import single_threaded_pool

CPU = torch.device("cpu")
N_IMAGES, ROUNDS, THREADS = 32, 10, 2
TORCH, PLAIN, OPENVINO = "torch", "torch, BatchNorm not folded", "OpenVINO"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    record = {name: measure(name) for name in arguments.networks}
    rows = [(f'`"{name}"`', *(cell(*values) for values in engines.values())) for name, engines in record.items()]
    title = (
        f"Milliseconds of processor time per image, without decoding, with {THREADS} threads and chunks of 4 images. "
        f"The ratio to {TORCH} is in parentheses."
    )
    report("engines", title, ("backbone", *next(iter(record.values()))), rows, record)
    if arguments.write:
        write_page("engines", arguments.write)


def cell(milliseconds: float, ratio: float) -> str:
    return f"{milliseconds:.1f} ({ratio:.2f})"


def measure(name: str) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of processor time per image of each engine, and as a share of those of torch."""
    backbone = resolve_backbone(name, None, None, 0)
    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *backbone.preprocessing.crop, 3), np.uint8)
    with patch.object(Trunk, "_fold"):
        plain = FrozenPart(backbone, CPU).trunk(4)
    folded = FrozenPart(backbone, CPU).trunk(4)
    runs: dict[str, tuple[int, Callable]] = {PLAIN: (4, plain.run), TORCH: (4, folded.run)}
    for chunk, engine in ((4, OPENVINO), (1, f"{OPENVINO}, chunks of 1"), (8, f"{OPENVINO}, chunks of 8")):
        compiled = CompiledFunction(folded.compute, torch.from_numpy(images[:chunk]), THREADS)
        runs[engine] = (chunk, compiled.run)
    times = defaultdict(list)
    with single_threaded_pool(THREADS) as pool:
        for _ in range(ROUNDS):
            for engine, (chunk, run) in runs.items():
                chunks = [images[start : start + chunk] for start in range(0, N_IMAGES, chunk)]
                before = time.process_time()
                list(pool.map(run, chunks))
                times[engine].append(time.process_time() - before)
    return {
        engine: (
            statistics.median(rounds[1:]) / N_IMAGES * 1000,
            statistics.median(one / base for one, base in list(zip(rounds, times[TORCH], strict=True))[1:]),
        )
        for engine, rounds in times.items()
    }


if __name__ == "__main__":
    main()
