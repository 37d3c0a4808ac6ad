"""Networks: layers of units between encoded columns and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.history import History
from descend.models.model import Model
from descend.models.network import Network, aligned_zeros, check_hidden
from descend.objectives.activations import ACTIVATIONS
from descend.objectives.losses import sigmoid
from descend.types import FloatArray, is_sparse

KIND = "mlp"


@dataclass(slots=True)
class MLPModel(Model):
    """A network; ``parameters`` (P,) lie as ``Network`` says."""

    kind = KIND
    hidden: tuple[int, ...] = (100,)
    activation: str = "relu"
    labels: int = 0
    """Of multilabel classification the number of labels, each there or not; else 0."""

    @property
    def network(self) -> Network:
        """The shape: encoded columns, hidden layers, outputs."""
        sizes = (self.features.num_columns, *self.hidden, self.target.num_outputs)
        return Network(sizes, ACTIVATIONS[self.activation])

    def encoded_scores(self, X: Any) -> FloatArray:
        return self.network.scores_in_blocks(self.parameters, X)

    def scores(self, columns: Any) -> FloatArray:
        if is_sparse(columns) and not self.features.takes_sparse:
            columns = columns.toarray()
        return Model.scores(self, columns)

    def predict_scores(self, scores: FloatArray) -> NDArray[Any]:
        """What the scores say: a class each, labels (rows, k) of 0 and 1, or numbers (rows,) or (rows, k)."""
        if self.labels:
            return (scores > 0.0).astype(np.int64)
        return Model.predict_scores(self, scores)

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Probability of each class (rows, classes), or of each label (rows, k)."""
        if not self.labels:
            return Model.probabilities(self, scores)
        return np.asarray(
            np.minimum(sigmoid(scores), 1.0 - 2.0**-53)
        )  # no score is sure, whatever rounding makes of it

    def log_probabilities(self, scores: FloatArray) -> FloatArray:
        """Logarithm of ``probabilities``, finite also where those are 0."""
        return -np.logaddexp(0.0, -scores) if self.labels else Model.log_probabilities(self, scores)

    def layers(self) -> list[tuple[FloatArray, FloatArray]]:
        """Weights (inputs, units) and intercepts (units,) of each layer; views."""
        return self.network.parts(self.parameters)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Layer after layer, without what fills up."""
        named: dict[str, NDArray[Any]] = {}
        for number, (weights, bias) in enumerate(self.layers()):
            named |= {f"weights_{number}": weights, f"bias_{number}": bias}
        return named

    def more_header(self) -> dict[str, Any]:
        return {"hidden": list(self.hidden), "activation": self.activation, "labels": self.labels}

    @classmethod
    def read(cls, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> MLPModel:
        """The model of a file that was read; raises ``ValueError`` or ``KeyError`` where its layers do not fit."""
        from descend.features import Features, Target

        model = cls(
            Features.from_json(header["features"]),
            Target.from_json(header["target"]),
            np.empty(0),
            header["loss"],
            header["summary"],
            History.from_json(header["history"]),
            check_hidden(header["hidden"]),
            header["activation"],
            int(header["labels"]),
        )
        model.parameters = aligned_zeros(model.network.size, arrays["weights_0"].dtype)
        for number, (weights, bias) in enumerate(model.layers()):
            stored = arrays[f"weights_{number}"], arrays[f"bias_{number}"]
            if stored[0].shape != weights.shape or stored[1].shape != bias.shape:
                raise ValueError(f"layer {number} is {stored[0].shape}, and {weights.shape} is needed")
            weights[:], bias[:] = stored
        return model
