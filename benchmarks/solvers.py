"""The time of a default fit against scikit-learn's solvers: ``python -m benchmarks.solvers --data FOLDER``.

descend's ``fit`` with nothing set is timed whole: its scaling of columns, its certificate and all. Each solver of
scikit-learn gets columns that are standardised already, and the smallest ``max_iter`` that
comes within ``GAP`` of the optimum; its own stopping rule is off. Everybody takes turns, one thread each, and what
counts is the least processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from benchmarks.optimum import Objective, find_optimum
from benchmarks.untuned import ROOT, _fit
from benchmarks.untuned_problems import Problem, open_data

GAP = 1e-3
"""Nobody has to come nearer than this share of the gain."""
TOO_SLOW = 2.0
"""A solver is given up when one fit takes this many times as long as the quickest that has arrived."""
MOST_SECONDS = 3.0
WHOLE = ("lbfgs", "newton-cg", "newton-cholesky", "liblinear")
STOCHASTIC = ("sag", "saga")
RATES = tuple(10.0**power for power in range(-4, 0))
"""``eta0`` of the tuned SGD: the best of these, the search not counted."""

Solver = Callable[[int], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    from threadpoolctl import threadpool_limits

    options = _options(arguments)
    cells: list[dict[str, Any]] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for problem in open_data(options.data):
            if not options.only or any(word in problem.name for word in options.only):
                cells += _cells(problem, options)
    print(markdown(cells))
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(cells, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _cells(problem: Problem, options: argparse.Namespace) -> list[dict[str, Any]]:
    reference, objective = find_optimum(problem, options.cache), Objective(problem)
    gain = reference.constant - reference.lowest

    def gap_of(model: Any, X: Any) -> float:
        coefficients = np.atleast_2d(model.coef_).astype(np.float64)
        scores = np.asarray(X @ coefficients.T) + np.ravel(model.intercept_)
        if scores.shape[1] != objective.k:
            return float("inf")
        return (objective.of_scores(scores, coefficients) - reference.lowest) / gain

    X = objective.X.astype(problem.X.dtype)
    quickest: dict[str, tuple[float, int]] = {}
    fits: dict[str, Solver] = _solvers(problem, X, any(isinstance(size, int) for size in options.batch_sizes))
    for name, solve in fits.items():
        alike = [seconds for other, (seconds, _) in quickest.items() if (other in WHOLE) == (name in WHOLE)]
        found = _fewest(
            solve, lambda model: gap_of(model, X), GAP, TOO_SLOW * min(alike, default=MOST_SECONDS)
        )
        told = "too slow" if found is None else f"{found[1]} iterations, {1000 * found[0]:.0f} ms"
        print(f"{problem.name}: {name}, {told}", file=sys.stderr)
        if found is not None:
            quickest[name] = found
    rows = []
    times: dict[str, list[float]] = {name: [] for name in [*quickest, *map(str, options.batch_sizes)]}
    for _ in range(options.repeats):
        for size in options.batch_sizes:
            times[str(size)].append(_seconds(lambda size=size: _fit(problem, size)))
        for name, (_, iterations) in quickest.items():
            times[name].append(_seconds(lambda name=name, most=iterations: fits[name](most)))
    least = {name: min(seconds) for name, seconds in times.items()}
    for size in options.batch_sizes:
        stochastic = isinstance(size, int)
        rivals = {n: least[n] for n in quickest if not stochastic or n.startswith(("sag", "SGD"))}
        best = min(rivals, key=rivals.__getitem__, default=None)
        rows.append(
            {
                "problem": problem.name,
                "batch_size": size,
                "seconds": least[str(size)],
                "rival": best,
                "rival_seconds": None if best is None else rivals[best],
                "iterations": None if best is None else quickest[best][1],
                "ratio": None if best is None else rivals[best] / least[str(size)],
                "all": rivals,
            }
        )
        print(
            f"{problem.name}, {size}: {1000 * least[str(size)]:.0f} ms; {best} "
            f"{1000 * rivals.get(best or '', float('nan')):.0f} ms",
            file=sys.stderr,
        )
    return rows


def _solvers(problem: Problem, X: Any, stochastic: bool) -> dict[str, Solver]:
    """Each solver as a function of its iterations, on standardised columns."""
    from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor

    y, n, alpha = problem.y, X.shape[0], problem.alpha
    several = problem.task == "classification" and len(np.unique(y)) > 2
    found: dict[str, Solver] = {}
    if problem.task == "regression":
        for solver in ("cholesky", "svd", "lsqr", "sparse_cg", *STOCHASTIC):
            found[solver] = lambda most, s=solver: Ridge(
                alpha=n * alpha, solver=s, max_iter=most, tol=1e-12, random_state=0
            ).fit(X, y)  # fmt: skip
    else:
        for solver in (*WHOLE, *STOCHASTIC):
            if several and solver == "liblinear":
                continue
            found[solver] = lambda most, s=solver: LogisticRegression(
                C=1 / (n * alpha), solver=s, max_iter=most, tol=1e-12, random_state=0
            ).fit(X, y)  # fmt: skip
    Sgd = SGDRegressor if problem.task == "regression" else SGDClassifier
    how = {} if problem.task == "regression" else {"loss": "log_loss"}
    if not several and stochastic:  # of more classes it solves another problem: each against the rest
        for rate in RATES:
            found[f"SGD, eta0 {rate:g}"] = lambda most, r=rate: Sgd(
                alpha=alpha, eta0=r, learning_rate="constant", average=10, max_iter=most, tol=None, random_state=0,
                **how,
            ).fit(X, y)  # fmt: skip
    return found


def _fewest(
    solve: Solver, gap_of: Callable[[Any], float], gap: float, most_seconds: float
) -> tuple[float, int] | None:
    """Seconds, and the smallest number of iterations that reaches ``gap``; None where none does in time."""
    low, high, seconds = 0, 1, 0.0

    def arrives(iterations: int) -> bool:
        nonlocal seconds
        models: list[Any] = []
        seconds = _seconds(lambda: models.append(solve(iterations)))
        return gap_of(models[0]) <= gap

    while not arrives(high):
        if high > 5000 or seconds > most_seconds:
            return None
        low, high = high, 2 * high
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if arrives(middle) else (middle, high)
    return seconds, high


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def markdown(cells: list[dict[str, Any]]) -> str:
    """One line a problem and batch size, and the geometric means."""
    lines = [
        "| problem | batch size | descend, ms | fastest of scikit-learn | ms | ratio |",
        "|---|---|---:|---|---:|---:|",
    ]
    for cell in cells:
        rival = (
            "none reaches it"
            if cell["rival"] is None
            else f"{cell['rival']}, {cell['iterations']} iterations"
        )
        other = "–" if cell["ratio"] is None else f"{1000 * cell['rival_seconds']:.0f}"
        ratio = "–" if cell["ratio"] is None else f"{cell['ratio']:.2f}"
        lines.append(
            f"| {cell['problem']} | {cell['batch_size']} | {1000 * cell['seconds']:.0f} "
            f"| {rival} | {other} | {ratio} |"
        )
    for size in dict.fromkeys(cell["batch_size"] for cell in cells):
        ratios = [c["ratio"] for c in cells if c["batch_size"] == size and c["ratio"] is not None]
        if ratios:
            lines.append(
                f"| **geometric mean** | {size} | | | | **{geometric_mean(ratios):.2f}**, least {min(ratios):.2f} |"
            )
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of open data")
    parser.add_argument("--only", nargs="+", help="problems whose name holds one of these words")
    parser.add_argument(
        "--batch-sizes", nargs="+", default=["auto", 1, 32, 256], type=lambda t: int(t) if t.isdigit() else t
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="a folder where optima are kept between runs")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/solvers.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
