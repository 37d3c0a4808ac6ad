"""How far above the lowest loss a place can be at the most: a bound, and no estimate.

An objective with a penalty ½ alpha |w|² bends by alpha at least. With the intercept at its lowest for the weights w,
no place lies lower than

    F(w) − |g|² / (2 alpha),    g the gradient at w,

so a place whose gradient is nearly gone bounds the gap of every other: F − F(w) + |g|² / (2 alpha). It is the duality
gap (Fenchel), too, with the slopes of the losses at w as the dual point: their conjugates then cost nothing, and what
is left is |g|² / (2 alpha). The bound is therefore taken at the best place known, behind the certificate's step.
Without alpha there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from descend.objectives.losses import SOFTMAX, Loss, losses_and_derivatives, second_derivatives, softmax
from descend.types import Dataset, FloatArray

BLOCK_NUMBERS = 2**17
MOST_MOVES = 50
GONE = 1e-13
"""A mean slope along the intercept below this is rounding."""
NEARLY_GONE = 1e-9


class Place(NamedTuple):
    """``parameters`` (k, d + 1) float64, the objective's ``value`` there and its ``gradient``.

    ``above`` is how far it can be above the lowest value at the most; None where nothing bounds it.
    """

    parameters: FloatArray
    value: float
    gradient: FloatArray
    above: float | None


def settle(data: Dataset, loss: Loss, alpha: float, parameters: FloatArray, fit_intercept: bool) -> Place:
    """The place with the weights of ``parameters`` (k, d + 1) and the intercept that is lowest with them; float64.

    Reads the rows twice: for their scores, and for the gradient.
    """
    p = parameters.astype(np.float64)
    scores = np.empty((data.num_rows, len(p)))
    for rows in _blocks(data):
        scores[rows] = data.X[rows].astype(np.float64) @ p[:, :-1].T
    weights = np.full(data.num_rows, 1.0 / data.num_rows)
    if data.weights is not None:
        weights *= data.weights
    if fit_intercept:
        p[:, -1] = _lowest_intercept(loss, scores, data.y, weights, p[:, -1])
    losses, slopes = losses_and_derivatives(loss.code, scores + p[:, -1], data.y, loss.shape)
    slopes = slopes * weights[:, None]
    gradient = np.zeros(p.shape)
    for rows in _blocks(data):
        gradient[:, :-1] += (data.X[rows].astype(np.float64).T @ slopes[rows]).T
    gradient[:, :-1] += alpha * p[:, :-1]
    if fit_intercept:
        gradient[:, -1] = slopes.sum(axis=0)
    value = float(losses @ weights) + 0.5 * alpha * float(np.sum(np.square(p[:, :-1])))
    above = None
    if alpha > 0.0 and np.isfinite(value) and float(np.abs(gradient[:, -1]).max()) <= NEARLY_GONE:
        above = float(np.sum(np.square(gradient[:, :-1]))) / (2.0 * alpha)
    return Place(p, value, gradient, above)


def _blocks(data: Dataset) -> Iterator[slice]:
    step = max(1, BLOCK_NUMBERS // max(1, data.num_columns))
    if data.is_sparse:
        step = max(step, 8192)
    for start in range(0, data.num_rows, step):
        yield slice(start, min(start + step, data.num_rows))


def _lowest_intercept(
    loss: Loss, scores: FloatArray, y: FloatArray, weights: FloatArray, start: FloatArray
) -> FloatArray:
    """The intercepts (k,) with which the mean loss of ``scores`` (n, k) is lowest, by Newton's steps."""
    b = start.copy()

    def look(at: FloatArray) -> tuple[float, FloatArray]:
        losses, slopes = losses_and_derivatives(loss.code, scores + at, y, loss.shape)
        return float(losses @ weights), np.asarray(weights @ slopes)

    value, slope = look(b)
    for _ in range(MOST_MOVES):
        if float(np.abs(slope).max()) <= GONE:
            break
        step = _inverse_bend(loss, scores + b, y, weights, slope)
        length = 1.0
        while length > 1e-10:
            lower, there = look(b - length * step)
            if lower <= value + 1e-15 * abs(value) and np.abs(there).max() < np.abs(slope).max():
                break
            length *= 0.5
        else:
            break
        b, value, slope = b - length * step, lower, there
    return b


def _inverse_bend(
    loss: Loss, scores: FloatArray, y: FloatArray, weights: FloatArray, slope: FloatArray
) -> FloatArray:
    """How far the intercepts go to the lowest place of the parabola, (k,)."""
    if loss.code == SOFTMAX:
        p = softmax(scores)
        H = np.diag(weights @ p) - (p * weights[:, None]).T @ p
        return np.asarray(np.linalg.lstsq(H, slope)[0])
    bends = weights @ second_derivatives(loss.code, scores, y, loss.shape)
    return np.asarray(slope / np.maximum(bends, 1e-12))
