"""Stores that several tests train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from descend.coded_rows import CodedRows
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.sources import array_source
from descend.store import Store, write_store


def make_store(
    folder: Path,
    kind: str = "two",
    num_rows: int = 3000,
    num_columns: int = 7,
    small: bool = False,
    weighted: bool = False,
    heavy: bool = False,
    block_rows: int = 1024,
    seed: int = 0,
) -> Store:
    """Rows with a target that depends on them: ``two`` or ``three`` classes, or ``numbers``; bytes if ``small``."""
    random = np.random.default_rng(seed)
    raw: Any = random.normal(size=(num_rows, num_columns))
    if heavy:
        raw *= np.exp(random.normal(size=(num_rows, 1)))
    scores = raw @ random.normal(size=num_columns) + random.normal(size=num_rows)
    y: Any = {"two": scores > 0, "three": np.digitize(scores, [-1.0, 1.0]), "numbers": scores}[kind]
    if kind == "two":
        y = np.where(y, "yes", "no").astype(object)
    if small:
        raw = np.clip(np.rint(100 + 30 * raw), 0, 255).astype(np.uint8)
    weights = random.random(num_rows) + 0.5 if weighted else None
    columns, target = Statistics([f"x{i}" for i in range(num_columns)]), TargetStatistics("y")
    for block in array_source(raw, y, weights).blocks():
        columns.update(block.columns, block.weights)
        target.update(block.target, block.weights)
    features = Features.from_statistics(columns)
    X = CodedRows(raw, features.mean, features.scale) if small else features.encode(raw)
    codes = np.unique(y, return_inverse=True)[1] if kind == "two" else y
    return write_store(
        folder, X, np.asarray(codes, dtype=np.float64)[:, None], weights, features=features, columns=columns,
        target=target, task="regression" if kind == "numbers" else "classification", block_rows=block_rows,
    )  # fmt: skip
