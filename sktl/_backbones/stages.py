"""Find the stages of a network: blocks of layers, separated by tensors at which the network can be cut.

A network can be cut exactly where a single tensor contains everything that the rest of the network needs from the
image. Such tensors are the dominators of the graph that autograd records: no edge of the graph skips them. One rule for
all families selects the tensors that separate stages. Blocks are the outermost numbered modules with layers inside
(`layer3`, `blocks.7`, `encoder_layer_4`). If the resolution is halved along the network, a stage consists of all blocks
with the same resolution. If the resolution never changes, as in a ViT, each block is a stage. Layers before the first
block form the stem; layers after the last block belong to the last stage.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves, tree_map

_Node: TypeAlias = Any  # a node of the autograd graph
_NUMBERED = re.compile(r"\d[a-z]?$")
_STEM = re.compile(r"(conv_)?stem|(patch|pixel)_embed")


class Stage(NamedTuple):
    """One stage of a backbone.

    Attributes
    ----------
    name : str
        Its modules, by their names in the network.
    n_parameters : int
        Number of trainable parameters.
    """

    name: str
    n_parameters: int


class Boundary(NamedTuple):
    """A tensor that may separate two stages, identified as an output of a module.

    Attributes
    ----------
    module : str
    output : int
        Index of the tensor among those that the module returns.
    shape : tuple of int
        Shape of the tensor for one image, without the batch axis.
    channels_last : bool
        Whether the axes of one image are (H, W, C), not (C, H, W).
    """

    module: str
    output: int
    shape: tuple[int, ...]
    channels_last: bool = False

    @property
    def area(self) -> int:
        """Number of positions in the image, or 0 if there are none."""
        if len(self.shape) < 2:
            return 0
        if len(self.shape) == 2:  # tokens
            return self.shape[0]
        first = 0 if self.channels_last else 1
        return self.shape[first] * self.shape[first + 1]


@dataclass(frozen=True)
class StageMap:
    """The stages of a network from input to output.

    Parameters
    ----------
    stages : tuple of Stage
    parameters : tuple of frozenset of str
        Names of the parameters of each stage. A parameter that is used in several stages belongs to the first of them.
    boundaries : tuple of Boundary
        Ends of all stages except the last.
    exact : bool
        Whether a single tensor at each boundary contains everything that the rest of the network needs from the image.
    singles : tuple of tuple of Boundary
        All tensors that contain everything that the rest of the network needs, input first. Each is listed as the
        outputs of the modules that return it.
    blocks : tuple of tuple of Boundary, or None
        Ends of the blocks of each stage, if they were found in a larger network.
    """

    stages: tuple[Stage, ...]
    parameters: tuple[frozenset[str], ...] = field(repr=False)
    boundaries: tuple[Boundary, ...] = field(repr=False)
    exact: bool = field(repr=False)
    singles: tuple[tuple[Boundary, ...], ...] = field(repr=False, default=())
    blocks: tuple[tuple[Boundary, ...], ...] | None = field(repr=False, default=None)


@dataclass(frozen=True)
class Call:
    """A finished call of a module during a run of the network.

    Parameters
    ----------
    name : str
        Name of the module in the network.
    callers : tuple of str
        Modules whose forward methods contained the call, outermost first.
    output : tree of tensors and other objects
        Return value, possibly without the data of tensors.
    ends : list of (node, int, bool)
        For each returned tensor: the node of the graph that computed it, the index among the node's outputs, and
        whether the tensor was passed through unchanged.
    """

    name: str
    callers: tuple[str, ...]
    output: Any
    ends: list[tuple[_Node, int, bool]]


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def record(network: nn.Module, images: torch.Tensor, whole: bool = False) -> tuple[list[Call], Any]:
    """Run a network. Return the calls of its modules in the order in which they finished, and its output.

    Unless `whole` is True, outputs of calls are on the meta device: the outputs of large networks take gigabytes. The
    network gets a copy of the images, because it may change its input in place, which leaves of a graph do not allow.
    """
    names = {module: name for name, module in reversed(list(network.named_modules()))}
    calls: list[Call] = []
    open_calls: list[tuple[str, dict[int, _Node]]] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        open_calls.append((names[module], {id(t): t.grad_fn for t in tensors(inputs)}))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        name, came_in = open_calls.pop()
        ends = [(t.grad_fn, t.output_nr, came_in.get(id(t), 0) is t.grad_fn) for t in tensors(output)]
        recorded = output if whole else tree_map(_without_numbers, output)
        calls.append(Call(name, tuple(caller for caller, _ in open_calls), recorded, ends))

    hooks = [module.register_forward_pre_hook(enter) for module in names]
    hooks += [module.register_forward_hook(leave) for module in names]
    try:
        return calls, network(images.clone())
    finally:
        for hook in hooks:
            hook.remove()


def _without_numbers(leaf: Any) -> Any:
    floating = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    return leaf.detach().to("meta") if floating else leaf  # the values of integers may be needed as positions


def find_stages(network: nn.Module, image: torch.Tensor) -> StageMap:
    """Return the stages of a network in eval mode. `image` is one input of shape (1, 3, H, W)."""
    with torch.enable_grad(), _all_trainable(network), saved_tensors_hooks(lambda _: None, _refuse_backward):
        source = image.detach().clone().requires_grad_()
        calls, output = record(network, source)
        nodes = _sorted_nodes([t.grad_fn for t in tensors(output)[:1]])
        cuts = _with_layouts(_single_tensors(calls, _leading_to(nodes, source)), image)
        blocks, exact = _blocks(network, cuts), True
        if len(blocks) < 2:  # no single tensor contains all information about the image
            blocks, exact = _blocks(network, _with_layouts(_last_tensors(calls), image)), False
        marks = _stem(blocks, cuts) + _last_of_each_resolution(blocks)[:-1]
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        behind = [_parameters_behind(_finished(calls, mark, exact), names) for mark in marks]
        everything = _parameters_behind(nodes[:1], names)
    marks, sets = _with_weights(network, marks, behind, everything)
    return StageMap(_describe(network, marks, blocks, sets), sets, tuple(marks), exact, tuple(map(tuple, cuts)))


def parameters_of_output(network: nn.Module, image: torch.Tensor) -> frozenset[str]:
    """Return the names of the parameters that the output of a network in eval mode depends on."""
    with torch.enable_grad(), _all_trainable(network), saved_tensors_hooks(lambda _: None, _refuse_backward):
        nodes = [t.grad_fn for t in tensors(network(image.clone()))]
        return _parameters_behind(nodes, {id(parameter): name for name, parameter in network.named_parameters()})


def single_tensors(network: nn.Module, image: torch.Tensor) -> tuple[list[Boundary], list[Call]]:
    """Run a network. Return the tensors that contain everything the rest needs from the image, and all calls.

    The input comes first. If there are no such tensors, the last output of each module that is called once is listed
    instead. Tensors in the calls belong to the graph of the network's output, which is the output of the last call.
    """
    with torch.enable_grad():
        source = image.detach().clone().requires_grad_()
        calls, output = record(network, source, whole=True)
        nodes = _leading_to(_sorted_nodes([t.grad_fn for t in tensors(output)[:1]]), source)
        return [outermost(aliases) for aliases in _single_tensors(calls, nodes) or _last_tensors(calls)], calls


def _refuse_backward(saved: None) -> torch.Tensor:
    raise RuntimeError("This graph has no saved tensors, which would take gigabytes in large networks.")


@contextmanager
def _all_trainable(network: nn.Module) -> Iterator[None]:
    frozen = [p for p in network.parameters() if p.is_floating_point() and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        network.train().eval()  # some networks cache attention biases from their last run in eval mode, with the graph


def _sorted_nodes(outputs: Sequence[_Node]) -> list[_Node]:
    """Return the nodes of the graph behind outputs. Each node precedes the nodes that it was computed from."""
    finished: list[_Node] = []
    seen = {node for node in outputs if node is not None}
    stack = [(node, 0) for node in seen]
    while stack:
        node, i = stack.pop()
        inputs = [before for before, _ in node.next_functions if before is not None]
        if i == len(inputs):
            finished.append(node)
            continue
        stack.append((node, i + 1))
        if inputs[i] not in seen:
            seen.add(inputs[i])
            stack.append((inputs[i], 0))
    return finished[::-1]


def _leading_to(nodes: Sequence[_Node], source: torch.Tensor) -> list[_Node]:
    """Return the nodes that depend on a leaf of the graph, and the leaf's own node, in the same order."""
    dependent = set()
    for node in reversed(nodes):
        if getattr(node, "variable", None) is source or any(before in dependent for before, _ in node.next_functions):
            dependent.add(node)
    return [node for node in nodes if node in dependent]


