"""The inverse of the largest curvature that a linear model can have: one matrix, from one pass over the rows.

    H = c · mean(weight · x̃ x̃ᵀ) + alpha,    x̃ = (x, 1),    c the loss's largest second derivative

bounds the Hessian everywhere, so steps through H⁻¹ see a surface that bends by 1 at most, in all directions
alike: columns that are scaled badly or say the same no longer hold the others back. It is whitening without
writing whitened rows: the matrix is applied to the gradient of a batch and not to each of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from descend.features.covariance import Products
from descend.machine import one_blas_thread
from descend.types import Dataset, FloatArray

MOST_COLUMNS = 500
BLOCK_NUMBERS = 2**17
"""Read at a time: half a megabyte, so that a block is still near when its product is made."""
FEWEST_ROWS, MOST_CHUNKS = 2**16, 16
"""Rows of a chunk at the least, and chunks at the most: threads share them."""
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
    products: Products | None = None
    """What the matrix was made of."""


def precondition(
    data: Dataset,
    curvature: float,
    alpha: float,
    norms: bool,
    fit_intercept: bool = True,
    threads: int = 1,
    known: Products | None = None,
) -> Preconditioner:
    """H⁻¹ for ``data``; ``norms``: also how heavy every row is under it, at the cost of another product.

    Without an intercept x̃ = (x, 0): the last direction stands alone, bent as the others are in the mean. The result
    does not depend on ``threads``. ``known``: the products of the rows, where they have been found already.
    """
    d = data.num_columns
    with one_blas_thread():
        products = _products(data, threads) if known is None else known
        H = products.columns.copy()
        if not fit_intercept:
            H[d] = H[:, d] = 0.0
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
    return Preconditioner(inverse, matrix, bend, direction, weight_of, products)


def _products(data: Dataset, threads: int) -> Products:
    """The sums over all rows."""
    d, k = data.num_columns, data.y.shape[1]
    products = Products(np.zeros((d + 1, d + 1)), np.zeros((k, d + 1)), np.zeros(k))
    for part in _parts(data, threads):
        for total, some in zip(products[:3], part[:3], strict=True):
            total += some
    return products


def _parts(data: Dataset, threads: int) -> Iterator[Products]:
    """The sums of one chunk of rows after another.

    Chunks are cut by the number of rows alone, so that the sums do not tell how many threads there are.
    """
    step = _step(data)
    size = max(FEWEST_ROWS, -(-data.num_rows // MOST_CHUNKS)) // step * step
    chunks = [slice(start, start + size) for start in range(0, data.num_rows, size)]
    if threads == 1 or len(chunks) == 1:
        yield from map(partial(_products_of, data), chunks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(partial(_products_of, data), chunks)


def _products_of(data: Dataset, rows: slice) -> Products:
    d, k = data.num_columns, data.y.shape[1]
    columns, targets, squares = np.zeros((d + 1, d + 1)), np.zeros((k, d + 1)), np.zeros(k)
    for part, X, weights in _blocks(data, rows):
        weighted = X if weights is None else X * weights[:, None]
        each = np.ones(len(X), dtype=X.dtype) if weights is None else weights
        columns[:d, :d] += weighted.T @ X
        columns[:d, d] += each @ X
        columns[d, d] += each.sum()
        y = data.y[part].T
        targets[:, :d] += y.astype(X.dtype) @ weighted
        targets[:, d] += y @ each
        squares += np.square(y) @ each
    columns[d, :d] = columns[:d, d]
    return Products(columns, targets, squares)


def _norms(data: Dataset, factor: FloatArray, curvature: float, fit_intercept: bool) -> FloatArray:
    """Weight · curvature · |x̃ᵀ factor|² of every row, (n,) float64."""
    found = np.empty(data.num_rows)
    own = factor.astype(data.X.dtype)
    at = 0
    for _, X, weights in _blocks(data, slice(0, data.num_rows)):
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


def _step(data: Dataset) -> int:
    return min(32768, max(512, BLOCK_NUMBERS // (data.num_columns + 1)))


def _blocks(data: Dataset, rows: slice) -> Iterator[tuple[slice, Any, Any]]:
    """A block of rows at a time: which, they themselves, and their weights."""
    step, (start, stop, _) = _step(data), rows.indices(data.num_rows)
    stored: Any = data.X
    parts = [slice(low, min(low + step, stop)) for low in range(start, stop, step)]
    pieces = stored.pieces(start, stop, step) if data.is_stored else (data.X[part] for part in parts)
    for part, X in zip(parts, pieces, strict=True):
        if data.is_sparse:  # at most MOST_COLUMNS wide: a dense block and one product are the quicker way
            X = X.toarray()
        weights = None if data.weights is None else data.weights[part].astype(X.dtype)
        yield part, X, weights
