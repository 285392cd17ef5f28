"""Pooled outputs of the blocks of a network, computed in the same run as the network's own output.

The output layer of a network sees only the output of the last stage. Outputs of earlier blocks, such as texture, help
if images differ from those of the pretraining. Taps are hooks on blocks: while the network runs as usual, they average
the output of a block over the positions of the image.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from sktl._utils.torch_kernels import place

from .cut import Cut
from .stages import Boundary, Stage, StageMap, channels_last, is_numbered, numbered_blocks, outermost_ends, tensors

_MOST_BLOCKS = 6  # per stage
_LEAST_WEIGHTS = 2  # minimum for a block inside another block, because a single layer is not a block
# Relative to the largest output. Taps do not change the computation, so the network's own output differs by rounding at
# most.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class StageLayout:
    """The meaning of the numbers in a row of features, starting from the network's own output.

    Each value of `feature_stages` selects a prefix of the full row.

    Parameters
    ----------
    groups : tuple of (str, int)
        Module and length of each group of numbers: first the network's own output, whose module is "", then the blocks
        of the last stage, the blocks of the stage before it, and so on. Blocks of a stage are in the order in which
        they run.
    sizes : tuple of int
        Length of the row for 1, 2, ... stages.
    """

    groups: tuple[tuple[str, int], ...]
    sizes: tuple[int, ...]

    @classmethod
    def of_output(cls, n_features: int) -> StageLayout:
        """Return the layout for a network whose blocks cannot be tapped."""
        return cls((("", n_features),), (n_features,))

    @property
    def n_stages(self) -> int:
        """The largest valid `feature_stages`."""
        return len(self.sizes)

    def length(self, feature_stages: int) -> int:
        """Return the length of a row."""
        return self.sizes[feature_stages - 1]

    def count(self, feature_stages: int | str) -> int:
        """Return the number of stages for a parameter, which may be larger than the number of existing stages.

        `"auto"` chooses among the features of all stages.
        """
        return self.n_stages if feature_stages in ("auto", "all") else int(feature_stages)

    def groups_of(self, feature_stages: int) -> tuple[tuple[str, int], ...]:
        """Return the groups of a row."""
        ends = accumulate(size for _, size in self.groups)
        length = self.length(feature_stages)
        return tuple(group for group, end in zip(self.groups, ends, strict=True) if end <= length)

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split full rows into groups, each an array of shape (n_rows, length)."""
        ends = accumulate(size for _, size in self.groups[:-1])
        return np.split(rows, list(ends), axis=1)


