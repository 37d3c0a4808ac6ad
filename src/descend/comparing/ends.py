"""What is measured of the places where runs ended: off the clock of the runs, after all of them.

Sharpness and walls are those of the objective on a sample, the first rows (they lie in random order), in float64.
What it may cost is counted in rows visited and not in seconds, so that the same runs give the same answers:
started where batch gradient descent stays, all kinds together visit at most as many rows as half the runs did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from descend.comparing.plane import ends_surface
from descend.comparing.sharpness import Sharpness
from descend.comparing.valleys import MOST_REPEATS, Excursion, Rest, come_to_rest, excursion, wall_between
from descend.comparing.wording import percent
from descend.types import FloatArray

MOST_ROWS = 2_000
FEWEST_ROWS = 256
NUMBERS = 2e7
"""The sample: so many rows times parameters, between 256 and 2,000 rows."""
SHARE = 0.5
MOST_PASSES = 200
FEWEST_PASSES = 20


class Walker(Protocol):
    """The two ways to walk from a place (P,): not a number where it diverged."""

    def settle(self, start: FloatArray) -> FloatArray:
        """Batch gradient descent: plain steps over every row."""
        ...

    def wander(self, start: FloatArray, batch_size: int) -> FloatArray:
        """A kind, with its own rate and order."""
        ...


class Terrain(Protocol):
    """The objective that runs went down, as it is looked at afterwards."""

    @property
    def num_rows(self) -> int:
        """Rows of the sample."""
        ...

    @property
    def all_rows(self) -> int:
        """Rows that were trained on."""
        ...

    @property
    def unit(self) -> float:
        """What turns its loss into the user's."""
        ...

    def height(self, parameters: FloatArray) -> float:
        """The mean loss + penalty at ``parameters`` (P,)."""
        ...

    def sharpness(self, parameters: FloatArray, seed: int = 0) -> Sharpness | None:
        """The largest eigenvalue of the Hessian there; None where the place is not finite."""
        ...

    def with_lengths_of(self, direction: FloatArray, at: FloatArray) -> FloatArray:
        """``direction`` with every unit's weights as long as those at ``at``, and nothing along the intercepts."""
        ...

    def walker(self, run: Any, number: int, passes: int) -> Walker:
        """Walks of so many passes, batch gradient descent as in ``run``; ``number`` moves the order."""
        ...


def measure_ends(
    terrain: Terrain, runs: dict[int, list[Any]], gap: float, seed: int
) -> tuple[dict[str, Any] | None, dict[str, Any], dict[int, dict[str, Any]]]:
    """The surface under the ends, what the record holds of valleys, and what the summary of each batch size does.

    ``runs`` by batch size, one for each seed, those of the first with their paths; ``gap`` between the first and the
    best loss, in the user's unit.
    """
    ends = {size: group[0].model.parameters for size, group in runs.items()}
    surface = ends_surface(
        lambda parameters: terrain.height(parameters) * terrain.unit,
        ends,
        {size: group[0].path for size, group in runs.items()},
        terrain.with_lengths_of,
        terrain.all_rows,
        seed,
    )
    gap = max(gap / terrain.unit, 1e-300)
    tried = excursions(terrain, runs, gap)
    by_size = {
        size: sharpness_summary([terrain.sharpness(run.model.parameters, seed) for run in group])
        | {"excursions": excursion_summary(tried, size)}
        for size, group in runs.items()
    }
    valleys = {
        "rows": terrain.num_rows,
        "passes": tried.passes,
        "gained": list(tried.gained),
        "reason": tried.reason,
        "walls": walls(terrain, ends, gap),
    }
    return surface, valleys, by_size


def sharpness_summary(found: list[Sharpness | None]) -> dict[str, Any]:
    """Median and range over the seeds, and each with how it was found."""
    values = [one.value for one in found if one is not None]
    spread = {"median": float(np.median(values)), "low": min(values), "high": max(values)} if values else None
    return {
        "sharpness": spread,
        "sharpness_found": [NO_SHARPNESS if one is None else one.to_json() for one in found],
    }


NO_SHARPNESS: dict[str, Any] = {"value": None, "within": None, "iterations": 0, "arrived": False}


def excursion_summary(tried: Excursions, size: int) -> dict[str, Any]:
    """What became of one kind that was started where batch gradient descent stays."""
    found = tried.by_size.get(size, [])
    return {
        "reason": tried.reason,
        "passes": tried.passes,
        "found": [one.to_json() for one in found if one is not None],
        "diverged": sum(one is None for one in found),
    }