def _single_tensors(calls: Sequence[Call], nodes: Sequence[_Node]) -> list[list[Boundary]]:
    """Return the dominators of the graph, input first, each as the outputs of modules that return it."""
    position = {node: i for i, node in enumerate(nodes)}
    furthest = 0
    used: dict[_Node, set[int]] = {}
    known_by: dict[_Node, list[Boundary]] = {}
    for i, node in enumerate(nodes):
        if furthest <= i:
            known_by[node] = []
        for before, number in node.next_functions:
            if before in position:
                furthest = max(furthest, position[before])
                used.setdefault(before, set()).add(number)
    times_called = Counter(call.name for call in calls)
    for call in calls:
        for i, (node, number, passed_through) in enumerate(call.ends):
            # Not usable as boundaries: tensors that a module only passes on, parts of a node's output, and modules that
            # are called more than once.
            whole = used.get(node, {number}) == {number}
            if node in known_by and not passed_through and whole and call.name and times_called[call.name] == 1:
                known_by[node].append(_boundary(call, i))
    return [aliases for aliases in reversed(known_by.values()) if aliases]


def _last_tensors(calls: Sequence[Call]) -> list[list[Boundary]]:
    """Return the last output of each module that is called once, in the order in which the modules finish."""
    times_called = Counter(call.name for call in calls)
    once = [call for call in calls if call.name and call.ends and times_called[call.name] == 1]
    return [[_boundary(call, len(call.ends) - 1)] for call in once]


