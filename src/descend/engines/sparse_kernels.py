"""Sparse rows, compiled: scores, losses and gradients at the cost of the numbers that the rows store.

n rows, d columns, k outputs. ``values``, ``indices``, ``indptr`` are those of CSR, ``indices`` unsigned; ``V``
(d + 1, k) holds the parameters a column a line, the intercept last, so that a stored number meets its k parameters
side by side. ``order`` empty means rows start … stop − 1. The dense twin is ``row_kernels.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.compiled import kernel, part
from descend.engines.fast_math import exponential, log_beyond_one
from descend.engines.linear_arguments import SparseData
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import (
    BLOCK,
    LINE,
    loss_of,
    target_of,
    write_block_derivatives,
    write_derivatives,
)
from descend.objectives.losses import LOG_LOSS, SOFTMAX, Shape, softmax_value
from descend.types import FloatArray, IntArray


def kernel_rows(X: Any) -> tuple[FloatArray, IntArray, IntArray]:
    """``values``, ``indices``, ``indptr`` of a CSR array as kernels take them: views, nothing is copied.

    Numba lets a signed index count from the end, and asks at each use whether it does: half of a step's time.
    """
    return X.data, X.indices.view(f"u{X.indices.itemsize}"), X.indptr


@part
def span(indptr: IntArray, row: int) -> tuple[np.uintp, np.uintp]:
    """Where the stored numbers of ``row`` begin and end; unsigned, as in ``kernel_rows``."""
    return np.uintp(indptr[row]), np.uintp(indptr[row + 1])


@part
def row_score(values: FloatArray, indices: IntArray, low: np.uintp, high: np.uintp, w: FloatArray) -> float:
    """Σ value · w over one row's stored numbers."""
    total = values.dtype.type(0.0)
    for p in range(low, high):
        total += values[p] * w[indices[p]]
    return total  # type: ignore[return-value]


@part
def write_row_scores(
    values: FloatArray,
    indices: IntArray,
    low: np.uintp,
    high: np.uintp,
    V: FloatArray,
    scale: float,
    scores: FloatArray,
) -> None:
    """Overwrites ``scores`` (k,) with scale · w·x + b of one row."""
    d, k = V.shape[0] - 1, V.shape[1]
    if k == 1:  # loops over one output take three times as long
        total = values.dtype.type(0.0)
        for p in range(low, high):
            total += values[p] * V[indices[p], 0]
        scores[0] = total * values.dtype.type(scale) + V[d, 0]
        return
    for c in range(k):
        scores[c] = 0.0
    for p in range(low, high):
        j, x = indices[p], values[p]
        for c in range(k):
            scores[c] += x * V[j, c]
    for c in range(k):
        scores[c] = scores[c] * values.dtype.type(scale) + V[d, c]


@part
def row_value(loss: int, shape: Shape | None, scores: FloatArray, y: FloatArray, row: int) -> float:
    """The loss of one row from its scores (k,)."""
    if loss == SOFTMAX:
        return softmax_value(scores, int(y[row, 0]))
    total = 0.0
    for c in range(scores.shape[0]):
        total += loss_of(loss, shape, scores[c], target_of(y, row, c, scores.shape[0]))
    return total


