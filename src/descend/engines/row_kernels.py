"""Compiled loops over rows at fixed parameters: scores, losses, gradients, norms. Nothing is updated here.

n rows, d columns, k outputs. ``data`` is ``X`` (n, d), ``y`` (n, 1 or k) and ``weights`` (n,), or empty for all 1;
``parameters`` and ``gradient`` (k, d + 1), the intercept last. Arrays in, arrays out; whatever is checked was
checked before. The plain twin is ``engines/reference.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines import lanes, row_blocks
from descend.engines.compiled import inline, kernel, part
from descend.engines.fast_math import exponential, logistic
from descend.engines.linear_arguments import Block, Data
from descend.engines.prefetch import prefetch
from descend.objectives import losses
from descend.objectives.losses import (
    LOG_LOSS,
    SOFTMAX,
    Shape,
    derivative,
    log_loss,
    squared_error,
    value,
)
from descend.types import FloatArray, IntArray

for formula in losses.FORMULAS:
    inline(formula)

BLOCK = 64  # rows whose scores are kept before their derivatives are taken
AHEAD = 32  # rows between asking memory for a row and using it: 16 is too late for 20 columns, 64 no better
LINE = 64  # bytes that one prefetch brings
LONGEST_PREFETCH = 512  # bytes of a row to ask for: of a longer one the processor fetches the rest by itself
FEWEST_IN_BLOCK = 16
NEAR_BYTES = 2**14  # of rows that all outputs go through before the next: so they stay in the nearest cache


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
def slope(loss: int, shape: Any, score: Any, target: Any) -> Any:
    """The derivative of one score's loss.

    ``shape`` is None for log loss and squared error, here and in every kernel: by that type Numba leaves out the
    formulas of the other losses, and compiles faster.
    """
    number = type(score)
    if loss == LOG_LOSS:
        return logistic(score) - number(target)
    if shape is None:
        return score - number(target)
    return number(derivative(loss, score, target, shape))


@part
def loss_of(loss: int, shape: Shape | None, score: Any, target: Any) -> Any:
    """The loss of one score, float64."""
    if shape is None:
        if loss == LOG_LOSS:
            return log_loss(np.float64(score), np.float64(target))
        return squared_error(np.float64(score), np.float64(target))
    return value(loss, np.float64(score), np.float64(target), shape)


@part
def write_derivatives(loss: int, shape: Shape | None, scores: FloatArray, y: FloatArray, row: int) -> None:
    """Overwrites ``scores`` (k,) of one row with the derivatives of its loss."""
    if loss == SOFTMAX:
        largest, total = scores[0], scores.dtype.type(0.0)
        for c in range(1, scores.shape[0]):
            largest = max(largest, scores[c])
        for c in range(scores.shape[0]):
            scores[c] = exponential(scores[c] - largest)
            total += scores[c]
        for c in range(scores.shape[0]):
            scores[c] /= total
        scores[int(y[row, 0])] -= scores.dtype.type(1.0)
    else:
        for c in range(scores.shape[0]):
            scores[c] = slope(loss, shape, scores[c], target_of(y, row, c, scores.shape[0]))


@part
def write_rows(order: IntArray, start: int, stop: int, rows: IntArray) -> None:
    """Overwrites ``rows`` with order[start:stop], or with start … stop − 1 where ``order`` is empty."""
    if order.size > 0:
        for i in range(stop - start):
            rows[i] = order[np.uintp(start + i)]
    else:
        for i in range(stop - start):
            rows[i] = start + i


@part
def prefetch_targets(y: FloatArray, weights: FloatArray, order: IntArray, start: int, stop: int) -> None:
    """Asks memory for targets and weights of rows order[start:stop]; in large data four rows have one line."""
    for i in range(start, min(stop, order.size), 4):
        prefetch(y, order[i], 0)
        if weights.size:
            prefetch(weights, order[i], 0)


@part
def rows_in_block(X: FloatArray) -> int:
    """So many as stay in the nearest cache, with those to come; no fewer than pay a block's beginning and end."""
    rows = BLOCK
    while rows > FEWEST_IN_BLOCK and rows * X.shape[1] * X.itemsize > NEAR_BYTES:
        rows //= 2  # rows that come a part at a time, 64 or a multiple, are cut as they are in one place
    return rows


