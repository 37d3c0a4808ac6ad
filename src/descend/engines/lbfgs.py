"""A quasi-Newton step from every row (L-BFGS, Nocedal 1980): the finish where first-order steps are slow.

The last ten moves and changes of the gradient stand for the curvature. What they do not cover is taken from
the preconditioner where there is one: with it the first step is already a Newton step of the bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from descend.engines.inner import inner
from descend.types import FloatArray

MEMORY = 10
ENOUGH = 1e-4
HALVINGS = 30
SLACK = 1e-15
"""Near the lowest place values differ by rounding only, and the gradient still knows the way."""
IDLE = MEMORY
"""After so many steps in a row that gained nothing all that is remembered is rounding."""
SHORTER = 0.99

Objective = Callable[[FloatArray], tuple[float, FloatArray]]
"""Value and gradient, float64, at parameters (k, d + 1)."""


class Known(NamedTuple):
    """A place whose gap was estimated: ``gap``, and ``step`` to where it would be gone."""

    point: FloatArray
    value: float
    gradient: FloatArray
    gap: float
    step: FloatArray


@dataclass(slots=True)
class Memory:
    """What L-BFGS remembers between steps."""

    moves: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=MEMORY))
    changes: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=MEMORY))
    point: FloatArray | None = None
    """The parameters in float64, whatever the rows are kept in."""
    value: float = np.nan
    gradient: FloatArray | None = None
    step: FloatArray | None = None
    """H⁻¹ · gradient: where the next step goes."""
    goal: FloatArray | None = None
    """Where the next step ends, exact zeros and all (L1)."""
    exact: bool = False
    """Whether ``decrement`` comes from second derivatives at the point, and not from what is remembered (L1)."""
    decrement: float = np.inf
    """½ g · H⁻¹ g: how much lower the lowest place lies, if the memory is right."""
    length: float = 1.0
    """The share of the last step that was taken; 0: no share of it led down."""
    cautious: bool = False
    """Newton's next step goes by parabolas that are nowhere below the loss (corners that are rounded)."""
    hidden: float = np.inf
    """By how much rounding the corners of the loss may have moved its lowest value, where that is known."""
    stuck: bool = False
    """Not even a cautious step leads down."""
    lowest: float = np.inf
    """The lowest value so far, and the shortest gradient: steps among places that rounding alone tells apart come
    near neither."""
    shortest: float = np.inf
    idle: int = 0
    """Steps in a row that came to neither a lower value nor a shorter gradient."""
    estimate: tuple[float, float] | None = None
    """The last certificate's gap, and the value it was made at."""
    toward: Known | None = None
    """What the last certificate was made at; None where a cheaper look was enough."""
    doubted: float = np.inf
    """A certificate is not worth its time while the decrement is above this: the last one was refused."""

    def learn(self, move: FloatArray, change: FloatArray) -> None:
        """Remembers a move and how it changed the gradient, where it tells a curvature."""
        if self.moves.maxlen and inner(change, move) > 1e-12 * inner(move, move):
            self.moves.append(move)
            self.changes.append(change)

    def has_idled(self, slope: float) -> bool:
        """Whether steps go nowhere, ``slope`` being the gradient's length at the last one's end; counts anew then."""
        lower = self.value < self.lowest - SLACK * abs(self.value)
        shorter = slope < SHORTER * self.shortest
        self.lowest, self.shortest = min(self.lowest, self.value), min(self.shortest, slope)
        self.idle = 0 if lower or shorter else self.idle + 1
        if self.idle < IDLE:
            return False
        self.idle = 0
        return True

    def keep(self, point: FloatArray, value: float, gradient: FloatArray) -> None:
        """Goes to ``point``."""
        assert self.point is not None
        assert self.gradient is not None
        self.learn(point - self.point, gradient - self.gradient)
        self.point, self.value, self.gradient = point, value, gradient


def direction(memory: Memory, gradient: FloatArray, first: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """H⁻¹ · gradient by the two loops; ``first`` applies the inverse curvature that the memory starts from."""
    q = gradient.copy(order="K")
    shares = []
    for move, change in zip(reversed(memory.moves), reversed(memory.changes), strict=True):
        bend = inner(change, move)
        share = inner(move, q) / bend
        q -= share * change
        shares.append((share, bend))
    r = first(q)
    if memory.moves:
        move, change = memory.moves[-1], memory.changes[-1]
        bend = inner(change, first(change))
        if bend > 0.0:  # a change that the preconditioner rounds to nothing tells no scale
            r *= inner(change, move) / bend
    for move, change, (share, bend) in zip(memory.moves, memory.changes, reversed(shares), strict=True):
        r += move * (share - inner(change, r) / bend)
    return r


def aim(memory: Memory, first: Callable[[FloatArray], FloatArray]) -> None:
    """Sets the next step, and what it promises. A memory that points uphill is dropped."""
    assert memory.gradient is not None
    if memory.moves.maxlen == 0:  # Newton: ``first`` is the whole inverse
        memory.step = first(memory.gradient)
        memory.decrement = 0.5 * inner(memory.gradient, memory.step)
        return
    memory.step = direction(memory, memory.gradient, first)
    memory.decrement = 0.5 * inner(memory.gradient, memory.step)
    if not memory.decrement > 0.0:
        memory.moves.clear()
        memory.changes.clear()
        memory.step = first(memory.gradient)
        memory.decrement = 0.5 * inner(memory.gradient, memory.step)


def lbfgs_step(
    objective: Objective,
    parameters: FloatArray,
    memory: Memory,
    first: Callable[[FloatArray], FloatArray],
) -> int:
    """One step from ``memory.point`` (at first: ``parameters``) with a halving line search; returns evaluations.

    Where no step down is found the point stays, and ``length`` is 0: it is as low as the numbers, or the curvature
    that the step went by, can tell. What the step promised is what may be left.
    """
    evaluations = 0
    if memory.point is None:
        memory.point = parameters.astype(np.float64)
        memory.value, memory.gradient = objective(memory.point)
        aim(memory, first)
        evaluations = 1
    assert memory.gradient is not None
    assert memory.step is not None
    slope = 2.0 * memory.decrement
    length = 1.0
    for _ in range(HALVINGS):
        trial = memory.point - length * memory.step
        value, gradient = objective(trial)
        evaluations += 1
        if value <= memory.value - ENOUGH * length * slope + SLACK * abs(memory.value):
            memory.keep(trial, value, gradient)
            memory.length = length
            aim(memory, first)
            return evaluations
        length *= 0.5
    memory.length = 0.0
    return evaluations
