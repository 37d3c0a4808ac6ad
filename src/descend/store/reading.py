"""Strips of rows out of the blocks of a store, verified when they are first read.

``BlockReader`` copies them; ``in_place.py`` has the same strips used where the system keeps them.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.store.block_files import BlockRecord, damaged, unreadable
from descend.store.layout import Layout, Parts, bytes_of, num_strips, target_check

if TYPE_CHECKING:
    from descend.store.in_place import RowsInPlace

MOST_FILES = 512
"""Kept open at the most; no more than a quarter of what the process may open."""


class OpenFile:
    """An open block, and what is known of it; closed when nobody reads from it any more."""

    def __init__(self, descriptor: int, parts: Parts) -> None:
        self.descriptor, self.parts, self.start = descriptor, parts, parts.X.start

    def __del__(self) -> None:
        os.close(self.descriptor)


class BlockReader:
    """The blocks of a store, for any number of threads at a time.

    A strip is verified once; where its file has been written to since, once more. What cannot be read, or is not what
    was written, is a ``SourceError`` that names the file.
    """

    def __init__(
        self, folder: Path, layout: Layout, records: Sequence[BlockRecord], spare_bytes: int = 0
    ) -> None:
        self.folder, self.layout, self.records = folder, layout, tuple(records)
        self.may_map = True
        """Whether there is room for windows that are used in place; else rows are read."""
        self.spare_bytes = spare_bytes
        """What may stay in memory: mapped where rows are used in place, else of rows that are visited again."""
        self.shared: dict[str, Any] = {}
        """What engines on these rows hand to one another: a search over batch sizes makes many of them."""
        self._checks: list[NDArray[np.uint32] | None] = [None] * len(self.records)
        self._verified = [np.zeros(num_strips(record.rows), dtype=np.bool_) for record in self.records]
        self._known = np.zeros(len(self.records), dtype=np.bool_)
        """Whether all strips of a block have been verified."""
        self._row_bytes = layout.row_bytes
        self._stamps: list[tuple[int, int] | None] = [None] * len(self.records)
        self._files: dict[int, OpenFile] = {}
        self._most_files = _most_files()
        self._in_place: RowsInPlace | None = None
        self._looked = False

    def in_place(self) -> RowsInPlace | None:
        """The rows where the system keeps them; None where they have to be read."""
        if not self._looked:
            from descend.store.in_place import rows_in_place

            if self.may_map:
                self._in_place = rows_in_place(self, self.spare_bytes)
            self._looked = True
        return self._in_place

    def read(self, first: int, count: int, data: memoryview) -> None:
        """Overwrites the first bytes of ``data`` with rows from ``first`` on, as stored; whole strips."""
        assert first % STRIP == 0
        for block, place, size, start in self._parts([(first, count)]):
            self._read(block, place, data[start : start + size])

    def read_runs(self, runs: Sequence[tuple[int, int]], data: NDArray[np.uint8]) -> None:
        """Overwrites the first bytes of ``data`` with rows: of each run from its first on, so many; whole strips."""
        parts = list(self._parts(runs))
        files = [self._file(block) for block, _, _, _ in parts]  # kept open until all is read
        pieces = np.array(
            [
                (file.descriptor, file.start + place * self._row_bytes, size, start)
                for file, (_, place, size, start) in zip(files, parts, strict=True)
            ],
            dtype=np.int64,
        )
        failed = _read_pieces(pieces, 0, data)
        while failed >= 0:  # once more by Python, which says why
            block, place, size, start = parts[failed]
            self._fill(block, files[failed], bytes_of(data)[start : start + size], int(pieces[failed, 1]))
            failed = _read_pieces(pieces, failed + 1, data)
        for block, place, size, start in parts:
            self.verify(block, place, bytes_of(data)[start : start + size])

    def _parts(self, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
        """The runs cut where blocks end: block, row in it, bytes, and where in the whole."""
        start = 0
        for first, count in runs:
            while count:
                block, place = self.layout.block_of(first)
                some = min(self.records[block].rows - place, count)
                yield block, place, some * self._row_bytes, start
                start, first, count = start + some * self._row_bytes, first + some, count - some

    def read_targets(self, block: int, y: NDArray[np.float64], weights: NDArray[np.float64] | None) -> None:
        """Overwrites ``y`` (r, outputs) and ``weights`` (r,) with those of a block's rows."""
        file = self._file(block)
        self._fill(block, file, bytes_of(y), file.parts.y.start)
        if weights is not None:
            self._fill(block, file, bytes_of(weights), file.parts.weights.start)
        checks = self._checks[block]
        assert checks is not None
        if target_check(y, weights) != checks[-1]:
            raise damaged(self.path(block), "its targets do not match their checksum")

    def read_products(self, block: int) -> NDArray[np.float64]:
        """The products of a block's rows, as they are kept (``block_products.py``)."""
        file = self._file(block)
        kept = np.empty(self.layout.products_size)
        self._fill(block, file, bytes_of(kept), file.parts.products.start)
        checks = self._checks[block]
        assert checks is not None
        if zlib.crc32(bytes_of(kept)) != checks[-2]:
            raise damaged(self.path(block), "its products do not match their checksum")
        return kept

    def path(self, block: int) -> Path:
        return self.folder / self.records[block].file

    def close(self) -> None:
        """Closes the files; the next read opens them again."""
        self._files.clear()

    def _read(self, block: int, place: int, data: memoryview) -> None:
        file = self._file(block)
        self._fill(block, file, data, file.start + place * self._row_bytes)
        self.verify(block, place, data)

    def open(self, block: int) -> tuple[OpenFile, tuple[int, int]]:
        """A block that is all there, open as long as it is held, and what changes when its file is written to.

        Raises ``SourceError`` where it is gone, or of another size.
        """
        file, stamp = self._file(block), self._stamps[block]
        assert stamp is not None
        return file, stamp

    def has_unknown(self, blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of these blocks has strips that are not verified yet."""
        return ~self._known[blocks]

    def verify(self, block: int, place: int, data: memoryview) -> None:
        """Compares strips that are not known yet with their checksums; rows from ``place`` on are in ``data``."""
        if self._known[block]:
            return
        checks, verified = self._checks[block], self._verified[block]
        assert checks is not None
        size, first = STRIP * self._row_bytes, place // STRIP
        for i in range(-(-len(data) // size)):
            if verified[first + i]:
                continue
            if zlib.crc32(data[i * size : (i + 1) * size]) != checks[first + i]:
                row = place + i * STRIP
                raise damaged(
                    self.path(block), f"rows {row:,} to {row + STRIP - 1:,} do not match their checksum"
                )
            verified[first + i] = True
        self._known[block] = bool(verified.all())

    def _fill(self, block: int, file: OpenFile, data: memoryview, offset: int) -> None:
        while len(data):
            try:
                count = _read_at(file.descriptor, data, offset)
            except OSError as error:
                raise unreadable(self.path(block), error) from None
            if count == 0:
                raise damaged(self.path(block), "it is cut short")
            data, offset = data[count:], offset + count

    def _file(self, block: int) -> OpenFile:
        """The open block; refused where it is gone or of another size, unknown again where it was written to."""
        file = self._files.get(block)
        try:
            if file is None:
                record = self.records[block]
                descriptor = os.open(self.path(block), os.O_RDONLY | _BINARY)
                file = OpenFile(descriptor, record.parts(self.layout))
                self._keep(block, file)
            status = os.fstat(file.descriptor)
        except OSError as error:
            raise unreadable(self.path(block), error) from None
        if status.st_nlink == 0:
            raise unreadable(self.path(block), FileNotFoundError())
        if status.st_size != file.parts.size:
            raise damaged(self.path(block), f"it has {status.st_size:,} bytes instead of {file.parts.size:,}")
        if self._stamps[block] != (status.st_mtime_ns, status.st_ino):
            self._read_checks(block, file)
            self._stamps[block] = (status.st_mtime_ns, status.st_ino)
        return file

    def _read_checks(self, block: int, file: OpenFile) -> None:
        trailer = bytearray(file.parts.checks.size)
        self._fill(block, file, memoryview(trailer), file.parts.checks.start)
        if zlib.crc32(trailer) != self.records[block].check:
            raise damaged(self.path(block), "its checksums do not match those of store.json")
        self._verified[block][:] = self._known[block] = False
        self._checks[block] = np.frombuffer(trailer, dtype="<u4")

    def _keep(self, block: int, file: OpenFile) -> None:
        """Keeps it open in the place of the one that has been open longest."""
        over = len(self._files) + 1 - self._most_files
        for oldest in list(self._files)[: max(0, over)]:  # a copy: other threads add meanwhile
            self._files.pop(oldest, None)
        self._files[block] = file


def _read_pieces(pieces: NDArray[np.int64], start: int, data: NDArray[np.uint8]) -> int:
    """``engines.file_pieces.read_pieces``, or where systems have no such call: none is read, Python does."""
    if not hasattr(os, "pread"):
        return start if start < len(pieces) else -1
    from descend.engines.file_pieces import read_pieces  # compiled

    return read_pieces(pieces, start, data)


def _most_files() -> int:
    try:
        import resource
    except ImportError:
        return MOST_FILES // 8
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_FILES if allowed < 0 else max(4, min(MOST_FILES, allowed // 4))


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
