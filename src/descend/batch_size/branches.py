"""Branches: runs from one start at several batch sizes and rates, each until the target or until it has lost.

At each size the rate is climbed in doublings from a first one, until half and twice of the best are both worse: steps
to a target mean little at a rate that was tuned for another size. A run is given up when it has taken longer than
the best so far allows, when its loss is no number or far above where it began, or when it has stopped falling.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

from descend.batch_size.timing import StepTimes
from descend.batch_size.trainer import Look, Trainer

SLOWER = 1.5
"""A run that takes so many times the best one's seconds has lost."""
APART = 2.5
"""At another size, where the first rate may be far off."""
WORSE = 3.0
STALLED = 2.0
"""A run whose lowest loss was seen when it had done less than half of its rows: noise, not progress."""
FEWEST_EPOCHS, FEWEST_UPDATES = 0.5, 50
LONG_SHARE = 0.1
"""Of a run that may be called stalled, the last as a share of the steps it may take: first steps are flat too."""
HOLD_EPOCHS, LOST = 3.0, 0.5
"""A rate is believed that has kept half of the gain for three epochs."""
MOST_RATES = 8
STEP_OF_FAILURE = 4.0
LEAST_GAIN = 0.02


@dataclass(frozen=True, slots=True)
class Branch:
    """Runs at one size and rate, one for each seed, and how they went: medians, and the worst outcome."""

    batch_size: int
    rate: float
    outcome: str
    """``reached``, ``diverged``, ``stalled`` (its noise or its rate keeps it above), ``slow`` or ``time``; and
    ``unreliable``, which reached the target, but not with every seed."""
    seconds: float
    rows: int
    updates: int
    loss: float
    lowest: float
    score: float
    """Updates times the seconds of a step: what is compared. Runs of some milliseconds are timed too coarsely."""
    runs: tuple[tuple[float, int], ...] = ()
    """Seconds and updates of each seed, in the order of the seeds."""

    @property
    def num_seeds(self) -> int:
        return len(self.runs)

    @property
    def reached(self) -> bool:
        return self.outcome == "reached"


