"""Products of a network's Hessian with vectors: what the gradient does along a direction, by the chain rule.

Every quantity of a gradient's pass has a twin, how fast it changes along the direction (Pearlmutter 1994,
https://doi.org/10.1162/neco.1994.6.1.147). Only the second derivatives of a unit and of the loss, functions of a few
scores, come from central differences.

Not the difference of two gradients: where a row turns a unit of relu off between them, that jump over their tiny
distance looks like curvature. One such row of digits made 274 of 0.4. Relu's corners, and those of losses that have
them, count as what they are on either side: no curvature.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.reference_mlp import weights_of
from descend.models.network import Network
from descend.objectives.activations import IDENTITY, RELU, activate, slope_of
from descend.objectives.losses import Loss, row_derivatives
from descend.objectives.penalties import Penalty
from descend.types import Dataset, FloatArray

STEP = 1e-5
"""Of the scores, over the largest change among them: a third of the digits of float64."""


class NetworkHessian:
    """The Hessian of mean loss + penalty over all rows of ``data``, float64, at one place (P,).

    L1 has corners where weights are 0 and no curvature elsewhere.
    """

    def __init__(self, data: Dataset, loss: Loss, penalty: Penalty, network: Network, at: FloatArray) -> None:
        self.data, self.loss, self.network = data, loss, network
        weights = np.ones(data.num_rows) if data.weights is None else data.weights
        self.weights = (weights / weights.sum())[:, None]
        self.ridge = penalty.alpha * weights_of(network)
        self.parts = network.parts(np.asarray(at, dtype=np.float64))
        code = network.activation.code
        self.inputs: list[Any] = [data.X]
        self.scores: list[FloatArray] = []
        for W, b in self.parts:
            self.scores.append(np.asarray(self.inputs[-1] @ W + b))
            self.inputs.append(activate(code, self.scores[-1]))
        outputs = self.scores[-1]
        self.errors = [self.weights * row_derivatives(loss.code, outputs, data.y, loss.shape)]
        self.slopes = [slope_of(code, z, a) for z, a in zip(self.scores[:-1], self.inputs[1:-1], strict=True)]
        for (W, _), slope in zip(self.parts[:0:-1], reversed(self.slopes), strict=True):
            self.errors.insert(0, (self.errors[0] @ W.T) * slope)

    def times(self, direction: FloatArray) -> FloatArray:
        """The product with ``direction`` (P,)."""
        along = self.network.parts(np.asarray(direction, dtype=np.float64))
        moving: list[Any] = [None]  # the rows do not change
        faster: list[FloatArray] = []
        for number, ((W, _), (V, v)) in enumerate(zip(self.parts, along, strict=True)):
            change = np.asarray(self.inputs[number] @ V + v)
            if number:
                change += moving[number] @ W
            faster.append(change)
            if number + 1 < len(self.parts):
                moving.append(self.slopes[number] * change)
        product = self.ridge * direction
        into = self.network.parts(product)
        error = self.weights * self._loss_bend(faster[-1])
        for number in range(len(self.parts) - 1, -1, -1):
            into[number][0][:] += self.inputs[number].T @ error
            into[number][1][:] += error.sum(axis=0)
            if not number:
                break
            into[number][0][:] += moving[number].T @ self.errors[number]
            W, V = self.parts[number][0], along[number][0]
            below = number - 1
            error = (error @ W.T + self.errors[number] @ V.T) * self.slopes[below]
            if self.network.activation.code not in (IDENTITY, RELU):
                error += (self.errors[number] @ W.T) * self._unit_bend(self.scores[below], faster[below])
        return product

    def _loss_bend(self, change: FloatArray) -> FloatArray:
        """How fast the loss's derivatives change with the scores."""
        if self.loss.has_corners:
            return np.zeros_like(change)
        step = _step(change)
        high, low = (
            row_derivatives(self.loss.code, self.scores[-1] + by * change, self.data.y, self.loss.shape)
            for by in (step, -step)
        )
        return np.asarray((high - low) / (2.0 * step))

    def _unit_bend(self, scores: FloatArray, change: FloatArray) -> FloatArray:
        """How fast the units' slopes change with their scores."""
        step, code = _step(change), self.network.activation.code
        high, low = (
            slope_of(code, z, activate(code, z)) for z in (scores + step * change, scores - step * change)
        )
        return np.asarray((high - low) / (2.0 * step))


def _step(change: FloatArray) -> float:
    largest = float(np.abs(change).max(initial=0.0))
    return STEP / largest if largest > 0.0 else STEP
