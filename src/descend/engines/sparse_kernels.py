"""Compiled loops for linear models over sparse rows: a step touches a row's stored numbers and nothing else.

n rows, d columns, k outputs. ``values``, ``indices``, ``indptr`` are those of CSR; ``V`` (d + 1, k) holds the
parameters a column a line, the intercept last, so that a stored number meets its k parameters side by side.
``order`` empty means rows start … stop − 1. The dense twins are ``row_kernels.py`` and ``step_kernels.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel, part
from descend.engines.fast_math import exponential
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import (
    AHEAD,
    BLOCK,
    LINE,
    target_of,
    write_block_derivatives,
    write_derivatives,
)
from descend.engines.step_kernels import apply_update
from descend.objectives.losses import LOG_LOSS, SOFTMAX, Shape, derivative, softmax_value, value
from descend.types import FloatArray, IntArray
from descend.updates.schedules import rate_at

FOLD = 1e-3
"""The common factor of the weights is multiplied into them below this, so that nothing underflows."""


@part
def row_score(values: FloatArray, indices: IntArray, low: int, high: int, w: FloatArray) -> float:
    """Σ value · w over one row's stored numbers."""
    a = b = c = e = values.dtype.type(0.0)
    p = low
    while p + 4 <= high:  # four sums: one would wait for itself
        a += values[p] * w[indices[p]]
        b += values[p + 1] * w[indices[p + 1]]
        c += values[p + 2] * w[indices[p + 2]]
        e += values[p + 3] * w[indices[p + 3]]
        p += 4
    while p < high:
        a += values[p] * w[indices[p]]
        p += 1
    return (a + b) + (c + e)  # type: ignore[return-value]


@part
def write_row_scores(
    values: FloatArray,
    indices: IntArray,
    low: int,
    high: int,
    V: FloatArray,
    scale: float,
    scores: FloatArray,
) -> None:
    """Overwrites ``scores`` (k,) with scale · w·x + b of one row."""
    d, k = V.shape[0] - 1, V.shape[1]
    for c in range(k):
        scores[c] = 0.0
    for p in range(low, high):
        j, x = indices[p], values[p]
        for c in range(k):
            scores[c] += x * V[j, c]
    for c in range(k):
        scores[c] = scores[c] * values.dtype.type(scale) + V[d, c]


@part
def row_value(loss: int, shape: Shape, scores: FloatArray, y: FloatArray, row: int) -> float:
    """The loss of one row from its scores (k,)."""
    if loss == SOFTMAX:
        return softmax_value(scores, int(y[row, 0]))
    total = 0.0
    for c in range(scores.shape[0]):
        total += value(loss, np.float64(scores[c]), target_of(y, row, c, scores.shape[0]), shape)
    return total


