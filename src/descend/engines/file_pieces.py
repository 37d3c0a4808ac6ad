"""Pieces of files into one array by one compiled call: between reads of its own Python waits for its lock."""

from __future__ import annotations

from typing import Any

from numba import types

from descend.engines.compiled import kernel
from descend.types import IntArray

_pread: Any = types.ExternalFunction(
    "pread", types.int64(types.int32, types.uintp, types.uint64, types.int64)
)


@kernel
def read_pieces(pieces: IntArray, start: int, out: Any) -> int:
    """Reads pieces from number ``start`` on into the bytes ``out``; the number of the first that failed, or −1.

    A piece is a row of four: file descriptor, offset in the file, bytes, offset in ``out``.
    """
    base = out.ctypes.data
    for i in range(start, pieces.shape[0]):
        done = 0
        while done < pieces[i, 2]:
            count = _pread(pieces[i, 0], base + pieces[i, 3] + done, pieces[i, 2] - done, pieces[i, 1] + done)
            if count <= 0:
                return i
            done += count
    return -1


_madvise: Any = types.ExternalFunction("madvise", types.int32(types.uintp, types.uintp, types.int32))


@kernel
def advise(address: int, pieces: IntArray, advice: int) -> int:
    """Tells the system what mapped memory is for; the number of the first piece that it refuses, or −1.

    A piece is a row of two: its distance from ``address``, and bytes.
    """
    for i in range(pieces.shape[0]):
        if _madvise(address + pieces[i, 0], pieces[i, 1], advice) != 0:
            return i
    return -1
