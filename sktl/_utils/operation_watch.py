"""Watch the operations that torch runs, without importing its compiler, which takes more than a second."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class OperationWatch(TorchDispatchMode):
    """Base class of modes whose `__torch_dispatch__` gets every basic operation within a block."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise, torch imports the compiler in order to keep it out of `__torch_dispatch__` (read in torch 2.14).
        # Nothing is compiled where we watch. Versions that do not know this method do not call it.
        return False
