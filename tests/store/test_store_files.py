"""Stores written from arrays: what is read back, and what damage does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array, random_array

from descend.batches import STRIP
from descend.coded_rows import CodedRows
from descend.errors import SourceError
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.sources import array_source
from descend.store import Layout, Store, open_store, write_store
from descend.store.layout import ALIGNMENT, rows_of_block
from descend.types import is_sparse

ROWS, COLUMNS = 300, 5
KINDS = ("float32", "uint8", "sparse")


def make(folder: Path, kind: str = "float32", weighted: bool = True, block_rows: int = 128) -> Store:
    """A small store of three blocks: encoded rows, small numbers, or CSR."""
    random = np.random.default_rng(0)
    raw: Any = random.integers(0, 200, (ROWS, COLUMNS)).astype(np.uint8 if kind == "uint8" else np.float64)
    if kind == "sparse":
        raw = csr_array(random_array((ROWS, COLUMNS), density=0.4, rng=random))
    y = random.integers(0, 3, ROWS)
    weights = random.random(ROWS) + 0.5 if weighted else None
    columns, target = Statistics([f"x{i}" for i in range(COLUMNS)]), TargetStatistics("y")
    for block in array_source(raw, y, weights).blocks():
        columns.update(block.columns, block.weights)
        target.update(block.target, block.weights)
    features = Features.from_statistics(columns)
    X = CodedRows(raw, features.mean, features.scale) if kind == "uint8" else features.encode(raw)
    return write_store(
        folder / "store", X, y[:, None].astype(np.float64), weights, features=features, columns=columns,
        target=target, task="classification", block_rows=block_rows,
    )  # fmt: skip


def rows_of(store: Store) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """All rows of a store as dense arrays."""
    parts = list(store.blocks())
    X = np.concatenate([X.toarray() if is_sparse(X) else X[:] for X, _, _ in parts])
    weights = [w for _, _, w in parts if w is not None]
    return X, np.concatenate([y for _, y, _ in parts]), np.concatenate(weights) if weights else None


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(tmp_path: Path, kind: str, weighted: bool) -> None:
    """Rows, targets, weights, features and statistics of a store are those that were given, to the last bit."""
    written = make(tmp_path, kind, weighted)
    store = open_store(tmp_path / "store")
    random = np.random.default_rng(0)
    raw: Any = random.integers(0, 200, (ROWS, COLUMNS)).astype(np.uint8 if kind == "uint8" else np.float64)
    if kind == "sparse":
        raw = csr_array(random_array((ROWS, COLUMNS), density=0.4, rng=random))
    y = random.integers(0, 3, ROWS)
    X, codes, weights = rows_of(store)
    expected = store.features.encode(raw)
    if kind == "uint8":
        np.testing.assert_allclose(X, expected, atol=1e-6)
    else:
        np.testing.assert_array_equal(X, expected.toarray() if is_sparse(expected) else expected)
    np.testing.assert_array_equal(codes[:, 0], y)
    assert (weights is None) == (not weighted)
    if weights is not None:
        np.testing.assert_array_equal(weights, random.random(ROWS) + 0.5)
    assert store.layout == written.layout
    assert store.statistics.total == pytest.approx(ROWS if weights is None else weights.sum())
    assert store.statistics.moments.mean.tolist() == written.statistics.moments.mean.tolist()
    assert store.target().classes == (0, 1, 2)
    assert "3 distinct whole numbers" not in store.target().reason  # it was said to be a classification


@pytest.mark.parametrize("kind", KINDS)
def test_parts_begin_at_multiples_of_64_bytes_and_do_not_overlap(tmp_path: Path, kind: str) -> None:
    """Every part of a block is aligned, and the parts fill the file to its end."""
    store = make(tmp_path, kind)
    for block in range(store.layout.num_blocks):
        record = store.record(block)
        parts = record.parts(store.layout)
        spans = sorted((getattr(parts, n) for n in parts.__slots__), key=lambda span: (span.start, span.stop))
        assert all(span.start % ALIGNMENT == 0 for span in spans if span.size)
        assert all(a.stop <= b.start for a, b in pairwise(spans) if a.size and b.size)
        assert store.path(block).stat().st_size == parts.size


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_or_harmless(tmp_path: Path, kind: str) -> None:
    """A byte changed or an end cut off is an error that names the file, or changes nothing that is read."""
    store = make(tmp_path, kind)
    before = rows_of(store)
    random, named = np.random.default_rng(1), []
    for path in [*(store.path(i) for i in range(store.layout.num_blocks)), tmp_path / "store" / "store.json"]:
        whole = path.read_bytes()
        places = random.integers(0, len(whole), 60)
        for place in places.tolist():
            changed = bytearray(whole)
            changed[place] ^= int(random.integers(1, 256))
            cut = whole[:place]
            for data in (bytes(changed), cut):
                path.write_bytes(data)
                try:
                    after = rows_of(open_store(tmp_path / "store"))
                except SourceError as error:
                    named.append(path.name in str(error))
                else:
                    assert data != cut
                    for one, other in zip(before, after, strict=True):
                        np.testing.assert_array_equal(one, other)
        path.write_bytes(whole)
    assert len(named) > 300
    assert all(named)


def test_every_number_is_under_a_checksum(tmp_path: Path) -> None:
    """A changed byte of a row names the strip of 64 rows that it lies in."""
    store = make(tmp_path)
    path = store.path(0)
    data = bytearray(path.read_bytes())
    data[70 * store.layout.row_bytes] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=rf"block-00000\.bin.*rows {STRIP} to {2 * STRIP - 1} do not match"):
        store.read(0)
    store.read(1)


def test_a_missing_block_is_named(tmp_path: Path) -> None:
    """A block that vanished is an error with its name."""
    store = make(tmp_path)
    store.path(1).unlink()
    with pytest.raises(SourceError, match=r"block-00001\.bin.*is missing"):
        rows_of(store)


def test_a_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    """Blocks alone are not taken for a store."""
    store = make(tmp_path)
    (store.folder / "store.json").unlink()
    with pytest.raises(SourceError, match=r"no block store: it has no store\.json"):
        open_store(store.folder)


def test_blocks_are_a_multiple_of_1024_rows_of_about_12_megabytes() -> None:
    """Blocks hold 1024 rows or a multiple, 8 to 16 MB, unless rows are very wide or narrow."""
    for row_bytes in (28, 88, 408, 3_144, 8_008, 15_000):
        rows = rows_of_block(row_bytes)
        assert rows % 1024 == 0
        assert rows == 2**20 or 8e6 <= rows * row_bytes <= 16.8e6
    assert rows_of_block(400_000) == STRIP


def test_a_layout_counts_blocks_and_rows() -> None:
    """Rows of all blocks add up, and each row lies in the block that holds it."""
    layout = Layout(5000, 3, np.dtype(np.float32), 1024)
    assert sum(layout.rows_of(i) for i in range(layout.num_blocks)) == 5000
    assert layout.block_of(4999) == (4, 4999 - 4096)
