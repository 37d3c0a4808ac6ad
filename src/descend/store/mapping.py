"""Pages of block files at addresses that follow one another: the rows of a store as one array, copied nowhere.

Only Linux is served, and files of its own disks; whoever has no mapping reads. What is mapped counts as memory of the
process as soon as it is touched, so pages are asked for before they are used and let go behind that. Large pages
(2 MB) are mapped in a fraction of the time of small ones, and read as fast as any memory.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.machine import address_room
from descend.store.layout import LARGE_PAGE, Layout
from descend.store.read_ahead import renewed_in_forks

PAGE = mmap.PAGESIZE
POPULATE_READ, WILL_NEED, DONT_NEED, HUGE_PAGES = 22, 3, 4, 14
MOST_FILES = 20_000
"""Of one store, and a third of the mappings that the system allows for all that are open: as a rule 65,530."""
MOST_BYTES = 2**35
"""What is larger waits for its disk; and the system keeps a five-hundredth of what was mapped to find pages again."""
MOST_ROWS = 2**31 - 1
"""Rows that kernels count in 32 bits."""
FIXED, NO_RESERVE = 0x10, 0x4000
LOCAL = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1}
"""Linux's numbers of ext4, XFS, Btrfs, tmpfs, overlay, F2FS and ZFS: a page of theirs comes at once or not at all."""


