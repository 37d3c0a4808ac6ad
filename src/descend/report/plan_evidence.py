"""What a saved plan holds, by batch size: figures, tables and the terminal take their numbers from here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from descend.report.schema import Run

OUTCOMES = {
    "reached": "reached it",
    "slow": "clearly slower",
    "time": "no time left",
    "stalled": "did not get there",
    "unreliable": "not with every seed",
    "diverged": "diverged",
}
"""In the order of the rate: too low for the time there was, then too high."""
FEWEST_OF_A_LAW = 3
"""Two sizes lie on every law of two numbers."""
LAW_WITHIN = 0.25
"""A law that is further off at a measured size is not shown."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Runs at one size and rate; ``seconds`` is None where they did not reach the target with every seed.

    ``seconds`` are steps times what a step takes at this size, as they are compared: the clock of one run of some
    milliseconds is coarser than that.
    """

    batch_size: int
    rate: float
    outcome: str
    seconds: float | None
    updates: float | None
    loss: float | None
    num_seeds: int

    @property
    def reached(self) -> bool:
        return self.seconds is not None


def by_size(run: Run, name: str) -> dict[int, float]:
    """One curve of the evidence, by rising size; what is no number above 0 is left out."""
    saved = run["evidence"].get(name) or {}
    values = {int(size): float(value) for size, value in saved.items() if value is not None and value > 0}
    return dict(sorted(values.items()))


def ranges(run: Run) -> dict[int, tuple[float, float]]:
    """The lowest and the highest seconds of a step at each size."""
    saved = run["evidence"].get("step_seconds_interval") or {}
    return {int(size): pair for size, ends in saved.items() if (pair := pair_of(ends)) is not None}


def pair_of(ends: Iterable[float | None] | None) -> tuple[float, float] | None:
    """Two numbers above 0, the lower one first; None of anything else."""
    numbers = [float(end) for end in ends or () if end is not None and end > 0]
    return (min(numbers), max(numbers)) if len(numbers) == 2 else None


def tried(run: Run) -> list[Tried]:
    """Every branch, by size and rate; those without a rate above 0 are left out."""
    seconds, steps = by_size(run, "seconds_to_target"), by_size(run, "steps_to_target")
    found = [
        _tried(branch, seconds, steps)
        for branch in run["evidence"].get("branches") or ()
        if branch["batch_size"] >= 1 and (branch["learning_rate"] or 0) > 0
    ]
    return sorted(found, key=lambda one: (one.batch_size, one.rate))


def _tried(branch: Any, seconds: dict[int, float], steps: dict[int, float]) -> Tried:
    size, updates, clock = branch["batch_size"], branch.get("updates"), branch.get("seconds")
    compared = clock if clock and clock > 0 else None
    if updates and size in seconds and size in steps:
        compared = seconds[size] * updates / steps[size]
    return Tried(
        size,
        float(branch["learning_rate"]),
        branch["outcome"],
        compared if branch["outcome"] == "reached" else None,
        updates,
        branch.get("loss"),
        int(branch.get("num_seeds") or 1),
    )


def best_rates(runs: Iterable[Tried]) -> dict[int, float]:
    """The rate that reached the target in the fewest steps, of each size."""
    best: dict[int, Tried] = {}
    for one in runs:
        if one.seconds is not None and (
            one.batch_size not in best or one.seconds < (best[one.batch_size].seconds or 0.0)
        ):
            best[one.batch_size] = one
    return {size: one.rate for size, one in best.items()}


def equivalent(run: Run) -> tuple[int, int]:
    """The smallest and the largest size that would do as well; the size itself where nothing is said."""
    ends = [int(end) for end in run.get("equivalent") or () if end is not None and end >= 1]
    return (min(ends), max(ends)) if len(ends) == 2 else (run["batch_size"], run["batch_size"])


def steps_law(run: Run) -> tuple[float, float] | None:
    """S_min and B_crit of S(B) = S_min · (1 + B_crit / B); None where it was not measured, or does not hold.

    It takes three sizes, and holds where it is within 25 % of each. B_crit is the plan's; S_min has the least
    relative errors with it.
    """
    critical, steps = run["evidence"].get("critical_batch_size"), by_size(run, "steps_to_target")
    if not critical or critical <= 0 or len(steps) < FEWEST_OF_A_LAW:
        return None
    shares = [(1.0 + critical / size) / count for size, count in steps.items()]
    fewest = sum(shares) / sum(share**2 for share in shares)
    off = max(abs(fewest * share - 1.0) for share in shares)
    return (fewest, float(critical)) if off <= LAW_WITHIN else None


def ceiling(run: Run) -> float | None:
    """The most rows that memory holds at once; None where that is every row, or was not measured."""
    rows, most = run["evidence"].get("ceiling"), run["data"].get("rows")
    return None if not rows or rows <= 0 or (most is not None and rows >= most) else float(rows)


def affine(run: Run) -> tuple[float, float] | None:
    """The a and b of t(B) = a + b·B, where the plan says that it holds."""
    numbers = [float(part) for part in run["evidence"].get("affine") or () if part is not None]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def memory_is_told(run: Run) -> bool:
    """Whether memory was measured size by size; one number for all of them is that of the process."""
    return len(set(by_size(run, "memory_bytes").values())) > 1
