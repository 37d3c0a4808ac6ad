"""How the memory that an ingest may use is shared out."""

from __future__ import annotations

from dataclasses import dataclass

from descend import machine
from descend.errors import InputError
from descend.sources.limits import table_rows
from descend.sources.sparse import SparseSource
from descend.store.layout import BLOCK_BYTES
from descend.types import Source

TEXT_BYTES = 32 * 2**20
"""Text that PyArrow reads ahead: 32 pieces of a megabyte, more where lines are long."""
BLOCKS_AT_ONCE = 8
"""Of the first pass: read, waiting, cut anew, as numbers, in parts, as records, and sorted."""
LEAST_READING_BYTES = 96 * 2**20
"""Texts of a few columns take more than their numbers."""
SPARSE_BYTES = 160 * 2**20
LEAST_BYTES = 64 * 2**20
MOST_SHARE_BYTES = 256 * 2**20
UNKNOWN_BYTES = 160 * 2**20
"""What this process is taken to hold where the system does not tell."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of rows kept before they are written, of rows read together, and threads that fill blocks."""

    run_bytes: int
    share_bytes: int
    threads: int


def reading_bytes(source: Source) -> int:
    """About what reading the rows of ``source`` takes besides the rows that are kept."""
    columns = len(source.column_names)
    if hasattr(source, "match_columns") or isinstance(source, SparseSource):
        return SPARSE_BYTES + 200 * columns
    longest = 12 * columns
    text = max(TEXT_BYTES, 32 * 128 * longest)
    pages = columns * getattr(source, "column_bytes", 0)
    return pages + max(LEAST_READING_BYTES, text + BLOCKS_AT_ONCE * 8 * columns * table_rows(columns))


def budget(limit: int, threads: int, reading: int) -> Budget:
    """Share out ``limit`` bytes of memory, what the process holds already and ``reading`` takes included.

    Rows wait in memory in the first pass; in the second a share is worked on while the next is read, and each
    thread fills a block.
    """
    held = machine.status_bytes("VmRSS") or UNKNOWN_BYTES
    room = limit - held - reading
    if (addresses := machine.address_room()) is not None:
        room = min(room, addresses - reading - (threads + 2) * machine.addresses_of_thread())
    if room < LEAST_BYTES:
        needed = -(-(LEAST_BYTES - room) // 10**6)
        raise InputError(
            f"the memory limit of {limit // 10**6:,} MB is too small to ingest with by {needed:,} MB; give more "
            "(--memory-limit, ulimit -v), or fewer --threads"
        )
    block = 2 * BLOCK_BYTES
    fitting = max(1, int(0.4 * room) // block - 1)
    return Budget(int(0.45 * room), min(int(0.15 * room), MOST_SHARE_BYTES), min(threads, fitting))
