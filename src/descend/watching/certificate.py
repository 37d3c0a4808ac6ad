"""What is estimated to be left to gain, and whether that ends the run or its phase.

The estimate and the step that it suggests are the engine's (``engines/certificate.py``, ``engines/closing.py``);
here it is held against what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import NamedTuple

from descend.engines.base import Engine, State
from descend.recipe import Phase
from descend.watching.limits import Limits

WORTHWHILE = 2.5
CLOSE_FROM, CLOSE_SOON = 8.0, 100.0
"""The certificate's step is taken where it is estimated to gain no more than so many times what may be left: sooner
where another epoch over batches would follow, which takes longer than a few certificates."""
TO_THE_LAST_DIGIT = 1e-12
"""Where so little may be left the step is one more, and not the one that arrives."""


class Estimate(NamedTuple):
    """One look at what is left to gain."""

    gap: float
    worth_closing: bool
    """Whether the step that it points to is worth taking."""
    slow: bool
    """Whether it fell little since the last one."""


@dataclass(slots=True)
class Certificate:
    """What was estimated last, in the engine's unit."""

    gap: float | None = None
    """What is left to gain; None without an estimate."""
    bound: float | None = None
    """What is left to gain at the most, where that is known."""
    certified: bool = False
    """Whether a certificate ended the run."""
    previous_gap: float = inf

    def begin(self) -> None:
        """Another phase begins: what the last one's steps gained says nothing of it."""
        self.previous_gap = inf

    def estimate(self, engine: Engine, state: State, phase: Phase, enough: float, limits: Limits) -> Estimate:
        """A new estimate; ``enough``: what may be left (``may_be_left``)."""
        assert limits.tol is not None
        early = limits.close and limits.tol > TO_THE_LAST_DIGIT
        soon = phase.rule.by_sample or (limits.by_batches and phase.batch_size > 0)
        worth_closing = (CLOSE_SOON if soon else CLOSE_FROM) * enough if early else enough
        gap = engine.estimate_gap(state, worth_closing, exact=phase.leave_when_slow)
        self.previous_gap, self.gap, self.bound = self.gap or inf, gap, None
        is_near = gap <= worth_closing and state.memory.toward is not None
        return Estimate(gap, is_near and not phase.rule.width, gap > self.previous_gap / WORTHWHILE)

    def add(self, above: float) -> None:
        """Makes what was told of the last parameters true of others, whose loss is so much higher."""
        self.gap = None if self.gap is None or not isfinite(self.gap) else self.gap + above
        self.bound = None if self.bound is None else self.bound + above


def may_be_left(tol: float, gain: float, first: float, rounding: float) -> float:
    """The most that the estimate may be: half of what is asked for, or of what numbers can tell.

    Half, because an estimate is believed to a factor of two (``engines/closing.py``).

    >>> may_be_left(1e-3, gain=2.0, first=3.0, rounding=1e-7)
    0.001
    """
    return 0.5 * max(tol * gain, rounding * abs(first))