@part
def write_rows_to_come(order: IntArray, start: int, n: int, num_rows: int, rows: IntArray) -> None:
    """Overwrites rows[64 : 64 + n] with order[start : start + n], or start … start + n − 1; held to the last row."""
    if order.size > 0:
        for i in range(n):
            rows[BLOCK + i] = order[np.uintp(min(start + i, order.size - 1))]
    else:
        for i in range(n):
            rows[BLOCK + i] = min(start + i, num_rows - 1)


@part
def write_block_scores(
    X: FloatArray, rows: IntArray, n: int, parameters: FloatArray, room: FloatArray
) -> None:
    """Overwrites ``room[:k, :n]`` with the scores of rows[:n]; asks memory for the first half of rows[64:]."""
    for c in range(parameters.shape[0]):
        row_blocks.write_scores(X, rows, n, parameters, c, room, BLOCK if c == 0 else 0)


@part
def write_block_derivatives(
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    loss: int,
    shape: Shape | None,
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
def log_loss_slope(score: Any, target: Any) -> Any:
    """``slope`` of log loss without a table, so that a loop over rows goes in vector instructions."""
    number = type(score)
    return number(1.0) / (number(1.0) + exponential(-score)) - target


@part
def write_loop_of_derivatives(
    loss: int, shape: Shape | None, n: int, scores: FloatArray, targets: FloatArray
) -> None:
    """Overwrites scores[:n] with derivatives; log loss gets a loop of its own, in which nothing is looked up."""
    if loss == LOG_LOSS:
        for i in range(n):
            scores[i] = log_loss_slope(scores[i], targets[i])
    else:
        for i in range(n):
            scores[i] = slope(loss, shape, scores[i], targets[i])


@part
def write_room_of_derivatives(
    y: FloatArray,
    weights: FloatArray,
    rows: IntArray,
    n: int,
    loss: int,
    shape: Shape | None,
    room: FloatArray,
) -> None:
    """Overwrites the scores in ``room`` with weighted derivatives; loops over rows have no branch inside."""
    k = room.shape[0] - 2
    number = room.dtype.type
    if loss == SOFTMAX:
        write_softmax(n, room)
        for i in range(n):
            room[int(y[rows[i], 0]), i] -= number(1.0)
    for c in range(k if loss != SOFTMAX else 0):
        for i in range(n):
            room[k, i] = target_of(y, rows[i], c, k)
        # Not ``write_loop_of_derivatives``: with views of two rows of ``room`` a full batch took 6 % longer.
        if loss == LOG_LOSS:
            for i in range(n):
                room[c, i] = log_loss_slope(room[c, i], room[k, i])
        else:
            for i in range(n):
                room[c, i] = slope(loss, shape, room[c, i], room[k, i])
    if weights.size:
        for c in range(k):
            for i in range(n):
                room[c, i] *= number(weights[rows[i]])


@part
def write_largest(n: int, room: FloatArray) -> None:
    """Overwrites the last row but one of ``room`` with the largest of each column's scores."""
    k = room.shape[0] - 2
    for i in range(n):
        room[k, i] = room[0, i]
    for c in range(1, k):
        for i in range(n):
            room[k, i] = max(room[k, i], room[c, i])


@part
def write_softmax(n: int, room: FloatArray) -> None:
    """Overwrites n columns of scores with probabilities, the last two rows with each largest score and divisor."""
    k = room.shape[0] - 2
    write_largest(n, room)
    for i in range(n):
        room[k + 1, i] = room.dtype.type(0.0)
    for c in range(k):
        for i in range(n):
            room[c, i] = exponential(room[c, i] - room[k, i])
            room[k + 1, i] += room[c, i]
    for c in range(k):
        for i in range(n):
            room[c, i] /= room[k + 1, i]


@part
def add_block_gradient(
    X: FloatArray, rows: IntArray, n: int, derivatives: FloatArray, gradient: FloatArray
) -> None:
    """Adds derivative · (x, 1) of rows[:n] to ``gradient``; with several outputs so many at a time as stay near.

    Asks memory for the second half of rows[64:].
    """
    k = gradient.shape[0]
    some = n if k == 1 else max(4, NEAR_BYTES // (X.shape[1] * X.itemsize) & -4)
    for low in range(0, n, max(some, 1)):
        for c in range(k):
            soon = BLOCK + (n & -4) // 2 + low // 2 if c == 0 else 0
            row_blocks.add_rows(gradient, c, X, rows, low, min(some, n - low), derivatives, soon)


@kernel
def add_gradient(
    data: Data,
    start: int,
    stop: int,
    parameters: FloatArray,
    loss: int,
    shape: Shape | None,
    gradient: FloatArray,
) -> None:
    """Adds the gradients of rows start … stop − 1 to ``gradient``."""
    block = room_for(data[0], parameters.shape[0]), np.empty(2 * BLOCK, dtype=np.int64)
    no_order = np.empty(0, dtype=np.int64)
    add_batch_gradient(data, no_order, start, stop, parameters, block, loss, shape, gradient)


@part
def add_batch_gradient(
    data: Data,
    order: IntArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    block: Block,
    loss: int,
    shape: Shape | None,
    gradient: FloatArray,
) -> None:
    """Adds the gradients of rows order[start:stop] (rows start … stop − 1 where ``order`` is empty).

    It goes block by block: scores, derivatives, gradient, while the block's rows are still in the nearest cache.
    """
    X, y, weights = data
    room, rows = block
    most = rows_in_block(X)
    ahead = max(AHEAD, most)
    for low in range(start, stop, most):
        n = min(most, stop - low)
        write_rows(order, low, low + n, rows)
        write_rows_to_come(order, low + ahead, n, X.shape[0], rows)
        prefetch_targets(y, weights, order, low + n, low + n + max(n, AHEAD))
        write_block_scores(X, rows, n, parameters, room)
        write_room_of_derivatives(y, weights, rows, n, loss, shape, room)
        add_block_gradient(X, rows, n, room, gradient)


@kernel
def add_objective(
    data: Data,
    start: int,
    stop: int,
    parameters: FloatArray,
    loss: int,
    shape: Shape | None,
    gradient: FloatArray,
    total: float,
) -> float:
    """``add_gradient`` of rows start … stop − 1 that also returns ``total`` and the sum of their weighted losses.

    ``total`` is that of rows before them: rows that come a part at a time have the sum they have in one place.
    """
    X, y, weights = data
    no_order, rows = np.empty(0, dtype=np.int64), np.empty(2 * BLOCK, dtype=np.int64)
    room = room_for(X, parameters.shape[0])
    most = rows_in_block(X)
    for low in range(start, stop, most):
        n = min(most, stop - low)
        write_rows(no_order, low, low + n, rows)
        write_rows_to_come(no_order, low + most, n, X.shape[0], rows)
        write_block_scores(X, rows, n, parameters, room)
        total += block_loss(y, weights, low, low + n, loss, shape, room)
        write_room_of_derivatives(y, weights, rows, n, loss, shape, room)
        add_block_gradient(X, rows, n, room, gradient)
    return total


@part
def block_loss(
    y: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    loss: int,
    shape: Shape | None,
    room: FloatArray,
) -> float:
    """The sum, float64, of the weighted losses of rows start … stop − 1, whose scores ``room`` has."""
    n, k = stop - start, room.shape[0] - 2
    total = 0.0
    if loss == LOG_LOSS and k == 1 and not weights.size:
        product = 1.0  # of 1 + e⁻ˡˢˡ, below 2⁶⁴: one logarithm for all rows
        for i in range(n):
            score = room[0, i]
            product *= 1.0 + np.float64(exponential(-abs(score)))
            total += np.float64(max(score, room.dtype.type(0.0)) - y[start + i, 0] * score)
        return float(total + np.log(product))
    if loss == SOFTMAX:
        return softmax_loss(y, weights, start, n, room)
    for c in range(k):
        for i in range(n):
            row_loss = loss_of(loss, shape, room[c, i], target_of(y, start + i, c, k))
            total += row_loss * weights[start + i] if weights.size else row_loss
    return total


@part
def softmax_loss(y: FloatArray, weights: FloatArray, start: int, n: int, room: FloatArray) -> float:
    """``block_loss`` of softmax; the last two rows of ``room`` are worked in, the scores stay."""
    k = room.shape[0] - 2
    total = 0.0
    write_largest(n, room)
    for i in range(n):
        room[k + 1, i] = room.dtype.type(0.0)
    for c in range(k):
        for i in range(n):
            room[k + 1, i] += exponential(room[c, i] - room[k, i])
    for i in range(n):
        row_loss = np.log(np.float64(room[k + 1, i])) + np.float64(room[k, i] - room[int(y[start + i, 0]), i])
        total += row_loss * weights[start + i] if weights.size else row_loss
    return total


@inline
def room_for(X: FloatArray, num_outputs: int) -> FloatArray:
    """An array (k + 2, 64) to work in: the scores of a block of rows, then two rows more."""
    return np.empty((num_outputs + 2, BLOCK), dtype=X.dtype)


@kernel
def add_losses(
    data: Data,
    start: int,
    stop: int,
    parameters: FloatArray,
    loss: int,
    shape: Shape | None,
    total: float,
) -> tuple[float, float]:
    """``total`` and the weighted losses of rows start … stop − 1 added up; and the sum of their weights."""
    X, y, weights = data
    no_order, rows = np.empty(0, dtype=np.int64), np.empty(2 * BLOCK, dtype=np.int64)
    room = room_for(X, parameters.shape[0])
    total_weight = 0.0 if weights.size else np.float64(stop - start)
    most = rows_in_block(X)
    for low in range(start, stop, most):
        n = min(most, stop - low)
        write_rows(no_order, low, low + n, rows)
        write_rows_to_come(no_order, low + most, n, X.shape[0], rows)
        write_block_scores(X, rows, n, parameters, room)
        total += block_loss(y, weights, low, low + n, loss, shape, room)
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


@part
def bend_scores(start: int, n: int, probabilities: FloatArray, weights: FloatArray, room: FloatArray) -> None:
    """Overwrites scores along a direction, of rows from ``start`` on, with softmax's curvature times them."""
    k = room.shape[0] - 2
    number = room.dtype.type
    for i in range(n):
        room[k, i] = number(0.0)
        room[k + 1, i] = number(weights[start + i])
    for c in range(k):
        for i in range(n):
            room[k, i] += number(probabilities[start + i, c]) * room[c, i]
    for c in range(k):
        for i in range(n):
            share = number(probabilities[start + i, c]) * room[k + 1, i]
            room[c, i] = share * (room[c, i] - room[k, i])


@kernel
def add_softmax_curvature(
    X: FloatArray, probabilities: FloatArray, weights: FloatArray, direction: FloatArray, out: FloatArray
) -> None:
    """Adds softmax's curvature times ``direction`` to ``out``, both (k, d + 1).

    ``probabilities`` (n, k) and ``weights`` (n,) are those of the rows at the place where the curvature is taken.
    """
    k = probabilities.shape[1]
    room, rows = room_for(X, k), np.empty(2 * BLOCK, dtype=np.int64)
    no_order = np.empty(0, dtype=np.int64)
    for low in range(0, X.shape[0], BLOCK):
        n = min(BLOCK, X.shape[0] - low)
        write_rows(no_order, low, low + n, rows)
        write_rows_to_come(no_order, low + BLOCK, n, X.shape[0], rows)
        write_block_scores(X, rows, n, direction, room)
        bend_scores(low, n, probabilities, weights, room)
        add_block_gradient(X, rows, n, room, out)
