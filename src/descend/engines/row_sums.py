"""Sums over rows at fixed parameters, by the kernels that go with the number of outputs: a few, or many.

Arguments as in ``row_kernels.py``; ``gradient`` (k, d + 1) is added to.
"""

from __future__ import annotations

import numpy as np

from descend.engines import many_outputs, row_kernels
from descend.engines.linear_arguments import Data
from descend.engines.many_outputs import FEWEST
from descend.objectives.losses import Loss
from descend.types import FloatArray


def add_gradient(
    data: Data, start: int, stop: int, parameters: FloatArray, loss: Loss, gradient: FloatArray
) -> None:
    """Adds the gradients of rows start … stop − 1."""
    if len(parameters) < FEWEST:
        row_kernels.add_gradient(data, start, stop, parameters, loss.code, loss.kernel_shape, gradient)
    else:
        _of_many(data, start, stop, parameters, loss, gradient, 0.0, False)


def add_objective(
    data: Data, start: int, stop: int, parameters: FloatArray, loss: Loss, gradient: FloatArray, total: float
) -> float:
    """The same; returns ``total`` and the sum of the rows' weighted losses."""
    if len(parameters) < FEWEST:
        shape = loss.kernel_shape
        return row_kernels.add_objective(data, start, stop, parameters, loss.code, shape, gradient, total)
    return _of_many(data, start, stop, parameters, loss, gradient, total, True)[0]


def add_losses(
    data: Data, start: int, stop: int, parameters: FloatArray, loss: Loss, total: float
) -> tuple[float, float]:
    """``total`` and the sum of the rows' weighted losses; and the sum of their weights."""
    if len(parameters) < FEWEST:
        return row_kernels.add_losses(data, start, stop, parameters, loss.code, loss.kernel_shape, total)
    nothing = np.empty((0, 0), dtype=parameters.dtype)
    return _of_many(data, start, stop, parameters, loss, nothing, total, True)


def add_softmax_curvature(
    X: FloatArray, probabilities: FloatArray, weights: FloatArray, direction: FloatArray, out: FloatArray
) -> None:
    """Adds softmax's curvature times ``direction`` to ``out``, both (k, d + 1)."""
    few = len(direction) < FEWEST
    kernel = row_kernels.add_softmax_curvature if few else many_outputs.add_softmax_curvature_of_many
    kernel(X, probabilities, weights, direction, out)


def _of_many(
    data: Data,
    start: int,
    stop: int,
    parameters: FloatArray,
    loss: Loss,
    gradient: FloatArray,
    total: float,
    with_loss: bool,
) -> tuple[float, float]:
    code, shape = loss.code, loss.kernel_shape
    return many_outputs.add_sums_of_many(
        data, start, stop, parameters, code, shape, gradient, total, with_loss
    )
