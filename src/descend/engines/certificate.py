"""How far above the lowest loss the parameters still are, without knowing the lowest loss.

Near the lowest place the gap is ½ g · H⁻¹ g, with the gradient g and the Hessian H of the objective. H⁻¹ g comes
from conjugate gradients on the Hessian of a sample of rows; each step adds to the estimate from below, and they
end when a step adds less than a thirtieth of the sum. For squared error it is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from descend.engines.linear_kernels import all_scores
from descend.engines.saga_kernels import curvature_product
from descend.objectives.losses import Loss
from descend.types import Dataset, FloatArray

SAMPLE_ROWS = 6000
MOST_STEPS = 40
SMALL_STEP = 0.03


def estimate_gap(
    data: Dataset,
    loss: Loss,
    alpha: float,
    parameters: FloatArray,
    gradient: FloatArray,
    first: Callable[[FloatArray], FloatArray],
    fit_intercept: bool = True,
) -> float:
    """½ g · H⁻¹ g at ``parameters`` (k, d + 1) with ``gradient`` float64; ``first`` preconditions."""
    sample = min(data.num_rows, SAMPLE_ROWS)
    scores = np.empty((sample, len(parameters)), dtype=data.X.dtype)
    all_scores(data.X[:sample], parameters.astype(data.X.dtype), scores)
    weights = np.empty(0) if data.weights is None else data.weights
    out = np.empty(gradient.shape)

    def hessian(v: FloatArray) -> FloatArray:
        curvature_product(data.X, weights, sample, loss.code, scores, v, out)
        product = out / sample
        product[:, :-1] += alpha * v[:, :-1]
        if not fit_intercept:
            product[:, -1] = v[:, -1]
        return product

    residual = gradient.copy()
    if not fit_intercept:
        residual[:, -1] = 0.0
    z = first(residual)
    p = z.copy()
    rz = float(np.vdot(residual, z))
    total = 0.0
    for _ in range(MOST_STEPS):
        hp = hessian(p)
        bend = float(np.vdot(p, hp))
        if not bend > 0.0:
            return float("inf") if rz > 0.0 and bend < 0.0 else total
        length = rz / bend
        gain = 0.5 * length * rz
        total += gain
        if gain < SMALL_STEP * total:
            break
        residual -= length * hp
        z = first(residual)
        before, rz = rz, float(np.vdot(residual, z))
        p = z + (rz / before) * p
    return total
