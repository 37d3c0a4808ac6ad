"""Gradient noise: how far the gradient of a batch strays from that of all rows, and the batch size that follows.

With G the gradient of all rows and Σ the covariance of single rows' gradients, B_simple = tr Σ / |G|² is the size at
which a batch's gradient is half signal, half noise (McCandlish et al. 2018, https://arxiv.org/abs/1812.06162). It is
a hint, and not the critical batch size: it moves by orders of magnitude during a run.

Both are estimated from gradients of disjoint microbatches without bias: |G|² from products of different ones, tr Σ
from their spread. One batch alone tells nothing of |G|²: its own noise is in it, so that tr Σ / |g|² stays near that
batch's size however large B_simple is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np

from descend.types import FloatArray, IntArray

CONFIDENCE = 2.0
"""Standard errors on either side."""
MICROBATCHES = 128
MOST_KEPT = 8_000_000
"""Numbers of gradients that are kept; of more columns each gradient is made twice instead."""


@dataclass(frozen=True, slots=True)
class Noise:
    """``trace``: tr Σ; ``square``: |G|² (its estimate may be below 0); ``simple`` with its interval.

    ``simple`` is None where |G|² cannot be told from 0: then only ``interval[0]`` is known, and the other end is
    infinite.
    """

    trace: float
    square: float
    simple: float | None
    interval: tuple[float, float]


def measure_noise(
    gradient: Callable[[IntArray], FloatArray], num_rows: int, rows_each: int = 1, seed: int = 0
) -> Noise | None:
    """Noise from up to 128 microbatches of ``rows_each`` rows; ``gradient`` gives the mean over the rows it is given.

    None where there are not even 4 microbatches.
    """
    count = min(MICROBATCHES, num_rows // rows_each)
    if count < 4:
        return None
    rows = (
        np.random.default_rng([seed, 3]).permutation(num_rows)[: count * rows_each].reshape(count, rows_each)
    )

    def made() -> Iterator[FloatArray]:
        return (np.asarray(gradient(part), dtype=np.float64).ravel() for part in rows)

    if next(made()).size * count <= MOST_KEPT:
        gradients = np.stack(list(made()))
        return noise_of(gradients @ gradients.T, rows_each)
    total = np.zeros(next(made()).size)
    own = np.empty(count)
    for i, g in enumerate(made()):
        total += g
        own[i] = g @ g
    return _noise(own, np.array([g @ total for g in made()]), rows_each)


def noise_of(products: FloatArray, rows_each: int) -> Noise:
    """Noise from the products (k, k) of microbatches' gradients with each other.

    >>> noise_of(np.array([[5.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 5.0]]), rows_each=2)
    Noise(trace=8.0, square=1.0, simple=8.0, interval=(8.0, 8.0))
    """
    return _noise(np.diag(products), products.sum(axis=1), rows_each)


def _noise(own: FloatArray, with_all: FloatArray, rows_each: int) -> Noise:
    """The same from the products of each with itself (k,), and with the sum of all (k,)."""
    count = len(own)
    all_own, total = own.sum(), with_all.sum()
    square, trace = (float(value) for value in _estimates(all_own, total, count, rows_each))
    without, _ = _estimates(all_own - own, total - 2.0 * with_all + own, count - 1, rows_each)
    error = sqrt((count - 1) / count * float(np.sum((without - without.mean()) ** 2)))
    low_square, high_square = square - CONFIDENCE * error, square + CONFIDENCE * error
    least = trace / high_square if high_square > 0.0 else inf
    if low_square <= 0.0 or trace <= 0.0:
        return Noise(trace, square, None, (max(0.0, least), inf))
    return Noise(trace, square, trace / square, (least, trace / low_square))


def _estimates(own: Any, total: Any, count: int, rows_each: int) -> tuple[Any, Any]:
    """|G|² from different microbatches, and tr Σ from how much longer one is than that; of sums over ``count``."""
    square = (total - own) / (count * (count - 1))
    return square, (own / count - square) * rows_each
