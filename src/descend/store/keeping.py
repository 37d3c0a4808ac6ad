"""Whether the rows of a store are loaded or stay in it, by the memory there is."""

from __future__ import annotations

from descend.errors import InputError, shorten
from descend.machine import Room, find_room, status_bytes
from descend.store.opening import Store
from descend.store.read_ahead import ROOMS
from descend.store.sparse_rows import BYTES, GROWTH, window_rows

SHARE = 0.5
"""Rows that take no more than this share of what is free are loaded: training needs room beside them."""
PROGRAM_BYTES = 250 * 10**6
"""What the program comes to hold without any rows: Python, NumPy, compiled kernels, the windows it reads."""
MAPPED_BYTES = 160 * 10**6
"""What windows of rows used in place may come to hold: with less, rows are read, in smaller ones."""
ROW_BYTES = 16
"""What training keeps of a row besides targets and weights: its place in the order, its visits, its norm or score."""
OUTPUT_BYTES = 8
"""The same for each output: SAGA's table, the certificate's scores."""

PARAMETER_BYTES = 400
"""For each parameter: itself, averages, gradients of two threads, and above all the 20 steps and gradients that
L-BFGS remembers. Of a million columns that counts."""


def where_to_keep(
    store: Store, num_outputs: int, limit: int | None, stream: bool | None = None
) -> tuple[bool, str]:
    """Whether the rows stay in the store, and why; ``limit`` bytes are what the process may come to hold.

    ``stream`` settles it. Raises ``InputError`` where there is not even room for what is kept of streamed rows.
    """
    room = find_room(limit)
    free = _free(room)
    rows, kept = loaded_bytes(store), kept_bytes(store, num_outputs)
    said = f"the limit of {_size(limit)}" if limit is not None else room.bound
    fits = rows <= SHARE * free
    if stream is None and not fits and kept > free:
        what = "of every row training keeps"
        if store.layout.sparse:
            what = "of every row and column, and of the rows that are read at a time, training keeps"
        raise InputError(
            f"store {shorten(store.name)!r} needs more memory than {said} leaves: {what} {_size(kept)} beside the "
            f"program; about {_size(kept + PROGRAM_BYTES)} are needed"
        )
    if fits if stream is None else not stream:
        return False, f"{_size(rows)} fit into memory: the rows are loaded"
    return True, (
        f"{_size(rows)} do not fit {said}, of which {_size(free)} are free: the rows are read from the store in "
        "every epoch"
    )


def spare_bytes(store: Store, num_outputs: int, limit: int | None) -> int:
    """Bytes of rows that may stay in memory though all stay in the store: half of what is free beside what is kept.

    Of rows that are used in place any, as long as windows have their room; of others those that are visited again and
    again.
    """
    left = _left(store, num_outputs, limit)
    windows = MAPPED_BYTES if left >= MAPPED_BYTES else 0
    return int(min(SHARE * left, left - windows))


def may_map(store: Store, num_outputs: int, limit: int | None) -> bool:
    """Whether there is room for what windows have mapped at a time; else rows are read, which takes less."""
    return _left(store, num_outputs, limit) >= MAPPED_BYTES


def _left(store: Store, num_outputs: int, limit: int | None) -> int:
    return max(0, _free(find_room(limit)) - kept_bytes(store, num_outputs))


def _free(room: Room) -> int:
    return max(0, room.bytes - max(0, PROGRAM_BYTES - status_bytes("VmRSS")))


def loaded_bytes(store: Store) -> int:
    """Bytes of all rows, targets and weights in memory."""
    layout = store.layout
    X = (
        num_numbers(store) * (layout.dtype.itemsize + 4)
        if layout.sparse
        else layout.num_rows * layout.row_bytes
    )
    return X + layout.num_rows * _target_bytes(store)


def kept_bytes(store: Store, num_outputs: int) -> int:
    """Bytes that training takes of memory when the rows stay in the store."""
    kept = store.num_rows * (_target_bytes(store) + ROW_BYTES + OUTPUT_BYTES * (num_outputs - 1))
    return kept + _sparse_bytes(store, num_outputs) if store.layout.sparse else kept


def _sparse_bytes(store: Store, num_outputs: int) -> int:
    """The same for sparse rows besides: where each begins, windows as large as they come, and wide parameters."""
    n, d = store.num_rows, store.layout.num_columns
    numbers = num_numbers(store)
    window = window_rows(n, numbers, d, num_outputs) * numbers * BYTES // max(1, n)
    return 8 * n + int(GROWTH * ROOMS * window) + PARAMETER_BYTES * num_outputs * (d + 1)


def num_numbers(store: Store) -> int:
    """Numbers that sparse rows store."""
    return sum(record.numbers for record in store.manifest.blocks)


def _target_bytes(store: Store) -> int:
    layout = store.layout
    target = store.target().dtype.itemsize if store.task == "classification" else 8 * layout.num_outputs
    return target + 8 * layout.has_weights


def _size(num_bytes: float) -> str:
    from descend.report.formatting import size

    return size(num_bytes)
