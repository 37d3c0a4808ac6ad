"""Tables of named columns: from a reader of record batches to blocks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, InputError, shorten
from descend.sources.chunks import Part
from descend.sources.limits import table_rows
from descend.sources.selection import Selection, check_weights, select
from descend.types import Block, Task

if TYPE_CHECKING:
    import pyarrow as pa


BatchPart: TypeAlias = "Callable[[], Iterator[pa.RecordBatch]]"
"""Reads the record batches of a part of a table's rows; several threads may do so at once."""


class TableReader(Protocol):
    """Reads record batches; every format of named columns has one.

    One that can read parts by themselves has ``parts(columns)`` as well, a list of ``BatchPart`` that together are
    ``batches(columns)``, or None where the files at hand cannot be read so.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in the file's order."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all rows, in order."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What a person should know about how it was read."""
        ...


class TableSource:
    """Rows of a table. Rows whose target is null are left out, counted, and told in ``notes``."""

    task: Task | None = None

    def __init__(
        self,
        reader: TableReader,
        name: str,
        selection: Selection,
        *,
        target: NDArray[Any] | None = None,
        weights: NDArray[np.float64] | None = None,
        dtype: str | None = None,
        target_name: str | None = None,
    ) -> None:
        self.name = name
        self.column_names = selection.features
        self.target_name = selection.target or target_name
        self.dtype = dtype
        self._reader = reader
        self._selection = selection
        self._target = target
        self._weights = weights
        self._kept_starts: list[int] = []
        self._file_rows: list[Any] = []
        self.num_skipped = 0

    @property
    def column_bytes(self) -> int:
        """What reading takes for each column besides the rows."""
        return int(getattr(self._reader, "column_bytes", 0))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last complete reading found."""
        found = list(self._reader.notes())
        if self.num_skipped:
            rows = "row" if self.num_skipped == 1 else "rows"
            found.append(
                f"{self.num_skipped:,} {rows} without a value in target {shorten(str(self.target_name))!r} "
                "left out"
            )
        return tuple(found)

    def blocks(self) -> Iterator[Block]:
        """The rows, a bounded number at a time."""
        return self._blocks(self._reader.batches)

    def draft_blocks(self) -> Iterator[Block]:
        """As ``blocks``, but may raise ``TypesWidened`` under way: then begin again.

        A CSV file's types are certain only once it was read whole. A first pass that can begin again saves
        the extra reading that ``blocks`` pays for.
        """
        return self._blocks(getattr(self._reader, "draft_batches", self._reader.batches))

    def parts(self) -> list[Part] | None:
        """The rows in parts, each read by itself; None where they can only be read from first to last."""
        parts = getattr(self._reader, "parts", None)
        found: list[BatchPart] | None = None if parts is None else parts(self._selection.wanted)
        beside = self._target is not None or self._weights is not None
        return None if found is None or beside else [partial(self._part, batches) for batches in found]

    def _part(self, batches: BatchPart) -> Iterator[Block]:
        for _, block, _ in self._pieces(batches()):
            if block.num_rows:
                yield block

    def row_number(self, kept: int) -> int:
        """The number (from 1) in the file of kept row ``kept`` (from 0) of the last reading."""
        at = int(np.searchsorted(self._kept_starts, kept, side="right")) - 1
        if at < 0:
            return kept + 1
        rows = self._file_rows[at]
        offset = kept - self._kept_starts[at]
        return (int(rows[offset]) if isinstance(rows, np.ndarray) else rows + offset) + 1

    def _blocks(self, batches: Callable[[Sequence[str]], Iterator[pa.RecordBatch]]) -> Iterator[Block]:
        self._kept_starts, self._file_rows = [], []
        kept = seen = 0
        for num_rows, block, places in self._pieces(batches(self._selection.wanted)):
            self._kept_starts.append(kept)
            self._file_rows.append(seen if places is None else places + seen)
            kept += block.num_rows
            seen += num_rows
            if block.num_rows:
                yield block
        self.num_skipped = seen - kept

    def _pieces(
        self, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[tuple[int, Block, NDArray[np.intp] | None]]:
        """A bounded number of rows at a time: how many, those that are kept, and which of them these are."""
        rows, start = table_rows(len(self._selection.wanted)), 0
        for batch in batches:
            for first in range(0, batch.num_rows, rows):
                piece = batch.slice(first, rows)
                yield piece.num_rows, *self._block(piece, start)
                start += piece.num_rows

    def _block(self, batch: pa.RecordBatch, start: int) -> tuple[Block, NDArray[np.intp] | None]:
        places = None
        names = batch.schema.names
        target: Any = None
        if self._selection.target is not None:
            target = decoded(batch.column(names.index(self._selection.target)))
            if target.null_count:
                present = target.is_valid()
                places = np.flatnonzero(present.to_numpy(zero_copy_only=False))
                batch, target = batch.filter(present), target.filter(present)
        elif self._target is not None:
            target = self._target[start : start + batch.num_rows]
        weights = self._weights_of(batch, start, places)
        columns = batch.select(list(self._selection.features))
        return Block(columns, target, weights), places

    def _weights_of(
        self, batch: pa.RecordBatch, start: int, places: NDArray[np.intp] | None
    ) -> NDArray[np.float64] | None:
        if self._selection.weights is not None:
            values = numbers_of(
                batch.column(batch.schema.names.index(self._selection.weights)), self._selection.weights
            )
            check_weights(values, self._selection.weights, start, places)
            return values
        return None if self._weights is None else self._weights[start : start + batch.num_rows]


def decoded(column: Any) -> Any:
    """An Arrow array without its dictionary, where it has one: a null in there is none in the array itself."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return column
    values = column.dictionary
    if pa.types.is_string_view(values.type):  # as polars has them; PyArrow takes nothing out of these
        values = values.cast(pa.string())
    return pa.DictionaryArray.from_arrays(column.indices, values).dictionary_decode()


