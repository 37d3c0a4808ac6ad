"""The products of a block's rows as they lie in its file: added up when it is written, so that no training has to.

They are those of targets that are put to mean 0 and deviation 1 within the block, which lose nothing to a large mean
whatever the target is scaled by when training begins. With both they are kept as one row of float64: the lower
triangle of the columns' products, the targets' products, their squares, means and deviations.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.products import Products, parts, products_of
from descend.store.layout import Layout

MOST_COLUMNS = 256
"""Of a store with products. At so many they are a fiftieth of a block, and grow with the square."""
MOST_OUTPUTS = 16


def has_products(num_columns: int, num_outputs: int, dtype: np.dtype[Any], plain: bool) -> bool:
    """Whether blocks of such rows keep products; ``plain`` ones are dense and have no weights."""
    return plain and dtype == np.float32 and num_columns <= MOST_COLUMNS and num_outputs <= MOST_OUTPUTS


def pack_products(X: NDArray[Any], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The products of a block's rows X (r, d) and targets y (r, outputs).

    The caller sees to it that products take one thread: their last digits must not depend on how many there are.
    """
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what they say of such rows is told when they are trained on
        centre, scale = y.mean(axis=0), y.std(axis=0)
        scale[~(np.isfinite(scale) & (scale > 0.0))] = 1.0
        own = (y - centre) / scale
        found = products_of((X[part], own[part], None) for part in parts(0, len(X), X.shape[1]))
    triangle = found.columns[_lower(len(found.columns))]
    return np.concatenate([triangle, found.targets.ravel(), found.squares, centre, scale])


def unpack_products(
    kept: NDArray[np.float64], layout: Layout, centre: NDArray[np.float64], scale: NDArray[np.float64]
) -> Products:
    """What ``pack_products`` packed, with the targets (y - centre) / scale, (outputs,) each."""
    columns, outputs = layout.num_columns + 1, layout.num_outputs
    sizes = [columns * (columns + 1) // 2, outputs * columns, outputs, outputs]
    triangle, targets, squares, own_centre, own_scale = np.split(kept, np.cumsum(sizes))
    whole = np.empty((columns, columns))
    rows, places = _lower(columns)
    whole[rows, places] = whole[places, rows] = triangle
    found = Products(whole, targets.reshape(outputs, columns), squares)
    return found.with_targets(own_scale / scale, (own_centre - centre) / scale)


@cache
def _lower(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.tril_indices(size)
