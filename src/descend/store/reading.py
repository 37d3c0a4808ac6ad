"""Strips of rows out of the blocks of a store, verified when they are first read.

Files are read and not mapped: a mapped file that is cut while it is used ends the process, and what has been touched
of it counts as memory of the process.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.store.block_files import BlockRecord, damaged, unreadable
from descend.store.layout import Layout, Parts, bytes_of, target_check

MOST_FILES = 64
"""Kept open: an epoch reads from a few places at a time, and a process may have 256 files on some systems."""


@dataclass(slots=True)
class _File:
    descriptor: int
    users: int = 0


class BlockReader:
    """The blocks of a store, for any number of threads at a time.

    A strip is verified once; where its file has been written to since, once more. What cannot be read, or is not what
    was written, is a ``SourceError`` that names the file.
    """

    def __init__(self, folder: Path, layout: Layout, records: Sequence[BlockRecord]) -> None:
        self.folder, self.layout, self.records = folder, layout, tuple(records)
        self._checks: list[NDArray[np.uint32] | None] = [None] * len(self.records)
        self._verified: list[NDArray[np.bool_]] = [
            np.zeros(-(-record.rows // STRIP), dtype=np.bool_) for record in self.records
        ]
        self._stamps: list[tuple[int, int] | None] = [None] * len(self.records)
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, first: int, out: NDArray[Any]) -> None:
        """Overwrites ``out`` (r, d), of the stored type, with the rows from ``first`` on; whole strips, or up to the end."""
        assert first % STRIP == 0
        done = 0
        while done < len(out):
            block, place = self.layout.block_of(first + done)
            count = min(self.records[block].rows - place, len(out) - done)
            self._read(block, place, out[done : done + count])
            done += count

    def read_targets(self, block: int, y: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        """Overwrites ``y`` (r, outputs) and ``weights`` (r,) with those of a block's rows."""
        with self._opened(block) as (descriptor, parts):
            self._fill(block, descriptor, bytes_of(y), parts.y.start)
            if weights is not None:
                self._fill(block, descriptor, bytes_of(weights), parts.weights.start)
            checks = self._checks[block]
        assert checks is not None
        if target_check(y, weights) != checks[-1]:
            raise damaged(self.path(block), "its targets do not match their checksum")

    def path(self, block: int) -> Path:
        return self.folder / self.records[block].file

    def _read(self, block: int, place: int, out: NDArray[Any]) -> None:
        row_bytes = self.layout.row_bytes
        with self._opened(block) as (descriptor, parts):
            data = bytes_of(out)
            self._fill(block, descriptor, data, parts.X.start + place * row_bytes)
        known = self._verified[block]
        strip = place // STRIP
        some = known[strip : strip + -(-len(out) // STRIP)]
        if some.all():
            return
        checks = self._checks[block]
        assert checks is not None
        size = STRIP * row_bytes
        for i in np.flatnonzero(~some).tolist():
            if zlib.crc32(data[i * size : (i + 1) * size]) != checks[strip + i]:
                row = place + i * STRIP
                raise damaged(
                    self.path(block), f"rows {row:,} to {row + STRIP - 1:,} do not match their checksum"
                )
            some[i] = True

    def _fill(self, block: int, descriptor: int, data: memoryview, offset: int) -> None:
        while len(data):
            try:
                count = _read_at(descriptor, data, offset)
            except OSError as error:
                raise unreadable(self.path(block), error) from None
            if count == 0:
                raise damaged(self.path(block), "it is cut short")
            data, offset = data[count:], offset + count

    @contextmanager
    def _opened(self, block: int) -> Iterator[tuple[int, Parts]]:
        """The block's file, and where things lie in it; its checksums are there then."""
        record = self.records[block]
        parts = self.layout.parts(record.rows, record.numbers)
        try:
            with self._lock:
                file = self._files.get(block)
                if file is None:
                    file = self._files[block] = _File(os.open(self.path(block), os.O_RDONLY | _BINARY))
                self._files.move_to_end(block)
                file.users += 1
                self._close_some()
        except OSError as error:
            raise unreadable(self.path(block), error) from None
        try:
            self._look_at(block, file.descriptor, parts)
            yield file.descriptor, parts
        finally:
            with self._lock:
                file.users -= 1

    def _look_at(self, block: int, descriptor: int, parts: Parts) -> None:
        """Refuses a file that is gone or of another size; one that has been written to is no longer known."""
        try:
            status = os.fstat(descriptor)
        except OSError as error:
            raise unreadable(self.path(block), error) from None
        if status.st_size != parts.size:
            raise damaged(self.path(block), f"it has {status.st_size:,} bytes instead of {parts.size:,}")
        if status.st_nlink == 0:
            raise unreadable(self.path(block), FileNotFoundError())
        stamp = (status.st_mtime_ns, status.st_ino)
        if self._checks[block] is None or self._stamps[block] != stamp:
            trailer = bytearray(parts.checks.size)
            self._fill(block, descriptor, memoryview(trailer), parts.checks.start)
            if zlib.crc32(trailer) != self.records[block].check:
                raise damaged(self.path(block), "its checksums do not match those of store.json")
            self._verified[block][:] = False
            self._checks[block] = np.frombuffer(trailer, dtype="<u4")
            self._stamps[block] = stamp

    def _close_some(self) -> None:
        for block, file in list(self._files.items()):
            if len(self._files) <= MOST_FILES:
                return
            if not file.users:
                os.close(file.descriptor)
                del self._files[block]

    def close(self) -> None:
        """Closes the files; the next read opens them again."""
        with self._lock:
            for file in self._files.values():
                os.close(file.descriptor)
            self._files.clear()

    def __del__(self) -> None:
        if getattr(self, "_files", None):
            self.close()


_BINARY = getattr(os, "O_BINARY", 0)
_seeking = threading.Lock()


def _read_at(descriptor: int, data: memoryview, offset: int) -> int:
    """Reads into ``data`` from a place of a file; how many bytes came."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [data], offset)
    with _seeking:  # systems without it have one position for all threads
        os.lseek(descriptor, offset, os.SEEK_SET)
        found = os.read(descriptor, len(data))
    data[: len(found)] = found
    return len(found)
