"""How far above the lowest loss a place can be at the most: a bound, and no estimate.

An objective with a penalty ½ alpha |w|² bends by alpha at least. With the intercept at its lowest for the weights w,
no place lies lower than

    F(w) − |g|² / (2 alpha),    g the gradient at w,

so a place whose gradient is nearly gone bounds the gap of every other: F − F(w) + |g|² / (2 alpha). It is the duality
gap (Fenchel), too, with the slopes of the losses at w as the dual point: their conjugates then cost nothing, and what
is left is |g|² / (2 alpha). The bound is therefore taken at the best place known, behind the certificate's step.
Without alpha there is none. Where no row's loss can be negative the value itself is another, which many columns that
tell all rows apart bring near 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from descend.engines.inner import inner
from descend.objectives.losses import (
    SOFTMAX,
    Loss,
    losses_and_derivatives,
    row_derivatives,
    second_derivatives,
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


FLAT = 1e-6
"""The same added to all intercepts of softmax changes nothing, and sums of float32 hide that."""
MOST_SHIFTS = 4
MOST_SHARES = 4
LEAKS = 0.1
"""What the intercept's distance from its lowest may add to a bound, as a share of it or of what is enough."""
UNSURE = 2.0
"""How much flatter the loss may be along the intercept than a sample of rows says."""


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
    toward: tuple[FloatArray, FloatArray] | None = None,
) -> Place:
    """The place at ``parameters`` (k, d + 1), with the intercept that is lowest for its weights; in float64.

    ``toward`` is the gradient at ``parameters`` and the step to take from there, or less of it where the whole of it
    leads up. The rows are read twice: for the scores at the end of the step, and for the gradient.
    """
    p = parameters.astype(np.float64)
    before, step = (None, np.zeros(p.shape)) if toward is None else toward
    place = _lowest(data, loss, alpha, p - step, _scores(data, p - step), fit_intercept)
    if before is None:
        return place
    uphill = -inner(place.gradient, step)
    if not uphill > STEEP * abs(inner(before, step)):  # the end leads down still, or hardly up
        return place
    scores, moves = _scores(data, p), _scores(data, step)
    share = _share(data, loss, alpha, scores, moves, p, step)
    scores -= share * moves
    return _lowest(data, loss, alpha, p - share * step, scores, fit_intercept)


def settle_quickly(
    objective: Callable[[FloatArray], tuple[float, FloatArray]],
    alpha: float,
    parameters: FloatArray,
    toward: tuple[FloatArray, FloatArray],
    bend: FloatArray,
    top: float,
) -> Place | None:
    """``settle`` by the kernels of training, the intercept left where the step ends; None where no share of it does.

    What may be left has to be far above their rounding. ``bend`` (k, k) and ``top`` are those of ``bound_beside``.
    """
    before, step = toward
    p = parameters - step
    value, gradient = objective(p)
    start, share = -inner(before, step), 1.0
    for _ in range(MOST_SHARES):
        end = -inner(gradient, step)
        if not end > STEEP * abs(start):
            break
        share *= max(0.1, start / (start - end))  # where a parabola through both slopes has its lowest place
        p = parameters - share * step
        value, gradient = objective(p)
    else:
        return None
    return Place(p, value, gradient, bound_beside(gradient, bend, alpha, top) if np.isfinite(value) else None)


def tighten_quickly(
    objective: Callable[[FloatArray], tuple[float, FloatArray]],
    alpha: float,
    place: Place,
    bend: FloatArray,
    top: float,
    enough: float,
) -> Place | None:
    """The place with its intercept so near its lowest that hardly any of the bound is due to it; None: it is not."""
    inverse = _inverse(bend)
    p, value, gradient = place.parameters.copy(), place.value, place.gradient
    for shifts in range(MOST_SHIFTS + 1):
        slope = gradient[:, -1]
        if _is_tight(gradient, inverse, alpha, top, enough):
            above = bound_beside(gradient, bend, alpha, top) if np.isfinite(value) else None
            return Place(p, value, gradient, above)
        if shifts == MOST_SHIFTS:
            break
        p[:, -1] -= inverse @ slope
        value, gradient = objective(p)
        if not np.abs(gradient[:, -1]).max() < 0.5 * np.abs(slope).max():
            break
    return None


def bound_beside(gradient: FloatArray, bend: FloatArray, alpha: float, top: float) -> float | None:
    """The bound at a distance t from the lowest intercept, where the loss slopes by s along it; None without alpha.

    It holds for a gradient that is longer by the Hessian's leak, which Cauchy and Schwarz put below
    √(top · tᵀ bend t), ``top`` being what the objective bends at the most; and the intercept itself has no more than
    sᵀ bend⁻¹ s to gain, with ``bend`` (k, k) from a sample of rows.
    """
    if not alpha > 0.0:
        return None
    _, length, left = _lengths(gradient, _inverse(bend), top)
    return length**2 / (2.0 * alpha) + left


def _inverse(bend: FloatArray) -> FloatArray:
    """Of how the loss bends along the intercepts; of one it is quickly said."""
    if len(bend) == 1 and bend[0, 0] > 0.0:
        return 1.0 / bend
    return np.asarray(np.linalg.pinv(bend, rcond=FLAT, hermitian=True))


