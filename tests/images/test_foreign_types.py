"""Values of other libraries are recognized as by `isinstance`, without importing the libraries."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.utils import Bunch

from sktl._images.foreign_types import is_arrow, is_instance, is_sparse, is_tensor

VALUES = [
    None, 3, "torch.Tensor", [1], np.zeros(2), torch.zeros(2), torch.nn.Parameter(torch.zeros(2)), Bunch(data=1), {},
    scipy.sparse.csr_matrix((2, 2)), scipy.sparse.coo_array((2, 2)), torch.Tensor, scipy.sparse,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_recognized_as_by_their_library(value):
    assert is_tensor(value) == isinstance(value, torch.Tensor)
    assert is_sparse(value) == scipy.sparse.issparse(value)
    assert is_instance(value, "sklearn.utils.Bunch") == isinstance(value, Bunch)


@pytest.mark.parametrize("module", [None, object()], ids=["blocked", "half imported"])
def test_a_library_that_is_not_imported_has_no_values(monkeypatch, module):
    for name in ("torch", "scipy.sparse", "sklearn.utils"):
        monkeypatch.setitem(sys.modules, name, module)
    for value in VALUES:
        assert not is_tensor(value)
        assert not is_sparse(value)
        assert not is_arrow(value)
        assert not is_instance(value, "sklearn.utils.Bunch")


def test_arrays_and_tables_of_pyarrow_are_recognized():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    column = pa.array(["a"])
    tables = [pa.table({"x": column}), pa.record_batch({"x": column})]
    assert all(map(is_arrow, [column, pa.chunked_array([column]), *tables]))
    assert not any(map(is_arrow, [*VALUES, column[0], column.type]))
