"""Where things lie in the blocks of a store; nothing here reads or writes.

A block holds ``block_rows`` rows, the last one of a store fewer. Its parts, each beginning at a multiple of 64 bytes:

- dense float32 rows: nothing (a hole, which takes no room on a disk), so much that ``X`` begins as far behind a large
  page of its file as behind one of all rows in a row: then the system maps large pages where blocks are mapped one
  behind the other;
- dense rows: ``X`` (r, d) of the stored type; sparse rows: ``indptr`` (r + 1,) int64 from 0, ``indices`` int32,
  ``data`` of the stored type;
- ``y`` (r, outputs) float64: class codes, or numbers as they are;
- ``weights`` (r,) float64, where rows have weights;
- ``products`` float64, where the block has them: sums over its rows (``products.py``, ``block_products.py``);
- the trailer: uint32 checksums (CRC-32) of every 64 rows of X in order (of sparse rows over their indices, then their
  data), then of ``indptr`` where there is one, of ``products`` where there are some, and of ``y`` and ``weights``
  together.

Numbers are little-endian. A checksum covers 64 rows, so that a strip can be verified wherever it is read. The
trailer's own checksum stands in the manifest.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.coded_rows import SMALL

ALIGNMENT = 64
BLOCK_BYTES = 12 * 2**20
"""What a block is to be about as large as: read in one go, and little beside the memory of any machine."""
ROWS_TOGETHER = 1024
MOST_BYTES_TOGETHER = 64 * 2**20
SMALL_PAGE, LARGE_PAGE = 2**12, 2**21
"""Of memory, on most machines."""
DTYPES = (*SMALL, np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape of a store and of its blocks.

    >>> layout = Layout(num_rows=5000, num_columns=20, dtype=np.dtype("float32"), block_rows=2048)
    >>> layout.num_blocks, layout.rows_of(2), layout.block_of(4096)
    (3, 904, (2, 0))
    """

    num_rows: int
    num_columns: int
    dtype: np.dtype[Any]
    """Of X as it is stored: float32, or one of ``coded_rows.SMALL``."""
    block_rows: int
    has_weights: bool = False
    num_outputs: int = 1
    sparse: bool = False
    has_products: bool = False
    """Whether blocks keep sums of the products of their columns, from which training is told more than half of it."""

    @property
    def num_blocks(self) -> int:
        return -(-self.num_rows // self.block_rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of a dense row of X."""
        return self.num_columns * self.dtype.itemsize

    @property
    def products_size(self) -> int:
        """Numbers that a block's products are kept in; they are symmetric."""
        columns, outputs = self.num_columns + 1, self.num_outputs
        return columns * (columns + 1) // 2 + outputs * (columns + 3) if self.has_products else 0

    def rows_of(self, block: int) -> int:
        """Rows in a block."""
        return min(self.block_rows, self.num_rows - block * self.block_rows)

    def block_of(self, row: int) -> tuple[int, int]:
        """The block that row ``row`` of the store lies in, and its place there."""
        return divmod(row, self.block_rows)

    def lead_of(self, block: int) -> int:
        """Bytes of the hole that the file of a block begins with, for rows that may be used in place.

        >>> layout = Layout(num_rows=10**6, num_columns=50, dtype=np.dtype("float32"), block_rows=61_440)
        >>> layout.lead_of(0), layout.lead_of(3), 3 * 61_440 * 200 % 2**21
        (0, 1212416, 1212416)
        """
        size = self.block_rows * self.row_bytes
        is_mapped = not self.sparse and self.dtype not in SMALL and size % SMALL_PAGE == 0
        return block * size % LARGE_PAGE if is_mapped else 0

    def parts(self, rows: int, numbers: int = 0, lead: int = 0) -> Parts:
        """Where the parts of a block of so many rows lie, behind a hole of ``lead`` bytes.

        ``numbers`` are the stored ones of sparse rows.
        """
        end = lead

        def part(num_bytes: int) -> Span:
            nonlocal end
            start = -(-end // ALIGNMENT) * ALIGNMENT
            end = start + num_bytes
            return Span(start, num_bytes)

        if self.sparse:
            indptr, indices = part(8 * (rows + 1)), part(4 * numbers)
            X = part(self.dtype.itemsize * numbers)
        else:
            indptr = indices = Span(0, 0)
            X = part(self.row_bytes * rows)
        y = part(8 * self.num_outputs * rows)
        weights = part(8 * rows if self.has_weights else 0)
        products = part(8 * self.products_size)
        checks = part(4 * (num_strips(rows) + self.sparse + self.has_products + 1))
        return Parts(X, y, weights, products, checks, indptr, indices)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` … ``start + size`` of a block."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Parts:
    """Where everything lies; ``X`` is ``data`` of sparse rows."""

    X: Span
    y: Span
    weights: Span
    products: Span
    checks: Span
    indptr: Span
    indices: Span

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.checks.stop


def num_strips(rows: int) -> int:
    """How many checksums so many rows of X have.

    >>> num_strips(64), num_strips(65)
    (1, 2)
    """
    return -(-rows // STRIP)


def rows_of_block(row_bytes: float) -> int:
    """Rows of about 12 MB, a multiple of 1024; of very wide rows (1024 pass 64 MB) a multiple of 64.

    >>> rows_of_block(200), rows_of_block(2), rows_of_block(400_000)
    (62464, 1048576, 64)
    """
    together = ROWS_TOGETHER if ROWS_TOGETHER * row_bytes <= MOST_BYTES_TOGETHER else STRIP
    fitting = int(BLOCK_BYTES / max(1.0, row_bytes)) // together * together
    return min(max(fitting, together), 2**20)


def block_name(number: int, generation: int = 0) -> str:
    """The name of a block's file; blocks of a later generation stand beside those that they replace.

    >>> block_name(7), block_name(7, generation=2)
    ('block-00007.bin', 'block-2-00007.bin')
    """
    return f"block-{generation}-{number:05d}.bin" if generation else f"block-{number:05d}.bin"


def strip_checks(X: NDArray[Any]) -> NDArray[np.uint32]:
    """The checksums of dense rows (r, d), C-contiguous: one for every 64."""
    size = STRIP * X.shape[1] * X.itemsize
    data = bytes_of(X)
    return np.array(
        [zlib.crc32(data[start : start + size]) for start in range(0, len(data), size)], dtype=np.uint32
    )


def sparse_strip_checks(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], data: NDArray[Any]
) -> NDArray[np.uint32]:
    """The checksums of CSR rows: every 64 rows' column numbers, then their stored numbers."""
    ends = np.append(indptr[:-1:STRIP], indptr[-1]).tolist()
    return np.array(
        [zlib.crc32(bytes_of(data[a:b]), zlib.crc32(bytes_of(indices[a:b]))) for a, b in pairwise(ends)],
        dtype=np.uint32,
    )


def target_check(y: NDArray[np.float64], weights: NDArray[np.float64] | None) -> int:
    """The checksum of the targets and weights of a block."""
    check = zlib.crc32(bytes_of(y))
    return check if weights is None else zlib.crc32(bytes_of(weights), check)


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array; empty ones have some too."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