def _boundary(call: Call, output: int) -> Boundary:
    return Boundary(call.name, output, tuple(tensors(call.output)[output].shape[1:]))


def _with_layouts(cuts: Sequence[list[Boundary]], image: torch.Tensor) -> list[list[Boundary]]:
    """Set `channels_last` of boundaries, input first. Ambiguous tensors have the layout of the next clear one."""
    decided: list[list[Boundary]] = []
    later = False
    for aliases in reversed(cuts):
        layouts = [channels_last(b.shape, image.shape[2:]) if len(b.shape) > 2 else None for b in aliases]
        later = next((layout for layout in layouts if layout is not None), later)
        decided.append([b._replace(channels_last=later and len(b.shape) > 2) for b in aliases])
    return decided[::-1]


def channels_last(shape: Sequence[int], image_shape: Sequence[int] = (1, 1)) -> bool | None:
    """Return True if the axes of one image are (H, W, C), False if they are (C, H, W), and None if both are possible.

    Positions have the aspect ratio of the network's input. If it is square, (C, H, W) is assumed if both are possible.

    Parameters
    ----------
    shape : sequence of int
        Shape of a tensor for one image, with at least three axes.
    image_shape : (int, int), default=(1, 1)
        Height and width of the network's input.
    """
    if image_shape[0] == image_shape[1]:
        return shape[0] == shape[1] != shape[2]
    first, last = is_like(shape[1:3], image_shape), is_like(shape[:2], image_shape)
    return None if first and last else last


def is_like(shape: Sequence[int], image_shape: Sequence[int]) -> bool:
    """Return True if a grid may be a downsampled image: with the same scale in both directions, up to rounding."""
    if shape[0] > image_shape[0] or shape[1] > image_shape[1]:
        return False
    # Padding and strides round the length of each side up or down.
    return abs(shape[0] / image_shape[0] * image_shape[1] - shape[1]) < 2 and (
        image_shape[0] != image_shape[1] or shape[0] == shape[1]
    )


def _blocks(network: nn.Module, cuts: Sequence[list[Boundary]]) -> list[Boundary]:
    """Return the boundaries that are ends of blocks, input first."""
    found = numbered_blocks(network, cuts)
    if found:
        return [boundary for boundary in found if boundary.area]
    return [boundary for boundary in map(outermost, cuts) if boundary.area > 1]


def numbered_blocks(network: nn.Module, cuts: Sequence[Sequence[Boundary]]) -> list[Boundary]:
    """Return the ends of the outermost numbered modules with layers inside, input first; empty if only one exists.

    Parameters
    ----------
    network : nn.Module
    cuts : sequence of sequence of Boundary
        The candidate ends, each as the outputs of modules that return it.
    """
    found = outermost_ends(cuts, {name for name, module in network.named_modules() if _is_block(name, module)})
    return found if len(found) >= 2 else []


def outermost_ends(cuts: Sequence[Sequence[Boundary]], modules: Set[str]) -> list[Boundary]:
    """Return the ends of the given modules, input first, except modules inside other given modules."""
    found = [outermost(named) for named in ([b for b in aliases if b.module in modules] for aliases in cuts) if named]
    return [b for b in found if not any(b.module.startswith(f"{other.module}.") for other in found)]


