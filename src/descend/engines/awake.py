"""Which units any row wakes: a unit is awake on a row where its score is above 0."""

from __future__ import annotations

from descend.engines.compiled import kernel
from descend.types import FloatArray, IntArray

ROWS = 8
"""Rows that are asked about one unit after the other, while they are near."""


@kernel
def find_awake(X: FloatArray, weights: FloatArray, bias: FloatArray, awake: IntArray) -> int:
    """Sets ``awake`` (units,) to 1 + the first row of ``X`` (n, d) that wakes each; returns how many are awake.

    ``weights`` (units, d); 0: no row has woken it yet, and only then is a unit asked. Half of the rows wake most, so
    that two are read for it. A score that is no number counts as awake, for nothing is to be started anew where a run
    has blown up.
    """
    num_awake = 0
    for unit in range(awake.size):
        num_awake += awake[unit] > 0
    for start in range(0, X.shape[0], ROWS):
        for unit in range(awake.size):
            row, stop = start, min(start + ROWS, X.shape[0])
            while awake[unit] == 0 and row < stop:
                score = bias[unit]
                for j in range(X.shape[1]):
                    score += X[row, j] * weights[unit, j]
                if not score <= 0.0:
                    awake[unit] = row + 1
                    num_awake += 1
                row += 1
        if num_awake == awake.size:
            break
    return num_awake
