"""svmlight (LIBSVM) text: sparse rows with their labels, read in bounded blocks.

Column numbers begin at 1 unless a 0 is seen anywhere, so the files are looked through once when they are opened:
that tells the width too, and finds mistakes before anything is trained. Columns are called by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from descend.errors import ColumnError, SourceError, shorten
from descend.sources.arrays import column_names, numbered
from descend.sources.chunks import Part
from descend.sources.dialect import COMPRESSED, damaged
from descend.sources.line_ranges import Range, changed, line_ranges, read_range
from descend.sources.selection import Selection, select
from descend.types import Block, Task

BLOCK_BYTES = 4 * 2**20
LABEL = "label"
MOST_COLUMNS = 2**27
"""A number above is a mistake in the file, or asks for more memory than names and weights of columns should take."""
MISTAKES = {
    1: ("the label {} is not a number", "one number is needed: several labels a line are not read"),
    2: (
        "the column number in {} is not a whole number",
        "columns are written as number:value, such as 7:0.5",
    ),
    3: ("the value in {} is not a number", "columns are written as number:value, such as 7:0.5"),
    4: ("{} has no value", "columns are written as number:value, such as 7:0.5; is the file cut short?"),
    5: ("column {} stands after a greater one, or twice", "column numbers have to ascend in every line"),
    6: ("the label is missing before {}", "a line begins with its label, such as 1 7:0.5"),
}


class SvmlightSource:
    """One or more svmlight files; ``blocks()`` gives CSR rows as wide as ``column_names``."""

    dtype: str | None = None
    task: Task | None = None

    def __init__(self, paths: Sequence[Path], name: str, require_target: bool) -> None:
        self.name = name
        self._paths = paths
        self._label_optional = not require_target
        self.target_name: str | None = LABEL if require_target else None
        lowest, highest, self._whole_labels = self._look_through()
        if highest < 0:
            raise SourceError(f"{shorten(name)} holds no number besides labels; 1 column at least is needed")
        if highest > MOST_COLUMNS:
            raise SourceError(
                f"{shorten(name)} has a column numbered {highest:,}, and every number up to it counts as a column; "
                f"{MOST_COLUMNS:,} is the most: number the columns anew, or hash them into fewer"
            )
        self._first = 0 if lowest == 0 else 1
        self.column_names: tuple[str, ...] = numbered(self._first, highest + 1 - self._first)
        self._places = np.arange(-self._first, highest + 1 - self._first)
        self.notes: tuple[str, ...] = (
            f"columns of {shorten(name)} are numbered from {self._first}"
            + (" (a column 0 is there)" if self._first == 0 else " (no column 0 is there)"),
        )

    def match_columns(self, names: Sequence[str]) -> None:
        """Take the columns of a model instead of those that happen to occur here; others are left out.

        Names of an array (x0, x1 …) mean the first column, the second and so on.
        """
        if tuple(names) == column_names(len(names)):
            numbers = list(range(self._first, self._first + len(names)))
        else:
            numbers = [int(n) if n.isdecimal() else -1 for n in names]
        if min(numbers) < 0:
            wrong = names[numbers.index(-1)]
            raise ColumnError(
                f"{shorten(self.name)} has numbered columns, but the model was trained on names such as "
                f"{shorten(wrong)!r}; give data with these"
            )
        places = np.full(max(len(self._places), max(numbers) + 1), -1)
        places[numbers] = np.arange(len(numbers))
        self._places, self.column_names = places, tuple(names)

    def blocks(self) -> Iterator[Block]:
        """The rows, about four megabytes of text at a time."""
        return map(self._block, self._parsed())

    def parts(self) -> list[Part] | None:
        """Ranges of lines; None where a file is compressed."""
        if any(path.suffix.lower() in COMPRESSED for path in self._paths):
            return None
        return [
            partial(self._read_range, path, part) for path in self._paths for part in line_ranges(path, None)
        ]

    def _read_range(self, path: Path, part: Range) -> Iterator[Block]:
        from descend.engines.svmlight_text import parse_lines

        found = parse_lines(read_range(path, part), self._label_optional)
        if len(found) == 2:  # a mistake, which was not there when the file was looked through
            raise changed(path)
        block = self._block(found)
        if block.num_rows:
            yield block

    def _block(self, parsed: Any) -> Block:
        from scipy.sparse import csr_array

        labels, indptr, indices, values = parsed
        width = len(self.column_names)
        columns = self._places[indices]
        if (columns < 0).any():
            known = columns >= 0
            ends = np.concatenate([[0], np.cumsum(known)])
            indptr, columns, values = ends[indptr], columns[known], values[known]
        index = np.int32 if width < 2**31 else np.int64
        X = csr_array((values, columns.astype(index), indptr.astype(index)), shape=(len(labels), width))
        goal: Any = None
        if self.target_name is not None:
            goal = labels.astype(np.int64) if self._whole_labels else labels
        return Block(X, goal)

    def _look_through(self) -> tuple[int, int, bool]:
        """The lowest and highest column number, and whether all labels are whole numbers."""
        lowest, highest, whole = 1, -1, True
        for labels, _, indices, _ in self._parsed():
            whole = whole and bool((np.isfinite(labels) & (labels == np.rint(labels))).all())
            whole = whole and bool((np.abs(labels) < 2**53).all())
            if len(indices):
                lowest, highest = min(lowest, int(indices.min())), max(highest, int(indices.max()))
        return lowest, highest, whole

    def _parsed(self) -> Iterator[Any]:
        from descend.engines.svmlight_text import parse_lines

        for path in self._paths:
            line = 0
            for text in _whole_lines(path):
                found = parse_lines(text, self._label_optional)
                if len(found) == 2:
                    raise _mistaken(path, text, line, *found)
                yield found
                line += text.count(b"\n")


def open_svmlight(
    paths: Sequence[Path],
    name: str,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: str | None = None,
    require_target: bool = True,
) -> SvmlightSource:
    """A source over svmlight files; the label is the target, and columns may be chosen by number."""
    if weights is not None:
        raise ColumnError(f"{shorten(name)}: svmlight rows have no weights; leave out weights {weights!r}")
    if require_target and target not in (None, LABEL):
        raise ColumnError(
            f"{shorten(name)}: the target of svmlight rows is their label; leave out target {target!r}"
        )
    source = SvmlightSource(paths, name, require_target)
    if drop or columns is not None:
        chosen: Selection = select(
            source.column_names, name, drop=drop, columns=columns, require_target=False
        )
        source.match_columns(chosen.features)
    return source


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The text of a file, plain or compressed, cut at ends of lines."""
    import pyarrow as pa

    rest = b""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            while piece := bytes(stream.read(BLOCK_BYTES)):
                cut = piece.rfind(b"\n") + 1
                if cut:
                    yield rest + piece[:cut]
                    rest = piece[cut:]
                else:
                    rest += piece
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, error) from None
    if rest:
        yield rest


def _mistaken(path: Path, text: bytes, lines_before: int, mistake: int, place: int) -> SourceError:
    line = lines_before + text.count(b"\n", 0, place) + 1
    token = text[place : place + 80].split(None, 1)
    shown = repr(shorten(token[0].decode("utf-8", "replace"), 40)) if token else "''"
    what, needed = MISTAKES[mistake]
    return SourceError(f"{shorten(path.name)}, line {line:,}: {what.format(shown)}; {needed}")
