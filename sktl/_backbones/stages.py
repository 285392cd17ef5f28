"""Find the stages of a network: the blocks of layers between input and output, and the tensors that separate them.

A network can be cut exactly where one tensor carries all that the rest needs of the image. Such tensors are the
dominators of the graph that autograd records: no edge of the graph jumps over them. Which of them separate stages is
one rule for all families: blocks are the outermost numbered modules with layers inside (`layer3`, `blocks.7`,
`encoder_layer_4`); where the resolution halves along the network, a stage is all blocks at one resolution; where it
never changes, as in a ViT, each block is one. What comes before the first block is the stem; what follows the last one
belongs to the last stage.
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
        The modules that it consists of, under their names in the network.
    n_parameters : int
        Trainable numbers in it.
    """

    name: str
    n_parameters: int


class Boundary(NamedTuple):
    """A tensor that may separate two stages: one of those that a module returns.

    Attributes
    ----------
    module : str
    output : int
        Which of the tensors that the module returns.
    shape : tuple of int
        Of the tensor for one image, without the axis of images.
    """

    module: str
    output: int
    shape: tuple[int, ...]

    @property
    def area(self) -> int:
        """How many places of the image it describes, 0 if it has none."""
        if len(self.shape) < 2:
            return 0
        if len(self.shape) == 2:  # tokens
            return self.shape[0]
        first = 0 if channels_last(self.shape) else 1
        return self.shape[first] * self.shape[first + 1]


