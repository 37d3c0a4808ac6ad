"""From a block store to what training needs: in memory where the rows fit, else left in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.coded_rows import CodedRows
from descend.errors import InputError, shorten
from descend.features.class_weights import ClassWeight, class_weights
from descend.features.first_pass import Learned
from descend.features.prepare import Prepared, normalised, read_validation
from descend.features.split import check_share
from descend.features.target import Target
from descend.machine import keep_to, return_freed_memory, spare_addresses
from descend.products import Products
from descend.store.block_products import unpack_products
from descend.store.keeping import kept_bytes, may_map, spare_bytes, where_to_keep
from descend.store.layout import bytes_of
from descend.store.opening import Store
from descend.store.reading import BlockReader
from descend.store.rows import StoredRows
from descend.store.source import StoredSource
from descend.store.sparse_reading import SparseBlockReader
from descend.store.sparse_rows import StoredSparseRows
from descend.types import Dataset, KnownProducts, Source, Task

OnProgress: TypeAlias = Callable[[int], None]


def prepare_store(
    store: Store,
    *,
    task: Task | None = None,
    loss_task: Task | None = None,
    validation: float = 0.1,
    scale_target: bool = True,
    class_weight: ClassWeight = None,
    memory_limit: int | None = None,
    stream: bool | None = None,
    validation_source: Source | Store | None = None,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """The rows of ``store`` to train on, and those set aside.

    Features and their scaling are the store's. Its rows lie in random order: the last ones, a share ``validation`` of
    them, are set aside. All are loaded where they take at most half of the memory that is free (``memory_limit``
    bytes at the most for the whole process); else they stay in the store, targets and weights apart, and are read
    in every epoch; ``stream`` settles it. Either way the model is the same. ``validation_source`` gives the rows to
    set aside instead. ``on_progress`` is called with the rows whose targets, or which, have been read.

    Raises ``InputError`` for a ``task``, or a loss's, that is not the store's, ``SourceError`` for a damaged store.
    """
    validation = check_share(validation)
    if task is not None and task != store.task:
        raise InputError(
            f"task is {task!r}, but {shorten(store.name)} was ingested for {store.task}; leave it out, or ingest the "
            f"data again with --task {task}"
        )
    if loss_task is not None and loss_task != store.task:
        raise InputError(
            f"the loss is one for {loss_task}, but {shorten(store.name)} was ingested for {store.task}; choose one "
            f"for {store.task}, or ingest the data again with --task {loss_task}"
        )
    target = store.target(scale_target)
    weighting = class_weights(class_weight, target, store.target_statistics)
    streamed, reason = where_to_keep(store, target.num_outputs, memory_limit, stream)
    if streamed:
        spare_addresses()
        return_freed_memory()
    spare = spare_bytes(store, target.num_outputs, memory_limit) if streamed else 0
    mapped = may_map(store, target.num_outputs, memory_limit)
    if streamed and memory_limit is not None:
        keep_to(memory_limit - kept_bytes(store, target.num_outputs) - spare)
    n = store.num_rows
    aside = 0 if validation_source is not None else round(n * validation)
    notes = [*store.notes, reason]
    if validation and validation_source is None and (aside == 0 or n - aside < 2):
        aside = 0
        notes.append(f"too few rows ({n}) to set some aside for validation: all are used for training")
    X, y, weights, known = _read(store, target, streamed, spare, mapped, n - aside, on_progress)
    train = weighting(_part(X, y, weights, slice(0, n - aside), streamed, known))
    held_out = weighting(_part(X, y, weights, slice(n - aside, n), streamed)) if aside else None
    if validation_source is not None:
        held_out, told = _held_out(validation_source, store, target, train)
        held_out = weighting(held_out)
        notes += told
    train, held_out = normalised(train, held_out)
    learned = Learned(store.statistics, store.target_statistics)
    num_rows = train.num_rows + (0 if held_out is None else held_out.num_rows)
    return Prepared(train, held_out, store.features, target, tuple(notes), num_rows, learned)


def _held_out(
    source: Source | Store, store: Store, target: Target, train: Dataset
) -> tuple[Dataset, list[str]]:
    """Validation rows of a file, or of another store, encoded as the store's are; in memory."""
    features: Any = store.features
    if isinstance(source, Store):
        source, features = StoredSource(source, store.features), _Encoded()
    elif (match_columns := getattr(source, "match_columns", None)) is not None:
        match_columns(features.input_names)
    return read_validation(source, features, target, train.X.dtype, store.name, seed=0)


