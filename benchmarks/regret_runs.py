"""One run, as a curve of the target's loss against two clocks: of a fixed rate, of a falling one, and of ``fit``.

The simulated clock counts rows, what is only evaluated as a share of one. The wall's counts seconds from the call on,
without what nobody but the benchmark does: the target's rows, and looks that only make the curve finer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import ceil, inf, isfinite, nan
from types import SimpleNamespace
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
from descend.networks.recipe import NETWORK_AVERAGE_ROWS
from descend.runs import AVERAGE_ROWS
from descend.training import seconds_of_a_call
from descend.updates import OPTIMIZERS
from descend.updates.schedules import find_schedule
from descend.watching import Watch, observing

GROWTH = 1.2
EVALUATION = 0.4
"""What a row costs that is only evaluated, as a share of one that is trained on."""
SLICES, SLICE_ROWS = 5, 4096
ABOVE, PATIENCE = 3.0, 0.125
"""A run is given up at this many times its first loss; behind this share of one at a constant rate, at its first."""


@dataclass(slots=True)
class Curve:
    """The target's loss of what would be returned, and what it took to come there."""

    losses: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    """Visited, and evaluated ones as shares of them."""
    tuning: list[float] = field(default_factory=list)
    """Of these, what went into finding and moving the rate."""
    wall: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    """Seconds by the run's own clock, which looking at losses is off."""

    def add(self, loss: float, rows: float, wall: float, tuning: float = 0.0, training: float = nan) -> None:
        self.losses.append(loss if isfinite(loss) else inf)
        self.rows.append(rows)
        self.wall.append(wall)
        self.tuning.append(tuning)
        self.training.append(training)

    def loss_after(self, rows: float) -> float:
        """The lowest that was seen within so many rows."""
        pairs = zip(self.rows, self.losses, strict=True)
        return min((loss for done, loss in pairs if done <= rows), default=inf)

    def reached(self, level: float) -> int | None:
        """Where the loss is below ``level`` at two checkpoints in a row, or at the last one."""
        last = len(self.losses) - 1
        for place, loss in enumerate(self.losses):
            if loss <= level and (place == last or self.losses[place + 1] <= level):
                return place
        return None


class Clock:
    """Seconds since it was made, without those that were taken off; never fewer than it has told."""

    now = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.started = self.now()
        self.told = 0.0

    @property
    def seconds(self) -> float:
        self.told = max(self.told, self.now() - self.started)  # what is taken off for a call is a median
        return self.told

    def leave_out(self, seconds: float) -> None:
        """So many have not passed."""
        self.started += seconds

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is done inside takes no time."""
        began = self.now()
        try:
            yield
        finally:
            self.leave_out(self.now() - began)


@contextmanager
def processor_time() -> Iterator[None]:
    """Within it all clocks, that of ``fit`` too, count this process's time alone.

    With one thread that is what an idle machine's wall would say, whoever else is at work.
    """
    before = Clock.now, observing.time
    Clock.now = staticmethod(time.process_time)
    observing.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    try:
        yield
    finally:
        Clock.now, observing.time = staticmethod(before[0]), before[1]  # type: ignore[assignment]


class Prices(dict[int, float]):
    """Seconds a row at each batch size, measured when first asked for: the least of some slices of a run."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def measure(self, batch_sizes: Iterable[int]) -> None:
        """All of them now."""
        for size in batch_sizes:
            _ = self[size]

    def __missing__(self, batch_size: int) -> float:
        engine = self.workload.engine
        rule = Rule(OPTIMIZERS[self.workload.settings.optimizer], 1e-6)
        state = self.workload.first_state(0)
        rows = shuffle(Visits(engine.num_rows), 0, 1)
        rows = rows[: max(batch_size, min(len(rows), SLICE_ROWS))]
        times = []
        for _ in range(SLICES + 1):
            clock = Clock()
            engine.run(state, rule, rows, batch_size)
            times.append(clock.seconds)
        self[batch_size] = min(times[1:]) / len(rows)
        return self[batch_size]


