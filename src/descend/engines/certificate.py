"""How far above the lowest loss the parameters still are, without knowing the lowest loss.

Near the lowest place the gap is ½ g · H⁻¹ g, with the gradient g and the Hessian H of the objective. H⁻¹ g comes
from conjugate gradients on the Hessian of a sample of rows; each step adds to the estimate from below, and they
end when a step adds less than a hundredth of the sum. For squared error it is exact. Rows far heavier than the
mean are all in the sample: without them twenty rows of a thousand times the size went unseen, and a gap five
times too large was certified.

H⁻¹ g is also the step to the lowest place. An estimate is believed when that step was taken and hardly anything is
left to gain behind it (``engines/closing.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from descend.engines.by_storage import squared_norms
from descend.objectives.losses import SOFTMAX, Loss, second_derivatives, softmax
from descend.types import Dataset, FloatArray, IntArray

SAMPLE_ROWS = 6000
ROWS_A_COLUMN = 20
"""Fewer rows than this for each column know of directions along which they do not bend and all rows do."""
NEARLY = 1.7
HEAVY = 8.0
MOST_STEPS = 100
SMALL_STEP = 0.01
MANY_STEPS = 30
"""Where it takes more than this, the many small gains that are cut off add up: the estimate is doubled."""


class Estimate(NamedTuple):
    """``gap`` ½ g · H⁻¹ g, and ``step`` H⁻¹ g (k, d + 1): parameters − step is where it would be gone."""

    gap: float
    step: FloatArray


def estimate_gap(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    gradient: FloatArray,
    first: Callable[[FloatArray], FloatArray],
    fit_intercept: bool = True,
    most: float = np.inf,
) -> Estimate:
    """½ g · H⁻¹ g at ``parameters`` (k, d + 1) with ``gradient`` float64; ``first`` preconditions.

    The sum grows: it is cut short once it is above ``most``.
    """
    hessian = _hessian(data, loss, alpha, parameters, fit_intercept)
    residual = gradient.copy()
    if not fit_intercept:
        residual[:, -1] = 0.0
    z = first(residual)
    p = z.copy()
    rz = float(np.vdot(residual, z))
    total, move = 0.0, np.zeros(gradient.shape)
    for step in range(MOST_STEPS):
        hp = hessian(p)
        bend = float(np.vdot(p, hp))
        if not bend > 0.0:
            return Estimate(total if rz == 0.0 else float("inf"), move)
        length = rz / bend
        gain = 0.5 * length * rz
        total += gain
        move += length * p
        if total > most:
            return Estimate(total, move)
        if gain < SMALL_STEP * total:
            return Estimate(total if step < MANY_STEPS else 2.0 * total, move)
        residual -= length * hp
        z = first(residual)
        before, rz = rz, float(np.vdot(residual, z))
        p = z + (rz / before) * p
    return Estimate(2.0 * total, move)


def _hessian(
    data: Dataset, loss: Loss, alpha: float, parameters: FloatArray, fit_intercept: bool
) -> Callable[[FloatArray], FloatArray]:
    """The product of the objective's Hessian, on a sample of rows, with a direction (k, d + 1)."""
    rows, weights = _sample(data)
    X = data.X[rows]
    scores = X @ parameters[:, :-1].T.astype(X.dtype) + parameters[:, -1]
    if loss.code == SOFTMAX:
        bends = p = softmax(scores)
    else:
        bends = second_derivatives(loss.code, scores, data.y[rows], loss.shape)

    def product(v: FloatArray) -> FloatArray:
        moves = X @ v[:, :-1].T.astype(X.dtype) + v[:, -1]
        if loss.code == SOFTMAX:
            moves -= (p * moves).sum(axis=1, keepdims=True)
        moves *= bends * weights[:, None]
        out = np.empty(v.shape)
        out[:, :-1] = moves.astype(X.dtype).T @ X + alpha * v[:, :-1]
        out[:, -1] = moves.sum(axis=0) if fit_intercept else v[:, -1]
        return out

    return product


def _sample(data: Dataset) -> tuple[IntArray | slice, FloatArray]:
    """Rows that stand for all, and each one's share of the mean: the heavy ones, and the first of the others."""
    n = data.num_rows
    weights = np.ones(n) if data.weights is None else data.weights
    most = max(SAMPLE_ROWS, ROWS_A_COLUMN * data.num_columns)
    if n <= NEARLY * most:
        return slice(n), weights / n
    norms = squared_norms(data.X)
    norms *= weights
    heavy = norms > HEAVY * norms.mean()
    others = np.flatnonzero(~heavy)[:most]
    rows = np.concatenate([np.flatnonzero(heavy), others])
    share = np.full(len(rows), 1.0 / n)
    share[-len(others) :] *= (n - heavy.sum()) / len(others)
    return rows, weights[rows] * share
