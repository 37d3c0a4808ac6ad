"""Structured ``.npy`` arrays: every field is a named column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.errors import ColumnError, SourceError, shorten
from descend.sources.limits import table_rows
from descend.sources.selection import select
from descend.sources.tables import TableSource

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

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
        import pyarrow as pa

        for array in self._stored:
            for rows in array.rows(table_rows(len(self.names))):
                fields = {name: _native(np.ascontiguousarray(rows[:, 0][name])) for name in columns}
                yield pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in fields.items()})

    def notes(self) -> tuple[str, ...]:
        return ()


def open_records(stored: Sequence[StoredArray], name: str, **choice: Any) -> TableSource:
    """A source over structured arrays."""
    reader = RecordReader(stored)
    selection = select(reader.names, name, **choice)
    for field in selection.wanted:
        _check_field(stored[0], field)
    return TableSource(reader, name, selection)


def _check_field(stored: StoredArray, name: str) -> None:
    """Refuse a field of which a row holds several numbers, or one that is no number, text, boolean or date."""
    field = stored.dtype[name]
    if field.shape or field.kind not in "fiubSUMm":
        raise ColumnError(
            f"field {shorten(name)!r} of {shorten(stored.label)} holds {shorten(str(field))}; one number, text, "
            "boolean or date a row is needed: save it as fields of its own, or leave it out of training"
        )


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """In this machine's order of bytes and in units of time that Arrow has, as PyArrow wants them."""
    kind = values.dtype.kind
    if kind in "Mm" and np.datetime_data(values.dtype)[0] not in ("s", "ms", "us", "ns"):
        return values.astype(f"{kind}8[s]")
    return values.astype(values.dtype.newbyteorder("="), copy=False)
