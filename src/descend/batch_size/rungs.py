"""Rungs of a ladder, for anything that trains: ever higher rates, until the loss says too high (``ladder.py``)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from math import inf, isfinite
from typing import Any

MOST_RUNGS = 30
WORSE = 1.3
"""A loss this many times the lowest so far is too high; below 0, one that lost such a share of what it was."""
STRIDE, FALLEN = 8.0, 0.1
"""Until this share of the loss is gone rates are far too low: a rung's is so many times the last one's."""

LITTLE = 0.2
UNSURE, LOST = 0.02, 0.5
"""Of wary ladders: shares of the first loss, and of what was gained, that a rung may lose."""


class Climb:
    """The way up, rung by rung: who trains takes some steps at ``rate`` and tells the loss then.

    ``keep`` and ``put_back`` copy what steps change and restore it. ``before``: the loss at the start.
    """

    def __init__(
        self, keep: Callable[[], Any], put_back: Callable[[Any], object], rate: float, before: float, wary: bool = False, below: float = 2.0
    ) -> None:
        """``wary``: a rung is too high, too, that lost a good part of what was gained: weights that no step moves any
        more have the loss of a constant, which is no more than 1.3 times what a few steps come to."""
        self._wary, self._below = wary, below
        self._last: deque[tuple[float, float, Any]] = deque(maxlen=3 if wary and below > 2.0 else 0)
        self._keep, self._put_back, self._before = keep, put_back, before
        self.rate, self.edge = rate, inf
        """What the next rung's steps take, and the first that was too high twice."""
        self.is_over = False
        self.rungs = self.good_rungs = 0
        self._lowest, self._best_rate = before, rate
        self._good_rate, self._stride, self._failed = rate, STRIDE, False
        self._best = self._good = keep()

    @property
    def good(self) -> Any:
        """What was kept of the last rung that was not too high, or of the start."""
        return self._good

    def tell(self, now: float) -> None:
        """The rung at ``rate`` ended at this loss: goes back to the last good one where that was too high."""
        self.rungs += 1
        self.is_over = self.rungs == MOST_RUNGS
        if not isfinite(now) or now > self._lowest + self._room():
            self._put_back(self._good)
            if self._failed:
                self.edge, self.is_over = self.rate, True
                return
            self._failed, self._stride = True, 2.0
            self.rate = min(self.rate, 2.0 * self._good_rate)
            return
        if self._leapt(now):
            self._put_back(self._good)
            self._stride, self.rate = 2.0, 2.0 * self._good_rate
            return
        self._failed, self._good, self._good_rate = False, self._keep(), self.rate
        self.good_rungs += 1
        self._last.append((self.rate, now, self._good))
        if now < self._lowest:
            self._lowest, self._best, self._best_rate = now, self._good, self.rate
        before = self._before
        self._stride = 2.0 if self._lowest < before - FALLEN * abs(before) else self._stride
        self.rate *= self._stride

    def _leapt(self, now: float) -> bool:
        """Whether a wary ladder went past rates that are worth trying: the first fall came with a long stride."""
        has_fallen = now < self._before - FALLEN * abs(self._before)
        return self._wary and has_fallen and self._stride > 2.0 and self.good_rungs > 0

    def _room(self) -> float:
        """How far above the lowest loss a rung may end."""
        lowest, before = self._lowest, self._before
        room = (WORSE - 1.0) * (lowest if lowest > 0.0 else max(before - lowest, -lowest))
        if not self._wary:
            return room
        gained = before - lowest
        if gained < FALLEN * abs(before):
            return min(room, UNSURE * abs(before))
        return min(room, LOST * gained)

    def end(self) -> float:
        """The rate of the lowest rung, but no higher than half of the edge; what was trained is left there."""
        little = LITTLE * abs(self._before) if self._wary else 0.0
        learnt_little = self._lowest >= self._before - little or self.rungs <= 2
        rate = min(self._best_rate, self.edge / self._below * (0.5 if learnt_little else 1.0))
        below = [(loss, kept) for at, loss, kept in self._last if at <= 1.001 * rate]
        self._put_back(min(below, key=lambda rung: rung[0])[1] if below else self._best)
        return rate


def climb_rungs(
    run: Callable[[float], float],
    keep: Callable[[], Any],
    put_back: Callable[[Any], object],
    rate: float,
    before: float,
    seconds: float = inf,
) -> tuple[float, float]:
    """The rate that a ladder ends with, and its edge; ``run(rate)`` takes a rung's steps and returns the loss then.

    After ``seconds`` no further rung is tried.
    """
    end = time.perf_counter() + seconds
    climb = Climb(keep, put_back, rate, before)
    while not climb.is_over and time.perf_counter() <= end:
        climb.tell(run(climb.rate))
    return climb.end(), climb.edge