def can_map(layout: Layout) -> bool:
    """Whether blocks of this layout may be mapped one behind the other, on this system and within its limits."""
    size = layout.num_rows * layout.row_bytes
    whole_pages = layout.num_blocks == 1 or layout.block_rows * layout.row_bytes % PAGE == 0
    if layout.sparse or not 0 < size <= MOST_BYTES or not whole_pages:
        return False
    if layout.num_blocks > MOST_FILES or layout.num_rows > MOST_ROWS:
        return False
    room = address_room()
    return _is_supported() and (room is None or size < room // 4)


class Mapping:
    """Addresses for the rows of all blocks, ``X`` (n, d); ``put`` maps the file of a block there.

    ``X`` keeps the addresses as long as anybody has a part of it.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._strip_bytes = STRIP * layout.row_bytes
        self._ahead = False
        self.size = -(-layout.num_rows * layout.row_bytes // PAGE) * PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        reserved = self.size + LARGE_PAGE
        found = _library().mmap(None, reserved, 0, flags, -1, 0)
        if found == _FAILED or not found:
            raise OSError(ctypes.get_errno(), "no addresses for a mapping")
        self.address = -(-int(found) // LARGE_PAGE) * LARGE_PAGE
        owner = _Owner(
            self.address, self.size, layout, (int(found), reserved)
        )  # OSError where there are too many
        self._slot = owner.slot
        self.X: NDArray[Any] = np.asarray(owner)

    @property
    def replaced_pages(self) -> int:
        """How many of its pages could not be had so far, and are zeros."""
        return int(_ranges()[self._slot, 2])

    def put(self, block: int, descriptor: int, offset: int) -> None:
        """Maps the rows of a block, at ``offset`` of its open file, in their place, or raises ``OSError``."""
        start = block * self.layout.block_rows * self.layout.row_bytes
        size = -(-self.layout.rows_of(block) * self.layout.row_bytes // PAGE) * PAGE
        place, flags = self.address + start, mmap.MAP_SHARED | FIXED
        if _library().mmap(place, size, mmap.PROT_READ, flags, descriptor, offset) != place:
            raise OSError(ctypes.get_errno(), "it cannot be mapped")
        if _library().madvise(place, size, HUGE_PAGES) != 0:  # a system that was built without them
            self._ahead = True

    def ask(self, strips: NDArray[np.int64]) -> bool:
        """Has the pages of strips (ascending numbers) read and mapped; False where some cannot be had.

        Pages that are asked for ahead come as small ones and stay that.
        """
        from descend.engines.file_pieces import advise_strips  # compiled

        if self._ahead:
            advise_strips(self.address, strips, self._strip_bytes, self.size, PAGE, WILL_NEED)
        return advise_strips(self.address, strips, self._strip_bytes, self.size, PAGE, POPULATE_READ)

    def let_go(self, first: int, over: NDArray[np.int64], used: NDArray[np.int64]) -> None:
        """The pages of strips ``over`` are this process's no more, but for those ``used`` and those before ``first``.

        All are ascending. To touch a page again costs little. What lies around goes with it, since Linux maps up to
        two megabytes along with a page; to go through all that there is would cost as much as mapping it.
        """
        from descend.engines.file_pieces import advise_around  # compiled

        size = self._strip_bytes
        advise_around(self.address, first * size, over, used, size, self.size, PAGE, LARGE_PAGE, DONT_NEED)


class _Owner:
    """What an array over addresses keeps alive; it gives them back."""

    def __init__(self, address: int, size: int, layout: Layout, reserved: tuple[int, int]) -> None:
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (layout.num_rows, layout.num_columns),
            "typestr": layout.dtype.str,
            "version": 3,
        }
        with _lock:
            self.slot = _enter(address, size, layout.num_blocks, reserved)
        weakref.finalize(self, _give_back, *reserved, self.slot).atexit = False


def _give_back(address: int, size: int, slot: int) -> None:
    _ranges()[slot, 1] = 0  # an end that nothing lies before: at no moment is the range a larger one
    _files.pop(slot, None)
    _library().munmap(address, size)


_lock = threading.RLock()
_guards = 0
_files: dict[int, int] = {}
"""Of each slot the files that its addresses are for: each is a mapping of its own."""


def _renew() -> None:
    global _lock
    _lock = threading.RLock()


renewed_in_forks(_renew)


@contextmanager
def guarded() -> Iterator[None]:
    """While it lasts, a mapped page that cannot be had is a page of zeros, and its mapping counts it."""
    from descend.engines import bus_errors

    global _guards
    with _lock:
        if _guards == 0:
            bus_errors.install()
        _guards += 1
    try:
        yield
    finally:
        with _lock:
            _guards -= 1
            if _guards == 0:
                bus_errors.restore()


def _ranges() -> NDArray[np.int64]:
    from descend.engines import bus_errors

    return bus_errors.ranges


def _enter(address: int, size: int, files: int, reserved: tuple[int, int]) -> int:
    """Enters addresses among those that are guarded; where. Without room all that was ``reserved`` is given back."""
    ranges = _ranges()
    free = np.flatnonzero(ranges[:, 1] == 0)
    if not len(free) or sum([*_files.values()]) + files > _most_mappings() // 3:
        _library().munmap(*reserved)
        raise OSError(errno.EMFILE, "too many mappings")
    _files[int(free[0])] = files
    ranges[free[0], [2, 0]] = 0, address
    ranges[free[0], 1] = address + size  # last: from here on it is one
    return int(free[0])


def is_local(descriptor: int) -> bool:
    """Whether a file lies on one of this machine's own file systems."""
    found = (ctypes.c_long * 64)()
    return _library().fstatfs(descriptor, found) == 0 and found[0] & 0xFFFFFFFF in LOCAL


@cache
def _most_mappings() -> int:
    """Mappings that the system allows a process."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return 3 * MOST_FILES


@cache
def _is_supported() -> bool:
    """Whether the system is a Linux of 64 bits that says of a page that it cannot be had (5.14 and later)."""
    if sys.platform != "linux" or sys.maxsize < 2**32 or sys.byteorder != "little":
        return False
    with mmap.mmap(-1, PAGE) as page:
        memory = ctypes.c_char.from_buffer(page)
        found = _library().madvise(ctypes.addressof(memory), PAGE, POPULATE_READ)
        del memory
    return bool(found == 0)


@cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.restype = address
    library.mmap.argtypes = [address, size, number, number, number, ctypes.c_long]
    library.munmap.argtypes = [address, size]
    library.madvise.argtypes = [address, size, number]
    library.fstatfs.argtypes = [number, address]
    return library


_FAILED = ctypes.c_void_p(-1).value
