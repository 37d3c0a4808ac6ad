"""How the memory that an ingest may use is shared out."""

from __future__ import annotations

from dataclasses import dataclass

from descend import machine
from descend.errors import InputError
from descend.store.layout import BLOCK_BYTES

READING_BYTES = 96 * 2**20
"""What parsing takes, and blocks that were read and wait: about four of 8 MB, as text, as numbers and in parts."""
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


def budget(limit: int, threads: int, row_bytes: int = 0) -> Budget:
    """Share out ``limit`` bytes of memory, what the process holds already included.

    Rows wait in memory in the first pass; in the second a share is worked on while the next is read, and each
    thread fills a block.
    """
    held = machine.status_bytes("VmRSS") or UNKNOWN_BYTES
    room = limit - held - READING_BYTES
    if (addresses := machine.address_room()) is not None:
        room = min(room, addresses - READING_BYTES - (threads + 2) * machine.addresses_of_thread())
    if room < LEAST_BYTES:
        needed = -(-(LEAST_BYTES - room) // 10**6)
        raise InputError(
            f"the memory limit of {limit // 10**6:,} MB is too small to ingest with by {needed:,} MB; give more "
            "(--memory-limit, ulimit -v), or fewer --threads"
        )
    block = 2 * max(BLOCK_BYTES, row_bytes * 64)
    fitting = max(1, int(0.4 * room) // block - 1)
    return Budget(int(0.45 * room), min(int(0.15 * room), MOST_SHARE_BYTES), min(threads, fitting))