@part
def ask_for_row(values: FloatArray, indices: IntArray, indptr: IntArray, row: int) -> None:
    """Starts loading the stored numbers of ``row``: the first lines; hardware follows from there."""
    low, high = indptr[row], indptr[row + 1]
    for p in range(low, min(high, low + 4 * LINE), LINE // 4):
        prefetch(values, p, 0)
        prefetch(indices, p, 0)


@kernel
def add_sums(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    V: FloatArray,
    loss: int,
    shape: Shape,
    with_loss: bool,
    gradient: FloatArray,
) -> tuple[float, float]:
    """Adds the rows' weighted gradients to ``gradient`` (d + 1, k), none where it is empty.

    Returns the sums of weighted losses (0 unless ``with_loss``) and of weights.
    """
    d, k = V.shape[0] - 1, V.shape[1]
    ordered, with_gradient = order.size > 0, gradient.size > 0
    number = values.dtype.type
    total = total_weight = 0.0
    scores = np.empty(k, dtype=values.dtype)
    if k == 1:
        w, g = V[:, 0], gradient[:, 0]
        block, targets = np.empty(BLOCK, dtype=values.dtype), np.empty(BLOCK, dtype=values.dtype)
        for at in range(start, stop, BLOCK):
            end = min(at + BLOCK, stop)
            for i in range(at, end):
                row = order[i] if ordered else i
                score = row_score(values, indices, indptr[row], indptr[row + 1], w) + w[d]
                block[i - at] = score
                if with_loss:
                    weight = weights[row] if weights.size else 1.0
                    total += weight * value(loss, np.float64(score), y[row, 0], shape)
                    total_weight += weight
            if not with_gradient:
                continue
            write_block_derivatives(y, weights, order, at, end, loss, shape, block, targets)
            for i in range(at, end):
                row = order[i] if ordered else i
                r = block[i - at]
                for p in range(indptr[row], indptr[row + 1]):
                    g[indices[p]] += r * values[p]
                g[d] += r
        return total, total_weight
    for i in range(start, stop):
        row = order[i] if ordered else i
        low, high = indptr[row], indptr[row + 1]
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


@part
def fold(V: FloatArray, sums: FloatArray, scale: float, weight_of_now: float) -> None:
    """Multiplies the common factor into the weights, and adds what the sums owe them; both start anew."""
    number = V.dtype.type(scale)
    for j in range(V.shape[0] - 1):
        for c in range(V.shape[1]):
            if sums.size:
                sums[j, c] += weight_of_now * V[j, c]
            V[j, c] *= number


@kernel
def run_sgd(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    sums: FloatArray,
    average_every: int,
    first_step: int,
    loss: int,
    shape: Shape,
    alpha: float,
    schedule: int,
    rate: float,
    num_steps: int,
    sum_rows: bool,
    fit_intercept: bool,
) -> tuple[int, int]:
    """Plain SGD whose step costs the batch's stored numbers, the penalty and the average included.

    The weights are scale · V: the penalty shrinks the one number. The sum of the parameters that go into the
    average is owed · V + sums, so a step that is averaged adds to the one number too, and ``sums`` (d + 1, k)
    float64 (empty: no average) changes where V does. Both are exact, nothing is approximated (Xu 2011,
    https://arxiv.org/abs/1107.2490). Returns steps in all, and parameters averaged here.
    """
    d, k = V.shape[0] - 1, V.shape[1]
    number = values.dtype.type
    averaging = average_every > 0
    room = np.empty((min(batch_size, max(1, order.size)), k), dtype=values.dtype)
    scale, owed, step, num_averaged = 1.0, 0.0, first_step, 0
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        rows = 1 if sum_rows else stop - start
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            scores = room[i - start]
            write_row_scores(values, indices, indptr[row], indptr[row + 1], V, scale, scores)
            write_derivatives(loss, shape, scores, y, row)
            if weights.size:
                for c in range(k):
                    scores[c] *= number(weights[row])
        scale *= 1.0 - now * alpha * (stop - start) / rows
        if abs(scale) < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        length, intercept_length = number(now / rows / scale), number(now / rows)
        for i in range(start, stop):
            row = order[i]
            low, high = indptr[row], indptr[row + 1]
            scores = room[i - start]
            if fit_intercept:
                for c in range(k):
                    V[d, c] -= scores[c] * intercept_length
            for c in range(k):
                scores[c] *= length
            for p in range(low, high):
                j, x = indices[p], values[p]
                if averaging:
                    for c in range(k):
                        before = V[j, c]
                        V[j, c] = before - scores[c] * x
                        sums[j, c] += owed * (np.float64(before) - np.float64(V[j, c]))
                else:
                    for c in range(k):
                        V[j, c] -= scores[c] * x
        if averaging and step % average_every == 0:
            num_averaged += 1
            owed += scale
            for c in range(k):
                sums[d, c] += V[d, c]
    fold(V, sums, scale, owed)
    return step, num_averaged


@kernel
def run_sgd_of_one(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    V: FloatArray,
    sums: FloatArray,
    average_every: int,
    first_step: int,
    loss: int,
    shape: Shape,
    alpha: float,
    schedule: int,
    rate: float,
    num_steps: int,
    fit_intercept: bool,
) -> tuple[int, int]:
    """``run_sgd`` for batch size 1 and one output: score and step stay in registers."""
    d = V.shape[0] - 1
    number = values.dtype.type
    w, u = V[:, 0], sums[:, 0]
    scale, owed, step, num_averaged = 1.0, 0.0, first_step, 0
    until_average = average_every - first_step % average_every if average_every > 0 else 0
    for i in range(order.size):
        row = order[i]
        if i + AHEAD < order.size:
            ask_for_row(values, indices, indptr, order[i + AHEAD])
        low, high = indptr[row], indptr[row + 1]
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        score = row_score(values, indices, low, high, w) * number(scale) + w[d]
        if loss == LOG_LOSS:
            r = number(1.0) / (number(1.0) + exponential(-score)) - number(y[row, 0])
        else:
            r = number(derivative(loss, score, y[row, 0], shape))
        if weights.size:
            r *= number(weights[row])
        scale *= 1.0 - now * alpha
        if abs(scale) < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        move = r * number(now / scale)
        if average_every > 0:
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
                owed += scale
                u[d] += w[d]
    fold(V, sums, scale, owed)
    return step, num_averaged


@kernel
def run_sgd_of_one_output(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    sums: FloatArray,
    average_every: int,
    first_step: int,
    loss: int,
    shape: Shape,
    alpha: float,
    schedule: int,
    rate: float,
    num_steps: int,
    sum_rows: bool,
    fit_intercept: bool,
) -> tuple[int, int]:
    """``run_sgd`` for one output: the derivatives of a batch are taken together."""
    d = V.shape[0] - 1
    number = values.dtype.type
    size = min(batch_size, max(1, order.size))
    block, targets = np.empty(size, dtype=values.dtype), np.empty(size, dtype=values.dtype)
    w, u = V[:, 0], sums[:, 0]
    scale, owed, step, num_averaged = 1.0, 0.0, first_step, 0
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        rows = 1 if sum_rows else stop - start
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            score = row_score(values, indices, indptr[row], indptr[row + 1], w)
            block[i - start] = score * number(scale) + w[d]
        write_block_derivatives(y, weights, order, start, stop, loss, shape, block, targets)
        scale *= 1.0 - now * alpha * (stop - start) / rows
        if abs(scale) < FOLD:
            fold(V, sums, scale, owed)
            scale, owed = 1.0, 0.0
        length, total = number(now / rows / scale), number(0.0)
        for i in range(start, stop):
            row = order[i]
            move = block[i - start] * length
            total += block[i - start]
            if average_every > 0:
                for p in range(indptr[row], indptr[row + 1]):
                    j = indices[p]
                    before = w[j]
                    w[j] = before - move * values[p]
                    u[j] += owed * (np.float64(before) - np.float64(w[j]))
            else:
                for p in range(indptr[row], indptr[row + 1]):
                    w[indices[p]] -= move * values[p]
        if fit_intercept:
            w[d] -= total * number(now / rows)
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            owed += scale
            u[d] += w[d]
    fold(V, sums, scale, owed)
    return step, num_averaged


@kernel
def run_dense_steps(
    values: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    batch_size: int,
    parameters: FloatArray,
    first: FloatArray,
    second: FloatArray,
    average: FloatArray,
    num_averaged: int,
    average_every: int,
    first_step: int,
    loss: int,
    shape: Shape,
    alpha: float,
    l1: float,
    optimizer: int,
    schedule: int,
    rate: float,
    num_steps: int,
    numbers: FloatArray,
    sum_rows: bool,
    fit_intercept: bool,
) -> tuple[int, int]:
    """Steps of optimizers that move every parameter whatever the rows say; a step costs k · d besides its rows.

    ``parameters``, ``first``, ``second`` and ``average`` (k, d + 1), as in ``step_kernels.run_steps``.
    """
    k, d = parameters.shape[0], parameters.shape[1] - 1
    number = values.dtype.type
    gradient = np.zeros((k, d + 1), dtype=values.dtype)
    scores = np.empty(k, dtype=values.dtype)
    step = first_step
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        for i in range(start, stop):
            row = order[i]
            low, high = indptr[row], indptr[row + 1]
            for c in range(k):
                scores[c] = row_score(values, indices, low, high, parameters[c]) + parameters[c, d]
            write_derivatives(loss, shape, scores, y, row)
            weight = weights[row] if weights.size else 1.0
            for c in range(k):
                r = number(scores[c] * weight)
                for p in range(low, high):
                    gradient[c, indices[p]] += r * values[p]
                gradient[c, d] += r
        rows = 1 if sum_rows else stop - start
        apply_update(
            parameters,
            gradient,
            first,
            second,
            optimizer,
            rate_at(schedule, rate, step, num_steps),
            numbers,
            alpha * (stop - start) / rows,
            l1 * (stop - start) / rows,
            1.0 / rows,
            fit_intercept,
            step,
        )
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            share = 1.0 / num_averaged
            for c in range(k):
                for j in range(d + 1):
                    average[c, j] += share * (parameters[c, j] - average[c, j])
    return step, num_averaged


@kernel
def squared_norms(values: FloatArray, indptr: IntArray, out: FloatArray) -> None:
    """Overwrites ``out`` (n,) float64 with |x|² + 1 of every row: the 1 is the intercept's column."""
    for row in range(out.size):
        total = 1.0
        for p in range(indptr[row], indptr[row + 1]):
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
        low, high = indptr[row], indptr[row + 1]
        s = direction[d]
        for p in range(low, high):
            s += values[p] * direction[indices[p]]
        if weights.size:
            s *= weights[row]
        for p in range(low, high):
            out[indices[p]] += s * values[p]
        out[d] += s
