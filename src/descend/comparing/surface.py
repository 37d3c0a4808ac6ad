"""The loss surface that the paths of several runs lie in: their two principal directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batches import kind_of
from descend.types import FloatArray

if TYPE_CHECKING:
    from descend.features import Prepared
    from descend.models.linear import LinearModel
    from descend.runs import Run

GRID = 31
SAMPLE_ROWS = 2_000
MOST_POINTS = 120
AT_ONCE = 1_000_000
"""Numbers in float64 at a time."""
FLAT = 1e-7
"""A second spread that is this little of the first is one of rounding."""


def loss_surface(
    prepared: Prepared, run: Run[LinearModel], paths: dict[int, list[FloatArray]], unit: float
) -> dict[str, Any] | None:
    """Paths of the last parameters, by batch size, in the plane where they spread most, and the loss on a grid.

    The plane holds the mean of all points; coordinates are distances in parameter space. The loss is that of a
    sample of rows. None where the paths have no extent.
    """
    from descend.engines.choose import make_engine
    from descend.settings import Settings
    from descend.target_objective import find_objective

    kept = {size: thinned(path) for size, path in paths.items()}
    points = [p.ravel() for path in kept.values() for p in path]
    if len(points) < 3 or not all(np.isfinite(point).all() for point in points):
        return None
    found = principal_plane(points)
    if found is None:
        return None
    centre, axes, places, lengths = found
    shape = run.model.parameters.shape
    asked = Settings(**run.model.summary["asked"])
    engine = make_engine(prepared.train, *find_objective(prepared.train, prepared.target, asked))
    xs, ys = (axis_over(places[:, i]) for i in (0, 1))

    def loss_at(x: float, y: float) -> float | None:
        parameters = (centre + x * axes[0] + y * axes[1]).reshape(shape).astype(prepared.train.X.dtype)
        value = engine.mean_loss(parameters, SAMPLE_ROWS) * unit
        return float(value) if np.isfinite(value) else None

    ends = np.cumsum([len(path) for path in kept.values()])
    return {
        "x": xs.tolist(),
        "y": ys.tolist(),
        "loss": [[loss_at(x, y) for x in xs] for y in ys],
        "explained": (lengths[:2] ** 2 / np.sum(lengths**2)).tolist(),
        "paths": [
            {
                "kind": kind_of(size, prepared.train.num_rows),
                "batch_size": size,
                "x": part[:, 0].tolist(),
                "y": part[:, 1].tolist(),
            }
            for size, part in zip(kept, np.split(places, ends[:-1]), strict=True)
        ],
    }


def principal_plane(
    points: list[FloatArray],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray] | None:
    """The plane where points (P,) spread most: centre (P,), axes (2, P), places (n, 2), and all spreads (n,).

    None where they have no extent. Many points of many numbers are not laid beside one another in float64: their
    products with each other tell the plane, to half the digits.
    """
    if len(points) * points[0].size <= AT_ONCE:
        rows = np.array(points, dtype=np.float64)
        centre = rows.mean(axis=0)
        _, lengths, axes = np.linalg.svd(rows - centre, full_matrices=False)
        if len(lengths) < 2 or lengths[0] == 0.0:
            return None
        return centre, axes[:2], (rows - centre) @ axes[:2].T, lengths
    size, n = points[0].size, len(points)
    step = max(1, AT_ONCE // n)
    parts = [slice(start, start + step) for start in range(0, size, step)]
    centre, products, axes = np.empty(size), np.zeros((n, n)), np.empty((2, size))
    for part in parts:
        rows = np.array([point[part] for point in points], dtype=np.float64)
        centre[part] = rows.mean(axis=0)
        rows -= centre[part]
        products += rows @ rows.T
    squares, directions = np.linalg.eigh(products)
    lengths, two = np.sqrt(np.maximum(squares[::-1], 0.0)), directions[:, -1:-3:-1]
    if not lengths[1] > FLAT * lengths[0]:
        return None
    for part in parts:
        rows = np.array([point[part] for point in points], dtype=np.float64) - centre[part]
        axes[:, part] = (two / lengths[:2]).T @ rows
    return centre, axes, two * lengths[:2], lengths


def thinned(path: list[FloatArray]) -> list[FloatArray]:
    """At most 120 of the points, the first and the last among them."""
    keep = np.unique(np.linspace(0, len(path) - 1, min(len(path), MOST_POINTS)).astype(int))
    return [path[i] for i in keep]


def axis_over(places: FloatArray, at_least: float = 0.0) -> FloatArray:
    """Grid points (GRID,) along one axis: over all places, with a margin, and no shorter than ``at_least``."""
    low, high = float(places.min()), float(places.max())
    margin = max(0.15 * (high - low), 0.5 * (at_least - (high - low))) or 1.0
    return np.linspace(low - margin, high + margin, GRID)
