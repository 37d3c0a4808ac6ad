"""Plain SGD over sparse rows: a step touches its rows' stored numbers and nothing else, and is the dense step.

The weights are scale · V, so the L2 penalty shrinks one number. The sum of the parameters that go into the average
is owed · V + sums: a step that is averaged adds to ``owed`` and to no weight, and ``sums`` changes where V does
(Xu 2011, https://arxiv.org/abs/1107.2490). Where the data is so narrow that writing the weights out costs less,
``sums`` takes them as they are, and nothing is owed.

A ``scale`` near zero or below it is multiplied into V (``fold``): nothing underflows, and steps that L2 makes
overshoot, rate · alpha ≥ 1, stay what they are. Names and shapes as in ``sparse_kernels.py``; the dense twin is
``step_kernels.py``. What optimizers with a memory do is in ``sparse_dense_steps.py``, L1 in ``sparse_proximal.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel, part
from descend.engines.linear_arguments import Objective, Pace, SparseAveraging, SparseData
from descend.engines.row_kernels import AHEAD, slope, write_block_derivatives, write_derivatives
from descend.engines.sparse_kernels import ask_for_row, row_score, span, write_row_scores
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray
from descend.updates.schedules import rate_at

FOLD = 1e-3
"""The smallest common factor of the weights: below it ``owed`` · V and ``sums`` would be large and nearly cancel."""


@part
def fold(V: FloatArray, sums: FloatArray, scale: float, owed: float) -> None:
    """Multiplies the common factor into the weights, and adds what the sums owe them; both start anew."""
    number = V.dtype.type(scale)
    for j in range(V.shape[0] - 1):
        for c in range(V.shape[1]):
            if sums.size:
                sums[j, c] += owed * V[j, c]
            V[j, c] *= number


@part
def add_weights(V: FloatArray, sums: FloatArray, scale: float) -> None:
    """Adds the weights to ``sums``, every one of them."""
    for j in range(V.shape[0] - 1):
        for c in range(V.shape[1]):
            sums[j, c] += scale * V[j, c]


@part
def write_row_derivatives(
    data: SparseData,
    row: int,
    V: FloatArray,
    scale: float,
    loss: int,
    shape: Shape | None,
    scores: FloatArray,
) -> None:
    """Overwrites ``scores`` (k,) with the weighted derivatives of one row."""
    values, indices, indptr, y, weights = data
    low, high = span(indptr, row)
    write_row_scores(values, indices, low, high, V, scale, scores)
    write_derivatives(loss, shape, scores, y, row)
    if weights.size:
        for c in range(scores.shape[0]):
            scores[c] *= values.dtype.type(weights[row])


@kernel
def run_sgd(
    data: SparseData,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    averaging: SparseAveraging,
    objective: Objective,
    pace: Pace,
    sum_rows: bool,
) -> tuple[int, int]:
    """Walks ``order`` in batches; L1 is left out. Returns steps in all, and parameters averaged here."""
    values, indices, indptr, _, _ = data
    sums, average_every, narrow = averaging
    loss, shape, alpha, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    d, k = V.shape[0] - 1, V.shape[1]
    number = values.dtype.type
    lazily = average_every > 0 and not narrow
    room = np.empty((min(batch_size, max(1, order.size)), k), dtype=values.dtype)
    scale, owed, num_averaged = 1.0, 0.0, 0
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        rows = 1 if sum_rows else stop - start
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            write_row_derivatives(data, row, V, scale, loss, shape, room[i - start])
        scale *= 1.0 - now * alpha * (stop - start) / rows
        if scale < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        length, intercept_length = number(now / rows / scale), number(now / rows)
        for i in range(start, stop):
            low, high = span(indptr, order[i])
            scores = room[i - start]
            if fit_intercept:
                for c in range(k):
                    V[d, c] -= scores[c] * intercept_length
            for c in range(k):
                scores[c] *= length
            for p in range(low, high):
                j, x = indices[p], values[p]
                if lazily:
                    for c in range(k):
                        before = V[j, c]
                        V[j, c] = before - scores[c] * x
                        sums[j, c] += owed * (np.float64(before) - np.float64(V[j, c]))
                else:
                    for c in range(k):
                        V[j, c] -= scores[c] * x
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            if narrow:
                add_weights(V, sums, scale)
            else:
                owed += scale
            for c in range(k):
                sums[d, c] += V[d, c]
    fold(V, sums, scale, owed)
    return step, num_averaged


@kernel
def run_sgd_of_one(
    data: SparseData,
    order: IntArray,
    V: FloatArray,
    averaging: SparseAveraging,
    objective: Objective,
    pace: Pace,
) -> tuple[int, int]:
    """``run_sgd`` for batch size 1 and one output: score and step stay in registers."""
    values, indices, indptr, y, weights = data
    sums, average_every, narrow = averaging
    loss, shape, alpha, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    d = V.shape[0] - 1
    number = values.dtype.type
    w, u = V.reshape(V.size), sums.reshape(sums.size)
    scale, owed, num_averaged = 1.0, 0.0, 0
    lazily = average_every > 0 and not narrow
    until_average = average_every - step % average_every if average_every > 0 else 0
    for i in range(order.size):
        row = order[i]
        if i + AHEAD < order.size:
            ask_for_row(values, indices, indptr, order[i + AHEAD])
        low, high = span(indptr, row)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        score = row_score(values, indices, low, high, w) * number(scale) + w[d]
        r = slope(loss, shape, score, y[row, 0])
        if weights.size:
            r *= number(weights[row])
        scale *= 1.0 - now * alpha
        if scale < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        move = r * number(now / scale)
        if lazily:
            for p in range(low, high):
                j = indices[p]
                before = w[j]
                w[j] = before - move * values[p]
                u[j] += owed * (np.float64(before) - np.float64(w[j]))
        else:
            for p in range(low, high):
                w[indices[p]] -= move * values[p]
        if fit_intercept:
            w[d] -= r * number(now)
        if average_every > 0:
            until_average -= 1
            if until_average == 0:
                until_average = average_every
                num_averaged += 1
                u[d] += w[d]
                if narrow:
                    add_weights(V, sums, scale)
                else:
                    owed += scale
    fold(V, sums, scale, owed)
    return step, num_averaged


@kernel
def run_sgd_of_one_output(
    data: SparseData,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    averaging: SparseAveraging,
    objective: Objective,
    pace: Pace,
    sum_rows: bool,
) -> tuple[int, int]:
    """``run_sgd`` for one output: the derivatives of a batch are taken together."""
    values, indices, indptr, y, weights = data
    sums, average_every, narrow = averaging
    loss, shape, alpha, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    d = V.shape[0] - 1
    number = values.dtype.type
    size = min(batch_size, max(1, order.size))
    block, targets = np.empty(size, dtype=values.dtype), np.empty(size, dtype=values.dtype)
    w, u = V.reshape(V.size), sums.reshape(sums.size)
    scale, owed, num_averaged = 1.0, 0.0, 0
    lazily = average_every > 0 and not narrow
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        rows = 1 if sum_rows else stop - start
        for i in range(start, stop):
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            low, high = span(indptr, order[i])
            block[i - start] = row_score(values, indices, low, high, w) * number(scale) + w[d]
        write_block_derivatives(y, weights, order, start, stop, loss, shape, block, targets)
        scale *= 1.0 - now * alpha * (stop - start) / rows
        if scale < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        length, total = number(now / rows / scale), number(0.0)
        for i in range(start, stop):
            low, high = span(indptr, order[i])
            move = block[i - start] * length
            total += block[i - start]
            if lazily:
                for p in range(low, high):
                    j = indices[p]
                    before = w[j]
                    w[j] = before - move * values[p]
                    u[j] += owed * (np.float64(before) - np.float64(w[j]))
            else:
                for p in range(low, high):
                    w[indices[p]] -= move * values[p]
        if fit_intercept:
            w[d] -= total * number(now / rows)
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            u[d] += w[d]
            if narrow:
                add_weights(V, sums, scale)
            else:
                owed += scale
    fold(V, sums, scale, owed)
    return step, num_averaged
