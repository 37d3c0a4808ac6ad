"""Steps to a target against the batch size: S(B) = S_min · (1 + B_crit / B), fitted to the branches that reached it.

McCandlish et al. 2018, https://arxiv.org/abs/1812.06162: the law needs a rate tuned at each size. Between measured
sizes the measurements are interpolated, and the law only tells what lies beyond them; the interval of B_crit comes
from leaving out each measurement in turn, and no interval is given with fewer than three.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, log


@dataclass(frozen=True, slots=True)
class StepsLaw:
    """``fewest``: S_min, steps however large the batch; ``critical``: B_crit, where twice as many are needed."""

    measured: Mapping[int, float]
    fewest: float
    critical: float
    interval: tuple[float, float] | None
    error: float
    """The largest relative error at a measured size."""

    def at(self, batch_size: int) -> float:
        """Steps at any size: interpolated between measured ones, by the law beyond them."""
        sizes = sorted(self.measured)
        if batch_size in self.measured:
            return self.measured[batch_size]
        place = bisect_left(sizes, batch_size)
        if 0 < place < len(sizes):
            low, high = sizes[place - 1], sizes[place]
            share = log(batch_size / low) / log(high / low)
            return exp((1 - share) * log(self.measured[low]) + share * log(self.measured[high]))
        nearest = sizes[0] if place == 0 else sizes[-1]
        return self.measured[nearest] * self._law(batch_size) / self._law(nearest)

    def _law(self, batch_size: int) -> float:
        return 1.0 + self.critical / batch_size


def fit_steps(measured: Mapping[int, float]) -> StepsLaw:
    """The law through ``measured`` steps by batch size, by least squares of relative errors.

    One measurement alone says nothing of B_crit, which is then taken to be the size that was measured: half as many
    rows take half as many steps more, and no number of rows takes less than half of them.

    >>> law = fit_steps({1: 1010.0, 10: 110.0, 100: 20.0})
    >>> round(law.fewest, 6), round(law.critical, 6), law.at(1000)
    (10.0, 100.0, 11.0)
    """
    fewest, critical = _solve(measured)
    interval = None
    if len(measured) >= 3:
        others = [_solve({b: s for b, s in measured.items() if b != left})[1] for left in measured]
        interval = min([critical, *others]), max([critical, *others])
    error = max(abs(fewest * (1 + critical / b) / s - 1) for b, s in measured.items()) if fewest else inf
    return StepsLaw(dict(measured), fewest, critical, interval, error)


def _solve(measured: Mapping[int, float]) -> tuple[float, float]:
    """S_min and B_crit: S = S_min + E / B is linear in 1 / B, weighted by 1 / S²; both are kept above 0."""
    if len(measured) < 2:
        ((size, steps),) = measured.items()
        return steps / 2.0, float(size)
    weights = {b: 1.0 / s**2 for b, s in measured.items()}
    total = sum(weights.values())
    mean_x = sum(w / b for b, w in weights.items()) / total
    mean_s = sum(w * measured[b] for b, w in weights.items()) / total
    across = sum(w * (1 / b - mean_x) * (measured[b] - mean_s) for b, w in weights.items())
    slope = across / sum(w * (1 / b - mean_x) ** 2 for b, w in weights.items())
    steps = mean_s - slope * mean_x
    largest, smallest = max(measured), min(measured)
    if slope <= 0.0:  # steps do not fall: the smallest measured size is past the critical one
        return mean_s, smallest / 8.0
    if steps <= 0.0:  # they fall at least in proportion: it lies above the largest
        steps = measured[largest] / 9.0
        return steps, 8.0 * largest
    return steps, slope / steps
