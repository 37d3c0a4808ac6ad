"""Coded rows into floats: compiled, a block at a time, into an array that stays near the processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import NO_ORDER
from descend.coded_rows import CodedRows
from descend.engines.compiled import kernel, part
from descend.engines.prefetch import prefetch
from descend.types import FloatArray, IntArray, is_coded, is_sparse, is_stored

NEAR_NUMBERS = 2**18
"""Numbers decoded at a time: 1 MB, half of a usual second-level cache."""
FEW_ROWS = 64
MOST_NUMBERS = 2**22
"""Of long rows so many at least, up to 16 MB: fewer are not worth a call and a gradient of their own."""
NORMED = 1024
AHEAD = 8  # runs of rows between asking memory for one and decoding it
LINE = 64
LONGEST_PREFETCH = 512
HALVES = np.float32(2.0**112)
"""The exponent of float32 counts from 127, that of float16 from 15."""


def near_rows(num_columns: int) -> int:
    """Rows decoded at a time; a multiple of 4 where they are not very long.

    >>> near_rows(20), near_rows(784), near_rows(10_000)
    (13104, 332, 64)
    """
    rows = max(NEAR_NUMBERS // num_columns, min(FEW_ROWS, MOST_NUMBERS // num_columns), 1)
    return rows - rows % 4 or rows


def decode(X: CodedRows, order: IntArray, start: int, stop: int, out: FloatArray) -> None:
    """Overwrites the first rows of ``out`` with rows order[start:stop], or start … stop − 1 where it is empty."""
    if not X.values.flags.c_contiguous:
        decode_columns(X.values.T, order, start, stop, X.code, out)
    elif X.values.dtype == np.float16:
        decode_halves(X.values.view(np.uint16), order, start, stop, X.code, out)
    else:
        decode_rows(X.values, order, start, stop, X.code, out)


def blocks(X: Any) -> Iterator[tuple[slice, Any]]:
    """Rows ready for arithmetic, and where they are: all at once, coded and stored ones a block at a time.

    A block lives until the next one is asked for.
    """
    if is_stored(X):
        yield from X.windows(step=None if X.code is None else near_rows(X.shape[1]))
        return
    if not is_coded(X):
        yield slice(0, X.shape[0]), X
        return
    step = near_rows(X.shape[1])
    room = np.empty((min(step, len(X)), X.shape[1]), dtype=X.dtype)
    for start in range(0, len(X), step):
        stop = min(start + step, len(X))
        decode(X, NO_ORDER, start, stop, room)
        yield slice(start, stop), room[: stop - start]


def dense_blocks(X: Any) -> Iterator[tuple[slice, Any]]:
    """``blocks``, sparse ones made dense some rows at a time."""
    for rows, some in blocks(X):
        if not is_sparse(some):
            yield rows, some
            continue
        step = near_rows(X.shape[1])
        for start in range(0, some.shape[0], step):
            part = some[start : start + step].toarray()
            yield slice(rows.start + start, rows.start + start + len(part)), part


@part
def side_by_side(order: IntArray, i: int, stop: int, most: int) -> int:
    """How many rows from place ``i`` of ``order`` on, up to ``most``, follow each other in memory."""
    most = min(most, stop - i)
    count = 1
    if order.size:
        while count < most and order[i + count] == order[i] + count:
            count += 1
        return count
    return most


@part
def ask_for(values: NDArray[Any], order: IntArray, start: int, stop: int) -> None:
    """Asks memory for rows that ``order`` will come to."""
    for i in range(min(start, order.size), min(stop, order.size)):
        for offset in range(0, min(values.shape[1] * values.itemsize, LONGEST_PREFETCH), LINE):
            prefetch(values, order[i], offset)


@kernel
def decode_rows(
    values: NDArray[Any], order: IntArray, start: int, stop: int, code: FloatArray, out: FloatArray
) -> None:
    """``decode`` of whole numbers and floats."""
    number, d = out.dtype.type, values.shape[1]
    stored, decoded, most = values.reshape(-1), out.reshape(-1), code.shape[1] // d
    i = start
    while i < stop:
        count = side_by_side(order, i, stop, most)
        ask_for(values, order, i + AHEAD * most, i + AHEAD * most + count)
        source = stored[(order[i] if order.size else i) * d :]
        goal = decoded[(i - start) * d :]
        for j in range(count * d):
            goal[j] = (number(source[j]) - code[0, j]) * code[1, j] + code[2, j]
        i += count


@kernel
def decode_columns(
    columns: FloatArray, order: IntArray, start: int, stop: int, code: FloatArray, out: FloatArray
) -> None:
    """``decode`` of floats that lie a column after the other, (d, n)."""
    number = out.dtype.type
    for low in range(start, stop, FEW_ROWS):
        count = min(FEW_ROWS, stop - low)
        for j in range(columns.shape[0]):
            centre, factor, shift = code[0, j], code[1, j], code[2, j]
            for i in range(low, low + count):
                stored = columns[j, order[i] if order.size else i]
                out[i - start, j] = (number(stored) - centre) * factor + shift


@kernel
def norms_of_columns(columns: FloatArray, start: int, code: FloatArray, out: FloatArray) -> None:
    """Overwrites ``out`` with |x|² + 1 of rows from ``start`` on, of floats that lie a column after the other."""
    for low in range(0, out.size, NORMED):
        norms = out[low : low + NORMED]
        norms[:] = 1.0
        for j in range(columns.shape[0]):
            stored = columns[j][start + low : start + low + norms.size]
            centre, factor, shift = code[0, j], code[1, j], code[2, j]
            for i in range(norms.size):
                number = np.float64((stored[i] - centre) * factor + shift)
                norms[i] += number * number


@kernel
def decode_halves(
    values: NDArray[np.uint16], order: IntArray, start: int, stop: int, code: FloatArray, out: FloatArray
) -> None:
    """``decode`` of finite float16, given as their bits: shifted into float32's places, smallest numbers included."""
    d = values.shape[1]
    stored, decoded, most = values.reshape(-1), out.reshape(-1), code.shape[1] // d
    all_bits = decoded.view(np.uint32)
    i = start
    while i < stop:
        count = side_by_side(order, i, stop, most)
        ask_for(values, order, i + AHEAD * most, i + AHEAD * most + count)
        source = stored[(order[i] if order.size else i) * d :]
        goal, bits = decoded[(i - start) * d :], all_bits[(i - start) * d :]
        for j in range(count * d):
            half = np.uint32(source[j])
            bits[j] = ((half & np.uint32(0x7FFF)) << np.uint32(13)) | (
                (half & np.uint32(0x8000)) << np.uint32(16)
            )
        for j in range(count * d):
            goal[j] = (goal[j] * HALVES - code[0, j]) * code[1, j] + code[2, j]
        i += count


@kernel
def distinct(rows: IntArray, marks: IntArray, found: IntArray, places: IntArray) -> int:
    """Writes to ``found`` the distinct ones of ``rows`` and to ``places`` where each row is in it; returns how many.

    ``marks`` has a −1 for every row that there is, and has it again afterwards.
    """
    count = 0
    for i in range(rows.size):
        row = rows[i]
        if marks[row] < 0:
            marks[row] = count
            found[count] = row
            count += 1
        places[i] = marks[row]
    for i in range(count):
        marks[found[i]] = -1
    return count
