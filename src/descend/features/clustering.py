"""Whether the target changes from one part of a file to the next: measured while the columns are learnt."""

from __future__ import annotations

from math import sqrt

import numpy as np

from descend.features.target_statistics import Label, TargetStatistics
from descend.types import Task

SURE = 5.0
"""Deviations above what random order would show: fewer may be chance."""
MOST_LABELS = 1000
"""With more the target is a quantity, and its mean tells."""


class Clustering:
    """The share of the target's variance that lies between blocks.

    Of a quantity it is that between the blocks' means. Of classes it is the same of their indicators: what the
    impurity Σ p (1 − p) of all rows has more than the mean impurity of the blocks.

    >>> stats, clustering = TargetStatistics("y"), Clustering()
    >>> for label in (0, 1, 1, 0):
    ...     stats.update(np.full(100, label))
    ...     clustering.add(stats)
    >>> clustering.share("classification"), clustering.is_plain("classification")
    (1.0, True)
    """

    def __init__(self) -> None:
        self.num_blocks = 0
        self.num_rows = 0
        self._counts: dict[Label, float] = {}
        self._count = self._sum = np.zeros(0)
        self._squares = 0.0
        """Σ over blocks and classes of count² / rows of the block."""
        self._mean_squares = np.zeros(0)
        """Σ over blocks of sum² / rows of the block, of each output, from the mean of the first block on."""
        self._origin = np.zeros(0)
        self._total: TargetStatistics | None = None

    def add(self, total: TargetStatistics) -> None:
        """Take in the block that ``total`` has last been updated with; it holds all rows until now."""
        if total.num_rows == self.num_rows:
            return
        self._total = total
        self.num_blocks += 1
        self.num_rows = total.num_rows
        if total.counts and not total.overflowed and len(total.counts) <= MOST_LABELS:
            some = [count - self._counts.get(label, 0.0) for label, count in total.counts.items()]
            self._counts = dict(total.counts)
            self._squares += sum(n * n for n in some) / max(sum(some), 1e-300)
        if total.moments.count.size:
            self._add_sums(total)

    def _add_sums(self, total: TargetStatistics) -> None:
        moments = total.moments
        if not self._origin.size:
            self._origin = moments.mean.copy()
            self._count = self._sum = self._mean_squares = np.zeros(len(moments.count))
        sums = (moments.mean - self._origin) * moments.count
        here, weight = sums - self._sum, moments.count - self._count
        self._sum, self._count = sums, moments.count.copy()
        self._mean_squares = self._mean_squares + here**2 / np.where(weight > 0, weight, 1.0)

    def share(self, task: Task) -> float:
        """From 0 (every block is like the next) to 1 (a block has one class, or one value)."""
        total = self._total
        if total is None:
            return 0.0
        if task == "classification":
            weight = max(sum(self._counts.values()), 1e-300)
            alike = sum(n * n for n in self._counts.values()) / weight**2
            return _share(self._squares / weight - alike, 1.0 - alike)
        between = self._mean_squares - self._sum**2 / np.where(self._count > 0, self._count, 1.0)
        return _share(float(between.sum()), float(total.moments.M2.sum()))

    @property
    def by_chance(self) -> float:
        """The share that rows in random order would show."""
        return (self.num_blocks - 1) / max(1, self.num_rows - 1)

    def is_plain(self, task: Task) -> bool:
        """Whether there is more than chance would show."""
        deviation = sqrt(2.0 * max(0, self.num_blocks - 1)) / max(1, self.num_rows - 1)
        return self.num_blocks > 1 and self.share(task) > self.by_chance + SURE * deviation


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0.0 else 0.0
