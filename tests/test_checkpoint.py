"""A run goes on from its checkpoint as if it had not been stopped; one of another run is refused by name."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from descend.checkpoint import NAMES, Checkpoint, find, opened
from descend.errors import InputError, ModelFileError, OutputError
from descend.features import Prepared, prepare
from descend.fitting import fit
from descend.growing import Growth
from descend.machine import package_versions
from descend.networks.fitting import fit_network
from descend.settings import Settings
from descend.sources import array_source, table_source
from descend.store import ingest
from descend.store.preparing import prepare_store
from descend.watching import Watch

ROWS = 2400


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the run may catch it."""


def rows(kind: str = "dense", classes: int = 2, seed: int = 0, **options: Any) -> Prepared:
    """Rows to train on: dense, sparse, wide, in small whole numbers, or of columns that say nearly the same."""
    rng = np.random.default_rng(seed)
    X: Any = rng.normal(size=(ROWS, 8)).astype(np.float32)
    scores = X @ rng.normal(size=(8, classes)) + rng.normal(size=(ROWS, classes))
    if kind == "alike":
        X = (X[:, :2] @ rng.normal(size=(2, 8)) + 0.003 * X).astype(np.float32)
        scores = 10 * (X @ rng.normal(size=(8, classes))) + rng.gumbel(size=scores.shape)
    if kind == "sparse":
        X = sp.csr_array(np.where(rng.random(X.shape) < 0.6, 0.0, X))
    if kind == "wide":
        more = sp.random_array((ROWS, 2592), density=0.005, format="csr", dtype=np.float32, rng=rng)
        X = sp.hstack([sp.csr_array(X), more], format="csr")
    if kind == "coded":
        X = np.clip(40 * X + 128, 0, 255).astype(np.uint8)
    return prepare(array_source(X, scores.argmax(axis=1)), **({"validation": 0.1} | options))


RUNS: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = {
    "one row": (fit, {}, {"optimizer": "sgd", "batch_size": 1, "epochs": 3, "dense": True}),
    "averaged": (fit, {"classes": 3}, {"optimizer": "sgd", "batch_size": 32, "epochs": 9, "dense": True}),
    "polyak": (fit, {}, {"optimizer": "sgd", "batch_size": 32, "epochs": 9, "average": "polyak", "dense": True}),
    "plateau": (fit, {}, {"optimizer": "momentum", "schedule": "plateau", "batch_size": 64, "epochs": 40}),
    "adam": (fit, {"classes": 3}, {"optimizer": "adam", "batch_size": 50, "epochs": 4, "schedule": "cosine"}),
    "nothing set": (fit, {"classes": 3}, {"batch_size": 32, "tol": 1e-9, "dense": True}),
    "saga": (fit, {}, {"optimizer": "saga", "batch_size": 1, "tol": 1e-9, "dense": True}),
    "slowed saga": (fit, {"kind": "alike"}, {"optimizer": "saga", "batch_size": 128, "epochs": 12, "dense": True}),
    "early stopping": (fit, {}, {"optimizer": "sgd", "batch_size": 16, "early_stopping": True}),
    "l1": (fit, {"classes": 3}, {"penalty": "l1", "alpha": 1e-2, "batch_size": 32}),
    "hinge": (fit, {}, {"loss": "hinge", "alpha": 1e-3}),
    "sampled": (fit, {"dtype": np.float64}, {"tol": 1e-15}),
    "lbfgs": (fit, {"classes": 3}, {"optimizer": "lbfgs", "tol": 1e-10}),
    "sparse sgd": (fit, {"kind": "sparse"}, {"optimizer": "sgd", "batch_size": 1, "epochs": 3, "dense": True}),
    "sparse, averaged": (fit, {"kind": "sparse"}, {"optimizer": "sgd", "batch_size": 8, "epochs": 4, "dense": True}),
    "sparse saga": (fit, {"kind": "sparse"}, {"batch_size": 8, "tol": 1e-9, "dense": True}),
    "sparse l1": (fit, {"kind": "sparse"}, {"penalty": "l1", "alpha": 1e-3}),
    "wide": (fit, {"kind": "wide"}, {"tol": 1e-5}),
    "wide, many outputs": (fit, {"kind": "wide", "classes": 3}, {"tol": 1e-5}),
    "coded": (fit, {"kind": "coded"}, {"batch_size": 32, "tol": 1e-9}),
    "network": (fit_network, {"classes": 3}, {"hidden": (9,), "batch_size": 16, "epochs": 6, "dense": True}),
    "network, sparse": (fit_network, {"kind": "sparse"}, {"hidden": (9,), "batch_size": 16, "epochs": 4}),
    "ladder": (
        fit_network,
        {"classes": 3},
        {"hidden": (9,), "optimizer": "momentum", "batch_size": 64, "early_stopping": True},
    ),
}  # fmt: skip


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint at every look."""
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)


def ends(run: Any) -> tuple[Any, ...]:
    """What has to be the same of two runs: parameters and reason to the bit, and the history's last row but times."""
    last = {name: value for name, value in run.history.last.items() if name != "seconds"}
    return run.model.parameters.tobytes(), run.stopped, last


