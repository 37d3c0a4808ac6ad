"""What all models share: trained parameters between a user's rows and the user's labels, and what scores mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError
from descend.history import History
from descend.objectives.losses import sigmoid, softmax
from descend.types import FloatArray

if TYPE_CHECKING:
    from descend.features import Features, Target


@dataclass(slots=True)
class Model:
    """Trained parameters, with the features and the target that they belong to; they work on encoded columns."""

    kind: ClassVar[str]
    features: Features
    target: Target
    parameters: FloatArray
    loss: str
    summary: dict[str, Any] = field(default_factory=dict)
    """Settings and figures of the run, JSON-able."""
    history: History = field(default_factory=History)

    def encoded_scores(self, X: Any) -> FloatArray:
        """Scores (n, k) of encoded rows, numbers on the target's scale."""
        raise NotImplementedError

    def scores(self, columns: Any) -> FloatArray:
        """Scores (rows, k) of a block's columns: log-odds or margins, or numbers in the target's units.

        Of poisson they are the logarithms of what is expected.
        """
        return self.scores_of_encoded(self.features.encode(columns, dtype=self.parameters.dtype))

    def scores_of_encoded(self, X: Any) -> FloatArray:
        """``scores`` of rows that are encoded already."""
        scores = self.encoded_scores(X)
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

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the model as one file (safetensors with a JSON header); an existing one stays unless ``force``."""
        from descend.model_file import write_model

        header = {
            "kind": self.kind,
            "loss": self.loss,
            "features": self.features.to_json(),
            "target": self.target.to_json(),
            "summary": self.summary,
            "history": self.history.to_json(),
        }
        return write_model(path, self.arrays(), header | self.more_header(), force=force)

    def to_torch(self, encoded: bool = False) -> Any:
        """The model as a ``torch.nn.Sequential`` of its own: X (n, columns), as ``predict`` takes it, to ``scores``.

        The scores (n, k) are those of ``decision_function`` (log-odds or margins; the class is the largest, of two
        classes score > 0) or numbers in the target's units (of poisson their logarithm). A missing value is ``nan``.
        ``encoded``: it takes what ``features.encode`` makes of rows, as tables with texts or dates need it.

        Raises ``InputError`` without PyTorch (``pip install "descend[torch]"``), or for a column that is no number.
        """
        try:
            from descend.models.torch_export import as_module
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise InputError(
                'to_torch() needs PyTorch, which is not installed: pip install "descend[torch]"'
            ) from None
        return as_module(
            self.features, self.target, self.layers(), getattr(self, "activation", "identity"), encoded
        )

    def layers(self) -> list[tuple[FloatArray, FloatArray]]:
        """Weights (inputs, units) and intercepts (units,) of each layer."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What of the model is numbers, by name."""
        return {"parameters": self.parameters}

    def more_header(self) -> dict[str, Any]:
        """What else its file has to say, JSON-able."""
        return {}
