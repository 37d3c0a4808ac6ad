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

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from descend.objectives.losses import (
    SOFTMAX,
    Loss,
    row_derivatives,
    row_losses,
    second_derivatives,
    softmax,
)
from descend.types import Dataset, FloatArray

BLOCK_NUMBERS = 2**17
SCORES = 2**15
MOST_MOVES = 50
MOST_TRIALS = 20
GONE = 1e-10
"""A mean slope along the intercept below this is taken for none: what it hides is less than its square."""
NEARLY_GONE = 1e-8
STEEP = 0.2
"""A step ends well where the slope along it is below this share of that at its start."""


class Place(NamedTuple):
    """``parameters`` (k, d + 1) float64, the objective's ``value`` there and its ``gradient``.

    ``above`` is how far it can be above the lowest value at the most; None where nothing bounds it.
    """

    parameters: FloatArray
    value: float
    gradient: FloatArray
    above: float | None


def settle(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    fit_intercept: bool,
    step: FloatArray | None = None,
) -> Place:
    """The place at ``parameters`` − ``step`` (k, d + 1), or less of the step where the whole of it leads up.

    Its intercept is the lowest for its weights. In float64; the rows are read twice: for the scores of parameters and
    step, and for the gradient.
    """
    p = parameters.astype(np.float64)
    if step is None:
        scores = _scores(data, p)
    else:
        both = _scores(data, np.vstack([p, step]))
        scores, moves = both[:, : len(p)], both[:, len(p) :]
        share = _share(data, loss, alpha, scores, moves, p, step)
        p -= share * step
        scores -= share * moves
    if fit_intercept:
        move = _to_lowest_intercept(data, loss, scores)
        p[:, -1] += move
        scores += move
    mean_loss, gradient = 0.0, np.zeros(p.shape)
    for rows, weights in _blocks(data):
        slopes = row_derivatives(loss.code, scores[rows], data.y[rows], loss.shape) * weights[:, None]
        mean_loss += float(row_losses(loss.code, scores[rows], data.y[rows], loss.shape) @ weights)
        gradient[:, :-1] += (data.X[rows].astype(np.float64).T @ slopes).T
        gradient[:, -1] += slopes.sum(axis=0)
    gradient[:, :-1] += alpha * p[:, :-1]
    if not fit_intercept:
        gradient[:, -1] = 0.0
    value = mean_loss + 0.5 * alpha * float(np.sum(np.square(p[:, :-1])))
    above = None
    if alpha > 0.0 and np.isfinite(value) and float(np.abs(gradient[:, -1]).max()) <= NEARLY_GONE:
        above = float(np.sum(np.square(gradient[:, :-1]))) / (2.0 * alpha)
    return Place(p, value, gradient, above)


def _scores(data: Dataset, parameters: FloatArray) -> FloatArray:
    scores = np.empty((data.num_rows, len(parameters)))
    for rows, _ in _blocks(data):
        scores[rows] = data.X[rows].astype(np.float64) @ parameters[:, :-1].T
    scores += parameters[:, -1]
    return scores


def _blocks(data: Dataset) -> Iterator[tuple[slice, FloatArray]]:
    """Some rows at a time, and each one's share of the mean: only scores are kept for all rows."""
    step = max(1, BLOCK_NUMBERS // max(1, data.num_columns))
    if data.is_sparse:
        step = max(step, 8192)
    return _pieces(data, step)


def _pieces(data: Dataset, step: int) -> Iterator[tuple[slice, FloatArray]]:
    for start in range(0, data.num_rows, step):
        rows = slice(start, min(start + step, data.num_rows))
        weights = np.full(rows.stop - start, 1.0 / data.num_rows)
        yield rows, weights if data.weights is None else weights * data.weights[rows]


def _share(
    data: Dataset,
    loss: Loss,
    alpha: float,
    scores: FloatArray,
    moves: FloatArray,
    p: FloatArray,
    step: FloatArray,
) -> float:
    """How much of the step to take: all of it, or where the objective stops falling before its end, up to there."""
    w, v = p[:, :-1], step[:, :-1]

    def uphill(share: float) -> float:
        total = alpha * float(np.vdot(v, w - share * v))
        for rows, weights in _pieces(data, max(1, SCORES // scores.shape[1])):
            there = scores[rows] - share * moves[rows]
            slopes = row_derivatives(loss.code, there, data.y[rows], loss.shape)
            total += float(np.einsum("n,nk,nk", weights, slopes, moves[rows]))
        return -total

    low, high = 0.0, 1.0
    first = start = uphill(low)
    end = uphill(high)
    if not (first < 0.0 and end > STEEP * abs(first)):  # at the end it leads down still, or hardly up
        return 1.0
    share = 1.0
    for _ in range(MOST_TRIALS):
        share = low + (high - low) * min(0.9, max(0.1, start / (start - end)))
        slope = uphill(share)
        if abs(slope) <= STEEP * abs(first):
            break
        if slope > 0.0:
            high, end = share, slope
        else:
            low, start = share, slope
    return share


def _to_lowest_intercept(data: Dataset, loss: Loss, scores: FloatArray) -> FloatArray:
    """What has to be added to ``scores`` (n, k) for their mean loss to be lowest, (k,); by Newton's steps."""
    b = np.zeros(scores.shape[1])

    def mean_of(function: Callable[..., FloatArray], move: FloatArray) -> Any:
        return sum(
            weights @ function(loss.code, scores[rows] + move, data.y[rows], loss.shape)
            for rows, weights in _pieces(data, max(1, SCORES // scores.shape[1]))
        )

    slope = mean_of(row_derivatives, b)
    for _ in range(MOST_MOVES):
        if float(np.abs(slope).max()) <= GONE:
            break
        step = _inverse_bend(data, loss, scores, b, slope)
        for _ in range(MOST_TRIALS):
            there = mean_of(row_derivatives, b - step)
            shorter = np.abs(there).max() < 0.5 * np.abs(slope).max()
            if shorter or mean_of(row_losses, b - step) < mean_of(row_losses, b):
                break
            step = 0.5 * step
        else:
            break
        b, slope = b - step, there
    return b


def _inverse_bend(
    data: Dataset, loss: Loss, scores: FloatArray, move: FloatArray, slope: FloatArray
) -> FloatArray:
    """How far the intercepts go from ``move`` to the lowest place of the parabola, (k,)."""
    k = len(move)
    H = np.zeros((k, k))
    for rows, weights in _pieces(data, max(1, SCORES // scores.shape[1])):
        there = scores[rows] + move
        if loss.code == SOFTMAX:
            p = softmax(there)
            H += np.diag(weights @ p) - (p * weights[:, None]).T @ p
        else:
            H += np.diag(weights @ second_derivatives(loss.code, there, data.y[rows], loss.shape))
    if loss.code == SOFTMAX:
        return np.asarray(np.linalg.lstsq(H, slope)[0])
    return np.asarray(slope / np.maximum(np.diag(H), 1e-12))
