"""Steps over sparse rows for optimizers that move every parameter whatever the rows hold.

Momentum goes on moving a weight whose column is not there, the squares of Adam and RMSprop fade, and clipping has to
know the length of a batch's gradient. None of it is put off: a step costs k · d besides its rows.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel
from descend.engines.linear_arguments import Averaging, Method, Moved, Objective, Pace, SparseData
from descend.engines.row_kernels import write_derivatives
from descend.engines.sparse_kernels import row_score, span
from descend.engines.step_kernels import add_to_average, apply_update, step_of
from descend.types import IntArray
from descend.updates.schedules import rate_at


@kernel
def run_dense_steps(
    data: SparseData,
    order: IntArray,
    batch_size: int,
    moved: Moved,
    averaging: Averaging,
    objective: Objective,
    method: Method,
    pace: Pace,
) -> tuple[int, int]:
    """``step_kernels.run_steps`` of sparse rows: its parameters are (k, d + 1), too."""
    values, indices, indptr, y, weights = data
    parameters = moved[0]
    average, num_averaged, average_every = averaging
    loss, shape, _, _, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    k, d = parameters.shape[0], parameters.shape[1] - 1
    number = values.dtype.type
    gradient = np.zeros((k, d + 1), dtype=values.dtype)
    scores = np.empty(k, dtype=values.dtype)
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
        now = rate_at(schedule, rate, step, num_steps)
        apply_update(
            moved, gradient, method, step_of(stop - start, now, objective, method, step), fit_intercept
        )
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            add_to_average(parameters, average, num_averaged)
    return step, num_averaged
