"""CSV and TSV files: read by PyArrow in blocks, with types that hold for the whole file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import NoRowsError, SourceError, shorten
from descend.sources.arrow_files import same_columns
from descend.sources.dialect import Dialect, damaged, dialect_of
from descend.sources.line_ranges import Range, changed, line_ranges, read_range
from descend.sources.selection import select
from descend.sources.tables import BatchPart, TableSource
from descend.sources.widening import TypesWidened

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSED = (".gz", ".bz2", ".zst")
NULLS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"]


class DelimitedReader:
    """Record batches of text files that share their columns.

    PyArrow fixes the types from the first block. A later value that does not fit widens its column
    (integer → float → text) and reading begins again, so all rows are always read with the same types.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._dialects = [dialect_of(path) for path in paths]
        self.names = self._dialects[0].names
        for path, dialect in zip(paths, self._dialects, strict=True):
            same_columns(path.name, dialect.names, self.names)
        self._codes: tuple[str, ...] = ()
        self._types: dict[str, pa.DataType] = self._infer()
        self._settled: set[str] = set()

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of all rows; their types are settled first, by one reading where need be."""
        while not set(columns) <= self._settled:
            try:
                for _ in self.draft_batches(columns):
                    pass
            except TypesWidened:
                continue
        yield from self._read(columns)

    def draft_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """As ``batches``, but raises TypesWidened where the types turn out too narrow."""
        rows = 0
        for batch in self._read(columns):
            rows += batch.num_rows
            yield batch
        if rows == 0:
            raise _no_rows(self._paths[0], self.names)
        self._settled |= set(columns)

    def parts(self, columns: Sequence[str]) -> list[BatchPart] | None:
        """Ranges of lines; None where a file is compressed. Types have to be settled, as one reading leaves them."""
        if any(path.suffix.lower() in COMPRESSED for path in self._paths):
            return None
        if not set(columns) <= self._settled:
            for _ in self.batches(columns):
                pass
        return [
            partial(self._read_range, i, tuple(columns), part)
            for i, path in enumerate(self._paths)
            for part in line_ranges(path, self._dialects[i].delimiter)
        ]

    def _read_range(self, i: int, columns: Sequence[str], part: Range) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.csv

        path, dialect = self._paths[i], self._dialects[i]
        text = read_range(path, part)
        room = replace(dialect, block_bytes=max(dialect.block_bytes, len(text) + 1))
        options = _options(room, columns, {name: self._types[name] for name in columns}, part[0] == 0)
        options["read_options"].use_threads = False  # whoever reads in parts has threads of his own
        try:
            yield from pyarrow.csv.read_csv(pa.BufferReader(text), **options).to_batches()
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):  # as a range of blank lines is
                raise changed(path) from None

    def notes(self) -> tuple[str, ...]:
        told = [
            f"column {shorten(name)!r} holds digits of one width with leading zeros: kept as text"
            for name in self._codes
        ]
        told += [
            f"{shorten(path.name)} is not UTF-8 text: read as Latin-1"
            for path, dialect in zip(self._paths, self._dialects, strict=True)
            if dialect.encoding != "utf-8"
        ]
        if any(dialect.decimal_point == "," for dialect in self._dialects):
            told.append("numbers are read with a decimal comma")
        return tuple(told)

    def _read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for i in range(len(self._paths)):
            yield from self._read_file(i, columns)

    def _read_file(self, i: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        path, dialect = self._paths[i], self._dialects[i]
        types = {name: self._types[name] for name in columns}
        try:
            with pa.input_stream(str(path), compression="detect") as stream:
                yield from self._stream(stream, dialect, columns, types)
        except pa.ArrowInvalid as error:
            self._widen(str(error), path, dialect, i)
        except OSError as error:
            raise damaged(path, error) from None

    def _stream(
        self, stream: Any, dialect: Dialect, columns: Sequence[str], types: dict[str, Any]
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow.csv

        try:
            reader = pyarrow.csv.open_csv(stream, **_options(dialect, columns, types))
        except pyarrow.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        with reader:
            yield from reader

    def _widen(self, message: str, path: Path, dialect: Dialect, i: int) -> None:
        """Act on PyArrow's message: widen a type that is too narrow; anything else is the file's fault."""
        import pyarrow as pa

        found = re.search(r"In CSV column #(\d+):", message)
        if found is None:
            if "UTF8" in message and dialect.encoding == "utf-8":
                self._dialects[i] = replace(dialect, encoding="latin-1")
                raise TypesWidened(f"{shorten(path.name)} is not UTF-8 text; it is read as Latin-1 instead")
            raise SourceError(
                f"{shorten(path.name)} cannot be read: {shorten(_plain(message), 200)}"
            ) from None
        name = dialect.names[int(found.group(1))]
        if "UTF8" in message:
            self._dialects[i] = replace(dialect, encoding="latin-1")
        else:
            self._types[name] = _wider(self._types[name], message, pa)
        self._settled.clear()
        raise TypesWidened(
            f"column {shorten(name)!r} of {shorten(path.name)} changes its type; reading it again"
        )

    def _infer(self) -> dict[str, pa.DataType]:
        """Types from the first rows of every file: the head alone is parsed, whatever the file's size."""
        import pyarrow as pa

        types: dict[str, pa.DataType] = {}
        codes: list[str] = []
        empty: dict[int, NoRowsError] = {}
        for i, path in enumerate(self._paths):
            try:
                dialect, table = self._dialects[i], _parse_head(path, self._dialects[i], {})
            except (
                NoRowsError
            ) as error:  # where others have some, nothing is wrong: a day on which nothing happened
                empty[i] = error
                continue
            if _has_decimal_commas(table, dialect):
                dialect = self._dialects[i] = replace(dialect, decimal_point=",")
                table = _parse_head(path, dialect, {})
            digits = [n for n in dialect.names if pa.types.is_integer(table.schema.field(n).type)]
            texts = _parse_head(path, dialect, {n: pa.string() for n in digits}) if digits else table
            codes += [n for n in digits if n not in codes and _has_leading_zeros(texts.column(n))]
            for name in dialect.names:
                types[name] = _join(types.get(name), table.schema.field(name).type, pa)
        if len(empty) == len(self._paths):
            raise empty[0]
        filled = [i for i in range(len(self._paths)) if i not in empty]
        self._codes = tuple(codes)
        self._paths = [self._paths[i] for i in filled]
        self._dialects = [replace(self._dialects[i], head=b"") for i in filled]
        return {name: pa.string() if name in codes else kind for name, kind in types.items()}


