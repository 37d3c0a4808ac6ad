"""What the harness needs to know of a competitor."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import Problem


class Competitor:
    """Made with a problem, then trains.

    ``train(epochs, steps)`` starts from zero, walks the rows that many times in a new random order each time, and
    returns the parameters (k, d + 1), intercept last. ``steps`` cuts every epoch short (None: whole epochs), for
    loops too slow to be waited for.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    what: ClassVar[str]
    """What runs, for the reader of the table."""
    row_a_step: ClassVar[bool] = False
    """It has no batch size: timed once, shown beside all sizes, held to the common loss at batch size 1."""
    batch_sizes: ClassVar[tuple[int | str, ...] | None] = None
    """The sizes it is timed at; None: all."""
    patience: ClassVar[float | None] = 0.04
    """An epoch that would take longer, in seconds, is cut to so many steps that it does not; None: never cut."""
    most_numbers: ClassVar[float] = np.inf
    """Its rows are so many that they hold no more numbers (times outputs); the time is scaled to all rows."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @classmethod
    def why_not(cls) -> str | None:
        """Why it cannot run here; None where it can."""
        return None if find_spec(cls.module) else f"{cls.module} is not installed"

    @classmethod
    def can(cls, problem: Problem) -> bool:
        """Whether it has a form for such rows."""
        return True

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        """Whether its parameters must reach everybody's loss."""
        return True

    @classmethod
    def epochs(cls, problem: Problem) -> int:
        """An epoch's time is that of so many less that of one, shared among those between."""
        return problem.epochs_timed

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        raise NotImplementedError

    def random_rows(self, generator: np.random.Generator, steps: int | None) -> NDArray[np.int64]:
        """An epoch's order by NumPy; of a cut epoch as many random rows, so that its cost is cut as well."""
        n = self.problem.num_rows
        if steps is None or steps * self.problem.batch_size >= n:
            return generator.permutation(n)
        return generator.integers(n, size=steps * self.problem.batch_size)

    def starts(self, steps: int | None) -> range:
        """Where the batches of an epoch begin."""
        size, n = self.problem.batch_size, self.problem.num_rows
        return range(0, n if steps is None else min(n, steps * size), size)
