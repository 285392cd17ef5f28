"""Shorten a network: remove its last stages, so that it ends with the pooled output of an earlier stage.

The architecture need not be known: a record of one run shows which modules run only after the boundary. These modules
are replaced by modules without parameters, whose outputs have the right shapes and are not used. The network keeps its
own forward method and the names of its modules. Its output is the average of the boundary's tensor over positions. If
the tensor has the shape of the tokens after the last block, it replaces these tokens, and the network pools it as it
would have pooled them.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from sktl._utils.process_errors import raise_process_error
from sktl.exceptions import BackboneError

from .stages import Boundary, Call, StageMap, parameters_of_output, record, tensors
from .stand_ins import Returned
from .taps import mean_over_positions, stage_blocks


class IndivisibleError(Exception):
    """The last stages of a network cannot be removed."""


@dataclass(frozen=True, eq=False)
class Shortening:
    """The change that removes the last stages of all networks of one architecture.

    Parameters
    ----------
    stage_map : StageMap
        The remaining stages.
    end : Boundary
        The tensor at which the remaining stages end.
    read_from : Boundary or None
        The tensor that `end` replaces for the layers after the last block; None if the output is the average of `end`.
    removed : dict of str to tuple of Returned
        The modules that are removed, with what each of their calls returned.
    unused : tuple of str
        Parameters that are removed from modules that stay.
    """

    stage_map: StageMap
    end: Boundary
    read_from: Boundary | None
    removed: dict[str, tuple[Returned, ...]]
    unused: tuple[str, ...] = ()

    def shorten(self, network: nn.Module) -> nn.Module:
        """Change a network in place, and return it."""
        network.get_submodule(self.end.module).register_forward_hook(_End(self.end, self.read_from is None))
        _replace_modules(network, {network.get_submodule(name): self._replacement(name) for name in self.removed})
        _remove_parameters(network, [network.get_parameter(name) for name in self.unused])
        network.forward = FirstStages(network, self).forward
        return network

    def _replacement(self, name: str) -> nn.Module:
        source = self.read_from
        return _Removed(self.removed[name], source.output if source is not None and source.module == name else None)


class FirstStages:
    """The forward method of a shortened network."""

    def __init__(self, network: nn.Module, shortening: Shortening):
        self.network = network
        self.shortening = shortening
        self.earlier = vars(network).get("forward")

    # A bound method, because torch.export reads the code of a module's `forward`.
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of normalized images."""
        return self.run(images)

    def run(self, images: torch.Tensor, fills: bool = False) -> torch.Tensor:
        """Return the features. If `fills` is True, tensors that must not be used are filled with NaN."""
        run = _Run(fills)
        token = _run.set(run)
        try:
            output = self.earlier(images) if self.earlier else type(self.network).forward(self.network, images)
        finally:
            _run.reset(token)
        if run.activation is None:
            raise BackboneError("The network did not reach its last stage: its forward depends on more than the image.")
        return output if run.pooled is None else run.pooled


def stage_map_of(network: nn.Module) -> StageMap | None:
    """Return the stages of a shortened network; None for other networks.

    They are not determined again: with fewer blocks, the rules for stages may divide the same layers differently.
    """
    first = _first_stages_of(network)
    return None if first is None else first.shortening.stage_map


def _first_stages_of(network: nn.Module) -> FirstStages | None:
    owner = getattr(vars(network).get("forward"), "__self__", None)
    return owner if isinstance(owner, FirstStages) else None


@dataclass
class _Run:
    """The state of one run of a shortened network."""

    fills: bool
    activation: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    calls: Counter[int] = field(default_factory=Counter)


# A context variable, because the threads of a pass share the modules.
_run: ContextVar[_Run | None] = ContextVar("run", default=None)


@dataclass(frozen=True)
class _End:
    """A hook on the module that returns the last tensor. A class, because networks with hooks are copied and pickled.

    Parameters
    ----------
    end : Boundary
        The tensor.
    pools : bool
        Whether the tensor is averaged.
    """

    end: Boundary
    pools: bool

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if (run := _run.get()) is not None:
            found = tensors(output)[self.end.output]
            # Pooled or copied immediately, because the next operation may change the tensor in place.
            run.activation = found if self.pools else found.clone()
            run.pooled = mean_over_positions(found, self.end.channels_last) if self.pools else None


class _Removed(nn.Module):
    """The replacement of a removed module. Its outputs are not used, except for the tensor that replaces tokens.

    Parameters
    ----------
    returned : sequence of Returned
        What the calls of the removed module returned.
    output : int or None
        Index of the tensor that becomes the last tensor of the remaining stages.
    """

    def __init__(self, returned: Sequence[Returned], output: int | None):
        super().__init__()
        self.returned = tuple(returned)
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run = _run.get()
        if run is None or run.activation is None:
            raise BackboneError("This module was removed from the network by n_stages. Call the network itself.")
        activation, batch = run.activation, run.activation.shape[0]
        returned = self.returned[run.calls[id(self)]]
        run.calls[id(self)] += 1
        given = None if self.output is None else (self.output, activation)
        if run.fills:
            return returned.filled(lambda stand_in: stand_in.expanded(activation, batch).clone(), given)
        return returned.filled(lambda stand_in: stand_in.writable(activation, batch), given)


