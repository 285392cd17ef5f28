"""Recognize values of PyTorch, SciPy, scikit-learn, PyArrow and pydicom without importing these libraries.

A value of a library can exist only if the library has been imported. Exported models run where it is not installed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    import torch


def is_instance(value: Any, name: str) -> bool:
    """Return True if a value is an instance of a class, given by the full name under which users import the class."""
    module, _, cls = name.rpartition(".")
    # The class may be missing while another thread imports the module.
    return isinstance(value, getattr(sys.modules.get(module), cls, ()))


def is_tensor(value: Any) -> TypeGuard[torch.Tensor]:
    """Return True if a value is a tensor of PyTorch."""
    return is_instance(value, "torch.Tensor")


def is_sparse(value: Any) -> bool:
    """Return True if a value is a sparse array or matrix of SciPy."""
    issparse = getattr(sys.modules.get("scipy.sparse"), "issparse", None)
    return issparse is not None and issparse(value)


def is_arrow(value: Any) -> bool:
    """Return True if a value is an array or a table of PyArrow, from which `take` selects rows."""
    return any(is_instance(value, f"pyarrow.{name}") for name in ("Array", "ChunkedArray", "Table", "RecordBatch"))


def is_dicom(value: Any) -> bool:
    """Return True if a value is a data set of pydicom, which NumPy converts to an array without pixels."""
    return is_instance(value, "pydicom.Dataset")
