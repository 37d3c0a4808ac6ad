"""The least that an epoch can do: read every number once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


@cache
def _compiled() -> Any:
    from numba import njit

    @njit(fastmath=True)
    def total(numbers: Any) -> Any:
        found = numbers.dtype.type(0)
        for i in range(len(numbers)):
            found += numbers[i]
        return found

    return total


class BareRead(Competitor):
    """The sum, by a compiled loop that the processor does sixteen numbers at a time."""

    name, module, row_a_step, patience = "bare read", "numba", True, None
    what = (
        "one compiled sum of all numbers in memory order, of sparse rows of the indices too: no model at all, "
        "but what reading takes"
    )

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.total = _compiled()
        X = problem.X
        self.arrays = (X.data, X.indices) if problem.sparse else (X.reshape(-1),)

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        return False

    @classmethod
    def epochs(cls, problem: Problem) -> int:
        return 4 * problem.epochs_timed

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        found = 0.0
        for _ in range(epochs):
            found += sum(float(self.total(numbers)) for numbers in self.arrays)
        return np.full((self.problem.num_outputs, self.problem.num_columns + 1), found)
