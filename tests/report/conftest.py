"""Runs as a comparison and a fit would save them, made by formula: no engine is needed to draw a page."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

FIRST, BEST = 0.6931, 0.3187
TARGET = BEST + 0.01 * (FIRST - BEST)
ROWS = 43_957


def _history(batch_size: int, seed: int, epochs: int) -> dict[str, Any]:
    """A descent whose gap falls with the updates, to a floor where the noise of its batches keeps it."""
    noise = random.Random(f"{batch_size} {seed}")
    updates_an_epoch = math.ceil(ROWS / batch_size)
    seconds_an_update = 0.4e-6 + batch_size * 11e-9
    pace = 1.0 + 0.08 * noise.gauss(0, 1)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("seconds", "epoch", "rows", "updates", "loss", "last_loss", "validation_loss",
                              "batch_size", "learning_rate")
    }  # fmt: skip
    total = updates_an_epoch * epochs
    steps = sorted({round(math.exp(math.log(total) * i / 700)) for i in range(701)})
    for update in [0, *steps]:
        progress = pace * update / (3 if batch_size == ROWS else 40 + 6000 / batch_size)
        gap = (FIRST - BEST) / (1 + progress) ** 1.35
        jitter = 0.03 * math.exp(noise.gauss(0, 0.8)) * (1 - 1 / (1 + progress)) / math.sqrt(batch_size)
        columns["updates"].append(update)
        columns["rows"].append(update * batch_size)
        columns["epoch"].append(update / updates_an_epoch)
        columns["seconds"].append(update * seconds_an_update * (1 + 0.05 * seed))
        columns["loss"].append(BEST + gap * (1 + 0.03 * noise.gauss(0, 1)) if update else FIRST)
        columns["last_loss"].append(columns["loss"][-1] + jitter if update else FIRST)
        columns["validation_loss"].append(columns["loss"][-1] + 0.004 + 0.002 * progress / (50 + progress))
        columns["batch_size"].append(batch_size)
        columns["learning_rate"].append(0.1)
    return {"columns": columns}


def _first_below(history: dict[str, Any], column: str) -> float | None:
    columns = history["columns"]
    for value, loss in zip(columns[column], columns["loss"], strict=True):
        if loss <= TARGET:
            return float(value)
    return None


def _spread(histories: list[dict[str, Any]], column: str) -> dict[str, float] | None:
    values = sorted(v for h in histories if (v := _first_below(h, column)) is not None)
    return {"median": values[len(values) // 2], "low": values[0], "high": values[-1]} if values else None


def _run(kind: str, batch_size: int | str, rate: float, epochs: int, seeds: int = 3) -> dict[str, Any]:
    rows = ROWS if batch_size == "full" else int(batch_size)
    histories = [_history(rows, seed, epochs) for seed in range(seeds)]
    reached = sum(_first_below(history, "seconds") is not None for history in histories)
    columns = histories[0]["columns"]
    return {
        "kind": kind, "batch_size": batch_size, "learning_rate": rate,
        "target_reached": reached, "num_seeds": seeds,
        "seconds_to_target": _spread(histories, "seconds"), "epochs_to_target": _spread(histories, "epoch"),
        "rows_to_target": _spread(histories, "rows"), "updates_to_target": _spread(histories, "updates"),
        "final_loss": columns["loss"][-1], "rows_per_second": columns["rows"][-1] / columns["seconds"][-1],
        "peak_bytes": 412_000_000, "working_bytes": rows * 105 * 4 + 880, "stopped": ["converged"] * seeds,
        "note": None, "histories": histories,
    }  # fmt: skip


def _surface() -> dict[str, Any]:
    xs, ys = [-2.6 + 0.13 * i for i in range(41)], [-1.5 + 0.08 * i for i in range(41)]

    def loss(x: float, y: float) -> float:
        return BEST + 0.06 * (x - 1.6) ** 2 + 0.35 * (y - 0.25 * x) ** 2

    paths = []
    for kind, batch_size, noise, rate, steps in (
        ("stochastic", 1, 0.30, 0.05, 900), ("mini-batch", 32, 0.06, 0.15, 300),
        ("batch", "full", 0.0, 0.8, 60)
    ):  # fmt: skip
        random_ = random.Random(kind)
        x, y, path_x, path_y = -2.0, 1.2, [], []
        for _ in range(steps):
            path_x.append(x)
            path_y.append(y)
            slope_y = 0.7 * (y - 0.25 * x)
            x, y = (
                x - rate * (0.12 * (x - 1.6) - 0.25 * slope_y + noise * random_.gauss(0, 1)),
                y - rate * (slope_y + noise * random_.gauss(0, 1)),
            )
        paths.append({"kind": kind, "batch_size": batch_size, "x": path_x, "y": path_y})
    return {
        "x": xs,
        "y": ys,
        "loss": [[loss(x, y) for x in xs] for y in ys],
        "explained": [0.81, 0.14],
        "paths": paths,
    }


def _common() -> dict[str, Any]:
    return {
        "version": 1,
        "created": "2026-11-24T08:31:12+00:00",
        "data": {
            "name": "adult", "rows": ROWS, "validation_rows": 4885, "columns": 14, "encoded_columns": 105,
            "outputs": 1, "task": "classification", "target": "income",
            "task_reason": "income has 2 distinct strings: classification", "classes": ["<=50K", ">50K"],
            "notes": ["workclass: 2 rare categories pooled as workclass=other", "no column is constant"],
        },
        "settings": {
            "loss": "log_loss", "penalty": "l2", "alpha": 1e-4, "optimizer": "sgd", "learning_rate": "auto",
            "standardize": True, "budget_seconds": 10.0, "epochs": None, "seeds": [0, 1, 2],
            "reduction": "mean",
            "command": "descend compare adult.parquet --target income",
        },
        "machine": {
            "cpu": "AMD EPYC 7B13", "cores": 2, "memory_bytes": 8_350_000_000, "system": "Linux 6.1",
            "load": 1.52,
            "versions": {"descend": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "numba": "0.68.1"},
        },
    }  # fmt: skip


CLAIMS = [
    ("stochastic", "Stochastic shows progress first", True,
     "Half of the gap was gone after 2.1 ms; mini-batch needed 4.8 ms, batch 96 ms."),
    ("stochastic", "It learns fastest at the start", True, "After one epoch its gap is 0.0021, batch 0.28."),
    ("stochastic", "Its updates are noisy, so that it cannot settle", True,
     "The loss of the latest parameters varies by 0.012 over the last epoch; batch by less than 0.0001."),
    ("stochastic", "Updating so often costs more computation for each row", True, "90 ns; batch 11 ns."),
    ("mini-batch", "It updates more often than batch", True, "1,374 updates an epoch against 1."),
    ("mini-batch", "It asks for one more hyperparameter", True, "The batch size, here 32."),
    ("batch", "It updates less often and is cheaper for each row", True, "11 ns, an eighth of stochastic."),
    ("batch", "It can settle in a worse place", False,
     "The loss is convex: every kind ends within 0.0004 of the same loss."),
    ("batch", "It needs every row in memory", None, "The table fits in memory, so nothing was read twice."),
]  # fmt: skip


@pytest.fixture(scope="session")
def _comparison() -> dict[str, Any]:
    runs = [
        _run("stochastic", 1, 0.011, 6),
        _run("mini-batch", 32, 0.31, 14),
        _run("batch", "full", 2.4, 420),
    ]
    return {
        "format": "descend.comparison", **_common(),
        "first_loss": FIRST, "best_loss": BEST, "target_loss": TARGET,
        "verdict": "Mini-batch gradient descent reached the target first, 3.4 times as fast as stochastic "
                   "and 12 times as fast as batch.",
        "runs": runs, "surface": _surface(),
        "claims": [dict(zip(("kind", "claim", "holds", "evidence"), claim, strict=True)) for claim in CLAIMS],
    }  # fmt: skip


@pytest.fixture
def comparison(_comparison: dict[str, Any]) -> dict[str, Any]:
    """A comparison of the three kinds; a copy that a test may change, except inside the histories."""
    return _comparison | {
        key: _copy(_comparison[key]) for key in ("data", "settings", "machine", "claims", "runs")
    }


@pytest.fixture
def networks(comparison: dict[str, Any]) -> dict[str, Any]:
    """The same comparison as if it were one of networks: with what is measured of where they ended."""
    for place, run in enumerate(comparison["runs"]):
        values = [0.1 * 3**place * (1 + 0.1 * seed) for seed in range(3)]
        run["sharpness"] = {"median": values[1], "low": values[0], "high": values[2]}
        run["sharpness_found"] = [
            {"value": value, "within": 1e-4, "iterations": 20 + seed, "arrived": True}
            for seed, value in enumerate(values)
        ]
        found = [
            {
                "moved": 0.12,
                "change": change,
                "back_change": change,
                "back_distance": 0.1,
                "wall": wall,
                "left": left,
            }
            for change, wall, left in ((-0.002, 0.0, False), (0.0005, 0.03, True if place == 0 else None))
        ]
        run["excursions"] = {"reason": "", "passes": 40, "found": found, "diverged": 0}
    sizes = [run["batch_size"] for run in comparison["runs"]]
    walls = [
        {"between": [sizes[0], sizes[1]], "height": 0.0, "at": 0.0},
        {"between": [sizes[0], sizes[2]], "height": 0.034, "at": 0.5},
        {"between": [sizes[1], sizes[2]], "height": None, "at": None},
    ]
    surface = _surface() | {"through": "ends", "random_directions": 0, "explained": None}
    for path in surface["paths"]:
        path["off"] = [4.2, 0.0]
    valleys = {"rows": 2000, "passes": 40, "gained": [0.0001], "reason": "", "walls": walls}
    return comparison | {"surface": surface, "valleys": valleys}


@pytest.fixture
def fit() -> dict[str, Any]:
    """One training."""
    history = _history(256, 0, 12)
    names = ["age", "education-num", "capital-gain", "hours-per-week"] + [
        f"occupation={i}" for i in range(14)
    ]
    return {
        "format": "descend.model", **_common(),
        "verdict": "Trained in 0.31 s: 85.3 % of the validation rows are told right.",
        "history": history, "stopped": "early_stopping", "batch_size": 256, "learning_rate": 0.42,
        "optimizer": "sgd", "epochs": 12, "steps": 2064, "seconds": 0.312,
        "train": {"accuracy": 0.8541, "log_loss": 0.3187, "roc_auc": 0.9072},
        "validation": {"accuracy": 0.8532, "log_loss": 0.3239, "roc_auc": 0.9051},
        "coefficients": [
            {"name": name, "output": None, "value": (-1) ** i * 2.3 / (1 + i)} for i, name in enumerate(names)
        ],
    }  # fmt: skip


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: item if key == "histories" else _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


STEP, ROW, FEWEST, CRITICAL = 2e-6, 40e-9, 900.0, 300.0


def step_seconds(size: int) -> float:
    """What a step of the plan below takes."""
    return STEP + ROW * size


@pytest.fixture
def plan() -> dict[str, Any]:
    """A plan whose two laws hold exactly: t = a + b·B and S = S_min (1 + B_crit / B)."""
    sizes = [2**power for power in range(16)] + [ROWS]
    measured = (8, 32, 64, 128, 1024)
    steps = {size: round(FEWEST * (1 + CRITICAL / size)) for size in measured}
    seconds = {size: 1.5 * step_seconds(size) * FEWEST * (1 + CRITICAL / size) for size in sizes}
    seconds |= {size: 1.5 * step_seconds(size) * count for size, count in steps.items()}
    best = min(measured, key=seconds.__getitem__)
    branches = []
    for size in measured:
        branches += [_branch(size, 0.01 * size**0.5, "reached", steps[size], seconds[size])]
        branches += [_branch(size, 0.005 * size**0.5, "reached", 2 * steps[size], 2 * seconds[size])]
        branches += [_branch(size, 0.0025 * size**0.5, "slow", steps[size], seconds[size])]
        branches += [_branch(size, 0.02 * size**0.5, "stalled", 40, 1e-4)]
    branches += [_branch(8, 0.2, "diverged", 3, 1e-5), _branch(32, 0.2, "unreliable", 300, 1e-3)]
    verdict = f"Take batches of {best} rows at learning rate 0.0849 (sgd): the target was reached in 26 ms."
    common = _common()
    settings = common["settings"] | {"command": "descend batch-size adult.parquet --target income"}
    return {
        "format": "descend.plan", **common, "settings": settings, "verdict": verdict,
        "explanation": [verdict, "Why: twice the rows take longer.", "Others are predicted within 10 %."],
        "batch_size": best, "microbatch": best, "accumulation": 1, "learning_rate": 0.01 * best**0.5,
        "optimizer": "momentum", "momentum": 0.9, "threads": 2, "device": "cpu", "bound_by": "statistics",
        "equivalent": [64, 256], "matters": True, "told": True, "target_loss": TARGET,
        "predicted": {"step_seconds": 1.5 * step_seconds(best), "peak_bytes": 291_000_000,
                      "seconds_to_target": 1.1 * seconds[best],
                      "seconds_to_target_interval": [seconds[best], 1.3 * seconds[best]]},
        "evidence": {
            "step_seconds": {str(size): step_seconds(size) for size in sizes},
            "step_seconds_interval": {str(s): [0.9 * step_seconds(s), 1.4 * step_seconds(s)] for s in sizes},
            "affine": [STEP, ROW], "knee": STEP / ROW, "cliffs": [4096], "prior": 100,
            "steps_to_target": {str(size): count for size, count in steps.items()},
            "critical_batch_size": CRITICAL, "critical_batch_size_interval": [250.0, 410.0],
            "seconds_to_target": {str(size): value for size, value in seconds.items()},
            "memory_bytes": {str(size): 100_000_000 + 5000 * size for size in sizes},
            "room_bytes": 250_000_000, "ceiling": 30_000, "room_bound": "ulimit -v",
            "noise": {"first": {"simple": 3.4, "interval": [2.6, 5.0]},
                      "last": {"simple": None, "interval": [264.5, None]}},
            "branches": branches,
        },
        "tuning_seconds": 14.2,
    }  # fmt: skip


def _branch(size: int, rate: float, outcome: str, updates: int, seconds: float) -> dict[str, Any]:
    return {"batch_size": size, "learning_rate": rate, "num_seeds": 1, "outcome": outcome, "loss": TARGET,
            "seconds": seconds, "rows": size * updates, "updates": updates}  # fmt: skip


@pytest.fixture
def untold(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan of a budget in which one size was timed and no run reached the target."""
    verdict = "It cannot be told in this budget: no run reached the target."
    evidence = {
        "step_seconds": {"1": 2e-6}, "step_seconds_interval": {"1": [2e-6, 2e-6]}, "affine": None, "knee": 1.0,
        "cliffs": [], "prior": 16, "steps_to_target": {}, "critical_batch_size": None,
        "critical_batch_size_interval": None, "seconds_to_target": {}, "memory_bytes": {"1": 265_000_000},
        "branches": [],
    }  # fmt: skip
    return plan | {
        "verdict": verdict, "explanation": [verdict, "Batches of 16 rows are suggested."], "batch_size": 16,
        "told": False, "equivalent": [16, 16], "evidence": evidence, "bound_by": "nothing",
        "predicted": {"step_seconds": 2.6e-6, "peak_bytes": 265_000_000, "seconds_to_target": None,
                      "seconds_to_target_interval": None},
    }  # fmt: skip
