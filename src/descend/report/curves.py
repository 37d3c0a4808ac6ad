"""Histories to curves: several seeds of one run become a median with a band, on points few enough to draw."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

MAX_POINTS = 300


@dataclass(frozen=True, slots=True)
class Band:
    """Median, lowest and highest value over the seeds at each ``x``; four lists of one length."""

    x: list[float]
    median: list[float]
    low: list[float]
    high: list[float]

    def at(self, x: float) -> tuple[float, float, float]:
        """Median, low and high at ``x``."""
        return tuple(interpolate(self.x, values, x) for values in (self.median, self.low, self.high))  # type: ignore[return-value]


def band(histories: Sequence[Mapping[str, Any]], axis: str, measure: str) -> Band | None:
    """The curve of ``measure`` against ``axis`` over all seeds, or None where nothing was recorded.

    A seed that stopped earlier than another keeps its last value: the model it ended with still stands.
    """
    seeds = [pair for history in histories if (pair := observed(history["columns"], axis, measure))[0]]
    if not seeds:
        return None
    grid = thin(sorted({x for xs, _ in seeds for x in xs}))
    rows = [[interpolate(xs, ys, x) for xs, ys in seeds] for x in grid]
    return Band(grid, [median(row) for row in rows], [min(row) for row in rows], [max(row) for row in rows])


def observed(columns: Mapping[str, Any], axis: str, measure: str) -> tuple[list[float], list[float]]:
    """The pairs of ``axis`` and ``measure`` that were recorded, as two lists; x never steps back."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y in zip(columns.get(axis) or (), columns.get(measure) or (), strict=False):
        if x is not None and y is not None and (not xs or x >= xs[-1]):
            xs.append(x)
            ys.append(y)
    return xs, ys


def interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """The value at ``x`` on straight lines through the points; the end values beyond the ends.

    >>> interpolate([0, 2], [1.0, 3.0], 1), interpolate([0, 2], [1.0, 3.0], 9)
    (2.0, 3.0)
    """
    right = bisect_left(xs, x)
    if right == len(xs):
        return ys[-1]
    if right == 0 or xs[right] == x:
        return ys[right]
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])


def thin(xs: Sequence[float], limit: int = MAX_POINTS) -> list[float]:
    """At most ``limit`` of the rising ``xs``, even in their logarithm, the first and the last among them.

    Even spacing would leave two straight lines where most of the descent happens: at the start.

    >>> thin(range(1, 10_001), limit=6)
    [1, 21, 464, 9999, 10000]
    """
    positive = [x for x in xs if x > 0]
    if len(xs) <= limit or not positive:
        return list(xs)
    first, width = math.log(positive[0]), math.log(positive[-1] / positive[0]) or 1.0
    buckets = {int((math.log(x) - first) / width * (limit - 3)): x for x in positive}
    return sorted({xs[0], positive[0], *buckets.values()})


def even_values(high: float, limit: int = 6) -> list[float]:
    """Even steps of a round number from 0 to ``high``, at most ``limit`` values.

    >>> even_values(0.23), even_values(1617)
    ([0.0, 0.05, 0.1, 0.15, 0.2], [0.0, 500.0, 1000.0, 1500.0])
    """
    decade = 10.0 ** math.floor(math.log10(high / (limit - 1)))
    step = next(step for nice in (1, 2, 5, 10) if (step := nice * decade) * (limit - 1) >= high * (1 - 1e-9))
    return [float(f"{i * step:.12g}") for i in range(int(high / step * (1 + 1e-9)) + 1)]


def nice_values(low: float, high: float, limit: int = 10) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from ``low`` to ``high``, at most ``limit`` of them.

    >>> nice_values(0.9, 120)
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    >>> nice_values(1, 1e6, limit=4)
    [1.0, 100.0, 10000.0, 1000000.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        values = [step * 10.0**decade for decade in decades for step in steps]
        inside = [float(f"{v:.1g}") for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) <= limit:
            return inside
    return inside[:: math.ceil(len(inside) / limit)]
