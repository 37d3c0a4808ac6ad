"""Whether the rows of a store are loaded or stay in it, by the memory there is."""

from __future__ import annotations

from descend.errors import InputError, shorten
from descend.machine import Room, find_room, status_bytes
from descend.store.opening import Store

SHARE = 0.5
"""Rows that take no more than this share of what is free are loaded: training needs room beside them."""
PROGRAM_BYTES = 250 * 10**6
"""What the program comes to hold without any rows: Python, NumPy, compiled kernels, the windows it reads."""
ROW_BYTES = 16
"""What training keeps of a row besides targets and weights: its place in the order, its visits, its norm or score."""
OUTPUT_BYTES = 8
"""The same for each output: SAGA's table, the certificate's scores."""


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
    if stream is None and not fits and (store.layout.sparse or kept > free):
        what = "sparse rows are loaded, and take" if store.layout.sparse else "of every row training keeps"
        needed = int((rows / SHARE if store.layout.sparse else kept) + PROGRAM_BYTES)
        raise InputError(
            f"store {shorten(store.name)!r} needs more memory than {said} leaves: {what} "
            f"{_size(rows if store.layout.sparse else kept)} beside the program; about {_size(needed)} are needed"
        )
    if fits if stream is None else not stream:
        return False, f"{_size(rows)} fit into memory: the rows are loaded"
    return True, (
        f"{_size(rows)} do not fit {said}, of which {_size(free)} are free: the rows are read from the store in "
        "every epoch"
    )


def may_stay_mapped(store: Store, num_outputs: int, limit: int | None) -> int:
    """Bytes of rows that may stay mapped when they stay in the store: half of what is free beside what is kept."""
    return int(SHARE * max(0, _free(find_room(limit)) - kept_bytes(store, num_outputs)))


def _free(room: Room) -> int:
    return max(0, room.bytes - max(0, PROGRAM_BYTES - status_bytes("VmRSS")))


def loaded_bytes(store: Store) -> int:
    """Bytes of all rows, targets and weights in memory."""
    layout = store.layout
    numbers = sum(record.numbers for record in store.manifest.blocks)
    X = numbers * (layout.dtype.itemsize + 4) if layout.sparse else layout.num_rows * layout.row_bytes
    return X + layout.num_rows * _target_bytes(store)


def kept_bytes(store: Store, num_outputs: int) -> int:
    """Bytes that training takes of memory when the rows stay in the store."""
    return store.num_rows * (_target_bytes(store) + ROW_BYTES + OUTPUT_BYTES * (num_outputs - 1))


def _target_bytes(store: Store) -> int:
    return 8 * (store.layout.num_outputs + store.layout.has_weights)


def _size(num_bytes: float) -> str:
    from descend.report.formatting import size

    return size(num_bytes)
