"""Whether rows held out like one set of parameters better than another by more than chance.

A handful of rows often likes the constant model better than the optimum, for one odd row among them. The rule is that
of one standard error (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, § 3.4.3), taken
of the differences row by row, in which most of what rows have in common is gone.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np

from descend.engines.base import Engine
from descend.types import FloatArray

MOST_GROUPS = 30
"""Rows are put into so many groups at the most: enough to tell a spread from."""
STANDARD_ERRORS = 1.0
"""Of 131 fits of small tables in which rows held out liked earlier parameters better, on rows apart: R² −0.03 by
their choice alone, 0.05 with one standard error, 0.08 with two; log loss 1.25, 1.28, 1.37; accuracy 0.520, 0.522,
0.535."""


def clearly_lower(engine: Engine, ones: FloatArray, others: FloatArray) -> bool:
    """Whether the mean loss of ``engine``'s rows is lower at ``ones`` than at ``others`` by more than chance."""
    num_groups = min(MOST_GROUPS, engine.num_rows)
    if num_groups < 2:
        return False
    bounds = np.linspace(0, engine.num_rows, num_groups + 1).astype(int)
    differences, weight = np.empty(num_groups), 0.0
    for group, (start, stop) in enumerate(pairwise(bounds.tolist())):
        rows = slice(start, stop)
        sums = engine.loss_and_gradient(ones, rows)
        differences[group] = engine.loss_and_gradient(others, rows).loss - sums.loss
        weight += sums.weight
    if not np.isfinite(differences).all() or not weight > 0.0:
        return bool(differences.sum() > 0.0)
    error = sqrt(num_groups * float(differences.var(ddof=1)))
    return float(differences.sum()) > STANDARD_ERRORS * error
