"""Walls between two places of a loss surface, and whether somebody who was put into a valley left it.

    rest     where batch gradient descent stays: going on from there gains next to nothing
    away     where another method ends that is started at ``rest``
    back     where batch gradient descent comes to from ``away``
    home     where it comes to from ``rest``: what as many steps of its own make of the place
    a wall between ``home`` and ``back``: another valley. None: the same one

A wall is what the loss on the straight line rises above the higher of its ends (Frankle et al. 2020,
https://arxiv.org/abs/1912.05671, who take it above the straight line between them). A way around it may exist all the
same (Draxler et al. 2018, https://arxiv.org/abs/1803.00885).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from descend.types import FloatArray

Walk = Callable[[FloatArray], FloatArray]
"""From where a walk starts to where it ends."""
Height = Callable[[FloatArray], float]
"""The loss at a place."""

STOPS = 25
"""Places between the ends where the loss is looked at."""
WALL = 0.01
NO_WALL = 0.001
"""Of the gap between the first and the best loss: a wall from here on; none below; between them it cannot be told."""
AT_REST = 0.005
"""Batch gradient descent stays where as many passes as the others get gain less than this share of the gap: half of
what counts as a wall."""
MOST_REPEATS = 3
"""So often it goes on to come to rest."""


@dataclass(frozen=True, slots=True)
class Wall:
    """How far the loss on the line rises above the higher of its ends, 0 where it does not."""

    height: float
    at: float
    """Where on the line it is highest, 0 at the first end and 1 at the second."""


@dataclass(frozen=True, slots=True)
class Excursion:
    """One method that was started where batch gradient descent stays."""

    moved: float
    """The distance to where it ended, as a share of the place's own length."""
    change: float
    """What it made of the loss, as a share of the gap; below 0 it fell."""
    back_change: float
    """The same, for where batch gradient descent came to from there."""
    back_distance: float
    """How far that is from where it came to from the place itself, as a share of the place's length."""
    wall: float
    """Between these two, as a share of the gap."""
    left: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def wall_between(height: Height, one: FloatArray, other: FloatArray, stops: int = STOPS) -> Wall | None:
    """The wall on the straight line between two places (P,); None where a loss is not a number."""
    shares = np.linspace(0.0, 1.0, stops + 2)
    losses = np.array([height((1.0 - share) * one + share * other) for share in shares])
    if not np.isfinite(losses).all():
        return None
    top = int(np.argmax(losses))
    return Wall(max(0.0, float(losses[top] - max(losses[0], losses[-1]))), float(shares[top]))


def is_wall(height: float, gap: float) -> bool | None:
    """Whether a wall so high counts; None where it is too low to be called one and too high to be none.

    >>> is_wall(0.02, 1.0), is_wall(0.0, 1.0), is_wall(0.005, 1.0)
    (True, False, None)
    """
    share = height / gap
    return True if share >= WALL else False if share <= NO_WALL else None


@dataclass(frozen=True, slots=True)
class Rest:
    """Where batch gradient descent stays, or what it still gained."""

    place: FloatArray
    home: FloatArray
    """Where as many passes more lead."""
    gained: float
    """By them, as a share of the gap."""

    @property
    def stays(self) -> bool:
        return abs(self.gained) < AT_REST


def come_to_rest(height: Height, settle: Walk, start: FloatArray, gap: float) -> Rest:
    """Batch gradient descent, ``settle`` after ``settle``, from ``start`` until one of them gains next to nothing."""
    place = start
    for _ in range(MOST_REPEATS):
        home = settle(place)
        gained = (height(place) - height(home)) / gap
        rest = Rest(place, home, gained)
        if rest.stays or not np.isfinite(gained):
            break
        place = home
    return rest


def excursion(height: Height, settle: Walk, wander: Walk, rest: Rest, gap: float) -> Excursion | None:
    """What ``wander``, started where batch gradient descent stays, made of the place; None where it diverged."""
    away = wander(rest.place)
    back = settle(away)
    wall = wall_between(height, rest.home, back)
    changes = [(height(place) - height(rest.place)) / gap for place in (away, back)]
    if wall is None or not np.isfinite(changes).all():
        return None
    length = max(float(np.linalg.norm(rest.place)), 1e-300)
    return Excursion(
        moved=float(np.linalg.norm(away - rest.place)) / length,
        change=changes[0],
        back_change=changes[1],
        back_distance=float(np.linalg.norm(back - rest.home)) / length,
        wall=wall.height / gap,
        left=is_wall(wall.height, gap),
    )
