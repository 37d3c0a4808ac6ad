"""Compiled loops for many outputs: rows times weights in register tiles, 16 outputs at a time.

``row_kernels.py`` and ``step_kernels.py`` go output by output, which is best for few: a tile is filled up to 16.
Tiles want weights *turned*: flat, a line of ``width`` numbers for each column and then one of the intercepts, outputs
side by side, zeros where there is none. So steps go on with turned parameters, and what reads all rows turns them
once. Arguments are those of the twins there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.batches import NO_ORDER
from descend.engines import tiles
from descend.engines.compiled import kernel, part
from descend.engines.linear_arguments import Averaging, Data, Method, Moved, Objective, Pace
from descend.engines.mlp_arguments import Method as UpdateMethod
from descend.engines.mlp_updates import bias_step, clipped, move_piece, weights_step
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import (
    AHEAD,
    BLOCK,
    LINE,
    LONGEST_PREFETCH,
    bend_scores,
    block_loss,
    prefetch_targets,
    write_room_of_derivatives,
    write_rows,
)
from descend.engines.squares import SIDE, turn_square
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.models.network import filled
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray
from descend.updates import SGD
from descend.updates.schedules import rate_at

FEWEST = 7
"""Outputs from which on this pays. 20,000 × 50, B = 32: of 3 it takes 1.5 times as long, of 6 0.9, of 10 0.6."""

Desk = tuple[FloatArray, FloatArray, FloatArray, IntArray, IntArray]
"""What a block of rows is worked on in: ``space`` (width + 2, 64), an output's scores a line, whose first k + 2 lines
are ``room``, as ``row_kernels.py`` wants it; ``sheet`` (64 · width,), a row's a line; the numbers of the rows, and
where in ``X`` each begins. Made in Python, as is all that is turned: to make arrays takes a kernel a second longer to
compile."""


def new_desk(num_outputs: int, like: FloatArray) -> Desk:
    """A desk for so many outputs, of the data type of ``like``."""
    width = filled(num_outputs)
    space = np.zeros((width + 2, BLOCK), dtype=like.dtype)
    sheet = np.zeros(BLOCK * width, dtype=like.dtype)
    rows, places = np.empty(BLOCK, dtype=np.int64), np.empty(BLOCK, dtype=np.int64)
    return space[: num_outputs + 2], space, sheet, rows, places


def turned(parameters: FloatArray, dtype: Any, num_lines: int = 0) -> FloatArray:
    """Parameters (k, d + 1) turned, with so many lines of zeros behind them."""
    k, columns = parameters.shape
    lines = np.zeros((columns + num_lines, filled(k)), dtype=dtype)
    lines[:columns, :k] = parameters.T
    return lines.ravel()


def turn_back(lines: FloatArray, parameters: FloatArray) -> None:
    """Overwrites ``parameters`` (k, d + 1) with what is turned."""
    k, columns = parameters.shape
    parameters[:] = lines.reshape(-1, filled(k))[:columns, :k].T


@part
def write_scores_of_many(
    X: FloatArray, order: IntArray, start: int, n: int, turned: FloatArray, desk: Desk
) -> None:
    """Overwrites the room's lines with the scores of n rows; asks memory for those that come soon."""
    _, space, sheet, rows, places = desk
    d, width = X.shape[1], sheet.size // BLOCK
    write_rows(order, start, start + n, rows)
    for i in range(n):
        places[i] = rows[i] * d
    bytes_of_row = d * X.itemsize
    if bytes_of_row <= LONGEST_PREFETCH:  # longer ones the processor fetches sooner by itself
        for ahead in range(start + n, min(start + n + AHEAD, order.size)):
            for offset in range(0, bytes_of_row, LINE):
                prefetch(X, order[ahead], offset)
    tiles.write_products(X, places, n, d, turned, 0, d * width, width, sheet, 0)
    for c in range(0, width, SIDE):
        for i in range(0, n, SIDE):
            turn_square(sheet, i * width + c, width, space, c * BLOCK + i, BLOCK)