def _is_tight(gradient: FloatArray, inverse: FloatArray, alpha: float, top: float, enough: float) -> bool:
    straight, length, left = _lengths(gradient, inverse, top)
    leak = length**2 - straight**2
    return left <= LEAKS * enough and leak <= LEAKS * max(straight**2, 2.0 * alpha * enough)


def _lengths(gradient: FloatArray, inverse: FloatArray, top: float) -> tuple[float, float, float]:
    """The gradient's length, that with the leak, and what the intercept has to gain."""
    slope = gradient[:, -1]
    left = UNSURE * float(slope @ inverse @ slope)
    straight = float(np.linalg.norm(gradient[:, :-1]))
    return straight, straight + float(np.sqrt(top * left)), left


def _lowest(
    data: Dataset,
    loss: Loss,
    alpha: float,
    p: FloatArray,
    scores: FloatArray,
    fit_intercept: bool,
) -> Place:
    """The place at ``p``, whose intercept is moved first; ``scores`` (n, k) are those at p, and overwritten."""
    if fit_intercept:
        _to_lowest_intercept(data, loss, scores, p[:, -1])
    mean_loss, gradient = 0.0, np.zeros_like(p)
    # Slopes are worked out anew: kept for all rows, they would take as much room as the scores.
    for rows, X, weights in _blocks(data):
        losses, slopes = losses_and_derivatives(loss.code, scores[rows], data.y[rows], loss.shape)
        mean_loss += float(losses @ weights)
        weighted = slopes * weights[:, None]
        gradient[:, :-1] += (X.astype(np.float64).T @ weighted).T
        gradient[:, -1] += weighted.sum(axis=0)
    gradient[:, :-1] += alpha * p[:, :-1]
    if not fit_intercept:
        gradient[:, -1] = 0.0
    value = mean_loss + 0.5 * alpha * float(np.sum(np.square(p[:, :-1])))
    above = None
    if alpha > 0.0 and np.isfinite(value) and float(np.abs(gradient[:, -1]).max()) <= NEARLY_GONE:
        above = float(np.sum(np.square(gradient[:, :-1]))) / (2.0 * alpha)
        above = min(above, value) if loss.is_never_negative else above
    return Place(p, value, gradient, above)


def _scores(data: Dataset, parameters: FloatArray) -> FloatArray:
    scores = np.empty((data.num_rows, len(parameters)))
    for rows, X, _ in _blocks(data):
        scores[rows] = X.astype(np.float64) @ parameters[:, :-1].T
    scores += parameters[:, -1]
    return scores


def _blocks(data: Dataset) -> Iterator[tuple[slice, Any, FloatArray]]:
    """Some rows at a time: which, they themselves, and each one's share of the mean. Only scores are kept for all."""
    step = max(1, BLOCK_NUMBERS // max(1, data.num_columns))
    if data.is_sparse:
        step = max(step, 8192)
    X: Any = data.X
    stored = X.pieces(0, data.num_rows, step) if data.is_stored else iter(())
    for rows, weights in _pieces(data, step):
        yield rows, next(stored) if data.is_stored else X[rows], weights


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
        total = alpha * inner(v, w - share * v)
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


def _to_lowest_intercept(data: Dataset, loss: Loss, scores: FloatArray, intercept: FloatArray) -> None:
    """Moves ``intercept`` (k,), and ``scores`` (n, k) with it, to the lowest mean loss; by Newton's steps."""
    k = len(intercept)
    value, slope, bend = _along_intercept(data, loss, scores)
    for _ in range(MOST_MOVES):
        if float(np.abs(slope).max()) <= GONE:
            return
        step = np.linalg.lstsq(bend, slope)[0] if k > 1 else slope / np.maximum(bend[0], 1e-12)
        for _ in range(MOST_TRIALS):
            scores -= step
            there = _along_intercept(data, loss, scores)
            if np.abs(there[1]).max() < 0.5 * np.abs(slope).max() or there[0] < value:
                break
            scores += step
            step = 0.5 * step
        else:
            return
        intercept -= step
        value, slope, bend = there


def _along_intercept(data: Dataset, loss: Loss, scores: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """The mean loss at ``scores`` (n, k), its slopes along the intercept (k,), and how these bend (k, k)."""
    k = scores.shape[1]
    value, slope, bend = 0.0, np.zeros(k), np.zeros((k, k))
    for rows, weights in _pieces(data, max(1, SCORES // k)):
        there, y = scores[rows], data.y[rows]
        losses, slopes = losses_and_derivatives(loss.code, there.copy(), y, loss.shape)
        value += float(losses @ weights)
        slope += weights @ slopes
        if loss.code == SOFTMAX:
            p = slopes  # but for a 1
            p[np.arange(len(p)), y[:, 0].astype(np.intp)] += 1.0
            bend += np.diag(weights @ p) - (p * weights[:, None]).T @ p
        else:
            bend += np.diag(weights @ second_derivatives(loss.code, there, y, loss.shape))
    return value, slope, bend
