"""Compiled loops over rows at fixed parameters: scores, losses, gradients, norms. Nothing is updated here.

n rows, d columns, k outputs. ``X`` (n, d); ``y`` (n, 1 or k); ``weights`` (n,), or empty for all 1;
``parameters`` and ``gradient`` (k, d + 1), the intercept last. Arrays in, arrays out; whatever is checked was
checked before. The plain twin is ``engines/reference.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines import lanes
from descend.engines.compiled import inline, kernel, part
from descend.engines.fast_math import exponential, logistic
from descend.engines.prefetch import prefetch
from descend.objectives import losses
from descend.objectives.losses import LOG_LOSS, SOFTMAX, SQUARED_ERROR, Shape, derivative, value
from descend.types import FloatArray, IntArray

for formula in losses.FORMULAS:
    inline(formula)

BLOCK = 64  # rows whose scores are kept before their derivatives are taken
AHEAD = 32  # rows between asking memory for a row and using it: 16 is too late for 20 columns, 64 no better
LINE = 64  # bytes that one prefetch brings
LONGEST_PREFETCH = 512  # bytes of a row to ask for: of a longer one the processor fetches the rest by itself


@part
def write_scores(X: FloatArray, row: int, parameters: FloatArray, scores: FloatArray) -> None:
    """Overwrites ``scores`` (k,) with w·x + b of one row."""
    for c in range(parameters.shape[0]):
        scores[c] = lanes.score(X, row, parameters, c) + parameters[c, X.shape[1]]


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
        largest = scores.max()
        total = scores.dtype.type(0.0)
        for c in range(scores.shape[0]):
            scores[c] = exponential(scores[c] - largest)
            total += scores[c]
        for c in range(scores.shape[0]):
            scores[c] /= total
        scores[int(y[row, 0])] -= scores.dtype.type(1.0)
    elif loss == LOG_LOSS:
        scores[0] = logistic(scores[0]) - scores.dtype.type(y[row, 0])
    else:
        for c in range(scores.shape[0]):
            scores[c] = derivative(loss, scores[c], target_of(y, row, c, scores.shape[0]), shape)


@part
def write_block_scores(
    X: FloatArray, order: IntArray, start: int, stop: int, parameters: FloatArray, scores: FloatArray
) -> None:
    """Overwrites ``scores[:, : stop - start]`` with the scores of rows order[start:stop], four rows at a time."""
    k, d = parameters.shape[0], X.shape[1]
    ordered = order.size > 0
    bytes_of_row = min(d * X.itemsize, LONGEST_PREFETCH)
    i = start
    while i + 4 <= stop:
        a, b, c, e = i, i + 1, i + 2, i + 3
        if ordered:
            for ahead in range(min(i + AHEAD, order.size), min(i + AHEAD + 4, order.size)):
                for offset in range(0, bytes_of_row, LINE):
                    prefetch(X, order[ahead], offset)
            a, b, c, e = order[a], order[b], order[c], order[e]
        for output in range(k):
            lanes.four_scores(X, a, b, c, e, parameters, output, scores, i - start)
        i += 4
    while i < stop:
        row = order[i] if ordered else i
        for output in range(k):
            scores[output, i - start] = lanes.score(X, row, parameters, output) + parameters[output, d]
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
    """Overwrites ``scores[: stop - start]`` of one output with weighted derivatives, without a branch in the loop."""
    ordered = order.size > 0
    n = stop - start
    number = scores.dtype.type
    for i in range(n):
        targets[i] = y[order[start + i] if ordered else start + i, 0]
    write_loop_of_derivatives(loss, shape, n, scores, targets)
    if weights.size:
        for i in range(n):
            scores[i] *= number(weights[order[start + i] if ordered else start + i])


@part
def write_loop_of_derivatives(
    loss: int, shape: Shape, n: int, scores: FloatArray, targets: FloatArray
) -> None:
    """The two losses that most people ask for get a loop of their own, in which nothing is looked up."""
    number = scores.dtype.type
    if loss == LOG_LOSS:
        for i in range(n):
            scores[i] = number(1.0) / (number(1.0) + exponential(-scores[i])) - targets[i]
    elif loss == SQUARED_ERROR:
        for i in range(n):
            scores[i] -= targets[i]
    else:
        for i in range(n):
            scores[i] = number(derivative(loss, scores[i], targets[i], shape))


@part
def write_room_of_derivatives(
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    loss: int,
    shape: Shape,
    room: FloatArray,
) -> None:
    """``write_block_derivatives`` for any number of outputs; ``room`` is what ``room_for`` makes."""
    ordered = order.size > 0
    n, k = stop - start, room.shape[0] - 2
    number = room.dtype.type
    if loss == SOFTMAX:
        write_softmax(n, room)
        for i in range(n):
            room[int(y[order[start + i] if ordered else start + i, 0]), i] -= number(1.0)
    for c in range(k if loss != SOFTMAX else 0):
        for i in range(n):
            room[k, i] = target_of(y, order[start + i] if ordered else start + i, c, k)
        if loss == LOG_LOSS:
            for i in range(n):
                room[c, i] = number(1.0) / (number(1.0) + exponential(-room[c, i])) - room[k, i]
        elif loss == SQUARED_ERROR:
            for i in range(n):
                room[c, i] -= room[k, i]
        else:
            for i in range(n):
                room[c, i] = number(derivative(loss, room[c, i], room[k, i], shape))
    if weights.size:
        for c in range(k):
            for i in range(n):
                room[c, i] *= number(weights[order[start + i] if ordered else start + i])


@part
def write_softmax(n: int, room: FloatArray) -> None:
    """Overwrites n columns of scores with probabilities."""
    k = room.shape[0] - 2
    number = room.dtype.type
    for i in range(n):
        room[k, i], room[k + 1, i] = room[0, i], number(0.0)
    for c in range(1, k):
        for i in range(n):
            room[k, i] = max(room[k, i], room[c, i])
    for c in range(k):
        for i in range(n):
            room[c, i] = exponential(room[c, i] - room[k, i])
            room[k + 1, i] += room[c, i]
    for c in range(k):
        for i in range(n):
            room[c, i] /= room[k + 1, i]


@part
def add_block_gradient(
    X: FloatArray, order: IntArray, start: int, stop: int, derivatives: FloatArray, gradient: FloatArray
) -> None:
    """Adds derivative · (x, 1) of rows order[start:stop] to ``gradient``, four rows at a time."""
    k, d = gradient.shape[0], X.shape[1]
    ordered = order.size > 0
    i = start
    while i + 4 <= stop:
        a, b, c, e = i, i + 1, i + 2, i + 3
        if ordered:
            a, b, c, e = order[a], order[b], order[c], order[e]
        for output in range(k):
            lanes.add_four(gradient, output, X, a, b, c, e, derivatives, i - start)
        i += 4
    while i < stop:
        row = order[i] if ordered else i
        for output in range(k):
            r = derivatives[output, i - start]
            lanes.move(gradient, output, 1.0, X, row, r)
            gradient[output, d] += r
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

    ``room`` is what ``room_for`` makes. It goes block by block: scores, derivatives, gradient, while the block's
    rows are still in the nearest cache.
    """
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        write_block_scores(X, order, low, high, parameters, room)
        write_room_of_derivatives(y, weights, order, low, high, loss, shape, room)
        add_block_gradient(X, order, low, high, room, gradient)


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
    """``add_gradient`` of rows start … stop − 1, one output, that also returns the sum of their weighted losses."""
    no_order = np.empty(0, dtype=np.int64)
    total = 0.0
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        write_block_scores(X, no_order, low, high, parameters, room)
        total += block_loss(y, weights, low, high, loss, shape, room)
        write_room_of_derivatives(y, weights, no_order, low, high, loss, shape, room)
        add_block_gradient(X, no_order, low, high, room, gradient)
    return total