class Tapped(nn.Module):
    """A network that returns its own output, followed by the pooled outputs of its blocks.

    Outputs with channels are averaged over positions. Tokens are passed through the layers after the network's last
    block if they have the same shape as the tokens of that block; otherwise, they are averaged.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode. Its blocks get hooks, which do nothing if the network is called directly. Hooks from an
        earlier tapping are removed.
    stages : sequence of sequence of Boundary
        Blocks of each stage, as returned by `stage_blocks`.
    images : float32 tensor of shape (n, 3, H, W)
        Real inputs on which the taps are verified.

    Attributes
    ----------
    layout : StageLayout
        Layout of the output.

    Raises
    ------
    UntappableError
        If a hook is not called exactly once, an output is not one finite row per image, or the network's own output
        changes.
    """

    def __init__(self, network: nn.Module, stages: Sequence[Sequence[Boundary]], images: torch.Tensor):
        super().__init__()
        self.network = network
        blocks = tuple(block for stage in reversed(stages) for block in stage)
        last = next(stage[-1] for stage in reversed(stages) if stage)
        _remove_taps(network)
        place(network, images.device)
        with torch.no_grad():
            expected = network(images[:1])
            pooling = _Pooling(_reading_out(network, last, images), last.shape)
            for block in blocks:
                network.get_submodule(block.module).register_forward_hook(_Tap(block, pooling))
            output, found = _collected(partial(network, images), blocks)
        if not _same(output[:1], expected) or not all(_is_a_row_per_image(pooled, output) for pooled in found.values()):
            raise UntappableError
        # If only pooling follows the last block, its pooled output equals the network's own output.
        repeated = {last} if _same(found[last][0], output) else ()
        self._blocks = tuple(block for block in blocks if block not in repeated)
        self.layout = _layout(stages, {block: found[block][0].shape[1] for block in self._blocks}, output.shape[1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images, self.layout.n_stages)

    def features(self, images: torch.Tensor, feature_stages: int) -> torch.Tensor:
        """Return the beginning of the row that `feature_stages` selects, without computing the rest."""
        return _row(partial(self.network, images), self.blocks_of(feature_stages))

    def blocks_of(self, feature_stages: int) -> tuple[Boundary, ...]:
        """Return the blocks of the last stages, in the order of their groups."""
        return self._blocks[: len(self.layout.groups_of(feature_stages)) - 1]


class TappedCut(Cut):
    """A cut network whose tail returns the network's own output, followed by the pooled outputs of its last blocks.

    `tail(trunk(images))` equals the first numbers of a row of the `Tapped` network.

    Parameters
    ----------
    tapped : Tapped
        Its network is changed in place.
    feature_stages : int
        Number of last stages whose blocks are pooled, at most `n_tail_stages`.
    stage_map, n_tail_stages, images
        See `Cut`.
    """

    _blocks: tuple[Boundary, ...] = ()

    def __init__(
        self, tapped: Tapped, stage_map: StageMap, n_tail_stages: int, feature_stages: int, images: torch.Tensor
    ):
        super().__init__(tapped.network, stage_map, n_tail_stages, images)
        self._blocks = tapped.blocks_of(feature_stages)
        self.feature_stages = feature_stages
        self.groups = tapped.layout.groups_of(feature_stages)

    def tail(self, activations: torch.Tensor) -> torch.Tensor:
        return _row(partial(super().tail, activations), self._blocks)


@dataclass(frozen=True)
class _Pooling:
    """Pooling of outputs of blocks to one row per image.

    Parameters
    ----------
    read_out : callable or None
        Maps tokens of the last block to the network's output.
    token_shape : tuple of int
        Shape of these tokens for one image.
    """

    read_out: Callable[[torch.Tensor], torch.Tensor] | None
    token_shape: tuple[int, ...]

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        if self.read_out is None or tuple(output.shape[1:]) != self.token_shape:
            return mean_over_positions(output)
        with _collecting(None):  # the read-out runs the network's forward method, which would call the hooks
            return self.read_out(output)


def mean_over_positions(output: torch.Tensor) -> torch.Tensor:
    """Return the average of the output of a block over the positions in the image, one row per image."""
    if output.ndim > 3:
        return output.mean((1, 2) if channels_last(output.shape[1:]) else (2, 3))
    return output.mean(1)


@dataclass(frozen=True)
class _Tap:
    """A hook that pools the output of a block. A class, because networks with hooks are copied and pickled."""

    block: Boundary
    pooling: _Pooling

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        found = _found.get()
        if found is not None and self.block in found:
            # Pooled immediately, because the next operation may change the output in place.
            found[self.block].append(self.pooling(tensors(output)[self.block.output]))


def _remove_taps(network: nn.Module) -> None:
    for module in network.modules():
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, _Tap)]:
            del module._forward_hooks[key]


class UntappableError(Exception):
    """The blocks of a network cannot be tapped."""


_Found: TypeAlias = dict[Boundary, list[torch.Tensor]]

# A context variable, because the threads of a pass share the modules.
_found: ContextVar[_Found | None] = ContextVar("found", default=None)


@contextmanager
def _collecting(found: _Found | None) -> Iterator[None]:
    token = _found.set(found)
    try:
        yield
    finally:
        _found.reset(token)


