"""Predictions as text or as a file, written as they come."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError, shorten
from descend.models.model import Model
from descend.types import FloatArray

ENDINGS = (".csv", ".parquet", ".npy")


class Writer(Protocol):
    """Takes predictions block by block."""

    def write(self, predicted: NDArray[Any], probabilities: FloatArray | None) -> None:
        """Predictions (r,) or (r, k), and probabilities (r, classes) or None."""
        ...

    def close(self) -> None:
        """Ends the file's content."""
        ...


def check_ending(path: str, probabilities: bool) -> str:
    """The kind of file by its name; raises ``InputError`` for one that cannot be written."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise InputError(
            f"--output {shorten(path)!r} ends in none of {', '.join(ENDINGS)}; give one of these"
        )
    if ending == ".npy" and probabilities:
        raise InputError(
            f"--output {shorten(path)!r}: a .npy file holds one array, the predictions; "
            "take .csv or .parquet with --probabilities"
        )
    return ending


def column_names(model: Model, probabilities: bool) -> list[str]:
    """``prediction``, or one for each output; then ``probability_<class>``."""
    outputs = model.target.num_outputs if model.target.task == "regression" else 1
    names = ["prediction"] if outputs == 1 else [f"prediction_{i}" for i in range(outputs)]
    classes = model.target.classes or range(getattr(model, "labels", 0))
    return names + [f"probability_{label}" for label in classes] * probabilities


def make_writer(ending: str, file: IO[bytes], names: Sequence[str]) -> Writer:
    """The writer of a kind of file."""
    kinds: dict[str, type[CsvWriter] | type[ParquetWriter] | type[NpyWriter]] = {
        ".csv": CsvWriter, ".parquet": ParquetWriter, ".npy": NpyWriter,
    }  # fmt: skip
    return kinds[ending](file, names)


class CsvWriter:
    """Comma-separated text in UTF-8; numbers in the shortest form that gives them back exactly."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._cells: dict[Any, str] = {}
        self._put(",".join(csv_cell(name) for name in names) + "\n")

    def write(self, predicted: NDArray[Any], probabilities: FloatArray | None) -> None:
        numbers = predicted.dtype.kind == "f"
        columns = [predicted] if predicted.ndim == 1 else list(predicted.T)
        texts = [map(repr if numbers else self._cell, column.tolist()) for column in columns]
        if probabilities is not None:
            texts += [map(repr, column.tolist()) for column in probabilities.T]
        self._put("".join(f"{','.join(row)}\n" for row in zip(*texts, strict=True)))

    def close(self) -> None:
        self._file.flush()

    def _cell(self, label: Any) -> str:
        text = self._cells.get(label)
        if text is None:
            text = self._cells[label] = csv_cell(str(label))
        return text

    def _put(self, text: str) -> None:
        self._file.write(text.encode("utf-8", errors="backslashreplace"))


class ParquetWriter:
    """A Parquet file with a column for each name."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._names = list(names)
        self._writer: Any = None

    def write(self, predicted: NDArray[Any], probabilities: FloatArray | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = [predicted] if predicted.ndim == 1 else list(predicted.T)
        if probabilities is not None:
            columns += list(probabilities.T)
        arrays = [pa.array(column.tolist() if column.dtype.kind in "OU" else column) for column in columns]
        table = pa.Table.from_arrays(arrays, names=self._names)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class NpyWriter:
    """One array of all predictions; its header needs their number, so they are kept until the end."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file = file
        self._parts: list[NDArray[Any]] = []

    def write(self, predicted: NDArray[Any], probabilities: FloatArray | None) -> None:
        self._parts.append(predicted.astype(str) if predicted.dtype == object else predicted)

    def close(self) -> None:
        np.save(self._file, np.concatenate(self._parts), allow_pickle=False)


def csv_cell(text: str) -> str:
    """A text as one cell.

    >>> csv_cell("a,b")
    '"a,b"'
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([text])
    return buffer.getvalue()
