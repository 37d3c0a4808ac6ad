"""Training from a store that is not loaded: the model that rows in memory give, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend import machine
from descend.batches import STRIP
from descend.engines import windows
from descend.engines.base import Rule, State
from descend.engines.choose import make_engine
from descend.errors import InputError, SourceError
from descend.fitting import fit
from descend.networks.fitting import fit_network
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.store import open_store
from descend.store import rows as stored
from descend.store.preparing import prepare_store
from descend.updates import OPTIMIZERS
from tests.store.stores import make_store


@pytest.fixture(autouse=True, params=["read", "mapped for a while", "half of it stays", "mapped to stay"])
def small_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a few strips, so that a small store has many; rows are copied, or used where the system has them."""
    monkeypatch.setattr(stored, "WINDOW_BYTES", 5 * STRIP * 28)
    monkeypatch.setattr(stored.StoredRows, "in_place_rows", 5 * STRIP)
    if request.param == "read":
        monkeypatch.setattr("descend.store.in_place.can_map", lambda _: False)
    staying = {"half of it stays": 40_000, "mapped to stay": 10**9}.get(request.param, 0)
    monkeypatch.setattr("descend.store.preparing.spare_bytes", lambda *_: staying)


def runs(folder: Path, train: Any, options: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
    """The same training on a loaded and on a stored set of rows."""
    store = make_store(folder, **options)
    return tuple(  # type: ignore[return-value]
        train(prepare_store(store, stream=stream), Settings(seed=3, **settings)) for stream in (False, True)
    )


LINEAR: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "auto": ({"heavy": True}, {}),
    "auto, in order": ({"heavy": True, "num_rows": 13_000}, {"shuffle": False}),
    "one row at a time": ({}, {"optimizer": "sgd", "batch_size": 1, "epochs": 2}),
    "heavy rows come again": ({"heavy": True}, {"optimizer": "sgd", "batch_size": 32, "epochs": 2}),
    "weights": ({"weighted": True, "heavy": True}, {"optimizer": "adam", "batch_size": 50, "epochs": 2}),
    "SAGA's table": ({"heavy": True, "weighted": True}, {"batch_size": 16, "optimizer": "saga", "epochs": 3}),
    "L-BFGS": ({"kind": "three", "heavy": True}, {"optimizer": "lbfgs"}),
    "every row at once": ({"kind": "numbers"}, {"optimizer": "sgd", "batch_size": "full", "epochs": 5}),
    "solved": ({"kind": "numbers", "weighted": True}, {}),
    "L1": ({}, {"penalty": "l1", "alpha": 0.01}),
    "bytes": ({"small": True}, {"optimizer": "sgd", "batch_size": 32, "epochs": 2}),
    "bytes, auto": ({"small": True, "kind": "three"}, {}),
    "averages at looks": ({}, {"optimizer": "sgd", "batch_size": 10, "epochs": 3, "dense": True}),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_are_the_same_to_the_last_bit(tmp_path: Path, name: str) -> None:
    """Parameters and the losses seen on the way do not tell whether rows were loaded or read from the store."""
    loaded, streamed = runs(tmp_path / "s", fit, LINEAR[name][0], **LINEAR[name][1])
    assert np.array_equal(loaded.model.parameters, streamed.model.parameters)
    assert loaded.stopped == streamed.stopped
    assert loaded.history["loss"][-1] == pytest.approx(streamed.history["loss"][-1], rel=1e-12)


def test_newtons_steps_are_the_same_but_for_rounding(tmp_path: Path) -> None:
    """A Hessian is added up from windows, and the models agree to float32's digits."""
    loaded, streamed = runs(
        tmp_path / "s", fit, {"kind": "three"}, optimizer="newton", penalty="l2", alpha=0.01
    )
    np.testing.assert_allclose(loaded.model.parameters, streamed.model.parameters, rtol=1e-3, atol=1e-4)


NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "small batches": ({"kind": "three", "weighted": True}, {"batch_size": 24, "epochs": 2}),
    "large batches": ({}, {"batch_size": 1500, "epochs": 2}),
    "every row at once": ({"kind": "numbers"}, {"batch_size": "full", "epochs": 3}),
    "bytes": ({"small": True}, {"batch_size": 32, "epochs": 2}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_the_same_to_the_last_bit(tmp_path: Path, name: str) -> None:
    """A network's parameters do not tell whether its rows were loaded or read from the store."""
    options, settings = NETWORKS[name]
    loaded, streamed = runs(tmp_path / "s", fit_network, options, hidden=(6,), **settings)
    assert np.array_equal(loaded.model.parameters, streamed.model.parameters)


@pytest.mark.parametrize("optimizer", ["sgd", "saga"])
def test_batches_too_large_to_be_held_are_added_up(
    tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of more bytes than are read at a time takes the step of its rows, but for rounding."""
    monkeypatch.setattr(windows, "BATCH_BYTES", 100 * 28)
    store = make_store(tmp_path / "s", heavy=True)
    found = []
    for stream in (False, True):
        data = prepare_store(store, stream=stream).train
        weights = np.linspace(0.5, 1.5, data.num_rows)
        engine = make_engine(data, LOSSES["log_loss"], Penalty(0.01), weights=weights)
        state = State(np.zeros((1, 8), dtype=np.float32))
        rule = Rule(OPTIMIZERS[optimizer], 0.1, full_term=1.0, single_term=10.0, num_steps=9)
        order = np.random.default_rng(0).integers(0, data.num_rows, 2500).astype(np.int32)
        engine.run(state, rule, order, 700)
        found.append(state)
    np.testing.assert_allclose(found[0].parameters, found[1].parameters, rtol=1e-4, atol=1e-6)
    assert found[0].visits == found[1].visits
    assert found[0].steps == found[1].steps


def test_rows_anywhere_make_the_steps_they_make_in_memory(tmp_path: Path) -> None:
    """An order that jumps to a new strip with every row is walked as it is, in SAGA with its table."""
    store = make_store(tmp_path / "s")
    order = np.random.default_rng(0).permutation(2700)[:900].astype(np.int32)
    found = []
    for stream in (False, True):
        data = prepare_store(store, stream=stream).train
        engine = make_engine(data, LOSSES["log_loss"], Penalty(0.01))
        state = State(np.zeros((1, 8), dtype=np.float32))
        engine.run(state, Rule(OPTIMIZERS["saga"], 0.1, full_term=1.0, single_term=10.0), order, 300)
        found.append(state)
    assert np.array_equal(found[0].parameters, found[1].parameters)
    assert np.array_equal(found[0].table, found[1].table)


@pytest.mark.parametrize("small", [False, True])
def test_heavy_rows_are_kept_and_decide_on_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """With room for all heavy rows, for some, and for none the steps are the same; with room few rows are read."""
    monkeypatch.setattr(stored.StoredRows, "in_place", None)  # as where files cannot be mapped
    store = make_store(tmp_path / "s", heavy=True, small=small)
    found, read = [], []
    for room in (10**9, 2000, 0):
        monkeypatch.setattr("descend.store.preparing.spare_bytes", lambda *_, room=room: room)
        data = prepare_store(store, stream=True, validation=0.0).train
        heavy = np.random.default_rng(0).random(3000) < 0.1
        weights = np.where(heavy, 0.5, 1.0)
        visits = np.concatenate([np.arange(3000), np.flatnonzero(heavy)]).astype(np.int32)
        order = visits[np.argsort(visits // 640 + np.random.default_rng(1).random(len(visits)))]
        order[-400:] = np.random.default_rng(2).permutation(np.flatnonzero(heavy))[:200].repeat(2)
        states, rows = [], 0
        for optimizer in ("sgd", "saga"):
            engine = make_engine(data, LOSSES["log_loss"], Penalty(0.01), weights=weights)
            read_runs = data.X.blocks.read_runs  # type: ignore[attr-defined]

            def counted(runs: Any, room: Any, read_runs: Any = read_runs) -> None:
                nonlocal rows
                rows += sum(count for _, count in runs)
                read_runs(runs, room)

            monkeypatch.setattr(data.X.blocks, "read_runs", counted)  # type: ignore[attr-defined]
            state = State(np.zeros((1, 8), dtype=np.float32))
            rule = Rule(OPTIMIZERS[optimizer], 0.1, full_term=1.0, single_term=10.0)
            engine.run(state, rule, order, 8)
            monkeypatch.setattr(data.X.blocks, "read_runs", read_runs)  # type: ignore[attr-defined]
            states.append(state)
        found.append(states)
        read.append(rows)
    for states in found[1:]:
        for one, other in zip(found[0], states, strict=True):
            assert np.array_equal(one.parameters, other.parameters)
    assert np.array_equal(found[0][1].table, found[2][1].table)
    assert read[0] < 0.7 * read[2]


def test_sums_over_any_rows_are_those_of_the_array(tmp_path: Path) -> None:
    """``loss_and_gradient`` of some rows, given as a slice or by number, is the loaded rows'."""
    store = make_store(tmp_path / "s", weighted=True)
    one, other = (
        make_engine(prepare_store(store, stream=s).train, LOSSES["log_loss"], Penalty(0.01))
        for s in (False, True)
    )
    at = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    for rows in (slice(10, 1700), np.array([5, 2000, 5, 77])):
        a, b = one.loss_and_gradient(at, rows), other.loss_and_gradient(at, rows)
        assert (a.loss, a.weight) == pytest.approx((b.loss, b.weight))
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-5)


def test_a_block_damaged_in_the_midst_ends_training_with_its_name(tmp_path: Path) -> None:
    """A file cut while it is trained on is one error that names it, and no model comes of it."""
    store = make_store(tmp_path / "s")
    prepared = prepare_store(store, stream=True)

    def cut(seen: Any) -> bool:
        if seen.epoch >= 2:
            with store.path(1).open("r+b") as file:
                file.truncate(100)
        return False

    with pytest.raises(SourceError, match=r"block-00001\.bin"):
        fit(prepared, Settings(optimizer="sgd", batch_size=32, epochs=6), callbacks=[cut])


def test_rows_are_loaded_where_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows stay in the store from the limit on that they fill to more than half; a note says which, and why."""
    store = make_store(tmp_path / "s", num_rows=100_000, num_columns=20, block_rows=65_536)
    monkeypatch.setattr("descend.store.keeping.status_bytes", lambda field: 260 * 10**6)
    monkeypatch.setattr(machine, "status_bytes", lambda field: 260 * 10**6)
    loaded = prepare_store(store, memory_limit=280 * 10**6)
    streamed = prepare_store(store, memory_limit=270 * 10**6)
    assert not loaded.train.is_stored
    assert "8.1 MB fit into memory" in loaded.notes[-1]
    assert streamed.train.is_stored
    assert streamed.validation is not None
    assert streamed.validation.is_stored
    assert "8.1 MB do not fit the limit of 270 MB, of which 10 MB are free" in streamed.notes[-1]
    with pytest.raises(InputError, match=r"needs more memory than the limit of 261 MB leaves"):
        prepare_store(store, memory_limit=261 * 10**6)


def test_the_rows_set_aside_are_the_last_ones(tmp_path: Path) -> None:
    """Validation rows are a share at the end of the store; weights have mean 1 over the training rows."""
    store = make_store(tmp_path / "s", weighted=True)
    prepared = prepare_store(store, validation=0.25)
    assert (prepared.train.num_rows, prepared.num_rows) == (2250, 3000)
    assert prepared.train.weights is not None
    assert prepared.train.weights.mean() == pytest.approx(1.0)
    last = np.concatenate([y for _, y, _ in store.blocks()])[2250:]
    assert prepared.validation is not None
    assert np.array_equal(prepared.validation.y, last)


@pytest.mark.parametrize("stream", [False, True])
def test_a_class_takes_a_byte_a_row_of_memory(tmp_path: Path, stream: bool) -> None:
    """Of eight in the store: kernels get what they get of arrays."""
    prepared = prepare_store(make_store(tmp_path / "s", kind="three"), stream=stream)
    assert prepared.train.y.dtype == np.int8
    assert set(np.unique(prepared.train.y)) == {0, 1, 2}
    numbers = prepare_store(make_store(tmp_path / "n", kind="numbers"), stream=stream)
    assert numbers.train.y.dtype == np.float64


def test_numbers_are_scaled_when_training_starts(tmp_path: Path) -> None:
    """A target of numbers has mean 0 and deviation 1 over the store, and the model answers in its units."""
    store = open_store(make_store(tmp_path / "s", kind="numbers").folder)
    prepared = prepare_store(store, validation=0.0)
    assert prepared.train.y.mean() == pytest.approx(0.0, abs=1e-12)
    assert prepared.train.y.std() == pytest.approx(1.0)
    plain = prepare_store(store, validation=0.0, scale_target=False)
    assert np.array_equal(plain.train.y, np.concatenate([y for _, y, _ in store.blocks()]))


def test_a_task_that_is_not_the_stores_is_refused(tmp_path: Path) -> None:
    """The store's own task is accepted; another is an error that says to ingest again."""
    store = make_store(tmp_path / "s")
    assert prepare_store(store, task="classification").target.task == "classification"
    with pytest.raises(
        InputError, match="ingested for classification; leave it out, or ingest the data again"
    ):
        prepare_store(store, task="regression")
