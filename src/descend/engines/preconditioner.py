"""The inverse of the largest curvature that a linear model can have: one matrix, from one pass over the rows.

    H = c · mean(weight · x̃ x̃ᵀ) + alpha,    x̃ = (x, 1),    c the loss's largest second derivative

bounds the Hessian everywhere, so steps through H⁻¹ see a surface that bends by 1 at most, in all directions
alike: columns that are scaled badly or say the same no longer hold the others back. It is whitening without
writing whitened rows: the matrix is applied to the gradient of a batch and not to each of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from descend.types import Dataset, FloatArray

MOST_COLUMNS = 500
BLOCK_NUMBERS = 2**17
"""Read at a time: half a megabyte, so that a block is still near when its product is made."""
FLATTEST = 1e-10
FLATTEST_OF_SINGLES = 1e-6
"""Directions flatter than this share of the mean are taken to bend so much: columns that say the same have none."""


@dataclass(frozen=True, slots=True)
class Preconditioner:
    """``inverse`` (d + 1, d + 1) float64 is H⁻¹; ``norms`` (n,) are c · weight · x̃ᵀ H⁻¹ x̃ of every row.

    ``bend`` is H's largest second derivative, and ``direction`` (d + 1,) the unit vector along which it has that.
    """

    inverse: FloatArray
    matrix: FloatArray
    """H itself, with the same floor under its flat directions."""
    bend: float
    direction: FloatArray
    norms: FloatArray | None = None


def precondition(
    data: Dataset, curvature: float, alpha: float, norms: bool, fit_intercept: bool = True
) -> Preconditioner:
    """H⁻¹ for ``data``; ``norms``: also how heavy every row is under it, at the cost of another product.

    Without an intercept x̃ = (x, 0): the last direction stands alone, bent as the others are in the mean.
    """
    d = data.num_columns
    # One BLAS thread: the sums must not depend on how many there are, and small products gain nothing by more.
    with threadpool_limits(limits=1, user_api="blas"):
        H = np.zeros((d + 1, d + 1))
        for rows, weights in _blocks(data, fit_intercept):
            H += (rows * weights[:, None]).T @ rows if weights is not None else rows.T @ rows
        H *= curvature / data.num_rows
        H[np.arange(d), np.arange(d)] += alpha
        if not fit_intercept:
            H[d, d] = np.trace(H) / d
        flattest = FLATTEST if data.X.dtype == np.float64 else FLATTEST_OF_SINGLES
        bends, directions = np.linalg.eigh(H)
        bend, direction = float(bends[-1]), directions[:, -1].copy()
        bends = np.maximum(bends, flattest * max(bends.mean(), np.finfo(float).tiny))
        factor = directions / np.sqrt(bends)
        inverse = factor @ factor.T
        matrix = (directions * bends) @ directions.T
        weight_of = None
        if norms:
            weight_of = np.empty(data.num_rows)
            at = 0
            for rows, weights in _blocks(data, fit_intercept):
                white = rows @ factor.astype(rows.dtype)
                squares = np.einsum("ij,ij->i", white, white, dtype=np.float64)
                weight_of[at : at + len(rows)] = squares if weights is None else squares * weights
                at += len(rows)
            weight_of *= curvature
    return Preconditioner(inverse, matrix, bend, direction, weight_of)


def _blocks(data: Dataset, fit_intercept: bool):  # type: ignore[no-untyped-def]
    """Rows with a 1 at their end, or 0 without an intercept, a block at a time, and their weights."""
    step = min(8192, max(512, BLOCK_NUMBERS // (data.num_columns + 1)))
    for start in range(0, data.num_rows, step):
        X: Any = data.X[start : start + step]
        if data.is_sparse:  # at most MOST_COLUMNS wide: a dense block and one product are the quicker way
            X = X.toarray()
        rows = np.full((len(X), X.shape[1] + 1), fit_intercept, dtype=X.dtype)
        rows[:, :-1] = X
        weights = None if data.weights is None else data.weights[start : start + step].astype(X.dtype)
        yield rows, weights
