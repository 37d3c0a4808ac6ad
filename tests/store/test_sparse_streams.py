"""Sparse rows that stay in their store: read as they were written, and trained on to the loaded rows' model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from descend import ingest, machine, open_store
from descend.checkpoint import Checkpoint, opened
from descend.engines import sparse_windows
from descend.engines.base import Rule, State
from descend.engines.choose import make_engine
from descend.errors import InputError, SourceError
from descend.fitting import fit
from descend.networks.fitting import fit_network
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.store import Store
from descend.store import layout as layouts
from descend.store import sparse_rows as stored
from descend.store.preparing import prepare_store
from descend.updates import OPTIMIZERS

ROWS, COLUMNS = 3000, 40


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a few strips and blocks of a thousand rows, so that a small store has many."""
    monkeypatch.setattr(stored, "WINDOW_NUMBERS", 1500)
    monkeypatch.setattr(stored, "MOST_NUMBERS", 3000)
    monkeypatch.setattr(stored, "PASS_NUMBERS", 800)
    monkeypatch.setattr(stored, "WRITTEN_SHARE", 1)
    monkeypatch.setattr(layouts, "BLOCK_BYTES", 90_000)


def sparse_store(
    folder: Path, kind: str = "two", heavy: bool = False, weighted: bool = False, rows: int = ROWS
) -> Store:
    """A store of sparse rows whose target depends on them; ``heavy``: some rows are far longer than others."""
    random = np.random.default_rng(0)
    X = sp.random(rows, COLUMNS, density=0.1, format="csr", random_state=1, dtype=np.float64)
    X.data[:] = random.normal(size=X.nnz)
    if heavy:
        X = sp.diags(np.exp(random.normal(size=rows))) @ X
    scores = X @ random.normal(size=COLUMNS) + 0.5 * random.normal(size=rows)
    y = {"two": (scores > 0).astype(int), "three": np.digitize(scores, [-1.0, 1.0]), "numbers": scores}[kind]
    return ingest(
        sp.csr_array(X), folder, y=y, weights=random.random(rows) + 0.5 if weighted else None, seed=2
    )


def both(store: Store, **options: Any) -> tuple[Any, Any]:
    """Prepared rows, loaded and stored."""
    return tuple(prepare_store(store, stream=stream, **options) for stream in (False, True))  # type: ignore[return-value]


def test_stored_rows_read_like_an_array(tmp_path: Path) -> None:
    """Slices, numbers of rows in any order, masks, windows and parts give the loaded rows to the last bit."""
    store = sparse_store(tmp_path / "s", heavy=True)
    assert store.layout.num_blocks > 2
    loaded, X = (prepared.train.X for prepared in both(store))
    random = np.random.default_rng(1)
    assert (X.shape, X.size, X.dtype) == (loaded.shape, loaded.size, loaded.dtype)
    for rows in (
        slice(None),
        slice(5, 1999),
        slice(7, 7),
        slice(-3, None),
        slice(10, 2000, 7),
        random.integers(0, len(X), 400),
        random.random(len(X)) < 0.1,
        np.array([-1, 0, 5, 5]),
        np.empty(0, dtype=np.int64),
    ):
        assert_same(X[rows], loaded[rows])
    seen = [(rows, some.copy()) for rows, some in X.windows(100, 2500)]
    assert len(seen) > 3
    assert_same(sp.vstack([some for _, some in seen], format="csr"), loaded[100:2500])
    part = X.part(slice(1000, 2000)).part(slice(30, 900), np.array([4, 1]))
    assert part.shape == (870, 2)
    assert_same(part[:], loaded[1030:1900][:, [4, 1]])
    assert_same(part[np.array([3, 1])], loaded[[1033, 1031]][:, [4, 1]])
    with pytest.raises(IndexError):
        X[np.array([len(X)])]


