"""Sparse matrices in memory: CSR as it is, CSC and others turned into CSR once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError
from descend.sources.arrays import ArraySource, check_numeric
from descend.types import Block

BLOCK_NUMBERS = 2**20
"""Stored numbers in a block: about 12 MB."""


class SparseSource(ArraySource):
    """A sparse matrix (n, d), with its target (n,) or (n, k) and weights (n,)."""

    def blocks(self) -> Iterator[Block]:
        """Rows of about a million stored numbers at a time."""
        X: Any = self.array
        for rows in row_blocks(X.indptr, BLOCK_NUMBERS):
            yield Block(
                X[rows],
                None if self._y is None else self._y[rows],
                None if self._weights is None else self._weights[rows],
            )


def row_blocks(indptr: NDArray[Any], numbers: int) -> Iterator[slice]:
    """Rows together that hold about so many stored numbers, a row at least.

    >>> list(row_blocks(np.array([0, 3, 3, 9, 10]), numbers=4))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    start, last = 0, len(indptr) - 1
    while start < last:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + numbers, side="right")) - 1
        stop = min(last, max(start + 1, stop))
        yield slice(start, stop)
        start = stop


def as_csr(X: Any, name: str) -> Any:
    """``X`` as a CSR array with each number once, columns ascending; no copy where it is one."""
    from scipy.sparse import csr_array

    if X.ndim != 2 or X.shape[1] == 0:
        raise InputError(
            f"{name} has shape {X.shape}; give a 2-D matrix (rows, columns) with 1 column at least"
        )
    check_numeric(X.dtype, name)
    whole = csr_array(X)
    if not whole.has_canonical_format:
        whole = whole.copy() if np.shares_memory(whole.data, getattr(X, "data", None)) else whole
        whole.sum_duplicates()
    return whole
