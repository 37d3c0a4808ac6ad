"""A column that counts the rows: an index that came along when a table was written to a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.errors import shorten

NAMES = ("", "column 1", "index", "unnamed: 0")
"""What the index of a DataFrame is called, in lower case: nothing, by which a text file's first column is "column 1"
here and "Unnamed: 0" with pandas; and after ``reset_index``."""


class RowIndex:
    """Columns with such a name whose whole numbers go up from row to row, from 0 or 1.

    They are trained on all the same, for a name is no proof. Rows that a source leaves out (no target) leave gaps,
    which may be as many as the rows that are there.

    >>> import pyarrow
    >>> index = RowIndex(["index", "age"])
    >>> index.add(pyarrow.record_batch({"index": [0, 1], "age": [30, 31]}))
    >>> index.add(pyarrow.record_batch({"index": [2, 3], "age": [32, 33]}))
    >>> index.notes()
    ["column 'index' counts the rows, 0, 1, 2, …: leave it out unless their order tells something"]
    """

    def __init__(self, names: Any) -> None:
        self._first: dict[str, int] = {}
        self._last: dict[str, int | None] = {n: None for n in names if n.strip().lower() in NAMES}
        self._rows = 0

    def add(self, columns: Any) -> None:
        """Take in the next rows: a record batch, of which names that were no index before are not looked at."""
        if not self._last:
            return
        if not hasattr(columns, "schema"):  # a matrix, whose columns have no names of their own
            self._last = {}
            return
        self._rows += columns.num_rows
        for name in list(self._last):
            if columns.num_rows and not self._goes_on(name, columns.column(columns.schema.names.index(name))):
                del self._last[name]

    def _goes_on(self, name: str, column: Any) -> bool:
        import pyarrow as pa

        if not pa.types.is_integer(column.type) or column.null_count:
            return False
        values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
        before = self._last[name]
        if before is None:
            self._first[name] = int(values[0])
            before = -1
            if values[0] not in (0, 1):
                return False
        self._last[name] = int(values[-1])
        return bool((np.diff(values, prepend=before) > 0).all() and values[-1] <= 2 * self._rows + 1)

    def notes(self) -> list[str]:
        """A sentence for each."""
        return [
            f"column {shorten(name)!r} counts the rows, {first}, {first + 1}, {first + 2}, …: leave it out unless "
            "their order tells something"
            for name, last in self._last.items()
            if last is not None and last > 1
            for first in (self._first[name],)
        ]
