"""The time of a step of a network, descend's and others': ``python -m benchmarks.networks``.

784-128-10, relu, softmax, float32, plain SGD and Adam. Prints a table, writes ``benchmarks/results/networks.json``.
``--one-core``: all on one core, for who cannot be held to one thread otherwise (``networks_one_core.json``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.network_competitors import SIZES, TRAINERS, Layers, Trainer

RESULTS = Path(__file__).parent / "results"
BATCH_SIZES = (1, 8, 32, 128, 4096)
ROWS = 20_480
LONGEST = 0.15
"""Seconds that one turn of a competitor takes at the most, nearly."""
TOLERANCE = 0.02
BARS = {
    ("sgd", "peers"): (20.0, 4.0, 3.0, 2.0, 1.1),
    ("sgd", "jax"): (1.5, 1.2, 1.2, 1.1, 1.0),
    ("adam", "peers"): (15.0, 3.0, 2.0, 1.5, 1.1),
}
PACKAGES = ("descend", "numpy", "numba", "scikit-learn", "torch", "jax", "jaxlib")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where the last losses disagree: such timings mean nothing."""
    options = _options(arguments)
    if options.one_core:  # before any peer is imported, so that their threads are born there
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from threadpoolctl import threadpool_limits

    record = _describe(options)
    X, y, start = _problem()
    with threadpool_limits(1, user_api="blas"):
        for optimizer in options.optimizers:
            for size in options.batch_sizes:
                record["cells"].append(_cell(X, y, start, size, optimizer, options))
    record["machine_after"] = _machine()
    print(markdown(record))
    if not options.print_only:
        place = options.output or RESULTS / f"networks{'_one_core' if options.one_core else ''}.json"
        place.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if all(cell["agree"] for cell in record["cells"]) else 1


