"""One run, as a curve of the target's loss against seconds: of a fixed rate, of a falling one, and of ``fit``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil, inf, isfinite, nan
from typing import Any

import numpy as np

from benchmarks.regret_workloads import Workload
from descend import fitting
from descend.averaging import TailAverage
from descend.batch_size.controller import Controller
from descend.batch_size.ladder import LOOK_ROWS
from descend.batches import Visits, shuffle
from descend.engines.base import Rule
from descend.networks import fitting as network_fitting
from descend.networks import planning as network_planning
from descend.runs import AVERAGE_ROWS
from descend.updates import OPTIMIZERS
from descend.updates.schedules import find_schedule
from descend.watching import Watch

GROWTH = 1.2
EVALUATION = 0.4
"""What a row costs that is only evaluated, as a share of one that is trained on."""
SLICES = 5
ABOVE = 3.0
"""A run is given up at this many times its first loss."""


@dataclass(slots=True)
class Curve:
    """Rows visited, evaluated ones as shares of them, and the target's loss of what would be returned."""

    rows: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def add(self, rows: float, loss: float, wall: float = nan) -> None:
        self.rows.append(rows)
        self.losses.append(loss if isfinite(loss) else inf)
        self.wall.append(wall)

    def reached(self, level: float) -> int | None:
        """Where the loss is below ``level`` at two checkpoints in a row, or at the last one."""
        last = len(self.losses) - 1
        for place, loss in enumerate(self.losses):
            if loss <= level and (place == last or self.losses[place + 1] <= level):
                return place
        return None


def row_seconds(workload: Workload, batch_size: int) -> float:
    """Seconds a row at this batch size: the least of some slices of a run."""
    optimizer = OPTIMIZERS[workload.settings.optimizer]
    rule = Rule(optimizer, 1e-6)
    state = workload.first_state(0)
    rows = shuffle(Visits(workload.engine.num_rows), 0, 1)
    rows = rows[: max(batch_size, min(len(rows), 4096))]
    times = []
    for _ in range(SLICES + 1):
        start = time.perf_counter()
        workload.engine.run(state, rule, rows, batch_size)
        times.append(time.perf_counter() - start)
    return min(times[1:]) / len(rows)


def grid_run(
    workload: Workload, batch_size: int, rate: float, num_rows: int, seed: int, decay: bool = False
) -> tuple[Curve, Curve]:
    """The curves of the last weights, and of the better of those and the average, which costs nothing here.

    ``decay``: the rate falls to zero at ``num_rows``, in a straight line.
    """
    engine: Any = workload.engine
    state, tail = workload.first_state(seed), TailAverage()
    engine.average_every = max(1, AVERAGE_ROWS // batch_size)
    rule = Rule(
        OPTIMIZERS[workload.settings.optimizer],
        rate,
        find_schedule("linear" if decay else "constant"),
        num_steps=ceil(num_rows / batch_size),
    )
    raw, averaged = Curve(), Curve()
    first = workload.target.mean_loss(state.parameters)
    for rows in _cut(workload.engine.num_rows, num_rows, batch_size, seed):
        with np.errstate(all="ignore"):
            engine.run(state, rule, rows, batch_size)
            tail.close_if_due(state)
            last = workload.target.mean_loss(state.parameters)
            mean = tail.parameters(state)
            better = last if mean is None else np.fmin(last, workload.target.mean_loss(mean))
        raw.add(state.visits, last)
        averaged.add(state.visits, float(better))
        if not last < ABOVE * first:
            break
    engine.average_every = 0
    return raw, averaged


def _cut(num_rows: int, total: int, batch_size: int, seed: int) -> Iterator[Any]:
    """Epochs in order, cut where rows have grown by a fifth; always between two batches."""
    done, epoch, next_look = 0, 0, 256.0
    while done < total:
        epoch += 1
        rows = shuffle(Visits(num_rows), seed, epoch)[: total - done]
        start = 0
        while start < len(rows):
            count = max(1, ceil((next_look - done) / batch_size)) * batch_size
            part = rows[start : start + count]
            start, done = start + len(part), done + len(part)
            if done >= next_look:
                next_look = max(next_look * GROWTH, done + 1)
            yield part


def our_run(
    workload: Workload,
    seed: int,
    batch_size: int | str = "auto",
    controlled: bool = True,
    seconds: float = 30.0,
    optimizer: str | None = None,
) -> tuple[Curve, int, str]:
    """``fit`` with rate and end left to it: its curve, its batch size, and how it ended.

    What would be returned at a look is what the rows that the algorithm may look at liked best so far.
    """
    settings = replace(workload.settings, seed=seed, batch_size=batch_size, seconds=seconds)
    settings = replace(settings, optimizer=optimizer or settings.optimizer)
    curve = Curve()
    with _watched(workload, curve, controlled):
        if workload.is_network:
            run: Any = network_fitting.fit_network(workload.prepared, settings)
        else:
            run = fitting.fit(workload.prepared, settings)
    return curve, run.batch_size, run.stopped


@contextmanager
def _watched(workload: Workload, curve: Curve, controlled: bool) -> Iterator[None]:
    """Within it a watch looks at the target's rows, too, off the clock; ``controlled`` False: no rate is moved."""
    rungs: list[int] = []
    """The first is how many rows of the history the ladder has left before the first observation."""

    class Onlooker(Watch):
        __slots__ = ("liked", "lowest")

        def _observe(self, state: Any, epoch: int, whole: bool) -> float:
            loss = Watch._observe(self, state, epoch, whole)
            mean = self.tail.parameters(state) if self.tail is not None else None
            for parameters in (state.parameters, mean):
                liking = nan if parameters is None else self._validation_loss(parameters) or 0.0
                if liking < getattr(self, "lowest", inf):
                    self.lowest, self.liked = liking, parameters.copy()
            looks = len(self.tuner.verdicts) if isinstance(self.tuner, Controller) else 0
            rungs.append(len(self.history) - 1)
            rows = state.visits + EVALUATION * LOOK_ROWS * (2 * looks + rungs[0])
            liked = getattr(self, "liked", state.parameters)
            curve.add(rows, workload.target.mean_loss(liked), self.seconds)
            return loss

    phases: Callable[..., Any] = network_planning.falling_phases
    before = fitting.Watch, network_fitting.Watch, phases
    fitting.Watch = network_fitting.Watch = Onlooker  # type: ignore[misc]
    if not controlled:
        network_planning.falling_phases = lambda *a: tuple(replace(p, tuned=False) for p in phases(*a))
    try:
        yield
    finally:
        fitting.Watch, network_fitting.Watch, network_planning.falling_phases = before  # type: ignore[misc]
