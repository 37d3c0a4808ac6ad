"""How sharply the objective bends, of sparse rows: products of columns, and of a Hessian with a direction.

Arguments as in ``sparse_kernels.py``. SciPy's products of the same rows cost as much for copies,
transposes and checks as for the arithmetic, and go through the rows twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from descend.batches import NO_ORDER
from descend.engines.certificate import Product, Sample
from descend.engines.cholesky import cholesky_solver
from descend.engines.compiled import kernel
from descend.engines.decoding import blocks
from descend.engines.full_batch import ALL_ONE
from descend.engines.preconditioner import Preconditioner
from descend.engines.sparse_kernels import kernel_rows, row_score, span, write_row_scores
from descend.objectives.losses import Loss, second_derivatives
from descend.products import Products
from descend.types import Dataset, FloatArray, IntArray, is_stored

ALL = slice(None)
FEW = 0.2
"""The share of numbers that rows store, up to which products of these alone take less than of dense blocks by BLAS:
123 columns, 14 numbers a row: 0.1 µs a row, 0.9 by BLAS; of 500 columns both take as long at 0.15 to 0.25, of 123 at
0.3, of 30 at 0.5."""
SHARE = 0.03
"""Of the bound's matrix, below a sample's Hessian. Five fits of 123 to 480 columns took 55 passes without one; with
0.01 of the bound 50, with 0.03 43, with 0.1 48, with 0.3 53."""


def goes_by_numbers(X: Any) -> bool:
    """Whether the products of sparse rows are better made of the numbers that they store."""
    return bool(X.size <= FEW * X.shape[0] * X.shape[1])


def products_of_sparse(data: Dataset, rows: slice) -> Products:
    """The products of some of the rows, added up in float64."""
    total = Products.zero(data.num_columns, data.y.shape[1])
    for part, X in _pieces(data, rows):
        values, indices, indptr = kernel_rows(X)
        y = data.y[part].astype(np.float64, copy=False)
        weights = ALL_ONE if data.weights is None else data.weights[part]
        ends = indptr if data.is_stored else indptr[part.start : part.stop + 1]
        add_products(values, indices, ends, NO_ORDER, y, weights, *total[:3])
    _add_other_side(total.columns)
    return total


def _add_other_side(columns: FloatArray) -> None:
    """Makes a matrix symmetric that has each sum on one side of its diagonal."""
    once = np.diagonal(columns).copy()
    columns += columns.T.copy()
    np.fill_diagonal(columns, once)


def _pieces(data: Dataset, rows: slice) -> Iterator[tuple[slice, Any]]:
    """Rows that are in memory as they are, stored ones some at a time."""
    X: Any = data.X
    if data.is_stored:
        yield from X.windows(rows.start, rows.stop)
    else:
        yield rows, X


def sampled_hessian(
    data: Dataset, loss: Loss, alpha: float, at: FloatArray, chosen: Sample, fit_intercept: bool
) -> FloatArray:
    """The objective's Hessian (d + 1, d + 1) at parameters (1, d + 1), on a sample of rows."""
    rows, weights = chosen
    some, d = SampledRows(data.X, rows), data.num_columns
    bends = second_derivatives(loss.code, some.scores(at), data.y[rows], loss.shape)
    H = some.hessian(bends, weights)
    H[np.arange(d), np.arange(d)] += alpha
    if not fit_intercept:
        H[d, :] = H[:, d] = 0.0
    return H


def inverse_above(H: FloatArray, bound: Preconditioner) -> Product | None:
    """The inverse of a sample's Hessian and a little of the bound: columns that the sample lacks bend by that.

    Conjugate gradients take two or three products from there, and L-BFGS fewer passes. None where rounding
    has left no positive matrix.
    """
    try:
        solve = cholesky_solver(H + SHARE * bound.matrix)
    except np.linalg.LinAlgError:
        return None
    return lambda v: solve(v[0])[None, :]


