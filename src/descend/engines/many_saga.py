"""SAGA's steps for many outputs: ``saga_kernels.run_saga`` on turned parameters, in register tiles.

Turned (``many_outputs.py``), the preconditioner times a gradient is one product of tiles more. Output by output an
epoch of 26 classes on 16 columns took seven times as long as one of SGD.
"""

from __future__ import annotations

import numpy as np

from descend.engines import tiles
from descend.engines.compiled import inline, kernel, part
from descend.engines.linear_arguments import Data, Objective, Piece, SagaPace, Table, Visits
from descend.engines.many_outputs import (
    Desk,
    new_desk,
    turn_back,
    turned,
    write_scores_of_many,
    write_sheet,
)
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import AHEAD, BLOCK, write_room_of_derivatives
from descend.engines.saga_kernels import curvature_share, rate_of
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.objectives.losses import SOFTMAX, Shape
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray

inline(shrunk)
Sums = tuple[FloatArray, FloatArray, FloatArray]
"""The gradient so far, the changes of its mean, and the mean gradient itself."""
Spare = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Two more sheets, of changes and of moves, then a row's scores and a block's shares of curvature."""


@part
def write_shares(
    loss: int, shape: Shape | None, y: FloatArray, n: int, desk: Desk, scores: FloatArray, shares: FloatArray
) -> None:
    """Overwrites ``shares`` with the second derivatives of n rows, told from the derivatives in the room."""
    room, _, _, rows, _ = desk
    k = scores.size
    number = room.dtype.type
    if loss != SOFTMAX:
        for i in range(n):
            for c in range(k):
                scores[c] = room[c, i]
            shares[i] = number(curvature_share(loss, shape, scores, y, rows[i]))
        return
    for i in range(shares.size):
        shares[i] = number(0.0)
    for c in range(k):
        line = room[c]
        for i in range(shares.size):  # a row's own class is below 0 here
            p = line[i]
            shares[i] = max(shares[i], min(number(2.0) * p, number(4.0) * p * (number(1.0) - p)))
    for i in range(n):
        p = room[int(y[rows[i], 0]), i] + number(1.0)
        shares[i] = max(shares[i], min(number(2.0) * p, number(4.0) * p * (number(1.0) - p)))


@part
def add_lines(X: FloatArray, n: int, places: IntArray, sheet: FloatArray, goal: FloatArray) -> None:
    """Adds Σ line · (x, 1) of n rows to ``goal``, which is turned."""
    d, width = X.shape[1], sheet.size // BLOCK
    tiles.add_outer(X, places, n, d, sheet, 0, goal, 0, width, 1.0, 1.0)
    total = goal[d * width : (d + 1) * width]
    for i in range(n):
        line = sheet[i * width : (i + 1) * width]
        for c in range(total.size):
            total[c] += line[c]


@part
def take_turned_step(
    parameters: FloatArray,
    gradient: FloatArray,
    preconditioner: FloatArray,
    objective: Objective,
    rate: float,
    moves: FloatArray,
    places: IntArray,
) -> None:
    """``saga_kernels.take_step`` on what is turned."""
    _, _, alpha, l1, fit_intercept = objective
    width = moves.size // BLOCK
    columns = parameters.size // width - 1
    number = parameters.dtype.type
    step, ridge, bias = number(rate), number(alpha), (columns - 1) * width
    if not fit_intercept:
        for c in range(width):
            gradient[bias + c] = number(0.0)
    weights, pull = parameters[:bias], gradient[:bias]
    for j in range(weights.size):
        pull[j] += ridge * weights[j]
    if preconditioner.shape[0] == 0:
        for j in range(parameters.size):
            parameters[j] -= step * gradient[j]
        if l1 > 0.0:
            by = number(rate * l1)
            for j in range(weights.size):
                weights[j] = shrunk(weights[j], by)
        return
    for low in range(0, columns, BLOCK):
        n = min(BLOCK, columns - low)
        for i in range(n):
            places[i] = (low + i) * columns
        tiles.write_products(
            preconditioner, places, n, columns, gradient, 0, columns * width, width, moves, 0
        )
        some = parameters[low * width : (low + n) * width]
        for j in range(some.size):
            some[j] -= step * moves[j]


def run_saga_of_many(
    data: Data,
    visits: Visits,
    batch_size: int,
    parameters: FloatArray,
    memory: Table,
    objective: Objective,
    pace: SagaPace,
    preconditioner: FloatArray,
    piece: Piece,
) -> tuple[int, float]:
    """``saga_kernels.run_saga``, which has the words."""
    X, k = data[0], len(parameters)
    table, mean_gradient, num_rows = memory
    whole, is_last, share_before, *sums = piece
    given = parameters, *sums, mean_gradient
    lines = [turned(array, array.dtype, 1) for array in given]
    desk = new_desk(k, X)
    spare = np.zeros_like(desk[2]), np.zeros_like(desk[2]), np.zeros(k, X.dtype), np.zeros(BLOCK, X.dtype)
    result = run_turned_saga(
        data,
        visits,
        batch_size,
        (desk, spare),
        lines[0],
        (lines[1], lines[2], lines[3]),
        (table, num_rows),
        objective,
        pace,
        preconditioner,
        (whole, is_last, share_before),
    )
    for array, flat in zip(given, lines, strict=True):
        turn_back(flat, array)
    return result


@kernel
def run_turned_saga(
    data: Data,
    visits: Visits,
    batch_size: int,
    desks: tuple[Desk, Spare],
    parameters: FloatArray,
    sums: Sums,
    memory: tuple[FloatArray, int],
    objective: Objective,
    pace: SagaPace,
    preconditioner: FloatArray,
    piece: tuple[int, bool, float],
) -> tuple[int, float]:
    """The same on what is turned."""
    X, y, weights = data
    order, visit_weights = visits
    gradient, changes, mean = sums
    table, num_rows = memory
    loss, shape = objective[0], objective[1]
    filling, share, step, num_steps, full_term, single_term = pace
    whole, is_last, share_before = piece
    desk, (kept, moves, scores, shares) = desks
    room, _, sheet, rows, places = desk
    k, width, number = table.shape[1], sheet.size // BLOCK, X.dtype.type
    nothing = weights[:0]
    horizon = 10.0 / num_rows
    apart = visit_weights.size > 0 or filling
    before_flush = flush_tiny()
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        batch_rows = whole if whole > 0 else stop - start
        before = share_before if whole > 0 else share
        rate = rate_of(before, filling, step, num_steps, full_term, single_term) * batch_rows / batch_size
        for low in range(start, stop, BLOCK):
            n = min(BLOCK, stop - low)
            for ahead in range(low + n, min(low + n + AHEAD, order.size)):
                prefetch(table, order[ahead], 0)
            write_scores_of_many(X, order, low, n, parameters, desk)
            write_room_of_derivatives(y, nothing, rows, n, loss, shape, room)
            write_shares(loss, shape, y, n, desk, scores, shares)
            write_sheet(n, desk)
            for i in range(n):
                row = rows[i]
                weight = weights[row] if weights.size else 1.0
                visit = visit_weights[row] if visit_weights.size else 1.0
                share += horizon * (visit * weight * shares[i] - share)
                weighted, factor = number(weight), number(visit / batch_rows)
                then, line, change = table[row], sheet[i * width : i * width + k], kept[i * width :]
                for c in range(line.size):
                    now = line[c] * weighted
                    change[c] = now - then[c]
                    line[c] = factor * (now if filling else change[c])
                    then[c] = now
            for both in range(2 if apart else 1):  # one place in the code: it is long
                lines, goal = (kept, changes) if both else (sheet, gradient)
                add_lines(X, n, places, lines, goal)
        if not is_last:
            continue
        step += 1
        for j in range(parameters.size):
            moved = changes[j] if apart else gradient[j] * number(batch_rows)
            changes[j] = number(0.0)
            if not filling:
                gradient[j] += number(mean[j])
            mean[j] += np.float64(moved) / num_rows
        take_turned_step(parameters, gradient, preconditioner, objective, rate, moves, places)
        for j in range(gradient.size):
            gradient[j] = number(0.0)
    restore(before_flush)
    return step, share
