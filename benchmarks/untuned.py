"""Training with nothing to set: how near the optimum it ends, and what it says of that.

``python -m benchmarks.untuned --data FOLDER`` prints Markdown and writes ``benchmarks/results/untuned.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.optimum import Objective, find_optimum
from benchmarks.untuned_problems import Problem, made_hard, of_our_own, open_data

ROOT = Path(__file__).parents[1]
BATCH_SIZES: tuple[int | str, ...] = (1, 32, 1024, "full", "auto")
NEAR = 1e-3
"""A run is as near as it was asked to be when no more than this share of the gain is left."""
WRONG = 2e-3
"""No run may say that it converged with more than this left."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where a bar is missed."""
    options = _options(arguments)
    cells: list[dict[str, Any]] = []
    for problem in _problems(options):
        if options.only and not any(word in problem.name for word in options.only):
            continue
        cells += list(_cells(problem, options))
    print(markdown(cells))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(cells, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(cell["verdict"] not in ("near", "stated") for cell in cells))


def _problems(options: argparse.Namespace) -> Iterator[Problem]:
    if options.data is not None and "open" in options.parts:
        yield from open_data(options.data)
    if options.data is not None and "hard" in options.parts:
        adult = next(p for p in open_data(options.data) if p.name == "adult")
        yield from made_hard(adult)
    if "own" in options.parts:
        yield from of_our_own(options.seed)


def _cells(problem: Problem, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    reference = find_optimum(problem, options.cache)
    objective = Objective(problem)
    for batch_size in options.batch_sizes:
        cell = _cell(problem, objective, batch_size, reference.lowest, reference.constant)
        print(
            f"{problem.name}, {batch_size}: gap {cell['gap']:.1e}, {cell['stopped']}, estimate "
            f"{_number(cell['estimate'])}, bound {_number(cell['bound'])}, {1000 * cell['seconds']:.0f} ms"
            f"{'' if cell['verdict'] in ('near', 'stated') else '   <<< ' + cell['verdict']}",
            file=sys.stderr,
        )
        yield cell


def _cell(
    problem: Problem, objective: Objective, batch_size: int | str, lowest: float, constant: float
) -> dict[str, Any]:
    model, seconds = _fit(problem, batch_size)
    if seconds < 0.5:
        seconds = min(seconds, _fit(problem, batch_size)[1], _fit(problem, batch_size)[1])
    scores = np.asarray(problem.X @ np.atleast_2d(model.coef_).T.astype(np.float64)) + model.intercept_
    value = objective.of_scores(scores, np.atleast_2d(model.standardized_coef_).astype(np.float64))
    gain = constant - lowest
    gap = (value - lowest) / gain
    history = model.history_
    estimate, bound = model.model_.summary.get("gap_estimate"), model.model_.summary.get("gap_bound")
    return {
        "problem": problem.name,
        "rows": problem.X.shape[0],
        "columns": problem.X.shape[1],
        "batch_size": batch_size,
        "gap": gap,
        "stopped": history.stopped,
        "rule": getattr(history, "rule", None),
        "estimate": None if estimate is None else estimate / gain,
        "bound": None if bound is None else bound / gain,
        "epochs": history.last["epoch"],
        "seconds": seconds,
        "notes": list(history.notes),
        "verdict": _verdict(gap, history.stopped, history.notes, problem.is_finite),
    }


def _verdict(gap: float, stopped: str, notes: list[str], is_finite: bool) -> str:
    if stopped == "converged" and not gap <= WRONG:
        return "wrong"
    if gap <= NEAR:
        return "near"
    return "stated" if not is_finite and notes else "far"


def _fit(problem: Problem, batch_size: int | str) -> tuple[Any, float]:
    from descend import LinearClassifier, LinearRegressor

    kind = LinearRegressor if problem.task == "regression" else LinearClassifier
    model = kind(
        batch_size=min(batch_size, problem.X.shape[0]) if isinstance(batch_size, int) else batch_size,
        alpha=problem.alpha,
        standardize=problem.standardize,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model.fit(problem.X, problem.y)
        return model, time.perf_counter() - start


def markdown(cells: list[dict[str, Any]]) -> str:
    """One line a problem: the gap at every batch size; at the last one the time, and what was said of the gap."""
    sizes = list(dict.fromkeys(cell["batch_size"] for cell in cells))
    head = "| problem | rows × columns | " + " | ".join(f"B = {s}" if s != "auto" else "auto" for s in sizes)
    lines = [head + " | ms | estimate | bound |", "|---|---:|" + "---:|" * (len(sizes) + 3)]
    for name in dict.fromkeys(cell["problem"] for cell in cells):
        row = {cell["batch_size"]: cell for cell in cells if cell["problem"] == name}
        last = row[sizes[-1]]
        lines.append(
            f"| {name} | {last['rows']:,} × {last['columns']:,} | "
            + " | ".join(_gap(row[size]) for size in sizes)
            + f" | {1000 * last['seconds']:.0f} | {_number(last['estimate'])} | {_number(last['bound'])} |"
        )
    return "\n".join(lines)


def _gap(cell: dict[str, Any]) -> str:
    marks = {"near": "", "stated": " ¹", "far": " **far**", "wrong": " **wrong**"}
    said = "" if cell["stopped"] == "converged" else " ²"
    return f"{_number(max(cell['gap'], 0.0))}{said}{marks[cell['verdict']]}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}" if value < 1e-8 else f"{value:.1e}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.untuned", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="a folder of open data; without it the made-up tables alone"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=("open", "hard", "own"), default=["open", "hard", "own"]
    )
    parser.add_argument("--only", nargs="+", help="problems whose name holds one of these words")
    parser.add_argument(
        "--batch-sizes", nargs="+", default=list(BATCH_SIZES), type=lambda t: int(t) if t.isdigit() else t
    )
    parser.add_argument("--seed", type=int, default=0, help="of the made-up tables")
    parser.add_argument("--cache", type=Path, help="a folder where optima are kept between runs")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/untuned.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
