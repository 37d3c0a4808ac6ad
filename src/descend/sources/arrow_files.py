"""Parquet and Arrow (Feather) files, one at a time, a bounded number of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import NoRowsError, SourceError, shorten
from descend.machine import give_back_memory
from descend.sources.limits import table_rows
from descend.sources.selection import listing, select
from descend.sources.tables import BatchPart, TableSource, refuse_duplicates, refuse_nested

if TYPE_CHECKING:
    import pyarrow as pa


BUFFER_BYTES = 2**16
"""Of each column of a Parquet file that are read at a time."""


LEFT_BEHIND = 2**25
"""Bytes read before memory that was freed is given back."""
READ_ROWS = 2**14
"""Rows that a Parquet file is asked for at a time: more are decoded no faster, and leave more behind."""


class ParquetReader:
    """Record batches of Parquet files that share their columns."""

    column_bytes = 2 * 2**20
    """What is held of each column while it is read, besides the rows: a dictionary and a page."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.schema: pa.Schema = None
        rows = 0
        for path in paths:
            with _told(path, "Parquet"), _parquet(path) as file:
                schema, found = file.schema_arrow, file.metadata.num_rows
            rows += found
            refuse_duplicates(schema.names, path.name)
            self.schema = schema if self.schema is None else self.schema
            same_columns(path.name, schema.names, self.schema.names)
        if rows == 0:
            names = tuple(n for n in self.schema.names if not _is_index(n))
            raise NoRowsError(f"{paths[0].name} has no rows; give a file that has some", names)
        self.names: tuple[str, ...] = tuple(n for n in self.schema.names if not _is_index(n))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with _told(path, "Parquet"), _parquet(path) as file:
                yield from _lean(_blocks(file, columns))

    def parts(self, columns: Sequence[str]) -> list[BatchPart]:
        """The row groups of all files."""
        parts: list[BatchPart] = []
        for path in self._paths:
            with _told(path, "Parquet"), _parquet(path) as file:
                groups = range(file.metadata.num_row_groups)
            parts += [partial(self._read_group, path, group, columns) for group in groups]
        return parts

    def _read_group(self, path: Path, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with _told(path, "Parquet"), _parquet(path) as file:
            rows = min(table_rows(len(columns)), READ_ROWS)
            yield from _lean(
                file.iter_batches(
                    batch_size=rows, row_groups=[group], columns=list(columns), use_threads=False
                )
            )

    def notes(self) -> tuple[str, ...]:
        return ()


def _blocks(file: Any, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of ``table_rows`` rows, put together from smaller ones: at 23 columns that takes 20 MB less."""
    import pyarrow as pa

    rows = table_rows(len(columns))
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in file.iter_batches(batch_size=min(rows, READ_ROWS), columns=list(columns)):
        while batch.num_rows:
            waiting.append(batch.slice(0, rows - count))
            count += waiting[-1].num_rows
            batch = batch.slice(waiting[-1].num_rows)
            if count == rows:
                yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
                waiting, count = [], 0
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()


def _lean(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches; now and then what they have left behind is given back.

    Pages and pieces of columns are many allocations that come and go: of 320 MB read in batches of 8, 60 were in use
    when allocators had come to keep 200 more.
    """
    read = 0
    for batch in batches:
        read += batch.nbytes
        yield batch
        if read > LEFT_BEHIND:
            read = 0
            del batch
            give_back_memory()


class ArrowReader:
    """Record batches of Arrow IPC files: ``.arrow`` and ``.feather``, file or stream format."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self.schema: pa.Schema = None
        for path in paths:
            with _told(path, "Arrow"), _ipc(path) as (schema, _):
                refuse_duplicates(schema.names, path.name)
                self.schema = schema if self.schema is None else self.schema
                same_columns(path.name, schema.names, self.schema.names)
        self.names: tuple[str, ...] = tuple(n for n in self.schema.names if not _is_index(n))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with _told(path, "Arrow"), _ipc(path) as (_, batches):
                for batch in batches:
                    yield batch.select(list(columns))

    def parts(self, columns: Sequence[str]) -> list[BatchPart] | None:
        """The record batches of all files; None where one has the stream format, which has no index."""
        parts: list[BatchPart] = []
        for path in self._paths:
            with _told(path, "Arrow"), _random_access(path) as file:
                if file is None:
                    return None
                parts += [partial(_read_batch, path, i, columns) for i in range(file.num_record_batches)]
        return parts

    def notes(self) -> tuple[str, ...]:
        return ()


def open_arrow_files(paths: Sequence[Path], name: str, ending: str, **choice: Any) -> TableSource:
    """A source over Parquet or Arrow files."""
    reader = ParquetReader(paths) if ending == ".parquet" else ArrowReader(paths)
    selection = select(reader.names, name, **choice)
    refuse_nested(reader.schema, selection.features, name)
    return TableSource(reader, name, selection)


def same_columns(name: str, found: Sequence[str], expected: Sequence[str]) -> None:
    """Files read together must have the same columns."""
    here, there = set(found), set(expected)
    missing = [n for n in expected if n not in here]
    extra = [n for n in found if n not in there]
    if missing or extra:
        lacks = f" lacks {listing(missing, 3)}" if missing else ""
        has = f" has besides {listing(extra, 3)}" if extra else ""
        both = " and" if missing and extra else ""
        raise SourceError(
            f"{shorten(name)} does not have the columns of the first file: it{lacks}{both}"
            f"{has}; files read together must match"
        )


def _is_index(name: str) -> bool:
    return name.startswith("__index_level_") and name.endswith("__")


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    # Else a whole row group's bytes are held at once (pre_buffer), or a whole column's of it: of two groups of a
    # million rows and 20 float64 columns 216 MB instead of 45, read no faster.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
        yield file


@contextmanager
def _ipc(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as stream:
        if stream.read(6) == b"ARROW1":
            file = pa.ipc.open_file(stream)
            yield file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            stream.seek(0)
            reader = pa.ipc.open_stream(stream)
            yield reader.schema, iter(reader)


@contextmanager
def _random_access(path: Path) -> Iterator[Any]:
    """The file where it has an index of its record batches; else None."""
    import pyarrow as pa

    with pa.OSFile(str(path), "rb") as stream:
        yield pa.ipc.open_file(stream) if stream.read(6) == b"ARROW1" else None


def _read_batch(path: Path, number: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _told(path, "Arrow"), _random_access(path) as file:
        yield file.get_batch(number).select(list(columns))


@contextmanager
def _told(path: Path, kind: str) -> Iterator[None]:
    """Any damage, as one message that names the file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{shorten(path.name)} cannot be read as {kind}: it is damaged, cut short or something else "
            f"({shorten(str(error), 120)})"
        ) from None
