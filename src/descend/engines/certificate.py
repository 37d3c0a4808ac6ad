"""How far above the lowest loss the parameters still are, without knowing the lowest loss.

Near the lowest place the gap is ½ g · H⁻¹ g, with the gradient g and the Hessian H of the objective. H⁻¹ g comes
from conjugate gradients on the Hessian of a sample of rows; each step adds to the estimate from below, and they
end when a step adds less than a hundredth of the sum. For squared error it is exact. Rows far heavier than the
mean are all in the sample: without them twenty rows of a thousand times the size went unseen, and a gap five
times too large was certified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.engines.by_storage import squared_norms
from descend.objectives.losses import SOFTMAX, Loss, second_derivatives, softmax
from descend.types import Dataset, FloatArray, IntArray

Product: TypeAlias = Callable[[FloatArray], FloatArray]
SAMPLE_ROWS = 6000
HEAVY = 8.0
MOST_STEPS = 100
SMALL_STEP = 0.01
MANY_STEPS = 30
"""Where it takes more than this, the many small gains that are cut off add up: the estimate is doubled."""


def estimate_gap(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    gradient: FloatArray,
    first: Product,
    fit_intercept: bool = True,
    free: NDArray[np.bool_] | None = None,
) -> float:
    """½ g · H⁻¹ g at ``parameters`` (k, d + 1) with ``gradient`` float64; ``first`` preconditions.

    ``free`` (k, d + 1): the numbers that may move, where an L1 penalty holds others at 0.
    """
    hessian = _hessian(data, loss, alpha, parameters, fit_intercept)
    if free is not None:
        hessian, first = _within(free, hessian), _within(free, first)
    residual = gradient.copy()
    if not fit_intercept:
        residual[:, -1] = 0.0
    z = first(residual)
    p = z.copy()
    rz = float(np.vdot(residual, z))
    total = 0.0
    for step in range(MOST_STEPS):
        hp = hessian(p)
        bend = float(np.vdot(p, hp))
        if not bend > 0.0:
            return total if rz == 0.0 else float("inf")
        length = rz / bend
        gain = 0.5 * length * rz
        total += gain
        if gain < SMALL_STEP * total:
            return total if step < MANY_STEPS else 2.0 * total
        residual -= length * hp
        z = first(residual)
        before, rz = rz, float(np.vdot(residual, z))
        p = z + (rz / before) * p
    return 2.0 * total


def _within(free: NDArray[np.bool_], product: Product) -> Product:
    """The same product among the numbers that may move."""
    return lambda v: np.where(free, product(v), 0.0)


def _hessian(data: Dataset, loss: Loss, alpha: float, parameters: FloatArray, fit_intercept: bool) -> Product:
    """The product of the objective's Hessian, on a sample of rows, with a direction (k, d + 1)."""
    rows, weights = sample(data)
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


def sample(data: Dataset, most: int = SAMPLE_ROWS) -> tuple[IntArray | slice, FloatArray]:
    """Rows that stand for all, and each one's share of the mean: the heavy ones, and the first of the others."""
    n = data.num_rows
    weights = np.ones(n) if data.weights is None else data.weights
    if n <= most:
        return slice(n), weights / n
    norms = squared_norms(data.X)
    norms *= weights
    heavy = norms > HEAVY * norms.mean()
    others = np.flatnonzero(~heavy)[:most]
    rows = np.concatenate([np.flatnonzero(heavy), others])
    share = np.full(len(rows), 1.0 / n)
    share[-len(others) :] *= (n - heavy.sum()) / len(others)
    return rows, weights[rows] * share