def _collected(run: Callable[[], torch.Tensor], blocks: Sequence[Boundary]) -> tuple[torch.Tensor, _Found]:
    """Return the output of a run of a network, and what the taps of some blocks found."""
    found: _Found = {block: [] for block in blocks}
    with _collecting(found):
        return run(), found


def _row(run: Callable[[], torch.Tensor], blocks: Sequence[Boundary]) -> torch.Tensor:
    output, found = _collected(run, blocks)
    return torch.cat([output, *(pooled for block in blocks for pooled in found[block])], dim=1)


def stage_blocks(network: nn.Module, stage_map: StageMap) -> list[list[Boundary]]:
    """Return the ends of the blocks of each stage, input first, at most six blocks per stage.

    Blocks are the outermost numbered modules with at least two layers that are inside the numbered modules of a stage;
    without such modules, they are the numbered modules themselves. A stage without blocks is represented by its end,
    except the last stage, whose end is the network's output.
    """
    if not stage_map.exact or len(stage_map.stages) < 2:
        return []
    if stage_map.blocks is not None:
        return [list(stage) for stage in stage_map.blocks]
    order = {end: i for i, ends in enumerate(stage_map.singles) for end in ends}
    ends = [order[boundary] for boundary in stage_map.boundaries]
    stages: list[list[Boundary]] = [[] for _ in stage_map.stages]
    for block in _blocks(network, stage_map.singles):
        stages[bisect_left(ends, order[block])].append(block)
    for stage, boundary in zip(stages, stage_map.boundaries, strict=False):
        stage[:] = _spaced(stage) or [boundary]
    stages[-1] = _spaced(stages[-1])
    return stages


def _blocks(network: nn.Module, singles: Sequence[Sequence[Boundary]]) -> list[Boundary]:
    numbered = {
        name
        for name, module in network.named_modules()
        if is_numbered(name) and sum(p.ndim > 1 for p in module.parameters()) >= _LEAST_WEIGHTS
    }
    found = []
    for block in numbered_blocks(network, singles):
        inside = {name for name in numbered if name.startswith(f"{block.module}.")}
        found += outermost_ends(singles, inside) or [block]
    return [block for block in found if block.area]


def _spaced(blocks: Sequence[Boundary]) -> list[Boundary]:
    """Return at most `_MOST_BLOCKS` evenly spaced blocks, including the last one."""
    n = min(len(blocks), _MOST_BLOCKS)
    return [blocks[(i + 1) * len(blocks) // n - 1] for i in range(n)]


def _reading_out(network: nn.Module, last: Boundary, images: torch.Tensor) -> Callable[[torch.Tensor], Any] | None:
    """Return the function from tokens of the last block to the network's output; None if there is no such function."""
    if len(last.shape) != 2:
        return None
    halves = StageMap((Stage("", 0),) * 2, (frozenset(),) * 2, (last,), exact=True)
    cut = Cut(network, halves, 1, images)
    return cut.tail if cut.split else None


def _same(found: Any, expected: Any) -> bool:
    if not isinstance(expected, torch.Tensor) or expected.ndim != 2 or found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())


def _is_a_row_per_image(pooled: Sequence[torch.Tensor], output: torch.Tensor) -> bool:
    """Return True if a hook was called once and returned one finite row for each image."""
    once = len(pooled) == 1 and pooled[0].ndim == 2 and len(pooled[0]) == len(output)
    return once and bool(pooled[0].isfinite().all())


def _layout(stages: Sequence[Sequence[Boundary]], widths: Mapping[Boundary, int], n_features: int) -> StageLayout:
    sizes = [sum(widths.get(block, 0) for block in stage) for stage in reversed(stages)]
    lengths = list(accumulate(sizes, initial=n_features))[1:]
    groups = [("", n_features), *((block.module, width) for block, width in widths.items())]
    return StageLayout(tuple(groups), (n_features, *lengths[1:]))
