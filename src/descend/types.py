"""What crosses from one stage to the next.

Shapes: ``n`` rows, ``B`` rows in a batch, ``d`` encoded columns, ``k`` outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.coded_rows import CodedRows
from descend.products import Products

if TYPE_CHECKING:
    import pyarrow as pa

FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
Task: TypeAlias = Literal["classification", "regression"]


def is_sparse(rows: object) -> bool:
    """Whether ``rows`` are kept as CSR; told by what they have, for SciPy need not be imported to know."""
    return hasattr(rows, "indptr")


def is_coded(rows: object) -> bool:
    """Whether ``rows`` are kept in the numbers they came in, to be decoded where they are used."""
    return isinstance(rows, CodedRows)


def is_stored(rows: object) -> bool:
    """Whether ``rows`` lie in a block store and are read where they are used; told by what they have."""
    return hasattr(rows, "read_strips")


def is_in_source(rows: object) -> bool:
    """Whether ``rows`` stay in their source and are read from it in every epoch; told by what they have."""
    return hasattr(rows, "window_rows") and hasattr(rows, "sample")


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as they are read together: source → features.

    ``columns`` is a table of named columns of any type, or a plain matrix of numbers (rows, columns), which may
    be sparse (a CSR array of SciPy).
    ``target`` and ``weights`` have one entry a row, or are absent.
    """

    columns: pa.RecordBatch | NDArray[Any]
    target: pa.Array | NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def num_rows(self) -> int:
        if isinstance(self.columns, np.ndarray) or is_sparse(self.columns):
            return int(self.columns.shape[0])
        return int(self.columns.num_rows)


class Source(Protocol):
    """Where rows live. ``blocks()`` may be called again and gives the same rows in the same order."""

    name: str
    """What a person would call it: ``adult``, ``sklearn:digits``, ``X``."""
    column_names: tuple[str, ...]
    """The feature columns, target and weights taken out."""
    target_name: str | None

    def blocks(self) -> Iterator[Block]:
        """The rows, a bounded number at a time."""
        ...


class Chunks(Protocol):
    """Parts of a source's rows, each read by itself: in order they are the rows of ``blocks()``.

    Iterating reads them one after another. A chunk comes as blocks, because one of a Parquet file may hold a million
    rows.
    """

    in_any_order: bool
    """Whether a chunk is read without what lies before it. Where not, going back begins again at the first."""

    def __iter__(self) -> Iterator[Iterator[Block]]: ...

    def read(self, chunk: int) -> Iterator[Block]:
        """The rows of chunk number ``chunk``, from 0."""
        ...


class KnownProducts(NamedTuple):
    """The products of the first ``num_rows`` rows, with the targets as they are trained on."""

    num_rows: int
    products: Products


@dataclass(frozen=True, slots=True)
class Dataset:
    """Encoded rows in memory: features → batches.

    ``X`` (n, d) is float32 or float64, C-contiguous or a CSR array of SciPy, or ``CodedRows`` or ``StoredRows``, of
    which some at a time are decoded or read. Its rows are in random order unless shuffling was turned off. ``y`` is
    (n, 1) with class codes 0 … k−1 in the smallest type that holds them, or (n, k) with numbers as the target encodes
    them: float64, labels of 0 and 1 int8. ``weights`` (n,) float64 have mean 1 over the training rows; None means all
    1.
    """

    X: FloatArray
    y: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    known: KnownProducts | None = None
    """What the first pass or their store has found out. Whoever changes rows or weights leaves it out."""

    @property
    def num_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def num_columns(self) -> int:
        return int(self.X.shape[1])

    @property
    def bytes_of_row(self) -> float:
        """Bytes that reading a row takes, on the average."""
        if self.comes_in_parts:
            return self.X.nbytes / max(1, self.num_rows)
        index = self.X.indices.itemsize if self.is_sparse else 0  # type: ignore[attr-defined]
        return float(self.X.size * (self.X.dtype.itemsize + index) / max(1, self.num_rows))

    @property
    def is_sparse(self) -> bool:
        return is_sparse(self.X)

    @property
    def is_coded(self) -> bool:
        return is_coded(self.X)

    @property
    def is_stored(self) -> bool:
        return is_stored(self.X)

    @property
    def is_in_source(self) -> bool:
        return is_in_source(self.X)

    @property
    def comes_in_parts(self) -> bool:
        """Whether ``X`` is no array: rows become numbers some at a time, and looking at all of them is a copy."""
        return self.is_coded or self.is_stored

    def first(self, count: int) -> Dataset:
        """The first rows, kept the way all are."""
        X: Any = self.X
        rows = X.part(slice(count)) if self.comes_in_parts else X[:count]
        return Dataset(rows, self.y[:count], None if self.weights is None else self.weights[:count])
