"""Rows on their way through an ingest: as they came, each with its key, target and weight.

Dense rows are records of one length: scattered, written, read and sorted by moving bytes. Sparse rows have theirs.
Both offer the same few operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from descend.store.layout import bytes_of


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """What a row is made of: numbers of type ``number``, codes of texts (int32), targets of type ``y``."""

    number: str
    numbers: int
    codes: int
    y: str
    outputs: int
    has_weights: bool
    sparse: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """A dense row as NumPy's record; of a sparse one what has a fixed length."""
        fields: list[Any] = [("key", "<u8"), ("y", self.y, (self.outputs,))]
        if self.has_weights:
            fields.append(("weight", "<f8"))
        if self.sparse:
            return np.dtype([*fields, ("length", "<i8")])
        if self.numbers:
            fields.append(("numbers", self.number, (self.numbers,)))
        if self.codes:
            fields.append(("codes", "<i4", (self.codes,)))
        return np.dtype(fields, align=True)

    def empty(self, rows: int) -> NDArray[Any]:
        """Records to be filled."""
        return np.zeros(rows, dtype=self.dtype)  # zeros: what lies between the fields is written too


class Records(Protocol):
    """Some rows; ``heads`` are NumPy records with ``key``, ``y`` and ``weight``."""

    heads: NDArray[Any]

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes in memory, and about as many on the disk."""
        ...

    def take(self, places: NDArray[np.intp] | slice) -> Self:
        """These rows, in this order."""
        ...

    def pieces(self) -> list[memoryview]:
        """What is written of them."""
        ...


class DenseRecords:
    """Rows of one length each."""

    def __init__(self, heads: NDArray[Any]) -> None:
        self.heads = heads

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def nbytes(self) -> int:
        return self.heads.nbytes

    def take(self, places: NDArray[np.intp] | slice) -> DenseRecords:
        return DenseRecords(self.heads[places] if isinstance(places, slice) else self.heads.take(places))

    def pieces(self) -> list[memoryview]:
        return [bytes_of(self.heads)]


class SparseRecords:
    """Rows of CSR: ``heads`` with ``length``, and the column numbers and stored numbers of all rows in a row."""

    def __init__(self, heads: NDArray[Any], indices: NDArray[np.int32], data: NDArray[Any]) -> None:
        self.heads, self.indices, self.data = heads, indices, data

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def nbytes(self) -> int:
        return self.heads.nbytes + self.indices.nbytes + self.data.nbytes

    @property
    def indptr(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.heads["length"])]).astype(np.int64)

    def take(self, places: NDArray[np.intp] | slice) -> SparseRecords:
        ends = self.indptr
        heads = self.heads[places]
        if isinstance(places, slice):
            start, stop, _ = places.indices(len(self))
            inside = slice(int(ends[start]), int(ends[max(start, stop)]))
            return SparseRecords(heads, self.indices[inside], self.data[inside])
        lengths = heads["length"]
        new_ends = np.cumsum(lengths)
        at = np.repeat(ends[:-1][places] - (new_ends - lengths), lengths) + np.arange(lengths.sum())
        return SparseRecords(heads, self.indices[at], self.data[at])

    def pieces(self) -> list[memoryview]:
        counts = np.array([len(self.heads), len(self.data)], dtype="<i8")
        return [bytes_of(np.ascontiguousarray(a)) for a in (counts, self.heads, self.indices, self.data)]


def parse(data: NDArray[np.uint8], form: RecordFormat) -> Records:
    """The rows whose ``pieces`` were written one after the other."""
    if not form.sparse:
        return DenseRecords(data.view(form.dtype))
    found: list[Records] = []
    raw, at = memoryview(data), 0  # type: ignore[arg-type]
    head, number = form.dtype, np.dtype(form.number)
    while at < len(raw):
        rows, numbers = (int(n) for n in np.frombuffer(raw, "<i8", 2, at))
        at += 16
        heads = np.frombuffer(raw, head, rows, at)
        at += heads.nbytes
        indices = np.frombuffer(raw, "<i4", numbers, at)
        at += indices.nbytes
        values = np.frombuffer(raw, number, numbers, at)
        at += values.nbytes
        found.append(SparseRecords(heads, indices, values))
    return join(found, form, -1)


def join(parts: Iterable[Records], form: RecordFormat, num_rows: int) -> Records:
    """Rows one after the other, ``num_rows`` of them; dense ones are there twice no more than a part at a time."""
    if not form.sparse:
        heads = form.empty(num_rows)
        filled = 0
        for part in parts:
            heads[filled : filled + len(part)] = part.heads[: num_rows - filled]
            filled += len(part)
        return DenseRecords(heads if filled == num_rows else heads[:0])
    parts = list(parts)
    heads = np.concatenate([form.empty(0), *(part.heads for part in parts)])
    indices = np.concatenate([np.empty(0, "<i4"), *(part.indices for part in parts)])  # type: ignore[attr-defined]
    data = np.concatenate([np.empty(0, form.number), *(part.data for part in parts)])  # type: ignore[attr-defined]
    return SparseRecords(heads, indices, data)
