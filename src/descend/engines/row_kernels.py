"""Compiled loops over rows at fixed parameters: scores, losses, gradients, norms. Nothing is updated here.

n rows, d columns, k outputs. ``X`` (n, d); ``y`` (n, 1 or k); ``weights`` (n,), or empty for all 1;
``parameters`` and ``gradient`` (k, d + 1), the intercept last. Arrays in, arrays out; whatever is checked was
checked before. The plain twin is ``engines/reference.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import inline, kernel, part
from descend.engines.fast_math import exponential
from descend.engines.prefetch import prefetch
from descend.objectives import losses
from descend.objectives.losses import LOG_LOSS, SOFTMAX, Shape, derivative, softmax_value, value
from descend.types import FloatArray, IntArray

for formula in losses.FORMULAS:
    inline(formula)

BLOCK = 64  # rows whose scores are kept before their derivatives are taken
AHEAD = 12  # rows between asking memory for a row and using it: 8 to 16 measure alike
LINE = 64  # bytes that one prefetch brings


@part
def write_scores(X: FloatArray, row: int, parameters: FloatArray, scores: FloatArray) -> None:
    """Overwrites ``scores`` (k,) with w·x + b of one row."""
    d = X.shape[1]
    for c in range(parameters.shape[0]):
        total = parameters[c, d]
        for j in range(d):
            total += X[row, j] * parameters[c, j]
        scores[c] = total


@part
def target_of(y: FloatArray, row: int, output: int, num_outputs: int) -> float:
    """The target of one score: the number in its column, or whether the row is of this class of several."""
    if y.shape[1] < num_outputs:
        return 1.0 if y[row, 0] == output else 0.0
    return float(y[row, output])


@part
def write_derivatives(loss: int, shape: Shape, scores: FloatArray, y: FloatArray, row: int) -> None:
    """Overwrites ``scores`` (k,) of one row with the derivatives of its loss."""
    if loss == SOFTMAX:
        largest = scores[0]
        for c in range(1, scores.shape[0]):
            largest = max(largest, scores[c])
        total = scores.dtype.type(0.0)
        for c in range(scores.shape[0]):
            scores[c] = exponential(scores[c] - largest)
            total += scores[c]
        for c in range(scores.shape[0]):
            scores[c] /= total
        scores[int(y[row, 0])] -= scores.dtype.type(1.0)
    else:
        for c in range(scores.shape[0]):
            scores[c] = derivative(loss, scores[c], target_of(y, row, c, scores.shape[0]), shape)


@part
def add_gradient_of_one(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    row: int,
    parameters: FloatArray,
    scores: FloatArray,
    loss: int,
    shape: Shape,
    gradient: FloatArray,
) -> None:
    """Adds one row's weighted gradient to ``gradient``; ``scores`` (k,) is room to work in."""
    d = X.shape[1]
    write_scores(X, row, parameters, scores)
    write_derivatives(loss, shape, scores, y, row)
    weight = weights[row] if weights.size else 1.0
    for c in range(parameters.shape[0]):
        r = X.dtype.type(scores[c] * weight)
        for j in range(d):
            gradient[c, j] += r * X[row, j]
        gradient[c, d] += r


@part
def write_block_scores(
    X: FloatArray, order: IntArray, start: int, stop: int, parameters: FloatArray, scores: FloatArray
) -> None:
    """Overwrites ``scores[: stop - start]`` with the scores of rows start … stop − 1, one output, four at a time."""
    d = X.shape[1]
    w = parameters[0]
    ordered = order.size > 0
    bytes_of_row = d * X.itemsize
    i = start
    while i + 4 <= stop:
        a, b, c, e = i, i + 1, i + 2, i + 3
        if ordered:
            for ahead in range(min(i + AHEAD, order.size), min(i + AHEAD + 4, order.size)):
                for offset in range(0, bytes_of_row, LINE):
                    prefetch(X, order[ahead], offset)
            a, b, c, e = order[a], order[b], order[c], order[e]
        sa = sb = sc = se = w[d]
        for j in range(d):  # four rows share each load of w
            sa += X[a, j] * w[j]
            sb += X[b, j] * w[j]
            sc += X[c, j] * w[j]
            se += X[e, j] * w[j]
        at = i - start
        scores[at], scores[at + 1], scores[at + 2], scores[at + 3] = sa, sb, sc, se
        i += 4
    while i < stop:
        row = order[i] if ordered else i
        score = w[d]
        for j in range(d):
            score += X[row, j] * w[j]
        scores[i - start] = score
        i += 1


@part
def write_block_derivatives(
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    loss: int,
    shape: Shape,
    scores: FloatArray,
    targets: FloatArray,
) -> None:
    """Overwrites scores of a block with weighted derivatives, without a branch or a call in the loop."""
    ordered = order.size > 0
    n = stop - start
    number = scores.dtype.type
    for i in range(n):
        targets[i] = y[order[start + i] if ordered else start + i, 0]
    if loss == LOG_LOSS:
        for i in range(n):
            scores[i] = number(1.0) / (number(1.0) + exponential(-scores[i])) - targets[i]
    else:
        for i in range(n):
            scores[i] = derivative(loss, scores[i], targets[i], shape)
    if weights.size:
        for i in range(n):
            scores[i] *= weights[order[start + i] if ordered else start + i]


