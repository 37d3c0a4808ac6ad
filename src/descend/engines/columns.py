"""Columns of numbers, compiled: what a pass over the rows finds out about them, and their scaling into place.

Both take some rows as ``columns`` (m, r), a column after the other: of an array that lies so already that is a plain
copy, and of one that lies row by row the copy is made while the rows are near.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.compiled import exact_kernel, kernel
from descend.types import FloatArray, IntArray

NEAR_NUMBERS = 2**18
"""Numbers worked on at a time: 1 MB of float32, half of a usual second-level cache."""
LANES = 64
RUN = 64
"""Rows that are scaled before they are written: of 16 an array of 105 columns took 1.7 times as long."""


def near_rows(num_columns: int) -> int:
    """Rows worked on at a time."""
    return max(RUN, NEAR_NUMBERS // max(1, num_columns))


@kernel
def moments_of(
    columns: FloatArray, mean: FloatArray, M2: FloatArray, minimum: FloatArray, maximum: FloatArray
) -> None:
    """Overwrites the four (m,) float64: mean, sum of squared deviations, least and most of each column.

    A mean that is no finite number says that a column has gaps or is infinite; the rest then means nothing.
    """
    num_rows = columns.shape[1]
    low, high = np.empty(LANES, dtype=columns.dtype), np.empty(LANES, dtype=columns.dtype)
    for j in range(columns.shape[0]):
        total = 0.0
        for i in range(num_rows):
            total += np.float64(columns[j, i])
        mean[j] = center = total / num_rows
        squares = 0.0
        for i in range(num_rows):
            away = np.float64(columns[j, i]) - center
            squares += away * away
        M2[j] = squares
        # A single lowest number would wait for itself: where NaN keeps its meaning such a loop is not vectorised.
        low[:] = columns[j, 0]
        high[:] = columns[j, 0]
        whole = num_rows - num_rows % LANES
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                number = columns[j, start + lane]
                low[lane] = number if number < low[lane] else low[lane]
                high[lane] = number if number > high[lane] else high[lane]
        for i in range(whole, num_rows):
            low[0] = min(low[0], columns[j, i])
            high[0] = max(high[0], columns[j, i])
        minimum[j], maximum[j] = low.min(), high.max()


@exact_kernel
def scale_into(
    columns: FloatArray, inputs: IntArray, mean: FloatArray, scale: FloatArray, places: IntArray, out: FloatArray
) -> bool:
    """Writes (x − mean) / scale of columns[inputs] into the rows ``places`` (r,) of ``out``; whether all are finite.

    To the last bit what NumPy makes of float64 numbers. Some rows at a time go through all columns, so that each
    row of ``out`` is written whole.
    """
    num_rows, infinite = columns.shape[1], 0
    room = np.empty((len(inputs), RUN), dtype=out.dtype)
    for start in range(0, num_rows, RUN):
        count = min(RUN, num_rows - start)
        for j in range(len(inputs)):
            source, center, width = inputs[j], mean[j], scale[j]
            for i in range(count):
                number = (np.float64(columns[source, start + i]) - center) / width
                infinite |= not abs(number) < np.inf
                room[j, i] = number
        for i in range(count):
            place = places[start + i]
            for j in range(len(inputs)):
                out[place, j] = room[j, i]
    return infinite == 0


def as_columns(rows: Any) -> Any:
    """Some rows (r, m) as columns (m, r), one after the other."""
    return np.ascontiguousarray(rows.T)