def killed_each_time(call: Callable[[Checkpoint], Any], folder: Path, every: int) -> tuple[Any, int]:
    """The run that is killed after every so many checkpoints and resumed, again and again; how often it was."""
    save, count = Checkpoint.save, 0

    def save_and_die(self: Checkpoint, *args: Any, **named: Any) -> None:
        nonlocal count
        before = self._turns.num_written
        save(self, *args, **named)
        count += self._turns.num_written > before
        if count == every:
            count = 0
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        for kills in range(1000):
            try:
                with opened(folder, resume=True) as kept:
                    return call(kept), kills
            except Killed:
                pass
    raise AssertionError("the run comes to no end")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_is_killed_ends_as_one_that_is_not(name: str, often: None, tmp_path: Path) -> None:
    """Killed at its looks and resumed each time, a run ends with the same bits as in one go."""
    train, of, how = RUNS[name]
    prepared, settings = rows(**of), Settings(**how)
    run, kills = killed_each_time(
        lambda kept: train(prepared, settings, checkpoint=kept), tmp_path, 1 if "dense" not in how else 3
    )
    assert kills > 1
    assert ends(run) == ends(train(prepared, settings))


@pytest.mark.parametrize("train", [fit, fit_network])
def test_growing_batches_grow_as_they_did(
    train: Callable[..., Any], often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much larger batches are cheap is measured before the first step alone, whatever a clock says later."""
    module = "descend.fitting" if train is fit else "descend.networks.fitting"
    most = iter([4, 1, 2] + 100 * [1])
    monkeypatch.setattr(f"{module}.measure_growth", lambda *_: Growth(next(most), None))
    how = {
        "optimizer": "sgd",
        "batch_size": "growing",
        "schedule": "step",
        "learning_rate": 0.05,
        "epochs": 9,
    }
    prepared, settings = rows(), Settings(**how, hidden=(9,))
    run, kills = killed_each_time(lambda kept: train(prepared, settings, checkpoint=kept), tmp_path, 2)
    assert kills > 1
    monkeypatch.setattr(f"{module}.measure_growth", lambda *_: Growth(4, None))
    assert ends(run) == ends(train(prepared, settings))


@pytest.mark.parametrize(
    ("train", "how"),
    [
        (fit, {"optimizer": "sgd", "batch_size": 1, "epochs": 3, "dense": True}),
        (fit, {"batch_size": 32, "tol": 1e-9, "dense": True}),
        (fit, {"optimizer": "lbfgs"}),
        (fit_network, {"hidden": (9,), "batch_size": 16, "epochs": 4, "dense": True}),
    ],
)
@pytest.mark.parametrize("coded", [False, True])
def test_a_run_over_a_store_goes_on_streamed_or_loaded(
    coded: bool, train: Callable[..., Any], how: dict[str, Any], often: None, tmp_path: Path
) -> None:
    """Rows of a store that are streamed in one part of a run and loaded in the next give the same bits."""
    rng = np.random.default_rng(0)
    X: Any = rng.normal(size=(ROWS, 8)).astype(np.float32)
    y = X[:, 0] + X[:, 1] + rng.normal(size=ROWS) > 0
    X = np.clip(40 * X + 128, 0, 255).astype(np.uint8) if coded else X
    store = ingest(array_source(X, y), tmp_path / "store")
    parts, settings = [prepare_store(store, stream=stream) for stream in (True, False)], Settings(**how)
    assert [part.train.is_stored for part in parts] == [True, False]
    turns = iter(range(10**6))
    run, kills = killed_each_time(
        lambda kept: train(parts[next(turns) % 2], settings, checkpoint=kept), tmp_path / "run", 3
    )
    assert kills > 0
    assert ends(run) == ends(train(parts[1], settings))


@pytest.mark.parametrize("kind", ["dense", "sparse", "coded"])
@pytest.mark.parametrize("how", [{"optimizer": "sgd", "batch_size": 1, "epochs": 3}, {"batch_size": 8}])
def test_results_do_not_depend_on_the_clock(
    kind: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that jumps at random, so that epochs are looked into anywhere, changes no bit of the result."""
    monkeypatch.setattr("descend.engines.sparse.PIECE", 3000)
    monkeypatch.setattr("descend.engines.sparse.WRITTEN_SHARE", 1)
    prepared, results = rows(kind), []
    for seed in range(3):
        rng, now = random.Random(seed), 0.0

        def clock(rng: random.Random = rng) -> float:
            nonlocal now
            now += rng.choice([1e-6, 1e-3, 0.3])
            return now

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "perf_counter", clock)
            run = fit(prepared, Settings(**how))
        results.append(run.model.parameters.tobytes())
    assert results[0] == results[1] == results[2]


