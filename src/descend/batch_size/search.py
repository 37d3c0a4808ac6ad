"""Which batch size, with which rate: measured within a budget of seconds.

    time steps at 1, 2, 4, … rows                      t(B), the knee
    the size that the machine suggests; climb its rate steps to the target there
    8 times more rows, 8 times fewer; every row        steps to the target at each, its own rate climbed
    the size that t(B) · S(B) points to; climb         until that is one that was measured
    the best again with other seeds                    how far apart such runs are

Everything ends when the budget does, with what has been found by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from descend.batch_size.branches import Branch, Race
from descend.batch_size.findings import OTHERWISE, Findings, Running
from descend.batch_size.prior import prior_size
from descend.batch_size.timing import StepTimes, measure_times
from descend.batch_size.trainer import Look, Trainer
from descend.report.formatting import counted

APART = 8
TIMING_SHARE = 0.15
FIRST_SHARE = 0.4
NEIGHBOUR_SHARE = 0.4
MOST_REFINEMENTS = 8
RULED_OUT = 2.0
"""A size predicted to take so many times the best one's seconds is not tried."""
REPEATS = 4
REPEAT_SHARE = 0.2
SEEDS_WITHIN = 200.0
"""Three seeds where so many runs fit into the budget."""
MISSED = 4.0
"""A run that takes so many times the best one's seconds has missed the target."""
TELL_SECONDS = 0.1
"""Between two calls from inside a run."""


def search(
    trainer: Trainer,
    target: float,
    budget: float,
    seed: int = 0,
    ceiling: int | None = None,
    on_change: Callable[[Findings], object] | None = None,
) -> Findings:
    """Measures for about ``budget`` seconds; ``on_change`` is called with the findings as they grow."""
    began = time.perf_counter()
    found = Findings(trainer, target, ceiling)

    def tell(doing: str) -> None:
        found.doing, found.seconds = doing, time.perf_counter() - began
        if on_change is not None:
            on_change(found)

    last_told = began

    def take_look(batch_size: int, rate: float, look: Look) -> None:
        nonlocal last_told
        now = time.perf_counter()
        if now - last_told >= TELL_SECONDS:
            last_told = now
            found.running = Running(batch_size, rate, look)
            tell(f"training with {counted(batch_size, 'row')} a step")

    def take_branch(branch: Branch) -> None:
        found.running = None
        tell(f"training with {counted(branch.batch_size, 'row')} a step")

    def take_times(times: StepTimes) -> None:
        found.times = times
        tell("timing steps")

    tell("timing steps")
    found.times = measure_times(trainer, found.sizes, TIMING_SHARE * budget, on_round=take_times)
    found.prior = max(found.sizes[0], prior_size(found.times, trainer.num_rows, ceiling))
    race = Race(
        trainer,
        found.times,
        target,
        began + budget,
        (seed,),
        found.branches,
        on_branch=take_branch,
        on_look=None if on_change is None else take_look,
    )
    found.prior_rate = trainer.first_rate(found.prior)
    first = _first(race, found)
    if first is None:
        found.seconds = time.perf_counter() - began
        return found
    if SEEDS_WITHIN * first.seconds < budget:
        # So short that a run is mostly luck: each is the median of three.
        race.seeds = (seed, seed + 1, seed + 2)
        found.branches.clear()
        if race.climb(first.batch_size, first.rate, FIRST_SHARE) is None:
            found.seconds = time.perf_counter() - began
            return found
    race.deadline -= REPEAT_SHARE * budget
    _try_neighbours(race, found)
    _refine(race, found)
    race.deadline = began + budget
    _repeat(race, found)
    found.seconds = time.perf_counter() - began
    return found


def _first(race: Race, found: Findings) -> Branch | None:
    """A first branch that reaches the target: at the size that the machine suggests, or else eight times away."""
    for size in dict.fromkeys((found.prior, *_apart(found))):
        first = race.climb(size, race.trainer.first_rate(size), FIRST_SHARE)
        if first is not None or race.seconds_left <= 0:
            return first
    return None


