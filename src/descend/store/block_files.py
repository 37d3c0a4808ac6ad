"""Blocks as files: written beside their place, flushed and renamed; read whole and verified."""

from __future__ import annotations

import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.batches import STRIP
from descend.errors import SourceError, shorten
from descend.store import layout as lay
from descend.store.block_products import pack_products
from descend.store.layout import Layout, Parts, Span
from descend.types import is_sparse

TEMPORARY = ".part"


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What the manifest says of a block: its file, rows, checksum of its trailer, stored numbers of sparse rows.

    ``lead`` are the bytes of the hole before its rows.
    """

    file: str
    rows: int
    check: int
    numbers: int = 0
    lead: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def parts(self, layout: Layout) -> Parts:
        """Where in the file everything lies."""
        return layout.parts(self.rows, self.numbers, self.lead)


def write_block(
    folder: Path,
    name: str,
    layout: Layout,
    X: Any,
    y: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    lead: int = 0,
) -> BlockRecord:
    """Write encoded rows as the block ``name``; a file of that name is replaced when the new one is whole.

    ``X`` (r, d) is C-contiguous of the layout's type, or CSR; ``y`` (r, outputs) float64; ``weights`` (r,); ``lead``
    is what ``layout`` says of the block's number.
    """
    rows = len(y)
    y = np.ascontiguousarray(y, dtype=np.float64)
    if layout.sparse:
        indptr = np.ascontiguousarray(X.indptr, dtype=np.int64)
        indices = np.ascontiguousarray(X.indices, dtype=np.int32)
        data = np.ascontiguousarray(X.data, dtype=layout.dtype)
        parts = layout.parts(rows, len(data), lead)
        checks = [*lay.sparse_strip_checks(indptr, indices, data), zlib.crc32(lay.bytes_of(indptr))]
        pieces: list[tuple[Span, NDArray[Any]]] = [
            (parts.indptr, indptr),
            (parts.indices, indices),
            (parts.X, data),
        ]
    else:
        assert X.dtype == layout.dtype
        X = np.ascontiguousarray(X)
        parts = layout.parts(rows, 0, lead)
        checks = list(lay.strip_checks(X))
        pieces = [(parts.X, X)]
    if layout.has_weights:
        weights = np.ones(rows) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        pieces.append((parts.weights, weights))
    else:
        weights = None
    if layout.has_products:
        products = pack_products(X, y)
        checks.append(zlib.crc32(lay.bytes_of(products)))
        pieces.append((parts.products, products))
    trailer = np.array([*checks, lay.target_check(y, weights)], dtype="<u4")
    pieces += [(parts.y, y), (parts.checks, trailer)]
    _write(folder / name, sorted(pieces, key=lambda piece: piece[0].start))
    numbers = len(X.data) if is_sparse(X) else 0
    return BlockRecord(name, rows, zlib.crc32(lay.bytes_of(trailer)), numbers, lead)


def _write(place: Path, pieces: list[tuple[Span, NDArray[Any]]]) -> None:
    temporary = place.with_name(place.name + TEMPORARY)
    try:
        with temporary.open("wb", buffering=0) as file:
            for span, array in pieces:
                file.seek(span.start)
                write_all(file, lay.bytes_of(array))
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_all(file: Any, data: memoryview) -> None:
    """Write everything to an unbuffered file, which may take less at a time."""
    while len(data):
        data = data[file.write(data) :]


def read_block(path: Path, record: BlockRecord, layout: Layout) -> tuple[Any, NDArray[np.float64], Any]:
    """X, y and weights of a block, everything verified; SourceError names the file where it is damaged."""
    parts = record.parts(layout)
    data = _content(path, parts.size)
    checks = verified_checks(data, path, record, parts)
    y = _array(data, parts.y, np.float64).reshape(record.rows, layout.num_outputs)
    weights = _array(data, parts.weights, np.float64) if layout.has_weights else None
    strips = lay.num_strips(record.rows)
    if lay.target_check(y, weights) != checks[-1]:
        raise damaged(path, "its targets do not match their checksum")
    if layout.has_products and zlib.crc32(data[parts.products.start : parts.products.stop]) != checks[-2]:
        raise damaged(path, "its products do not match their checksum")
    if not layout.sparse:
        X = _array(data, parts.X, layout.dtype).reshape(record.rows, layout.num_columns)
        refuse_changed(path, lay.strip_checks(X), checks[:strips])
        return X, y, weights
    indptr = _array(data, parts.indptr, np.int64)
    if zlib.crc32(lay.bytes_of(indptr)) != checks[strips]:
        raise damaged(path, "its row ends do not match their checksum")
    indices, values = _array(data, parts.indices, np.int32), _array(data, parts.X, layout.dtype)
    refuse_changed(path, lay.sparse_strip_checks(indptr, indices, values), checks[:strips])
    from scipy.sparse import csr_array

    return csr_array((values, indices, indptr), shape=(record.rows, layout.num_columns)), y, weights


def verified_checks(data: Any, path: Path, record: BlockRecord, parts: Parts) -> NDArray[np.uint32]:
    """The trailer of a block that was read whole, verified against the manifest."""
    trailer = data[parts.checks.start : parts.checks.stop]
    if zlib.crc32(trailer) != record.check:
        raise damaged(path, "its checksums do not match those of store.json")
    return np.frombuffer(trailer, dtype="<u4")


def refuse_changed(
    path: Path, found: NDArray[np.uint32], expected: NDArray[np.uint32], first: int = 0
) -> None:
    """Raise where a strip's checksum differs; ``first`` is the row of the block that the first strip begins at."""
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        row = first + int(wrong[0]) * STRIP
        raise damaged(path, f"rows {row:,} to {row + STRIP - 1:,} do not match their checksum")


def damaged(path: Path, what: str) -> SourceError:
    """The error for a block that is not what was written."""
    return SourceError(
        f"block {shorten(str(path), 200)!r} is damaged: {what}; copy the store again, or ingest the data again"
    )


def unreadable(path: Path, error: OSError) -> SourceError:
    """The error for a block that cannot be read at all."""
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"block {shorten(str(path), 200)!r} is missing; copy the store again, or ingest the data again"
        )
    return SourceError(f"block {shorten(str(path), 200)!r} cannot be read: {error.strerror or error}")


def _content(path: Path, size: int) -> bytes:
    """The whole file, of the size that it has to have."""
    try:
        found = path.stat().st_size
        if found != size:
            raise damaged(path, f"it has {found:,} bytes instead of {size:,}")
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def _array(data: bytes, span: Span, dtype: Any) -> NDArray[Any]:
    kind = np.dtype(dtype)
    return np.frombuffer(data, dtype=kind, count=span.size // kind.itemsize, offset=span.start)
