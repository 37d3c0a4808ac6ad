"""Compiled loops that take steps: a batch's gradient, an update, the next batch. The plain twin is ``reference.py``.

Names and shapes as in ``row_kernels.py``, which has what is done for the rows of a batch.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import inline, kernel, part
from descend.engines.fast_math import exponential
from descend.engines.prefetch import prefetch
from descend.engines.row_kernels import AHEAD, LINE, add_gradient, room_for, write_derivatives, write_scores
from descend.objectives.losses import LOG_LOSS, Shape, derivative
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray
from descend.updates import ADAM, ADAMW, SGD, reach, schedules, update
from descend.updates import FORMULAS as UPDATES
from descend.updates.schedules import rate_at

for formula in (*UPDATES, *schedules.FORMULAS, shrunk):
    inline(formula)


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
def apply_update(
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    alpha: float,
    l1: float,
    scale: float,
    fit_intercept: bool,
    step: int,
) -> None:
    """One step from the sum ``gradient``, which is left at zero for the next batch."""
    number = parameters.dtype.type
    rate_, alpha_, scale_ = number(rate), number(alpha), number(scale)
    beta1, beta2 = number(numbers[0]), number(numbers[1])
    correction1 = correction2 = number(1.0)
    if optimizer in (ADAM, ADAMW):
        correction1 = number(1.0 - numbers[0] ** step)
        correction2 = number(1.0 - numbers[1] ** step)
    shrink = number(1.0)
    if optimizer == ADAMW:  # L2 acts on the weights themselves, not through the gradient's moments
        shrink, alpha_ = number(1.0 - rate * alpha), number(0.0)
    d = parameters.shape[1] - 1
    if numbers[2] > 0.0:
        scale_ *= number(clip_factor(gradient, scale, numbers[2]))
    for c in range(parameters.shape[0]):
        for j in range(d):
            g = gradient[c, j] * scale_ + alpha_ * parameters[c, j]
            gradient[c, j] = 0.0
            parameters[c, j], first[c, j], second[c, j] = update(
                optimizer,
                shrink * parameters[c, j],
                g,
                first[c, j],
                second[c, j],
                rate_,
                beta1,
                beta2,
                correction1,
                correction2,
            )
        if fit_intercept:
            parameters[c, d], first[c, d], second[c, d] = update(
                optimizer,
                parameters[c, d],
                gradient[c, d] * scale_,
                first[c, d],
                second[c, d],
                rate_,
                beta1,
                beta2,
                correction1,
                correction2,
            )
        gradient[c, d] = 0.0
        if l1 > 0.0:
            for j in range(d):
                by = reach(optimizer, rate, second[c, j], numbers[0], correction2) * l1
                parameters[c, j] = shrunk(parameters[c, j], number(by))


@kernel
def take_full_step(
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    alpha: float,
    l1: float,
    scale: float,
    fit_intercept: bool,
    step: int,
) -> None:
    """``apply_update``, called from Python: what is only a part of kernels is compiled anew in every process."""
    apply_update(
        parameters, gradient, first, second, optimizer, rate, numbers, alpha, l1, scale, fit_intercept, step
    )


@part
def sgd_step_of_one(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    row: int,
    parameters: FloatArray,
    scores: FloatArray,
    loss: int,
    shape: Shape,
    rate: float,
    alpha: float,
    l1: float,
    fit_intercept: bool,
) -> None:
    """Batch size 1, plain SGD: the update is applied as the row is read, and no gradient array exists."""
    d = X.shape[1]
    number = X.dtype.type
    weight = rate * (weights[row] if weights.size else 1.0)
    shrink = number(1.0 - rate * alpha)
    write_scores(X, row, parameters, scores)
    write_derivatives(loss, shape, scores, y, row)
    for c in range(parameters.shape[0]):
        r = number(scores[c] * weight)
        for j in range(d):
            parameters[c, j] = shrink * parameters[c, j] - r * X[row, j]
        if fit_intercept:
            parameters[c, d] -= r
        if l1 > 0.0:
            for j in range(d):
                parameters[c, j] = shrunk(parameters[c, j], number(rate * l1))


@kernel
def run_sgd_of_one(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    parameters: FloatArray,
    average: FloatArray,
    num_averaged: int,
    average_every: int,
    first_step: int,
    loss: int,
    shape: Shape,
    alpha: float,
    l1: float,
    schedule: int,
    rate: float,
    num_steps: int,
    fit_intercept: bool,
) -> tuple[int, int]:
    """``run_steps`` for batch size 1, plain SGD and one output: the textbook's stochastic gradient descent.

    A loop of its own because the score and the step stay in registers here: half the time of the general one.
    """
    d = X.shape[1]
    w = parameters[0]
    number = X.dtype.type
    n = order.size
    bytes_of_row = d * X.itemsize
    step = first_step
    for i in range(n):
        row = order[i]
        if i + AHEAD < n:
            for offset in range(0, bytes_of_row, LINE):
                prefetch(X, order[i + AHEAD], offset)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        shrink = number(1.0 - now * alpha)
        score = w[d]
        for j in range(d):
            score += X[row, j] * w[j]
        if loss == LOG_LOSS:
            r = number(1.0) / (number(1.0) + exponential(-score)) - number(y[row, 0])
        else:
            r = number(derivative(loss, score, y[row, 0], shape))
        if weights.size:
            r *= number(weights[row])
        r *= number(now)
        for j in range(d):
            w[j] = shrink * w[j] - r * X[row, j]
        if fit_intercept:
            w[d] -= r
        if l1 > 0.0:
            for j in range(d):
                w[j] = shrunk(w[j], number(now * l1))
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            share = 1.0 / num_averaged
            for j in range(d + 1):
                average[0, j] += share * (w[j] - average[0, j])
    return step, num_averaged


@kernel
def run_steps(
    X: FloatArray,
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
    """Walks ``order`` in batches. Returns steps taken in all and parameters averaged so far."""
    k = parameters.shape[0]
    d = X.shape[1]
    gradient = np.zeros((k, d + 1), dtype=X.dtype)
    room = room_for(X, k)
    scores = room[:k]
    step = first_step
    n = order.size
    bytes_of_row = d * X.itemsize
    start = 0 * n  # a bare 0 is a type of its own, for which kernels would be compiled once more
    while start < n:
        stop = min(start + batch_size, n)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        if batch_size == 1 and optimizer == SGD and numbers[2] == 0.0:
            if start + AHEAD < n:
                for offset in range(0, bytes_of_row, LINE):
                    prefetch(X, order[start + AHEAD], offset)
            sgd_step_of_one(
                X, y, weights, order[start], parameters, scores, loss, shape, now, alpha, l1, fit_intercept
            )
        else:
            add_gradient(X, y, weights, order, start, stop, parameters, room, loss, shape, gradient)
            rows = 1 if sum_rows else stop - start
            ridge = alpha * (stop - start) / rows
            apply_update(
                parameters,
                gradient,
                first,
                second,
                optimizer,
                now,
                numbers,
                ridge,
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
        start = stop
    return step, num_averaged
