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
from statistics import median

import numpy as np

from descend.batches import Visits, shuffle
from descend.engines.base import Engine, Rule, State
from descend.types import FloatArray
from descend.watching import Watch


def train(
    engine: Engine,
    state: State,
    rule: Rule,
    visits: Visits,
    batch_size: int,
    watch: Watch,
    seed: int = 0,
    in_order: bool = False,
) -> FloatArray:
    """Trains until the watch has seen enough; returns the parameters (k, d + 1) to keep.

    Ctrl-C ends the run as any other stop does, with what has been learnt so far.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is told by the watch, not by NumPy
        return _train(engine, state, rule, visits, batch_size, watch, seed, in_order)


def _train(
    engine: Engine,
    state: State,
    rule: Rule,
    visits: Visits,
    batch_size: int,
    watch: Watch,
    seed: int,
    in_order: bool,
) -> FloatArray:
    full_batch = batch_size >= visits.num_visits
    watch.call_seconds = 0.0 if full_batch else _call_seconds(engine, state, rule, batch_size)
    watch.start(state)
    try:
        for epoch in range(1, watch.limits.epochs + 1):
            rows = None if full_batch else shuffle(visits, seed, epoch, in_order)
            parts = [slice(0, visits.num_visits)] if full_batch else watch.parts(visits.num_visits)
            for part in parts:
                engine.run(state, rule, None if rows is None else rows[part], batch_size)
                done = part.stop >= visits.num_visits
                if watch.look(state, part.stop - part.start, epoch, epoch_done=done):
                    return watch.finish(state)
    except KeyboardInterrupt:
        watch.stopped = "interrupted"
    return watch.finish(state)


def _call_seconds(engine: Engine, state: State, rule: Rule, batch_size: int) -> float:
    """Seconds that a call of ``run`` with no rows takes: looking often must not make small batches look slow."""
    nothing = np.empty(0, dtype=np.int64)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        engine.run(state, rule, nothing, batch_size)
        times.append(time.perf_counter() - start)
    return median(times)
