"""The way of a run through parameter space: a few of the parameters that it went through, evenly over its looks."""

from __future__ import annotations

from descend.types import FloatArray

MOST_POINTS = 120
MOST_BYTES = 12_000_000
FEWEST_POINTS = 12


class Trail:
    """Keeps at most 120 points, and fewer of large models: every look at first, then every second.

    >>> import numpy as np
    >>> trail = Trail(most=4)
    >>> for look in range(11):
    ...     trail.add(np.array([float(look)]))
    >>> [int(point[0]) for point in trail.points], int(trail.path[-1][0])
    ([0, 4, 8], 10)
    """

    def __init__(self, most: int | None = None) -> None:
        self.points: list[FloatArray] = []
        self._most = most
        self._looks = 0
        self._stride = 1
        self._last: FloatArray | None = None

    def add(self, parameters: FloatArray) -> None:
        """One look; ``parameters`` are copied."""
        here = parameters.copy()
        self._last = here
        if self._looks % self._stride == 0:
            self.points.append(here)
        self._looks += 1
        most = self._most or max(FEWEST_POINTS, min(MOST_POINTS, MOST_BYTES // max(1, here.nbytes)))
        if len(self.points) >= most:
            self.points = self.points[::2]
            self._stride *= 2

    @property
    def path(self) -> list[FloatArray]:
        """The points that were kept, and the last one."""
        if self._last is None or (self.points and self._last is self.points[-1]):
            return list(self.points)
        return [*self.points, self._last]
