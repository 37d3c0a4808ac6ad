"""The one problem that every competitor solves, and the measure that tells whether it did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = ((100_000, 30), (500_000, 20), (50_000, 300))
BATCH_SIZES: tuple[int | str, ...] = (1, 32, 256, "full")
ALPHA = 1e-4
RATES = {1: 0.002, 32: 0.02, 256: 0.1}
FULL_RATE = 0.3
"""Small enough for runs in different orders to end close to one another; speed does not depend on it."""

TABLES = {
    "adult.parquet": "income",
    "electricity.parquet": "target",
    "higgs_7k.parquet": "label",
    "skin_nonskin.parquet": "skin",
}
"""Files of two classes that ``--data`` looks for, and their targets."""


@dataclass(frozen=True)
class Problem:
    """Logistic regression by SGD: mean log loss + ½ alpha |w|², intercept free, constant rate, zero start.

    ``X`` (n, d) float32, C-contiguous; ``y`` (n,) float32, 0 or 1.
    """

    name: str
    X: NDArray[np.float32]
    y: NDArray[np.float32]
    batch_size: int
    rate: float
    alpha: float = ALPHA
    seed: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.X)

    @property
    def num_columns(self) -> int:
        return int(self.X.shape[1])

    @property
    def full_batch(self) -> bool:
        return self.batch_size >= self.num_rows

    def with_batch_size(self, batch_size: int | str) -> Problem:
        if batch_size == "full" or int(batch_size) >= self.num_rows:
            return replace(self, batch_size=self.num_rows, rate=FULL_RATE)
        size = int(batch_size)
        return replace(self, batch_size=size, rate=RATES.get(size, min(0.1, 0.002 * size)))

    def first_rows(self, num_rows: int) -> Problem:
        """The same problem on fewer rows; a full batch stays one."""
        fewer = replace(self, X=self.X[:num_rows], y=self.y[:num_rows])
        return fewer.with_batch_size("full" if self.full_batch else self.batch_size)

    def loss(self, parameters: NDArray[Any]) -> float:
        """The objective of ``parameters`` (d + 1,), the intercept last, in float64."""
        w, b = parameters[:-1].astype(np.float64), float(parameters[-1])
        scores = self.X @ w.astype(np.float32) + np.float32(b)
        losses = np.logaddexp(0.0, scores.astype(np.float64)) - self.y * scores
        return float(losses.mean() + 0.5 * self.alpha * (w @ w))


def synthetic(num_rows: int, num_columns: int) -> Problem:
    """Gaussian columns, and classes drawn from a logistic model: the same every time."""
    generator = np.random.default_rng([num_rows, num_columns])
    X = generator.standard_normal((num_rows, num_columns), dtype=np.float32)
    weights = generator.standard_normal(num_columns) / np.sqrt(num_columns)
    chances = 1.0 / (1.0 + np.exp(-2.0 * (X @ weights.astype(np.float32))))
    y = (generator.random(num_rows) < chances).astype(np.float32)
    return Problem(f"{num_rows:,} × {num_columns}", X, y, 1, RATES[1])


def from_folder(folder: Path) -> list[Problem]:
    """The known tables of two classes in ``folder``, encoded and standardised by descend."""
    from descend.features import prepare
    from descend.sources import open_source

    problems = []
    for file, target in TABLES.items():
        if (folder / file).exists():
            train = prepare(open_source(folder / file, target=target), validation=0.0).train
            X = np.ascontiguousarray(train.X, dtype=np.float32)
            name = f"{file.split('.')[0]}, {len(X):,} × {X.shape[1]}"
            problems.append(Problem(name, X, train.y[:, 0].astype(np.float32), 1, RATES[1]))
    return problems
