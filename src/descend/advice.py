"""Whether a method that works on every row at once would have been faster, and by how much: an estimate, and modest.

The time of such a run is that of its preconditioner and of some passes over the rows. Both are measured here, on the
rows and the machine at hand; how many passes it takes was counted on twenty tables: 2 for squared error, 20 to 40 for
two classes, 70 to 240 for more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from descend.objectives.losses import SOFTMAX, SQUARED_ERROR, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset

if TYPE_CHECKING:
    from descend.engines.base import Engine

PASSES = {SQUARED_ERROR: 4, SOFTMAX: 160}
PASSES_OF_OTHERS = 40
SAMPLE_ROWS = 4096
PASS_NUMBERS = 2**24
"""Numbers that a pass is timed on: all rows of a store, read twice, took longer than one epoch of training."""
LEAST_SECONDS = 0.05
"""A run this short is not worth a word."""
WORTHWHILE = 2.0
"""Said where the other method takes less than half of the time: the estimate is not better than that."""


def faster_whole(
    engine: Engine, data: Dataset, loss: Loss, penalty: Penalty, num_outputs: int, seconds: float
) -> str:
    """Advice for a run that took ``seconds``; empty where there is none to give."""
    from descend.engines.preconditioner import MOST_COLUMNS

    known = loss.has_bound and not loss.has_corners and not penalty.l1
    if not known or data.num_columns > MOST_COLUMNS or seconds < LEAST_SECONDS:
        return ""
    estimate = whole_seconds(engine, data, loss, penalty, num_outputs)
    if WORTHWHILE * estimate > seconds:
        return ""
    how = (
        "the equations solved at once"
        if loss.code == SQUARED_ERROR
        else "steps from every row (L-BFGS, Newton)"
    )
    return (
        f'faster here: {how}, which "auto" takes for optimizer and batch size, would need about '
        f"{_rounded(estimate)} s of training; this run took {_rounded(seconds)} s"
    )


def whole_seconds(engine: Engine, data: Dataset, loss: Loss, penalty: Penalty, num_outputs: int) -> float:
    """The estimated seconds of a run on every row at once, from measured parts."""
    from descend.engines.preconditioner import precondition

    weights = np.zeros((num_outputs, data.num_columns + 1), dtype=data.X.dtype)
    some = min(data.num_rows, max(SAMPLE_ROWS, PASS_NUMBERS // (data.num_columns + 1)))
    one_pass = min(_timed(lambda: engine.mean_loss(weights, some)) for _ in range(2)) * data.num_rows / some
    few = Dataset(data.X[:SAMPLE_ROWS], data.y[:SAMPLE_ROWS])
    matrix = min(_timed(lambda: precondition(few, 1.0, penalty.alpha, norms=False)) for _ in range(2))
    rest = _timed(lambda: few.X.T @ few.X) * (data.num_rows / few.num_rows - 1.0)
    passes = PASSES.get(loss.code, PASSES_OF_OTHERS)
    return 2.0 * passes * one_pass + matrix + rest  # a pass for the gradient is two for the loss


def _timed(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def _rounded(seconds: float) -> str:
    return f"{seconds:.1g}" if seconds < 10 else f"{seconds:,.0f}"
