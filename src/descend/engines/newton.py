"""Newton's step for small problems: the Hessian itself, solved. It ends at the last digit in a handful of steps."""

from __future__ import annotations

import numpy as np

from descend.engines.cholesky import cholesky_solver
from descend.engines.decoding import dense_blocks
from descend.objectives.losses import SOFTMAX, Loss, safe_curvatures, second_derivatives, softmax
from descend.types import Dataset, FloatArray

MOST_WORK = 30_000_000
"""Rows times the square of the number of parameters; above this L-BFGS is the quicker finish."""
JITTER = 1e-13
TRACE = 1e-3
"""The share of safe curvature that keeps the Hessian solvable where hardly a row lies in a rounded corner."""


def is_small(num_rows: int, num_columns: int, num_outputs: int) -> bool:
    """Whether Newton's step is cheap enough.

    >>> is_small(150, 4, 3), is_small(60_000, 784, 10)
    (True, False)
    """
    return num_rows * (num_outputs * (num_columns + 1)) ** 2 <= MOST_WORK


def newton_direction(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    gradient: FloatArray,
    fit_intercept: bool,
    cautious: bool = False,
) -> FloatArray:
    """H⁻¹ · gradient (k, d + 1) with the Hessian of the whole objective at ``parameters``; all float64."""
    k, columns = gradient.shape
    flat = hessian(data, loss, alpha, parameters, fit_intercept, cautious)
    try:
        step = cholesky_solver(flat)(gradient.ravel()).reshape(k, columns)
    except np.linalg.LinAlgError:
        step = np.asarray(np.linalg.lstsq(flat, gradient.ravel())[0]).reshape(k, columns)
    if loss.code == SOFTMAX:  # the same number added to all intercepts changes nothing: do not drift along it
        step[:, -1] -= step[:, -1].mean()
    return np.asarray(step)


def hessian(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    fit_intercept: bool,
    cautious: bool = False,
) -> FloatArray:
    """The Hessian (k · (d + 1), k · (d + 1)) of mean loss + L2 at ``parameters``, float64.

    ``cautious``: that of parabolas which are nowhere below the loss, for losses with rounded corners or straights.
    """
    k, columns = parameters.shape
    weights = np.full(data.num_rows, 1.0 / data.num_rows)
    if data.weights is not None:
        weights *= data.weights
    H = np.zeros((k, columns, k, columns))
    for part, some in dense_blocks(data.X):
        _add_hessian(H, some, data.y[part], weights[part], loss, parameters, cautious)
    flat = H.reshape(k * columns, k * columns)
    diagonal = np.full((k, columns), alpha)
    diagonal[:, -1] = 0.0 if fit_intercept else 1.0
    if not fit_intercept:
        H[:, -1, :, :] = 0.0
        H[:, :, :, -1] = 0.0
    flat[np.diag_indices(k * columns)] += diagonal.ravel() + JITTER * np.trace(flat) / (k * columns)
    return np.asarray(flat)


def _add_hessian(
    H: FloatArray,
    X: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    parameters: FloatArray,
    cautious: bool,
) -> None:
    """Adds to ``H`` (k, d + 1, k, d + 1) what some rows bend, the penalty apart."""
    k, columns = parameters.shape
    rows = np.ones((X.shape[0], columns))
    rows[:, :-1] = X
    scores = rows @ parameters.T
    if loss.code == SOFTMAX:
        p = softmax(scores)
        root = np.sqrt(weights)[:, None] * rows
        each = (root[:, None, :] * p[:, :, None]).reshape(len(rows), k * columns)
        H -= (each.T @ each).reshape(H.shape)
        for a in range(k):
            H[a, :, a, :] += (root * p[:, a, None]).T @ root
        return
    bends = np.zeros_like(scores) if cautious else second_derivatives(loss.code, scores, y, loss.shape)
    if loss.shape[1] or loss.has_straights:
        bends = bends + (1.0 if cautious else TRACE) * safe_curvatures(loss.code, scores, y, loss.shape)
    for a in range(k):
        H[a, :, a, :] += (rows * (weights * bends[:, a])[:, None]).T @ rows
