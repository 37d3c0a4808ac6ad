"""descend: the engine alone, and a whole fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


class Descend(Competitor):
    """Each epoch's order is made inside the clock."""

    name, module, patience = "descend", "descend", None
    what = "the compiled engine as the training loop calls it: order, then one call an epoch"

    def __init__(self, problem: Problem) -> None:
        from descend.engines.base import Rule
        from descend.engines.choose import make_engine
        from descend.objectives.losses import find_loss
        from descend.objectives.penalties import Penalty
        from descend.types import Dataset
        from descend.updates import find_optimizer

        super().__init__(problem)
        task = "regression" if problem.squared else "classification"
        data = Dataset(problem.X, problem.y.astype(np.float64)[:, None])
        loss = find_loss(None, task, problem.num_outputs)
        self.engine = make_engine(data, loss, Penalty(problem.alpha))
        self.rule = Rule(find_optimizer("sgd"), problem.rate)

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from descend.batches import Visits, shuffle
        from descend.engines.base import State
        from descend.models.linear import initialise

        p = self.problem
        state = State(initialise(p.num_outputs, p.num_columns, p.X.dtype))
        visits = Visits(p.num_rows)
        for epoch in range(1, epochs + 1):
            order = None if p.full_batch else shuffle(visits, p.seed, epoch)
            self.engine.run(state, self.rule, order, p.batch_size)
        return state.parameters


class DescendFit(Competitor):
    """What happens once (statistics, a shuffled copy, curvature) takes as long as many epochs."""

    name, module, patience, batch_sizes = "descend, whole fit", "descend", None, (32,)
    what = (
        "`LinearClassifier.fit` as people call it, at batch size 32; it also looks at the loss of all rows, after "
        "each of the first 20 epochs, then less often. Heavy rows are visited more than once"
    )

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        mean, largest = problem.norms
        return largest < 8 * mean and not problem.squared  # heavy rows are split, and targets are scaled

    @classmethod
    def epochs(cls, problem: Problem) -> int:
        return min(41, 10 * problem.epochs_timed)

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from descend import LinearClassifier, LinearRegressor

        p = self.problem
        model = (LinearRegressor if p.squared else LinearClassifier)(
            alpha=p.alpha,
            standardize=False,
            batch_size="full" if p.full_batch else p.batch_size,
            optimizer="sgd",
            learning_rate=p.rate,
            epochs=epochs,
            average=False,
            random_state=p.seed,
        ).fit(p.X, p.y)
        return np.column_stack([np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)])
