"""Commands run in this process, in a folder of their own; a few tests start real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.cli import run


@dataclass
class Result:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; NaN and Infinity are no JSON."""

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        value: dict[str, Any] = json.loads(self.out, parse_constant=refuse)
        return value


Command = Callable[..., Result]


@pytest.fixture
def descend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``descend`` with these words in an empty folder; what was printed before is forgotten."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> Result:
        capsys.readouterr()
        status = run([str(word) for word in words])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return command


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``descend`` as a process in the test's folder."""

    def command(*words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "descend", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
        )

    return command


def write_table(path: Path, rows: int = 300, seed: int = 0) -> Path:
    """Columns ``size`` and ``colour`` and a target ``answer`` of yes and no that follows from them."""
    random = np.random.default_rng(seed)
    sizes = random.normal(size=rows)
    colours = random.choice(["red", "green"], size=rows)
    noisy = sizes + (colours == "red") + 0.5 * random.normal(size=rows)
    lines = [
        f"{s:.4f},{c},{'yes' if n > 0.5 else 'no'}" for s, c, n in zip(sizes, colours, noisy, strict=True)
    ]
    path.write_text("\n".join(["size,colour,answer", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A small table of two classes, ``table.csv``."""
    return write_table(tmp_path / "table.csv")


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A small table with a number to predict, ``prices.csv``."""
    random = np.random.default_rng(1)
    X = random.normal(size=(200, 2))
    y = 100.0 + 7.0 * X[:, 0] - 3.0 * X[:, 1] + random.normal(size=200)
    lines = [f"{a:.5f},{b:.5f},{c:.5f}" for (a, b), c in zip(X, y, strict=True)]
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(["a,b,price", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "table.descend"
    table = write_table(folder / "table.csv")
    words = ["fit", table, "--target", "answer", "--no-report", "--quiet", "--json", "--output", path]
    assert run([str(word) for word in words]) == 0
    return path.read_bytes()


@pytest.fixture
def model(tmp_path: Path, _trained: bytes) -> Path:
    """A model of ``table``, ``model.descend``."""
    path = tmp_path / "model.descend"
    path.write_bytes(_trained)
    return path