@dataclass(slots=True)
class Race:
    """The branches so far, and what bounds those to come."""

    trainer: Trainer
    times: StepTimes
    target: float
    deadline: float
    """On ``time.perf_counter``."""
    seeds: tuple[int, ...] = (0,)
    branches: list[Branch] = field(default_factory=list)
    on_branch: Callable[[Branch], object] | None = None
    on_look: Callable[[int, float, Look], object] | None = None
    """Called with size, rate and look at every look of every run."""

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.perf_counter()

    def best(self, batch_size: int | None = None) -> Branch | None:
        """The fastest branch that reached the target, of this size or of all."""
        reached = [b for b in self.branches if b.reached]
        reached = [b for b in reached if batch_size is None or b.batch_size == batch_size]
        return min(reached, key=lambda branch: branch.score, default=None)

    def run(self, batch_size: int, rate: float, limit: float, end: float) -> Branch:
        """One branch, each run of which may take as many steps as take ``limit`` seconds, or until ``end``."""
        branch = self.try_seeds(batch_size, rate, limit, end, self.seeds)
        self.branches.append(branch)
        if self.on_branch is not None:
            self.on_branch(branch)
        return branch

    def try_seeds(
        self,
        batch_size: int,
        rate: float,
        limit: float,
        end: float,
        seeds: Sequence[int],
        hold: bool = False,
    ) -> Branch:
        """The branch of these seeds; the first that misses the target ends it. ``hold``: go on behind the target.

        A rate can be fast and too high: the row that it cannot bear may come once an epoch.
        """
        step, fewest_rows = self.times.at(batch_size), FEWEST_EPOCHS * self.trainer.num_rows
        ended: list[_Follower] = []
        for seed in seeds:
            left = max(0.0, end - time.perf_counter())
            follower = _Follower(self.target, limit / step, left / step, end, fewest_rows)
            follower.hold_rows = HOLD_EPOCHS * self.trainer.num_rows if hold else 0.0
            self.trainer.train(batch_size, rate, seed, self._shown(batch_size, rate, follower.look))
            ended.append(follower)
            if follower.outcome != "reached":
                break
        outcome = ended[-1].outcome or "stalled"
        if outcome in ("diverged", "stalled") and len(ended) > 1:
            outcome = "unreliable"
        runs = tuple((follower.came_to.seconds, follower.came_to.updates) for follower in ended)
        ended.sort(key=lambda follower: follower.came_to.updates)
        middle = ended[len(ended) // 2].came_to
        return Branch(
            batch_size,
            rate,
            outcome,
            middle.seconds,
            middle.rows,
            middle.updates,
            middle.loss,
            min(follower.lowest for follower in ended),
            middle.updates * step,
            runs,
        )

    def _shown(self, batch_size: int, rate: float, follow: Callable[[Look], bool]) -> Callable[[Look], bool]:
        """``follow``, after ``on_look`` has seen what it sees."""
        on_look = self.on_look
        if on_look is None:
            return follow

        def look(seen: Look) -> bool:
            on_look(batch_size, rate, seen)
            return follow(seen)

        return look

    def climb(self, batch_size: int, first_rate: float, share: float = 1.0) -> Branch | None:
        """The best branch of this size over rates; None where none reached the target. ``share`` of the time left."""
        end = time.perf_counter() + share * self.seconds_left
        tried: dict[float, Branch] = {}
        rate: float | None = first_rate
        while rate is not None and len(tried) < MOST_RATES and time.perf_counter() < end:
            tried[rate] = self.run(batch_size, rate, self._limit(batch_size), end)
            rate = next_rate(tried)
        return self.best(batch_size)

    def _limit(self, batch_size: int) -> float:
        """Seconds after which a run has lost against the best of its size, or clearly against the best of all."""
        own, best = self.best(batch_size), self.best()
        limits = [SLOWER * own.score] if own else []
        limits += [APART * best.score] if best else []
        return min(limits, default=inf)


def next_rate(tried: dict[float, Branch]) -> float | None:
    """The rate to try next at one size; None where neither half nor twice of the best is left to try.

    Before any reached the target: lower after one that diverged or stalled, higher after one that was slow.
    """
    reached = [branch for branch in tried.values() if branch.reached]
    if not reached:
        return _first_that_may_reach(tried)
    best = min(reached, key=lambda branch: branch.score).rate
    for rate in (2.0 * best, 0.5 * best):
        if not any(abs(other / rate - 1.0) < 0.3 for other in tried):
            return rate
    return None


def _first_that_may_reach(tried: dict[float, Branch]) -> float | None:
    too_high = [b.rate for b in tried.values() if b.outcome in ("diverged", "stalled", "unreliable")]
    too_low = [b.rate for b in tried.values() if b.outcome in ("slow", "time")]
    if too_high and too_low:
        low, high = max(too_low), min(too_high)
        if low >= high or high / low < 1.5:
            return None
        return float((low * high) ** 0.5)
    return min(too_high) / STEP_OF_FAILURE if too_high else max(too_low) * STEP_OF_FAILURE


class _Follower:
    """Follows a run, and ends it once its outcome is known."""

    def __init__(
        self, target: float, slow_from: float, time_for: float, deadline: float, fewest_rows: float
    ) -> None:
        """Ends after ``slow_from`` updates as slow, after ``time_for`` or at ``deadline`` for want of time."""
        self.target, self.deadline, self.fewest_rows = target, deadline, fewest_rows
        self.slow_from, self.most_updates = slow_from, min(slow_from, time_for)
        self.outcome = ""
        self.first = self.lowest = inf
        self.lowest_rows = self.num_looks = 0
        self.last = Look(0.0, 0, 0, inf)
        self.arrived: Look | None = None
        self.hold_rows = 0.0
        """Rows that the run goes on for at least, when it has reached the target."""

    @property
    def came_to(self) -> Look:
        """Where it reached the target, or ended."""
        return self.last if self.arrived is None or self.outcome != "reached" else self.arrived

    def look(self, look: Look) -> bool:
        self.last = look
        if not self.outcome:
            self.outcome = self._outcome(look)
        return bool(self.outcome)

    def _outcome(self, look: Look) -> str:
        self.num_looks += 1
        if not isfinite(look.loss):
            return "diverged"
        if self.num_looks == 1:
            self.first = self.lowest = look.loss
        if look.loss <= self.target and self.arrived is None:
            self.arrived = look
        if self.arrived is not None:
            return self._behind(self.arrived, look)
        if look.loss > self.first + WORSE * abs(self.first - self.target):
            return "diverged"
        # Only a gain that would matter counts: a creeping minimum of a noisy run is no progress.
        if look.loss < self.lowest - LEAST_GAIN * (self.lowest - self.target):
            self.lowest, self.lowest_rows = look.loss, look.rows
        is_long = look.updates >= max(FEWEST_UPDATES, LONG_SHARE * self.most_updates)
        is_long = is_long and look.rows >= self.fewest_rows
        if is_long and look.rows > STALLED * self.lowest_rows:
            return "stalled"
        if look.updates > self.most_updates:
            return "slow" if look.updates > self.slow_from else "time"
        return "time" if time.perf_counter() > self.deadline else ""

    def _behind(self, arrived: Look, look: Look) -> str:
        """Whether what was reached is kept for as long as it is to be."""
        if look.loss > self.target + LOST * abs(self.first - self.target):
            return "diverged"
        return "reached" if look.rows >= self.hold_rows or time.perf_counter() > self.deadline else ""
