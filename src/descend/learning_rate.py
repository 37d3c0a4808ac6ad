"""The learning rate that needs no tuning: from curvature, in closed form, for any batch size.

A batch of B of the N rows bends at most as sharply as

    L(B) = A · L + M · L_max,    A = N (B − 1) / (B (N − 1)),    M = (N − B) / (B (N − 1))

(Gower et al. 2019, https://arxiv.org/abs/1901.09401), where L belongs to the mean over all rows and L_max to
the heaviest single one. The rate is 1 / (A · L + 2 M · L_max): the classical 1 / L for the full batch, half
of 1 / L_max for single rows, and what lies between for mini-batches. Momentum β multiplies the noise of single
rows by 1 / (1 − β), and their term with it; the full batch's term stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from descend.updates import Optimizer

SCALE_FREE_LIMIT = 0.1


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate, and where it comes from."""

    value: float
    bound: float
    """Above this a step may overshoot: 2 / L(B), times 1 − β for the noise of momentum."""
    reason: str


def automatic_rate(
    optimizer: Optimizer,
    batch_size: int,
    num_visits: int,
    mean_curvature: float,
    row_curvature: float,
    momentum: float = 0.9,
) -> Rate:
    """The rate of ``optimizer`` at ``batch_size``; curvatures are L and L_max, the penalty's alpha included.

    >>> from descend.updates import OPTIMIZERS
    >>> automatic_rate(OPTIMIZERS["sgd"], 100, 100, mean_curvature=4.0, row_curvature=50.0).value
    0.25
    >>> automatic_rate(OPTIMIZERS["sgd"], 1, 100, mean_curvature=4.0, row_curvature=50.0).value
    0.01
    """
    if optimizer.scale_free:
        value = min(SCALE_FREE_LIMIT, optimizer.scale_free_rate * sqrt(batch_size))
        return Rate(
            value, float("inf"), f"{optimizer.scale_free_rate:g} · √B, at most {SCALE_FREE_LIMIT:g}: a rule"
        )
    smoothness = batch_curvature(batch_size, num_visits, mean_curvature, row_curvature)
    full, single = smoothness
    if optimizer.uses_momentum:
        single /= 1.0 - momentum
    value = 1.0 / (full + 2.0 * single)
    return Rate(value, 2.0 / (full + single), "1 / (A·L + 2·M·L_max), from curvature")


def batch_curvature(
    batch_size: int, num_visits: int, mean_curvature: float, row_curvature: float
) -> tuple[float, float]:
    """The two terms of L(B): A · L, and M · L_max."""
    B, N = batch_size, num_visits
    if B >= N:
        return mean_curvature, 0.0
    return mean_curvature * N * (B - 1) / (B * (N - 1)), row_curvature * (N - B) / (B * (N - 1))
