"""What is measured on rows, whichever way they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines import row_kernels
from descend.types import FloatArray, is_sparse


def squared_norms(X: Any) -> NDArray[np.float64]:
    """|x|² + 1 of every row, (n,): the 1 is the intercept's column."""
    norms = np.empty(X.shape[0])
    if is_sparse(X):
        from descend.engines import sparse_kernels

        sparse_kernels.squared_norms(X.data, X.indptr, norms)
    else:
        row_kernels.squared_norms(X, norms)
    return norms


def gram_product(X: Any, weights: FloatArray, num_rows: int, direction: FloatArray, out: FloatArray) -> None:
    """Overwrites ``out`` (d + 1,) with Σ weight · x̃ (x̃ᵀ direction) over the first rows, where x̃ is x and a 1."""
    if is_sparse(X):
        from descend.engines import sparse_kernels

        sparse_kernels.gram_product(*sparse_kernels.kernel_rows(X), weights, num_rows, direction, out)
    else:
        row_kernels.gram_product(X, weights, num_rows, direction, out)