def is_numbered(name: str) -> bool:
    """Return True if the name of a module marks it as one of several."""
    return bool(_NUMBERED.search(name))


def _is_block(name: str, module: nn.Module) -> bool:
    has_layers = any(True for _ in module.children()) and any(p.ndim > 1 for p in module.parameters())
    return is_numbered(name) and not _STEM.match(name) and has_layers


def outermost(aliases: Sequence[Boundary]) -> Boundary:
    return min(aliases, key=lambda boundary: boundary.module.count("."))


def _last_of_each_resolution(blocks: Sequence[Boundary]) -> list[Boundary]:
    last: list[Boundary] = []
    for block in blocks:
        if last and block.area > last[-1].area / 2:
            last.pop()
        last.append(block)
    return last if len(last) > 2 else list(blocks)


def _stem(blocks: Sequence[Boundary], cuts: Sequence[list[Boundary]]) -> list[Boundary]:
    """Return the last boundary before the first block, if there is one."""
    before: list[Boundary] = []
    for aliases in cuts if blocks else []:
        if any(boundary.module == blocks[0].module for boundary in aliases):
            return before
        outside = [b for b in aliases if b.area > 1 and not b.module.startswith(f"{blocks[0].module}.")]
        before = [outermost(outside)] if outside else before
    return []


def _finished(calls: Sequence[Call], mark: Boundary, exact: bool) -> list[_Node]:
    """Return the node of a boundary, or all nodes computed up to the boundary if it is not exact."""
    last = [call.name for call in calls].index(mark.module)
    if exact:
        return [calls[last].ends[mark.output][0]]
    return [node for call in calls[: last + 1] for node, *_ in call.ends]


def _parameters_behind(nodes: Sequence[_Node], names: dict[int, str]) -> frozenset[str]:
    """Return the names of the parameters that the given nodes were computed from."""
    variables = (getattr(node, "variable", None) for node in _sorted_nodes(nodes))
    return frozenset(names[id(variable)] for variable in variables if id(variable) in names)


def _with_weights(
    network: nn.Module, marks: Sequence[Boundary], behind: Sequence[frozenset[str]], everything: frozenset[str]
) -> tuple[list[Boundary], tuple[frozenset[str], ...]]:
    """Remove boundaries until there are weights, not only biases and scales, on both sides of each boundary."""

    def has_weights(stage: frozenset[str]) -> bool:
        return any(network.get_parameter(name).ndim > 1 for name in stage)

    remaining: list[tuple[Boundary, frozenset[str]]] = []
    for mark, until in zip(marks, behind, strict=True):
        while remaining and not has_weights(until - remaining[-1][1]):
            remaining.pop()
        if has_weights(until):
            remaining.append((mark, until))
    while remaining and not has_weights(everything - remaining[-1][1]):
        remaining.pop()
    ends = [frozenset(), *(until for _, until in remaining), everything]
    sets = tuple(after - before for before, after in itertools.pairwise(ends))
    return [mark for mark, _ in remaining], sets if everything else ()


def _describe(
    network: nn.Module, marks: Sequence[Boundary], blocks: Sequence[Boundary], sets: Sequence[frozenset[str]]
) -> tuple[Stage, ...]:
    """Name the stages after their blocks, and count their parameters."""
    sizes = [sum(network.get_parameter(name).numel() for name in stage) for stage in sets]
    owners = {name.rpartition(".")[0] for stage in sets for name in stage}
    ends = {mark.module for mark in marks}
    modules = [b.module for b in blocks if b.module in ends or any(f"{o}.".startswith(f"{b.module}.") for o in owners)]
    names, start = [], 0
    for mark in marks:
        end = modules.index(mark.module) + 1 if mark.module in modules else start
        names.append(_span(modules[start:end]) or "stem")
        start = end
    if sets:
        own = [module for module in modules[start:] if any(name.startswith(f"{module}.") for name in sets[-1])]
        names.append(_span(own or sorted({name.partition(".")[0] for name in sets[-1]})))
    return tuple(map(Stage, names, sizes))


def _span(modules: Sequence[str]) -> str:
    """Return "blocks.3-4" for blocks.3 and blocks.4."""
    if len(modules) < 2:
        return "".join(modules)
    first, last = modules[0], modules[-1]
    stem = re.sub(r"\d+[a-z]?$", "", first)
    return f"{first}-{last.removeprefix(stem)}" if last.startswith(stem) else f"{first} to {last}"