class _Encoded:
    """Stands for features where rows are encoded already."""

    def encode(self, columns: Any, dtype: Any) -> Any:
        return columns.astype(dtype, copy=False)


def _read(
    store: Store,
    target: Target,
    streamed: bool,
    spare: int,
    mapped: bool,
    trained: int,
    on_progress: OnProgress | None,
) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None, KnownProducts | None]:
    """X of all rows, loaded or stored, sparse ones stored still; targets as they are trained on; weights.

    With them the products of the blocks whose rows are all among the first, which are ``trained`` on.
    """
    layout = store.layout
    n, d = layout.num_rows, layout.num_columns
    y = target.room(n)
    weights = np.empty(n) if layout.has_weights else None
    blocks: BlockReader
    X: Any
    if layout.sparse:
        blocks = SparseBlockReader(store.folder, layout, store.manifest.blocks, spare)
        X = StoredSparseRows(blocks, 0, n)
    else:
        blocks = BlockReader(store.folder, layout, store.manifest.blocks, spare)
        X = StoredRows(blocks, 0, n, _code(store)) if streamed else np.empty((n, d), dtype=layout.dtype)
    blocks.may_map = streamed and mapped
    start, known = 0, None
    for block, record in enumerate(store.manifest.blocks):
        rows = slice(start, start + record.rows)
        goals = y[rows] if y.dtype == np.float64 else np.empty((record.rows, layout.num_outputs))
        blocks.read_targets(block, goals, None if weights is None else weights[rows])
        if target.task == "regression":
            goals -= target.mean
            goals /= target.scale
        else:
            y[rows] = goals
        if isinstance(blocks, SparseBlockReader):
            blocks.read_ends(block)
        elif not streamed:
            blocks.read(start, record.rows, bytes_of(X[rows]))
        if layout.has_products and rows.stop <= trained:
            known = _more(known, rows.stop, _products(blocks, block, target))
        start = rows.stop
        if on_progress is not None:
            on_progress(start)
    if not streamed and not layout.sparse:
        X = CodedRows(X, store.features.mean, store.features.scale) if store.is_coded else X
        blocks.close()
    return X, y, weights, known


def _products(blocks: BlockReader, block: int, target: Target) -> Products:
    """Those of a block's rows, with the targets as they are trained on."""
    k = blocks.layout.num_outputs
    centre, scale = np.zeros(k), np.ones(k)
    if target.task == "regression":
        centre, scale = np.broadcast_to(target.mean, k), np.broadcast_to(target.scale, k)
    return unpack_products(blocks.read_products(block), blocks.layout, centre, scale)


def _more(known: KnownProducts | None, num_rows: int, products: Products) -> KnownProducts:
    if known is None:
        return KnownProducts(num_rows, products)
    known.products.add(products)
    return KnownProducts(num_rows, known.products)


def _code(store: Store) -> CodedRows | None:
    if not store.is_coded:
        return None
    none = np.empty((0, store.layout.num_columns), dtype=store.layout.dtype)
    return CodedRows(none, store.features.mean, store.features.scale)


def _part(
    X: Any,
    y: NDArray[Any],
    weights: NDArray[np.float64] | None,
    rows: slice,
    streamed: bool,
    known: KnownProducts | None = None,
) -> Dataset:
    part = X.part(rows) if streamed or isinstance(X, CodedRows) else X[rows]  # sparse ones are loaded here
    return Dataset(part, y[rows], None if weights is None else weights[rows], known)