def test_a_run_that_a_callback_ends_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Asked to end at any look, a run saves itself first, and resumed it ends as if nobody had asked."""
    train, of, how = RUNS["network"]
    prepared, settings = rows(**of), Settings(**how)
    whole = train(prepared, settings)
    for look in (2, 4, 6):
        folder = tmp_path / str(look)
        seen: list[int] = []

        def ask(_: Any, seen: list[int] = seen, look: int = look) -> bool:
            seen.append(1)
            return len(seen) == look

        with opened(folder, resume=False) as kept:
            run = train(prepared, settings, callbacks=[ask], checkpoint=kept)
        assert run.stopped == "interrupted"
        with opened(folder, resume=True) as kept:
            assert kept.found is not None
            again = train(prepared, settings, checkpoint=kept)
        assert ends(again) == ends(whole)


@pytest.mark.parametrize("name", ["one row", "nothing set", "hinge", "early stopping", "network"])
def test_a_run_that_has_ended_is_not_trained_again(name: str, tmp_path: Path) -> None:
    """Resumed behind its end, a run gives the same model and history without a step."""
    train, of, how = RUNS[name]
    prepared, settings = rows(**of), Settings(**how)
    with opened(tmp_path, resume=False) as kept:
        run = train(prepared, settings, checkpoint=kept)
    with opened(tmp_path, resume=True) as kept, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watch, "parts", lambda *_: pytest.fail("it trains"))
        again = train(prepared, settings, checkpoint=kept)
    assert ends(again) == ends(run)
    assert again.history["loss"] == run.history["loss"]


def test_more_epochs_go_on_where_fewer_ended(tmp_path: Path) -> None:
    """Ended by its number of epochs, a run goes on with a higher one to what that comes to in one go."""
    prepared, how = rows(), {"optimizer": "momentum", "batch_size": 32, "learning_rate": 0.01}
    for epochs in (2, 3, 30):
        with opened(tmp_path, resume=True) as kept:
            run = fit(prepared, Settings(**how, epochs=epochs), checkpoint=kept)
    assert ends(run) == ends(fit(prepared, Settings(**how, epochs=30)))
    with opened(tmp_path, resume=True) as kept, pytest.raises(InputError, match="in epoch 30 already"):
        fit(prepared, Settings(**how, epochs=20), checkpoint=kept)


def test_time_that_was_trained_counts(tmp_path: Path) -> None:
    """A budget of seconds is that of all parts of a run together, and a larger one goes on."""
    prepared, how = rows(), {"optimizer": "sgd", "batch_size": 1, "epochs": 10**6}
    with opened(tmp_path, resume=False) as kept:
        first = fit(prepared, Settings(**how, seconds=0.3), checkpoint=kept)
    with opened(tmp_path, resume=True) as kept:
        same = fit(prepared, Settings(**how, seconds=0.3), checkpoint=kept)
    assert first.stopped == same.stopped == "time"
    assert same.history.last["updates"] == first.history.last["updates"]
    with opened(tmp_path, resume=True) as kept:
        more = fit(prepared, Settings(**how, seconds=0.6), checkpoint=kept)
    assert more.history.last["updates"] > first.history.last["updates"]
    assert more.history.last["seconds"] >= 0.6


# --- which run it is --------------------------------------------------------------------------------


def other_rows() -> Prepared:
    prepared = rows()
    prepared.train.X[17, 3] += 0.5
    return prepared


def weighted(prepared: Prepared) -> Prepared:
    from dataclasses import replace

    weights = np.linspace(0.5, 1.5, prepared.train.num_rows)
    return replace(prepared, train=replace(prepared.train, weights=weights))


def named(*names: str) -> Prepared:
    rng = np.random.default_rng(0)
    table = pa.table({name: rng.normal(size=ROWS) for name in names} | {"y": np.arange(ROWS) % 2})
    return prepare(table_source(table, target="y"), task="classification")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.01}, "alpha 0.0001, this one has 0.01"),
        ({"seed": 5}, "seed 0, this one has 5"),
        ({"batch_size": 64}, "batch_size 32, this one has 64"),
        ({"learning_rate": 0.2}, 'learning_rate auto, this one has 0.2'),
        ({"loss": "hinge"}, "loss null, this one has hinge"),
        ({"optimizer": "adam"}, "optimizer sgd, this one has adam"),
        ({"epochs": None}, "epochs 4, this one has null"),
        ({"average": False}, "average auto, this one has false"),
    ],
)  # fmt: skip
def test_a_run_of_other_settings_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A setting that decides the result is refused with its name and both values, and the files stay."""
    prepared, how = rows(), {"optimizer": "sgd", "batch_size": 32, "epochs": 4}
    with opened(tmp_path, resume=False) as kept:
        fit(prepared, Settings(**how), checkpoint=kept)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with opened(tmp_path, resume=True) as kept, pytest.raises(InputError, match=message):
        fit(prepared, Settings(**(how | change)), checkpoint=kept)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_rows, "other data: checksum"),
        (lambda: rows(seed=1), "other labels|other data"),
        (lambda: rows(validation=0.2), r"validation rows \d+, this one has \d+"),
        (lambda: rows(classes=3), "without the class '2'"),
        (lambda: weighted(rows()), "other weights"),
    ],
)
def test_a_run_of_other_data_is_refused(make: Callable[[], Prepared], message: str, tmp_path: Path) -> None:
    """Other rows, numbers, labels, weights or classes than the checkpoint's are refused by name."""
    with opened(tmp_path, resume=False) as kept:
        fit(rows(), Settings(), checkpoint=kept)
    with opened(tmp_path, resume=True) as kept, pytest.raises(InputError, match=message):
        fit(make(), Settings(), checkpoint=kept)


