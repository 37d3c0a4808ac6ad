"""What the tests of ingesting share: sources of every kind, small budgets, and a store's rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array, random_array

from descend.sources import array_source, table_source
from descend.store import Store, ingesting
from descend.store.budget import Budget
from descend.types import Block, Source, is_sparse

TIGHT = Budget(run_bytes=40_000, share_bytes=15_000, threads=3)
"""Small enough that a thousand rows go through files, in many shares."""


def tighten(monkeypatch: pytest.MonkeyPatch, budget: Budget = TIGHT, block_rows: int = 128) -> None:
    """Have ingests use little memory and small blocks."""
    monkeypatch.setattr(ingesting, "budget", lambda *_: budget)
    monkeypatch.setattr(ingesting, "rows_of_block", lambda _: block_rows)


def table(rows: int = 1000, seed: int = 0) -> pa.Table:
    """Numbers with gaps, whole numbers, texts with gaps, dates, weights and a target of texts."""
    random = np.random.default_rng(seed)
    numbers = random.normal(5.0, 3.0, rows)
    gaps = random.random(rows) < 0.1
    colours = random.choice(["red", "green", "blue", "pink"], rows, p=[0.5, 0.3, 0.19, 0.01])
    days = np.datetime64("2020-01-01T00:00:00") + random.integers(0, 10**8, rows).astype("timedelta64[s]")
    return pa.table(
        {
            "number": pa.array(numbers, mask=gaps),
            "whole": random.integers(0, 50, rows),
            "colour": pa.array(colours.tolist(), mask=random.random(rows) < 0.05),
            "day": days,
            "answer": np.where(numbers + random.normal(size=rows) > 5.0, "yes", "no").tolist(),
            "weight": random.random(rows) + 0.5,
        }
    )


def source_of(kind: str, rows: int = 1000) -> Source:
    """A source of each kind that is encoded or kept in a way of its own."""
    random = np.random.default_rng(3)
    X: Any = random.normal(2.0, 5.0, (rows, 7))
    if kind == "table":
        return table_source(table(rows), target="answer", weights="weight", name="mixed")
    if kind == "numbers":
        columns = {f"c{i}": X[:, i] for i in range(7)} | {"y": X[:, 0] + X[:, 1]}
        return table_source(pa.table(columns), target="y", name="n")
    if kind == "matrix":
        return array_source(X.astype(np.float32), np.round(X[:, :2], 3))
    if kind == "bytes":
        wide = random.integers(0, 200, (rows, 2**20 // rows + 1)).astype(np.uint8)
        return array_source(wide, random.integers(0, 3, rows))
    assert kind == "sparse"
    return array_source(
        csr_array(random_array((rows, 40), density=0.2, rng=random)), random.random(rows) > 0.5
    )


KINDS = ("table", "numbers", "matrix", "bytes", "sparse")


class Cut:
    """A source that gives the same rows in blocks of other sizes."""

    def __init__(self, source: Source, rows: int) -> None:
        self.name, self.column_names, self.target_name = source.name, source.column_names, source.target_name
        self._source, self._rows = source, rows

    def blocks(self) -> Iterator[Block]:
        from descend.store.regroup import _slice

        for block in self._source.blocks():
            for start in range(0, block.num_rows, self._rows):
                yield _slice(block, start, min(start + self._rows, block.num_rows))


def content(store: Store) -> list[NDArray[Any]]:
    """Everything a store's blocks hold, as arrays."""
    found: list[NDArray[Any]] = []
    for X, y, weights in store.blocks():
        parts = [X.indptr, X.indices, X.data] if is_sparse(X) else [X.values if store.is_coded else X]
        found += [*parts, y] if weights is None else [*parts, y, weights]
    return found


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