class SampledRows:
    """Some sparse rows, in the order that they were chosen in; they are read where they lie."""

    def __init__(self, X: Any, rows: IntArray | slice) -> None:
        self.X, self.order = (X.part(rows), ALL) if is_stored(X) else (X, rows)
        self.dtype = X.dtype

    def scores(self, parameters: FloatArray) -> FloatArray:
        """(m, k), in the rows' data type, at ``parameters`` (k, d + 1)."""
        V = np.ascontiguousarray(parameters.T, dtype=self.dtype)
        found = []
        for _, X, order in self._blocks():
            found.append(np.empty((len(order), V.shape[1]), dtype=self.dtype))
            write_scores(*kernel_rows(X), order, V, found[-1])
        return np.concatenate(found)

    def curvature(
        self, bends: FloatArray, weights: FloatArray, is_softmax: bool, direction: FloatArray
    ) -> FloatArray:
        """What ``add_curvature`` makes of a ``direction`` (k, d + 1), float64."""
        V = np.ascontiguousarray(direction.T, dtype=self.dtype)
        out = np.zeros_like(V)
        for part, X, order in self._blocks():
            add_curvature(*kernel_rows(X), order, bends[part], weights[part], is_softmax, V, out)
        return np.asarray(out.T, dtype=np.float64, order="C")

    def hessian(self, bends: FloatArray, weights: FloatArray) -> FloatArray:
        """Σ weight · bend · x̃ x̃ᵀ (d + 1, d + 1) of one output."""
        H = np.zeros((self.X.shape[1] + 1,) * 2)
        nothing = np.empty((0, H.shape[0])), np.empty(0)
        for part, X, order in self._blocks():
            y = np.empty((X.shape[0], 0))
            add_products(*kernel_rows(X), order, y, weights[part] * bends[part, 0], H, *nothing)
        _add_other_side(H)
        return H

    def _blocks(self) -> Iterator[tuple[slice, Any, IntArray]]:
        """Which of the chosen rows, the rows that they are among, and their numbers there."""
        for part, X in blocks(self.X):
            order = np.arange(X.shape[0])[self.order] if isinstance(self.order, slice) else self.order
            yield part if is_stored(self.X) else ALL, X, order.astype(np.int64, copy=False)


@kernel
def add_products(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    order: IntArray,
    y: FloatArray,
    weights: FloatArray,
    columns: FloatArray,
    targets: FloatArray,
    squares: FloatArray,
) -> None:
    """Adds the products (``Products``) of the rows ``order``, or of all where it is empty.

    ``weights`` go with ``order``. That of two columns is added once, on either side of the diagonal.
    """
    d, k = columns.shape[0] - 1, targets.shape[0]
    ordered = order.size > 0
    for i in range(order.size if ordered else indptr.size - 1):
        row = order[i] if ordered else i
        low, high = span(indptr, row)
        weight = weights[i] if weights.size else 1.0
        for p in range(low, high):
            j, x = indices[p], weight * values[p]
            for q in range(p, high):
                columns[j, indices[q]] += x * values[q]
            columns[j, d] += x
        columns[d, d] += weight
        for c in range(k):
            target = y[row, c]
            for p in range(low, high):
                targets[c, indices[p]] += weight * target * values[p]
            targets[c, d] += weight * target
            squares[c] += weight * target * target


@kernel
def write_scores(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    order: IntArray,
    V: FloatArray,
    scores: FloatArray,
) -> None:
    """Overwrites ``scores`` (m, k) with those of the m rows ``order``."""
    d, k = V.shape[0] - 1, V.shape[1]
    w, one = V.reshape(V.size), scores.reshape(scores.size)
    for i in range(order.size):
        low, high = span(indptr, order[i])
        if k == 1:
            one[i] = row_score(values, indices, low, high, w) + w[d]
        else:
            write_row_scores(values, indices, low, high, V, 1.0, scores[i])


@kernel
def add_curvature(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    order: IntArray,
    bends: FloatArray,
    weights: FloatArray,
    is_softmax: bool,
    V: FloatArray,
    out: FloatArray,
) -> None:
    """Adds Σ weight · x̃ ⊗ B x̃ᵀV over the rows ``order`` to ``out``, (d + 1, k) as is ``V``.

    B is diag(bend) of each row's ``bends`` (m, k), and of softmax, whose probabilities they are, less bend ⊗ bend.
    """
    d, k = V.shape[0] - 1, V.shape[1]
    number = values.dtype.type
    moves = np.empty(k, dtype=values.dtype)
    w, total = V.reshape(V.size), out.reshape(out.size)
    for i in range(order.size if k == 1 else 0):
        low, high = span(indptr, order[i])
        move = number(weights[i] * bends[i, 0]) * (row_score(values, indices, low, high, w) + w[d])
        for p in range(low, high):
            total[indices[p]] += move * values[p]
        total[d] += move
    for i in range(order.size if k > 1 else 0):
        low, high = span(indptr, order[i])
        write_row_scores(values, indices, low, high, V, 1.0, moves)
        mean, weight = number(0.0), number(weights[i])
        if is_softmax:
            for c in range(k):
                mean += number(bends[i, c]) * moves[c]
        for c in range(k):
            moves[c] = weight * number(bends[i, c]) * (moves[c] - mean)
            out[d, c] += moves[c]
        for p in range(low, high):
            j, x = indices[p], values[p]
            for c in range(k):
                out[j, c] += x * moves[c]
