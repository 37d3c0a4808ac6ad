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
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.engines import row_sums
from descend.engines.by_storage import norms_by_block
from descend.engines.decoding import blocks
from descend.engines.inner import inner
from descend.engines.softmax_columns import MOST_COLUMNS, add_curvature_of_columns
from descend.objectives.losses import SOFTMAX, Loss, second_derivatives, softmax
from descend.types import Dataset, FloatArray, IntArray

Product: TypeAlias = Callable[[FloatArray], FloatArray]
Sample: TypeAlias = tuple[IntArray | slice, FloatArray]
SAMPLE_ROWS = 6000
BLOCK_ROWS = 1500
MOST_BLOCK_WORK = 50_000_000
FLOOR = 1e-3
"""The least bend of a block, as a share of its mean: a class that none of a few rows may be of has none."""
ROWS_A_COLUMN = 20
"""Fewer rows than this for each column know of directions along which they do not bend and all rows do."""
NEARLY = 1.7
HEAVY = 8.0
MOST_STEPS = 100
SMALL_STEP = 0.01
ROWS_OF_SHARE = 1000
"""Rows that tell how sharply all bend at a place."""
MANY_STEPS = 30
"""Where it takes more than this, the many small gains that are cut off add up: the estimate is doubled."""


class Estimate(NamedTuple):
    """``gap`` ½ g · H⁻¹ g, and ``step`` H⁻¹ g (k, d + 1): parameters − step is where it would be gone."""

    gap: float
    step: FloatArray


def estimate_gap(
    hessian: Product,
    gradient: FloatArray,
    first: Product,
    fit_intercept: bool = True,
    free: NDArray[np.bool_] | None = None,
    most: float = np.inf,
    small: float = SMALL_STEP,
) -> Estimate:
    """½ g · H⁻¹ g by conjugate gradients from ``gradient`` (k, d + 1) on, in its precision; ``first`` preconditions.

    ``free`` (k, d + 1): the numbers that may move, where an L1 penalty holds others at 0. The sum grows: it is cut
    short once it is above ``most``, and where a step adds less than the share ``small``.
    """
    if free is not None:
        hessian, first = _within(free, hessian), _within(free, first)
    residual = gradient.copy(order="K")
    if not fit_intercept:
        residual[:, -1] = 0.0
    z = first(residual)
    p = z.copy(order="K")
    rz = inner(residual, z)
    total, move = 0.0, np.zeros_like(residual)
    for step in range(MOST_STEPS):
        hp = hessian(p)
        bend = inner(p, hp)
        if not bend > 0.0:
            return Estimate(total if rz == 0.0 else float("inf"), move)
        length = rz / bend
        gain = 0.5 * length * rz
        total += gain
        move += length * p
        if total > most:
            return Estimate(total, move)
        if gain < small * total:
            return Estimate(total if step < MANY_STEPS else 2.0 * total, move)
        residual -= length * hp
        z = first(residual)
        before, rz = rz, inner(residual, z)
        p *= rz / before
        p += z
    return Estimate(2.0 * total, move)


def _within(free: NDArray[np.bool_], product: Product) -> Product:
    """The same product among the numbers that may move."""
    return lambda v: np.where(free, product(v), 0.0)


def intercept_bend(data: Dataset, loss: Loss, parameters: FloatArray, chosen: Sample) -> FloatArray:
    """How the mean loss bends along the intercept (k, k), on a sample of rows."""
    rows, weights = chosen
    _, scores = _scores(data, parameters, rows)
    if loss.code == SOFTMAX:
        p = softmax(scores)
        return np.asarray(np.diag(weights @ p) - (p * weights[:, None]).T @ p)
    return np.diag(weights @ second_derivatives(loss.code, scores, data.y[rows], loss.shape))


