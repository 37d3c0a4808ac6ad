"""Steps over sparse rows for optimizers that move every parameter whatever the rows hold.

Momentum goes on moving a weight whose column is not there, the squares of Adam and RMSprop fade, and clipping has to
know the length of a batch's gradient. None of it is put off: a step costs k · d besides its rows.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel
from descend.engines.row_kernels import write_derivatives
from descend.engines.sparse_kernels import row_score, span
from descend.engines.step_kernels import add_to_average, apply_update
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray
from descend.updates.schedules import rate_at


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
    shape: Shape | None,
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
            low, high = span(indptr, row)
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
            add_to_average(parameters, average, num_averaged)
    return step, num_averaged