def walls(terrain: Terrain, ends: dict[int, FloatArray], gap: float) -> list[dict[str, Any]]:
    """The walls on the straight lines between the ends, two by two, as shares of the gap."""
    found = []
    for one, other in combinations(ends, 2):
        wall = wall_between(terrain.height, ends[one].astype(np.float64), ends[other].astype(np.float64))
        found.append(
            {
                "between": [one, other],
                "height": None if wall is None else wall.height / gap,
                "at": None if wall is None else wall.at,
            }
        )
    return found


def sample_rows(num_rows: int, num_parameters: int) -> int:
    """How many rows sharpness and walls are measured on.

    >>> sample_rows(60_000, 7_000), sample_rows(60_000, 100_000), sample_rows(150, 7_000)
    (2000, 256, 150)
    """
    return min(num_rows, int(np.clip(NUMBERS / num_parameters, FEWEST_ROWS, MOST_ROWS)))


@dataclass(frozen=True, slots=True)
class Excursions:
    """What became of the kinds that were started where batch gradient descent stays."""

    reason: str
    """Why it was not tried, or could not be told; empty where it was tried."""
    passes: int = 0
    """Over the rows, that each was given."""
    gained: tuple[float, ...] = ()
    """What batch gradient descent gained by as many passes more, as a share of the gap; for each place that was
    tried, also where it had not come to rest."""
    by_size: dict[int, list[Excursion | None]] = field(default_factory=dict)
    """By batch size, one for each place of rest; None where it diverged."""


def excursions(terrain: Terrain, runs: dict[int, list[Any]], gap: float) -> Excursions:
    """Starts every kind where batch gradient descent stays; ``runs`` by batch size, one for each seed.

    ``gap`` in the engine's unit.
    """
    full = terrain.all_rows
    if full not in runs:
        return Excursions("batch gradient descent was not among the runs")
    starts = [run for run in runs[full] if run.stopped != "diverged"]
    if not starts:
        return Excursions("batch gradient descent diverged")
    starts = [run for run in starts if run.stopped != "time"]
    if not starts:
        return Excursions(
            "batch gradient descent was still gaining when its time was over; give it more --time"
        )
    num_places, passes = shared_passes(
        sum(run.history.last["rows"] for group in runs.values() for run in group) / full,
        len(runs),
        len(starts),
    )
    if passes < FEWEST_PASSES:
        return Excursions(
            f"the runs were short: half of the rows that they visited make {passes} passes for each walk, and "
            f"{FEWEST_PASSES} are needed",
            passes,
        )
    gained: list[float] = []
    found: dict[int, list[Excursion | None]] = {size: [] for size in runs}
    for number, run in enumerate(starts[:num_places]):
        walker = terrain.walker(run, number, passes)
        rest = come_to_rest(terrain.height, walker.settle, run.model.parameters.astype(np.float64), gap)
        gained.append(rest.gained)
        if rest.stays:
            for size, group in found.items():
                group.append(_excursion(terrain, walker, size, rest, gap))
    if not next(iter(found.values())):
        return Excursions(
            f"batch gradient descent had not come to rest: {passes} passes more gained "
            f"{percent(min(gained))} of the gap",
            passes,
            tuple(gained),
        )
    return Excursions("", passes, tuple(gained), found)


def shared_passes(all_passes: float, num_kinds: int, num_places: int) -> tuple[int, int]:
    """From how many places, and how many passes a walk; all walks together make half of ``all_passes``.

    A place costs a walk there and one back for each kind, and up to three of batch gradient descent to come to rest.

    >>> shared_passes(1320, 3, 3), shared_passes(300, 3, 3), shared_passes(90, 3, 3)
    ((3, 24), (1, 16), (1, 5))
    """
    walks = 2 * num_kinds + MOST_REPEATS
    passes = SHARE * all_passes / walks
    places = max(1, min(num_places, int(passes / FEWEST_PASSES)))
    return places, min(MOST_PASSES, int(passes / places))


def _excursion(terrain: Terrain, walker: Walker, size: int, rest: Rest, gap: float) -> Excursion | None:
    return excursion(terrain.height, walker.settle, lambda start: walker.wander(start, size), rest, gap)