def _problem() -> tuple[Any, Any, Layers]:
    """Made-up rows whose classes depend on them, and the weights that everyone starts from."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, SIZES[0])).astype(np.float32)
    y = (X @ rng.normal(size=(SIZES[0], SIZES[-1]))).argmax(axis=1)
    layers = []
    for inputs, outputs in pairwise(SIZES):
        weights = rng.normal(size=(inputs, outputs)) * np.sqrt(2.0 / inputs)
        layers.append((weights.astype(np.float32), np.zeros(outputs, dtype=np.float32)))
    return X, y, layers


def loss(X: Any, y: Any, layers: Layers) -> float:
    """Mean log loss, in float64, of what a competitor has come to."""
    (W1, b1), (W2, b2) = layers
    scores = (np.maximum(X @ W1 + b1, 0) @ W2 + b2).astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]))


def _cell(
    X: Any, y: Any, start: Layers, size: int, optimizer: str, options: argparse.Namespace
) -> dict[str, Any]:
    few = np.arange(max(size, 2048))
    first = loss(X[few], y[few], start)
    able = [
        t for t in TRAINERS if t.present() and not (t.name == "PyTorch torch.compile" and optimizer != "sgd")
    ]
    able = [t for t in able if not (t.name == "descend, 2 threads" and size < 512)]
    if options.one_core:
        able = [t for t in able if "2 threads" not in t.name]
    if options.only:
        able = [t for t in able if t.name in options.only]
    runners: list[tuple[Trainer, Any, list[float]]] = []
    losses = {}
    steps = max(2, min(20, ROWS // size)) if size > 1 else 200
    check = np.arange(steps * size) % ROWS
    for trainer in able:
        one = trainer(X, y, start, size, optimizer)
        _take(one, check)
        losses[one.name] = loss(X[few], y[few], one.layers())
        rows = _turn(one, size)
        runners.append((one, rows, []))
    for _ in range(options.repeats):
        for one, rows, times in runners:
            times.append(_take(one, rows) / (len(rows) // size))
    middle = median(losses.values())
    worst = max(abs(value - middle) for value in losses.values()) / max(first - middle, 1e-12)
    _say(f"{optimizer}, {size}: " + ", ".join(f"{one.name} {1e6 * min(t):.1f}" for one, _, t in runners))
    return {
        "optimizer": optimizer,
        "batch_size": size,
        "load": _machine()["load"],
        "first_loss": first,
        "losses": losses,
        "largest_difference": worst,
        "agree": bool(first > middle and worst <= TOLERANCE),
        "seconds": {one.name: median(times) for one, _, times in runners},
        "least_seconds": {one.name: min(times) for one, _, times in runners},
    }


def _take(one: Trainer, rows: Any) -> float:
    if hasattr(one, "prepare"):
        one.prepare(rows)
    began = time.perf_counter()
    one.run(rows)
    return time.perf_counter() - began


def _turn(one: Trainer, size: int) -> Any:
    """Rows of one turn: as many steps as fit into the time, whole batches."""
    probe = np.random.default_rng(1).permutation(ROWS)[: 4 * size]
    one_step = min(_take(one, probe) for _ in range(2)) / max(1, len(probe) // size)
    steps = int(max(2, min(LONGEST / one_step, ROWS // size if size < 4096 else 4, 4000)))
    rows = np.resize(np.random.default_rng(2).permutation(ROWS), steps * size)
    _take(one, rows)
    return rows


def markdown(record: dict[str, Any]) -> str:
    """Times, ratios and bars."""
    names = list(record["what"])
    lines = ["| optimizer | batch size | " + " | ".join(names) + " |", "|---|---:|" + "---:|" * len(names)]
    for cell in record["cells"]:
        ours = cell["seconds"]["descend"]
        entries = [
            f"{1e6 * cell['seconds'][n]:,.1f} ({cell['seconds'][n] / ours:.2f})"
            if n in cell["seconds"]
            else "–"
            for n in names
        ]
        lines.append(f"| {cell['optimizer']} | {cell['batch_size']} | " + " | ".join(entries) + " |")
    lines += ["", "Microseconds a step (over descend's on one thread).", ""]
    for cell in record["cells"]:
        lines += _bars(cell)
    worst = max(cell["largest_difference"] for cell in record["cells"])
    return "\n".join([*lines, "", f"Last losses differ by at most {100 * worst:.2f} % of what was gained."])


def _bars(cell: dict[str, Any]) -> list[str]:
    """One thread against one, and the best number of threads of either side."""
    lines, times = [], cell["seconds"]
    groups = {
        "peers": [n for n in times if n.startswith(("scikit", "PyTorch"))],
        "jax": [n for n in times if "JAX" in n],
    }
    for group, names in groups.items():
        bars = BARS.get((cell["optimizer"], group))
        if not names:
            continue
        bar = (
            bars[BATCH_SIZES.index(cell["batch_size"])]
            if bars and cell["batch_size"] in BATCH_SIZES
            else None
        )
        best = min(names, key=lambda n: times[n])
        ours = min(t for n, t in times.items() if n.startswith("descend"))
        single = [n for n in names if "2 threads" not in n]
        alone = min(times[n] for n in single) / times["descend"] if single else float("nan")
        told = (
            ""
            if bar is None
            else f"; wanted {bar:g}: {'met' if min(alone, times[best] / ours) >= bar else 'missed'}"
        )
        lines.append(
            f"- {cell['optimizer']}, B = {cell['batch_size']}, {group}: one thread {alone:.2f}, best of all "
            f"threads {times[best] / ours:.2f} ({best}){told}"
        )
    return lines


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    from descend.machine import describe_machine

    return describe_machine()


def _describe(options: argparse.Namespace) -> dict[str, Any]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "python": sys.version.split()[0],
        "versions": versions,
        "repeats": options.repeats,
        "one_core": options.one_core,
        "sizes": list(SIZES),
        "what": {t.name: t.what for t in TRAINERS if t.present()},
        "absent": [t.name for t in TRAINERS if not t.present()],
        "cells": [],
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(BATCH_SIZES))
    parser.add_argument("--optimizers", nargs="+", default=["sgd", "adam"], choices=["sgd", "adam"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="competitors, by name")
    parser.add_argument("--one-core", action="store_true", help="hold everybody to one core")
    parser.add_argument("--output", type=Path, help="in place of the file in benchmarks/results")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