def block_inverse(
    data: Dataset, loss: Loss, alpha: float, parameters: FloatArray, chosen: Sample
) -> Product | None:
    """The inverse of softmax's Hessian without what classes have to do with one another, on a few rows.

    None where it is not softmax's, or takes longer than it saves.
    """
    k, columns = parameters.shape
    if loss.code != SOFTMAX or k * columns**2 * max(columns, BLOCK_ROWS) > MOST_BLOCK_WORK or data.is_sparse:
        return None
    rows, weights = (
        np.arange(data.num_rows)[chosen[0]][-BLOCK_ROWS:],
        chosen[1][-BLOCK_ROWS:],
    )  # no heavy ones
    X, scores = _scores(data, parameters, rows)
    p = softmax(scores)
    bends = (p * (1.0 - p) * (weights / weights.sum())[:, None]).astype(X.dtype)
    extended = np.ones((len(X), columns), dtype=X.dtype)
    for part, some in blocks(X):
        extended[part, :-1] = some
    H = np.empty((k, columns, columns))
    for c in range(k):
        H[c] = (extended * bends[:, c, None]).T @ extended
    places = np.arange(columns)
    H[:, places[:-1], places[:-1]] += alpha
    H[:, places, places] += FLOOR * np.trace(H, axis1=1, axis2=2)[:, None] / columns
    inverses = np.linalg.inv(H)
    return lambda v: np.matmul(inverses, v[:, :, None])[:, :, 0]


def curvature_share(data: Dataset, loss: Loss, parameters: FloatArray, chosen: Sample) -> float:
    """How sharply the loss of rows bends at ``parameters``, as a share of its bound; the mean of some of them."""
    rows = np.arange(data.num_rows)[chosen[0]][-ROWS_OF_SHARE:]
    _, scores = _scores(data, parameters, rows)
    if loss.code == SOFTMAX:
        p = softmax(scores)
        # No less than diag(p) − p ⊗ p along any direction.
        bends = np.minimum(p, 2.0 * p * (1.0 - p)).max(axis=1)
    else:
        bends = second_derivatives(loss.code, scores, data.y[rows], loss.shape)
    return float(bends.mean()) / loss.curvature


def _scores(data: Dataset, parameters: FloatArray, rows: IntArray | slice) -> tuple[Any, FloatArray]:
    """Some rows and their scores."""
    X: Any = data.X
    if data.is_sparse:
        from descend.engines.sparse_curvature import SampledRows

        sampled = SampledRows(X, rows)
        return sampled, sampled.scores(parameters)
    if data.is_stored and isinstance(rows, slice):
        X = X.load(rows)  # a sample fits, and in one piece it rounds as it does in memory
    elif data.is_coded and not X.is_small:
        X = X[rows]  # it is read again and again
    else:
        X = X.part(rows) if data.comes_in_parts else X[rows]
    own = parameters.astype(X.dtype)
    return X, np.concatenate([some @ own[:, :-1].T for _, some in blocks(X)]) + own[:, -1]


def hessian_product(
    data: Dataset, loss: Loss, alpha: float, parameters: FloatArray, fit_intercept: bool, chosen: Sample
) -> Product:
    """The product of the objective's Hessian, on a sample of rows, with a direction (k, d + 1)."""
    rows, weights = chosen
    X, scores = _scores(data, parameters, rows)
    if loss.code == SOFTMAX:
        bends = p = softmax(scores)
        if isinstance(X, np.ndarray) and data.num_columns <= MOST_COLUMNS:
            return _softmax_by_columns(X, p, weights, alpha, fit_intercept)
    else:
        bends = second_derivatives(loss.code, scores, data.y[rows], loss.shape)

    if data.is_sparse:

        def sparse_product(v: FloatArray) -> FloatArray:
            return with_penalty(X.curvature(bends, weights, loss.code == SOFTMAX, v), v, alpha, fit_intercept)

        return sparse_product

    def softmax_product(v: FloatArray) -> FloatArray:
        out = np.zeros(v.shape, dtype=X.dtype)
        for part, some in blocks(X):
            row_sums.add_softmax_curvature(some, bends[part], weights[part], v.astype(X.dtype), out)
        return with_penalty(out.astype(np.float64), v, alpha, fit_intercept)

    def product(v: FloatArray) -> FloatArray:
        out = np.zeros(v.shape)
        for part, some in blocks(X):
            moves = some @ v[:, :-1].T.astype(X.dtype) + v[:, -1]
            moves *= bends[part] * weights[part, None]
            out[:, :-1] += moves.astype(X.dtype).T @ some
            out[:, -1] += moves.sum(axis=0)
        return with_penalty(out, v, alpha, fit_intercept)

    return softmax_product if loss.code == SOFTMAX else product


