"""What it costs not to know batch size and learning rate: ``python -m benchmarks.regret --data FOLDER``.

Regret is the time in which ``fit`` with everything left to it comes to a target, its search for the rate counted,
over that of the best run of a full grid (batch size × rate), whose search costs nothing. Two oracles, never mixed:
``raw``, a constant rate and the last weights; ``free``, which may also average the tail, or let the rate fall to zero
at an end that it chose best. The target is what is left of (first − lowest) loss on rows that no algorithm sees,
``lowest`` being the grid's. The clock is simulated: rows, times the least seconds a row of this batch size, plus 0.4
of that for a row that is only evaluated. Seeds are scored one by one; a target that is missed is counted apart.
Linear models are scored with the grid's optimizer, and with the one that ``fit`` takes by itself: that one is
certified, works on all rows at once, and has no row's price, so its seconds are those of the wall.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from math import exp, inf, log
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regret_runs import grid_run, our_run, row_seconds
from benchmarks.regret_workloads import FEW, NAMES, Workload, workloads

ROOT = Path(__file__).parents[1]
SIZES = (8, 32, 128)
MOST_RATES = 16
ORACLES = ("raw", "free")
RIVALS: dict[str, dict[str, Any]] = {
    "fit": {},
    "fit, B = 8": {"batch_size": 8},
    "fit, B = 256": {"batch_size": 256},
    "fit, no controller": {"controlled": False},
    "fit, optimizer auto": {"optimizer": "auto"},
}
BY_WALL = "fit, optimizer auto"
"""Of linear models alone."""
AS_IT_COMES = "fit; linear with optimizer auto"
SHORT = 0.010
"""Jobs below so many seconds are told apart: nobody can feel them."""


def grid(workload: Workload, options: argparse.Namespace, seconds: dict[int, float]) -> dict[str, list[Any]]:
    """All curves of one seed's grid, by oracle: (batch size, rate, decay, curve)."""
    num_rows = options.epochs * workload.engine.num_rows
    found: dict[str, list[Any]] = {name: [] for name in ORACLES}
    for size in options.batch_sizes:
        seconds[size] = row_seconds(workload, size)
        for rate in _rates(workload, size):
            raw, averaged = grid_run(workload, size, rate, num_rows, options.seeds[0])
            found["raw"].append((size, rate, False, raw))
            found["free"].append((size, rate, False, averaged))
            if not raw.losses[-1] < raw.losses[0]:
                break  # rates above are higher still
            length = num_rows // 2 ** (options.decays - 1)
            while length <= num_rows:
                decayed = grid_run(workload, size, rate, length, options.seeds[0], decay=True)[1]
                found["free"].append((size, rate, True, decayed))
                length *= 2
    return found


def _rates(workload: Workload, batch_size: int) -> Iterator[float]:
    """Doubling from far below what any could want; whoever asks stops where they are too high."""
    from descend.batch_size.ladder import lowest_rate

    name = workload.settings.optimizer
    start = 1e-4 if name == "adam" else 4.0 * lowest_rate(workload.prepared.train, workload.loss)
    for power in range(MOST_RATES):
        yield start * 2.0**power * (0.1 if name == "momentum" else 1.0)


