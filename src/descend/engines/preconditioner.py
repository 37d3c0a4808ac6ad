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
from typing import Any

import numpy as np

from descend.machine import one_blas_thread
from descend.products import Piece, Products, parts, products_of, step
from descend.types import Dataset, FloatArray

MOST_COLUMNS = 500
FEWEST_ROWS, MOST_CHUNKS = 2**16, 16
"""Rows of a chunk at the least, and chunks at the most: threads share them."""
SMALLEST_SHARED = 2**20
"""Numbers that are worth sharing among threads."""
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
) -> Preconditioner:
    """H⁻¹ for ``data``; ``norms``: also how heavy every row is under it, at the cost of another product.

    Without an intercept x̃ = (x, 0): the last direction stands alone, bent as the others are in the mean. The result
    does not depend on ``threads``. Rows whose products are known are not read.
    """
    d = data.num_columns
    with one_blas_thread():
        products = _products(data, threads)
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
        weight_of = _norms(data, factor, curvature, fit_intercept, threads) if norms else None
    return Preconditioner(inverse, matrix, bend, direction, weight_of, products)


def _products(data: Dataset, threads: int) -> Products:
    """The sums over all rows."""
    if data.known is not None and data.known.num_rows == data.num_rows:
        return data.known.products
    total = Products.zero(data.num_columns, data.y.shape[1])
    if data.known is not None:
        total.add(data.known.products)
    for some in _unknown(data, threads):
        total.add(some)
    return total


def _unknown(data: Dataset, threads: int) -> Iterator[Products]:
    """Those of one chunk of rows after another, of rows whose products are not known.

    Chunks are cut by the number of rows alone, so that the sums do not tell how many threads there are.
    """
    first = 0 if data.known is None else data.known.num_rows
    least = step(data.num_columns)
    size = max(FEWEST_ROWS, -(-data.num_rows // MOST_CHUNKS)) // least * least
    chunks = [slice(start, min(start + size, data.num_rows)) for start in range(first, data.num_rows, size)]

    def of(chunk: slice) -> Products:
        if data.is_sparse:
            from descend.engines.sparse_curvature import goes_by_numbers, products_of_sparse

            if goes_by_numbers(data.X):
                return products_of_sparse(data, chunk)
        return products_of(_pieces(data, chunk))

    if threads == 1 or len(chunks) <= 1:
        yield from map(of, chunks)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(of, chunks)


def _norms(
    data: Dataset, factor: FloatArray, curvature: float, fit_intercept: bool, threads: int
) -> FloatArray:
    """Weight · curvature · |x̃ᵀ factor|² of every row, (n,) float64."""
    found = np.empty(data.num_rows)
    own = factor.astype(data.X.dtype)

    def write(rows: slice) -> None:
        at = rows.start
        for X, _, weights in _pieces(data, rows):
            squares = _squares(X, own, fit_intercept)
            found[at : at + len(X)] = squares if weights is None else squares * weights
            at += len(X)

    size = step(data.num_columns)  # cut elsewhere, products would round otherwise
    share = -(-data.num_rows // (threads * size)) * size
    chunks = [slice(start, min(start + share, data.num_rows)) for start in range(0, data.num_rows, share)]
    if threads == 1 or data.num_rows * data.num_columns < SMALLEST_SHARED:
        write(slice(0, data.num_rows))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, chunks))
    found *= curvature
    return found


def _squares(X: Any, own: FloatArray, fit_intercept: bool) -> FloatArray:
    """|x̃ᵀ own|² of a few rows."""
    if X.shape[1] <= FEW_COLUMNS:  # rows so short are better walked a column after the other
        white = own[:-1].T @ X.T
        if fit_intercept:
            white += own[-1][:, None]
        return np.asarray(np.square(white, out=white).sum(axis=0))
    white = X @ own[:-1]
    if fit_intercept:
        white += own[-1]
    return np.asarray(np.einsum("ij,ij->i", white, white))


def _pieces(data: Dataset, rows: slice) -> Iterator[Piece]:
    """A few rows at a time."""
    stored: Any = data.X
    some = list(parts(rows.start, rows.stop, data.num_columns))
    size = step(data.num_columns)
    pieces = stored.pieces(rows.start, rows.stop, size) if data.is_stored else (data.X[part] for part in some)
    for part, X in zip(some, pieces, strict=True):
        if data.is_sparse:  # at most MOST_COLUMNS wide: a dense block and one product are the quicker way
            X = X.toarray()
        weights = None if data.weights is None else data.weights[part].astype(X.dtype)
        yield X, data.y[part], weights
