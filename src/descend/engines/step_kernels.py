"""Compiled loops that take steps: a batch's gradient, an update, the next batch. The plain twin is ``reference.py``.

Names and shapes as in ``row_kernels.py``, which has what is done for the rows of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.batches import SINGLE_ROWS
from descend.engines import lanes
from descend.engines.compiled import inline, kernel, part
from descend.engines.fast_math import logistic
from descend.engines.linear_arguments import Averaging, Data, Method, Moved, Objective, Pace, Step
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import (
    AHEAD,
    BLOCK,
    LINE,
    LONGEST_PREFETCH,
    NEAR_BYTES,
    add_batch_gradient,
    prefetch_targets,
    room_for,
    slope,
    write_derivatives,
    write_scores,
)
from descend.objectives.losses import LOG_LOSS
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray
from descend.updates import ADAM, ADAMW, SGD, reach, schedules, update
from descend.updates import FORMULAS as UPDATES
from descend.updates.schedules import CONSTANT, rate_at

for formula in (*UPDATES, *schedules.FORMULAS, shrunk):
    inline(formula)


@part
def shrink_all(parameters: FloatArray, output: int, by: Any) -> None:
    """L1's own step, the intercept apart."""
    for j in range(parameters.shape[1] - 1):
        parameters[output, j] = shrunk(parameters[output, j], by)


@part
def clip_factor(gradient: FloatArray, scale: float, most: float) -> float:
    """What shortens ``scale`` · ``gradient`` to a length of ``most``; 1 where it is short enough."""
    total = 0.0
    for c in range(gradient.shape[0]):
        for j in range(gradient.shape[1]):
            total += np.float64(gradient[c, j]) ** 2
    length = scale * np.sqrt(total)
    return most / length if length > most else 1.0


@part
def step_of(batch_rows: int, rate: float, objective: Objective, method: Method, number: int) -> Step:
    """What the step of that ``number`` does with the sum over a batch; penalties count as often as its rows do."""
    _, _, alpha, l1, _ = objective
    rows = 1 if method[2] else batch_rows
    return number, rate, 1.0 / rows, alpha * batch_rows / rows, l1 * batch_rows / rows


@part
def apply_update(moved: Moved, gradient: FloatArray, method: Method, step: Step, fit_intercept: bool) -> None:
    """One step from the sum ``gradient``, which is left at zero for the next batch."""
    parameters, first, second = moved
    optimizer, numbers, _ = method
    count, rate, scale, alpha, l1 = step
    k, d = parameters.shape[0], parameters.shape[1] - 1
    number = parameters.dtype.type
    if not fit_intercept:
        for c in range(k):
            gradient[c, d] = number(0.0)
    if numbers[2] > 0.0:
        scale *= clip_factor(gradient, scale, numbers[2])
    for c in range(k):
        if optimizer == SGD:
            keep, factor = number(1.0 - rate * alpha), number(rate * scale)
            for j in range(d):
                parameters[c, j] = keep * parameters[c, j] - factor * gradient[c, j]
            parameters[c, d] -= factor * gradient[c, d]
        else:
            update_with_memory(
                parameters[c], gradient[c], first[c], second[c], method, count, rate, scale, alpha
            )
        if l1 > 0.0:
            correction2 = 1.0 - numbers[1] ** count if optimizer in (ADAM, ADAMW) else 1.0
            for j in range(d):
                by = reach(optimizer, rate, second[c, j], numbers[0], correction2) * l1
                parameters[c, j] = shrunk(parameters[c, j], number(by))
        for j in range(d + 1):
            gradient[c, j] = number(0.0)


@part
def update_with_memory(
    w: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    method: Method,
    count: int,
    rate: float,
    scale: float,
    alpha: float,
) -> None:
    """One output's step of an optimizer that remembers: moments, or sums of squares."""
    optimizer, numbers, _ = method
    number = w.dtype.type
    rate_, alpha_, scale_ = number(rate), number(alpha), number(scale)
    beta1, beta2 = number(numbers[0]), number(numbers[1])
    correction1 = correction2 = shrink = number(1.0)
    if optimizer in (ADAM, ADAMW):
        correction1 = number(1.0 - numbers[0] ** count)
        correction2 = number(1.0 - numbers[1] ** count)
    if optimizer == ADAMW:  # L2 acts on the weights themselves, not through the gradient's moments
        shrink, alpha_ = number(1.0 - rate * alpha), number(0.0)
    d = w.size - 1
    for j in range(d + 1):
        ridge, keep = (alpha_, shrink) if j < d else (number(0.0), number(1.0))
        g = gradient[j] * scale_ + ridge * w[j]
        w[j], first[j], second[j] = update(
            optimizer, keep * w[j], g, first[j], second[j], rate_, beta1, beta2, correction1, correction2
        )


@kernel
def take_full_step(
    moved: Moved, gradient: FloatArray, method: Method, step: Step, fit_intercept: bool
) -> None:
    """``apply_update``, called from Python: what is only a part of kernels is compiled anew in every process."""
    apply_update(moved, gradient, method, step, fit_intercept)


