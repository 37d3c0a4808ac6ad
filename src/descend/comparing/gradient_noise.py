"""How far the gradient of a batch strays from that of all rows, at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.types import FloatArray

BATCHES = 64
ROWS = 20_000


@dataclass(frozen=True, slots=True)
class GradientNoise:
    """Root mean square distance of a batch's gradient from the whole one, relative to the whole one's length."""

    batch_size: int
    relative: float | None
    """None where the whole one is 0."""


def gradient_noise(
    engine: Any, parameters: FloatArray, num_rows: int, batch_size: int, seed: int
) -> GradientNoise:
    """Measured at ``parameters`` on random batches of the engine's rows, which lie in random order."""
    few = min(num_rows, ROWS)  # the first ones stand for all
    whole = engine.loss_and_gradient(parameters, slice(few)).gradient / few
    length = float(np.linalg.norm(whole))
    if length == 0.0:
        return GradientNoise(batch_size, None)
    if batch_size >= num_rows:
        return GradientNoise(batch_size, 0.0)
    generator = np.random.default_rng(seed)
    strays = []
    for _ in range(BATCHES):
        rows = generator.integers(few, size=min(batch_size, few))
        gradient = engine.loss_and_gradient(parameters, rows).gradient / len(rows)
        strays.append(float(np.sum((gradient - whole) ** 2)) * len(rows) / batch_size)
    # An epoch's batches have no row twice: of n rows they stray less, by (n - B) / (n - 1) of the square.
    left = (num_rows - batch_size) / (num_rows - 1)
    return GradientNoise(batch_size, float(np.sqrt(left * np.mean(strays))) / length)