def open_delimited(paths: Sequence[Path], name: str, **choice: Any) -> TableSource:
    """A source over CSV or TSV files."""
    reader = DelimitedReader(paths)
    return TableSource(reader, name, select(reader.names, name, **choice))


def _options(
    dialect: Dialect, columns: Sequence[str] | None, types: dict[str, Any], has_header: bool = True
) -> dict[str, Any]:
    import pyarrow.csv

    return {
        "read_options": pyarrow.csv.ReadOptions(
            column_names=list(dialect.names),
            skip_rows_after_names=dialect.blank_lines + 1 if has_header else 0,
            block_size=dialect.block_bytes,
            encoding=dialect.encoding,
        ),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(
            null_values=NULLS,
            strings_can_be_null=True,
            decimal_point=dialect.decimal_point,
            column_types=types,
            include_columns=None if columns is None else list(columns),
        ),
    }


def _parse_head(path: Path, dialect: Dialect, types: dict[str, Any]) -> pa.Table:
    """The whole rows of the file's first bytes, as a table."""
    import io

    import pyarrow as pa
    import pyarrow.csv

    cut = len(dialect.head) if dialect.is_whole else _line_end(dialect.head, len(dialect.head))
    problem = "its first rows are longer than 64 MB"
    options = _options(dialect, None, types)
    options["read_options"].use_threads = False  # then PyArrow knows the row of a mistake
    for _ in range(1 if dialect.is_whole else 20):
        try:
            table = pyarrow.csv.read_csv(io.BytesIO(dialect.head[:cut]), **options)
        except pa.ArrowInvalid as error:
            problem = str(error)
            # The last line end may lie inside quotes: try the one before.
            cut = _line_end(dialect.head, cut - 1)
            if cut == 0:
                break
        else:
            if table.num_rows == 0:
                raise _no_rows(path, dialect.names)
            return table
    if "Empty CSV" in problem or "straddling" in problem:
        raise _no_rows(path, dialect.names)
    raise SourceError(f"{shorten(path.name)} cannot be read: {shorten(_plain(problem), 200)}")


