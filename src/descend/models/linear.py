"""Linear models: scores are X Wᵀ + b, and what is around them to take a user's rows and give the user's labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.history import History
from descend.models.model import Model
from descend.types import FloatArray, is_sparse

KIND = "linear"


def initialise(num_outputs: int, num_columns: int, dtype: Any) -> FloatArray:
    """Zeros (k, d + 1): a linear model's objective is convex, so no start is better than the plain one."""
    return np.zeros((num_outputs, num_columns + 1), dtype=dtype)


@dataclass(slots=True)
class LinearModel(Model):
    """A linear model; ``parameters`` are (k, d + 1), the intercept last."""

    kind = KIND

    def encoded_scores(self, X: Any) -> FloatArray:
        return np.asarray(X @ self.parameters[:, :-1].T + self.parameters[:, -1], dtype=np.float64)

    def scores(self, columns: Any) -> FloatArray:
        if is_sparse(columns) and self.features.is_matrix and not self.features.takes_sparse:
            weights, intercept = self.in_units()
            return np.asarray(columns @ weights.T + intercept, dtype=np.float64)
        return Model.scores(self, columns)

    def layers(self) -> list[tuple[FloatArray, FloatArray]]:
        """The one layer: weights (d, k) and intercepts (k,); views."""
        return [(self.parameters[:, :-1].T, self.parameters[:, -1])]

    def in_deviations(self) -> FloatArray:
        """Weights for standardised columns: what one deviation of a column adds to the score, shapes as ``in_units``.

        The target's units are the user's. Columns that were not standardised keep their units.
        """
        weights = self.parameters[:, :-1].astype(np.float64)
        if self.target.task == "regression":
            weights = weights * np.asarray(self.target.scale, dtype=np.float64)[:, None]
        return self._for_inputs(weights)

    def in_units(self) -> tuple[FloatArray, FloatArray]:
        """Weights and intercept (k,) for columns before they were standardised, target units included.

        Weights are (k, columns) for a matrix, with 0 for columns that were left out; for a table they are (k, d),
        one for each of ``features.names``.
        """
        weights = self.parameters[:, :-1].astype(np.float64) / self.features.scale
        intercept = self.parameters[:, -1].astype(np.float64) - weights @ self.features.mean
        if self.target.task == "regression":
            scale = np.asarray(self.target.scale, dtype=np.float64)
            weights, intercept = weights * scale[:, None], intercept * scale + self.target.mean
        return self._for_inputs(weights), intercept

    def _for_inputs(self, weights: FloatArray) -> FloatArray:
        """A matrix's weights with 0 for the columns that were left out."""
        if not self.features.is_matrix or self.features.tells_missing:
            return weights
        whole = np.zeros((len(weights), len(self.features.input_names)))
        whole[:, self.features.origin] = weights
        return whole

    @classmethod
    def read(cls, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> LinearModel:
        """The model of a file that was read; raises ``ValueError`` or ``KeyError`` where its parts do not fit."""
        from descend.features import Features, Target

        model = cls(
            Features.from_json(header["features"]),
            Target.from_json(header["target"]),
            arrays["parameters"],
            header["loss"],
            header["summary"],
            History.from_json(header["history"]),
        )
        needed = (model.target.num_outputs, model.features.num_columns + 1)
        if model.parameters.shape != needed:
            raise ValueError(f"parameters are {model.parameters.shape}, and {needed} are needed")
        return model
