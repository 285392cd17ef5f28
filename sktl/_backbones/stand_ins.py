"""Replacements for tensors that are not needed, with shapes inferred from two records of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten


class StandIn:
    """A replacement for a tensor that is not needed.

    Its shape is inferred from two records of the network, with 2 and with 3 images.
    """

    def __init__(self, of_two: torch.Tensor, of_three: torch.Tensor):
        self._shape = tuple(of_two.shape)
        self._floating = of_two.is_floating_point()
        self._per_image = {
            i: a // 2 for i, (a, b) in enumerate(zip(of_two.shape, of_three.shape, strict=True)) if a != b
        }
        self._constant = None if self._floating or self._per_image else of_two

    def expanded(self, like: torch.Tensor, batch: int) -> torch.Tensor:
        """Return a tensor filled with NaN, so that any use becomes visible. It takes no memory and is read-only."""
        if self._constant is not None:
            return self._constant.to(like.device)
        # Expanded from a single number.
        filler = (
            like.new_full((), torch.nan) if self._floating else torch.zeros((), dtype=torch.long, device=like.device)
        )
        return filler.expand(self._sizes(batch))

    def writable(self, like: torch.Tensor, batch: int) -> torch.Tensor:
        """Return a tensor with undefined numbers, which later operations may change in place."""
        if self._constant is not None:
            return self._constant.to(like.device)
        return like.new_empty(self._sizes(batch), dtype=like.dtype if self._floating else torch.long)

    def _sizes(self, batch: int) -> list[int]:
        return [self._per_image[i] * batch if i in self._per_image else n for i, n in enumerate(self._shape)]


class Returned:
    """What a call of a module returned, with stand-ins instead of tensors.

    Parameters
    ----------
    of_two, of_three : tree of tensors and other objects
        Output of the call in a record with 2 and with 3 images.
    """

    def __init__(self, of_two: Any, of_three: Any):
        leaves, self._spec = tree_flatten(of_two)
        pairs = zip(leaves, tree_leaves(of_three), strict=True)
        self._leaves = [StandIn(a, b) if isinstance(a, torch.Tensor) else a for a, b in pairs]

    def filled(self, make: Callable[[StandIn], torch.Tensor], given: tuple[int, torch.Tensor] | None = None) -> Any:
        """Return the tree with new tensors. `given` is the index of a tensor, and the tensor to use there."""
        filled = [make(leaf) if isinstance(leaf, StandIn) else leaf for leaf in self._leaves]
        if given is not None:
            index, tensor = given
            filled[[i for i, leaf in enumerate(self._leaves) if isinstance(leaf, StandIn)][index]] = tensor
        return tree_unflatten(filled, self._spec)
