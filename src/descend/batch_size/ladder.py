"""The learning rate from a ladder that is already training: ever higher rates, until the loss says too high.

    start far below what curvature allows
    repeat: a few steps; look at the loss of the first rows
            too high: go back to the last good rung and try once more; at the second time that rate is the edge
            else keep the weights where the loss is the lowest so far; double the rate
    go on from the lowest rung's weights, at its rate or that of a higher rung as good, but at most half the edge

For steps that follow the gradient's length (SGD with and without momentum), whose rate no rule can name: the best
ones differ 30 to 100 times between tables. What the ladder takes is on the run's clock, and its rungs are in the
history.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

import numpy as np

from descend.batch_size.controller import BELOW_EDGE
from descend.batch_size.rungs import climb_rungs
from descend.batches import Visits, shuffle
from descend.engines.base import Rule, State
from descend.objectives.losses import Loss
from descend.report.formatting import counted
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import OPTIMIZERS

FEWEST_STEPS = 6
ROWS_OF_RUNG = 128
LOOK_ROWS = 256
CURVATURE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Rung:
    """One rate that was tried: where it ended, and when."""

    rate: float
    loss: float
    seconds: float
    rows: int
    steps: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """What was found; ``edge`` is infinite where none was met."""

    rate: float
    edge: float
    rungs: tuple[Rung, ...]
    highest: float = inf
    """What the rate may rise to later. With momentum, too, it is plain steps' edge and no share of it.

    Curvature bounds momentum's rate no lower, and where there is little noise it wants more than its share (kin40k).
    """

    @property
    def seconds(self) -> float:
        return self.rungs[-1].seconds

    @property
    def reason(self) -> str:
        """Where the rate comes from, in words."""
        end = f"{self.edge:.3g} was too high" if isfinite(self.edge) else "none was too high"
        return f"from a ladder of {counted(len(self.rungs), 'rung')} in {self.seconds:.2g} s: {end}"


def climb(
    engine: Any,
    state: State,
    rule: Rule,
    batch_size: int,
    loss: Loss,
    data: Dataset,
    seed: int,
    seconds: float = inf,
    as_good: float = 0.0,
) -> Ladder:
    """Tries rates by plain steps; ``state`` is left where the lowest rung ended. ``batch_size`` 0: every row at once.

    A rung is too short to show what momentum makes of a rate: its own is (1 − β) times that of plain steps. After
    ``seconds`` no further rung is tried. ``as_good``: as in ``rungs.py``.
    """
    slower = 1.0 - rule.momentum if rule.optimizer.uses_momentum else 1.0
    plain = replace(rule, optimizer=OPTIMIZERS["sgd"])
    return climb_from(
        lowest_rate(data, loss), engine, state, plain, batch_size, seed, slower, seconds, as_good
    )


def climb_from(
    lowest: float,
    engine: Any,
    state: State,
    rule: Rule,
    batch_size: int,
    seed: int,
    slower: float = 1.0,
    seconds: float = inf,
    as_good: float = 0.0,
) -> Ladder:
    """The same from the rate ``lowest`` on, by steps of the rule's own optimizer.

    The rate that is given is ``slower`` times the one that was found. After ``seconds`` no further rung is tried.
    """
    rule = replace(rule, schedule=0)
    began = time.perf_counter()
    rungs: list[Rung] = []
    parts = pieces(engine.num_rows, batch_size, seed)

    def run(rate: float) -> float:
        for rows in next(parts):
            engine.run(state, replace(rule, rate=rate), rows, batch_size or engine.num_rows)
        now = float(engine.mean_loss(state.parameters, LOOK_ROWS))
        rungs.append(Rung(rate, now, time.perf_counter() - began, state.visits, state.steps))
        return now

    def put_back(parameters: FloatArray) -> None:
        state.parameters[:] = parameters

    before = engine.mean_loss(state.parameters, LOOK_ROWS)
    rate, edge = climb_rungs(run, state.parameters.copy, put_back, lowest, before, seconds, as_good)
    state.average[:] = 0.0  # the steps of rates that were too high are in it
    state.num_averaged = 0
    return Ladder(slower * rate, edge, tuple(rungs), max(slower * rate, edge / BELOW_EDGE))


def lowest_rate(data: Dataset, loss: Loss) -> float:
    """1 / 64 of the inverse of the curvature that one layer would have: c · mean |x|² of the first rows."""
    X: Any = data.X[:CURVATURE_ROWS]
    squares = X.multiply(X).sum() if hasattr(X, "multiply") else np.square(X, dtype=np.float64).sum()
    return float(1.0 / (64.0 * loss.curvature * max(float(squares) / X.shape[0], 1e-12)))


def pieces(num_rows: int, batch_size: int, seed: int) -> Iterator[list[IntArray | None]]:
    """The rows of each rung: some batches of the order of epoch 0, which no other epoch has, again and again."""
    if not batch_size:
        while True:
            yield [None] * FEWEST_STEPS
    count = max(FEWEST_STEPS, -(-ROWS_OF_RUNG // batch_size)) * batch_size
    rows = shuffle(Visits(num_rows), seed, 0)
    rows = np.resize(rows, max(num_rows, count))
    start = 0
    while True:
        if start + count > len(rows):
            start = 0
        yield [rows[start : start + count]]
        start += count


def recorded(
    ladder: Ladder, first_loss: float, num_rows: int, batch_size: int, unit: float
) -> list[dict[str, Any]]:
    """Rows of the history: the start, and each rung."""
    start = Rung(ladder.rungs[0].rate, first_loss, 0.0, 0, 0)
    return [
        {
            "seconds": rung.seconds,
            "epoch": rung.rows / num_rows,
            "rows": rung.rows,
            "updates": rung.steps,
            "loss": rung.loss * unit if isfinite(rung.loss) else None,
            "last_loss": rung.loss * unit if isfinite(rung.loss) else None,
            "validation_loss": None,
            "batch_size": batch_size,
            "learning_rate": rung.rate,
        }
        for rung in (start, *ladder.rungs)
    ]