def _apart(found: Findings) -> tuple[int, ...]:
    """Eight times more rows than the machine suggests, eight times fewer, and every row that there is room for."""
    smallest, largest = found.sizes[0], found.sizes[-1]
    return min(found.prior * APART, largest), max(smallest, found.prior // APART), largest


def _try_neighbours(race: Race, found: Findings) -> None:
    """Eight times more rows and eight times fewer, then every row at once."""
    for size in dict.fromkeys(_apart(found)):
        if (
            size not in found.best_of_sizes
            and race.seconds_left > 0
            and found.times.at(size) < race.seconds_left
        ):
            race.climb(size, _guess(race, found, size), NEIGHBOUR_SHARE)


def _refine(race: Race, found: Findings) -> None:
    """Goes to where t(B) · S(B) is least, until that size has been measured, and all near it that may be as fast.

    Between two measured sizes lies no law: four times the rows can be as fast with a slower size between them, and
    which of the two was found would hang on where the search began.
    """
    tried = {branch.batch_size for branch in found.branches}
    for _ in range(MOST_REFINEMENTS):
        predicted = found.predicted()
        size = min(predicted, key=lambda size: predicted[size])
        best = found.best
        assert best is not None
        if size in tried or predicted[size] > 0.97 * found.longer * best.score:
            untried = [near for near in _beside(best.batch_size, predicted) if near not in tried]
            untried = untried or _may_be_as_fast(best, predicted, tried, found.longer)
            if not untried:
                return
            size = min(untried, key=lambda size: predicted[size])
        if race.seconds_left <= 0:
            return
        tried.add(size)
        race.climb(size, _guess(race, found, size), NEIGHBOUR_SHARE)


def _may_be_as_fast(best: Branch, predicted: dict[int, float], tried: set[int], longer: float) -> list[int]:
    """Untried sizes not far from the best, of which nothing was predicted that rules them out."""
    near = range(best.batch_size // OTHERWISE, best.batch_size * OTHERWISE + 1)
    most = RULED_OUT * longer * best.score
    return [size for size in predicted if size in near and size not in tried and predicted[size] <= most]


def _beside(size: int, predicted: dict[int, float]) -> list[int]:
    """The next smaller and the next larger size of the grid."""
    sizes = sorted({*predicted, size})
    place = sizes.index(size)
    return [sizes[near] for near in (place - 1, place + 1) if 0 <= near < len(sizes)]


def _guess(race: Race, found: Findings, size: int) -> float:
    """The rate of the nearest size that has one, moved as first rates move from there to here."""
    best = found.best_of_sizes
    nearest = min(best, key=lambda other: max(other / size, size / other))
    moved = race.trainer.first_rate(size) / race.trainer.first_rate(nearest)
    return best[nearest].rate * moved


def _repeat(race: Race, found: Findings) -> None:
    """The best with other seeds, as far as the time goes: one run is one order of the rows.

    These runs go on behind the target. Where one misses it, or is lost again there, that rate was luck: half of it is
    tried, and the next best is taken.
    """
    last = race.seeds[-1]
    while (best := found.best) is not None:
        found.repeats.clear()
        for number in range(1, REPEATS + 1):
            if 2 * best.seconds > race.seconds_left:
                return
            branch = race.try_seeds(
                best.batch_size, best.rate, MISSED * best.score, race.deadline, (last + number,), hold=True
            )
            if branch.outcome == "time":
                return
            found.repeats.append(branch)
            if not branch.reached:
                found.branches[found.branches.index(best)] = replace(best, outcome="unreliable")
                if not any(
                    _is_about(b, best.batch_size, 0.5 * best.rate) and b.reached for b in found.branches
                ):
                    race.run(best.batch_size, 0.5 * best.rate, MISSED * best.score, race.deadline)
                break
        else:
            return


def _is_about(branch: Branch, batch_size: int, rate: float) -> bool:
    return branch.batch_size == batch_size and abs(branch.rate / rate - 1.0) < 0.3