@part
def sgd_step_of_one(
    data: Data, row: int, parameters: FloatArray, scores: FloatArray, objective: Objective, rate: float
) -> None:
    """Batch size 1, plain SGD: the update is applied as the row is read, and no gradient array exists."""
    X, y, weights = data
    loss, shape, alpha, l1, fit_intercept = objective
    d = X.shape[1]
    number = X.dtype.type
    weight = rate * (weights[row] if weights.size else 1.0)
    keep = number(1.0 - rate * alpha)
    write_scores(X, row, parameters, scores)
    write_derivatives(loss, shape, scores, y, row)
    for c in range(parameters.shape[0]):
        r = number(-scores[c] * weight)
        lanes.move(parameters, c, keep, X, row, r)
        if fit_intercept:
            parameters[c, d] += r
        if l1 > 0.0:
            shrink_all(parameters, c, number(rate * l1))


@kernel
def run_sgd_of_one(
    data: Data,
    order: IntArray,
    parameters: FloatArray,
    averaging: Averaging,
    objective: Objective,
    pace: Pace,
) -> tuple[int, int]:
    """``run_steps`` for batch size 1, plain SGD, one output and no L1: the textbook's stochastic gradient descent.

    A step waits for the score, and the score for the step before it. So each row's product with the weights is made
    a step early, together with its product with the row before: that step changes the score by the second times a
    number, and only numbers wait for numbers. The steps are the same but for rounding.
    """
    X, y, weights = data
    average, num_averaged, average_every = averaging
    loss, shape, alpha, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    n, d = order.size, X.shape[1]
    number = X.dtype.type
    if n == 0:
        return step, num_averaged
    bytes_of_row = d * X.itemsize
    ahead = max(3, min(AHEAD, NEAR_BYTES // max(1, bytes_of_row)))
    rates, keeps = np.empty(4, dtype=X.dtype), np.empty(4, dtype=X.dtype)
    rates[:], keeps[:] = number(rate), number(1.0 - rate * alpha)
    one = number(1.0) if fit_intercept else number(0.0)
    w, last = parameters[0], n - 1
    bias = w[d]
    row, near = order[0], order[min(1, last)]
    at, next_at = np.int64(row) * d, np.int64(near) * d
    stay, nothing = number(1.0), number(0.0)
    found, cross = lanes.move_and_look(parameters, stay, nothing, X, at, at, next_at)
    for low in range(0, n, 4):
        high = min(low + 4, n)
        if low % SINGLE_ROWS == 0:  # where a run may be cut, as if one began here: so both have the same bits
            score = lanes.score(X, row, parameters, 0) + bias
        prefetch_targets(y, weights, order, low + AHEAD, high + AHEAD)
        if schedule != CONSTANT or weights.size:
            for i in range(low, high):
                now = rate_at(schedule, rate, step + 1 + i - low, num_steps)
                keeps[i - low] = number(1.0 - now * alpha)
                rates[i - low] = number(now * weights[order[i]] if weights.size else now)
        for i in range(low, high):
            soon = order[np.uintp(min(i + ahead, last))]
            for offset in range(0, bytes_of_row, LINE):
                prefetch(X, soon, offset)
            keep, pull = keeps[np.uintp(i - low)], rates[np.uintp(i - low)]
            target = number(y[np.uintp(row), 0])
            step += 1
            if shape is None:  # the slope is this less the target, which is known before the score is
                steepness, aim = logistic(score) if loss == LOG_LOSS else score, pull * target
            else:
                steepness, aim = slope(loss, shape, score, target), nothing
            both = cross + one
            score = (keep * found + bias + aim * both) - (pull * both) * steepness
            r = aim - pull * steepness
            bias += one * r
            row, near = near, order[np.uintp(min(i + 2, last))]
            far_at = np.int64(near) * d
            found, cross = lanes.move_and_look(parameters, keep, r, X, at, next_at, far_at)
            at, next_at = next_at, far_at
            w[d] = bias
            if average_every > 0 and step % average_every == 0:
                num_averaged += 1
                add_to_average(parameters, average, num_averaged)
    return step, num_averaged


@part
def add_to_average(parameters: FloatArray, average: FloatArray, count: int) -> None:
    """Takes ``parameters`` into the running mean ``average`` of ``count``."""
    share = 1.0 / count
    for c in range(parameters.shape[0]):
        for j in range(parameters.shape[1]):
            average[c, j] += share * (parameters[c, j] - average[c, j])


@kernel
def run_steps(
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
    X, parameters = data[0], moved[0]
    average, num_averaged, average_every = averaging
    loss, shape, _, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    optimizer, numbers, _ = method
    k, d = parameters.shape[0], X.shape[1]
    gradient = np.zeros((k, d + 1), dtype=X.dtype)
    block = room_for(X, k), np.empty(2 * BLOCK, dtype=np.int64)
    scores = np.empty(k, dtype=X.dtype)
    n = order.size
    bytes_of_row = min(d * X.itemsize, LONGEST_PREFETCH)
    start = 0 * n  # a bare 0 is a type of its own, for which kernels would be compiled once more
    while start < n:
        stop = min(start + batch_size, n)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        if batch_size == 1 and optimizer == SGD and numbers[2] == 0.0:
            if start + AHEAD < n:
                for offset in range(0, bytes_of_row, LINE):
                    prefetch(X, order[start + AHEAD], offset)
            sgd_step_of_one(data, order[start], parameters, scores, objective, now)
        else:
            add_batch_gradient(data, order, start, stop, parameters, block, loss, shape, gradient)
            now_step = step_of(stop - start, now, objective, method, step)
            apply_update(moved, gradient, method, now_step, fit_intercept)
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            add_to_average(parameters, average, num_averaged)
        start = stop
    return step, num_averaged
