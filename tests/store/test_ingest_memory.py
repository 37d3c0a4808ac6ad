"""Peak memory while ingesting, measured in fresh processes: bounded by the limit, whatever the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CODE = """
import sys
from descend.cli import run
from descend.machine import peak_bytes
data, store, limit, *words = sys.argv[1:]
status = run(["ingest", data, "--output", store, "--memory-limit", limit, "--quiet", *words])
print(status, peak_bytes())
"""


def peak_of(data: Path, store: Path, limit: str, *words: str) -> int:
    """Bytes that an ingest holds at the most."""
    command = [sys.executable, "-c", CODE, str(data), str(store), limit, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    status, peak = done.stdout.split()
    assert status == "0", done.stderr
    return int(peak)


@pytest.mark.slow
def test_a_matrix_five_times_the_memory_holds_the_limit(tmp_path: Path) -> None:
    """1.6 GB of float64 numbers under --memory-limit 340MB: the peak is below it."""
    path = tmp_path / "big.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float64, (4_000_000, 50))
    random = np.random.default_rng(0)
    for start in range(0, len(X), 200_000):
        X[start : start + 200_000] = random.random((200_000, 50), dtype=np.float32)
    X.flush()
    del X
    assert peak_of(path, tmp_path / "store", "340MB", "--target", "49", "--task", "regression") < 340e6


@pytest.mark.slow
def test_text_with_categories_holds_the_limit(tmp_path: Path) -> None:
    """A table of texts and numbers of ten times the memory for rows, one-hot encoded, stays below the limit."""
    random = np.random.default_rng(0)
    path = tmp_path / "mixed.csv"
    levels = np.array([f"level {i}" for i in range(100)])
    with path.open("w") as file:
        file.write("a,b,c,y\n")
        for _ in range(10):
            a, y = random.normal(size=100_000), random.integers(0, 2, 100_000)
            b, c = levels[random.integers(0, 100, (2, 100_000))]
            file.writelines(f"{v:.5f},{t},{u},{k}\n" for v, t, u, k in zip(a, b, c, y, strict=True))
    assert peak_of(path, tmp_path / "store", "350MB", "--target", "y") < 350e6