def test_a_run_of_other_columns_is_refused(tmp_path: Path) -> None:
    """A column that is missing, that is new, or that stands elsewhere is refused with its name."""
    with opened(tmp_path, resume=False) as kept:
        fit(named("a", "b", "c"), Settings(), checkpoint=kept)
    for names, message in {
        ("a", "b"): "with the column 'c', which is not here",
        ("a", "b", "c", "d"): "without the column 'd', which is here",
        ("b", "a", "c"): "columns in another order",
    }.items():
        with opened(tmp_path, resume=True) as kept, pytest.raises(InputError, match=message):
            fit(named(*names), Settings(), checkpoint=kept)


def test_a_network_is_no_linear_model(tmp_path: Path) -> None:
    """The folder of a linear model is refused to a network, with both names."""
    with opened(tmp_path, resume=False) as kept:
        fit(rows(), Settings(), checkpoint=kept)
    with (
        opened(tmp_path, resume=True) as kept,
        pytest.raises(InputError, match="model linear, this one has mlp"),
    ):
        fit_network(rows(), Settings(), checkpoint=kept)


def test_what_changes_no_bit_may_change(tmp_path: Path) -> None:
    """Threads and a budget of seconds are no part of a run's identity."""
    prepared = rows()
    with opened(tmp_path, resume=False) as kept:
        run = fit(prepared, Settings(threads=1), checkpoint=kept)
    with opened(tmp_path, resume=True) as kept:
        again = fit(prepared, Settings(threads=2, seconds=60.0), checkpoint=kept)
    assert ends(again) == ends(run)