def grid_run(
    workload: Workload,
    batch_size: int,
    rate: float,
    num_rows: int,
    seed: int,
    decay: bool = False,
    average: bool = True,
) -> tuple[Curve, Curve]:
    """The curves of the last weights, and of the better of those and the average; to choose costs nothing here.

    ``decay``: the rate falls to zero at ``num_rows``, in a straight line. ``average`` False: there is none.
    """
    engine: Any = workload.engine
    state, tail = workload.first_state(seed), TailAverage()
    each = NETWORK_AVERAGE_ROWS if workload.is_network else AVERAGE_ROWS
    engine.average_every = max(1, each // batch_size) if average else 0
    rule = Rule(
        OPTIMIZERS[workload.settings.optimizer],
        rate,
        find_schedule("linear" if decay else "constant"),
        num_steps=ceil(num_rows / batch_size),
    )
    raw, averaged = Curve(), Curve()
    first = workload.target.mean_loss(state.parameters)
    call_seconds = seconds_of_a_call(engine, state, rule, batch_size)
    clock = Clock()
    for begins, rows in _cut(workload.engine.num_rows, num_rows, batch_size, seed):
        with np.errstate(all="ignore"):
            engine.run(state, rule, rows, batch_size)
            if not begins:
                clock.leave_out(call_seconds)
            if average:
                tail.close_if_due(state)
            now = clock.seconds
            with clock.stopped():
                last = workload.target.mean_loss(state.parameters)
                mean = tail.parameters(state) if average else None
                better = last if mean is None else np.fmin(last, workload.target.mean_loss(mean))
                raw.add(last, state.visits, now)
                averaged.add(float(better), state.visits, now)
        gone_on = not decay and state.visits >= PATIENCE * num_rows
        if not last < (1.0 if gone_on else ABOVE) * first:
            break
    engine.average_every = 0
    return raw, averaged


def _cut(num_rows: int, total: int, batch_size: int, seed: int) -> Iterator[tuple[bool, Any]]:
    """Epochs in order, cut where rows have grown by a fifth, always between two batches; and which begin an epoch."""
    done, epoch, next_look = 0, 0, 256.0
    while done < total:
        epoch += 1
        rows = shuffle(Visits(num_rows), seed, epoch)[: total - done]
        start = 0
        while start < len(rows):
            count = max(1, ceil((next_look - done) / batch_size)) * batch_size
            part, begins = rows[start : start + count], start == 0
            start, done = start + len(part), done + len(part)
            if done >= next_look:
                next_look = max(next_look * GROWTH, done + 1)
            yield begins, part


def our_run(
    workload: Workload,
    seed: int,
    batch_size: int | str = "auto",
    controlled: bool = True,
    seconds: float = 30.0,
    optimizer: str | None = None,
    until: float = -inf,
) -> tuple[Curve, int, str]:
    """``fit`` with rate and end left to it: its curve, its batch size, and how it ended.

    What would be returned at a look is what the rows that the algorithm may look at liked best so far; of passes over
    all rows of linear models the watch tells. The run may end where two checkpoints in a row lie below ``until``: no
    target is lower.
    """
    settings = replace(workload.settings, seed=seed, batch_size=batch_size, seconds=seconds)
    settings = replace(settings, optimizer=optimizer or settings.optimizer)
    curve = Curve()
    with _watched(workload, curve, controlled, until):
        fit: Any = network_fitting.fit_network if workload.is_network else fitting.fit
        run = fit(workload.prepared, settings)
    return curve, run.batch_size, run.stopped


@contextmanager
def _watched(workload: Workload, curve: Curve, controlled: bool, until: float) -> Iterator[None]:
    """Within it a watch looks at the target's rows, too, off the clocks, as often as at a run of the grid.

    All that the watch does by itself is on the wall's clock. ``controlled`` False: no rate is moved.
    """
    ladders: list[tuple[int, int]] = []
    """The rungs and rows that a ladder has left in the history before the first observation."""
    clock = Clock()

    class Onlooker(Watch):
        __slots__ = ("compared", "for_the_curve", "liked", "lowest", "next_look")

        def start(self, state: Any, phase: Any) -> None:
            ladders.append((len(self.history), state.visits))
            self.next_look, self.for_the_curve = max(256.0, GROWTH * state.visits), False
            Watch.start(self, state, phase)

        def _visits_until_next_look(self, start: int, num_visits: int) -> int:
            visits = Watch._visits_until_next_look(self, start, num_visits)
            steps = max(1, ceil((self.next_look - self._rows) / self.batch_size))
            self.for_the_curve = steps * self.batch_size < visits
            return min(visits, steps * self.batch_size)

        def _observe(self, state: Any, epoch: int, whole: bool, last: bool = False) -> float:
            loss = Watch._observe(self, state, epoch, whole, last)
            self._compare(state)
            return loss

        def look(self, state: Any) -> bool:
            cut, self.compared, self.for_the_curve = self.for_the_curve, False, False
            with clock.stopped() if cut else nullcontext():
                is_over = Watch.look(self, state)
            clock.leave_out(self.call_seconds if cut else 0.0)
            if not self.compared and state.visits >= self.next_look:
                self._compare(state)
            if not is_over and max(curve.losses[-2:]) <= until:
                self.stopped = is_over = "interrupted"
            return bool(is_over)

        def _compare(self, state: Any) -> None:
            wall, runs = clock.seconds, bool(self._started)
            with clock.stopped():
                self._pause()
                self.compared, self.next_look = True, max(GROWTH * state.visits, state.visits + 1)
                mean = self.tail.parameters(state) if self.tail is not None else None
                for parameters in (state.parameters, mean):
                    liking = nan if parameters is None else self.validation.mean_loss(parameters)
                    if liking < getattr(self, "lowest", inf):
                        self.lowest, self.liked = liking, parameters.copy()
                looks = len(self.tuner.verdicts) if isinstance(self.tuner, Controller) else 0
                rungs, rows_of_rungs = ladders[0]
                evaluated = EVALUATION * LOOK_ROWS * (2 * looks + rungs)
                liked = getattr(self, "liked", state.parameters)
                if self.limits.certify and self.place.epoch > 0 and self.place.epoch_done:
                    liked = self.chosen.parameters
                loss = workload.target.mean_loss(liked)
                tuning = evaluated + rows_of_rungs
                curve.add(loss, state.visits + evaluated, wall, tuning, training=self.seconds)
            if runs:
                self._resume()

    phases: Callable[..., Any] = network_planning.falling_phases
    before = fitting.Watch, network_fitting.Watch, phases
    fitting.Watch = network_fitting.Watch = Onlooker  # type: ignore[misc]
    if not controlled:
        network_planning.falling_phases = lambda *a: tuple(replace(p, tuned=False) for p in phases(*a))
    try:
        yield
    finally:
        fitting.Watch, network_fitting.Watch, network_planning.falling_phases = before  # type: ignore[misc]