def score(workload: Workload, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record a seed, target, rival and oracle."""
    seconds: dict[int, float] = {}
    curves = grid(workload, options, seconds)
    first = workload.target.mean_loss(workload.first_state(options.seeds[0]).parameters)
    lowest = min(min(curve.losses) for runs in curves.values() for *_, curve in runs)
    levels = [lowest + share * (first - lowest) for share in workload.targets]
    best = {(oracle, level): _best(curves[oracle], level, seconds) for oracle in ORACLES for level in levels}
    for rival, how in RIVALS.items():
        if workload.is_network == (rival == BY_WALL) and rival in (BY_WALL, "fit, no controller"):
            continue
        if rival == BY_WALL:
            our_run(workload, options.seeds[0], **how)  # kernels are loaded by the first
        for seed in options.seeds:
            curve, size, stopped = our_run(workload, seed, **how)
            a_row = seconds.setdefault(size, row_seconds(workload, size))
            for level, name in zip(levels, ("loose", "medium", "tight"), strict=True):
                place = curve.reached(level)
                wall = None if place is None else curve.wall[place]
                ours = wall if place is None or rival == BY_WALL else curve.rows[place] * a_row
                for oracle in ORACLES:
                    needed, winner = best[oracle, level]
                    yield {
                        "workload": workload.name,
                        "rival": rival,
                        "seed": seed,
                        "target": name,
                        "oracle": oracle,
                        "oracle_seconds": needed,
                        "oracle_run": winner,
                        "seconds": ours,
                        "wall_seconds": wall,
                        "regret": None if ours is None or not needed < inf else ours / needed,
                        "batch_size": size,
                        "stopped": stopped,
                    }


def as_it_comes(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Linear models with the optimizer that ``fit`` takes by itself, networks with the grid's."""
    linear = {c["workload"] for c in cells if c["rival"] == BY_WALL}
    return [c for c in cells if c["rival"] == (BY_WALL if c["workload"] in linear else "fit")]


def _best(runs: list[Any], level: float, seconds: dict[int, float]) -> tuple[float, Any]:
    best: tuple[float, Any] = (inf, None)
    for size, rate, decay, curve in runs:
        place = curve.reached(level)
        if place is not None and curve.rows[place] * seconds[size] < best[0]:
            best = curve.rows[place] * seconds[size], [size, rate, decay]
    return best


def markdown(cells: list[dict[str, Any]]) -> str:
    """A line for each rival, oracle and length of job."""
    lines = ["| rival | oracle | jobs | outcomes | missed | geometric mean | 90th percentile | worst |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    for oracle in ORACLES:
        for rival in (*RIVALS, AS_IT_COMES):
            ours = as_it_comes(cells) if rival == AS_IT_COMES else [c for c in cells if c["rival"] == rival]
            for words, low, high in (("≥ 10 ms", SHORT, inf), ("shorter", 0.0, SHORT)):
                some = [c for c in ours if c["oracle"] == oracle and low <= c["oracle_seconds"] < high]
                if some:
                    lines.append(f"| {rival} | {oracle} | {words} | {summary(some)} |")
    lines += ["", "| workload | " + " | ".join(f"{o}: {t}" for o in ORACLES for t in ("L", "M", "T")) + " |"]
    lines.append("|---|" + "---:|" * 6)
    for name, rival in dict.fromkeys((c["workload"], c["rival"]) for c in cells):
        if rival not in ("fit", BY_WALL):
            continue
        row = []
        for oracle in ORACLES:
            for target in ("loose", "medium", "tight"):
                some = [
                    c
                    for c in cells
                    if (c["workload"], c["oracle"], c["target"], c["rival"]) == (name, oracle, target, rival)
                ]
                row.append(_cell(some))
        words = f"{name}, optimizer auto" if rival == BY_WALL else name
        lines.append(f"| {words} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def summary(cells: list[dict[str, Any]]) -> str:
    """Outcomes, missed, geometric mean, 90th percentile and worst of those that arrived."""
    regrets = [c["regret"] for c in cells if c["regret"] is not None]
    missed = len(cells) - len(regrets)
    if not regrets:
        return f"{len(cells)} | {missed} | – | – | –"
    mean = exp(sum(map(log, regrets)) / len(regrets))
    tenth = float(np.quantile([inf] * missed + regrets, 0.9, method="higher"))
    return f"{len(cells)} | {missed} | {mean:.2f} | {tenth:.1f} | {max(regrets):.1f}"


def _cell(cells: list[dict[str, Any]]) -> str:
    """The median regret, how many were missed, and the oracle's milliseconds."""
    if not cells or not cells[0]["oracle_seconds"] < inf:
        return "–"
    regrets = [c["regret"] for c in cells if c["regret"] is not None]
    missed = len(cells) - len(regrets)
    text = f"{np.median(regrets):.2f}" if regrets else "never"
    return f"{text}{f' ({missed} missed)' if missed else ''} of {1000 * cells[0]['oracle_seconds']:.0f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables and writes the results."""
    options = _options(arguments)
    from descend.machine import describe_machine

    cells: list[dict[str, Any]] = []
    names = NAMES if options.all else FEW
    names = tuple(n for n in names if not options.only or any(word in n for word in options.only))
    machine = describe_machine()
    for workload in workloads(options.data, names, options.hidden):
        start = time.perf_counter()
        cells += score(workload, options)
        print(f"{workload.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(markdown(cells))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        record = {"machine": machine, "options": _written(options), "cells": cells}
        options.output.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _written(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("data", "output")}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regret", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of open data")
    parser.add_argument("--all", action="store_true", help="every workload, not a few: an hour")
    parser.add_argument("--only", nargs="+", help="workloads whose name holds one of these words")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of fit; the grid has the first"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(SIZES), help="of the grid")
    parser.add_argument("--epochs", type=int, default=32, help="the longest run of the grid")
    parser.add_argument("--decays", type=int, default=5, help="lengths of a falling rate, each half the next")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/regret.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