@part
def block_loss(
    y: FloatArray, weights: FloatArray, start: int, stop: int, loss: int, shape: Shape, room: FloatArray
) -> float:
    """The sum, float64, of the weighted losses of rows start … stop − 1, one output, at most 64 rows."""
    n = stop - start
    total = 0.0
    if loss == LOG_LOSS and not weights.size:
        product = 1.0  # of 1 + e⁻ˡˢˡ, below 2⁶⁴: one logarithm for all rows
        for i in range(n):
            score = room[0, i]
            product *= 1.0 + np.float64(exponential(-abs(score)))
            total += np.float64(max(score, room.dtype.type(0.0)) - y[start + i, 0] * score)
        return float(total + np.log(product))
    for i in range(n):
        row_loss = value(loss, np.float64(room[0, i]), y[start + i, 0], shape)
        total += row_loss * weights[start + i] if weights.size else row_loss
    return total


@kernel
def room_for(X: FloatArray, num_outputs: int) -> FloatArray:
    """An array (k + 2, 64) for ``add_gradient`` to work in: scores, then targets."""
    return np.empty((num_outputs + 2, BLOCK), dtype=X.dtype)


@kernel
def add_losses(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    room: FloatArray,
    loss: int,
    shape: Shape,
) -> tuple[float, float]:
    """Sum of weighted losses, and of weights, of rows start … stop − 1, one output."""
    no_order = np.empty(0, dtype=np.int64)
    total = 0.0
    total_weight = 0.0 if weights.size else np.float64(stop - start)
    for low in range(start, stop, BLOCK):
        high = min(low + BLOCK, stop)
        write_block_scores(X, no_order, low, high, parameters, room)
        total += block_loss(y, weights, low, high, loss, shape, room)
    if weights.size:
        for row in range(start, stop):
            total_weight += weights[row]
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
