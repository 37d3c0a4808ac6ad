"""A store from rows that are encoded already and lie in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import InputError
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.features.statistics_json import dump_statistics, dump_target_statistics
from descend.features.target_statistics import TargetStatistics
from descend.machine import one_blas_thread
from descend.store.block_files import write_block
from descend.store.block_products import has_products
from descend.store.layout import Layout, block_name, rows_of_block
from descend.store.manifest import Manifest, write_manifest
from descend.store.opening import Store, is_store, open_store
from descend.types import Task, is_coded, is_sparse


def write_store(
    folder: str | os.PathLike[str],
    X: Any,
    y: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    *,
    features: Features,
    columns: Statistics,
    target: TargetStatistics,
    task: Task,
    name: str = "X",
    seed: int = 0,
    block_rows: int | None = None,
) -> Store:
    """Write rows that lie in random order already, and open the store.

    ``X`` (n, d) float32, ``CodedRows`` or CSR, as ``features`` encode them; ``y`` (n, outputs) class codes or plain
    numbers; ``columns`` and ``target`` are the statistics they were learnt from.
    """
    place = Path(folder)
    if is_store(place):
        raise InputError(f"{str(place)!r} holds a store already; choose another folder")
    place.mkdir(exist_ok=True)
    layout = layout_of(X, y, weights, block_rows)
    values = X.values if is_coded(X) else X
    records = []
    for block in range(layout.num_blocks):
        rows = slice(block * layout.block_rows, block * layout.block_rows + layout.rows_of(block))
        w = None if weights is None else weights[rows]
        with one_blas_thread():
            records.append(
                write_block(place, block_name(block), layout, values[rows], y[rows], w, layout.lead_of(block))
            )
    manifest = Manifest(
        layout,
        tuple(records),
        name=name,
        seed=seed,
        features=features.to_json(),
        task=task,
        task_given=task,
        columns=dump_statistics(columns),
        target=dump_target_statistics(target),
        notes=features.notes,
    )
    write_manifest(place, manifest)
    return open_store(place)


def layout_of(X: Any, y: NDArray[Any], weights: NDArray[Any] | None, block_rows: int | None = None) -> Layout:
    """The layout that such rows get."""
    n, d = X.shape
    dtype = np.dtype(X.values.dtype if is_coded(X) else X.dtype)
    plain = not is_sparse(X) and weights is None
    row = X.size * (dtype.itemsize + 4) / max(1, n) + 8 if is_sparse(X) else d * dtype.itemsize
    if block_rows is None:
        block_rows = rows_of_block(row + 8 * y.shape[1] + 8 * (weights is not None))
    products = has_products(d, y.shape[1], dtype, plain)
    return Layout(n, d, dtype, block_rows, weights is not None, y.shape[1], is_sparse(X), products)
