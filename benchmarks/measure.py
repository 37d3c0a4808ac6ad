"""Timing: everything in one process, warmed up, interleaved, medians; and the check that nobody cheats."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

from numpy.typing import NDArray

from benchmarks.competitors import Competitor
from benchmarks.problem import Problem

FEWEST_STEPS = 50
PROBE_SECONDS = 0.03
CHECK_ROWS = 2_000
CHECK_NUMBERS = 1_000_000
FEWEST_ROWS = 500
CHECK_EPOCHS = 5
TOLERANCE = 0.02
"""Final losses may differ by this share of what training gained: everyone shuffles in its own order."""


@dataclass(frozen=True)
class Timing:
    """Seconds, wall and processor, of one epoch or of several; and the parameters at the end."""

    seconds: float
    cpu_seconds: float
    parameters: NDArray[Any]


@dataclass
class Runner:
    """One competitor at one batch size. ``steps`` None: whole epochs; ``share``: of the rows that it got."""

    competitor: Competitor
    label: int | str
    steps: int | None
    share: float
    timings: list[Timing]


def check_answers(problem: Problem, classes: Sequence[type[Competitor]]) -> dict[str, Any]:
    """Trains everyone on the first rows for as many epochs, and compares the final losses."""
    few = problem.first_rows(min(CHECK_ROWS, max(FEWEST_ROWS, CHECK_NUMBERS // problem.num_columns)))
    comparable = [c for c in classes if c.same_algorithm(few) and (few.batch_size == 1 or not c.row_a_step)]
    losses = {c.name: few.loss(c(few).train(CHECK_EPOCHS)) for c in comparable}
    return {"rows": few.num_rows, "epochs": CHECK_EPOCHS} | _agreement(few, losses)


def check_timed(problem: Problem, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compares the final losses of the runs that were timed, where all rows and as many epochs ran."""
    losses = {
        result["competitor"]: result["final_loss"]
        for result in results
        if result["final_loss"] is not None and result["batch_size"] == problem.batch_size
    }
    return {"rows": problem.num_rows, "epochs": problem.epochs_timed} | _agreement(problem, losses)


def _agreement(problem: Problem, losses: dict[str, float]) -> dict[str, Any]:
    middle = median(losses.values())
    gained = problem.loss_at_zero - middle
    worst = max(abs(loss - middle) for loss in losses.values()) / gained
    return {
        "first_loss": problem.loss_at_zero,
        "losses": losses,
        "largest_difference": worst,
        "agree": bool(gained > 0 and worst <= TOLERANCE),
    }


def measure(
    problem: Problem,
    classes: Sequence[type[Competitor]],
    batch_sizes: Sequence[int | str],
    repeats: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[list[dict[str, Any]]]:
    """Figures of every competitor, a list for each batch size.

    All of them take turns at all batch sizes, in an order that rotates. Those that have no batch size are timed
    once a round, and the figure stands beside all sizes.
    """
    runners = [
        runner
        for c in classes
        for size in (batch_sizes[:1] if c.row_a_step else batch_sizes)
        if c.row_a_step or c.batch_sizes is None or size in c.batch_sizes
        if (runner := _prepare(c, problem, size, say))
    ]
    for repeat in range(repeats):
        gc.collect()
        began = time.perf_counter(), time.process_time()
        for turn in range(len(runners)):
            runner = runners[(turn + repeat * len(runners) // repeats) % len(runners)]
            runner.timings.append(_time_epoch(runner))
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        say(f"  round {repeat + 1}: {wall:.1f} s, {cpu:.1f} s of the processor")
    figures = [(runner.label, _figures(runner)) for runner in runners]
    return [[f for label, f in figures if label in (size, "any")] for size in batch_sizes]


def _prepare(
    kind: type[Competitor], problem: Problem, size: int | str, say: Callable[[str], None]
) -> Runner | None:
    """Also the warm-up: what compiles has compiled afterwards."""
    p = problem.with_batch_size(1 if kind.row_a_step else size)
    share = min(1.0, kind.most_numbers / (p.num_numbers * p.num_outputs))
    rows = max(1, round(share * p.num_rows))
    began = time.process_time()
    competitor = kind(p if rows == p.num_rows else p.first_rows(rows))
    steps = _steps_worth_waiting_for(competitor)
    say(f"  {kind.name}, {size}: warm after {time.process_time() - began:.1f} s of the processor")
    return Runner(competitor, "any" if kind.row_a_step else size, steps, rows / p.num_rows, [])


def _steps_worth_waiting_for(competitor: Competitor) -> int | None:
    total = len(competitor.starts(None))
    if competitor.patience is None or total <= FEWEST_STEPS:
        competitor.train(1)
        return None
    steps, seconds = FEWEST_STEPS, 0.0
    while seconds < PROBE_SECONDS and steps < total:
        competitor.train(1, steps)
        seconds = _timed(competitor, 1, steps).seconds
        if seconds < PROBE_SECONDS:
            steps *= 4
    affordable = max(FEWEST_STEPS, int(min(steps, total) * competitor.patience / max(seconds, 1e-9)))
    cut = affordable if affordable < total else None
    competitor.train(1, cut)
    return cut


def _time_epoch(runner: Runner) -> Timing:
    """Both runs begin from zero, so that what happens once cancels. Where noise is larger, it is not taken off.

    A run before them finds caches and memory as others left them: that is not to be the first one's alone.
    """
    epochs = runner.competitor.epochs(runner.competitor.problem)
    runner.competitor.train(1, runner.steps)
    once = _timed(runner.competitor, 1, runner.steps)
    many = _timed(runner.competitor, epochs, runner.steps)
    seconds = (many.seconds - once.seconds) / (epochs - 1)
    cpu_seconds = (many.cpu_seconds - once.cpu_seconds) / (epochs - 1)
    return Timing(
        seconds if seconds > 0 else many.seconds / epochs,
        cpu_seconds if cpu_seconds > 0 else many.cpu_seconds / epochs,
        many.parameters,
    )


def _timed(competitor: Competitor, epochs: int, steps: int | None) -> Timing:
    cpu, start = time.process_time(), time.perf_counter()
    parameters = competitor.train(epochs, steps)
    return Timing(time.perf_counter() - start, time.process_time() - cpu, parameters)


def _figures(runner: Runner) -> dict[str, Any]:
    competitor, p = runner.competitor, runner.competitor.problem
    total = ceil(p.num_rows / p.batch_size)
    scale = (1.0 if runner.steps is None else total / runner.steps) / runner.share
    seconds = sorted(t.seconds * scale for t in runner.timings)
    epochs = competitor.epochs(p)
    whole = runner.steps is None and runner.share == 1.0 and epochs == p.epochs_timed
    return {
        "competitor": competitor.name,
        "batch_size": p.batch_size,
        "row_a_step": competitor.row_a_step,
        "seconds": median(seconds),
        "low": seconds[0],
        "high": seconds[-1],
        "cpu_seconds": median(t.cpu_seconds * scale for t in runner.timings),
        "share_timed": 1.0 / scale,
        "epochs_timed": epochs,
        "final_loss": p.loss(runner.timings[-1].parameters)
        if whole and competitor.same_algorithm(p)
        else None,
    }