@part
def write_sheet(n: int, desk: Desk) -> None:
    """Overwrites the sheet's lines with what the room has of n rows."""
    room, space, sheet, _, _ = desk
    width = sheet.size // BLOCK
    for c in range(room.shape[0] - 2, width):
        space[c, :] = 0.0
    for c in range(0, width, SIDE):
        for i in range(0, n, SIDE):
            turn_square(space, c * BLOCK + i, BLOCK, sheet, i * width + c, width)


@part
def add_sheet(
    X: FloatArray, n: int, desk: Desk, goal: FloatArray, keep: float, factor: float, intercepts: bool
) -> None:
    """Overwrites turned weights with keep · themselves + factor · Σ derivative · (x, 1); intercepts are all kept."""
    _, _, sheet, _, places = desk
    d, width = X.shape[1], sheet.size // BLOCK
    tiles.add_outer(X, places, n, d, sheet, 0, goal, 0, width, keep, factor)
    if intercepts:
        total, share = goal[d * width :], goal.dtype.type(factor)
        for i in range(n):
            line = sheet[i * width : (i + 1) * width]
            for c in range(total.size):
                total[c] += share * line[c]


def add_sums_of_many(
    data: Data,
    start: int,
    stop: int,
    parameters: FloatArray,
    loss: int,
    shape: Shape | None,
    gradient: FloatArray,
    total: float,
    with_loss: bool,
) -> tuple[float, float]:
    """Adds the gradients of rows start … stop − 1 to ``gradient`` unless that is empty.

    Returns ``total``, with the sum of their weighted losses if asked for, and the sum of their weights.
    """
    X, dtype = data[0], data[0].dtype
    given, desk = turned(parameters, dtype), new_desk(len(parameters), X)
    goal = turned(gradient, dtype) if gradient.size else np.empty(0, dtype=dtype)
    result = add_turned_sums(data, (NO_ORDER, start, stop), desk, given, goal, loss, shape, total, with_loss)
    if gradient.size:
        turn_back(goal, gradient)
    return result


@kernel
def add_turned_sums(
    data: Data,
    chosen: tuple[IntArray, int, int],
    desk: Desk,
    parameters: FloatArray,
    gradient: FloatArray,
    loss: int,
    shape: Shape | None,
    total: float,
    with_loss: bool,
) -> tuple[float, float]:
    """The same on what is turned."""
    X, y, weights = data
    order, start, stop = chosen
    room, _, _, rows, _ = desk
    total_weight = 0.0 if weights.size else np.float64(stop - start)
    before = flush_tiny()
    for low in range(start, stop, BLOCK):
        n = min(BLOCK, stop - low)
        write_scores_of_many(X, order, low, n, parameters, desk)
        if with_loss:
            total += block_loss(y, weights, low, low + n, loss, shape, room)
        if gradient.size > 0:
            write_room_of_derivatives(y, weights, rows, n, loss, shape, room)
            write_sheet(n, desk)
            add_sheet(X, n, desk, gradient, 1.0, 1.0, True)
    restore(before)
    if weights.size:
        for row in range(start, stop):
            total_weight += weights[row]
    return total, total_weight


def add_softmax_curvature_of_many(
    X: FloatArray, probabilities: FloatArray, weights: FloatArray, direction: FloatArray, out: FloatArray
) -> None:
    """Adds softmax's curvature times ``direction`` to ``out``, both (k, d + 1)."""
    goal, desk = turned(out, X.dtype), new_desk(len(direction), X)
    add_turned_curvature(X, NO_ORDER, desk, probabilities, weights, turned(direction, X.dtype), goal)
    turn_back(goal, out)


