"""The one problem that every competitor solves, and the measure that tells whether it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZES = ((1_500_000, 20), (400_000, 70), (50_000, 900))
SQUARED_SIZE = (400_000, 70)
BATCH_SIZES: tuple[int | str, ...] = (1, 32, 256, 8192, "full")
ALPHA = 1e-4
EPOCHS = ((1e6, 41), (4e6, 11), (15e6, 5), (np.inf, 3))
"""Rows of so many numbers (times outputs) are walked so often for one timing: short epochs need more of them."""


@dataclass(frozen=True)
class Problem:
    """A linear model by SGD: mean loss + ½ alpha |W|², intercepts free, constant rate, zero start.

    ``X`` (n, d) float32, C-contiguous or CSR. ``y`` (n,) float32: 0 or 1, or class codes where ``num_outputs``
    k > 1 (softmax), or numbers where ``squared``. Parameters are (k, d + 1), the intercept last.
    """

    name: str
    X: Any
    y: NDArray[np.float32]
    num_outputs: int = 1
    squared: bool = False
    batch_size: int = 1
    alpha: float = ALPHA
    seed: int = 0
    norms: tuple[float, float] = field(default=(1.0, 1.0), repr=False)
    """Mean and largest squared length of a row, the intercept's 1 included."""

    @property
    def num_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def num_columns(self) -> int:
        return int(self.X.shape[1])

    @property
    def sparse(self) -> bool:
        return hasattr(self.X, "indptr")

    @property
    def num_numbers(self) -> int:
        """What an epoch reads: of sparse rows, what they hold."""
        return int(self.X.nnz if self.sparse else self.X.size)

    @property
    def group(self) -> str:
        """Which competitors and bars go with it."""
        return "sparse" if self.sparse else "softmax" if self.num_outputs > 1 else "dense"

    @property
    def full_batch(self) -> bool:
        return self.batch_size >= self.num_rows

    @property
    def epochs_timed(self) -> int:
        return next(epochs for most, epochs in EPOCHS if self.num_numbers * self.num_outputs <= most)

    @property
    def rate(self) -> float:
        """So small that runs in other orders end close to one another, and that a run of fewer epochs does not.

        Speed does not depend on it.
        """
        curvature = 1.0 if self.squared else 0.25 if self.num_outputs == 1 else 0.5
        mean, largest = (curvature * norm for norm in self.norms)
        return min(min(0.001 * self.batch_size, 0.5) / mean, 0.2 * self.batch_size / largest)

    def with_batch_size(self, batch_size: int | str) -> Problem:
        """``"full"`` and more than there are rows mean all rows."""
        size = self.num_rows if batch_size == "full" else min(int(batch_size), self.num_rows)
        return replace(self, batch_size=size)

    def first_rows(self, num_rows: int) -> Problem:
        """The same problem on fewer rows; a full batch stays one."""
        fewer = replace(self, X=self.X[:num_rows], y=self.y[:num_rows])
        return fewer.with_batch_size("full" if self.full_batch else self.batch_size)

    def targets(self) -> NDArray[np.float32]:
        """(n,), or (n, k) with a 1 in each row: what scores and errors are compared with."""
        if self.num_outputs == 1:
            return self.y
        return np.eye(self.num_outputs, dtype=np.float32)[self.y.astype(np.int64)]

    def loss(self, parameters: NDArray[Any]) -> float:
        """The objective of ``parameters`` (k, d + 1), scores in float32 and the rest in float64."""
        W = np.atleast_2d(parameters)
        scores = self.X @ W[:, :-1].astype(np.float32).T + W[:, -1].astype(np.float32)
        scores = scores.astype(np.float64)
        if self.squared:
            losses = 0.5 * np.square(scores[:, 0] - self.y)
        elif self.num_outputs == 1:
            losses = np.logaddexp(0.0, scores[:, 0]) - self.y * scores[:, 0]
        else:
            top = scores.max(axis=1)
            right = scores[np.arange(self.num_rows), self.y.astype(np.int64)]
            losses = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - right
        return float(losses.mean() + 0.5 * self.alpha * np.square(W[:, :-1].astype(np.float64)).sum())

    @cached_property
    def loss_at_zero(self) -> float:
        return self.loss(np.zeros((self.num_outputs, self.num_columns + 1)))


def make_problem(name: str, X: Any, y: NDArray[Any], num_outputs: int = 1, squared: bool = False) -> Problem:
    """A problem of these rows, which should lie in random order."""
    squares = np.asarray(X.multiply(X).sum(axis=1)).ravel() if hasattr(X, "indptr") else (X * X).sum(axis=1)
    norms = (float(squares.mean()) + 1.0, float(squares.max()) + 1.0)
    return Problem(
        f"{name}{X.shape[0]:,} × {X.shape[1]:,}", X, y.astype(np.float32), num_outputs, squared, norms=norms
    )


def synthetic(num_rows: int, num_columns: int, squared: bool = False) -> Problem:
    """Gaussian columns, and classes drawn from a logistic model, or numbers with noise: the same every time."""
    generator = np.random.default_rng([num_rows, num_columns])
    X = generator.standard_normal((num_rows, num_columns), dtype=np.float32)
    weights = generator.standard_normal(num_columns) / np.sqrt(num_columns)
    scores = X @ weights.astype(np.float32)
    if squared:
        return make_problem("squared error, ", X, scores + generator.standard_normal(num_rows), squared=True)
    return make_problem("", X, generator.random(num_rows) < 1.0 / (1.0 + np.exp(-2.0 * scores)))
