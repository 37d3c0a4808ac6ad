"""Structured ``.npy`` arrays: every field is a named column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from descend.errors import SourceError, shorten
from descend.sources.limits import table_rows
from descend.sources.selection import select
from descend.sources.tables import TableSource

if TYPE_CHECKING:
    import pyarrow as pa

    from descend.sources.numpy_files import StoredArray


class RecordReader:
    """Fields of one or more structured arrays, as record batches."""

    def __init__(self, stored: Sequence[StoredArray]) -> None:
        self._stored = stored
        self.names: tuple[str, ...] = tuple(stored[0].dtype.names or ())
        for array in stored:
            if array.dtype != stored[0].dtype or len(array.shape) != 1:
                raise SourceError(
                    f"{shorten(array.label)} has fields {array.dtype} and shape {array.shape}; "
                    "one row of fields per record, the same in every file, is needed"
                )

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        for array in self._stored:
            for rows in array.rows(table_rows(len(self.names))):
                fields = {name: np.ascontiguousarray(rows[:, 0][name]) for name in columns}
                yield pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in fields.items()})

    def notes(self) -> tuple[str, ...]:
        return ()


def open_records(stored: Sequence[StoredArray], name: str, **choice: Any) -> TableSource:
    """A source over structured arrays."""
    reader = RecordReader(stored)
    return TableSource(reader, name, select(reader.names, name, **choice))
