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
LITTLE, UNSURE, LOST = 0.2, 0.02, 0.5
"""Of wary ladders: what share of the loss has to be gone for an edge to be believed, and what a rung may lose: of the
first loss until it has fallen, later of what was gained."""
STALLED = 0.1
"""Of brief ladders: a rung that adds less than this share to what was gained ends them."""
MOST_DOWN = 8
"""Rungs that are tried one below the other."""
LAST, ALIKE = 3, 1.001
"""Rungs that are kept to go back to, each a copy of the model, and what rounding makes of equal rates."""


class Climb:
    """The way up, rung by rung: who trains takes some steps at ``rate`` and tells the loss then.

    ``keep`` and ``put_back`` copy what steps change and restore it. ``before``: the loss at the start. A rung is as
    good as the lowest that ends above it by no more than the share ``as_good`` of what was gained: few rows tell no
    better.
    """

    def __init__(
        self,
        keep: Callable[[], Any],
        put_back: Callable[[Any], object],
        rate: float,
        before: float,
        as_good: float = 0.0,
    ) -> None:
        self._as_good, self._taken = as_good, list[tuple[float, float]]()
        self._keep, self._put_back, self._before = keep, put_back, before
        self.rate, self.edge = rate, inf
        """What the next rung's steps take, and the first that was too high twice."""
        self.is_over = False
        self.rungs = 0
        self._lowest, self._best_rate = before, rate
        self._good_rate, self._stride, self._failed = rate, STRIDE, False
        self._best = self._good = keep()

    @property
    def has_fallen(self) -> bool:
        """Whether a share of the loss is gone, so that rates are no longer far too low."""
        return self._is_fall(self._lowest)

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
            self._turn_back()
            return
        self._take(now)

    def end(self) -> float:
        """The highest rate of rungs as good as the lowest, whose weights are left; at most half of the edge."""
        self._put_back(self._best)
        nothing_learnt = self._lowest >= self._before or self.rungs <= 2
        low_enough = self._lowest + self._as_good * (self._before - self._lowest)
        rate = max([self._best_rate, *(at for at, loss in self._taken if loss <= low_enough)])
        return min(rate, self.edge / (4.0 if nothing_learnt else 2.0))

    def _turn_back(self) -> None:
        if self._failed:
            self.edge, self.is_over = self.rate, True
            return
        self._failed, self._stride = True, 2.0
        self.rate = min(self.rate, 2.0 * self._good_rate)

    def _take(self, now: float) -> None:
        self._failed, self._good, self._good_rate = False, self._keep(), self.rate
        self._taken.append((self.rate, now))
        if now < self._lowest:
            self._lowest, self._best, self._best_rate = now, self._good, self.rate
        self._stride = 2.0 if self.has_fallen else self._stride
        self.rate *= self._stride

    def _room(self) -> float:
        """How far above the lowest loss a rung may end."""
        lowest = self._lowest
        return (WORSE - 1.0) * (lowest if lowest > 0.0 else max(self._before - lowest, -lowest))

    def _is_fall(self, loss: float) -> bool:
        return bool(loss < self._before - FALLEN * abs(self._before))


class WaryClimb(Climb):
    """For models of which nothing is known: dead units look harmless, for a constant is no worse than at the start.

    A rung is too high, too, that loses a good part of what was gained; where the first fall came with a long stride,
    the rates that it went past are tried; the rate is no higher than the edge over ``below``, twice that where little
    was gained, and what is left was trained no higher, if one of the last rungs was not. Where the first rung is too
    high, lower ones come next. ``stride``: of the first rungs, 2 where useful rates begin about there.
    """

    stalled = inf
    """The rate that gained little more, where that ended it."""

    def __init__(
        self,
        keep: Callable[[], Any],
        put_back: Callable[[Any], object],
        rate: float,
        before: float,
        below: float,
        stride: float = STRIDE,
    ) -> None:
        super().__init__(keep, put_back, rate, before)
        self._below, self._found_good, self._stride = below, False, stride
        self._last: deque[tuple[float, float, Any]] = deque(maxlen=LAST if below > 2.0 else 0)

    def end(self) -> float:
        """The rate; what was trained is left at the lowest rung that was no higher."""
        little = self._before - LITTLE * abs(self._before)
        gained_little = self._lowest > little or self.rungs <= 2
        rate = min(self._best_rate, self.edge / self._below * (0.5 if gained_little else 1.0))
        lower = [(loss, kept) for at, loss, kept in self._last if at <= rate * ALIKE]
        self._put_back(min(lower, key=lambda rung: rung[0])[1] if lower else self._best)
        return rate

    def _turn_back(self) -> None:
        if self._found_good:
            super()._turn_back()
            return
        self.edge, self._stride = self.rate, 2.0
        self.is_over = self.rungs == MOST_DOWN
        self.rate = self._good_rate = self.rate / (1.0 if self.is_over else STRIDE)

    def _take(self, now: float) -> None:
        if self._is_fall(now) and self._stride > 2.0 and self._found_good:
            self._put_back(self._good)
            self._stride, self.rate = 2.0, 2.0 * self._good_rate
            return
        at, self._found_good = self.rate, True
        super()._take(now)
        self._last.append((at, now, self._good))

    def _room(self) -> float:
        if not self.has_fallen:
            return min(super()._room(), UNSURE * abs(self._before))
        return min(super()._room(), LOST * (self._before - self._lowest))


class BriefClimb(WaryClimb):
    """For steps that do not follow the gradient's length.

    It ends at the first rung that gains little more, and the rate is that of the last that did: rungs above take
    steps at rates that no run has, and units that die there stay dead. One that is too high is not tried again.
    """

    def _turn_back(self) -> None:
        self._failed = True
        super()._turn_back()

    def _take(self, now: float) -> None:
        at, best_rate = self.rate, self._best_rate
        stalled = self.has_fallen and now > self._lowest - STALLED * (self._before - self._lowest)
        super()._take(now)
        if stalled:
            self.stalled, self._best_rate, self.is_over = at, best_rate, True


def climb_rungs(
    run: Callable[[float], float],
    keep: Callable[[], Any],
    put_back: Callable[[Any], object],
    rate: float,
    before: float,
    seconds: float = inf,
    as_good: float = 0.0,
) -> tuple[float, float]:
    """The rate that a ladder ends with, and its edge; ``run(rate)`` takes a rung's steps and returns the loss then.

    After ``seconds`` no further rung is tried. ``as_good``: see ``Climb``.
    """
    end = time.perf_counter() + seconds
    climb = Climb(keep, put_back, rate, before, as_good)
    while not climb.is_over and time.perf_counter() <= end:
        climb.tell(run(climb.rate))
    return climb.end(), climb.edge
