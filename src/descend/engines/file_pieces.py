"""Pieces of files into one array by one compiled call: between reads of its own Python waits for its lock."""

from __future__ import annotations

from typing import Any

from numba import types

from descend.engines.compiled import kernel, part
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


@part
def end_of_run(strips: IntArray, start: int) -> int:
    """Where in ascending numbers the run of neighbours ends that begins at place ``start``."""
    stop = start + 1
    while stop < strips.size and strips[stop] == strips[stop - 1] + 1:
        stop += 1
    return stop


@kernel
def advise_strips(
    address: int, strips: IntArray, strip_bytes: int, size: int, page: int, advice: int
) -> bool:
    """Tells the system what the pages are for that ``strips`` (ascending) lie in; whether it took all of it.

    They are those of ``size`` bytes from ``address`` on, whole pages.
    """
    start = 0
    while start < strips.size:
        stop = end_of_run(strips, start)
        low = strips[start] * strip_bytes // page * page
        high = min(((strips[stop - 1] + 1) * strip_bytes + page - 1) // page * page, size)
        if _madvise(address + low, high - low, advice) != 0:
            return False
        start = stop
    return True


@kernel
def advise_around(
    address: int, first: int, over: IntArray, used: IntArray, strip_bytes: int, size: int, page: int, margin: int,
    advice: int,
) -> None:  # fmt: skip
    """The same of the pages of strips that are ``over``, and of ``margin`` bytes on either side of each.

    Left out are pages that strips ``used`` (ascending, some maybe twice) lie in, and what is before byte ``first``.
    """
    at = (first + page - 1) // page * page
    start, place = 0, 0
    while start < over.size:
        stop = end_of_run(over, start)
        at = max(at, over[start] * strip_bytes // page * page - margin)
        high = min(((over[stop - 1] + 1) * strip_bytes + page - 1) // page * page + margin, size)
        while place < used.size and used[place] * strip_bytes < high:
            low = used[place] * strip_bytes // page * page
            if low > at:
                _madvise(address + at, low - at, advice)
            at = max(at, ((used[place] + 1) * strip_bytes + page - 1) // page * page)
            place += 1
        if high > at:
            _madvise(address + at, high - at, advice)
            at = high
        start = stop
