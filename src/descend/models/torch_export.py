"""A trained model as a PyTorch module: the same scores, from the columns as they were before they were encoded.

    encode     columns (n, inputs) → (n, d): scaled, gaps filled and told
    layer_0, activation_0, layer_1, …
    target     of regression: back into the target's units

Loaded only when asked for: it imports PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descend.errors import InputError, shorten
from descend.features import Features, Target
from descend.features.encoders import Number
from descend.types import FloatArray

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}
Layers = Sequence[tuple[FloatArray, FloatArray]]


class Encode(nn.Module):
    """Columns (n, inputs) as the model's d: ``(x − mean) / scale``, a missing one filled, and told beside it.

    The buffers are float64, as in descend; ``module.float()`` makes them float32 for devices that have no more.
    """

    origin: Tensor
    mean: Tensor
    scale: Tensor
    fill: Tensor
    tells: Tensor

    def __init__(self, features: Features, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_inputs = len(features.input_names)
        self.dtype = dtype
        fill, tells = gaps(features)
        self.register_buffer("origin", torch.from_numpy(features.origin.astype(np.int64)))
        self.register_buffer("mean", torch.from_numpy(features.mean.copy()))
        self.register_buffer("scale", torch.from_numpy(features.scale.copy()))
        self.register_buffer("fill", torch.from_numpy(fill))
        self.register_buffer("tells", torch.from_numpy(tells))

    def forward(self, X: Tensor) -> Tensor:
        if X.ndim != 2 or X.shape[1] != self.num_inputs:
            raise ValueError(
                f"X has shape {tuple(X.shape)}; (rows, {self.num_inputs}) is needed: the columns that the model "
                "was trained on, in their order"
            )
        values = X.to(self.mean.dtype)[:, self.origin]
        missing = values.isnan()
        encoded = torch.where(missing, self.fill, (values - self.mean) / self.scale)
        return torch.where(self.tells, missing.to(encoded.dtype), encoded).to(self.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Encode:
        """``module.float()`` and the like move what comes out along with the layers."""
        self.dtype = fn(torch.zeros((), dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, unused-ignore]


class Rescale(nn.Module):
    """Scores in the target's units: ``score · scale + mean``."""

    scale: Tensor
    mean: Tensor

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(np.asarray(target.scale), dtype=torch.float64))
        self.register_buffer("mean", torch.tensor(np.asarray(target.mean), dtype=torch.float64))

    def forward(self, scores: Tensor) -> Tensor:
        return (scores * self.scale + self.mean).to(scores.dtype)


def gaps(features: Features) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What stands for a missing value (d,), encoded, and which columns tell that one is missing.

    Raises ``InputError`` for columns that are no numbers: PyTorch has no texts and no dates.
    """
    if features.takes_sparse:
        return np.full(features.num_columns, np.nan), np.zeros(features.num_columns, dtype=bool)
    fill: list[float] = []
    tells: list[bool] = []
    for _, encoder in features.encoders:
        if not isinstance(encoder, Number):
            raise InputError(
                f"column {shorten(encoder.name)!r} is no number, and a PyTorch module takes numbers alone; "
                "to_torch(encoded=True) gives one that takes model_.features.encode(rows)"
            )
        if encoder.has_value:
            fill.append((encoder.fill - encoder.mean) / encoder.scale)
            tells.append(False)
        if encoder.tells_missing:
            fill.append(0.0)
            tells.append(True)
    return np.array(fill), np.array(tells)


def as_module(
    features: Features, target: Target, layers: Layers, activation: str, encoded: bool
) -> nn.Sequential:
    """The module; ``layers`` are weights (inputs, units) and intercepts (units,), ``encoded``: no ``encode``."""
    parts: list[tuple[str, nn.Module]] = []
    dtype = torch.from_numpy(np.empty(0, dtype=layers[0][0].dtype)).dtype
    if not encoded:
        parts.append(("encode", Encode(features, dtype)))
    for number, (weights, bias) in enumerate(layers):
        layer = nn.Linear(*weights.shape, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias.copy()))
        parts.append((f"layer_{number}", layer))
        if number + 1 < len(layers):
            parts.append((f"activation_{number}", ACTIVATIONS[activation]()))
    if target.task == "regression":
        parts.append(("target", Rescale(target)))
    return nn.Sequential(OrderedDict(parts)).eval()
