"""Ingests that are killed at random moments and run again: their folders are to hold what undisturbed ones leave."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.csv

from benchmarks.children import in_child
from descend import locks
from descend.store import ingesting
from descend.store.budget import Budget
from descend.store.face import ingest
from descend.store.manifest import NAME
from descend.store.plan import FOLDER, can_go_on

ROWS, COLUMNS, BLOCK_ROWS = 20_000, 16, 1_024
SMALL = Budget(run_bytes=400_000, share_bytes=150_000, threads=3)
"""So small that rows go through files, in many shares."""
LATE = 0.5
"""Of the kills: they wait until all rows were read before their random time begins."""
Ingest = Callable[[Path], object]
"""Writes a store into a folder, or adds to the one that is there."""


def ingests(count: int, seed: int) -> dict[str, Any]:
    """How many of so many killed ingests left, run again, the files that an undisturbed one leaves."""
    rng, wrong = random.Random(seed), []
    counts: Counter[str] = Counter()
    budget = patch.multiple(ingesting, budget=lambda *_: SMALL, rows_of_block=lambda _: BLOCK_ROWS)
    with tempfile.TemporaryDirectory() as name, budget:
        folder = Path(name)
        kinds = list(jobs(folder).items())
        whole = {kind: undisturbed(work, before, folder / "whole") for kind, (work, before) in kinds}
        for number in range(count):
            kind, (work, before) = kinds[number % len(kinds)]
            expected, seconds = whole[kind]
            place = folder / "killed"
            found: Counter[str] = Counter()
            while not found["kills"]:  # else it had ended before
                begin(place, before)
                found = killed(work, place, expected, seconds, rng)
            counts += found
            if files(place) != expected:
                wrong.append(f"{kind} ({number})")
            print(
                f"\r{number + 1 - len(wrong)} of {number + 1} the same", end="", file=sys.stderr, flush=True
            )
    seconds_whole = {kind: seconds for kind, (_, seconds) in whole.items()}
    told = {"ingests": count, "the same": count - len(wrong), "wrong": wrong}
    return told | dict(counts) | {"seconds": seconds_whole}


def jobs(folder: Path) -> dict[str, tuple[Ingest, Path | None]]:
    """Ingests by name, with the store that they add to: text with weights, sparse rows, and rows added later."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)).round(4)
    y, weights = X[:, 0] + rng.normal(size=ROWS) > 0, rng.random(ROWS).round(3) + 0.5
    table = pa.table({f"c{i}": X[:, i] for i in range(COLUMNS)} | {"y": y.astype(int), "w": weights})
    dense, more, sparse = folder / "dense.csv", folder / "more.csv", folder / "sparse.svm"
    pyarrow.csv.write_csv(table, dense)
    pyarrow.csv.write_csv(table.slice(0, ROWS // 2 - 100), more)
    with sparse.open("w") as file:
        for row, label in zip(np.where(X > 0.5, X, 0.0), y, strict=True):
            numbers = " ".join(f"{i + 1}:{row[i]}" for i in np.flatnonzero(row))
            file.write(f"{int(label)} {numbers}\n")

    def of(path: Path, append: bool = False, **words: Any) -> Ingest:
        return lambda place: ingest(path, place, append=append, **words)

    first = folder / "first"
    os.waitpid(in_child(lambda: of(more, target="y", weights="w")(first)), 0)
    return {
        "dense": (of(dense, target="y", weights="w"), None),
        "sparse": (of(sparse), None),
        "append": (of(dense, append=True, target="y", weights="w"), first),
    }


def undisturbed(work: Ingest, before: Path | None, place: Path) -> tuple[dict[str, bytes], float]:
    """The files that an ingest leaves, and its seconds with kernels compiled."""
    for _ in range(2):
        begin(place, before)
        began = time.perf_counter()
        _, status = os.waitpid(in_child(lambda: work(place)), 0)
        assert status == 0, "an ingest that nobody disturbed failed"
        seconds = time.perf_counter() - began
    return files(place), seconds


def begin(place: Path, before: Path | None) -> None:
    """An empty place, or one with a store to add to."""
    shutil.rmtree(place, ignore_errors=True)
    if before is not None:
        shutil.copytree(before, place)


def killed(
    work: Ingest, place: Path, expected: dict[str, bytes], seconds: float, rng: random.Random
) -> Counter[str]:
    """An ingest that is killed at random moments, once or twice, and then left to end; what was met."""
    met: Counter[str] = Counter()
    for _ in range(1 + rng.randrange(2)):
        child = in_child(lambda: work(place))
        is_late = rng.random() < LATE
        while is_late and not can_go_on(place):
            time.sleep(0.0005)
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return met
        time.sleep(rng.uniform(0.0, seconds / 3 if is_late else seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return met
        met["kills"] += 1
        met["had read all rows"] += can_go_on(place)
        if is_done(place, expected):
            met["were done"] += 1
            return met
    os.waitpid(in_child(lambda: work(place)), 0)
    return met


def is_done(place: Path, expected: dict[str, bytes]) -> bool:
    """Whether the kill came when all was done: run again the ingest would be another one."""
    is_whole = (place / NAME).exists() and (place / NAME).read_bytes() == expected[NAME]
    if not is_whole or can_go_on(place):
        return False
    (place / locks.NAME).unlink(missing_ok=True)  # locks nothing, and is taken over by whoever comes next
    if (place / FOLDER).exists():
        (place / FOLDER).rmdir()  # empty
    return True


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder, folders too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"a folder"
        for path in sorted(folder.rglob("*"))
    }
