"""Rows that the estimators read where they live: a path, a dataset of PyArrow, batches and blocks as they come.

``X`` says where the rows are and ``y`` names the column to predict, ``sample_weight`` that of the weights: nothing is
added to what scikit-learn's methods take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError, shorten
from descend.features import Features
from descend.features.encoders import Number
from descend.features.filling import ENCODED_VALUES
from descend.models.model import Model
from descend.sources import open_source
from descend.sources.datasets import dataset_source
from descend.sources.selection import NoTargetError
from descend.sources.tables import numbers_of
from descend.store.choice import store_of
from descend.store.source import StoredSource
from descend.types import Block, FloatArray, Source, is_sparse

Rows = tuple[Any, Any, Any]
"""X, y and weights (or None) of a block."""


def is_dataset(X: Any) -> bool:
    """Whether ``X`` is a ``pyarrow.dataset.Dataset``; told by what it has, without importing PyArrow."""
    return hasattr(X, "get_fragments") and hasattr(X, "schema")


def is_readable(X: Any) -> bool:
    """Whether ``X`` says where rows can be read, again and again."""
    return isinstance(X, (str, Path)) or is_dataset(X)


def is_read_once(X: Any) -> bool:
    """Whether ``X`` gives its rows once: a ``RecordBatchReader``, or an iterator over blocks."""
    return hasattr(X, "__next__") or gives_batches(X)


def gives_batches(X: Any) -> bool:
    """Whether ``X`` is a ``pyarrow.RecordBatchReader``."""
    return hasattr(X, "read_next_batch")


def readable_source(X: Any, y: Any, sample_weight: Any, require_target: bool = True) -> Source:
    """The source of a path or dataset; ``y`` and ``sample_weight`` are names of columns, or None."""
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"{name} is a {type(value).__name__}, but X says where rows are read: give the name of the column "
                f"that holds {'the target' if name == 'y' else 'the weights'}"
            )
    choice = {"target": y, "weights": sample_weight, "require_target": require_target}
    try:
        return dataset_source(X, **choice) if is_dataset(X) else open_source(X, **choice)
    except NoTargetError as error:
        raise NoTargetError(f"{error}; give its name as y") from None


def refuse_read_once(X: Any) -> None:
    """``fit`` reads rows several times."""
    if is_read_once(X):
        raise InputError(
            f"X is a {type(X).__name__}, which gives its rows once, and fit reads them several times: partial_fit "
            "takes it and makes one epoch; or read it into a table first"
        )


def refuse_other_than_numbers(X: Any, features: Features) -> None:
    """``InputError`` where rows of an array cannot be those of the model: it has columns of texts or dates."""
    other = [e.name for _, e in features.encoders if not isinstance(e, Number)]
    if other or hasattr(X, "tocsr"):
        why = f"{shorten(other[0])!r} is no column of numbers" if other else "rows came from a table"
        raise InputError(
            f"X is a {type(X).__name__}, and the model knows columns by name ({why}): give a table that has them "
            "(pandas, polars, PyArrow), or a path"
        )


def named_columns(X: NDArray[Any], names: Sequence[str]) -> Any:
    """The columns of ``X`` (n, d) as a table."""
    import pyarrow as pa

    return pa.table(dict(zip(names, np.ascontiguousarray(X.T), strict=True)))


def blocks_of(X: Any, y: Any, sample_weight: Any) -> Iterator[Rows]:
    """Blocks for ``partial_fit``: X (r, d) with the names of its columns where it has some, y (r,), weights (r,).

    Raises ``InputError`` for what is no block, with its number.
    """
    if is_readable(X):
        source = readable_source(X, y, sample_weight)
        for block in source.blocks():
            yield _numbers(block, source.column_names), block_target(block), block.weights
    elif gives_batches(X):
        for source in tables_of(X, y, sample_weight):
            for block in source.blocks():
                yield _numbers(block, source.column_names), block_target(block), block.weights
    else:
        if y is not None or sample_weight is not None:
            raise InputError(
                f"X is a {type(X).__name__} over blocks, each of which is (X, y) or (X, y, weights): leave y and "
                "sample_weight out"
            )
        for number, block in enumerate(X):
            if not isinstance(block, tuple) or len(block) not in (2, 3):
                raise InputError(
                    f"block {number} of X is a {type(block).__name__}; give (X, y) or (X, y, weights) as a tuple"
                )
            yield (*block, None) if len(block) == 2 else block


def tables_of(reader: Any, y: Any, sample_weight: Any) -> Iterator[Source]:
    """The batches of a ``RecordBatchReader``, each a table of its own with the columns of all."""
    import pyarrow as pa

    from descend.sources import table_source

    for batch in reader:
        if not batch.num_rows:
            continue
        if not isinstance(y, str):
            raise InputError(
                "y is missing: X is a RecordBatchReader, so give the name of the column to predict"
            )
        table = pa.Table.from_batches([batch])
        yield table_source(table, weights=sample_weight, target=y, require_target=True)


def block_target(block: Block) -> NDArray[Any]:
    """A block's target as NumPy has it."""
    target: Any = block.target
    return target if isinstance(target, np.ndarray) else np.asarray(target.to_numpy(zero_copy_only=False))


class Named:
    """A matrix (r, d) whose columns have names."""

    def __init__(self, matrix: NDArray[np.float64], names: tuple[str, ...]) -> None:
        self.matrix, self.names = matrix, names


def _numbers(block: Block, names: tuple[str, ...]) -> Any:
    """The columns of a block as a matrix of numbers; texts are refused by the name of their column."""
    columns: Any = block.columns
    if not hasattr(columns, "schema"):
        return columns
    values = [numbers_of(column, name) for name, column in zip(names, columns.columns, strict=True)]
    return Named(np.column_stack(values), names)


def scores_of(model: Model, X: Any) -> FloatArray:
    """Scores (n, k) of the rows of a path, dataset, store or reader, a bounded number of them encoded at a time."""
    blocks: Iterator[Block]
    score: Callable[[Any], FloatArray] = model.scores
    store = store_of(X)
    if store is not None:
        score, blocks = model.scores_of_encoded, StoredSource(store, model.features).blocks()
    elif gives_batches(X):
        blocks = (Block(batch) for batch in X)
    else:
        source = readable_source(X, model.target.name, None, require_target=False)
        match_columns = getattr(source, "match_columns", None)
        if match_columns is not None:  # rows that go by number: the width is the model's
            match_columns(model.features.input_names)
        blocks = source.blocks()
    found = [np.empty((0, model.target.num_outputs))]
    return np.vstack([*found, *(scores for scores, _ in scored(score, blocks, model))])


def rows_at_a_time(block: Block, model: Model) -> int:
    """How many rows of a block are encoded at a time; sparse ones all, for a block holds few numbers as it is."""
    if is_sparse(block.columns):
        return max(1, block.num_rows)
    return max(1, ENCODED_VALUES // max(1, model.features.num_columns))


def scored(
    score: Callable[[Any], FloatArray], blocks: Iterator[Block], model: Model
) -> Iterator[tuple[FloatArray, Block]]:
    """``score`` of a bounded number of encoded rows at a time, and these rows."""

    def cut(values: Any, start: int, step: int) -> Any:
        if values is None:
            return None
        return values.slice(start, step) if hasattr(values, "slice") else values[start : start + step]

    for block in blocks:
        step = rows_at_a_time(block, model)
        for start in range(0, block.num_rows, step):
            part = Block(*(cut(one, start, step) for one in (block.columns, block.target, block.weights)))
            yield np.asarray(score(part.columns)), part
