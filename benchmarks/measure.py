"""Timing: everything in one process, warmed up, interleaved, medians; and the check that nobody cheats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors import Competitor
from benchmarks.problem import Problem

FEWEST_STEPS = 200
PROBE_SECONDS = 0.05
EPOCH_SECONDS = 0.1
"""An epoch that would take longer is cut to so many steps that it does not; the result is scaled up."""
CHECK_ROWS = 5_000
CHECK_EPOCHS = 5
TOLERANCE = 0.02
"""Final losses may differ by this share of what training gained: everyone shuffles in its own order."""


@dataclass(frozen=True)
class Timing:
    """Seconds, wall and processor, of one epoch or of several; and the parameters at the end."""

    seconds: float
    cpu_seconds: float
    parameters: NDArray[Any]


def check_answers(problem: Problem, classes: Sequence[type[Competitor]]) -> dict[str, Any]:
    """Trains everyone on the first rows for as many epochs, and compares the final losses."""
    few = problem.first_rows(min(CHECK_ROWS, problem.num_rows))
    comparable = [c for c in classes if c.only_batch_size in (None, few.batch_size)]
    losses = {c.name: few.loss(c(few).train(CHECK_EPOCHS)) for c in comparable}
    return {"rows": few.num_rows, "epochs": CHECK_EPOCHS} | _agreement(few, losses)


def check_timed(problem: Problem, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compares the final losses of the runs that were timed, where whole epochs and as many of them ran."""
    losses = {
        result["competitor"]: result["final_loss"]
        for result in results
        if result["batch_size"] == problem.batch_size
        and result["steps_timed"] == result["steps"]
        and result["epochs_timed"] == Competitor.many_epochs
    }
    return {"rows": problem.num_rows, "epochs": Competitor.many_epochs} | _agreement(problem, losses)


def _agreement(problem: Problem, losses: dict[str, float]) -> dict[str, Any]:
    start = problem.loss(np.zeros(problem.num_columns + 1))
    middle = median(losses.values())
    gained = start - middle
    worst = max(abs(loss - middle) for loss in losses.values()) / gained
    return {
        "first_loss": start,
        "losses": losses,
        "largest_difference": worst,
        "agree": bool(gained > 0 and worst <= TOLERANCE),
    }


def measure(problem: Problem, classes: Sequence[type[Competitor]], repeats: int) -> list[dict[str, Any]]:
    """One row of figures for each competitor; the order in which they take turns rotates."""
    runners = [c(problem) for c in classes]
    steps = [_steps_worth_waiting_for(runner) for runner in runners]
    timings: list[list[Timing]] = [[] for _ in runners]
    for repeat in range(repeats):
        for turn in range(len(runners)):
            i = (turn + repeat) % len(runners)
            timings[i].append(_time_epoch(runners[i], steps[i]))
    return [_figures(runner, steps[i], timings[i]) for i, runner in enumerate(runners)]


def _figures(runner: Competitor, steps: int | None, timings: list[Timing]) -> dict[str, Any]:
    p = runner.problem
    size = runner.only_batch_size or p.batch_size
    total = ceil(p.num_rows / size)
    scale = 1.0 if steps is None else total / steps
    seconds = sorted(t.seconds * scale for t in timings)
    return {
        "competitor": runner.name,
        "batch_size": size,
        "seconds": median(seconds),
        "low": seconds[0],
        "high": seconds[-1],
        "cpu_seconds": median(t.cpu_seconds * scale for t in timings),
        "steps_timed": total if steps is None else steps,
        "steps": total,
        "epochs_timed": runner.many_epochs,
        "final_loss": p.loss(timings[-1].parameters),
    }


def _steps_worth_waiting_for(runner: Competitor) -> int | None:
    """None: whole epochs. Also the warm-up: what compiles has compiled afterwards."""
    total = len(runner.starts(None))
    if runner.whole_epochs or total <= FEWEST_STEPS:
        runner.train(2)
        return None
    steps, seconds = FEWEST_STEPS, 0.0
    while seconds < PROBE_SECONDS and steps < total:
        steps *= 4
        runner.train(1, steps)
        seconds = _timed(runner, 1, steps).seconds
    affordable = max(FEWEST_STEPS, int(steps * EPOCH_SECONDS / max(seconds, 1e-9)))
    cut = affordable if affordable < total else None
    runner.train(2, cut)
    return cut


def _time_epoch(runner: Competitor, steps: int | None) -> Timing:
    once = _timed(runner, 1, steps)
    many = _timed(runner, runner.many_epochs, steps)
    between = runner.many_epochs - 1
    return Timing(
        (many.seconds - once.seconds) / between,
        (many.cpu_seconds - once.cpu_seconds) / between,
        many.parameters,
    )


def _timed(runner: Competitor, epochs: int, steps: int | None) -> Timing:
    cpu, start = time.process_time(), time.perf_counter()
    parameters = runner.train(epochs, steps)
    return Timing(time.perf_counter() - start, time.process_time() - cpu, parameters)
