"""What was found, in words: what bounds the batch size, and three sentences that a person can argue with."""

from __future__ import annotations

from math import inf
from statistics import median

from descend.batch_size.branches import Branch
from descend.batch_size.findings import Findings
from descend.report.formatting import counted, duration

SHORT = 0.02
"""Seconds of a run that nobody feels, however it is tuned."""
SATURATED = 0.85
"""Twice the rows in a step that takes so much of twice the time, or more: rows cost in full."""


def bound_by(found: Findings) -> str:
    """What keeps the batch from being larger."""
    best = found.best
    size = found.prior if best is None else best.batch_size
    if size >= found.trainer.num_rows:
        return "data"
    if found.ceiling is not None and size >= found.ceiling:
        return "memory"
    if best is None or not found.matters:
        return "nothing"
    law = found.steps
    assert law is not None
    time_ratio = found.times.at(2 * size) / (2.0 * found.times.at(size))
    steps_ratio = law.at(2 * size) / law.at(size)
    # Twice the size saves 1 − steps_ratio of the steps, and a row then costs time_ratio of what it did.
    return "throughput" if time_ratio >= SATURATED and steps_ratio < 1.0 / (2.0 * SATURATED) else "statistics"


def explain(found: Findings, optimizer: str, beside: str = "", share: float | None = None) -> list[str]:
    """Three sentences: what to do, why, and what would do as well; ``beside`` is said of other methods.

    ``share`` of the gap is left at the target, where the caller gave none.
    """
    best = found.best
    if best is None:
        return _not_told(found, optimizer)
    runs = [best, *(branch for branch in found.repeats if branch.reached)]
    seconds, steps = median(run.seconds for run in runs), median(run.updates for run in runs)
    several = f" (median of {len(runs)} runs)" if len(runs) > 1 else ""
    left = "" if share is None else f" ({100 * share:g} % of the gap left)"
    what = (
        f"Take batches of {counted(best.batch_size, 'row')} at learning rate {best.rate:.3g} "
        f"({optimizer}): the target, a loss of {found.target:.4g}{left}, was reached in {duration(seconds)}"
        f"{several}, after {counted(round(steps), 'step')}."
    )
    return [what, _why(found, best), _otherwise(found, best, beside)]


def _why(found: Findings, best: Branch) -> str:
    law = found.steps
    assert law is not None
    size = best.batch_size
    if size >= found.trainer.num_rows:
        return "Every row at once is fastest here: smaller batches took more time in steps than they saved in rows."
    time_ratio, steps_ratio = found.times.at(2 * size) / found.times.at(size), law.at(2 * size) / law.at(size)
    twice = (
        f"twice the rows take {time_ratio:.2g} times as long a step, and {steps_ratio:.2g} times the steps"
    )
    if found.ceiling is not None and size >= found.ceiling:
        return f"Memory bounds it: more rows do not fit, though {twice}."
    half = max(1, size // 2)
    if half == size:
        return f"One row at a time is fastest here: {twice}."
    less, more = found.times.at(half) / found.times.at(size), law.at(half) / law.at(size)
    return f"Why: {twice}; half of them {less:.2g} times as long, and {more:.2g} times the steps."


def _otherwise(found: Findings, best: Branch, beside: str) -> str:
    pair = found.equivalent
    assert pair is not None
    low, high = pair
    if best.seconds < SHORT:
        near = "In milliseconds nobody feels the difference that another size makes"
    elif not found.matters:
        near = (
            "The batch size hardly matters here: four times more or fewer rows take at most a quarter longer"
        )
    elif low == high:
        near = "No other size on the grid of doublings is predicted to come within 10 %"
    else:
        near = f"Sizes from {low:,} to {high:,} are predicted to come within 10 %"
    return f"{near}; {_of_rates(found, best)}{'; ' + beside if beside else ''}."


def _of_rates(found: Findings, best: Branch) -> str:
    """How half and twice the rate did at the best size."""
    words = []
    for name, factor in (("half the rate", 0.5), ("twice the rate", 2.0)):
        same = [b for b in found.branches if b.batch_size == best.batch_size and b.rate != best.rate]
        branch = min(same, key=lambda b: abs(b.rate / (factor * best.rate) - 1.0), default=None)
        if branch is None or abs(branch.rate / (factor * best.rate) - 1.0) > 0.3:
            continue
        if branch.reached:
            words.append(f"{name} took {branch.score / best.score:.2g} times as long")
        else:
            words.append(f"{name} {OUTCOMES[branch.outcome]}")
    return ", ".join(words) or "other rates were not tried there"


OUTCOMES = {
    "diverged": "diverged",
    "stalled": "did not get there",
    "slow": "was clearly slower",
    "time": "was not finished in time",
    "unreliable": "got there with one seed and not with another",
}


def _not_told(found: Findings, optimizer: str) -> list[str]:
    lowest = min((branch.lowest for branch in found.branches), default=inf)
    runs = len(found.branches)
    reached = f"the lowest loss was {lowest:.4g} in {counted(runs, 'run')}" if runs else "no run was finished"
    return [
        f"It cannot be told in this budget: no run reached the target, a loss of {found.target:.4g} ({reached}).",
        f"Batches of {counted(found.prior, 'row')} are what this machine's step times alone suggest; learning rate "
        f"{found.prior_rate:.3g} ({optimizer}) is where trying began.",
        "Give it more time, or a target that is easier to reach.",
    ]
