"""Mini-batch SAGA over sparse rows: a step costs the batch's stored numbers, and takes exactly the dense step.

The mean gradient moves every parameter at every step. Between two rows that hold a column its parameters are
not looked at, and what they owe in the meantime is one number times their mean gradient: it is paid when the
column is next read ("just in time", Schmidt, Le Roux and Bach, https://arxiv.org/abs/1309.2388). With the
penalty as a common factor, weights = scale · V, a step of rate r adds r / scale to that number, ``due``.

L1 draws the weight towards zero after every step. Meanwhile its gradient g stays what it is, so V goes straight:
by l1 + g downwards from above zero, by l1 − g upwards from below. Where it comes to zero it stays, if |g| ≤ l1; if
not, it goes straight on the other side. The one step that crosses is taken as it was, and found among the course of
``due``.

The dense twin is ``saga_kernels.py``; ``V``, ``table`` and the rest are as there and in ``sparse_kernels.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import inline, kernel, part
from descend.engines.linear_arguments import Objective, SagaPace, SparseData, Table, Visits
from descend.engines.row_kernels import AHEAD, write_derivatives
from descend.engines.saga_kernels import curvature_share, rate_of
from descend.engines.sparse_kernels import ask_for_row, span, write_row_scores
from descend.engines.sparse_steps import FOLD
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray

inline(shrunk)


@part
def crossed(size: float, along: float, l1: float, course: FloatArray, num: int, paid: float) -> float:
    """Where steps since ``paid`` end that lead from ``size`` > 0 past zero; ``along`` is the gradient, above ``l1``.

    ``course[: num + 1]`` ascends: what was due before each step, and is due now. A step is as long as it grows there.
    """
    low, high = 0, num  # the first step that ends below zero, by halving
    while low < high:
        middle = (low + high) // 2
        if size - (course[middle] - paid) * (along + l1) < 0.0:
            high = middle
        else:
            low = middle + 1
    length = course[low] - course[low - 1]
    before = size - (course[low - 1] - paid) * (along + l1)
    after = float(shrunk(before - length * along, length * l1))
    return float(after - (course[num] - course[low]) * (along - l1))


@part
def moved(weight: float, g: float, l1: float, course: FloatArray, num: int, paid: float) -> float:
    """``weight`` after the steps since ``paid``: each goes along ``g``, then towards zero by ``l1``."""
    side = np.copysign(1.0, weight if weight != 0.0 else -g)  # from zero it can go to one side alone
    size, along = abs(weight), side * g
    end = size - (course[num] - paid) * (along + l1)
    if end < 0.0 and along > l1:
        end = crossed(size, along, l1, course, num, paid)
    elif end < 0.0:
        return 0.0
    return float(side * end)


@part
def settle(
    V: FloatArray,
    columns: IntArray,
    low: np.uintp,
    high: np.uintp,
    mean_gradient: FloatArray,
    filling: bool,
    l1: float,
    course: FloatArray,
    num: int,
    paid: FloatArray,
) -> None:
    """Takes columns[low:high] through the steps since they ``paid``; while ``filling`` no gradient moves them."""
    number = V.dtype.type
    due = course[num]
    if l1 > 0.0:
        for p in range(low, high):
            j = columns[p]
            for c in range(V.shape[1]):
                g = 0.0 if filling else mean_gradient[j, c]
                V[j, c] = number(moved(np.float64(V[j, c]), g, l1, course, num, paid[j]))
            paid[j] = due
    elif not filling and V.shape[1] == 1:
        for p in range(low, high):
            j = columns[p]
            V[j, 0] -= number((due - paid[j]) * mean_gradient[j, 0])
            paid[j] = due
    elif not filling:
        for p in range(low, high):
            j = columns[p]
            owed = due - paid[j]
            paid[j] = due
            for c in range(V.shape[1]):
                V[j, c] -= number(owed * mean_gradient[j, c])


@part
def settle_all(
    V: FloatArray,
    every: IntArray,
    mean_gradient: FloatArray,
    filling: bool,
    l1: float,
    course: FloatArray,
    num: int,
    paid: FloatArray,
    scale: float,
) -> None:
    """Settles ``every`` column and multiplies the common factor in; ``paid`` (d,) starts anew at 0."""
    number = V.dtype.type(scale)
    settle(V, every, np.uintp(0), np.uintp(every.size), mean_gradient, filling, l1, course, num, paid)
    paid[:] = 0.0
    for j in range(every.size):
        for c in range(V.shape[1]):
            V[j, c] *= number


@kernel
def run_sparse_saga(
    data: SparseData,
    visits: Visits,
    batch_size: int,
    V: FloatArray,
    memory: Table,
    objective: Objective,
    pace: SagaPace,
) -> tuple[int, float]:
    """``saga_kernels.run_saga`` of sparse rows and whole batches; the mean gradient is (d + 1, k), as ``V`` is."""
    values, indices, indptr, y, weights = data
    order, visit_weights = visits
    table, mean_gradient, n = memory
    loss, shape, alpha, l1, fit_intercept = objective
    filling, share, step, num_steps, full_term, single_term = pace
    d, k = V.shape[0] - 1, V.shape[1]
    number = values.dtype.type
    room = np.empty((min(batch_size, max(1, order.size)), k), dtype=values.dtype)
    paid, every = np.zeros(d), np.arange(d).astype(indices.dtype)
    course = np.zeros(order.size // batch_size + 2)
    intercept = np.zeros(k, dtype=values.dtype)
    kept = np.zeros(k)
    horizon = 10.0 / n
    scale, num = 1.0, 0
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        rate = rate_of(share, filling, step, num_steps, full_term, single_term)
        rate *= (stop - start) / batch_size
        step += 1
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            low, high = span(indptr, row)
            settle(V, indices, low, high, mean_gradient, filling, l1, course, num, paid)
            scores = room[i - start]
            write_row_scores(values, indices, low, high, V, scale, scores)
            write_derivatives(loss, shape, scores, y, row)
            weight = weights[row] if weights.size else 1.0
            visit = visit_weights[row] if visit_weights.size else 1.0
            share += horizon * (visit * weight * curvature_share(loss, shape, scores, y, row) - share)
            for c in range(k):
                scores[c] = number(scores[c] * weight)
        scale *= 1.0 - rate * alpha
        if scale < FOLD:
            settle_all(V, every, mean_gradient, filling, l1, course, num, paid, scale)
            scale, num = 1.0, 0
        length = rate / scale
        for i in range(start, stop):
            row = order[i]
            low, high = span(indptr, row)
            visit = visit_weights[row] if visit_weights.size else 1.0
            scores = room[i - start]
            for c in range(k):
                now = scores[c]
                change = now - table[row, c]
                table[row, c] = now
                towards = number(visit / (stop - start)) * (now if filling else change)
                kept[c] = np.float64(change) / n
                if (
                    not filling
                ):  # the step goes along the mean gradient before it, but is settled along the one after
                    towards -= number(kept[c])
                intercept[c] += towards
                mean_gradient[d, c] += kept[c]
                scores[c] = number(length * towards)
            if k == 1:
                length_of_row, more = scores[0], kept[0]
                for p in range(low, high):
                    j, x = indices[p], values[p]
                    V[j, 0] -= length_of_row * x
                    mean_gradient[j, 0] += more * x
                continue
            for p in range(low, high):
                j, x = indices[p], values[p]
                for c in range(k):
                    V[j, c] -= scores[c] * x
                    mean_gradient[j, c] += kept[c] * x
        course[num + 1] = course[num] + length
        num += 1
        for c in range(k):
            if not filling:
                intercept[c] += number(mean_gradient[d, c])
            if fit_intercept:
                V[d, c] -= number(rate) * intercept[c]
            intercept[c] = number(0.0)
    settle_all(V, every, mean_gradient, filling, l1, course, num, paid, scale)
    return step, share
