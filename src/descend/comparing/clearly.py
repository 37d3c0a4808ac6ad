"""Whether one kind has clearly the least of something: by its median, and by what every seed showed.

With three seeds each, all of one kind lie below all of another by chance once in twenty times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from statistics import median

CLEARLY = 1.1
"""Less than 10 % apart counts as even: timings on one machine differ by as much."""
ENOUGH_SEEDS = 3
CLEARLY_OF_FEW = 2.0
"""Fewer seeds tell too little of chance: then medians have to be so many times apart."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range over the seeds; infinite where a seed never got there, and then so is the median."""

    low: float
    median: float
    high: float
    num_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """That of one value a seed."""
        high = max(values)
        return cls(min(values), median(values) if isfinite(high) else inf, high, len(values))

    @property
    def inverse(self) -> Spread:
        """That of one over each value."""
        return Spread(1.0 / self.high, 1.0 / self.median, 1.0 / self.low, self.num_seeds)


def least(mine: Spread, others: Sequence[Spread], from_on: float = 0.0) -> bool | None:
    """Whether ``mine`` is clearly below all of the others: False where it is clearly above the least, else None.

    What lies below ``from_on`` is all alike.

    >>> fast, slow = Spread.of([1.0, 1.1, 1.2]), Spread.of([2.0, 2.1, 2.2])
    >>> least(fast, [slow]), least(slow, [fast]), least(fast, [Spread.of([1.15, 2.0, 2.0])])
    (True, False, None)
    """
    factor = CLEARLY if min(one.num_seeds for one in (mine, *others)) >= ENOUGH_SEEDS else CLEARLY_OF_FEW
    best = min(others, key=lambda one: one.median)
    mine_at, best_at = max(mine.median, from_on), max(best.median, from_on)
    if mine_at * factor < best_at and all(mine.high < other.low for other in others):
        return True
    return False if mine_at > best_at * factor and mine.low > best.high else None