@part
def ask_for_row(values: FloatArray, indices: IntArray, indptr: IntArray, row: int) -> None:
    """Starts loading the stored numbers of ``row``: the first lines; hardware follows from there."""
    low, high = indptr[row], indptr[row + 1]
    for p in range(low, min(high, low + 4 * LINE), LINE // 4):
        prefetch(values, p, 0)
        prefetch(indices, p, 0)


@part
def block_sums(
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    loss: int,
    shape: Shape | None,
    scores: FloatArray,
) -> tuple[float, float]:
    """Sums, float64, of weighted losses and of weights of rows order[start:stop]; ``scores`` of one output."""
    ordered, number = order.size > 0, scores.dtype.type
    n, total, total_weight = stop - start, 0.0, 0.0
    if loss == LOG_LOSS and not weights.size:
        product = 1.0  # of 1 + e⁻ˡˢˡ, below 2⁶⁴: one logarithm for all rows
        for i in range(n):
            product *= 1.0 + np.float64(exponential(-abs(scores[i])))
        for i in range(n):
            score, target = scores[i], number(y[order[start + i] if ordered else start + i, 0])
            total += np.float64(max(score, number(0.0)) - target * score)
        return total + np.log(product), np.float64(n)
    if loss == LOG_LOSS:
        for i in range(n):
            row = order[start + i] if ordered else start + i
            score = scores[i]
            straight = np.float64(max(score, number(0.0)) - number(y[row, 0]) * score)
            total += weights[row] * (straight + np.float64(log_beyond_one(exponential(-abs(score)))))
            total_weight += weights[row]
        return total, total_weight
    for i in range(n):
        row = order[start + i] if ordered else start + i
        weight = weights[row] if weights.size else 1.0
        total += weight * loss_of(loss, shape, scores[i], y[row, 0])
        total_weight += weight
    return total, total_weight


@kernel
def add_sums(
    data: SparseData,
    order: IntArray,
    start: int,
    stop: int,
    V: FloatArray,
    loss: int,
    shape: Shape | None,
    with_loss: bool,
    gradient: FloatArray,
) -> tuple[float, float]:
    """Adds the rows' weighted gradients to ``gradient`` (d + 1, k), none where it is empty.

    Returns the sums of weighted losses (0 unless ``with_loss``) and of weights.
    """
    values, indices, indptr, y, weights = data
    d, k = V.shape[0] - 1, V.shape[1]
    ordered, with_gradient = order.size > 0, gradient.size > 0
    number = values.dtype.type
    total = total_weight = 0.0
    scores = np.empty(k, dtype=values.dtype)
    if k == 1:
        w, g = V.reshape(V.size), gradient.reshape(gradient.size)
        block, targets = np.empty(BLOCK, dtype=values.dtype), np.empty(BLOCK, dtype=values.dtype)
        for at in range(start, stop, BLOCK):
            end = min(at + BLOCK, stop)
            for i in range(at, end):
                low, high = span(indptr, order[i] if ordered else i)
                block[i - at] = row_score(values, indices, low, high, w) + w[d]
            if with_loss:
                loss_of_block, weight = block_sums(y, weights, order, at, end, loss, shape, block)
                total += loss_of_block
                total_weight += weight
            if not with_gradient:
                continue
            write_block_derivatives(y, weights, order, at, end, loss, shape, block, targets)
            for i in range(at, end):
                row = order[i] if ordered else i
                r = block[i - at]
                low, high = span(indptr, row)
                for p in range(low, high):
                    g[indices[p]] += r * values[p]
                g[d] += r
        return total, total_weight
    for i in range(start, stop):
        row = order[i] if ordered else i
        low, high = span(indptr, row)
        write_row_scores(values, indices, low, high, V, 1.0, scores)
        weight = weights[row] if weights.size else 1.0
        if with_loss:
            total += weight * row_value(loss, shape, scores, y, row)
            total_weight += weight
        if with_gradient:
            write_derivatives(loss, shape, scores, y, row)
            for c in range(k):
                scores[c] *= number(weight)
                gradient[d, c] += scores[c]
            for p in range(low, high):
                j, x = indices[p], values[p]
                for c in range(k):
                    gradient[j, c] += x * scores[c]
    return total, total_weight


@kernel
def squared_norms(values: FloatArray, indptr: IntArray, out: FloatArray) -> None:
    """Overwrites ``out`` (n,) float64 with |x|² + 1 of every row: the 1 is the intercept's column."""
    for row in range(out.size):
        total = 1.0
        low, high = span(indptr, row)
        for p in range(low, high):
            total += np.float64(values[p]) * values[p]
        out[row] = total


@kernel
def gram_product(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    weights: FloatArray,
    num_rows: int,
    direction: FloatArray,
    out: FloatArray,
) -> None:
    """Overwrites ``out`` (d + 1,) with Σ weight · x̃ (x̃ᵀ direction) over the first rows, where x̃ is x and a 1."""
    d = direction.size - 1
    out[:] = 0.0
    for row in range(num_rows):
        low, high = span(indptr, row)
        s = direction[d]
        for p in range(low, high):
            s += values[p] * direction[indices[p]]
        if weights.size:
            s *= weights[row]
        for p in range(low, high):
            out[indices[p]] += s * values[p]
        out[d] += s
