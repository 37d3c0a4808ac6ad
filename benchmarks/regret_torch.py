"""A small convolutional network on fashion_mnist, by ``descend.torch.fit``: everything by the wall's clock.

The grid's runs are those of ``fit`` as well, at each size and rate of Adam, so all pay the same for a step. The free
oracle has falling rates alone: ``fit`` averages no module's tail at a rate that is given. With nothing set, ``fit``
takes the size that step times suggest and finds the rate; what it does besides steps counts as tuning. Rivals that
know a size alone have Adam's own rate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.regret_grid import ORACLES, Cell, best_of
from benchmarks.regret_rivals import (
    FIXED,
    TIMED_STEPS,
    TRIAL_STEPS,
    Outcome,
    largest_batch,
    size_of_noise,
    sweep,
)
from benchmarks.regret_runs import Clock, Curve
from benchmarks.regret_scores import by_wall, run_record, target_records
from benchmarks.regret_workloads import TARGETS

NAME = "fashion_mnist convolution adam"
ROWS = 3500, 500, 1000
"""To train on, to look at, and for the target."""
SIZES = (32, 64, 128, 256)
RATES = tuple(1e-3 * 2.0**power for power in range(5))
LENGTHS = (3, 6, 12)
"""Epochs over which a rate falls to zero; constant ones run for the last."""
BYTES_A_ROW = 4 * 3 * (28 * 28 + 2 * (8 * 12 * 12 + 16 * 5 * 5))


def why_not(folder: Path) -> str | None:
    """Why it cannot be run here, or None."""
    if find_spec("torch") is None:
        return "PyTorch is not installed"
    return None if (folder / "fashion_mnist.npz").exists() else "fashion_mnist.npz is not in the folder"


@dataclass(frozen=True, slots=True)
class Images:
    """Three disjoint sets of rows, each (X, y)."""

    train: tuple[Any, Any]
    looked_at: tuple[Any, Any]
    target: tuple[Any, Any]


def images(folder: Path) -> Images:
    """Images (n, 1, 28, 28) from -1 to 1, and what they show."""
    import torch

    with np.load(folder / "fashion_mnist.npz") as arrays:
        X, y = arrays["X_train"], arrays["y_train"]
    few = np.random.default_rng(0).permutation(len(X))[: sum(ROWS)]
    X = torch.from_numpy(X[few].reshape(-1, 1, 28, 28).astype(np.float32) / 127.5 - 1.0)
    parts = zip(X.split(ROWS), torch.from_numpy(y[few].astype(np.int64)).split(ROWS), strict=True)
    return Images(*parts)


def network(seed: int) -> Any:
    """Two convolutions and a layer, 5,386 weights."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 10),
    )  # fmt: skip


def target_loss(module: Any, rows: Images) -> float:
    """The mean loss over the target's rows."""
    import torch

    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(module(rows.target[0]), rows.target[1]))


def module_run(
    rows: Images,
    seed: int,
    batch_size: int | str,
    rate: float | str | None = None,
    epochs: int | None = None,
    decay: bool = False,
    until: float = -inf,
) -> tuple[Curve, int, str]:
    """The curve of the last weights; it ends where two looks in a row lie below ``until``."""
    import torch

    import descend.torch as dt

    module, curve, clock = network(seed), Curve(), Clock()

    def look(seen: Any) -> bool:
        now = clock.seconds
        with clock.stopped():
            curve.add(target_loss(module, rows), now, now, now - seen.seconds, seen.seconds)
        return max(curve.losses[-2:]) <= until and len(curve.losses) > 1

    history = dt.fit(
        module,
        torch.nn.CrossEntropyLoss(),
        rows.train,
        torch.optim.Adam,
        batch_size,
        learning_rate=rate,
        epochs=epochs,
        validation=rows.looked_at,
        early_stopping=epochs is None,
        schedule="linear" if decay else None,
        schedule_every="step",
        seed=seed,
        device="cpu",
        callbacks=[look],
    )
    now = clock.seconds
    with clock.stopped():  # the averaged weights, where they are the better ones
        curve.add(target_loss(module, rows), now, now, now - history.last["seconds"], history.last["seconds"])
    return curve, int(history.last["batch_size"]), history.stopped


def grid(rows: Images, sizes: list[int], seed: int) -> dict[str, list[Cell]]:
    """All runs, by oracle; a curve's rows are seconds here."""
    found: dict[str, list[Cell]] = {name: [] for name in ORACLES}
    for size in sizes:
        for rate in RATES:
            constant = Cell(size, rate, None, module_run(rows, seed, size, rate, LENGTHS[-1])[0])
            found["raw"].append(constant)
            found["free"].append(constant)
            for length in LENGTHS:
                falling = module_run(rows, seed, size, rate, length, decay=True)[0]
                found["free"].append(Cell(size, rate, length, falling))
    return found


