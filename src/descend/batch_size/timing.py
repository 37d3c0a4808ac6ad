"""Step seconds against the batch size, measured: a few rounds over all sizes, so that a busy moment hits all of them.

Sizes go up in doublings: with t(B) = a + b·B and S(B) ∝ 1 + B_crit / B, the time to the target at r times the best
size is at most (2 + r + 1/r) / 4 of the best, and no size is farther from a doubling than r = √2: 3 % lost, or 12.5 %
where the doubling next to it is taken. Any other size is allowed; none is faster for being a power of two.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp, log
from statistics import median

from descend.batch_size.trainer import Trainer

ROUNDS, MOST_ROUNDS, LITTLE = 5, 15, 0.1
"""There are more rounds than the first of these while all take less than this share of the time: of a job of 2 ms two
sizes sixteen apart are within some percent of each other, and medians of five answered 32 and 512 in turn."""
SLICE_SECONDS = 5e-4
"""A slice is so many steps that take at least as long; a clock tells no less of them."""
CLIFF = 1.3
"""A row that costs so much more at twice the size: something stopped fitting."""
FIT_WITHIN = 0.15


@dataclass(slots=True)
class StepTimes:
    """Median seconds of a step at each measured size, with the lowest and highest of the rounds."""

    seconds: dict[int, float] = field(default_factory=dict)
    spread: dict[int, tuple[float, float]] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        return sorted(self.seconds)

    def at(self, batch_size: int) -> float:
        """Seconds of a step at any size: interpolated between neighbours, in proportion to rows beyond the last."""
        sizes = self.sizes
        if batch_size in self.seconds:
            return self.seconds[batch_size]
        place = bisect_left(sizes, batch_size)
        if place == len(sizes):
            return self.seconds[sizes[-1]] * batch_size / sizes[-1]
        if place == 0:
            return self.seconds[sizes[0]]
        low, high = sizes[place - 1], sizes[place]
        share = log(batch_size / low) / log(high / low)
        return exp((1.0 - share) * log(self.seconds[low]) + share * log(self.seconds[high]))

    @property
    def least_of_a_row(self) -> float:
        """The fewest seconds that a row costs at any size."""
        return min(seconds / size for size, seconds in self.seconds.items())

    @property
    def knee(self) -> float:
        """Rows that cost as much as a step itself: a / b of t(B) = a + b·B, b the least that a row costs."""
        first = self.sizes[0]
        row = self.least_of_a_row
        return max(1.0, (self.seconds[first] - first * row) / row)

    @property
    def cliffs(self) -> list[int]:
        """Sizes at which a row costs much more than at the size before."""
        sizes = self.sizes
        return [
            high
            for low, high in pairwise(sizes)
            if self.seconds[high] / high > CLIFF * self.seconds[low] / low
        ]

    def affine(self) -> tuple[float, float] | None:
        """The a and b of t(B) = a + b·B, where that holds at every measured size within 15 %; else None.

        >>> StepTimes({1: 3.0, 10: 12.0, 100: 102.0}).affine()
        (2.0, 1.0)
        >>> StepTimes({1: 3.0, 10: 12.0, 100: 1020.0}).affine()
        """
        sizes = self.sizes
        if len(sizes) < 3:
            return None
        weights = [1.0 / self.seconds[size] ** 2 for size in sizes]  # relative errors count alike
        total = sum(weights)
        mean_b = sum(w * s for w, s in zip(weights, sizes, strict=True)) / total
        mean_t = sum(w * self.seconds[s] for w, s in zip(weights, sizes, strict=True)) / total
        across = sum(
            w * (s - mean_b) * (self.seconds[s] - mean_t) for w, s in zip(weights, sizes, strict=True)
        )
        b = across / sum(w * (s - mean_b) ** 2 for w, s in zip(weights, sizes, strict=True))
        a = mean_t - b * mean_b
        off = max(abs(a + b * s - self.seconds[s]) / self.seconds[s] for s in sizes)
        return (round(a, 12), round(b, 12)) if off <= FIT_WITHIN and a >= 0.0 else None


def measure_times(
    trainer: Trainer,
    sizes: Sequence[int],
    budget: float,
    on_round: Callable[[StepTimes], object] | None = None,
    rounds: int = ROUNDS,
    most_rounds: int = MOST_ROUNDS,
) -> StepTimes:
    """Times steps of ``sizes``, for about ``budget`` seconds in all; sizes that would take too long are left out.

    At least one size is always measured, the smallest, be it only once. ``most_rounds``: where all take little.
    """
    began = time.perf_counter()
    samples: dict[int, list[float]] = {}
    counts: dict[int, int] = {}
    before = 0.0
    for size in sorted(sizes):
        expected = 2.0 * before
        if samples and time.perf_counter() - began + expected * rounds > budget:
            break
        seconds = trainer.time_steps(size, 1)
        if time.perf_counter() - began < budget:  # what is compiled or allocated first is not counted
            seconds = trainer.time_steps(size, 1)
        counts[size] = max(1, int(SLICE_SECONDS / max(seconds, 1e-9)))
        samples[size] = [seconds] if counts[size] == 1 else []
        before = seconds
    for number in range(max(rounds, most_rounds)):
        if number >= rounds and time.perf_counter() - began > LITTLE * budget:
            break
        for size, count in counts.items():
            if samples[size] and time.perf_counter() - began > budget:
                continue
            samples[size].append(trainer.time_steps(size, count) / count)
        if on_round is not None:
            on_round(_summed(samples))
    return _summed(samples)


def _summed(samples: dict[int, list[float]]) -> StepTimes:
    return StepTimes(
        {size: median(times) for size, times in samples.items() if times},
        {size: (min(times), max(times)) for size, times in samples.items() if times},
    )


def grid(num_rows: int, ceiling: int | None = None) -> list[int]:
    """1, 2, 4, … up to the rows that there are, and these; nothing above ``ceiling``.

    >>> grid(20), grid(1000, ceiling=16)
    ([1, 2, 4, 8, 16, 20], [1, 2, 4, 8, 16])
    """
    most = num_rows if ceiling is None else min(num_rows, ceiling)
    sizes = [1]
    while 2 * sizes[-1] <= most:
        sizes.append(2 * sizes[-1])
    return sizes if sizes[-1] == most else [*sizes, most]
