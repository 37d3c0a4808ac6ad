"""Columns of numbers, compiled: what a pass over the rows finds out about them, and their scaling into place.

Both take some rows as ``columns`` (m, r), a column after the other, of which the first ``num_rows`` count. Of an
array that lies so already that is a plain copy; of one that lies row by row it is made while the rows are near.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines.column_tiles import LENGTH, TILE, add_tile, widen
from descend.engines.compiled import exact_kernel, kernel, part
from descend.types import FloatArray, IntArray

NEAR_NUMBERS = 2**16
"""Numbers worked on at a time: a quarter of a megabyte of float32."""
FEWEST_ROWS = 512
"""Of fewer, what is done once for each square of columns takes longest."""
LANES = 64
SUMMED = 1024
RUN = 64
"""Rows that are scaled before they are written: of 16 an array of 105 columns took 1.7 times as long."""


def near_rows(num_columns: int) -> int:
    """Rows worked on at a time."""
    return max(FEWEST_ROWS, NEAR_NUMBERS // max(1, num_columns)) // LENGTH * LENGTH


@kernel
def add_moments(
    columns: FloatArray,
    num_rows: int,
    count: int,
    mean: FloatArray,
    M2: FloatArray,
    minimum: FloatArray,
    maximum: FloatArray,
    centres: FloatArray,
) -> None:
    """Adds rows to what ``count`` before them came to, (m,) each: mean, squared deviations, least and most.

    ``centres`` (m,) become the means of these rows alone. A mean that is no finite number says that a column has gaps
    or is infinite; the rest then means nothing.
    """
    low, high = np.empty(LANES, dtype=columns.dtype), np.empty(LANES, dtype=columns.dtype)
    for j in range(columns.shape[0]):
        total = 0.0
        for i in range(num_rows):
            total += np.float64(columns[j, i])
        center = total / num_rows
        centres[j] = center
        squares = 0.0
        for i in range(num_rows):
            away = np.float64(columns[j, i]) - center
            squares += away * away
        apart = center - mean[j]
        mean[j] += apart * num_rows / (count + num_rows)
        M2[j] += squares + apart * apart * count * num_rows / (count + num_rows)
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
        for lane in range(LANES):
            minimum[j] = min(minimum[j], low[lane])
            maximum[j] = max(maximum[j], high[lane])


@kernel
def add_rows(
    columns: FloatArray,
    begin: int,
    targets: FloatArray,
    first: int,
    num_rows: int,
    count: int,
    by_tiles: bool,
    room: FloatArray,
    moments: FloatArray,
    units: FloatArray,
    products: FloatArray,
) -> None:
    """Adds ``num_rows`` rows to what ``count`` before them came to: moments, and products about the mean.

    ``columns`` (m, r) have these rows from ``begin`` on, ``targets`` (k, n) from ``first`` on. ``moments`` (4, m + k)
    are mean, squared deviations, least and most; ``products`` are in ``units`` (m + k,), which the first rows settle.
    As many rows as ``room`` is long are worked on at a time: they lie there then, each number (x − mean of these
    rows) · unit, the difference taken in float64. Where ``by_tiles`` is off, their products are left to the caller.

    A mean that is no finite number says that a column has gaps or is infinite; the rest then means nothing.
    """
    m, size = columns.shape[0], units.size
    apart = np.empty(size)
    for start in range(0, num_rows, room.shape[1]):
        some, before = min(room.shape[1], num_rows - start), count + start
        for j in range(m):
            low = begin + start
            take_in(columns[j][low : low + some], j, before, room, moments, units, apart)
        for j in range(m, size):
            low = first + start
            take_in(targets[j - m][low : low + some], j, before, room, moments, units, apart)
        padded = some + -some % LENGTH
        for j in range(size):
            room[j, some:padded] = 0
        share = before * some / (before + some)
        for a in range(size):
            for b in range(a, size):
                products[a, b] += apart[a] * apart[b] * share
        if by_tiles:
            add_products(room, padded, products)
    for a in range(size):
        for b in range(a):
            products[a, b] = products[b, a]


@part
def take_in(
    numbers: FloatArray,
    j: int,
    count: int,
    room: FloatArray,
    moments: FloatArray,
    units: FloatArray,
    apart: FloatArray,
) -> None:
    """A column's next numbers: into its moments, and into ``room``."""
    total = squares = 0.0
    for i in range(numbers.size):
        total += np.float64(numbers[i])
    center = total / numbers.size
    for i in range(numbers.size):
        away = np.float64(numbers[i]) - center
        squares += away * away
    if count == 0:
        units[j] = nearest_power(np.sqrt(squares / numbers.size))
    unit, line = units[j], room[j]
    for i in range(numbers.size):
        line[i] = (np.float64(numbers[i]) - center) * unit
    mean = center - moments[0, j]
    apart[j] = mean * unit
    moments[0, j] += mean * numbers.size / (count + numbers.size)
    moments[1, j] += squares + mean * mean * count * numbers.size / (count + numbers.size)
    whole = numbers.size - numbers.size % LENGTH
    widen(numbers, whole, j, moments)
    for i in range(whole, numbers.size):
        moments[2, j] = min(moments[2, j], np.float64(numbers[i]))
        moments[3, j] = max(moments[3, j], np.float64(numbers[i]))


@part
def nearest_power(deviation: float) -> float:
    """1 over ``deviation``, rounded to a power of two, which loses no digit; 1 for 0."""
    if not (deviation > 0.0 and deviation < np.inf):
        return 1.0
    return float(2.0 ** -np.rint(np.log2(deviation)))


@part
def add_products(columns: FloatArray, num_rows: int, products: FloatArray) -> None:
    """Adds the product of each column with itself and those behind it to ``products``, (m, m).

    m is a multiple of ``TILE``, ``num_rows`` one of ``LENGTH``. Rows are few at a time, so that sums of float32 lose
    little.
    """
    for start in range(0, num_rows, SUMMED):
        for a in range(0, columns.shape[0], TILE):
            for b in range(a, columns.shape[0], TILE):
                add_tile(columns, a, b, start, min(start + SUMMED, num_rows), products)


@exact_kernel
def scale_into(
    columns: FloatArray,
    num_rows: int,
    inputs: IntArray,
    mean: FloatArray,
    scale: FloatArray,
    places: IntArray,
    out: FloatArray,
) -> bool:
    """Writes (x − mean) / scale of columns[inputs] into the rows ``places`` (r,) of ``out``; whether all are finite.

    To the last bit what NumPy makes of float64 numbers. Some rows at a time go through all columns, so that each
    row of ``out`` is written whole.
    """
    infinite = 0
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


def filled_up(num_columns: int) -> int:
    """So many columns, and as many of zeros as it takes for whole tiles."""
    return num_columns + -num_columns % TILE


def by_column(X: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Some rows of ``X`` (n, m) at a time: which, and an array (m, r) that begins with them, the same each time."""
    room = room_for(X, X.shape[1])
    step = room.shape[1]
    for start in range(0, len(X), step):
        rows = slice(start, min(start + step, len(X)))
        room[:, : rows.stop - start] = X[rows].T
        yield rows, room


def room_for(X: NDArray[Any], num_columns: int) -> NDArray[Any]:
    """An array (num_columns, r) of the type of ``X``, as long as the rows that are worked on at a time."""
    rows = min(near_rows(X.shape[1]), len(X))
    return np.empty((num_columns, rows + -rows % LENGTH), dtype=X.dtype)
