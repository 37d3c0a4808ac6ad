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
from collections.abc import Sequence
from statistics import median

import numpy as np

from descend.batches import Visits, row_number, shuffle
from descend.engines.base import Engine, State
from descend.recipe import Phase
from descend.types import FloatArray
from descend.watching import Watch


def train(
    engine: Engine,
    state: State,
    phases: Sequence[Phase],
    visits: Visits,
    watch: Watch,
    seed: int = 0,
    in_order: bool = False,
) -> FloatArray:
    """Walks the phases until the watch has seen enough; returns the parameters (k, d + 1) to keep.

    Ctrl-C ends the run as any other stop does, with what has been learnt so far.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is told by the watch, not by NumPy
        call_seconds = _call_seconds(engine, state, phases[0])  # off the clock; later phases' calls are alike
        watch.start(state, phases[0])
        try:
            epoch = 0
            for phase in phases:
                if watch.retreated and phase.batch_size:
                    continue
                watch.enter(phase, call_seconds if phase.batch_size else 0.0, state)
                for _ in range(phase.epochs):
                    epoch += 1
                    rows = None if phase.batch_size == 0 else shuffle(visits, seed, epoch, in_order)
                    for part in watch.parts(rows):
                        engine.run(state, phase.rule, None if rows is None else rows[part], phase.batch_size)
                        epoch_done = part.stop >= visits.num_visits
                        rows = None if epoch_done else rows  # a certificate needs the room
                        if watch.look(state, epoch, epoch_done):
                            return watch.finish(state)
                    if watch.phase_is_over:
                        break
        except KeyboardInterrupt:
            watch.stopped = "interrupted"
        return watch.finish(state)


def _call_seconds(engine: Engine, state: State, phase: Phase) -> float:
    """Seconds that a call of ``run`` with no rows takes: looking often must not make small batches look slow."""
    if phase.batch_size == 0:
        return 0.0
    nothing = np.empty(0, dtype=row_number(engine.num_rows))
    times = []
    for _ in range(9):
        start = time.perf_counter()
        engine.run(state, phase.rule, nothing, phase.batch_size)
        times.append(time.perf_counter() - start)
    return median(times)
