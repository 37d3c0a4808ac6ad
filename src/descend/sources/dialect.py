"""What a text file looks like before it is read: delimiter, header, encoding."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from descend.errors import SourceError, shorten
from descend.sources.tables import refuse_duplicates

HEAD_BYTES = 2**20
MOST_HEAD_BYTES = 2**26
BLOCK_BYTES = 2**20
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one text file is written."""

    delimiter: str
    names: tuple[str, ...]
    encoding: str
    head: bytes
    is_whole: bool
    """Whether the head is the whole file."""
    decimal_point: str = "."
    block_bytes: int = BLOCK_BYTES
    """Bytes parsed at a time: room for several of the longest lines. PyArrow reads about 32 of them ahead."""
    blank_lines: int = 0
    """Empty lines before the header: PyArrow counts them where it skips the header, and nowhere else."""


def dialect_of(path: Path) -> Dialect:
    """Look at the first megabyte: delimiter, header and encoding.

    UTF-8 is expected; text that is not is read as Latin-1. Binary data is refused.
    """
    head, is_whole = _head(path)
    encoding = _encoding(head, path)
    text = head.removeprefix(codecs.BOM_UTF8).decode(encoding, errors="replace")
    if not text.strip():
        raise SourceError(f"{shorten(path.name)} is empty; a header and rows are needed")
    blank_lines = _blank_lines(text)
    record = _first_record(text)
    delimiter = _delimiter(record, ".tsv" in [s.lower() for s in path.suffixes])
    names = _names(record, delimiter)
    refuse_duplicates(names, path.name)
    longest = max(len(line) for line in head.split(b"\n"))
    # Room for a hundred rows of a wide table, and for a few whatever their length.
    block_bytes = max(BLOCK_BYTES, min(128 * longest, MOST_HEAD_BYTES), 4 * longest)
    return Dialect(
        delimiter, names, encoding, head, is_whole, block_bytes=block_bytes, blank_lines=blank_lines
    )


def _head(path: Path) -> tuple[bytes, bool]:
    """The first megabyte, more where that holds no whole row, and whether that is all."""
    import pyarrow as pa

    size = HEAD_BYTES
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            head = bytes(stream.read(size))
            while len(head) == size and head.count(b"\n") < 3 and size < MOST_HEAD_BYTES:
                size *= 2
                head += bytes(stream.read(size - len(head)))
        return head, len(head) < size
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> SourceError:
    """The message for a text file whose bytes cannot be had."""
    what = (
        "cannot be decompressed: it is damaged or cut short"
        if path.suffix.lower() != ".csv"
        else "cannot be read"
    )
    return SourceError(f"{shorten(path.name)} {what} ({shorten(str(error), 120)})")


def _encoding(head: bytes, path: Path) -> str:
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise SourceError(f"{shorten(path.name)} is UTF-16 text; save it as UTF-8")
    if b"\x00" in head:
        raise SourceError(
            f"{shorten(path.name)} holds binary data, not text; a text file with a header is needed"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        control = sum(b < 32 and b not in b"\t\n\r\x0c\x1b" for b in head)
        if control > len(head) / 100:
            raise SourceError(
                f"{shorten(path.name)} holds binary data, not text; a text file with a header is needed"
            ) from None
        return "latin-1"
    return "utf-8"


def _blank_lines(text: str) -> int:
    r"""How many empty lines the text begins with.

    >>> _blank_lines("\r\n\na,b\n")
    2
    """
    ends = text[: len(text) - len(text.lstrip("\r\n"))]
    return len(ends.splitlines())


def _first_record(text: str) -> str:
    """The header: up to the first line end that is not inside quotes."""
    quoted = False
    text = text.lstrip("\r\n")
    for place, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character in "\r\n" and not quoted:
            return text[:place]
    return text


def _delimiter(record: str, is_tsv: bool) -> str:
    outside = "".join(record.split('"')[::2])
    counts = {d: outside.count(d) for d in DELIMITERS}
    best = max(DELIMITERS, key=lambda d: (counts[d], is_tsv and d == "\t"))
    return best if counts[best] else ("\t" if is_tsv else ",")


def _names(record: str, delimiter: str) -> tuple[str, ...]:
    import csv

    limit = csv.field_size_limit(max(csv.field_size_limit(), HEAD_BYTES + 1))
    try:
        cells = next(
            csv.reader([record] if "\n" not in record else record.splitlines(True), delimiter=delimiter)
        )
    finally:
        csv.field_size_limit(limit)
    return tuple(cell.strip() or f"column {i + 1}" for i, cell in enumerate(cells))