def with_penalty(out: FloatArray, v: FloatArray, alpha: float, fit_intercept: bool) -> FloatArray:
    """A product of the loss's Hessian with ``v``, made that of the objective's."""
    out[:, :-1] += alpha * v[:, :-1]
    if not fit_intercept:
        out[:, -1] = v[:, -1]
    return out


def _softmax_by_columns(
    X: FloatArray, p: FloatArray, weights: FloatArray, alpha: float, fit_intercept: bool
) -> Product:
    """The same of dense rows of few columns."""
    columns, chances = np.ascontiguousarray(X.T), np.ascontiguousarray(p.T, dtype=X.dtype)
    shares = weights.astype(X.dtype)

    def product(v: FloatArray) -> FloatArray:
        out = np.zeros(v.shape)
        add_curvature_of_columns(columns, chances, shares, v.astype(X.dtype, order="C"), out)
        return with_penalty(out, v, alpha, fit_intercept)

    return product


def sample(data: Dataset, most: int | None = None, in_order: bool = False) -> Sample:
    """Rows that stand for all, and each one's share of the mean: the heavy ones, and the first of the others.

    ``in_order``: rows lie as they came, by label or time it may be, and the others come from everywhere.
    """
    n = data.num_rows
    enough = max(SAMPLE_ROWS, ROWS_A_COLUMN * data.num_columns) if most is None else most
    if n <= NEARLY * enough and in_order:
        mixed = np.random.default_rng(n).permutation(n)
        return mixed, np.full(n, 1.0 / n) if data.weights is None else data.weights[mixed] / n
    if n <= NEARLY * enough:
        return slice(n), np.full(n, 1.0 / n) if data.weights is None else data.weights / n
    heavy = heavy_rows(data)
    num = min(n, enough + len(heavy))
    first = _from_everywhere(n, num) if in_order else np.arange(num)
    others = np.setdiff1d(first, heavy, assume_unique=True)
    others = others if in_order else others[:enough]  # cut short they would not reach the last rows
    rows = np.concatenate([heavy, others])
    share = np.full(len(rows), 1.0 / n)
    share[-len(others) :] *= (n - len(heavy)) / len(others)
    return rows, share if data.weights is None else data.weights[rows] * share


def _from_everywhere(num_rows: int, count: int) -> IntArray:
    """About ``count`` rows in random order, one of each of so many stretches.

    Even distances may fall in with those of days or weeks.
    """
    random = np.random.default_rng(num_rows)
    places = (np.arange(count) + random.random(count)) * (num_rows / count)
    ascending = np.minimum(places.astype(np.int64), num_rows - 1)
    return random.permutation(ascending[np.diff(ascending, prepend=-1) > 0])


def heavy_rows(data: Dataset) -> IntArray:
    """The rows of more than ``HEAVY`` times the mean weight · (|x|² + 1), ascending; never an array of all rows."""
    found: list[IntArray] = []
    norms_found: list[FloatArray] = []
    total = 0.0
    for start, norms in norms_by_block(data.X):
        if data.weights is not None:
            norms *= data.weights[start : start + len(norms)]
        total += float(norms.sum())
        above = np.flatnonzero(norms > HEAVY * total / data.num_rows)  # the mean will be no less than that
        found.append(above + start)
        norms_found.append(norms[above])
    heavy = np.concatenate(norms_found) > HEAVY * total / data.num_rows
    return np.concatenate(found)[heavy]
