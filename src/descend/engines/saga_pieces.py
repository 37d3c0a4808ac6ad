"""SAGA's step on a batch that is read in pieces, for rows that have to be decoded first."""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel
from descend.engines.row_kernels import BLOCK, room_for
from descend.engines.saga_kernels import add_changes, apply_changes, rate_of
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray


@kernel
def run_saga_piece(
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    visit_weights: FloatArray,
    order: IntArray,
    batch_rows: int,
    pace: float,
    is_last: bool,
    num_rows: int,
    gradient: FloatArray,
    changes: FloatArray,
    rate_share: float,
    parameters: FloatArray,
    table: FloatArray,
    mean_gradient: FloatArray,
    filling: bool,
    share: float,
    first_step: int,
    num_steps: int,
    loss: int,
    shape: Shape | None,
    alpha: float,
    l1: float,
    full_term: float,
    single_term: float,
    preconditioner: FloatArray,
    fit_intercept: bool,
) -> tuple[int, float]:
    """``saga_kernels.run_saga`` of the rows ``order`` of a batch of ``batch_rows``; the last piece takes the step.

    ``gradient`` and ``changes`` (k, d + 1) keep the sums from piece to piece. The rate is that of ``rate_share``, the
    share of the curvature before the batch, times ``pace``, below 1 for a smaller batch.
    """
    k = parameters.shape[0]
    scores, nothing, rows = (
        np.zeros(k, dtype=X.dtype),
        np.empty(0, dtype=np.float64),
        np.empty(BLOCK, dtype=np.int64),
    )
    share = add_changes(
        X,
        y,
        weights,
        visit_weights,
        order,
        0 * order.size,
        order.size,
        batch_rows,
        parameters,
        table,
        filling,
        share,
        num_rows,
        loss,
        shape,
        room_for(X, k),
        room_for(X, k),
        rows,
        scores,
        nothing,
        gradient,
        changes,
    )
    if not is_last:
        return first_step, share
    apply_changes(
        parameters,
        gradient,
        changes,
        visit_weights.size > 0 or filling,
        mean_gradient,
        batch_rows,
        num_rows,
        filling,
        preconditioner,
        alpha,
        l1,
        pace * rate_of(rate_share, filling, first_step, num_steps, full_term, single_term),
        fit_intercept,
    )
    return first_step + 1, share
