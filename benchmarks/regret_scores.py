"""One workload scored: the grid, every rival with every seed, and the best runs of the grid again by the wall."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from math import inf
from statistics import median
from typing import Any

from benchmarks.regret_grid import ORACLES, Cell, again, best_by_size, best_of, grid
from benchmarks.regret_rivals import AS_IT_COMES, RIVALS, Goal, Outcome, rivals_of
from benchmarks.regret_runs import Curve, Prices
from benchmarks.regret_workloads import Workload

TARGETS = ("loose", "medium", "tight")


def score(workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """The record of a workload: JSON-able, seconds by the simulated clock, and under ``wall`` by the real one."""
    prices, rivals = Prices(workload), rivals_of(workload.is_network)
    seeds = options.seeds
    ours = [RIVALS["fit"](workload, prices, seed, Goal()) for seed in seeds]
    sizes = sorted({*options.batch_sizes, ours[0].batch_size})
    num_rows = options.epochs * workload.engine.num_rows
    cells = grid(workload, sizes, num_rows, options.decays, seeds[0])
    prices.measure(sizes)
    first = workload.target.mean_loss(workload.first_state(seeds[0]).parameters)
    lowest = min(min(cell.curve.losses) for runs in cells.values() for cell in runs)
    levels = [lowest + share * (first - lowest) for share in workload.targets]
    winners = {(o, t): best_of(cells[o], level, prices) for o in ORACLES for t, level in enumerate(levels)}
    needed = winners["raw", 2][0]
    goal = Goal(levels[-1], needed if needed < inf else num_rows * max(prices[size] for size in sizes))
    runs = []
    for name, rival in rivals.items():
        if name == "optimizer auto":
            rival(workload, prices, seeds[0], goal)  # its kernels are loaded by the first
        outcomes = ours if name == "fit" else [rival(workload, prices, seed, goal) for seed in seeds]
        for seed, outcome in zip(seeds, outcomes, strict=True):
            price = None if name == "optimizer auto" else prices[outcome.batch_size]
            runs.append(run_record(name, seed, outcome, levels, price))
    return {
        "workload": workload.name,
        "network": workload.is_network,
        "clock": "simulated",
        "rows": workload.engine.num_rows,
        "columns": workload.prepared.train.num_columns,
        "price": {str(size): prices[size] for size in sorted(prices)},
        "targets": target_records(levels, cells, winners, prices),
        "runs": runs,
        "wall": by_wall(
            {
                name: lambda seed, name=name: rivals[name](workload, prices, seed, goal).curve  # type: ignore[misc]
                for name in dict.fromkeys(("fit", AS_IT_COMES[workload.is_network]))
            },
            {
                key: (lambda key=key, cell=cell: again(workload, key[0], cell, levels[key[1]], seeds[0]))  # type: ignore[misc]
                for key, (_, cell) in winners.items()
                if cell is not None
            },
            levels,
            seeds,
            options.repeats,
        ),
    }


def run_record(
    name: str, seed: int, outcome: Outcome, levels: list[float], price: float | None
) -> dict[str, Any]:
    """When a run came to each level, tuning counted, and how much of it was tuning; None where it did not.

    ``price`` None: a run over all rows at once, which has no row's price, is told by its own clock.
    """
    curve, seconds, tuning = outcome.curve, [], []
    for level in levels:
        place = curve.reached(level)
        if place is None:
            seconds.append(None)
            tuning.append(None)
        elif price is None:
            seconds.append(curve.training[place])
            tuning.append(0.0)
        else:
            seconds.append(outcome.before + price * curve.rows[place])
            tuning.append(outcome.before + price * curve.tuning[place])
    return {
        "rival": name,
        "seed": seed,
        "batch_size": outcome.batch_size,
        "stopped": outcome.stopped,
        "seconds": seconds,
        "tuning": tuning,
    }


def target_records(
    levels: list[float],
    cells: Mapping[str, list[Cell]],
    winners: Mapping[tuple[str, int], tuple[float, Cell | None]],
    prices: Mapping[int, float],
) -> list[dict[str, Any]]:
    """What the grid needs to each target: seconds, whose run, the best at each size; None: it never came there."""
    records = []
    for number, (name, level) in enumerate(zip(TARGETS, levels, strict=True)):
        record: dict[str, Any] = {"target": name, "level": level}
        for oracle in ORACLES:
            seconds, cell = winners[oracle, number]
            record[oracle] = cell and {
                "seconds": seconds,
                "run": cell.to_json(),
                "at_size": best_by_size(cells[oracle], level, prices),
            }
        records.append(record)
    return records


def by_wall(
    ours: Mapping[str, Callable[[int], Curve]],
    winners: Mapping[tuple[str, int], Callable[[], Curve]],
    levels: list[float],
    seeds: list[int],
    repeats: int,
) -> list[dict[str, Any]]:
    """Seconds of the wall to each target, of the grid's best runs (medians) and of ours, all of them in turns."""
    theirs: dict[tuple[str, int], list[float]] = {key: [] for key in winners}
    own: dict[str, list[list[float | None]]] = {name: [] for name in ours}
    for repeat in range(repeats):
        for name, run in ours.items():
            own[name].append([_wall_of(run(seeds[repeat % len(seeds)]), level) for level in levels])
        for key, winner in winners.items():
            seconds = _wall_of(winner(), levels[key[1]])
            if seconds is not None:
                theirs[key].append(seconds)
    return [
        {
            "oracle": oracle,
            "target": TARGETS[number],
            "seconds": median(theirs[oracle, number]),
            "ours": {name: [row[number] for row in rows] for name, rows in own.items()},
        }
        for oracle, number in winners
        if theirs[oracle, number]
    ]


def _wall_of(curve: Curve, level: float) -> float | None:
    place = curve.reached(level)
    return None if place is None else curve.wall[place]
