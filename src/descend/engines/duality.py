"""A number that the objective cannot go below, from the slopes of the rows' losses (Fenchel's dual).

With mean loss + ½ alpha |w|² + l1 |w|₁ over rows of weight ω, and a slope θ for every row and score, it is

    − mean ω · conjugate(θ) − Σ max(|v| − l1, 0)² / (2 alpha),    v = mean ω · θ x,

for any slopes with mean ω · θ = 0, which is what a free intercept asks for. Without L2 no v may be longer than l1.
The slopes at the parameters are nearly of that kind near the lowest place; they are made so by shrinking them, which
keeps them possible: first row by row until they add up to zero, then all of them. The bound is one at every place,
and close where the parameters are good.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from descend.objectives.conjugates import conjugates
from descend.objectives.losses import SOFTMAX, Loss
from descend.objectives.penalties import Penalty
from descend.types import FloatArray

BETWEEN = (1.0, 0.999, 0.99, 0.9)
"""Where L2 pays for what is too long, shrinking by a little may be the better price."""


def lower_bound(
    slopes: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    loss: Loss,
    penalty: Penalty,
    product: Callable[[FloatArray], FloatArray],
    fit_intercept: bool,
) -> float:
    """The best bound that ``slopes`` (n, k) float64 lead to; −inf where they lead to none.

    ``weights`` (n,) or empty for ones; ``product`` gives Σ over rows of (n, k) numbers times x, (k, d).
    """
    n = len(slopes)
    share = np.full((n, 1), 1.0 / n) if not weights.size else weights[:, None] / n
    if fit_intercept:
        slopes = _balanced_softmax(slopes, y, share) if loss.code == SOFTMAX else _balanced(slopes, share)
    sizes = np.abs(product(slopes * share))
    if not np.isfinite(sizes).all():
        return -np.inf
    # The scores of a softmax row go together; others are problems of their own, each with its own shrinking.
    groups = [slice(None)] if loss.code == SOFTMAX else [slice(c, c + 1) for c in range(slopes.shape[1])]
    return sum(
        _best(slopes[:, g], _targets(y, g, loss, slopes), share, sizes[g], loss, penalty) for g in groups
    )


def _targets(y: FloatArray, group: slice, loss: Loss, slopes: FloatArray) -> FloatArray:
    """The targets of a group of scores: softmax takes codes, one class against the rest 0 and 1, others numbers."""
    if loss.code == SOFTMAX:
        return y
    if y.shape[1] < slopes.shape[1]:
        return np.asarray((y == group.start).astype(np.float64))
    return np.asarray(y[:, group])


def _best(
    slopes: FloatArray, y: FloatArray, share: FloatArray, sizes: FloatArray, loss: Loss, penalty: Penalty
) -> float:
    longest = float(sizes.max(initial=0.0))
    fits = min(1.0, penalty.l1 / longest) if longest > 0.0 else 1.0
    tried = {fits, *(b for b in BETWEEN if b > fits)} if penalty.alpha else {fits}
    bounds = []
    for by in tried:
        bound = -float(np.sum(share * conjugates(loss.code, by * slopes, y, loss.shape)))
        if by > fits:
            bound -= float(np.sum(np.maximum(by * sizes - penalty.l1, 0.0) ** 2)) / (2.0 * penalty.alpha)
        bounds.append(bound)
    return max(bounds)


def _balanced(slopes: FloatArray, share: FloatArray) -> FloatArray:
    """Slopes of each score that add up to zero: the sign that weighs more is shrunk."""
    up = (np.maximum(slopes, 0.0) * share).sum(axis=0)
    down = (np.maximum(-slopes, 0.0) * share).sum(axis=0)
    least = np.minimum(up, down)
    tiny = np.finfo(np.float64).tiny
    return np.asarray(
        slopes * np.where(slopes > 0.0, least / np.maximum(up, tiny), least / np.maximum(down, tiny))
    )


def _balanced_softmax(slopes: FloatArray, y: FloatArray, share: FloatArray) -> FloatArray:
    """The same for rows of k scores: one factor for the rows of each class.

    What rows of class a say for class b is a flow from a to b; factors that balance the flows of all classes are the
    stationary distribution of a Markov chain, positive and unique.
    """
    k = slopes.shape[1]
    classes = y[:, 0].astype(np.intp)
    flows = np.zeros((k, k))
    for c in range(k):
        flows[:, c] = np.bincount(classes, slopes[:, c] * share[:, 0], minlength=k)
    try:
        factors = np.linalg.svd(flows.T)[2][-1]
    except np.linalg.LinAlgError:
        return np.full_like(slopes, np.nan)
    factors *= np.sign(factors.sum()) or 1.0
    if not factors.max() > 0.0 or factors.min() < -1e-9 * factors.max():
        return np.full_like(slopes, np.nan)
    return np.asarray(slopes * np.maximum(factors / factors.max(), 0.0)[classes][:, None])
