"""The bound of squared error that is had from a gradient which training has left behind."""

import numpy as np
import pytest

from descend.engines.choose import make_engine
from descend.engines.preconditioner import precondition
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset

ALPHA = 1e-4


@pytest.mark.parametrize("away", [1.0, 1e-2, 1e-4, 1e-6, 0.0])
def test_the_told_bound_is_no_lower_than_the_gap_and_not_far_above_the_settled_one(away: float) -> None:
    """At any distance from the optimum the told bound holds, and is little above the thorough one."""
    random = np.random.default_rng(0)
    X = random.normal(size=(30_000, 20)).astype(np.float32)
    y = X @ random.normal(size=20) + random.normal(size=len(X))
    y /= y.std()
    data = Dataset(X, y[:, None])
    engine = make_engine(
        data,
        LOSSES["squared_error"],
        Penalty(ALPHA),
        preconditioner=precondition(data, 1.0, ALPHA, norms=False),
    )
    rows = np.column_stack([X, np.ones(len(X))]).astype(np.float64)
    H = rows.T @ rows / len(X) + np.diag([ALPHA] * 20 + [0.0])
    best = np.linalg.solve(H, rows.T @ y / len(X))
    at = (best + away * random.normal(size=21)).astype(np.float32)[None]
    off = at[0] - best
    engine.objective(at)
    told = engine.gap_bound(at)
    engine.last = None
    settled = engine.gap_bound(at)
    assert told is not None
    assert settled is not None
    assert 0.5 * off @ H @ off <= told <= 3.0 * settled + 1e-7
