"""Batches that grow where a learning rate would fall: twice the rows leave as little noise as half the rate.

    the rate falls by stages, as a schedule or a network's phases have it
    in each stage    as many times more rows as the rate would have fallen, while that is cheap
                     the rate falls by the rest

Cheap is what takes less than 1.3 times as long for twice the rows: below the knee of t(B), where the cost is the
step's and not the rows'. Above it growing batches did not pay when they were tried. With optimizers whose step does
not follow the gradient's length noise falls with the root of the rows, so half the rate is worth four times the rows.

Stages are whole epochs, so the clock of a schedule is rows and not steps, of which larger batches take fewer. t(B) is
measured once, before the first step; from then on nothing depends on the time of day.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import sqrt
from statistics import median
from typing import Any

import numpy as np

from descend.engines.base import Rule, State
from descend.errors import InputError
from descend.recipe import Phase
from descend.types import IntArray
from descend.updates.schedules import COSINE, LINEAR, PLATEAU, PLATEAU_FACTOR, STEP, rate_at

CHEAP = 1.3
ROUNDS = 7
SLICE_SECONDS = 5e-4
PLATEAU_STAGES = 4
"""Of the schedule "plateau": three falls at which batches may grow; behind them the rate falls alone."""
FEWEST_BATCHES = 4
"""In an epoch, however cheap larger ones were."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How many times more rows are still cheap, and what twice as many as those take over them; None: not tried."""

    most: int
    dearer: float | None


def check_falls(schedule: str, falls_by_itself: bool) -> None:
    """Raises ``InputError`` where there is no falling rate in whose place batches could grow."""
    if schedule == "inverse-scaling":
        raise InputError(
            'batch size "growing" does not go with schedule inverse-scaling, which never comes to an end that larger '
            "batches could take over; take schedule step, cosine or linear (with a number of epochs), or plateau"
        )
    if schedule == "constant" and not falls_by_itself:
        raise InputError(
            'batch size "growing" needs a learning rate that falls, in whose place batches grow: take schedule step, '
            "cosine or linear (with a number of epochs), or plateau, with an optimizer such as sgd; networks may "
            'leave learning_rate="auto" instead'
        )


def staged(phase: Phase, epochs: int) -> tuple[Phase, ...]:
    """The phase in stages of whole epochs, in each of which the rate of its schedule is constant.

    The schedule "plateau" leaves a stage where it would let the rate fall.

    >>> from descend.updates import OPTIMIZERS
    >>> phase = Phase("sgd", Rule(OPTIMIZERS["sgd"], 1.0, schedule=STEP), batch_size=32, epochs=6)
    >>> [(stage.epochs, round(stage.rule.rate, 9)) for stage in staged(phase, 6)]
    [(2, 1.0), (2, 0.1), (2, 0.01)]
    """
    kind, rate = phase.rule.schedule, phase.rule.rate
    constant = replace(phase.rule, schedule=0)
    if kind == PLATEAU:
        falling = [replace(constant, rate=rate * PLATEAU_FACTOR**n) for n in range(PLATEAU_STAGES)]
        return tuple(
            replace(phase, rule=rule, when_flat="" if n + 1 == PLATEAU_STAGES else "plateau")
            for n, rule in enumerate(falling)
        )
    assert kind in (STEP, COSINE, LINEAR)
    rates = [rate_at(kind, rate, epoch + 1, epochs) for epoch in range(epochs)]
    return tuple(
        replace(phase, rule=replace(constant, rate=value), epochs=len(list(same)))
        for value, same in groupby(rates)
    )


def grown(phases: Sequence[Phase], growth: Growth) -> tuple[Phase, ...]:
    """The phases with batches as many times larger as the rate has fallen since the first, or as is cheap."""
    first = phases[0]
    return tuple(_grown(phase, phase.rule.rate / first.rule.rate, growth.most) for phase in phases)


def _grown(phase: Phase, share: float, most: int) -> Phase:
    rule = phase.rule
    root = rule.optimizer.scale_free
    times = 1
    while 2 * times <= most and _worth(2 * times, root) * share <= 1.0 + 1e-9:
        times *= 2
    rate = rule.rate * _worth(times, root) / (times if rule.sum_rows else 1)
    # Equal stages that a schedule keeps apart (cosine's rates differ by little) are still its own: none is merged.
    return replace(phase, batch_size=phase.batch_size * times, rule=replace(rule, rate=rate))


def _worth(times: int, root: bool) -> float:
    """What so many times more rows make up for in the rate."""
    return sqrt(times) if root else float(times)


def measure_growth(engine: Any, state: State, phases: Sequence[Phase], rows: IntArray) -> Growth:
    """Times steps of twice the rows, and again, while they are cheap, the rate falls so far, and rows last."""
    first, lowest = phases[0], min(phase.rule.rate for phase in phases)
    rule = replace(first.rule, rate=1e-30, schedule=0)
    probe = State(state.parameters.copy())
    most = 1
    while _worth(2 * most, rule.optimizer.scale_free) * lowest <= first.rule.rate * (1.0 + 1e-9):
        size = first.batch_size * most
        if FEWEST_BATCHES * 2 * size > len(rows):
            break
        dearer = _ratio(engine, probe, rule, rows, size)
        if dearer >= CHEAP:
            return Growth(most, dearer)
        most *= 2
    return Growth(most, None)


def _ratio(engine: Any, probe: State, rule: Rule, rows: IntArray, size: int) -> float:
    """How many times as long a step of twice the rows takes: medians of turns, one beside the other."""
    times: dict[int, list[float]] = {size: [], 2 * size: []}
    counts = {one: max(1, int(SLICE_SECONDS / _seconds(engine, probe, rule, rows, one, 1))) for one in times}
    for _ in range(ROUNDS):
        for one, taken in times.items():
            taken.append(_seconds(engine, probe, rule, rows, one, counts[one]))
    return median(times[2 * size]) / median(times[size])


def _seconds(engine: Any, probe: State, rule: Rule, rows: IntArray, size: int, count: int) -> float:
    some = np.resize(rows, size * count)
    started = time.perf_counter()
    engine.run(probe, rule, some, size)
    taken: float = time.perf_counter() - started
    return max(1e-9, taken) / count


def in_words(phases: Sequence[Phase], growth: Growth) -> str:
    """What batches do, and why no more."""
    sizes = list(dict.fromkeys(phase.batch_size for phase in phases))
    measured = "measured once, before the first step: on another machine it may be otherwise"
    dearer = ""
    if growth.dearer is not None:
        size = sizes[0] * growth.most
        dearer = (
            f"{2 * size:,} rows take {growth.dearer:.2g} times as long a step as {size:,}, and more than {CHEAP:g} "
            f"does not pay ({measured})"
        )
    if len(sizes) == 1:
        why = dearer or "there are too few rows for larger ones"
        return f"growing, but here the rate falls in their place: {why}"
    ways = ", ".join(f"{size:,}" for size in sizes)
    return f"growing where the rate would fall: {ways}" + (f"; {dearer}" if dearer else "")
