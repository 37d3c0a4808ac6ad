"""What a search has measured so far, and what follows from it: the best branch, the law of steps, sizes as good."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import hypot, sqrt
from statistics import median, stdev

from descend.batch_size.branches import Branch
from descend.batch_size.steps_law import StepsLaw, fit_steps
from descend.batch_size.timing import StepTimes, grid
from descend.batch_size.trainer import Look, Trainer

WITHIN = 0.1
"""Sizes within 10 % of the best predicted time would do as well."""
AS_FAST, MOST_UNSURE = 0.05, 0.25
"""Sizes whose times differ by less, or by less than they may be off, are as fast as each other; but by no more."""
OF_RANGE = 0.25
"""The standard error of the median of five times, as a share of what lies between the lowest and the highest; of more
it is less."""
MATTERS = 1.25
OTHERWISE = 4
"""The batch size matters where four times more or fewer rows take a quarter longer."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where the run that goes on is."""

    batch_size: int
    rate: float
    look: Look


@dataclass(slots=True)
class Findings:
    """What has been measured so far."""

    trainer: Trainer
    target: float
    ceiling: int | None = None
    times: StepTimes = field(default_factory=StepTimes)
    prior: int = 0
    prior_rate: float = 0.0
    branches: list[Branch] = field(default_factory=list)
    repeats: list[Branch] = field(default_factory=list)
    doing: str = ""
    seconds: float = 0.0
    running: Running | None = None
    """The run that goes on."""

    @property
    def sizes(self) -> list[int]:
        """The sizes that come into question."""
        return [size for size in grid(self.trainer.num_rows, self.ceiling) if self.trainer.possible(size)]

    @property
    def best_of_sizes(self) -> dict[int, Branch]:
        """The fastest branch of each size that reached the target."""
        best: dict[int, Branch] = {}
        for branch in self.branches:
            if branch.reached and (
                branch.batch_size not in best or branch.score < best[branch.batch_size].score
            ):
                best[branch.batch_size] = branch
        return best

    @property
    def steps(self) -> StepsLaw | None:
        """Steps to the target by size; None before any branch reached it."""
        best = self.best_of_sizes
        return (
            fit_steps({size: float(max(1, branch.updates)) for size, branch in best.items()})
            if best
            else None
        )

    def predicted(self) -> dict[int, float]:
        """Seconds to the target at every size of the grid: t(B) · S(B)."""
        law = self.steps
        if law is None:
            return {}
        best = self.best_of_sizes
        longer = self.longer
        return {
            size: longer * (best[size].score if size in best else self._by_law(law, size))
            for size in self.sizes
        }

    def _by_law(self, law: StepsLaw, size: int) -> float:
        """Seconds by the law, but no less than a run of this size took that was given up as slow."""
        given_up = [b.score for b in self.branches if b.batch_size == size and b.outcome == "slow"]
        return max([law.at(size) * self.times.at(size), *given_up])

    @property
    def runs(self) -> list[tuple[float, int]]:
        """Seconds and updates of every run of the best, each seed by itself."""
        best = self.best
        if best is None:
            return []
        return [run for branch in (best, *self.repeats) if branch.reached for run in branch.runs]

    @property
    def longer(self) -> float:
        """How much longer a step takes inside a run than alone: that of the best's runs, taken for all sizes alike.

        Median seconds over median updates, and not the median of each run's own: what a short run's looks take is
        nearly the same however many steps it has, so runs of few steps have long ones.
        """
        best, runs = self.best, self.runs
        if best is None or not runs:
            return 1.0
        seconds, updates = zip(*runs, strict=True)
        return float(median(seconds) / max(median(updates) * self.times.at(best.batch_size), 1e-12))

    @property
    def best(self) -> Branch | None:
        """The fastest branch; the smallest size of those as fast, for it asks least of memory and rate."""
        branches = self.best_of_sizes.values()
        least = min(branches, key=lambda branch: branch.score, default=None)
        if least is None:
            return None
        as_fast = [b for b in branches if b.score <= (1.0 + self._apart(b, least)) * least.score]
        return min(as_fast, key=lambda branch: branch.batch_size)

    def _apart(self, one: Branch, other: Branch) -> float:
        """By what share the times of two branches have to differ to be told apart."""
        return min(MOST_UNSURE, max(AS_FAST, hypot(self._unsure(one), self._unsure(other))))

    def _unsure(self, branch: Branch) -> float:
        """The standard error of a branch's time, as a share of it: of steps' seconds, and of updates over seeds."""
        step = self.times.at(branch.batch_size)
        low, high = self.times.spread.get(branch.batch_size, (step, step))
        updates = [float(more) for _, more in branch.runs]
        of_runs = 0.0
        if len(updates) > 1:
            of_runs = stdev(updates) / (sqrt(len(updates)) * max(1.0, median(updates)))
        return hypot(OF_RANGE * (high - low) / step, of_runs)

    @property
    def equivalent(self) -> tuple[int, int] | None:
        """The smallest and the largest size whose predicted time is within 10 % of the best's."""
        best = self.best
        if best is None:
            return None
        most = (1.0 + WITHIN) * self.longer * best.score
        sizes = [size for size, seconds in self.predicted().items() if seconds <= most]
        return min([*sizes, best.batch_size]), max([*sizes, best.batch_size])

    @property
    def matters(self) -> bool:
        """Whether four times more or four times fewer rows take clearly longer."""
        best = self.best
        if best is None:
            return True
        predicted = self.predicted()
        around = [
            seconds
            for size, seconds in predicted.items()
            if best.batch_size / OTHERWISE <= size <= best.batch_size * OTHERWISE
        ]
        return max(around, default=0.0) > MATTERS * self.longer * best.score


def seconds_of(found: Findings) -> tuple[float, float, float] | None:
    """Median, lowest and highest seconds to the target at the best size and rate, over seeds."""
    if not found.runs:
        return None
    times = [seconds for seconds, _ in found.runs]
    return median(times), min(times), max(times)
