"""Cut a network at a stage boundary into a trunk, which stays frozen, and a tail, which is trained.

Both halves run the network's own forward method. The trunk's run stops at the boundary. The tail's run starts from the
beginning, but modules that finish before the boundary return stand-ins immediately, and the module at the boundary
returns the stored activation. From there on, everything is computed as usual, whatever the mode of the modules. No
parameter is renamed, copied or traced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sktl._utils.process_errors import raise_process_error
from sktl._utils.torch_kernels import place
from sktl.exceptions import BackboneError

from .stages import Boundary, StageMap, record, tensors
from .stand_ins import Returned

# The halves together compute the same as the network, except for rounding. Inexact cuts differ by far more.
_RELATIVE_TOLERANCE = 1e-4


class _Stop(Exception):  # noqa: N818 - control flow, not an error
    """Stop the network's forward method at the boundary, with the activation there."""

    def __init__(self, activation: torch.Tensor):
        super().__init__()
        self.activation = activation


@dataclass
class _Replay:
    """The state of one run of a cut network's tail, or of its trunk if there is no activation."""

    cut: Cut
    activation: torch.Tensor | None = None
    batch: int = 0
    resumed: bool = False
    calls: Counter[int] = field(default_factory=Counter)


# A context variable, because the threads of a pass share the modules.
_replay: ContextVar[_Replay | None] = ContextVar("replay", default=None)


@contextmanager
def _running(replay: _Replay) -> Iterator[None]:
    token = _replay.set(replay)
    try:
        yield
    finally:
        _replay.reset(token)


class _Gate:
    """A replacement for a module's forward method. Outside of a replay of its cut, it calls the original method."""

    def __init__(self, cut: Cut, module: nn.Module, output: int | None):
        self.cut = cut
        self.module = module
        self.earlier = module.forward if isinstance(module.forward, _Gate) else None  # of another cut
        self.output = output  # at the boundary: index of the tensor among those that the module returns
        self.returned: list[Returned] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        replay = _replay.get()
        if replay is None or replay.cut is not self.cut:
            return self._original(*args, **kwargs)
        if replay.activation is not None and not replay.resumed:
            return self._stand_in(replay, replay.activation)
        result = self._original(*args, **kwargs)
        if replay.activation is None and self.output is not None:
            raise _Stop(tensors(result)[self.output])
        return result

    def _original(self, *args: Any, **kwargs: Any) -> Any:
        if self.earlier is not None:
            return self.earlier(*args, **kwargs)
        return type(self.module).forward(self.module, *args, **kwargs)

    def remove(self) -> None:
        """Put the original method back."""
        if self.earlier is None:
            del self.module.forward
        else:
            self.module.forward = self.earlier

    def _stand_in(self, replay: _Replay, activation: torch.Tensor) -> Any:
        returned = self.returned[replay.calls[id(self)]]
        replay.calls[id(self)] += 1
        replay.resumed = self.output is not None
        given = None if self.output is None else (self.output, activation)
        return returned.filled(lambda stand_in: stand_in.expanded(activation, replay.batch), given)