def _replace_modules(network: nn.Module, replacements: dict[nn.Module, nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child in replacements:
                module._modules[name] = replacements[child]


def _remove_parameters(network: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Replace parameters with NaN of the same shape, which takes no memory and is not in the state."""
    unused = {id(parameter) for parameter in parameters}
    for module in network.modules():
        for name, parameter in [*module._parameters.items()]:
            if id(parameter) in unused and parameter is not None:
                del module._parameters[name]
                module.register_buffer(name, parameter.new_full((), torch.nan).expand(parameter.shape), False)


def find_shortening(network: nn.Module, stage_map: StageMap, n_stages: int, images: torch.Tensor) -> Shortening:
    """Return the change that leaves the first stages of a network, verified on images.

    Parameters
    ----------
    network : nn.Module
        Network in eval mode. It is not changed.
    stage_map : StageMap
        The stages of the network.
    n_stages : int
        Number of stages that stay, less than the number of all stages.
    images : float32 tensor of shape (n, 3, H, W)
        At least two different images.

    Raises
    ------
    IndivisibleError
        If the activation at the boundary would differ from the activation in the whole network, even by one bit.
    """
    if not stage_map.exact:
        raise IndivisibleError("no single tensor between its stages contains everything that later stages need")
    end = stage_map.boundaries[n_stages - 1]
    blocks = tuple(map(tuple, stage_blocks(network, stage_map)))
    with torch.no_grad():
        of_two, of_three = (record(network, images[:1].repeat(n, 1, 1, 1))[0] for n in (2, 3))
        expected = _activation(network, end, images)
    failure: Exception | None = None
    for read_from in _sources(end, blocks):
        try:
            removed = _removed(of_two, of_three, end, read_from)
            shortening = Shortening(stage_map, end, read_from, removed)
            return _verified(_complete(shortening, network, n_stages, blocks, images), network, images, expected)
        except Exception as error:  # stand-ins may cause any error in a forward method
            raise_process_error(error)
            failure = error
    raise IndivisibleError(
        f"its forward method needs the stages after {stage_map.stages[n_stages - 1].name}"
    ) from failure


def _sources(end: Boundary, blocks: Sequence[Sequence[Boundary]]) -> list[Boundary | None]:
    """Return the tensors that the end may replace. None stands for the average, which is always possible."""
    last = next((stage[-1] for stage in reversed(blocks) if stage), end)
    reads_out = len(end.shape) == 2 and last.shape == end.shape and last != end
    return [last, None] if reads_out else [None]


def _removed(
    of_two: Sequence[Call], of_three: Sequence[Call], end: Boundary, read_from: Boundary | None
) -> dict[str, tuple[Returned, ...]]:
    """Return the outermost modules that run only after `end` and, if tokens are read out, before the read-out."""
    names = [call.name for call in of_two]
    start = names.index(end.module)
    stop = len(names) - 1 if read_from is None else names.index(read_from.module)
    needed = {*names[: start + 1], *names[stop + 1 :], *of_two[start].callers}
    removed = {*names[start + 1 : stop + 1]} - needed
    found: dict[str, tuple[Returned, ...]] = {}
    for call, other in zip(of_two, of_three, strict=True):
        if call.name in removed and not removed.intersection(call.callers):
            found[call.name] = (*found.get(call.name, ()), Returned(call.output, other.output))
    return found


def _complete(
    shortening: Shortening,
    network: nn.Module,
    n_stages: int,
    blocks: Sequence[Sequence[Boundary]],
    images: torch.Tensor,
) -> Shortening:
    """Return the shortening with its remaining stages, and with the parameters that are no longer needed."""
    shortened = shortening.shorten(_copy(network))
    needed = parameters_of_output(shortened, images[:1])
    whole = shortening.stage_map
    present = {name for name, _ in shortened.named_parameters()}
    later = present & frozenset().union(*whole.parameters[n_stages:])
    # Layers that read out tokens belong to the last stage, as in the whole network.
    sets = (*whole.parameters[: n_stages - 1], whole.parameters[n_stages - 1] | (later & needed))
    n_parameters = sum(network.get_parameter(name).numel() for name in sets[-1])
    last = whole.stages[n_stages - 1]._replace(n_parameters=n_parameters)
    positions = [i for i, aliases in enumerate(whole.singles) if shortening.end in aliases]
    stage_map = replace(
        whole,
        stages=(*whole.stages[: n_stages - 1], last),
        parameters=sets,
        boundaries=whole.boundaries[: n_stages - 1],
        singles=whole.singles[: positions[0] + 1],
        blocks=tuple(map(tuple, blocks[:n_stages])),
    )
    return replace(shortening, stage_map=stage_map, unused=tuple(sorted(later - needed)))


def _verified(shortening: Shortening, network: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> Shortening:
    """Return the shortening if a shortened network computes the expected activation, and features of each image."""
    first = _first_stages_of(shortening.shorten(_copy(network)))
    assert first is not None
    end = shortening.end
    with torch.no_grad(), _watched(first.network.get_submodule(end.module), end.output) as found:
        output = first.run(images.clone(), fills=True)  # a network may change its input in place
    same = torch.allclose(found[0], expected, rtol=0, atol=0, equal_nan=True)
    finite = bool(output.isfinite().all()) or not bool(expected.isfinite().all())
    # Tokens that contain no image yet, such as a class token in front of the first block, are not features.
    differ = shortening.read_from is None or not torch.equal(output[0], output[1])
    if not (same and finite and differ and output.ndim == 2 and len(output) == len(images)):
        raise IndivisibleError
    return shortening


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network's modules that shares its tensors, which may take gigabytes."""
    return copy.deepcopy(network, {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


def _activation(network: nn.Module, end: Boundary, images: torch.Tensor) -> torch.Tensor:
    """Return a copy of the tensor at a boundary."""
    with _watched(network.get_submodule(end.module), end.output) as found:
        network(images.clone())  # a network may change its input in place
    return found[0]


@contextmanager
def _watched(module: nn.Module, output: int) -> Iterator[list[torch.Tensor]]:
    found: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda _, inputs, outputs: found.append(tensors(outputs)[output].clone()))
    try:
        yield found
    finally:
        hook.remove()
