"""SGD with L1 over sparse rows: a step touches its rows' stored numbers alone, and is the dense proximal step.

After a step every weight is drawn towards zero by rate · l1, and stops there. A weight whose column no row holds is
moved by nothing else, and drawing it m times is drawing it once by the sum: it is put off until the column is next
read. The weights are scale · V, as in ``sparse_steps.py``: what L2 shrinks between two draws is in ``scale``, and a
draw of the weight by rate · l1 is one of V by rate · l1 / scale. The sum of these is ``drawn``.

The average needs the sum of a weight's values in the meantime. With ``owed`` = Σ scale and ``moment`` =
Σ scale · drawn over the steps that are averaged, it is, while the weight has not come to zero,

    (|V| + drawn then) · (owed − owed then) − (moment − moment then),

and nothing from its arrival on: to find that, the course of the three numbers is kept and searched.
"""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import inline, kernel, part
from descend.engines.linear_arguments import Objective, Pace, SparseAveraging, SparseData
from descend.engines.row_kernels import AHEAD
from descend.engines.sparse_kernels import ask_for_row, span
from descend.engines.sparse_steps import FOLD, write_row_derivatives
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray
from descend.updates.schedules import rate_at

inline(shrunk)

DRAWN, OWED, MOMENT = 0, 1, 2


@part
def last_before(course: FloatArray, num: int, column: int, bound: float) -> int:
    """The last of the first ``num`` lines of ``course`` whose ascending ``column`` is below ``bound``, or −1."""
    low, high = 0, num
    while low < high:
        middle = (low + high) // 2
        if course[middle, column] < bound:
            low = middle + 1
        else:
            high = middle
    return low - 1


@part
def sum_to_zero(size: float, drawn: float, owed: float, moment: float, course: FloatArray, num: int) -> float:
    """The sum of a weight's averaged values from ``size`` > 0 on, until it has come to zero."""
    last = last_before(course, num, DRAWN, drawn + size)
    if last < 0 or course[last, OWED] <= owed:
        return 0.0
    return float((size + drawn) * (course[last, OWED] - owed) - (course[last, MOMENT] - moment))


@part
def settle(
    V: FloatArray,
    columns: IntArray,
    low: np.uintp,
    high: np.uintp,
    sums: FloatArray,
    then: FloatArray,
    now: FloatArray,
    course: FloatArray,
    num: int,
) -> None:
    """Draws columns[low:high] by what was put off since ``then`` (d, 3), and adds to their ``sums`` what they were.

    ``now`` (3,) becomes their ``then``; ``course[:num]`` has what it was at each step that was averaged. Without an
    average ``sums`` is empty, and ``then`` (d, 1).
    """
    number = V.dtype.type
    if sums.size == 0:
        due = now[DRAWN]
        for p in range(low, high):
            j = columns[p]
            by_then = number(due - then[j, DRAWN])
            then[j, DRAWN] = due
            for c in range(V.shape[1]):
                V[j, c] = shrunk(V[j, c], by_then)
        return
    for p in range(low, high):
        j = columns[p]
        drawn, owed, moment = then[j, DRAWN], then[j, OWED], then[j, MOMENT]
        by = now[DRAWN] - drawn
        averaged = now[OWED] > owed
        for c in range(V.shape[1]):
            weight = np.float64(V[j, c])
            size = abs(weight)
            if averaged and size > by:
                total = (size + drawn) * (now[OWED] - owed) - (now[MOMENT] - moment)
                sums[j, c] += np.copysign(total, weight)
            elif averaged and size > 0.0:
                sums[j, c] += np.copysign(sum_to_zero(size, drawn, owed, moment, course, num), weight)
            V[j, c] = number(shrunk(weight, by))
        for i in range(3):
            then[j, i] = now[i]


@part
def settle_all(
    V: FloatArray,
    every: IntArray,
    sums: FloatArray,
    then: FloatArray,
    now: FloatArray,
    course: FloatArray,
    num: int,
    scale: float,
) -> None:
    """Settles ``every`` column and multiplies the common factor in; all that was counted starts anew at 0."""
    number = V.dtype.type(scale)
    settle(V, every, np.uintp(0), np.uintp(every.size), sums, then, now, course, num)
    then[:] = 0.0
    now[:] = 0.0
    for j in range(every.size):
        for c in range(V.shape[1]):
            V[j, c] *= number


@kernel
def run_proximal_sgd(
    data: SparseData,
    order: IntArray,
    batch_size: int,
    V: FloatArray,
    averaging: SparseAveraging,
    objective: Objective,
    pace: Pace,
    sum_rows: bool,
) -> tuple[int, int]:
    """``sparse_steps.run_sgd`` with L1."""
    values, indices, indptr, _, _ = data
    sums, average_every, _ = averaging
    loss, shape, alpha, l1, fit_intercept = objective
    schedule, rate, step, num_steps = pace
    d, k = V.shape[0] - 1, V.shape[1]
    number = values.dtype.type
    size = min(batch_size, max(1, order.size))
    room = np.empty((size, k), dtype=values.dtype)
    then, now = np.zeros((d, 3 if average_every > 0 else 1)), np.zeros(3)
    every = np.arange(d).astype(indices.dtype)
    most = 0 if average_every == 0 else order.size // (batch_size * average_every) + 2
    course = np.empty((most, 3))
    scale, num, num_averaged = 1.0, 0, 0
    for start in range(0, order.size, batch_size):
        stop = min(start + batch_size, order.size)
        step += 1
        step_rate = rate_at(schedule, rate, step, num_steps)
        rows = 1 if sum_rows else stop - start
        for i in range(start, stop):
            row = order[i]
            if i + AHEAD < order.size:
                ask_for_row(values, indices, indptr, order[i + AHEAD])
            low, high = span(indptr, row)
            settle(V, indices, low, high, sums, then, now, course, num)
            write_row_derivatives(data, row, V, scale, loss, shape, room[i - start])
        share = (stop - start) / rows
        scale *= 1.0 - step_rate * alpha * share
        if scale < FOLD:
            settle_all(V, every, sums, then, now, course, num, scale)
            scale, num = 1.0, 0
        length, intercept_length = number(step_rate / rows / scale), number(step_rate / rows)
        # As in ``sparse_steps.run_sgd``: as a part of both it was rounded differently here.
        for i in range(start, stop):
            low, high = span(indptr, order[i])
            scores = room[i - start]
            if fit_intercept:
                for c in range(k):
                    V[d, c] -= scores[c] * intercept_length
            for c in range(k):
                scores[c] *= length
            for p in range(low, high):
                j, x = indices[p], values[p]
                for c in range(k):
                    V[j, c] -= scores[c] * x
        now[DRAWN] += step_rate * l1 * share / scale
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            now[OWED] += scale
            now[MOMENT] += scale * now[DRAWN]
            course[num] = now
            num += 1
            for c in range(k):
                sums[d, c] += V[d, c]
    settle_all(V, every, sums, then, now, course, num, scale)
    return step, num_averaged
