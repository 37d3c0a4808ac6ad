"""Sums of products that blocks keep: those of their rows, told again when training begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingests import KINDS, source_of, tighten

from descend.engines import preconditioner
from descend.engines.preconditioner import precondition
from descend.errors import SourceError
from descend.fitting import fit
from descend.settings import Settings
from descend.sources import array_source
from descend.store import Store, ingest, open_store
from descend.store import writing as writing_of
from descend.store.block_files import BlockRecord, write_block
from descend.store.preparing import prepare_store
from descend.types import Dataset
from tests.store.stores import make_store

GOLDEN = Path(__file__).parents[1] / "golden" / "store-1"


def without(data: Dataset) -> Dataset:
    return Dataset(data.X, data.y, data.weights)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("validation", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("kind", ["two", "numbers"])
def test_they_are_those_of_the_rows_that_are_trained_on(
    tmp_path: Path, kind: str, validation: float, stream: bool
) -> None:
    """Products of whole blocks and of the rows behind them are those of all training rows and of no other."""
    data = prepare_store(make_store(tmp_path / "s", kind), validation=validation, stream=stream).train
    assert (
        0 if data.known is None else data.known.num_rows
    ) == data.num_rows // 1024 * 1024 or not validation
    X = np.column_stack([data.X[:], np.ones(data.num_rows)]).astype(np.float64)
    for train in (data, without(data)):
        found = precondition(train, 1.0, 0.01, norms=False).products
        assert found is not None
        np.testing.assert_allclose(found.columns, X.T @ X, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(found.targets, data.y.T @ X, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(found.squares, (data.y**2).sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_that_are_known_are_not_read(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the rows of a block that is not all trained on are multiplied, whatever the threads."""
    data = prepare_store(make_store(tmp_path / "s"), validation=0.1, stream=True).train
    read = []
    pieces_of = preconditioner._pieces
    monkeypatch.setattr(preconditioner, "_pieces", lambda d, rows: read.append(rows) or pieces_of(d, rows))
    precondition(data, 1.0, 0.01, norms=False, threads=threads)
    assert read == [slice(2048, 2700)]


def test_targets_far_from_zero_lose_nothing(tmp_path: Path) -> None:
    """A target of millions that differ by ones has the products that its standardised numbers have."""
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 4))
    y = 7e6 + X[:, 0] + 0.1 * random.normal(size=3000)
    store = ingest(array_source(X, y), tmp_path / "s")
    data = prepare_store(store, validation=0.0).train
    assert data.known is not None
    rows = np.column_stack([data.X, np.ones(3000)]).astype(np.float64)
    np.testing.assert_allclose(data.known.products.targets, data.y.T @ rows, atol=1e-3)
    np.testing.assert_allclose(data.known.products.squares, (data.y**2).sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_added_rows_bring_theirs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that rows were added to tells the products of all, where its rows are plain."""
    tighten(monkeypatch)
    for append in (False, True):
        store = ingest(source_of(kind), tmp_path / "store", append=append)
    data = prepare_store(store, validation=0.0, stream=True).train
    plain = kind in ("numbers", "matrix")
    assert store.layout.has_products == plain
    assert (data.known is not None) == plain
    if data.known is not None:
        rows = np.column_stack([data.X[:], np.ones(2000)]).astype(np.float64)
        assert data.known.num_rows == 2000
        np.testing.assert_allclose(data.known.products.columns, rows.T @ rows, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(data.known.products.targets, data.y.T @ rows, rtol=1e-4, atol=1e-2)


def test_weights_by_class_make_others(tmp_path: Path) -> None:
    """Rows that weigh by their class are multiplied anew."""
    data = prepare_store(make_store(tmp_path / "s"), class_weight="balanced").train
    assert data.known is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_changed_one_is_named(tmp_path: Path, stream: bool) -> None:
    """A byte of the products that was changed ends every training by an error that names the block."""
    store = make_store(tmp_path / "s", "numbers")
    path, parts = store.path(1), store.record(1).parts(store.layout)
    data = bytearray(path.read_bytes())
    data[parts.products.start + parts.products.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"block-00001\.bin.*its products do not match their checksum"):
        prepare_store(open_store(tmp_path / "s"), stream=stream)
    with pytest.raises(SourceError, match=r"block-00001\.bin.*its products"):
        store.read(1)


def without_products(*args: Any, **options: Any) -> Any:
    from dataclasses import replace

    return replace(layout_of(*args, **options), has_products=False)


layout_of = writing_of.layout_of


@pytest.mark.parametrize("settings", [{}, {"loss": "log_loss"}, {"optimizer": "saga", "epochs": 2}])
def test_models_are_the_same_but_for_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """A store without products gives the model of one with them."""
    kind = "two" if "loss" in settings else "numbers"
    found = []
    for name in ("with", "without"):
        store = make_store(tmp_path / name, kind, num_rows=9000)
        found.append(fit(prepare_store(store), Settings(**settings)))
        monkeypatch.setattr(writing_of, "layout_of", without_products)
    assert not store.layout.has_products
    np.testing.assert_allclose(found[0].model.parameters, found[1].model.parameters, rtol=2e-3, atol=1e-4)
    assert found[0].stopped == found[1].stopped


def golden(folder: Path) -> Store:
    shutil.copytree(GOLDEN, folder)
    return open_store(folder)


def test_stores_of_the_first_version_are_read_and_added_to(tmp_path: Path) -> None:
    """A store written before blocks had products opens, trains, and takes more rows."""
    store = golden(tmp_path / "s")
    assert not store.layout.has_products
    before = fit(prepare_store(store, validation=0.0), Settings())
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 3))
    again = ingest(array_source(X, X[:, 0] > 0), tmp_path / "s", append=True)
    assert again.num_rows == store.num_rows + 200
    assert fit(prepare_store(again, validation=0.0), Settings()).stopped == before.stopped == "converged"


def test_blocks_of_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    """Products follow from the rows alone: a block that is written again has its bytes."""
    store = make_store(tmp_path / "s", "numbers")
    X, y, _ = store.read(0)
    record: BlockRecord = write_block(tmp_path, "again.bin", store.layout, X, y)
    assert record.check == store.record(0).check
    assert (tmp_path / "again.bin").read_bytes() == store.path(0).read_bytes()
