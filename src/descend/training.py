"""The loop.

    for epoch in range(num_epochs):
        for X, y in split(shuffle(train_data), batch_size):
            predictions = predict(X, model)
            error = loss(y, predictions)
            model = update(model, gradient(error))

An engine's ``run`` is the four inner lines, compiled; ``engines/reference.py`` has them in plain NumPy. The
loop below shuffles, hands the engine the rows between two looks, and lets the watch look.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from descend.batches import Visits, row_number, shuffle
from descend.checkpoint import Checkpoint
from descend.engines.base import Engine, Rule, State
from descend.recipe import Phase
from descend.types import FloatArray
from descend.watching import Place, Watch

CALLS = 3
"""Calls that are timed: each is a hundredth of a millisecond, and the first the slowest."""


def train(
    engine: Engine,
    state: State,
    phases: Sequence[Phase],
    visits: Visits,
    watch: Watch,
    seed: int = 0,
    in_order: bool = False,
    checkpoint: Checkpoint | None = None,
) -> FloatArray:
    """Walks the phases until the watch has seen enough; returns the parameters (k, d + 1) to keep.

    ``checkpoint``: saved into, and gone on from where it holds a run. Ctrl-C ends the run as any other stop does,
    with what has been learnt so far.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is told by the watch, not by NumPy
        first = phases[0]  # a call in a later one takes as long
        call_seconds = seconds_of_a_call(engine, state, first.rule, first.batch_size)
        is_over = begin(state, phases, watch, checkpoint, call_seconds)
        try:
            for place in epochs_after(watch.place, phases, watch) if not is_over else ():
                phase = phases[place.phase]
                if place.begins_phase:
                    watch.enter(phase, call_seconds if phase.batch_size else 0.0, state)
                rows = None if phase.batch_size == 0 else shuffle(visits, seed, place.epoch, in_order)
                for part in watch.parts(rows, place.visits):
                    engine.run(state, phase.rule, None if rows is None else rows[part], phase.batch_size)
                    watch.place = place.after(part.stop, visits.num_visits)
                    rows = None if watch.place.epoch_done else rows  # a certificate needs the room
                    if watch.look(state):
                        return watch.finish(state)
        except KeyboardInterrupt:
            watch.stopped = "interrupted"
        return watch.finish(state)


def begin(
    state: State, phases: Sequence[Phase], watch: Watch, checkpoint: Checkpoint | None, call_seconds: float
) -> bool:
    """Starts the watch, or puts everything back to where the checkpoint was; whether the run is over there."""
    if checkpoint is None or checkpoint.found is None:
        watch.start(state, phases[0])
        if checkpoint is not None:
            checkpoint.expect(state)
            watch.saver = checkpoint
        return False
    phase = phases[checkpoint.found.place.phase]
    checkpoint.restore(state, watch)
    checkpoint.expect(state)
    watch.saver = checkpoint
    return watch.go_on(phase, call_seconds if phase.batch_size else 0.0, state, checkpoint.found.looked)


def epochs_after(begun: Place, phases: Sequence[Phase], watch: Watch) -> Iterator[Place]:
    """The epochs that are left from ``begun`` on, each as the place where it begins."""
    number, phase_epoch, epoch = begun.phase, begun.phase_epoch, begun.epoch
    if not begun.epoch_done:
        yield begun
    while number < len(phases):
        phase = phases[number]
        is_over = phase_epoch > 0 and (watch.phase_is_over or phase_epoch == phase.epochs)
        if is_over or (watch.retreated and phase.batch_size):
            number, phase_epoch = number + 1, 0
            continue
        phase_epoch, epoch = phase_epoch + 1, epoch + 1
        yield Place(number, phase_epoch, epoch, epoch_done=False)


def seconds_of_a_call(engine: Engine, state: State, rule: Rule, batch_size: int) -> float:
    """Seconds that a call of ``run`` with no rows takes: looking often must not make small batches look slow.

    The call is off the run's clock.
    """
    if batch_size == 0:
        return 0.0
    nothing = np.empty(0, dtype=row_number(engine.num_rows))
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        engine.run(state, rule, nothing, batch_size)
        times.append(time.perf_counter() - start)
    return median(times)
