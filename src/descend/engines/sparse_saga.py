"""Mini-batch SAGA over sparse rows: a step costs the batch's stored numbers, and takes exactly the dense step.

The mean gradient moves every parameter at every step. Between two rows that hold a column its parameters are
not looked at, and what they owe in the meantime is one number times their mean gradient: it is paid when the
column is next read ("just in time", Schmidt, Le Roux and Bach, https://arxiv.org/abs/1309.2388). With the
penalty as a common factor, weights = scale · V, a step of rate r adds r / scale to that number.

The dense twin is ``saga_kernels.py``; ``V``, ``table`` and the rest are as there and in ``sparse_kernels.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel, part
from descend.engines.row_kernels import AHEAD, write_derivatives
from descend.engines.saga_kernels import LEAST_SHARE, curvature_share
from descend.engines.sparse_kernels import FOLD, ask_for_row, write_row_scores
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray


@part
def settle(V: FloatArray, mean_gradient: FloatArray, paid: FloatArray, due: float, scale: float) -> None:
    """Pays what every column owes and multiplies the common factor in; ``paid`` (d,) starts anew at 0."""
    number = V.dtype.type
    for j in range(V.shape[0] - 1):
        owed = due - paid[j]
        paid[j] = 0.0
        for c in range(V.shape[1]):
            V[j, c] = number(scale * (V[j, c] - owed * mean_gradient[j, c]))


@kernel
def run_sparse_saga(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    visit_weights: FloatArray,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    table: FloatArray,
    mean_gradient: FloatArray,
    filling: bool,
    share: float,
    first_step: int,
    num_steps: int,
    loss: int,
    shape: Shape,
    alpha: float,
    full_term: float,
    single_term: float,
    fit_intercept: bool,
) -> tuple[int, float]:
    """Walks ``order`` in batches; ``mean_gradient`` (d + 1, k). Returns what ``saga_kernels.run_saga`` does."""
    d, k = V.shape[0] - 1, V.shape[1]
    n = table.shape[0]
    number = values.dtype.type
    room = np.empty((min(batch_size, max(1, order.size)), k), dtype=values.dtype)
    paid = np.zeros(d)
    intercept = np.zeros(k, dtype=values.dtype)
    horizon = 10.0 / n
    scale, due, step = 1.0, 0.0, first_step
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        s = np.sqrt(max(share, LEAST_SHARE))
        if filling:
            rate = (1.0 - 0.9 * step / num_steps) / (s * (full_term + 2.0 * single_term))
        else:
            rate = 1.0 / (s * (full_term + 3.0 * single_term))
        rate *= (stop - start) / batch_size
        step += 1
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            low, high = indptr[row], indptr[row + 1]
            if not filling:
                for p in range(low, high):
                    j = indices[p]
                    owed = due - paid[j]
                    paid[j] = due
                    for c in range(k):
                        V[j, c] -= number(owed * mean_gradient[j, c])
            scores = room[i - start]
            write_row_scores(values, indices, low, high, V, scale, scores)
            write_derivatives(loss, shape, scores, y, row)
            weight = weights[row] if weights.size else 1.0
            visit = visit_weights[row] if visit_weights.size else 1.0
            share += horizon * (visit * weight * curvature_share(loss, shape, scores, y, row) - share)
            for c in range(k):
                scores[c] = number(scores[c] * weight)
        scale *= 1.0 - rate * alpha
        if abs(scale) < FOLD:
            settle(V, mean_gradient, paid, due, scale)
            scale, due = 1.0, 0.0
        length = rate / scale
        for i in range(start, stop):
            row = order[i]
            low, high = indptr[row], indptr[row + 1]
            visit = visit_weights[row] if visit_weights.size else 1.0
            scores = room[i - start]
            for c in range(k):
                now = scores[c]
                change = now - table[row, c]
                table[row, c] = now
                towards = number(visit / (stop - start)) * (now if filling else change)
                kept = np.float64(change) / n
                intercept[c] += towards
                mean_gradient[d, c] += kept
                move = number(length * towards)
                for p in range(low, high):
                    j = indices[p]
                    V[j, c] -= move * values[p]
                    mean_gradient[j, c] += kept * values[p]
        if not filling:
            due += length
            for c in range(k):
                intercept[c] += number(mean_gradient[d, c])
        for c in range(k):
            if fit_intercept:
                V[d, c] -= number(rate) * intercept[c]
            intercept[c] = number(0.0)
    settle(V, mean_gradient, paid, due, scale)
    return step, share
