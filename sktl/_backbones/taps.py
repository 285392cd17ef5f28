"""Pooled outputs of the blocks of a network, computed in the same run as the network's own output.

The output layer of a network sees only the output of the last stage. Outputs of earlier blocks, which describe texture,
for instance, help if images differ from the pretraining images. Taps are hooks on blocks: while the network runs as
usual, they compute the mean and the standard deviation of the output of a block over the positions of the image. A
small detail, such as a crack, hardly changes the mean, but it does change the standard deviation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import nn

from sktl._utils.torch_kernels import place

from .cut import Cut
from .stages import (
    Boundary,
    Stage,
    StageMap,
    is_numbered,
    numbered_blocks,
    outermost,
    outermost_ends,
    record,
    tensors,
)

_MOST_BLOCKS = 6  # per stage
_LEAST_WEIGHTS = 2  # minimum for a block inside another block, because a single layer is not a block
# Relative to the largest output. Taps do not change the computation, so the network's own output differs by rounding at
# most.
_TOLERANCE = 1e-4
# Standard deviations include this fraction of the mean. Otherwise, the standard deviation of an output that is the same
# everywhere would be a rounding error, which differs between engines and which standardization would enlarge.
_OF_MEAN = 1e-3
# The square root has no finite gradient at 0. Smaller variances get the gradient 0.
_LEAST_VARIANCE = torch.finfo(torch.float32).tiny
# Ends the names of groups of standard deviations.
DEVIATION = "_std"
# Number of stages of which the first describes texture; see `StageLayout.texture`.
TEXTURE_STAGES = 3


@dataclass(frozen=True)
class StageLayout:
    """The meaning of the numbers in a row of features, starting from the network's own output.

    Each value of `feature_stages` selects a prefix of the full row.

    Parameters
    ----------
    groups : tuple of (str, int)
        Name and length of each group of numbers: first the network's own output, whose name is "", then the blocks of
        the last stage, the blocks of the stage before it, and so on. Blocks of a stage are in the order in which they
        run. Means have the name of the module; standard deviations follow them, with "_std" after the name.
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
        """Return the number of stages for a `feature_stages` parameter. It may exceed the number of existing stages.

        `"auto"` chooses among the features of all stages.
        """
        return self.n_stages if feature_stages in ("auto", "all") else int(feature_stages)

    def groups_of(self, feature_stages: int) -> tuple[tuple[str, int], ...]:
        """Return the groups of a row."""
        ends = accumulate(size for _, size in self.groups)
        length = self.length(feature_stages)
        return tuple(group for group, end in zip(self.groups, ends, strict=True) if end <= length)

    @property
    def texture(self) -> slice:
        """The columns of the third stage from the end, which describe texture rather than objects.

        Empty if the network has fewer stages, or if this stage returns tokens.
        """
        if self.n_stages < TEXTURE_STAGES:
            return slice(0, 0)
        columns = slice(self.length(TEXTURE_STAGES - 1), self.length(TEXTURE_STAGES))
        own = self.groups_of(TEXTURE_STAGES)[len(self.groups_of(TEXTURE_STAGES - 1)) :]
        return columns if all(f"{name}{DEVIATION}" in dict(own) for name, _ in own[::2]) else slice(0, 0)

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Split full rows into groups, each an array of shape (n_rows, length)."""
        ends = accumulate(size for _, size in self.groups[:-1])
        return np.split(rows, list(ends), axis=1)


class Tapped(nn.Module):
    """A network that returns its own output, followed by the pooled outputs of its blocks.

    Outputs with channels become means and standard deviations over positions. Tokens are passed through the layers
    after the network's last block if they have the same shape as the tokens of that block; otherwise, they are
    averaged.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode. Its blocks get hooks, which do nothing if the network is called directly. Hooks from an
        earlier tapping are removed.
    stages : sequence of sequence of Boundary
        Blocks of each stage, as returned by `stage_blocks`.
    images : float32 tensor of shape (n, 3, H, W)
        Inputs on which the taps are verified.

    Attributes
    ----------
    layout : StageLayout
        Layout of the output.

    Raises
    ------
    UntappableError
        If a hook is not called exactly once, an output is not one finite row per image, or the network's own output
        changes.

    References
    ----------
    - U. Evci et al., "Head2Toe: utilizing intermediate representations for better transfer learning", ICML 2022.
    - D. Snyder et al., "X-vectors: robust DNN embeddings for speaker recognition", ICASSP 2018, for mean and standard
      deviation together.
    """

    def __init__(self, network: nn.Module, stages: Sequence[Sequence[Boundary]], images: torch.Tensor):
        super().__init__()
        self.network = network
        blocks = tuple(block for stage in reversed(stages) for block in stage)
        last = next(stage[-1] for stage in reversed(stages) if stage)
        _remove_taps(network)
        place(network, images.device)
        with torch.no_grad():
            expected = network(images[:1].clone())  # a network may change its input in place
            pooling = _Pooling(_reading_out(network, last, images), last.shape)
            for block in blocks:
                network.get_submodule(block.module).register_forward_hook(_Tap(block, pooling))
            output, found = _collected(partial(network, images.clone()), blocks)
        pooled = {_Group(block, i): rows for block in blocks for i, rows in enumerate(_pooled_once(found[block]))}
        if not _same(output[:1], expected) or not all(_is_a_row_per_image(rows, output) for rows in pooled.values()):
            raise UntappableError
        # If a network's output is the mean of its last positions, these contribute only their standard deviations.
        # Blocks before layers with weights are kept even if they return the same. Otherwise, blocks that hardly change
        # their input, as with LayerScale before training, would make the layout depend on the weights.
        repeats = {group for group, rows in pooled.items() if _same(rows, output)}
        if repeats - {_Group(last, 0)}:
            ends = _ends(network, last.module, images[:1])
            repeats = {group for group in repeats if group.block.module in ends}
        self._groups = tuple(group for group in pooled if group not in repeats)
        self.layout = _layout(stages, {group: pooled[group].shape[1] for group in self._groups}, output.shape[1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images, self.layout.n_stages)

    def features(self, images: torch.Tensor, feature_stages: int) -> torch.Tensor:
        """Return the beginning of the row that `feature_stages` selects, without computing the rest."""
        return _row(partial(self.network, images), self.groups_of(feature_stages))

    def groups_of(self, feature_stages: int) -> tuple[_Group, ...]:
        """Return the groups of the last stages, in order."""
        return self._groups[: len(self.layout.groups_of(feature_stages)) - 1]


class TappedCut(Cut):
    """A cut network whose tail returns the network's own output, followed by the pooled outputs of its last blocks.

    `tail(trunk(images))` equals the beginning of a row of the `Tapped` network.

    Parameters
    ----------
    tapped : Tapped
        Its network is changed in place.
    feature_stages : int
        Number of last stages whose blocks are pooled, at most `n_tail_stages`.
    stage_map, n_tail_stages, images
        See `Cut`.
    """

    _pooled: tuple[_Group, ...] = ()

    def __init__(
        self, tapped: Tapped, stage_map: StageMap, n_tail_stages: int, feature_stages: int, images: torch.Tensor
    ):
        super().__init__(tapped.network, stage_map, n_tail_stages, images)
        self._pooled = tapped.groups_of(feature_stages)
        self.feature_stages = feature_stages
        self.groups = tapped.layout.groups_of(feature_stages)

    def tail(self, activations: torch.Tensor) -> torch.Tensor:
        return _row(partial(super().tail, activations), self._pooled)


class _Group(NamedTuple):
    """One pooled output of a block.

    Attributes
    ----------
    block : Boundary
    statistic : int
        0 for the mean, or the tokens that the network reads out; 1 for the standard deviation.
    """

    block: Boundary
    statistic: int

    @property
    def name(self) -> str:
        """The name of the group in a `StageLayout`."""
        return self.block.module + DEVIATION * self.statistic


@dataclass(frozen=True)
class _Pooling:
    """Pooling of outputs of blocks to rows, one per image.

    Parameters
    ----------
    read_out : callable or None
        Maps tokens of the last block to the network's output.
    token_shape : tuple of int
        Shape of these tokens for one image.
    """

    read_out: Callable[[torch.Tensor], torch.Tensor] | None
    token_shape: tuple[int, ...]

    def __call__(self, output: torch.Tensor, channels_last: bool) -> tuple[torch.Tensor, ...]:
        if output.ndim > 3:
            return mean_over_positions(output, channels_last), deviation_over_positions(output, channels_last)
        if self.read_out is None or tuple(output.shape[1:]) != self.token_shape:
            return (mean_over_positions(output, channels_last),)
        with _collecting(None):  # the read-out runs the network's forward method, which would call the hooks
            return (self.read_out(output),)


def mean_over_positions(output: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return the mean of the output of a block over the positions in the image, one row per image."""
    return output.mean(_positions(output, channels_last))