def numbers_of(column: Any, name: str) -> NDArray[np.float64]:
    """A numeric Arrow array as float64, nulls as NaN."""
    import pyarrow as pa

    try:
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(
            f"column {shorten(name)!r} holds {column.type}, but numbers are needed there"
        ) from None
    return np.asarray(values, dtype=np.float64)


def refuse_nested(schema: pa.Schema, columns: Sequence[str], where: str) -> None:
    """Lists, structs and maps have no number of their own; refuse them by name."""
    import pyarrow as pa

    for name in columns:
        kind = schema.field(name).type
        value_type = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(value_type) or pa.types.is_union(value_type):
            raise ColumnError(
                f"column {shorten(name)!r} of {where} holds {shorten(str(kind))}; only numbers, text, "
                "booleans, dates and times can be used: flatten it into columns of its own, or leave it out "
                "of training"
            )


def refuse_duplicates(names: Sequence[str], where: str) -> None:
    """Two columns of one name cannot be told apart."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ColumnError(
                f"{where} has more than one column named {shorten(name)!r}; rename or remove all but one"
            )
        seen.add(name)


class ArrowTable:
    """A reader over a table that is already in memory."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.schema = table.schema

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._table.schema.names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = table_rows(len(columns))
        yield from self._table.select(list(columns)).to_batches(max_chunksize=rows)

    def notes(self) -> tuple[str, ...]:
        return ()


