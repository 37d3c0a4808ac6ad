"""Learners of one row at a time, from a stream. They get fewer rows, and the time is scaled to all."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


def _entries(problem: Problem, row: int) -> list[tuple[int, float]]:
    """Column numbers and values of a row; zeros are left out, as both packages advise."""
    X = problem.X
    if problem.sparse:
        held = slice(X.indptr[row], X.indptr[row + 1])
        return list(zip(X.indices[held].tolist(), X.data[held].tolist(), strict=True))
    return [(column, value) for column, value in enumerate(X[row].tolist()) if value]


class VowpalWabbit(Competitor):
    """Plain steps: its default, adaptive and normalised, does more for each row."""

    name, module, row_a_step, patience, most_numbers = (
        "Vowpal Wabbit",
        "vowpalwabbit",
        True,
        None,
        1e6,
    )
    what = (
        "`--sgd` at a constant rate, from a cache file as its documents advise for several passes: the time of an "
        "additional pass. It goes in the order of the file, and parses in a second thread; one against the rest of "
        "several classes. So many rows as hold a million numbers, scaled to all: the file stays in memory"
    )

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.folder = TemporaryDirectory(prefix="descend-benchmark-")
        p, file = problem, Path(self.folder.name) / "rows.vw"
        loss = "squared" if p.squared else "logistic"
        labels = p.y.tolist() if p.squared else p.y.astype(int) + 1 if p.num_outputs > 1 else 2 * p.y - 1
        with file.open("w", encoding="ascii") as lines:
            for row, label in enumerate(labels):
                entries = " ".join(f"{column}:{value:.9g}" for column, value in _entries(p, row))
                lines.write(f"{label:.9g} | {entries}\n")
        # Its squared loss has no half: the same step is half the rate, and the penalty is in steps of the rate.
        rate, alpha = (p.rate / 2, 2 * p.alpha) if p.squared else (p.rate, p.alpha)
        self.options = (
            f"-d {file} --cache_file {file}.cache --quiet --sgd --loss_function {loss} -l {rate} --power_t 0 "
            f"--l2 {alpha} --no_bias_regularization --holdout_off -b 22"
        )
        if p.num_outputs > 1:
            self.options += f" --oaa {p.num_outputs}"

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        return problem.num_outputs == 1

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from vowpalwabbit import Workspace

        p = self.problem
        learner = Workspace(f"{self.options} --passes {epochs}")
        if p.num_outputs > 1:
            learner.finish()
            return np.zeros((p.num_outputs, p.num_columns + 1))
        # Predictions, because what it calls weights lack the shrinking that is still to be multiplied in.
        intercept = learner.predict("|")
        slopes = [learner.predict(f"| {column}:1") - intercept for column in range(p.num_columns)]
        learner.finish()
        return np.array([[*slopes, intercept]])


class River(Competitor):
    """Rows are dictionaries, made before the clock runs."""

    name, module, row_a_step, patience, most_numbers = "river", "river", True, None, 4e4
    what = (
        "`learn_one` of `LogisticRegression`, `LinearRegression` or `SoftmaxRegression` with `optim.SGD`, on rows "
        "that are dictionaries already; so many rows as hold 40,000 numbers, scaled to all. One row at a time is "
        "its nature: it is made for streams"
    )

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        p = problem
        self.rows = [dict(_entries(p, row)) for row in range(p.num_rows)]
        self.labels = p.y.tolist() if p.squared else p.y.astype(int).tolist()

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        return problem.num_outputs == 1  # its softmax has no intercept

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from river import linear_model, optim

        p, rate = self.problem, self.problem.rate
        if p.num_outputs > 1:
            model = linear_model.SoftmaxRegression(optim.SGD(rate), l2=p.alpha)
        elif p.squared:  # its squared loss has no half
            model = linear_model.LinearRegression(optim.SGD(rate / 2), l2=2 * p.alpha, intercept_lr=rate / 2)
        else:
            model = linear_model.LogisticRegression(optim.SGD(rate), l2=p.alpha, intercept_lr=rate)
        generator = np.random.default_rng(p.seed)
        for _ in range(epochs):
            for row in generator.permutation(p.num_rows).tolist():
                model.learn_one(self.rows[row], self.labels[row])
        if p.num_outputs > 1:
            return np.zeros((p.num_outputs, p.num_columns + 1))
        return np.array(
            [[*(model.weights.get(column, 0.0) for column in range(p.num_columns)), model.intercept]]
        )