@part
def add_block_gradient(
    X: FloatArray, order: IntArray, start: int, stop: int, derivatives: FloatArray, gradient: FloatArray
) -> None:
    """Adds derivative · (x, 1) of rows start … stop − 1 to ``gradient``, one output, four rows at a time."""
    d = X.shape[1]
    g = gradient[0]
    ordered = order.size > 0
    i = start
    while i + 4 <= stop:
        a, b, c, e = i, i + 1, i + 2, i + 3
        if ordered:
            a, b, c, e = order[a], order[b], order[c], order[e]
        at = i - start
        ra, rb, rc, re = derivatives[at], derivatives[at + 1], derivatives[at + 2], derivatives[at + 3]
        for j in range(d):
            g[j] += ra * X[a, j] + rb * X[b, j] + rc * X[c, j] + re * X[e, j]
        g[d] += ra + rb + rc + re
        i += 4
    while i < stop:
        row = order[i] if ordered else i
        r = derivatives[i - start]
        for j in range(d):
            g[j] += r * X[row, j]
        g[d] += r
        i += 1


@kernel
def add_gradient(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    room: FloatArray,
    loss: int,
    shape: Shape,
    gradient: FloatArray,
) -> None:
    """Adds the gradients of rows order[start:stop] (rows start … stop − 1 where ``order`` is empty).

    ``room`` is what ``room_for`` makes. One output goes block by block: scores, derivatives, gradient, while the
    block's rows are still in the nearest cache.
    """
    if parameters.shape[0] == 1:
        scores, targets = room[:BLOCK], room[BLOCK:]
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            write_block_scores(X, order, low, high, parameters, scores)
            write_block_derivatives(y, weights, order, low, high, loss, shape, scores, targets)
            add_block_gradient(X, order, low, high, scores, gradient)
        return
    ordered = order.size > 0
    bytes_of_row = X.shape[1] * X.itemsize
    scores = room[: parameters.shape[0]]
    for i in range(start, stop):
        row = order[i] if ordered else i
        if ordered and i + AHEAD < order.size:
            for offset in range(0, bytes_of_row, LINE):
                prefetch(X, order[i + AHEAD], offset)
        add_gradient_of_one(X, y, weights, row, parameters, scores, loss, shape, gradient)


@kernel
def add_objective(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    room: FloatArray,
    loss: int,
    shape: Shape,
    gradient: FloatArray,
) -> float:
    """``add_gradient`` of rows start … stop − 1 that also returns the sum of their weighted losses."""
    no_order = np.empty(0, dtype=np.int64)
    total = 0.0
    if parameters.shape[0] == 1:
        scores, targets = room[:BLOCK], room[BLOCK:]
        for low in range(start, stop, BLOCK):
            high = min(low + BLOCK, stop)
            write_block_scores(X, no_order, low, high, parameters, scores)
            for row in range(low, high):
                row_loss = value(loss, np.float64(scores[row - low]), y[row, 0], shape)
                total += row_loss * weights[row] if weights.size else row_loss
            write_block_derivatives(y, weights, no_order, low, high, loss, shape, scores, targets)
            add_block_gradient(X, no_order, low, high, scores, gradient)
        return total
    scores = room[: parameters.shape[0]]
    for row in range(start, stop):
        write_scores(X, row, parameters, scores)
        row_loss = 0.0
        if loss == SOFTMAX:
            row_loss += softmax_value(scores, int(y[row, 0]))
        else:
            for c in range(scores.shape[0]):
                target = target_of(y, row, c, scores.shape[0])
                row_loss += value(loss, np.float64(scores[c]), target, shape)
        total += row_loss * weights[row] if weights.size else row_loss
        add_gradient_of_one(X, y, weights, row, parameters, scores, loss, shape, gradient)
    return total


@inline
def room_for(X: FloatArray, num_outputs: int) -> FloatArray:
    """An array for ``add_gradient`` to work in."""
    return np.empty(max(num_outputs, 2 * BLOCK), dtype=X.dtype)


@kernel
def add_losses(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    scores: FloatArray,
    loss: int,
    shape: Shape,
) -> tuple[float, float]:
    """Sum of weighted losses, and of weights, of rows start … stop − 1."""
    total = 0.0
    total_weight = 0.0
    for row in range(start, stop):
        write_scores(X, row, parameters, scores)
        row_loss = 0.0
        if loss == SOFTMAX:
            row_loss += softmax_value(scores, int(y[row, 0]))
        else:
            for c in range(scores.shape[0]):
                target = target_of(y, row, c, scores.shape[0])
                row_loss += value(loss, np.float64(scores[c]), target, shape)
        weight = weights[row] if weights.size else 1.0
        total += weight * row_loss
        total_weight += weight
    return total, total_weight


@kernel
def squared_norms(X: FloatArray, out: FloatArray) -> None:
    """Overwrites ``out`` (n,) float64 with |x|² + 1 of every row: the 1 is the intercept's column."""
    for row in range(X.shape[0]):
        total = 1.0
        for j in range(X.shape[1]):
            total += X[row, j] * X[row, j]
        out[row] = total


@kernel
def gram_product(
    X: FloatArray, weights: FloatArray, num_rows: int, direction: FloatArray, out: FloatArray
) -> None:
    """Overwrites ``out`` (d + 1,) with Σ weight · x̃ (x̃ᵀ direction) over the first rows, where x̃ is x and a 1."""
    d = X.shape[1]
    out[:] = 0.0
    for row in range(num_rows):
        s = direction[d]
        for j in range(d):
            s += X[row, j] * direction[j]
        if weights.size:
            s *= weights[row]
        for j in range(d):
            out[j] += s * X[row, j]
        out[d] += s