@kernel
def add_turned_curvature(
    X: FloatArray,
    order: IntArray,
    desk: Desk,
    probabilities: FloatArray,
    weights: FloatArray,
    direction: FloatArray,
    out: FloatArray,
) -> None:
    """The same on what is turned."""
    room, _, _, _, _ = desk
    before = flush_tiny()
    for low in range(0, X.shape[0], BLOCK):
        n = min(BLOCK, X.shape[0] - low)
        write_scores_of_many(X, order, low, n, direction, desk)
        bend_scores(low, n, probabilities, weights, room)
        write_sheet(n, desk)
        add_sheet(X, n, desk, out, 1.0, 1.0, True)
    restore(before)


def run_steps_of_many(
    data: Data,
    order: IntArray,
    batch_size: int,
    moved: Moved,
    averaging: Averaging,
    objective: Objective,
    method: Method,
    pace: Pace,
) -> tuple[int, int]:
    """Walks ``order`` in batches. Returns steps taken in all and parameters averaged so far."""
    X, (average, num_averaged, average_every) = data[0], averaging
    parameters, first, second = (turned(array, X.dtype) for array in moved)
    mean = turned(average, np.float64) if average_every > 0 else np.empty(0)
    result = run_turned_steps(
        data,
        order,
        batch_size,
        new_desk(len(moved[0]), X),
        (parameters, first, second),
        np.zeros_like(parameters),
        (mean, num_averaged, average_every),
        objective,
        method,
        pace,
    )
    for flat, array in zip((parameters, first, second), moved, strict=True):
        turn_back(flat, array)
    if average_every > 0:
        turn_back(mean, average)
    return result


@kernel
def run_turned_steps(
    data: Data,
    order: IntArray,
    batch_size: int,
    desk: Desk,
    moved: Moved,
    gradient: FloatArray,
    averaging: Averaging,
    objective: Objective,
    method: Method,
    pace: Pace,
) -> tuple[int, int]:
    """The same on what is turned; ``gradient`` is 0."""
    X, y, weights = data
    parameters, first, second = moved
    mean, num_averaged, average_every = averaging
    loss, shape, alpha, l1, fit_intercept = objective
    schedule, first_rate, step, num_steps = pace
    optimizer, numbers, sum_rows = method
    room, _, sheet, rows, _ = desk
    size, bias = parameters.size, parameters.size - sheet.size // BLOCK
    updates = UpdateMethod(optimizer, numbers, alpha, l1, 0.0, fit_intercept)
    at_once = optimizer == SGD and numbers[2] <= 0.0 and l1 == 0.0 and batch_size <= BLOCK
    before = flush_tiny()
    start = 0 * order.size  # a bare 0 is a type of its own, for which kernels would be compiled once more
    while start < order.size:
        stop = min(start + batch_size, order.size)
        step += 1
        rate = rate_at(schedule, first_rate, step, num_steps)
        counted = 1 if sum_rows else stop - start
        per_row, keep, factor = (stop - start) / counted, 1.0, 1.0
        if at_once:
            keep, factor = 1.0 - rate * alpha * per_row, -rate / counted
        for low in range(start, stop, BLOCK):
            n = min(BLOCK, stop - low)
            prefetch_targets(y, weights, order, low + n, low + n + max(n, AHEAD))
            write_scores_of_many(X, order, low, n, parameters, desk)
            write_room_of_derivatives(y, weights, rows, n, loss, shape, room)
            write_sheet(n, desk)
            goal = parameters if at_once else gradient
            add_sheet(X, n, desk, goal, keep, factor, fit_intercept)
        if not at_once:
            scale = clipped(1.0 / counted, gradient, numbers)
            now = weights_step(updates, rate, scale, per_row, step)
            for piece in range(2 if fit_intercept else 1):  # not two calls: each would be compiled for itself
                at, end, used = (0, bias, now) if piece == 0 else (bias, size, bias_step(now))
                move_piece(parameters, first, second, gradient[at:end], at, optimizer, numbers, used)
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            share = 1.0 / num_averaged
            for j in range(size):
                mean[j] += share * (parameters[j] - mean[j])
        start = stop
    restore(before)
    return step, num_averaged
