"""What estimators of classes share, linear or not, and what those of numbers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.metaestimators import available_if

from descend.estimators.checks import as_numbers
from descend.estimators.estimator import Estimator
from descend.estimators.scores import ScoresSources
from descend.features.class_weights import written_weight
from descend.types import FloatArray, Task


def _has_probabilities(estimator: Classifier) -> bool:
    """Whether the loss defines probabilities; without, the estimator has no method that asks for them."""
    if estimator.loss in (None, "log_loss", "modified_huber"):
        return True
    raise AttributeError(f"loss {estimator.loss!r} defines no probabilities; log_loss and modified_huber do")


class Classifier(ScoresSources, ClassifierMixin, Estimator):  # type: ignore[misc]
    """Scores said as classes and probabilities."""

    _task: Task = "classification"
    classes_: NDArray[Any]
    class_weight: Mapping[Any, float] | str | None

    def decision_function(self, X: Any) -> FloatArray:
        """Scores: (n,) log-odds of the second of two classes, or (n, K)."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each row, (n,)."""
        scores = self._scores(X)
        codes = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[codes])

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> FloatArray:
        """Probability of each class, (n, K), in the order of ``classes_``."""
        scores = self._scores(X)
        return self.model_.probabilities(scores)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithm of ``predict_proba``; with log_loss finite even where that rounds to 0."""
        scores = self._scores(X)
        return self.model_.log_probabilities(scores)

    def _adopt_classes(self, model: Any) -> None:
        model.summary["class_weight"] = written_weight(self.class_weight, model.target.classes)
        if not hasattr(self, "classes_"):
            self.classes_ = np.asarray(model.target.classes)
        else:  # a class whose rows all weigh nothing is absent
            self.classes_ = self.classes_[np.isin(self.classes_, np.asarray(model.target.classes))]


class Regressor(ScoresSources, RegressorMixin, Estimator):  # type: ignore[misc]
    """Scores said as numbers, in as many columns as the target has."""

    _task: Task = "regression"
    _takes_outputs = True
    _one_output: bool

    def _check_y(self, y: Any, weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        numbers = as_numbers(y)
        self._one_output = numbers.ndim == 1
        return numbers

    def predict(self, X: Any) -> FloatArray:
        """The number expected for each row: (n,), or (n, k)."""
        scores = self._scores(X)
        expected = self.model_.expected(scores)
        return expected[:, 0] if self._one_output else expected

    def _adopt(self, model: Any) -> None:
        super()._adopt(model)
        one = model.target.num_outputs == 1
        if not hasattr(self, "_one_output"):
            self._one_output = one and not model.summary.get("y_is_column", False)
        elif one and not self._one_output:
            model.summary["y_is_column"] = True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags
