"""The loss surface in the plane through the places where runs ended, and their ways as seen from above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.batches import kind_of
from descend.comparing.surface import axis_over, thinned
from descend.types import FloatArray

Height = Callable[[FloatArray], float]
MOST_DIRECTIONS = 10
"""Random ones that are tried; two do, unless there is only one weight."""
FLAT = 1e-6
"""An end that is this little off the line through the others, of its length, spans no plane with them."""


def ends_surface(
    height: Height,
    ends: dict[int, FloatArray],
    paths: dict[int, list[FloatArray]],
    filters: Callable[[FloatArray, FloatArray], FloatArray],
    num_rows: int,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Losses on a grid in the plane, and the ways by batch size, each from its start to its end (P,).

    Three ends span the plane; of more the first, the middle and the last. One or two have random directions besides,
    which ``filters`` gives the lengths of a place's own units (Li et al. 2018, https://arxiv.org/abs/1712.09913).
    None where an end is not finite, or where there are fewer than two weights to move.
    """
    chosen = spanning(list(ends.values()))
    if not chosen or not all(np.isfinite(end).all() for end in chosen):
        return None
    rng = np.random.Generator(np.random.PCG64([seed, 4]))
    origin = np.mean(chosen, axis=0)
    axes, random = _axes(chosen, lambda: filters(rng.standard_normal(origin.size), chosen[0]))
    if len(axes) < 2:
        return None
    ways = {size: np.array([*thinned(path), ends[size]], dtype=np.float64) for size, path in paths.items()}
    ways = {size: way[np.isfinite(way).all(axis=1)] for size, way in ways.items()}
    places = {size: (way - origin) @ axes.T for size, way in ways.items()}
    every = np.concatenate([place for place in places.values() if len(place)])
    if not np.ptp(every, axis=0).any():
        return None
    reach = max(float(np.ptp(every[:, 0])), float(np.ptp(every[:, 1])))
    xs, ys = (axis_over(every[:, i], at_least=0.6 * reach) for i in (0, 1))

    def loss_at(x: float, y: float) -> float | None:
        value = height(origin + x * axes[0] + y * axes[1])
        return float(value) if np.isfinite(value) else None

    return {
        "through": "ends",
        "random_directions": random,
        "x": xs.tolist(),
        "y": ys.tolist(),
        "loss": [[loss_at(x, y) for x in xs] for y in ys],
        "paths": [
            {
                "kind": kind_of(size, num_rows),
                "batch_size": size,
                "x": place[:, 0].tolist(),
                "y": place[:, 1].tolist(),
                "off": [float(np.linalg.norm(end - origin - at @ axes))
                        for end, at in ((ways[size][0], place[0]), (ways[size][-1], place[-1]))],
            }
            for size, place in places.items()
            if len(place)
        ],
    }  # fmt: skip


def spanning(ends: Sequence[FloatArray]) -> list[FloatArray]:
    """At most three of the ends: all, or the first, the middle and the last; float64."""
    chosen = list(ends) if len(ends) <= 3 else [ends[0], ends[len(ends) // 2], ends[-1]]
    return [np.asarray(end, dtype=np.float64) for end in chosen]


def _axes(ends: list[FloatArray], direction: Callable[[], FloatArray]) -> tuple[FloatArray, int]:
    """Two unit vectors at right angles: through the ends, then random ones; and how many of these there are.

    Fewer where there is no second direction.
    """
    found: list[FloatArray] = []
    for end in ends[:0:-1]:
        _take(found, end - ends[0])
    random = 0
    for _ in range(MOST_DIRECTIONS):
        if len(found) >= 2:
            break
        random += _take(found, direction())
    return np.array(found[:2]), random


def _take(found: list[FloatArray], vector: FloatArray) -> bool:
    """Adds what of ``vector`` is at right angles to the vectors found, if that is anything."""
    rest = vector.copy()
    for one in (*found, *found):  # twice: what rounding leaves of the first time
        rest -= (rest @ one) * one
    length = float(np.linalg.norm(rest))
    if length <= FLAT * float(np.linalg.norm(vector)) or length == 0.0:
        return False
    found.append(rest / length)
    return True
