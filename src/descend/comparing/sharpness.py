"""How sharp the place is where a run ended: the largest eigenvalue of the objective's Hessian there.

    v = H · (a random direction)                       Lanczos (1950): what is left of the last two directions is
    repeat: w = H v, less its parts along the last two  taken off, so that H becomes a tridiagonal T on them
            the largest eigenvalue θ of T, its vector s
            stop when β |s's last entry| ≤ 0.1 % of |θ|   then an eigenvalue of H lies that near to θ

H is never formed, only multiplied by. Only the last two directions are kept. Rounding makes them lose their right
angles, which repeats eigenvalues that were found and moves none (Paige 1980,
https://doi.org/10.1016/0024-3795(80)90167-6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.types import FloatArray

Map = Callable[[FloatArray], FloatArray]
"""A vector of parameters in, one of the same length out: a gradient, or a product with the Hessian."""

STEP = 1e-6
"""Two gradients lie this far from the place, times 1 + its length: near enough for a tangent, and far enough for what
float64 rounds off."""
MOST_ITERATIONS = 60
FEWEST_ITERATIONS = 20
ENOUGH = 0.001
"""At 1 % and after 4, even at 0.1 % and after 10, it sometimes ended at the second largest eigenvalue, 5 % below."""


@dataclass(frozen=True, slots=True)
class Sharpness:
    """The largest eigenvalue, and how it was found."""

    value: float
    within: float
    """An eigenvalue lies at most this far from ``value``."""
    iterations: int
    arrived: bool
    """Whether ``within`` came below 0.1 % of ``value``; else the iterations ran out."""

    def to_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "within": self.within,
            "iterations": self.iterations,
            "arrived": self.arrived,
        }


def product_by_differences(gradient: Map, at: FloatArray) -> Map:
    """Products of the Hessian at ``at`` (P,), float64, with vectors, from central differences of ``gradient``.

    For smooth objectives that know nothing better: where a gradient jumps, as at relu's corners, a jump between the
    two sides looks like curvature.
    """
    reach = STEP * (1.0 + float(np.linalg.norm(at)))

    def product(direction: FloatArray) -> FloatArray:
        length = float(np.linalg.norm(direction))
        if length == 0.0:
            return np.zeros_like(at)
        step = reach / length
        return (gradient(at + step * direction) - gradient(at - step * direction)) / (2.0 * step)

    return product


def sharpness(
    product: Map, size: int, seed: int = 0, most: int = MOST_ITERATIONS, enough: float = ENOUGH
) -> Sharpness | None:
    """The largest eigenvalue of the symmetric map ``product`` of vectors (``size``,), by Lanczos' iteration.

    ``most`` products at the most, besides the first. None where a product is not finite. The same seed gives the same
    number.
    """
    direction = product(np.random.Generator(np.random.PCG64([seed, 3])).standard_normal(size))
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length):
        return None
    if length == 0.0:
        return Sharpness(0.0, 0.0, 0, True)
    direction = direction / length
    before: FloatArray = np.zeros(size)
    along: list[float] = []
    between: list[float] = []
    largest = within = 0.0
    for iteration in range(1, min(most, size) + 1):
        made = product(direction)
        along.append(float(made @ direction))
        made = made - along[-1] * direction - (between[-1] if between else 0.0) * before
        rest = float(np.linalg.norm(made))
        if not np.isfinite(rest):
            return None
        values, vectors = np.linalg.eigh(np.diag(along) + np.diag(between, 1) + np.diag(between, -1))
        largest = float(values[-1])
        within = rest * abs(float(vectors[-1, -1]))
        closed = rest <= 1e-12 * float(np.abs(values).max())
        if closed or (iteration >= FEWEST_ITERATIONS and within <= enough * abs(largest)):
            return Sharpness(largest, within, iteration, True)
        between.append(rest)
        before, direction = direction, made / rest
    return Sharpness(largest, within, len(along), within <= enough * abs(largest))
