"""Convex conjugates of the losses: sup over scores of θ · score − loss, as a function of the slope θ.

With them every set of slopes gives a number that no parameters can go below (Fenchel's dual), and so a bound on what
is left to gain that holds always: ``engines/duality.py``. Slopes are taken to be possible ones, such as derivatives
of the loss, made smaller in size or not; outside of those a conjugate is infinite, and the formulas are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.objectives.losses import (
    EPSILON_INSENSITIVE,
    HINGE,
    LOG_LOSS,
    MODIFIED_HUBER,
    POISSON,
    QUANTILE,
    SOFTMAX,
    SQUARED_HINGE,
    Shape,
    targets_of,
)
from descend.types import FloatArray


def conjugates(code: int, slopes: FloatArray, y: FloatArray, shape: Shape) -> FloatArray:
    """The conjugate of each row's and score's loss at ``slopes`` (n, k), float64; softmax: (n, 1), of the row.

    Corners count as corners, whatever ``shape`` rounds them over.
    """
    if code == SOFTMAX:
        shares = slopes + (y == np.arange(slopes.shape[1]))
        return np.asarray(_x_log_x(shares).sum(axis=1, keepdims=True))
    targets = targets_of(y, slopes.shape[1])
    if code == LOG_LOSS:
        share = slopes + targets
        return np.asarray(_x_log_x(share) + _x_log_x(1.0 - share))
    size = np.abs(slopes)
    if code == HINGE:
        return -size
    if code in (SQUARED_HINGE, MODIFIED_HUBER):
        return np.asarray(0.25 * size * size - size)
    along = slopes * targets
    if code == EPSILON_INSENSITIVE:
        return np.asarray(shape[0] * size + along)
    if code == QUANTILE:
        return along
    if code == POISSON:
        count = slopes + targets
        return np.asarray(_x_log_x(count) - count - _x_log_x(targets) + targets)
    return np.asarray(0.5 * slopes * slopes + along)  # squared error, and Huber whose slopes end at epsilon


def _x_log_x(x: Any) -> Any:
    """The product x · log x, and 0 at 0 and at what rounding leaves below it."""
    x = np.maximum(x, 0.0)
    return x * np.log(np.maximum(x, 1e-300))
