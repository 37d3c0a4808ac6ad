"""The files that are ingested: which, and about how large their rows are once they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from descend.sources.dialect import COMPRESSED
from descend.sources.opening import ending_of

GROWTH = {
    ".csv": 2.0,
    ".tsv": 2.0,
    ".parquet": 8.0,
    ".npz": 4.0,
    ".svm": 2.0,
    ".libsvm": 2.0,
    ".svmlight": 2.0,
}
"""Bytes of rows for each byte of a file, at the most in most cases; compressed text grows eight times more."""


def expected_bytes(files: Sequence[Path]) -> int | None:
    """About how large the rows of these files are in memory; None where there are no files."""
    if not files:
        return None
    return int(sum(path.stat().st_size * _growth(path) for path in files))


def _growth(path: Path) -> float:
    return GROWTH.get(ending_of(path), 1.5) * (8.0 if path.suffix.lower() in COMPRESSED else 1.0)