def table_source(
    obj: Any,
    y: Any = None,
    weights: Any = None,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    name: str = "X",
    require_target: bool = False,
) -> TableSource:
    """A source over anything with the Arrow PyCapsule interface: pandas, polars, PyArrow, DuckDB.

    ``y`` (n,) or (n, k) and ``weights`` (n,) may be arrays; or name the columns of ``obj`` that hold them.
    """
    table = _without_index(arrow_table(obj, name))
    refuse_duplicates(table.schema.names, name)
    weight_name = weights if isinstance(weights, str) else None
    selection = select(
        table.schema.names,
        name,
        target=target,
        drop=drop,
        columns=columns,
        weights=weight_name,
        require_target=require_target and y is None,
    )
    refuse_nested(table.schema, selection.features, name)
    goal = None if y is None else np.asarray(y)
    if goal is not None and goal.shape[:1] != (table.num_rows,):
        raise InputError(f"y has {goal.shape[0] if goal.ndim else 1} rows, but {name} has {table.num_rows}")
    row_weights = None
    if weights is not None and weight_name is None:
        row_weights = as_weights(weights, table.num_rows, name)
    return TableSource(
        ArrowTable(table),
        name,
        selection,
        target=goal,
        weights=row_weights,
        dtype=_float_type(table.schema),
        target_name=None if y is None else str(getattr(y, "name", None) or "y"),
    )


def as_weights(weights: Any, num_rows: int, name: str) -> NDArray[np.float64]:
    """Weights given as an array, checked, (n,) float64."""
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (num_rows,):
        raise InputError(
            f"weights have shape {values.shape}, but {name} has {num_rows} rows: give one number a row"
        )
    check_weights(values, "weights")
    return values


def refuse_lazy(obj: Any, name: str = "X") -> None:
    """A ``polars.LazyFrame``: a plan of what to read, and no rows yet."""
    if hasattr(obj, "collect_schema") and not hasattr(obj, "__arrow_c_stream__") and hasattr(obj, "collect"):
        raise InputError(
            f"{name} is a {type(obj).__name__}, whose rows are not read yet: give {name}.collect()"
        )


_ONE_TYPE = "give every column one type (numbers or text, not both)"
_REMEDIES = {
    "Duplicate column names": "rename all but one of a name",
    "Sparse pandas data": "give the columns dense, as in column.sparse.to_dense(), or all of them sparse",
}
"""What to do, by a part of the message of whoever made the table."""


def arrow_table(obj: Any, name: str) -> pa.Table:
    """``obj`` as an Arrow table; ``ColumnError`` where a column has no one type, or there is one column alone."""
    import pyarrow as pa

    if not hasattr(obj, "__arrow_c_stream__"):
        raise InputError(
            f"{name} is a {type(obj).__name__}; give an array, or a table with the Arrow PyCapsule interface "
            "(pandas, polars, PyArrow)"
        )
    try:
        return pa.RecordBatchReader.from_stream(obj).read_all()
    except (ValueError, TypeError, pa.ArrowNotImplementedError) as error:
        if "non-struct type" in str(error):
            raise ColumnError(
                f"{name} is one column ({type(obj).__name__}), and a table is needed: give {name}.to_frame()"
            ) from None
        text = str(error)
        if "Duplicate column names" in text and hasattr(obj, "columns"):
            text = f"Duplicate column names: {_repeated(obj.columns)}"
        remedy = next((told for part, told in _REMEDIES.items() if part in text), _ONE_TYPE)
        raise ColumnError(f"{name} cannot be read as a table: {shorten(text, 200)}; {remedy}") from None


def _repeated(names: Iterable[Any]) -> str:
    """The names that stand more than once, each once: pandas' own message lists every column of the frame."""
    counts = Counter(str(name) for name in names)
    return ", ".join(repr(shorten(name, 40)) for name, count in counts.items() if count > 1)


def _without_index(table: pa.Table) -> pa.Table:
    """A pandas index is no column of the table as its owner sees it."""
    metadata = table.schema.metadata or {}
    if b"pandas" not in metadata:
        return table
    index = [c for c in json.loads(metadata[b"pandas"]).get("index_columns", []) if isinstance(c, str)]
    return table.drop_columns([c for c in index if c in table.schema.names])


def _float_type(schema: pa.Schema) -> str:
    import pyarrow as pa

    floats = [f.type for f in schema if pa.types.is_floating(f.type)]
    return "float32" if floats and all(t == pa.float32() for t in floats) else "float64"
