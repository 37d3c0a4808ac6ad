"""What is measured on rows, whichever way they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines import row_kernels
from descend.engines.decoding import blocks, norms_of_columns
from descend.types import FloatArray, is_coded, is_sparse, is_stored

NORM_ROWS = 65_536


def squared_norms(X: Any) -> NDArray[np.float64]:
    """|x|² + 1 of every row, (n,): the 1 is the intercept's column."""
    norms = np.empty(X.shape[0])
    if is_sparse(X):
        from descend.engines import sparse_kernels

        for rows, some in blocks(X):
            sparse_kernels.squared_norms(some.data, some.indptr, norms[rows])
    else:
        for rows, some in blocks(X):
            row_kernels.squared_norms(some, norms[rows])
    return norms


def norms_by_block(X: Any) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """``squared_norms`` of the rows, some at a time, each time with the number of the first of them."""
    if is_coded(X) and not X.values.flags.c_contiguous:
        for start in range(0, len(X), NORM_ROWS):
            norms = np.empty(min(NORM_ROWS, len(X) - start))
            norms_of_columns(X.values.T, start, X.code, norms)
            yield start, norms
        return
    if is_coded(X):
        for rows, some in blocks(X):
            yield rows.start, squared_norms(some)
        return
    for start in range(0, X.shape[0], NORM_ROWS):
        if not is_sparse(X) or is_stored(X):
            rows = slice(start, start + NORM_ROWS)
            yield start, squared_norms(X.part(rows) if is_stored(X) else X[rows])
            continue
        from descend.engines import sparse_kernels

        ends = X.indptr[start : start + NORM_ROWS + 1]  # a slice of a CSR matrix would be a copy
        norms = np.empty(len(ends) - 1)
        sparse_kernels.squared_norms(X.data, ends, norms)
        yield start, norms


def gram_product(X: Any, weights: FloatArray, num_rows: int, direction: FloatArray, out: FloatArray) -> None:
    """Overwrites ``out`` (d + 1,) with Σ weight · x̃ (x̃ᵀ direction) over the first rows, where x̃ is x and a 1."""
    if is_sparse(X):
        from descend.engines import sparse_kernels

        sparse_kernels.gram_product(*sparse_kernels.kernel_rows(X), weights, num_rows, direction, out)
    elif is_coded(X):
        out[:], part = 0.0, np.empty_like(out)
        for rows, some in blocks(X.part(slice(num_rows))):
            row_kernels.gram_product(some, weights[rows], len(some), direction, part)
            out += part
    else:
        row_kernels.gram_product(X, weights, num_rows, direction, out)
