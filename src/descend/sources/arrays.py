"""Plain matrices: rows of numbers whose columns go by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, InputError
from descend.sources.chunks import Part
from descend.sources.limits import block_rows
from descend.sources.selection import Selection, by_position, check_weights, select
from descend.types import Block, Task

Rows = tuple[NDArray[Any], NDArray[Any] | None]
"""Some rows (r, d) of a matrix, and of the target that lies beside it."""


class MatrixSource:
    """Rows of a matrix, read by ``chunks``; a column of it may be the target or hold weights.

    ``parts``, where the rows can be had so, read some of them each, by themselves.
    """

    dtype: str | None = None
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        chunks: Callable[[], Iterator[Rows]],
        selection: Selection,
        *,
        beside: str | None = None,
        task: Task | None = None,
        parts: Sequence[Callable[[], Rows]] | None = None,
    ) -> None:
        self.name = name
        self._parts = parts
        self.column_names = selection.features
        self.target_name = selection.target or beside
        self.task: Task | None = task
        self._chunks = chunks
        self._beside = selection.target is None
        places = {n: i for i, n in enumerate(names)}
        self._features = as_slice([places[n] for n in selection.features])
        self._target = None if selection.target is None else places[selection.target]
        self._weights = None if selection.weights is None else places[selection.weights]
        self._weights_name = selection.weights or ""

    def blocks(self) -> Iterator[Block]:
        """The rows, a bounded number at a time."""
        start = 0
        for rows in self._chunks():
            yield self._block(rows, start)
            start += len(rows[0])

    def parts(self) -> list[Part] | None:
        """The rows in parts, each read by itself; None where they can only be read from first to last."""
        return None if self._parts is None else [partial(self._part, part) for part in self._parts]

    def _part(self, part: Callable[[], Rows]) -> Iterator[Block]:
        yield self._block(part(), 0)

    def _block(self, some: Rows, start: int) -> Block:
        rows, beside = some
        target = beside if self._beside else rows[:, self._target]
        weights = None
        if self._weights is not None:
            weights = rows[:, self._weights].astype(np.float64)
            check_weights(weights, self._weights_name, start)
        return Block(rows[:, self._features], target, weights)


class ArraySource:
    """A matrix in memory (n, d), with its target (n,) or (n, k) and weights (n,)."""

    task: Task | None = None
    notes: tuple[str, ...] = ()

    def __init__(
        self, X: NDArray[Any], y: NDArray[Any] | None, weights: NDArray[np.float64] | None, name: str
    ) -> None:
        self.name = name
        self.array = X
        self.column_names = column_names(X.shape[1])
        self.target_name = None if y is None else "y"
        self.dtype = "float32" if X.dtype == np.float32 else "float64"
        self._y = y
        self._weights = weights

    def blocks(self) -> Iterator[Block]:
        """Views of the array; nothing is copied."""
        step = block_rows(self.array.shape[1], self.array.itemsize)
        for start in range(0, len(self.array), step):
            rows = slice(start, start + step)
            yield Block(
                self.array[rows],
                None if self._y is None else self._y[rows],
                None if self._weights is None else self._weights[rows],
            )


def array_source(X: Any, y: Any = None, weights: Any = None, name: str = "X") -> ArraySource:
    """A source over a 2-D array of numbers or a sparse matrix of SciPy; its columns are called x0, x1 and so on.

    >>> source = array_source([[1.0, 2.0], [3.0, 4.0]], y=[0, 1])
    >>> source.column_names, [block.num_rows for block in source.blocks()]
    (('x0', 'x1'), [2])
    """
    sparse = hasattr(X, "tocsr")
    if sparse:
        from descend.sources.sparse import SparseSource, as_csr

    matrix = as_csr(X, name) if sparse else as_matrix(X, name)
    num_rows = matrix.shape[0]
    target = None if y is None else np.asarray(y)
    if target is not None:
        if target.ndim not in (1, 2):
            raise InputError(f"y has shape {target.shape}; give (n,) or (n, k)")
        if len(target) != num_rows:
            raise InputError(f"y has {len(target)} rows, but {name} has {num_rows}: give one target a row")
    if weights is not None:
        from descend.sources.tables import as_weights

        weights = as_weights(weights, num_rows, name)
    return (SparseSource if sparse else ArraySource)(matrix, target, weights, name)


def as_matrix(X: Any, name: str) -> NDArray[Any]:
    """``X`` as a 2-D array of real numbers, without a copy where it is one."""
    matrix = np.asarray(X)
    if matrix.dtype == object:
        try:
            matrix = matrix.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ColumnError(
                f"{name} holds values that are not numbers ({error}); give a DataFrame for columns of text"
            ) from None
    if matrix.ndim != 2:
        raise InputError(f"{name} has shape {matrix.shape}; give a 2-D array (rows, columns)")
    if matrix.shape[1] == 0:
        raise InputError(f"{name} has shape {matrix.shape}: 0 columns; at least 1 is needed")
    check_numeric(matrix.dtype, name)
    return matrix


def check_numeric(dtype: np.dtype[Any], name: str) -> None:
    """Refuse arrays of text, complex numbers or dates."""
    if dtype.kind not in "fiub":
        raise ColumnError(
            f"{name} holds {dtype} values; numbers are needed: give a DataFrame for text, dates or categories"
        )


def column_names(num_columns: int) -> tuple[str, ...]:
    """Names of a matrix's columns.

    >>> column_names(3)
    ('x0', 'x1', 'x2')
    """
    return tuple(f"x{i}" for i in range(num_columns))


def numbered(first: int, num_columns: int) -> tuple[str, ...]:
    """Names of columns that a file calls by their numbers.

    >>> numbered(1, 3)
    ('1', '2', '3')
    """
    return tuple(str(i) for i in range(first, first + num_columns))


def select_positions(names: Sequence[str], where: str, **choice: Any) -> Selection:
    """As ``select``, and a column may also be named by its position: ``49``, ``-1``."""
    return select(names, where, find=by_position(names), **choice)


def as_slice(places: list[int]) -> slice | NDArray[np.intp]:
    """Neighbouring columns as a slice: a view, where a list of places would copy."""
    if places and places == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, dtype=np.intp)
