"""Variance-reduced steps for linear models: mini-batch SAGA (Defazio et al. 2014, https://arxiv.org/abs/1407.0202).

Each row's last derivative is kept, one number for each output. A step moves along

    mean over the batch of weight · (derivative now − derivative then) · (x, 1)  +  the mean gradient then

whose noise dies out as the parameters settle, so the rate stays constant and nothing has to be averaged.
The first epoch has no table yet: it takes plain SGD steps with a falling rate, and fills the table as it goes.

n rows, d columns, k outputs; ``table`` (n, k); ``mean_gradient`` (k, d + 1) float64 is the mean over rows of
table · (x, 1). The plain twin is ``engines/reference.py``.
"""

from __future__ import annotations

import numpy as np

from descend.engines import lanes
from descend.engines.base import LEAST_SHARE
from descend.engines.compiled import kernel, part
from descend.engines.linear_arguments import Data, Objective, Piece, SagaPace, Table, Visits
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import (
    AHEAD,
    BLOCK,
    LINE,
    LONGEST_PREFETCH,
    add_block_gradient,
    room_for,
    write_block_scores,
    write_derivatives,
    write_room_of_derivatives,
    write_rows,
    write_rows_to_come,
    write_scores,
)
from descend.engines.step_kernels import shrink_all
from descend.objectives.losses import HUBER, LOG_LOSS, MODIFIED_HUBER, SOFTMAX, Shape
from descend.types import FloatArray


@part
def curvature_share(
    loss: int, shape: Shape | None, derivatives: FloatArray, y: FloatArray, row: int
) -> float:
    """A row's second derivative as a share of the loss's bound, told from its derivatives."""
    if loss == LOG_LOSS:
        p = derivatives[0] + float(y[row, 0])
        return float(4.0 * p * (1.0 - p))
    if loss == SOFTMAX:
        most = 0.0
        for c in range(derivatives.shape[0]):
            p = derivatives[c] + (1.0 if c == int(y[row, 0]) else 0.0)
            most = max(most, min(2.0 * p, 4.0 * p * (1.0 - p)))
        return most
    if shape is None:  # squared error
        return 1.0
    steepest = np.inf  # beyond it the loss is straight, and where it is flat it does not bend either
    if loss == HUBER:
        steepest = np.float64(derivatives.dtype.type(shape[0]))  # as the derivative itself is cut off
    if loss == MODIFIED_HUBER:
        steepest = 4.0
    most = 0.0
    for c in range(derivatives.shape[0]):
        size = abs(derivatives[c])
        if size < steepest and (size > 0.0 or loss == HUBER):
            most = 1.0
    return most


@part
def take_step(
    parameters: FloatArray,
    gradient: FloatArray,
    preconditioner: FloatArray,
    objective: Objective,
    rate: float,
) -> None:
    """Moves ``parameters`` along gradient + alpha · w, through ``preconditioner`` (d + 1, d + 1) if not empty.

    L1 has no preconditioner: its corners lie along the weights, and would not along mixtures of them.
    """
    _, _, alpha, l1, fit_intercept = objective
    k, d = parameters.shape[0], parameters.shape[1] - 1
    number = parameters.dtype.type
    step, ridge = number(rate), number(alpha)
    for c in range(k):
        if not fit_intercept:
            gradient[c, d] = number(0.0)
        for j in range(d):
            gradient[c, j] += ridge * parameters[c, j]
        if preconditioner.shape[0] == 0:
            for j in range(d + 1):
                parameters[c, j] -= step * gradient[c, j]
            if l1 > 0.0:
                shrink_all(parameters, c, number(rate * l1))
        else:
            for i in range(d + 1):
                parameters[c, i] -= step * lanes.score(preconditioner, i, gradient, c)


@part
def step_of_one(
    X: FloatArray,
    row: int,
    parameters: FloatArray,
    derivatives: FloatArray,
    memory: Table,
    objective: Objective,
    visit: float,
    filling: bool,
    rate: float,
) -> None:
    """A step on a single row from its weighted ``derivatives`` (k,), and the mean gradient after it, in one go."""
    table, mean_gradient, num_rows = memory
    _, _, alpha, l1, fit_intercept = objective
    k, d = parameters.shape[0], parameters.shape[1] - 1
    number = parameters.dtype.type
    along, keep = number(0.0 if filling else rate), number(1.0 - rate * alpha)
    for c in range(k):
        now = number(derivatives[c])
        change = now - table[row, c]
        table[row, c] = now
        kept = np.float64(change) / num_rows
        factor = number(rate * visit) * (now if filling else change)
        lanes.saga_move(parameters, mean_gradient, c, keep, along, X, row, factor, kept)
        if fit_intercept:
            parameters[c, d] -= factor + along * number(mean_gradient[c, d])
        mean_gradient[c, d] += kept
        if l1 > 0.0:
            shrink_all(parameters, c, number(rate * l1))


