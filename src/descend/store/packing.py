"""From blocks of a source to records: numbers as they are, texts as codes in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import SourceError
from descend.features.kinds import PARTS, Kind, as_numbers, as_texts, kind_of
from descend.features.levels import MAX_LEVELS
from descend.features.target_values import as_values, coded
from descend.store.records import DenseRecords, RecordFormat, Records, SparseRecords
from descend.types import is_sparse

SMALL_NUMBERS = {"int8", "int16", "uint8", "uint16", "halffloat", "float"}
"""Arrow's types of numbers that float32 holds exactly."""


class FormatChangedError(SourceError):
    """A later row did not fit the records so far; they were made wider, and reading has to begin again."""


class TextCodes:
    """Texts as numbers 0, 1, …; −1 is no text, −2 one that came when there were too many to tell apart."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._codes: dict[str, int] = {text: code for code, text in enumerate(texts)}

    @property
    def texts(self) -> list[str]:
        return list(self._codes)

    def of_arrow(self, column: Any) -> NDArray[np.int32]:
        """The codes of an Arrow array of strings."""
        found = column.dictionary_encode()
        codes = found.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(self._table(found.dictionary.to_pylist())[codes])

    def of_objects(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """The codes of an object array of str."""
        labels, codes = coded(values)
        return self._table(labels.tolist())[codes]

    def _table(self, texts: list[str]) -> NDArray[np.int32]:
        """The code of each text, and at the end −1, where a code of −1 looks."""
        known = self._codes
        if len(known) <= MAX_LEVELS:
            for text in texts:
                known.setdefault(text, len(known))
        return np.array([*(known.get(text, -2) for text in texts), -1], dtype=np.int32)


class Packer:
    """Makes records of blocks, all of one format; the first block decides it, and what was learnt of later ones."""

    def __init__(self, target_name: str) -> None:
        self.target_name = target_name
        self.format: RecordFormat | None = None
        self.kinds: dict[str, Kind] = {}
        """Kinds of a table's columns, in the order of the records; columns of nulls alone are not among them."""
        self.texts: dict[str, TextCodes] = {}
        self.labels: TextCodes | None = None
        self.has_booleans = False
        self._room: NDArray[Any] | None = None
        self._known_kinds: dict[str, Kind] = {}
        self._widest: tuple[str, str] | None = None

    def begin_again(self) -> None:
        """Forget the rows, and keep what is known of their types."""
        self.format, self.kinds, self.texts, self.labels = None, {}, {}, None

    def pack(
        self, columns: Any, y: Any, weights: NDArray[np.float64] | None, keys: NDArray[np.uint64]
    ) -> Records:
        """The records of these rows, until the next call; FormatChangedError where others are needed than before."""
        values = self._target(y)
        needed = self._needed(columns, values, weights)
        if self.format is None:
            self.format = self._widened(needed)
        if needed != self.format and self._widened(needed) != self.format:
            raise FormatChangedError("the types of the columns change; reading them again")
        heads = self._empty(len(keys))
        heads["key"] = keys
        heads["y"] = values.reshape(len(keys), -1)
        if weights is not None:
            heads["weight"] = weights
        if is_sparse(columns):
            heads["length"] = np.diff(columns.indptr)
            return SparseRecords(heads, columns.indices.astype(np.int32, copy=False), columns.data)
        if isinstance(columns, np.ndarray):
            heads["numbers"] = columns
        else:
            self._fill(columns, heads)
        return DenseRecords(heads)

    def _empty(self, rows: int) -> NDArray[Any]:
        """Room for records, the same each time: whoever keeps them copies them."""
        assert self.format is not None
        if self._room is None or len(self._room) < rows or self._room.dtype != self.format.dtype:
            self._room = self.format.empty(rows)
        return self._room[:rows]

    def _target(self, y: Any) -> NDArray[Any]:
        values = as_values(y, self.target_name)
        if values.dtype == object:
            self.labels = self.labels or TextCodes()
            return self.labels.of_objects(values).astype(np.int64)
        self.has_booleans = values.dtype == bool
        return values.astype(np.int64) if self.has_booleans else values

    def _needed(self, columns: Any, y: NDArray[Any], weights: Any) -> RecordFormat:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if is_sparse(columns):
            return RecordFormat(
                columns.dtype.str, 0, 0, y.dtype.str, outputs, weights is not None, sparse=True
            )
        if isinstance(columns, np.ndarray):
            return RecordFormat(
                columns.dtype.str, columns.shape[1], 0, y.dtype.str, outputs, weights is not None
            )
        kinds = self._kinds_of(columns)
        width = sum(len(PARTS[kind]) for kind in kinds.values() if kind != "category")
        texts = sum(kind == "category" for kind in kinds.values())
        plain = all(kind in ("number", "category") for kind in kinds.values()) and all(
            str(column.type) in SMALL_NUMBERS
            for name, column in zip(columns.schema.names, columns.columns, strict=True)
            if kinds.get(name) == "number"
        )
        number = "<f4" if plain else "<f8"
        return RecordFormat(number, width, texts, y.dtype.str, outputs, weights is not None)

    def _kinds_of(self, batch: Any) -> dict[str, Kind]:
        """Known kinds of the columns, in the order of the columns."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kind = kind_of(column.type)
            if kind is not None:
                self._known_kinds.setdefault(name, kind)
        kinds = {name: self._known_kinds[name] for name in batch.schema.names if name in self._known_kinds}
        if self.format is None:
            self.kinds = kinds
        return kinds

    def _widened(self, needed: RecordFormat) -> RecordFormat:
        """``needed`` with types that hold those of all rows seen so far."""
        number, y = needed.number, needed.y
        if self._widest is not None:
            number = np.result_type(np.dtype(number), np.dtype(self._widest[0])).str
            y = np.result_type(np.dtype(y), np.dtype(self._widest[1])).str
        self._widest = number, y
        return RecordFormat(
            number, needed.numbers, needed.codes, y, needed.outputs, needed.has_weights, needed.sparse
        )

    def _fill(self, batch: Any, heads: NDArray[Any]) -> None:
        """Columns of a table into their places of the records."""
        places = {name: i for i, name in enumerate(batch.schema.names)}
        number = code = 0
        for name, kind in self.kinds.items():
            column = batch.column(places[name])
            if kind == "category":
                texts = self.texts.setdefault(name, TextCodes())
                heads["codes"][:, code] = texts.of_arrow(as_texts(column, name))
                code += 1
                continue
            parts = as_numbers(column, name, kind)
            heads["numbers"][:, number : number + parts.shape[1]] = parts
            number += parts.shape[1]
