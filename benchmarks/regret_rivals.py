"""Other ways to a batch size and a rate, each with what finding them takes.

- a fixed size, with the rate finder, the controller and the averages of ``fit``;
- the size with the most rows a second, the rest as before; every size is timed by two steps;
- the gradient noise where training begins, tr Σ / |G|², taken for the critical batch size, the rest as before;
- as Lightning does it: the largest power of two that fits into a gigabyte and into the rows, up to 8,192, three steps
  at each size on the way; then a hundred steps at rates from 1e-8 to 1, and the one where the smoothed loss falls
  fastest; trained at that, constantly, with the last weights. Lightning 2.6 divides the fall by the rate's
  own step, which prefers rates near 1e-8; before it was that for each trial, which is what is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, log2
from typing import Any, NamedTuple

import numpy as np

from benchmarks.regret_runs import Curve, Prices, grid_run, our_run
from benchmarks.regret_workloads import Workload
from descend.batch_size.noise import measure_noise
from descend.batch_size.timing import grid as doublings
from descend.batches import Visits, shuffle
from descend.engines.base import Rule
from descend.updates import OPTIMIZERS

FIXED = (8, 32, 64, 128, 256)
TIMED_STEPS = 2
TRIAL_STEPS, LARGEST, MEMORY = 3, 8192, 1e9
"""Lightning's own for the first two."""
SWEEP, SMOOTHING, GIVE_UP = (1e-8, 1.0, 100), 0.98, 4.0
SKIPPED = (10, 1)
FALLBACK_RATE = 1e-3
PATIENCE = 20.0
"""A run at a constant rate may take so many times what the grid needs to the tight target."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run, and the seconds that went into deciding on it before its first step."""

    curve: Curve
    batch_size: int
    stopped: str
    before: float = 0.0


class Goal(NamedTuple):
    """Where a run may end: it has the tight target's loss, or takes too many times the grid's seconds to it."""

    level: float = -inf
    seconds: float = inf


Rival = Callable[[Workload, Prices, int, Goal], Outcome]
"""Of workload, prices and seed."""


def of_fit(**how: Any) -> Rival:
    """``fit``, with some of it fixed."""

    def run(workload: Workload, prices: Prices, seed: int, goal: Goal) -> Outcome:
        return Outcome(*our_run(workload, seed, until=goal.level, **how))

    return run


def throughput(workload: Workload, prices: Prices, seed: int, goal: Goal) -> Outcome:
    """The size with the most rows a second."""
    sizes = doublings(workload.engine.num_rows)
    size = min(sizes, key=lambda size: prices[size])
    before = sum(TIMED_STEPS * size * prices[size] for size in sizes)
    return Outcome(*our_run(workload, seed, batch_size=size, until=goal.level), before)


def noise_scale(workload: Workload, prices: Prices, seed: int, goal: Goal) -> Outcome:
    """The power of two next to the gradient noise where training begins."""
    start, rows_each = workload.first_state(seed).parameters, 8 if workload.is_network else 1
    used = []

    def gradient(rows: Any) -> Any:
        used.append(len(rows))
        return np.asarray(workload.engine.loss_and_gradient(start, rows).gradient) / len(rows)

    size = size_of_noise(measure_noise(gradient, workload.engine.num_rows, rows_each, seed))
    size = min(size, workload.engine.num_rows)
    return Outcome(*our_run(workload, seed, batch_size=size, until=goal.level), sum(used) * prices[rows_each])


def size_of_noise(noise: Any) -> int:
    """A power of two; the lower bound's where that alone is known."""
    if noise is None:
        return 32
    simple = noise.interval[0] if noise.simple is None else noise.simple
    return int(2 ** round(log2(max(1.0, min(simple, 2.0**20)))))


def lightning_like(workload: Workload, prices: Prices, seed: int, goal: Goal) -> Outcome:
    """The largest batch, the rate of a sweep."""
    engine = workload.engine
    columns = workload.prepared.train.num_columns
    bytes_a_row = 4 * 3 * (columns + 2 * sum(workload.settings.hidden if workload.is_network else ()))
    size, trials = largest_batch(engine.num_rows, bytes_a_row)
    rows = np.concatenate([shuffle(Visits(engine.num_rows), seed, epoch) for epoch in range(1, 3)])
    state = workload.first_state(seed)
    place = 0

    def step(rate: float) -> float:
        nonlocal place
        place = 0 if place + size > len(rows) else place
        batch = rows[place : place + size]
        place += size
        loss = engine.loss_and_gradient(state.parameters, batch).loss / size
        engine.run(state, Rule(OPTIMIZERS[workload.settings.optimizer], rate), batch, size)
        return float(loss)

    with np.errstate(all="ignore"):
        rate, steps = sweep(step)
    before = (TRIAL_STEPS * sum(trials) + steps * size) * prices[size]
    most = max(PATIENCE * goal.seconds, prices[size] * 32 * engine.num_rows)
    curve = grid_run(workload, size, rate, int(most / prices[size]), seed, average=False)[0]
    return Outcome(curve, size, f"rate {rate:.2g}", before)


def largest_batch(num_rows: int, bytes_a_row: float) -> tuple[int, list[int]]:
    """The largest power of two that fits, and all that were tried."""
    tried = [2]
    while 2 * tried[-1] <= min(num_rows, LARGEST, MEMORY / bytes_a_row):
        tried.append(2 * tried[-1])
    return tried[-1], tried


def sweep(step: Callable[[float], float]) -> tuple[float, int]:
    """The rate at which the smoothed loss fell fastest, and how many steps were taken; ``step``: loss before it."""
    low, high, count = SWEEP
    rates = low * (high / low) ** (np.arange(count) / (count - 1))
    mean, lowest, losses = 0.0, inf, []
    for number, rate in enumerate(rates, 1):
        loss = step(float(rate))
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss
        losses.append(mean / (1.0 - SMOOTHING**number))
        if not isfinite(losses[-1]) or losses[-1] > GIVE_UP * lowest:
            break
        lowest = min(lowest, losses[-1])
    first, last = SKIPPED
    some = np.array(losses[first:-last])
    if len(some) < 2:
        return FALLBACK_RATE, len(losses)
    return float(rates[first + int(np.argmin(np.gradient(some)))]), len(losses)


RIVALS: dict[str, Rival] = {
    "fit": of_fit(),
    **{f"B = {size}": of_fit(batch_size=size) for size in FIXED},
    "most rows a second": throughput,
    "gradient noise": noise_scale,
    "as Lightning": lightning_like,
    "no controller": of_fit(controlled=False),
    "optimizer auto": of_fit(optimizer="auto"),
}
"""The first and the last are what comes with nothing set, the last of linear models."""
AS_IT_COMES = {False: "optimizer auto", True: "fit"}
"""For linear models and for networks."""


def rivals_of(is_network: bool) -> dict[str, Rival]:
    """Only networks have a controller, and only linear models an optimizer of their own."""
    left_out = "optimizer auto" if is_network else "no controller"
    return {name: rival for name, rival in RIVALS.items() if name != left_out}