def assert_same(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert np.array_equal(found.toarray(), expected.toarray())


RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "auto": ({"heavy": True}, {}),
    "auto, three classes": ({"kind": "three", "weighted": True}, {}),
    "solved": ({"kind": "numbers", "weighted": True}, {}),
    "one row at a time": ({"heavy": True}, {"optimizer": "sgd", "batch_size": 1, "epochs": 2}),
    "batches": ({"heavy": True, "kind": "three"}, {"optimizer": "sgd", "batch_size": 32, "epochs": 2}),
    "weights": ({"weighted": True, "heavy": True}, {"optimizer": "adam", "batch_size": 50, "epochs": 2}),
    "SAGA's table": ({"heavy": True, "weighted": True}, {"batch_size": 16, "optimizer": "saga", "epochs": 3}),
    "L-BFGS": ({"kind": "three"}, {"optimizer": "lbfgs", "epochs": 6}),
    "Newton": ({}, {"optimizer": "newton", "epochs": 4, "alpha": 0.01}),
    "every row at once": ({}, {"optimizer": "sgd", "batch_size": "full", "epochs": 5}),
    "batches larger than a window": ({"heavy": True}, {"optimizer": "sgd", "batch_size": 1500, "epochs": 3}),
    "L1": ({}, {"penalty": "l1", "alpha": 0.01}),
    "corners": ({}, {"loss": "hinge", "alpha": 0.01, "epochs": 40}),
}


@pytest.mark.parametrize("name", RUNS)
def test_models_are_the_same_but_for_rounding(tmp_path: Path, name: str) -> None:
    """Parameters do not tell, but for float32's last digits, whether rows were loaded or read from the store."""
    options, settings = RUNS[name]
    loaded, streamed = (
        fit(prepared, Settings(seed=3, **settings))
        for prepared in both(sparse_store(tmp_path / "s", **options))
    )
    largest = float(np.abs(loaded.model.parameters).max())
    apart = np.abs(loaded.model.parameters - streamed.model.parameters).max() / largest
    assert apart < (2e-5 if "epochs" in settings else 1e-3)
    assert loaded.stopped == streamed.stopped
    assert loaded.history.last["updates"] == pytest.approx(streamed.history.last["updates"], rel=0.05)


@pytest.mark.parametrize("optimizer", ["sgd", "saga"])
def test_rows_anywhere_make_the_steps_they_make_in_memory(tmp_path: Path, optimizer: str) -> None:
    """An order that jumps to a new strip with every row, and comes back to some, is walked as it is."""
    store = sparse_store(tmp_path / "s")
    random = np.random.default_rng(0)
    order = np.concatenate([random.permutation(2700)[:900], np.full(30, 7)]).astype(np.int32)
    random.shuffle(order)
    found = []
    for prepared in both(store):
        engine = make_engine(prepared.train, LOSSES["log_loss"], Penalty(0.01))
        state = State(np.zeros((1, COLUMNS + 1), dtype=np.float32))
        rule = Rule(OPTIMIZERS[optimizer], 0.1, full_term=1.0, single_term=10.0)
        engine.run(state, rule, order, 1)
        found.append(state)
    np.testing.assert_allclose(found[0].parameters, found[1].parameters, rtol=1e-4, atol=1e-6)
    assert found[0].visits == found[1].visits == 930
    if optimizer == "saga":
        np.testing.assert_allclose(found[0].table, found[1].table, rtol=1e-3, atol=1e-5)


def test_what_is_kept_of_heavy_rows_decides_on_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for all heavy rows, for some and for none the steps are the same to the last bit."""
    store = sparse_store(tmp_path / "s", heavy=True)
    found, kept = [], []
    for room in (10**9, 2000, 0):
        monkeypatch.setattr("descend.store.preparing.spare_bytes", lambda *_, room=room: room)
        prepared = prepare_store(store, stream=True)
        windows = sparse_windows.SparseWindows(prepared.train.X, np.where(np.arange(2700) % 9, 1.0, 0.5))  # type: ignore[arg-type]
        kept.append(0 if windows.kept is None else len(windows.kept.numbers))
        found.append(
            fit(prepared, Settings(seed=1, optimizer="sgd", batch_size=8, epochs=2)).model.parameters
        )
    assert kept[0] == 300
    assert 0 < kept[1] < 300
    assert kept[2] == 0
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


class _KilledError(Exception):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("optimizer", ["sgd", "auto"])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed from a checkpoint in the midst of an epoch, a streamed run ends where one that was left alone does."""
    monkeypatch.setattr("descend.engines.sparse.PIECE", 2000)
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    store = sparse_store(tmp_path / "s", heavy=True)
    how = Settings(seed=1, optimizer=optimizer, batch_size=4, epochs=3 if optimizer == "sgd" else None)
    with opened(tmp_path / "whole", resume=False) as kept:
        whole = fit(prepare_store(store, stream=True), how, checkpoint=kept).model.parameters
    save, count = Checkpoint.save, 0

    def save_and_die(self: Checkpoint, *args: Any, **named: Any) -> None:
        nonlocal count
        save(self, *args, **named)
        count += 1
        if count == 4:
            raise _KilledError

    monkeypatch.setattr(Checkpoint, "save", save_and_die)
    with pytest.raises(_KilledError), opened(tmp_path / "cut", resume=False) as kept:
        fit(prepare_store(store, stream=True), how, checkpoint=kept)
    monkeypatch.setattr(Checkpoint, "save", save)
    with opened(tmp_path / "cut", resume=True) as kept:
        assert kept.found is not None
        again = fit(prepare_store(store, stream=True), how, checkpoint=kept).model.parameters
    assert np.array_equal(whole, again)