@kernel
def run_saga(
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
    """Walks the order in batches; returns steps in all, and the running mean of the curvature's share of its bound.

    The rate is 1 / (s · (full_term + 2 or 3 · single_term)), s² being that share; while ``filling`` it falls to a
    tenth over ``num_steps``. The last, smaller batch takes a step that is shorter in proportion.

    ``num_rows`` is n, of which ``X`` and ``table`` may hold only those that are visited. ``whole`` above 0: they are
    a piece of one batch of so many rows, at whose beginning the share was ``share_before``; the step is taken when
    the piece ``is_last``. ``gradient`` and ``changes`` begin at zero and keep the sums from piece to piece.
    """
    X, y, weights = data
    order, visit_weights = visits
    table, mean_gradient, num_rows = memory
    loss, shape = objective[0], objective[1]
    filling, share, step, num_steps, full_term, single_term = pace
    whole, is_last, share_before, gradient, changes = piece
    k, d = parameters.shape[0], X.shape[1]
    number = X.dtype.type
    scores, nothing, rows = (
        np.zeros(k, dtype=X.dtype),
        np.empty(0, dtype=np.float64),
        np.empty(2 * BLOCK, dtype=np.int64),
    )
    room, kept = room_for(X, k), room_for(X, k)
    horizon = 10.0 / num_rows
    # Without weights of visits and a table to replace, both sums are the same but for a factor.
    apart = visit_weights.size > 0 or filling
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        batch_rows = whole if whole > 0 else stop - start
        before = share_before if whole > 0 else share
        rate = rate_of(before, filling, step, num_steps, full_term, single_term) * batch_rows / batch_size
        for low in range(start, stop, BLOCK):
            n = min(BLOCK, stop - low)
            write_rows(order, low, low + n, rows)
            write_rows_to_come(order, low + max(n, AHEAD), n, X.shape[0], rows)
            write_block_scores(X, rows, n, parameters, room)
            write_room_of_derivatives(y, nothing, rows, n, loss, shape, room)
            for i in range(n):
                row = rows[i]
                weight = weights[row] if weights.size else 1.0
                visit = visit_weights[row] if visit_weights.size else 1.0
                for c in range(k):
                    scores[c] = room[c, i]
                share += horizon * (visit * weight * curvature_share(loss, shape, scores, y, row) - share)
                for c in range(k):
                    now = number(scores[c] * weight)
                    change = now - table[row, c]
                    table[row, c] = now
                    room[c, i] = number(visit / batch_rows) * (now if filling else change)
                    kept[c, i] = change
            for both in range(2 if apart else 1):  # one place in the code: it is long
                factors, goal = (kept, changes) if both else (room, gradient)
                add_block_gradient(X, rows, n, factors, goal)
        if not is_last:
            continue
        step += 1
        for c in range(k):
            for j in range(d + 1):
                moved = changes[c, j] if apart else gradient[c, j] * number(batch_rows)
                changes[c, j] = number(0.0)
                if not filling:
                    gradient[c, j] += number(mean_gradient[c, j])
                mean_gradient[c, j] += np.float64(moved) / num_rows
        take_step(parameters, gradient, preconditioner, objective, rate)
        for c in range(k):
            for j in range(d + 1):
                gradient[c, j] = number(0.0)
    return step, share


@part
def rate_of(
    share: float, filling: bool, step: int, num_steps: int, full_term: float, single_term: float
) -> float:
    """The rate after ``step`` steps, as ``run_saga`` has it."""
    s = np.sqrt(max(share, LEAST_SHARE))
    if filling:
        return float((1.0 - 0.9 * step / num_steps) / (s * (full_term + 2.0 * single_term)))
    return float(1.0 / (s * (full_term + 3.0 * single_term)))


@kernel
def run_saga_of_one(
    data: Data,
    visits: Visits,
    parameters: FloatArray,
    memory: Table,
    objective: Objective,
    pace: SagaPace,
) -> tuple[int, float]:
    """``run_saga`` for batch size 1 without a preconditioner: parameters move as the row is read."""
    X, y, weights = data
    order, visit_weights = visits
    table, num_rows = memory[0], memory[2]
    loss, shape = objective[0], objective[1]
    filling, share, step, num_steps, full_term, single_term = pace
    k, d = parameters.shape[0], X.shape[1]
    number = X.dtype.type
    scores = np.zeros(k, dtype=X.dtype)
    horizon = 10.0 / num_rows
    bytes_of_row = min(d * X.itemsize, LONGEST_PREFETCH)
    for i in range(order.size):
        row = order[i]
        if i + AHEAD < order.size:
            for offset in range(0, bytes_of_row, LINE):
                prefetch(X, order[i + AHEAD], offset)
            prefetch(table, order[i + AHEAD], 0)
        rate = rate_of(share, filling, step, num_steps, full_term, single_term)
        step += 1
        write_scores(X, row, parameters, scores)
        write_derivatives(loss, shape, scores, y, row)
        weight = weights[row] if weights.size else 1.0
        visit = visit_weights[row] if visit_weights.size else 1.0
        share += horizon * (visit * weight * curvature_share(loss, shape, scores, y, row) - share)
        for c in range(k):
            scores[c] *= number(weight)
        step_of_one(X, row, parameters, scores, memory, objective, visit, filling, rate)
    return step, share