def _decided(
    rows: Images, seed: int, decide: Callable[[Any], tuple[int, float | None]], until: float
) -> Outcome:
    """A run at the size and rate that ``decide`` finds on a copy, and the seconds that this took."""
    began = time.perf_counter()
    size, rate = decide(network(seed))
    before = time.perf_counter() - began
    return Outcome(*module_run(rows, seed, size, rate, until=until), before)


def _trainer(module: Any, rows: Images) -> Any:
    import torch

    from descend.torch.module_trainer import ModuleTrainer

    return ModuleTrainer(module, torch.nn.CrossEntropyLoss(), rows.train, torch.optim.Adam)


def most_rows_a_second(module: Any, rows: Images) -> tuple[int, float | None]:
    """Every doubling is timed."""
    trainer, times = _trainer(module, rows), {}
    size = 1
    while size <= len(rows.train[0]):
        times[size] = min(trainer.time_steps(size, 1) for _ in range(TIMED_STEPS)) / size
        size *= 2
    return min(times, key=lambda size: times[size]), None


def by_noise(module: Any, rows: Images) -> tuple[int, float | None]:
    """The gradient noise at the first weights."""
    import torch

    from descend.batch_size.noise import measure_noise

    X, y = rows.train
    weights = list(module.parameters())

    def gradient(some: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(module(X[some]), y[some])
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)]).numpy()

    return size_of_noise(measure_noise(gradient, len(y), 8)), None


def as_lightning(module: Any, rows: Images) -> tuple[int, float | None]:
    """The largest batch that fits, and the rate of a sweep."""
    import torch

    X, y = rows.train
    optimizer = torch.optim.Adam(module.parameters())
    size, tried = largest_batch(len(y), BYTES_A_ROW)

    def step(rate: float, rows_each: int = size) -> float:
        some = torch.randperm(len(y))[:rows_each]
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(X[some]), y[some])
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for rows_each in tried:
        for _ in range(TRIAL_STEPS):
            step(0.0, rows_each)
    return size, sweep(step)[0]


DECIDERS = {
    "most rows a second": most_rows_a_second,
    "gradient noise": by_noise,
    "as Lightning": as_lightning,
}


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def score_module(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The record, as ``regret_scores.score`` has it; a price is 1: rows are seconds."""
    with _one_thread():
        return _score(images(folder), options)


def _score(rows: Images, options: argparse.Namespace) -> dict[str, Any]:
    seeds = options.seeds
    module_run(rows, seeds[0], "auto", "auto", epochs=1)  # what is loaded or compiled once
    size = module_run(rows, seeds[0], "auto", epochs=1)[1]
    sizes = sorted({*SIZES, size})
    prices = dict.fromkeys(sizes, 1.0)
    cells = grid(rows, sizes, seeds[0])
    first = target_loss(network(seeds[0]), rows)
    lowest = min(min(cell.curve.losses) for runs in cells.values() for cell in runs)
    levels = [lowest + share * (first - lowest) for share in TARGETS[True]]
    tight = levels[-1]
    winners = {(o, t): best_of(cells[o], level, prices) for o in ORACLES for t, level in enumerate(levels)}
    rivals: dict[str, Callable[[int], Outcome]] = {
        "fit": lambda seed: Outcome(*module_run(rows, seed, "auto", "auto", until=tight)),
        **{
            f"B = {size}": lambda seed, size=size: Outcome(*module_run(rows, seed, size, until=tight))  # type: ignore[misc]
            for size in FIXED
        },
        **{
            name: lambda seed, decide=decide: _decided(rows, seed, lambda m: decide(m, rows), tight)  # type: ignore[misc]
            for name, decide in DECIDERS.items()
        },
    }
    runs = []
    for seed in seeds:
        for name, rival in rivals.items():
            runs.append(run_record(name, seed, rival(seed), levels, 1.0))

    def once_more(key: tuple[str, int], cell: Cell) -> Curve:
        epochs = LENGTHS[-1] if cell.length is None else cell.length
        until = -inf if cell.length else levels[key[1]]
        return module_run(rows, seeds[0], cell.batch_size, cell.rate, epochs, bool(cell.length), until)[0]

    return {
        "workload": NAME,
        "network": True,
        "clock": "wall",
        "rows": len(rows.train[1]),
        "columns": 784,
        "price": None,
        "targets": target_records(levels, cells, winners, prices),
        "runs": runs,
        "wall": by_wall(
            {"fit": lambda seed: rivals["fit"](seed).curve},
            {
                key: (lambda key=key, cell=cell: once_more(key, cell))
                for key, (_, cell) in winners.items()
                if cell
            },  # type: ignore[misc]
            levels,
            seeds,
            options.repeats,
        ),
    }
