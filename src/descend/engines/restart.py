"""SAGA begun anew at other parameters: its table is filled there, and no step taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from descend.batches import row_number
from descend.engines.base import Engine, Rule, State


def restart_saga(engine: Engine, state: State, rule: Rule, batch_size: int) -> None:
    """Every row's derivative at ``state.parameters``: an epoch at the rate 0, whose rows count as visited.

    What stood in the table may be infinite. The curvature's share begins at its bound again.
    """
    if state.table is not None and state.mean_gradient is not None:
        state.table[:] = 0.0
        state.mean_gradient[:] = 0.0
    steps, still = state.steps, replace(rule, full_term=np.inf)
    order = np.arange(engine.num_rows, dtype=row_number(engine.num_rows))
    most = -(-(engine.cut_rows or engine.num_rows) // batch_size) * batch_size
    for start in range(0, engine.num_rows, most):
        engine.run(state, still, order[start : start + most], batch_size)
    state.steps, state.share = steps, 1.0