def test_damage_is_named(tmp_path: Path) -> None:
    """A flipped bit of the numbers, of the row ends, and a file cut while it is trained on, each name the block."""
    store = sparse_store(tmp_path / "s")
    parts = store.record(1).parts(store.layout)
    flip(store.path(1), parts.X.start + 40)
    X: Any = prepare_store(open_store(tmp_path / "s"), stream=True).train.X
    with pytest.raises(SourceError, match=r"block-00001\.bin.*rows 0 to 63 do not match"):
        X[:]
    flip(store.path(1), parts.X.start + 40)
    flip(store.path(1), parts.indptr.start + 16)
    with pytest.raises(SourceError, match=r"block-00001\.bin.*its row ends do not match"):
        prepare_store(open_store(tmp_path / "s"), stream=True)
    flip(store.path(1), parts.indptr.start + 16)
    prepared = prepare_store(store, stream=True)

    def cut(seen: Any) -> bool:
        if seen.epoch >= 2:
            with store.path(1).open("r+b") as file:
                file.truncate(100)
        return False

    with pytest.raises(SourceError, match=r"block-00001\.bin"):
        fit(prepared, Settings(optimizer="sgd", batch_size=32, epochs=6), callbacks=[cut])


def flip(path: Path, offset: int) -> None:
    """Flips one bit; the file's time of writing stays what it was."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_sparse_rows_stay_in_the_store_where_they_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a limit on the rows are streamed and a note says so; below what is kept of them it is an error."""
    store = sparse_store(tmp_path / "s", rows=60_000)
    monkeypatch.setattr("descend.store.keeping.status_bytes", lambda field: 260 * 10**6)
    monkeypatch.setattr(machine, "status_bytes", lambda field: 260 * 10**6)
    loaded = prepare_store(store, memory_limit=270 * 10**6)
    assert not loaded.train.is_stored
    streamed = prepare_store(store, memory_limit=263 * 10**6)
    assert streamed.train.is_stored
    assert streamed.train.is_sparse
    assert "the rows are read from the store in every epoch" in streamed.notes[-1]
    with pytest.raises(InputError, match="needs more memory than the limit of 261 MB leaves: of every row"):
        prepare_store(store, memory_limit=261 * 10**6)


def test_what_needs_sparse_rows_in_memory_is_refused(tmp_path: Path) -> None:
    """SAGA at a batch that is never held, and a network, are refused in one line before anything is trained."""
    prepared = prepare_store(sparse_store(tmp_path / "s"), stream=True)
    with pytest.raises(InputError, match=r"batch size 2,000 is more rows than saga holds .* take at most"):
        fit(prepared, Settings(optimizer="saga", batch_size=2000))
    with pytest.raises(InputError, match="a network takes sparse rows in memory"):
        fit_network(prepared, Settings(hidden=(3,)))


def test_engines_on_the_same_rows_share_what_they_keep(tmp_path: Path) -> None:
    """A second engine takes the heavy rows that the first keeps, and one on rows from elsewhere on does not."""
    X: Any = prepare_store(sparse_store(tmp_path / "s", heavy=True), stream=True).train.X
    X.blocks.spare_bytes = 10**9
    weights = np.where(np.arange(len(X)) % 9, 1.0, 0.5)
    one, other = (sparse_windows.SparseWindows(X, weights) for _ in range(2))
    assert one.kept is other.kept is not None
    part = X.part(slice(100, 2000))
    windows = sparse_windows.SparseWindows(part, weights[:1900])
    order = np.random.default_rng(0).permutation(1900).astype(np.int32)
    for window in windows.of(order, 10):
        values, indices, ends = window.rows
        found = sp.csr_array((values, indices.view("i4"), ends), shape=(len(ends) - 1, COLUMNS))
        rows = window.numbers[window.places]
        assert_same(found[window.places], part[rows])
        order = order[len(rows) :] if np.array_equal(order[: len(rows)], rows) else order
    assert not len(order)
