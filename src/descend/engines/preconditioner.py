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

from descend.machine import one_blas_thread
from descend.types import Dataset, FloatArray

MOST_COLUMNS = 500
BLOCK_NUMBERS = 2**17
"""Read at a time: half a megabyte, so that a block is still near when its product is made."""
FEW_COLUMNS = 16
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
    with one_blas_thread():
        H = np.zeros((d + 1, d + 1))
        for X, weights in _blocks(data):
            weighted = X if weights is None else X * weights[:, None]
            H[:d, :d] += weighted.T @ X
            if fit_intercept:
                each = np.ones(len(X), dtype=X.dtype) if weights is None else weights
                H[:d, d] += each @ X
                H[d, d] += each.sum()
        H[d, :d] = H[:d, d]
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
        weight_of = _norms(data, factor, curvature, fit_intercept) if norms else None
    return Preconditioner(inverse, matrix, bend, direction, weight_of)


def _norms(data: Dataset, factor: FloatArray, curvature: float, fit_intercept: bool) -> FloatArray:
    """Weight · curvature · |x̃ᵀ factor|² of every row, (n,) float64."""
    found = np.empty(data.num_rows)
    own = factor.astype(data.X.dtype)
    at = 0
    for X, weights in _blocks(data):
        if data.num_columns <= FEW_COLUMNS:  # rows so short are better walked a column after the other
            white = own[:-1].T @ X.T
            if fit_intercept:
                white += own[-1][:, None]
            squares = np.square(white, out=white).sum(axis=0)
        else:
            white = X @ own[:-1]
            if fit_intercept:
                white += own[-1]
            squares = np.einsum("ij,ij->i", white, white)
        found[at : at + len(X)] = squares if weights is None else squares * weights
        at += len(X)
    found *= curvature
    return found


def _blocks(data: Dataset):  # type: ignore[no-untyped-def]
    """A block of rows at a time, and their weights."""
    step = min(32768, max(512, BLOCK_NUMBERS // (data.num_columns + 1)))
    stored: Any = data.X
    rows = (data.X[start : start + step] for start in range(0, data.num_rows, step))
    pieces = stored.pieces(0, data.num_rows, step) if data.is_stored else rows
    for start, X in zip(range(0, data.num_rows, step), pieces, strict=True):
        if data.is_sparse:  # at most MOST_COLUMNS wide: a dense block and one product are the quicker way
            X = X.toarray()
        weights = None if data.weights is None else data.weights[start : start + step].astype(X.dtype)
        yield X, weights