class Cut(nn.Module):
    """A network in two halves that share its modules: `tail(trunk(images))` equals `network(images)`.

    The trunk is permanently in eval mode and computes no gradients. The tail follows `train()` and `eval()`. Only the
    parameters of the tail require gradients.

    Parameters
    ----------
    network : nn.Module
        Changed in place: each module that finishes before the boundary gets a gate around its forward method. Calling
        the network itself still runs all of it. A network may be cut several times.
    stage_map : StageMap
        The stages of the network.
    n_tail_stages : int
        Number of stages, counted from the output, that belong to the tail. If the tail contains all stages, the trunk
        returns the images. The trunk also returns the images if the network has no exact boundary; the tail then runs
        the frozen stages as well.
    images : float32 tensor of shape (n, 3, H, W)
        Inputs on which the cut is verified, with n at least 1.
    """

    def __init__(self, network: nn.Module, stage_map: StageMap, n_tail_stages: int, images: torch.Tensor):
        super().__init__()
        self.network = network.eval()
        self.input_shape = tuple(images.shape[1:])
        self.exact = True
        self._frozen_modules: list[str] = []
        self._clones = self._clones_images = False
        n_frozen = len(stage_map.stages) - n_tail_stages
        tail = reversed(stage_map.parameters[n_frozen:])
        self._depths = {name: depth for depth, stage in enumerate(tail) for name in sorted(stage)}
        self.boundary = stage_map.boundaries[n_frozen - 1] if n_frozen else None
        if self.boundary is not None:
            with torch.no_grad():
                self._freeze_before(self.boundary, images[:1], gated=stage_map.exact)
                self.exact = stage_map.exact and self._is_exact(images)
            if not self.exact:
                self._remove_gates()
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in self._depths)
        place(network, torch.device("cpu"))
        self.train().eval()  # some networks cache attention biases from their last run in eval mode

    @property
    def split(self) -> bool:
        """Whether the trunk computes anything."""
        return self.boundary is not None and self.exact

    def trunk(self, images: torch.Tensor) -> torch.Tensor:
        """Return the activations of normalized images at the boundary, always in eval mode."""
        if not self.split:
            return images
        with torch.no_grad(), _running(_Replay(self)):
            try:
                self.network(images)
            except _Stop as stop:
                return stop.activation
        raise BackboneError("The network did not reach its own cut: its forward depends on more than the image.")

    def tail(self, activations: torch.Tensor) -> torch.Tensor:
        """Return the features for activations."""
        if not self.split:
            return self.network(activations)
        n_images = activations.shape[0]  # `len` would fix the number of images when the network is exported
        images = activations.new_full((), torch.nan).expand(n_images, *self.input_shape)
        if self._clones_images:  # expanded tensors are read-only
            images = images.contiguous()
        if self._clones:
            activations = activations.clone(memory_format=torch.preserve_format)
        with _running(_Replay(self, activations, n_images)):
            return self.network(images)

    def laid_out(self, activations: torch.Tensor) -> torch.Tensor:
        """Return activations in the memory format in which convolutions are fast.

        Activations of shape (n, H, W, C) are returned unchanged, as forward methods may view them as (n, H * W, C).
        """
        if activations.ndim != 4 or (self.split and self.boundary.channels_last):  # type: ignore[union-attr]
            return activations
        return activations.contiguous(memory_format=torch.channels_last)

    def depths(self) -> dict[nn.Parameter, int]:
        """Return the number of stages between each parameter of the tail and the last stage."""
        return {self.network.get_parameter(name): depth for name, depth in self._depths.items()}

    def tail_parts(self) -> list[nn.Module]:
        """Return the largest modules that only the tail runs."""
        parts, candidates = [], [self.network]
        while candidates:
            module = candidates.pop()
            gated = any(self._gate(inner) for inner in module.modules())
            if gated or isinstance(module, nn.ModuleList | nn.ModuleDict):
                candidates += [] if self._gate(module) else module.children()
            elif any(parameter.requires_grad for parameter in module.parameters()):
                parts.append(module)
        return parts

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.tail(self.trunk(images))

    def train(self, mode: bool = True) -> Cut:
        """Set the mode of the tail."""
        super().train(mode)
        for name in self._frozen_modules:
            self.network.get_submodule(name).eval()
        return self

    def _freeze_before(self, boundary: Boundary, image: torch.Tensor, gated: bool) -> None:
        """Find the modules that finish before the boundary, and put gates around them."""
        of_two, of_three = (record(self.network, image.repeat(n, 1, 1, 1))[0] for n in (2, 3))
        end = [call.name for call in of_two].index(boundary.module)
        finished = {call.name for call in of_two[:end]}
        later = {call.name for call in of_two[end + 1 :]}
        gates: dict[str, _Gate] = {}
        for call, other in zip(of_two[: end + 1], of_three[: end + 1], strict=True):
            if boundary.module not in call.callers and not (finished - later).intersection(call.callers):
                at_boundary = call.name == boundary.module
                module = self.network.get_submodule(call.name)
                gate = gates.setdefault(call.name, _Gate(self, module, boundary.output if at_boundary else None))
                gate.returned.append(Returned(call.output, other.output))
        self._frozen_modules = [name for name in gates if name not in later]
        if gated:
            for gate in gates.values():
                gate.module.forward = gate

    def _remove_gates(self) -> None:
        for module in self.network.modules():
            if (gate := self._gate(module)) is not None:
                gate.remove()

    def _gate(self, module: nn.Module) -> _Gate | None:
        """Return the gate around a module's forward method, if this cut put it there."""
        gate = module.forward
        return gate if isinstance(gate, _Gate) and gate.cut is self else None

    def _is_exact(self, images: torch.Tensor) -> bool:
        """Return True if running both halves gives the same output as the network."""
        changed = images.clone()
        unchanged = changed._version
        whole = self.network(changed)
        self._clones_images = changed._version != unchanged  # the network changes its input in place
        try:
            activations = self.trunk(images.clone())
            before = activations._version
            again = self.tail(activations)
        except Exception as error:  # stand-ins may cause any error in a forward method
            raise_process_error(error)
            return False
        self._clones = activations._version != before  # the tail starts with an in-place operation
        if len(activations) != len(images):  # not one row per image, but windows or another order of axes
            return False
        tolerance = _RELATIVE_TOLERANCE * float(whole.abs().max())
        return bool(torch.allclose(again, whole, rtol=_RELATIVE_TOLERANCE, atol=tolerance / 10))