@pytest.mark.parametrize("how", [{"schedule": "cosine", "optimizer": "sgd"}, {"optimizer": "lbfgs"}])
def test_epochs_that_shape_a_run_stay(how: dict[str, Any], tmp_path: Path) -> None:
    """Where more follows from the number of epochs than the end, another number is refused with the reason."""
    with opened(tmp_path, resume=False) as kept:
        fit(rows(), Settings(**how, epochs=3), checkpoint=kept)
    with opened(tmp_path, resume=True) as kept, pytest.raises(InputError, match="epochs 3, and 9 are wanted"):
        fit(rows(), Settings(**how, epochs=9), checkpoint=kept)


def test_other_versions_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was begun with another NumPy goes on, and says that its last digits may differ."""
    prepared = rows()
    with opened(tmp_path, resume=False) as kept:
        fit(prepared, Settings(), checkpoint=kept)
    with opened(tmp_path, resume=True) as kept:
        assert not any(
            "begun with" in note for note in fit(prepared, Settings(), checkpoint=kept).history.notes
        )
    monkeypatch.setattr("descend.identity.package_versions", lambda: package_versions() | {"numpy": "9.0"})
    with opened(tmp_path, resume=True) as kept:
        notes = fit(prepared, Settings(), checkpoint=kept).history.notes
    assert any(f"begun with numpy {np.__version__}, now 9.0" in note for note in notes)


def test_a_run_that_remembers_other_things_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of a descend whose runs had other fields is told by its name, before anything is put back."""
    monkeypatch.setattr("descend.checkpoint.OF_THE_WATCH", ("seconds", "best"))
    with opened(tmp_path, resume=False) as kept:
        fit(rows(), Settings(), checkpoint=kept)
    monkeypatch.undo()
    with (
        pytest.raises(ModelFileError, match="is not of this version of descend"),
        opened(tmp_path, resume=True),
    ):
        pass


# --- the folder -------------------------------------------------------------------------------------


def test_a_folder_with_a_run_is_refused_without_resume(tmp_path: Path) -> None:
    """Without ``resume`` a run that is there stays; with it a folder that is empty or missing begins one."""
    folder = tmp_path / "deep" / "run"
    with opened(folder, resume=True) as kept:
        assert kept.found is None
        fit(rows(), Settings(), checkpoint=kept)
    with pytest.raises(InputError, match="holds a run already; take --resume"):
        opened(folder, resume=False).__enter__()


