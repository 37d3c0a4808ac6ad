"""scikit-learn's SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


class ScikitLearn(Competitor):
    """Shuffled, constant rate, no stopping rule."""

    name, module, row_a_step, patience = "scikit-learn SGD", "sklearn", True, None
    what = (
        "`SGDClassifier`, or `SGDRegressor` for squared error: `max_iter` epochs, `tol=None`, constant rate, on "
        "C-contiguous float32 or CSR. A row a step at every batch size: it has no mini-batches. Of several classes "
        "it trains one against the rest, as many two-class models as there are classes; the others train softmax. "
        "On sparse rows its intercept moves a hundredth as fast as everybody's, so there its loss is not compared"
    )

    @classmethod
    def same_algorithm(cls, problem: Problem) -> bool:
        return problem.num_outputs == 1 and not problem.sparse

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from sklearn.linear_model import SGDClassifier, SGDRegressor

        p = self.problem
        model = (SGDRegressor if p.squared else SGDClassifier)(
            loss="squared_error" if p.squared else "log_loss",
            penalty="l2",
            alpha=p.alpha,
            learning_rate="constant",
            eta0=p.rate,
            max_iter=epochs,
            tol=None,
            shuffle=True,
            random_state=p.seed,
        ).fit(p.X, p.y)
        return np.column_stack([np.atleast_2d(model.coef_), model.intercept_])
