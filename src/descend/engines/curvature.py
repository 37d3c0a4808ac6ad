"""How sharply the objective bends, measured on the rows: all that a closed-form learning rate needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import Visits
from descend.engines.by_storage import gram_product, squared_norms
from descend.engines.full_batch import ALL_ONE
from descend.objectives.losses import Loss
from descend.types import Dataset, FloatArray, is_stored

POWER_STEPS = 30
SAMPLE_NUMBERS = (
    8_000_000  # numbers read in each power step; rows lie in random order, so the first are a sample
)
HEAVY = 2.0


@dataclass(frozen=True, slots=True)
class Curvature:
    """Largest second derivatives of the loss, without the penalty."""

    mean: float
    """L: of the mean loss over all rows."""
    row: float
    """L_max: of the heaviest row's own loss, at the weight it has after heavy rows are split."""
    direction: FloatArray
    """Unit vector (d + 1,) along which the mean loss bends most; the intercept last."""
    visits: Visits
    """The rows, heavy ones several times with a fraction of the weight."""

    @property
    def steepest_column(self) -> tuple[int, float]:
        """The column most to blame for L, and its share of it; column d is the intercept."""
        shares = self.direction**2
        column = int(np.argmax(shares))
        return column, float(shares[column])


def measure_curvature(
    data: Dataset,
    loss: Loss,
    seed: int,
    split: bool = True,
    known: tuple[float, FloatArray] | None = None,
    numbers: int = SAMPLE_NUMBERS,
) -> Curvature:
    """Curvature of ``loss`` on ``data``. ``split`` False leaves heavy rows whole (full batch needs no splitting).

    ``known``: that of the mean loss and its direction, where they have been found already; else so many ``numbers``
    tell them.
    """
    weights = ALL_ONE if data.weights is None else data.weights
    if known is None:
        eigenvalue, direction = _largest_eigenvalue(data.X, weights, numbers)
        known = loss.curvature * eigenvalue, direction
    mean, direction = known
    if not split:
        return Curvature(mean, np.inf, direction, Visits(data.num_rows))
    norms = squared_norms(data.X)
    if weights.size:
        norms *= weights
    visits = split_heavy_rows(norms, seed)
    if visits.weights is not None:
        norms *= visits.weights
    return Curvature(mean, loss.curvature * float(norms.max()), direction, visits)


def split_heavy_rows(norms: FloatArray, seed: int) -> Visits:
    """Rows far heavier than the mean are visited several times an epoch, each time at a fraction of their weight.

    The largest |x|² and not the mean sets the safe rate of single rows; split, no visit weighs more than three
    times the mean, the objective stays what it was, and an epoch grows by half at the most. It is importance
    sampling (Needell, Srebro and Ward, https://arxiv.org/abs/1310.5715) that keeps the shuffle. Clipping heavy
    rows instead would change the optimum.
    """
    n = len(norms)
    usual = HEAVY * norms.mean()
    heavy = np.flatnonzero(norms > usual)
    copies = np.ceil(norms[heavy] / usual)
    heavy, copies = heavy[copies > 1.0], copies[copies > 1.0]
    if not len(heavy):
        return Visits(n)
    extra = np.repeat(heavy, copies.astype(np.int64) - 1)
    num_visits = n + len(extra)
    # The first visit of a row stays in its place in memory; the others fall anywhere.
    place = np.random.default_rng([seed, 2]).integers(n, size=len(extra))
    keys = place * len(extra) + np.arange(
        len(extra)
    )  # all differ: any way to sort them is stable, and the quickest
    keys.sort()
    by_place = keys % len(extra)
    at = place[by_place] + np.arange(1, len(extra) + 1)
    first = np.ones(num_visits, dtype=np.bool_)
    first[at] = False
    rows: NDArray[np.integer[Any]] = np.empty(num_visits, dtype=np.int32 if n < 2**31 else np.int64)
    np.cumsum(first, out=rows)
    rows -= 1
    rows[at] = extra[by_place]
    weights = np.full(n, num_visits / n)
    weights[heavy] = num_visits / (copies * n)
    return Visits(n, rows, weights)


def _largest_eigenvalue(X: FloatArray, weights: FloatArray, numbers: int) -> tuple[float, FloatArray]:
    """Largest eigenvalue, and its vector, of the mean of weight · x̃ x̃ᵀ, x̃ being x and a 1; by power iteration."""
    numbers_of_row = X.size // X.shape[0] + 1
    num_rows = min(X.shape[0], max(256, numbers // numbers_of_row))
    if is_stored(X):
        rows: Any = X
        X = rows.load(slice(num_rows))  # read once for all steps
    direction = np.random.default_rng(0).normal(size=X.shape[1] + 1)
    direction /= np.linalg.norm(direction)
    product = np.empty_like(direction)
    eigenvalue = 0.0
    for _ in range(POWER_STEPS):
        gram_product(X, weights, num_rows, direction, product)
        before, eigenvalue = eigenvalue, float(np.linalg.norm(product)) / num_rows
        if not np.isfinite(eigenvalue) or eigenvalue == 0.0:
            break
        direction = product / np.linalg.norm(product)
        if eigenvalue - before < 1e-3 * eigenvalue:
            break
    return eigenvalue, direction
