"""What the table says in a few numbers: descend's time against a peer's, over all cells of a kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

OURS, SGD, JAX, READ = "descend", "scikit-learn SGD", "JAX jit + scan", "bare read"
SMALL: tuple[int | str, ...] = (1, 32, 256)
MINI: tuple[int | str, ...] = (32, 256, 8192)
ALL: tuple[int | str, ...] = (1, 32, 256, 8192, "full")


@dataclass(frozen=True)
class Measure:
    """``least`` and ``mean_least`` bound peer / descend from below; with ``most``, descend / peer from above."""

    group: str
    peer: str
    sizes: tuple[int | str, ...]
    mean_least: float | None = None
    least: float | None = None
    most: float | None = None


MEASURES = (
    Measure("dense", SGD, SMALL, mean_least=8.0, least=5.0),
    Measure("dense", JAX, SMALL, least=1.2),
    Measure("dense", JAX, (8192, "full")),
    Measure("dense", READ, (1,), most=4.0),
    Measure("dense", READ, MINI, most=2.0),
    Measure("softmax", SGD, SMALL, mean_least=8.0, least=5.0),
    Measure("softmax", JAX, SMALL, least=1.2),
    Measure("softmax", JAX, (8192, "full")),
    Measure("softmax", READ, (1,), most=4.0),
    Measure("softmax", READ, MINI, most=2.0),
    Measure("sparse", SGD, SMALL, least=3.0),
    Measure("sparse", READ, ALL),
)


def ratios(record: dict[str, Any]) -> list[dict[str, Any]]:
    """For each measure whose cells were timed: geometric mean, worst cell, and whether the bars are met."""
    found = []
    for measure in MEASURES:
        cells = dict(_cells(record, measure))
        if not cells:
            continue
        worst = (max if measure.peer == READ else min)(cells, key=lambda name: cells[name])
        mean = geometric_mean(cells.values())
        found.append(
            {
                "group": measure.group,
                "peer": measure.peer,
                "batch_sizes": list(measure.sizes),
                "cells": len(cells),
                "mean": mean,
                "worst": cells[worst],
                "worst_cell": worst,
                "bars": _bars(measure, mean, cells[worst]),
            }
        )
    return found


def _cells(record: dict[str, Any], measure: Measure) -> Iterator[tuple[str, float]]:
    for cell in record["cells"]:
        times = {result["competitor"]: result["seconds"] for result in cell["results"]}
        wanted = cell["group"] == measure.group and cell["batch_size"] in measure.sizes
        if wanted and {OURS, measure.peer} <= times.keys():
            ratio = times[measure.peer] / times[OURS]
            name = f"{cell['problem']}, {cell['batch_size']}"
            yield name, 1.0 / ratio if measure.peer == READ else ratio


def _bars(measure: Measure, mean: float, worst: float) -> list[dict[str, Any]]:
    bars = []
    if measure.mean_least is not None:
        bars.append({"text": f"mean ≥ {measure.mean_least:g}", "met": mean >= measure.mean_least})
    if measure.least is not None:
        bars.append({"text": f"every cell ≥ {measure.least:g}", "met": worst >= measure.least})
    if measure.most is not None:
        bars.append({"text": f"every cell ≤ {measure.most:g}", "met": worst <= measure.most})
    return bars
