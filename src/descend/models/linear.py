"""Linear models: scores are X Wᵀ + b, and what is around them to take a user's rows and give the user's labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError, ModelFileError
from descend.history import History
from descend.objectives.losses import sigmoid, softmax
from descend.types import FloatArray, is_sparse

if TYPE_CHECKING:
    from descend.features import Features, Target

KIND = "linear"


def initialise(num_outputs: int, num_columns: int, dtype: Any) -> FloatArray:
    """Zeros (k, d + 1): a linear model's objective is convex, so no start is better than the plain one."""
    return np.zeros((num_outputs, num_columns + 1), dtype=dtype)


@dataclass(slots=True)
class LinearModel:
    """Trained parameters, with the features and the target that they belong to.

    ``parameters`` (k, d + 1) work on encoded columns; the intercept comes last.
    """

    features: Features
    target: Target
    parameters: FloatArray
    loss: str
    summary: dict[str, Any] = field(default_factory=dict)
    """Settings and figures of the run, JSON-able."""
    history: History = field(default_factory=History)

    def scores(self, columns: Any) -> FloatArray:
        """Scores (rows, k) of a block's columns: log-odds or margins, or numbers in the target's units.

        Of poisson they are the logarithms of what is expected.
        """
        if is_sparse(columns) and self.features.is_matrix and not self.features.takes_sparse:
            weights, intercept = self.in_units()
            return np.asarray(columns @ weights.T + intercept, dtype=np.float64)
        X = self.features.encode(columns, dtype=self.parameters.dtype)
        scores = np.asarray(X @ self.parameters[:, :-1].T + self.parameters[:, -1], dtype=np.float64)
        if self.target.task == "regression":
            scores = scores * self.target.scale + self.target.mean
        return scores

    def predict_scores(self, scores: FloatArray) -> NDArray[Any]:
        """What the scores say: a class each (rows,), or numbers (rows,) or (rows, k)."""
        if self.target.task == "regression":
            scores = self.expected(scores)
            return scores[:, 0] if scores.shape[1] == 1 else scores
        codes = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return self.target.decode(codes)

    def expected(self, scores: FloatArray) -> FloatArray:
        """The numbers (rows, k) that a regression's scores stand for."""
        return np.exp(scores) if self.loss == "poisson" else scores

    @property
    def has_probabilities(self) -> bool:
        """Whether the loss says how likely a class is, and not only on which side a row lies."""
        return self.loss in ("log_loss", "modified_huber")

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Probability of each class (rows, classes); raises ``InputError`` where the loss defines none."""
        if self.target.task == "regression":
            raise InputError("probabilities belong to classification; this model predicts numbers")
        if not self.has_probabilities:
            raise InputError(
                f"loss {self.loss!r} defines no probabilities; train with log_loss or modified_huber for them"
            )
        if self.loss == "modified_huber":  # Zhang 2004; several classes as scikit-learn has them
            shares = (np.clip(scores, -1.0, 1.0) + 1.0) / 2.0
            if scores.shape[1] == 1:
                return np.hstack([1.0 - shares, shares])
            total = shares.sum(axis=1, keepdims=True)
            even = np.full_like(shares, 1.0 / shares.shape[1])
            return np.where(total > 0.0, shares / np.where(total > 0.0, total, 1.0), even)
        if scores.shape[1] == 1:
            positive = sigmoid(scores)
            return np.hstack([sigmoid(-scores), positive])
        return softmax(scores)

    def log_probabilities(self, scores: FloatArray) -> FloatArray:
        """Logarithm of ``probabilities``; from the scores, so that it stays finite where those are 0."""
        if self.target.task == "regression" or self.loss != "log_loss":
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(self.probabilities(scores)))
        if scores.shape[1] == 1:
            return np.hstack([-np.logaddexp(0.0, scores), -np.logaddexp(0.0, -scores)])
        shifted = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

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

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the model as one file (safetensors with a JSON header); an existing one stays unless ``force``."""
        from descend.model_file import write_model

        header = {
            "kind": KIND,
            "loss": self.loss,
            "features": self.features.to_json(),
            "target": self.target.to_json(),
            "summary": self.summary,
            "history": self.history.to_json(),
        }
        return write_model(path, {"parameters": self.parameters}, header, force=force)

    @classmethod
    def load(cls, path: str | Path) -> LinearModel:
        """The model in ``path``; raises ``ModelFileError`` where it is damaged or something else."""
        from descend.features import Features, Target
        from descend.model_file import read_model

        arrays, header = read_model(path)
        if header.get("kind") != KIND or "parameters" not in arrays:
            raise ModelFileError(f"{path} holds a model of kind {header.get('kind')!r}; {KIND!r} is read")
        return cls(
            Features.from_json(header["features"]),
            Target.from_json(header["target"]),
            arrays["parameters"],
            header["loss"],
            header["summary"],
            History.from_json(header["history"]),
        )
