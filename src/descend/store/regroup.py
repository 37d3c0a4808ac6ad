"""Blocks cut anew, so that nothing depends on where a source cut them: sums of floats hang on what is added first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from descend.sources.limits import table_rows
from descend.sources.sparse import BLOCK_NUMBERS, row_blocks
from descend.types import Block, is_sparse


def regroup(blocks: Iterable[Block], num_columns: int) -> Iterator[Block]:
    """The same rows in blocks that the rows alone decide: of a fixed number, or of a fixed number of stored numbers.

    Where the types change from one file to the next, a block ends early.
    """
    rows = table_rows(num_columns)
    held: list[Block] = []
    count = 0
    for block in blocks:
        if is_sparse(block.columns):
            yield from _regroup_sparse(block, blocks)
            return
        if held and not _alike(held[-1], block):
            yield _joined(held)
            held, count = [], 0
        start = 0
        while start < block.num_rows:
            stop = min(block.num_rows, start + rows - count)
            held.append(_slice(block, start, stop))
            count += stop - start
            start = stop
            if count == rows:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def _regroup_sparse(first: Block, rest: Iterable[Block]) -> Iterator[Block]:
    held = first
    for block in rest:
        held = _joined([held, block])
        *whole, last = row_blocks(held.columns.indptr, BLOCK_NUMBERS)  # type: ignore[union-attr]
        for rows in whole:
            yield _slice(held, rows.start, rows.stop)
        held = _slice(held, last.start, last.stop)
    for rows in row_blocks(held.columns.indptr, BLOCK_NUMBERS):  # type: ignore[union-attr]
        yield _slice(held, rows.start, rows.stop)


def _alike(one: Block, other: Block) -> bool:
    """Whether two blocks can be joined without a change of any type."""

    def kinds(block: Block) -> list[Any]:
        columns: Any = block.columns
        target: Any = block.target
        table = columns.schema if hasattr(columns, "schema") else columns.dtype
        return [table, getattr(target, "type", None) or getattr(target, "dtype", None), block.weights is None]

    return all(a == b for a, b in zip(kinds(one), kinds(other), strict=True))


def _slice(block: Block, start: int, stop: int) -> Block:
    if start == 0 and stop == block.num_rows:
        return block

    def part(values: Any) -> Any:
        return values.slice(start, stop - start) if hasattr(values, "slice") else values[start:stop]

    return Block(
        part(block.columns),
        None if block.target is None else part(block.target),
        None if block.weights is None else block.weights[start:stop],
    )


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    targets = [block.target for block in blocks]
    weights = [block.weights for block in blocks if block.weights is not None]
    return Block(
        _join([block.columns for block in blocks]),
        None if targets[0] is None else _join(targets),
        np.concatenate(weights) if weights else None,
    )


def _join(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if is_sparse(parts[0]):
        from scipy.sparse import vstack

        return vstack(parts, format="csr")
    import pyarrow as pa

    if isinstance(parts[0], pa.RecordBatch):
        (whole,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        return whole
    whole = pa.chunked_array(parts).combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