def test_a_call_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    """A folder that was made for a run that never began is taken away; one that was there stays."""
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with pytest.raises(InputError), opened(tmp_path / name, resume=False):
            raise InputError("no such column")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A folder that a run is saved into is refused to another one, with the number of its process."""
    with opened(tmp_path, resume=True), pytest.raises(InputError, match=r"in use by process \d+"):
        opened(tmp_path, resume=True).__enter__()


@pytest.fixture
def two(tmp_path: Path, often: None) -> Path:
    """A folder with two checkpoints of one run."""
    with opened(tmp_path, resume=False) as kept:
        fit(rows(), Settings(optimizer="sgd", batch_size=32, epochs=5), checkpoint=kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    return tmp_path


def test_a_damaged_newest_falls_back_to_the_other(two: Path) -> None:
    """Where the newest file is damaged the other one is taken, with a note, and leads to the same bits."""
    prepared, settings = rows(), Settings(optimizer="sgd", batch_size=32, epochs=5)
    newest, notes = find(two)
    assert newest is not None
    assert not notes
    content = (two / newest.name).read_bytes()
    (two / newest.name).write_bytes(content[:-1])
    with opened(two, resume=True) as kept:
        assert kept.found is not None
        assert kept.found.serial == newest.serial - 1
        assert "is damaged" in kept.notes[0]
        assert "going on from the other one" in kept.notes[0]
        run = fit(prepared, settings, checkpoint=kept)
    assert ends(run) == ends(fit(prepared, settings))


def test_two_damaged_files_are_told(two: Path) -> None:
    """Where no file is whole the run is refused with the name of one, and none is written over."""
    for name in NAMES:
        (two / name).write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match=r"checkpoint '.*' is a text file"):
        opened(two, resume=True).__enter__()
    assert all((two / name).read_bytes() == b"nothing" for name in NAMES)


def test_a_model_is_no_checkpoint(two: Path) -> None:
    """A model file in the place of a checkpoint is told by its kind."""
    run = fit(rows(), Settings())
    for name in NAMES:
        run.model.save(two / name, force=True)
    with pytest.raises(ModelFileError, match=r"says it is 'descend\.model'"):
        find(two)


def test_any_damage_is_noticed(two: Path) -> None:
    """A byte changed anywhere, or an end cut off, is never taken for whole."""
    rng = random.Random(0)
    newest, _ = find(two)
    assert newest is not None
    content = (two / newest.name).read_bytes()
    for _ in range(300):
        place = rng.randrange(len(content))
        damaged = bytearray(content[:place] if rng.random() < 0.3 else content)
        if len(damaged) == len(content):
            damaged[place] ^= rng.randrange(1, 256)
        (two / newest.name).write_bytes(damaged)
        found, notes = find(two)
        assert found is not None
        assert found.serial == newest.serial - 1
        assert notes


@pytest.mark.parametrize("save", [1, 2, 5])
def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(
    save: int, often: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the n-th checkpoint cannot be written the run ends with one message, and the one before it is whole."""
    import os

    sync, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count == 2 * save - 1:  # each file is flushed, and then its folder
            raise OSError(28, "No space left on device")
        sync(handle)

    prepared, settings = rows(), Settings(optimizer="sgd", batch_size=32, epochs=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with (
            opened(tmp_path, resume=False) as kept,
            pytest.raises(OutputError, match="No space left") as caught,
        ):
            fit(prepared, settings, checkpoint=kept)
    assert ("nothing of this run was saved" if save == 1 else "is there, and --resume goes on") in str(
        caught.value
    )
    assert not list(tmp_path.glob("*.tmp"))
    with opened(tmp_path, resume=True) as kept:
        assert (kept.found is None) == (save == 1)
        run = fit(prepared, settings, checkpoint=kept)
    assert ends(run) == ends(fit(prepared, settings))


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    """A file in the making whose process was killed is removed by the next run, and nothing else is."""
    (tmp_path / ".descend-0123456789ab.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path, resume=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
