"""From records to encoded rows: what ``Features.encode`` makes of the same rows, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.encoders import Category, Moment, Number
from descend.features.features import Features
from descend.features.kinds import PARTS, Kind
from descend.features.matrix import MatrixEncoder
from descend.features.target import Target
from descend.store.records import Records, SparseRecords

NEAR_NUMBERS = 2**18
"""Numbers that are encoded at a time: the pieces stay in the processor's cache."""


class RecordEncoder:
    """Encodes records of one format. ``kinds`` and ``texts`` are the packer's; ``labels`` are texts of the target."""

    def __init__(
        self,
        features: Features,
        target: Target,
        kinds: Mapping[str, Kind],
        texts: Mapping[str, Sequence[str]],
        labels: Sequence[str] | None,
        booleans: bool,
        dtype: np.dtype[Any],
        has_weights: bool,
    ) -> None:
        self.features, self.target, self.dtype = features, target, dtype
        self.has_weights = has_weights
        self._labels, self._booleans = labels, booleans
        self._label_codes: NDArray[np.float64] | None = None
        self._is_table = not features.is_matrix
        self._numbers: MatrixEncoder | None = None
        self._number_places = np.empty(0, dtype=np.intp)
        self._moments: list[tuple[Moment, int, int]] = []
        self._texts: list[tuple[int, int, NDArray[np.intp]]] = []
        if self._is_table:
            self._plan(kinds, texts)

    def targets(self, records: Records) -> NDArray[np.float64]:
        """Class codes or plain numbers, (r, outputs)."""
        y = records.heads["y"]
        if self._labels is not None:
            if self._label_codes is None:
                self._label_codes = self._codes_of_labels(self._labels)
            return np.asarray(self._label_codes[y[:, 0]])
        values = y[:, 0] if y.shape[1] == 1 else y
        if self._booleans:
            values = values.astype(bool)
        if self.target.task == "classification":
            return self.target.encode(values)
        return values.astype(np.float64).reshape(len(y), -1)

    def rows(self, records: Records, out: NDArray[Any]) -> None:
        """Encode dense records into ``out`` (r, d), a few at a time."""
        step = max(64, NEAR_NUMBERS // max(1, out.shape[1], self._width(records)))
        for start in range(0, len(records), step):
            part = records.heads[start : start + step]
            self._encode(part, out[start : start + step])

    def sparse_rows(self, records: SparseRecords) -> Any:
        """Encode sparse records: CSR."""
        from scipy.sparse import csr_array

        shape = (len(records), self.features.num_columns)
        rows = csr_array((records.data, records.indices, records.indptr), shape=shape)
        return self.features.encode(rows, dtype=self.dtype)

    def _encode(self, heads: NDArray[Any], out: NDArray[Any]) -> None:
        if not self._is_table:
            X = heads["numbers"]
            if out.dtype.kind == "f" and out.dtype != np.float16:
                self.features.encode(X, out=out)
            else:
                out[:] = X[:, self.features.origin]
            return
        if self._numbers is not None:
            if len(self._number_places) == out.shape[1]:
                self._numbers.write(heads["numbers"], out)
            else:
                near = np.empty((len(heads), len(self._number_places)), dtype=out.dtype)
                self._numbers.write(heads["numbers"], near)
                out[:, self._number_places] = near
        for moment, slot, at in self._moments:
            parts = heads["numbers"][:, slot : slot + len(PARTS[moment.kind])]
            moment.write_parts(parts.astype(np.float64), out[:, at : at + len(moment.names)])
        for code, at, places in self._texts:
            found = places[heads["codes"][:, code]] if code >= 0 else np.full(len(heads), places[-1])
            known = np.flatnonzero(found >= 0)
            out[known, at + found[known]] = 1

    def _plan(self, kinds: Mapping[str, Kind], texts: Mapping[str, Sequence[str]]) -> None:
        """Which fields of a record each encoder reads, and which encoded columns it writes."""
        slots, codes = _fields(kinds)
        numbers: list[tuple[int, Number]] = []
        places: list[int] = []
        at = 0
        for _, encoder in self.features.encoders:
            width = len(encoder.names)
            absent = encoder.name not in kinds
            if isinstance(encoder, Category):
                known = texts.get(encoder.name, ())
                self._texts.append((-1 if absent else codes[encoder.name], at, encoder.places(known)))
            elif absent:
                raise ColumnError(
                    f"column {shorten(encoder.name)!r} has no value in any row, but the store was written with "
                    "numbers there; leave these rows out, or ingest all data again"
                )
            elif isinstance(encoder, Number):
                numbers.append((slots[encoder.name], encoder))
                places += range(at, at + width)
            else:
                self._moments.append((encoder, slots[encoder.name], at))
            at += width
        if numbers:
            self._numbers = MatrixEncoder([name for name in slots for _ in PARTS[kinds[name]]], numbers)
            self._number_places = np.array(places, dtype=np.intp)

    def _codes_of_labels(self, labels: Sequence[str]) -> NDArray[np.float64]:
        return self.target.encode(np.array([*labels], dtype=object))

    @staticmethod
    def _width(records: Records) -> int:
        return records.heads.dtype.itemsize // 8


def _fields(kinds: Mapping[str, Kind]) -> tuple[dict[str, int], dict[str, int]]:
    """Where a column's numbers, or its code, stand in a record."""
    slots: dict[str, int] = {}
    codes: dict[str, int] = {}
    width = 0
    for name, kind in kinds.items():
        if kind == "category":
            codes[name] = len(codes)
        else:
            slots[name] = width
            width += len(PARTS[kind])
    return slots, codes