def _line_end(head: bytes, before: int) -> int:
    """Just after the last line end before ``before``."""
    return head.rfind(b"\n", 0, max(before, 0)) + 1


def _no_rows(path: Path, names: Sequence[str]) -> NoRowsError:
    return NoRowsError(
        f"{shorten(path.name)} has a header but no rows; give a file that has some", tuple(names)
    )


def _wider(kind: pa.DataType, message: str, pa: Any) -> pa.DataType:
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        value = re.search(r"invalid value '(.*)'", message, re.DOTALL)
        if value is not None and _is_number(value.group(1)):
            return pa.float64()
        return _type_of(value.group(1)) if value is not None and pa.types.is_null(kind) else pa.string()
    if pa.types.is_date(kind):
        return pa.timestamp("s")
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ns")
    return pa.string()


def _type_of(text: str) -> pa.DataType:
    """The type of the first value of a column that began with gaps: a date as it is anywhere else, or text."""
    import io

    import pyarrow as pa
    import pyarrow.csv

    cell = '"{}"'.format(text.replace('"', '""'))
    options = {"parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True)}
    found = pyarrow.csv.read_csv(io.BytesIO(f"value\n{cell}\n".encode()), **options).schema.field(0).type
    return found if pa.types.is_temporal(found) or pa.types.is_boolean(found) else pa.string()


def _has_decimal_commas(table: pa.Table, dialect: Dialect) -> bool:
    """Whether text columns hold numbers such as ``3,14`` throughout, and none is written with a point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds = table.schema.types
    if dialect.delimiter == "," or any(pa.types.is_floating(kind) for kind in kinds):
        return False
    texts = [table.column(i) for i, kind in enumerate(kinds) if pa.types.is_string(kind)]
    pattern = r"^\s*[-+]?\d*(,\d+)?\s*$"
    return any(
        pc.all(pc.match_substring_regex(t, pattern)).as_py() and pc.any(pc.match_substring(t, ",")).as_py()
        for t in texts
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _join(one: pa.DataType | None, other: pa.DataType, pa: Any) -> pa.DataType:
    """The narrowest type that holds both."""
    if one is None or one == other or pa.types.is_null(one):
        return pa.string() if pa.types.is_binary(other) else other
    if pa.types.is_null(other):
        return one
    if {str(one), str(other)} == {"int64", "double"}:
        return pa.float64()
    return pa.string()


def _has_leading_zeros(column: pa.ChunkedArray) -> bool:
    """Whether all values have one width of two or more, and some begin with 0: codes, not numbers."""
    import pyarrow.compute as pc

    widths = pc.min_max(pc.utf8_length(column)).as_py()
    if widths["min"] is None or widths["min"] != widths["max"] or widths["max"] < 2:
        return False
    return bool(pc.any(pc.starts_with(column, "0")).as_py())


def _plain(message: str) -> str:
    """PyArrow's message without its prefix and its advice to programmers.

    >>> _plain("CSV parse error: Row #52: Expected 3 columns, got 2: 1,2")
    "row 52 of the file has 2 values and the header 3: '1,2'; correct it, or leave it out"
    """
    ragged = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)", message, re.DOTALL)
    if ragged is not None:
        row, wanted, found, text = ragged.groups()
        where = "a row" if row is None else f"row {int(row):,} of the file"
        return f"{where} has {found} values and the header {wanted}: {shorten(text)!r}; correct it, or leave it out"
    return message.removeprefix("CSV parse error: ").split(" (try to increase")[0]