def deviation_over_positions(output: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return standard deviations over the positions in the image, of shape (n, C), with a little of the means.

    `output` has shape (n, H, W, C) if `channels_last`, else (n, C, H, W). The variance is divided by the number of
    positions.
    """
    axes = _positions(output, channels_last)
    outputs = output.to(torch.promote_types(output.dtype, torch.float32))  # squares overflow in half precision
    mean = outputs.mean(axes, keepdim=True)
    # The mean of squares minus the square of the mean would lose all digits where a channel hardly varies.
    variance = (outputs - mean).square().mean(axes) + (_OF_MEAN * mean.flatten(1)).square()
    return variance.clamp_min(_LEAST_VARIANCE).sqrt().to(output.dtype)


def _positions(output: torch.Tensor, channels_last: bool) -> tuple[int, ...]:
    """Return the axes of positions in the image."""
    if output.ndim < 4:
        return (1,)
    return (1, 2) if channels_last else (2, 3)


@dataclass(frozen=True)
class _Tap:
    """A hook that pools the output of a block. A class, because networks with hooks are copied and pickled."""

    block: Boundary
    pooling: _Pooling

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        found = _found.get()
        if found is not None and self.block in found:
            # Pooled immediately, because the next operation may change the output in place.
            pooled = self.pooling(tensors(output)[self.block.output], self.block.channels_last)
            found[self.block].append(pooled)


def _remove_taps(network: nn.Module) -> None:
    for module in network.modules():
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, _Tap)]:
            del module._forward_hooks[key]


class UntappableError(Exception):
    """The blocks of a network cannot be tapped."""


_Found: TypeAlias = dict[Boundary, list[tuple[torch.Tensor, ...]]]

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


def _row(run: Callable[[], torch.Tensor], groups: Sequence[_Group]) -> torch.Tensor:
    output, found = _collected(run, [group.block for group in groups])
    return torch.cat([output, *(found[block][0][statistic] for block, statistic in groups)], dim=1)


def stage_blocks(network: nn.Module, stage_map: StageMap) -> list[list[Boundary]]:
    """Return the ends of the blocks of each stage, input first, at most six blocks per stage.

    Within each numbered module of a stage, the blocks are the outermost numbered modules with at least two layers. If
    there are none, the numbered module itself is a block. A stage without blocks is represented by its end, except the
    last stage, whose end is the network's output. The last tensor with channels and positions, which the network
    averages for its output, counts as a block of the last stage.
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
    end = order[(stages[-1] or stage_map.boundaries)[-1]]
    stages[-1] += _last_positions(stage_map.singles[end + 1 :])
    return stages


def _last_positions(singles: Sequence[Sequence[Boundary]]) -> list[Boundary]:
    """Return the last tensor with channels and several positions, if there is one."""
    found = [outermost(aliases) for aliases in singles if len(aliases[0].shape) == 3 and aliases[0].area > 1]
    return found[-1:]


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


def _ends(network: nn.Module, last: str, images: torch.Tensor) -> set[str]:
    """Return the modules after whose calls no layer with weights runs up to the end of the call of `last`."""
    with torch.no_grad():
        names = [call.name for call in record(network, images)[0]]
    ends = set()
    for name in reversed(names[: names.index(last) + 1]):
        ends.add(name)
        if next(network.get_submodule(name).parameters(recurse=False), None) is not None:
            break
    return ends


def _same(found: Any, expected: Any) -> bool:
    if not isinstance(expected, torch.Tensor) or expected.ndim != 2 or found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())


def _pooled_once(found: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Return what a tap found in a run. Raise `UntappableError` unless its hook was called once."""
    if len(found) != 1:
        raise UntappableError
    return found[0]


def _is_a_row_per_image(rows: torch.Tensor, output: torch.Tensor) -> bool:
    """Return True if rows are finite, one for each image."""
    return rows.ndim == 2 and len(rows) == len(output) and bool(rows.isfinite().all())


def _layout(stages: Sequence[Sequence[Boundary]], widths: Mapping[_Group, int], n_features: int) -> StageLayout:
    sizes = [sum(width for group, width in widths.items() if group.block in stage) for stage in reversed(stages)]
    lengths = list(accumulate(sizes, initial=n_features))[1:]
    groups = [("", n_features), *((group.name, width) for group, width in widths.items())]
    return StageLayout(tuple(groups), (n_features, *lengths[1:]))