@dataclass(frozen=True)
class StageMap:
    """The stages of a network from input to output.

    Parameters
    ----------
    stages : tuple of Stage
    parameters : tuple of frozenset of str
        Names of the parameters of each stage; one that is used in several belongs to the first.
    boundaries : tuple of Boundary
        The ends of all stages but the last.
    exact : bool
        Whether at each boundary the one tensor carries all that the rest needs of the image.
    singles : tuple of tuple of Boundary
        All tensors that do, input first, each as the outputs of modules that it is known by.
    """

    stages: tuple[Stage, ...]
    parameters: tuple[frozenset[str], ...] = field(repr=False)
    boundaries: tuple[Boundary, ...] = field(repr=False)
    exact: bool = field(repr=False)
    singles: tuple[tuple[Boundary, ...], ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Call:
    """One finished call of a module while a network ran.

    Parameters
    ----------
    name : str
        Of the module in the network.
    callers : tuple of str
        The modules in whose forward it was called, outermost first.
    output : tree of tensors and other objects
        What it returned, perhaps without the numbers.
    ends : list of (node, int, bool)
        For each tensor returned: the node of the graph that made it, which output of the node it is, and whether it
        came in as it went out.
    """

    name: str
    callers: tuple[str, ...]
    output: Any
    ends: list[tuple[_Node, int, bool]]


def tensors(tree: Any) -> list[torch.Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def record(network: nn.Module, images: torch.Tensor, whole: bool = False) -> tuple[list[Call], Any]:
    """Run a network; return the calls of its modules in the order in which they finished, and its output.

    Unless they are wanted `whole`, outputs of calls are on the meta device: large networks return gigabytes.
    """
    names = {module: name for name, module in reversed(list(network.named_modules()))}
    calls: list[Call] = []
    open_calls: list[tuple[str, dict[int, _Node]]] = []

    def enter(module: nn.Module, inputs: Any) -> None:
        open_calls.append((names[module], {id(t): t.grad_fn for t in tensors(inputs)}))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        name, came_in = open_calls.pop()
        ends = [(t.grad_fn, t.output_nr, came_in.get(id(t), 0) is t.grad_fn) for t in tensors(output)]
        kept = output if whole else tree_map(_without_numbers, output)
        calls.append(Call(name, tuple(caller for caller, _ in open_calls), kept, ends))

    hooks = [module.register_forward_pre_hook(enter) for module in names]
    hooks += [module.register_forward_hook(leave) for module in names]
    try:
        return calls, network(images)
    finally:
        for hook in hooks:
            hook.remove()


def _without_numbers(leaf: Any) -> Any:
    floating = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
    return leaf.detach().to("meta") if floating else leaf  # integers may be positions, which are needed


def find_stages(network: nn.Module, image: torch.Tensor) -> StageMap:
    """Return the stages of a network in eval mode; `image` is one input of shape (1, 3, H, W)."""
    with torch.enable_grad(), _all_trainable(network), saved_tensors_hooks(lambda _: None, _refuse_backward):
        source = image.detach().clone().requires_grad_()
        calls, output = record(network, source)
        nodes = _sorted_nodes([t.grad_fn for t in tensors(output)[:1]])
        cuts = _single_tensors(calls, _leading_to(nodes, source))
        blocks, exact = _blocks(network, cuts), True
        if len(blocks) < 2:  # nothing carries the image alone
            blocks, exact = _blocks(network, _last_tensors(calls)), False
        marks = _stem(blocks, cuts) + _last_of_each_resolution(blocks)[:-1]
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        behind = [_parameters_behind(_finished(calls, mark, exact), names) for mark in marks]
        everything = _parameters_behind(nodes[:1], names)
    marks, sets = _with_weights(network, marks, behind, everything)
    return StageMap(_describe(network, marks, blocks, sets), sets, tuple(marks), exact, tuple(map(tuple, cuts)))


def single_tensors(network: nn.Module, image: torch.Tensor) -> tuple[list[Boundary], list[Call]]:
    """Run a network; return the tensors that carry all that the rest needs of the image, input first, and all calls.

    Where no tensor carries the image alone, the last one of each module that is called once is listed instead. What the
    calls hold is part of the graph of the output, which the last call returned.
    """
    with torch.enable_grad():
        source = image.detach().clone().requires_grad_()
        calls, output = record(network, source, whole=True)
        nodes = _leading_to(_sorted_nodes([t.grad_fn for t in tensors(output)[:1]]), source)
        return [_outermost(aliases) for aliases in _single_tensors(calls, nodes) or _last_tensors(calls)], calls


def _refuse_backward(saved: None) -> torch.Tensor:
    raise RuntimeError("The graph is only looked at: what its gradients would need takes gigabytes in large networks.")


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
        network.train().eval()  # some keep attention biases of their last run in eval mode, with their graph


def _sorted_nodes(outputs: Sequence[_Node]) -> list[_Node]:
    """Return the nodes of the graph behind outputs, each before those that it was computed from."""
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
    """Return the nodes that depend on a leaf of the graph, and the leaf's own, in the same order."""
    dependent = set()
    for node in reversed(nodes):
        if getattr(node, "variable", None) is source or any(before in dependent for before, _ in node.next_functions):
            dependent.add(node)
    return [node for node in nodes if node in dependent]


def _single_tensors(calls: Sequence[Call], nodes: Sequence[_Node]) -> list[list[Boundary]]:
    """Return the dominators of the graph, input first, each as the outputs of modules that it is known by."""
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
            # Neither what a module merely hands on, nor one of several outputs, nor a module that is called again.
            whole = used.get(node, {number}) == {number}
            if node in known_by and not passed_through and whole and call.name and times_called[call.name] == 1:
                known_by[node].append(_boundary(call, i))
    return [aliases for aliases in reversed(known_by.values()) if aliases]


def _last_tensors(calls: Sequence[Call]) -> list[list[Boundary]]:
    """Return the last output of each module that is called once, in the order in which they finish."""
    times_called = Counter(call.name for call in calls)
    once = [call for call in calls if call.name and call.ends and times_called[call.name] == 1]
    return [[_boundary(call, len(call.ends) - 1)] for call in once]


def _boundary(call: Call, output: int) -> Boundary:
    return Boundary(call.name, output, tuple(tensors(call.output)[output].shape[1:]))


def channels_last(shape: Sequence[int]) -> bool:
    """Tell whether the axes of one image's places and channels are (H, W, C), not (C, H, W)."""
    return shape[0] == shape[1] != shape[2]


def _blocks(network: nn.Module, cuts: Sequence[list[Boundary]]) -> list[Boundary]:
    """Return the ends of blocks among boundaries, input first."""
    found = numbered_blocks(network, cuts)
    if found:
        return [boundary for boundary in found if boundary.area]
    return [boundary for boundary in map(_outermost, cuts) if boundary.area > 1]


def numbered_blocks(network: nn.Module, cuts: Sequence[Sequence[Boundary]]) -> list[Boundary]:
    """Return the ends of the outermost numbered modules with layers inside, input first; none if they are not several.

    Parameters
    ----------
    network : nn.Module
    cuts : sequence of sequence of Boundary
        The ends to choose from, each as the outputs of modules that it is known by.
    """
    found = outermost_ends(cuts, {name for name, module in network.named_modules() if _is_block(name, module)})
    return found if len(found) >= 2 else []


def outermost_ends(cuts: Sequence[Sequence[Boundary]], modules: Set[str]) -> list[Boundary]:
    """Return the ends of some modules, input first, without those of modules inside others of them."""
    found = [_outermost(named) for named in ([b for b in aliases if b.module in modules] for aliases in cuts) if named]
    return [b for b in found if not any(b.module.startswith(f"{other.module}.") for other in found)]


def is_numbered(name: str) -> bool:
    """Tell whether the name of a module is that of one of several."""
    return bool(_NUMBERED.search(name))


def _is_block(name: str, module: nn.Module) -> bool:
    has_layers = any(True for _ in module.children()) and any(p.ndim > 1 for p in module.parameters())
    return is_numbered(name) and not _STEM.match(name) and has_layers


def _outermost(aliases: Sequence[Boundary]) -> Boundary:
    return min(aliases, key=lambda boundary: boundary.module.count("."))


def _last_of_each_resolution(blocks: Sequence[Boundary]) -> list[Boundary]:
    kept: list[Boundary] = []
    for block in blocks:
        if kept and block.area > kept[-1].area / 2:
            kept.pop()
        kept.append(block)
    return kept if len(kept) > 2 else list(blocks)


def _stem(blocks: Sequence[Boundary], cuts: Sequence[list[Boundary]]) -> list[Boundary]:
    """Return the last boundary before the first block, if there is one."""
    before: list[Boundary] = []
    for aliases in cuts if blocks else []:
        if any(boundary.module == blocks[0].module for boundary in aliases):
            return before
        outside = [b for b in aliases if b.area > 1 and not b.module.startswith(f"{blocks[0].module}.")]
        before = [_outermost(outside)] if outside else before
    return []


def _finished(calls: Sequence[Call], mark: Boundary, exact: bool) -> list[_Node]:
    """Return the node of a boundary; where the boundary is not exact, of all that was computed until then."""
    last = [call.name for call in calls].index(mark.module)
    if exact:
        return [calls[last].ends[mark.output][0]]
    return [node for call in calls[: last + 1] for node, *_ in call.ends]


def _parameters_behind(nodes: Sequence[_Node], names: dict[int, str]) -> frozenset[str]:
    """Return the names of the parameters that nodes of the graph were computed from."""
    variables = (getattr(node, "variable", None) for node in _sorted_nodes(nodes))
    return frozenset(names[id(variable)] for variable in variables if id(variable) in names)


def _with_weights(
    network: nn.Module, marks: Sequence[Boundary], behind: Sequence[frozenset[str]], everything: frozenset[str]
) -> tuple[list[Boundary], tuple[frozenset[str], ...]]:
    """Drop boundaries until there are weights, not just biases and scales, on both sides of each."""

    def has_weights(stage: frozenset[str]) -> bool:
        return any(network.get_parameter(name).ndim > 1 for name in stage)

    kept: list[tuple[Boundary, frozenset[str]]] = []
    for mark, until in zip(marks, behind, strict=True):
        while kept and not has_weights(until - kept[-1][1]):
            kept.pop()
        if has_weights(until):
            kept.append((mark, until))
    while kept and not has_weights(everything - kept[-1][1]):
        kept.pop()
    ends = [frozenset(), *(until for _, until in kept), everything]
    sets = tuple(after - before for before, after in itertools.pairwise(ends))
    return [mark for mark, _ in kept], sets if everything else ()


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
