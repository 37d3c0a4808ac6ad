"""Training straight from files: on sorted rows as low as in memory, with a warning; refused where that is not so."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from descend.checkpoint import opened
from descend.engines.choose import make_engine
from descend.errors import InputError, SourceError
from descend.features import prepare
from descend.features.prepare_source import tell_order
from descend.fitting import fit
from descend.machine import Room
from descend.settings import Settings
from descend.source_fitting import fit_from_source
from descend.sources import open_source
from descend.target_objective import find_objective

ROWS, WINDOW = 12_000, 1500
PLAIN = Settings(optimizer="sgd", epochs=5, threads=2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut and read small files as large ones are."""
    for name in ("READ_BYTES", "FEWEST_BYTES"):
        monkeypatch.setattr(f"descend.sources.line_ranges.{name}", 16_384)
    monkeypatch.setattr("descend.sources.limits.MAX_BLOCK_ROWS", 1000)
    monkeypatch.setattr("descend.sources.limits.MAX_TABLE_BYTES", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows sorted by label: as text, in 12 row groups, and compressed."""
    folder = tmp_path_factory.mktemp("sorted")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 8)) @ rng.normal(size=(8, 8))
    scores = X @ rng.normal(size=8)
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-1.5 * scores / scores.std()))).astype(int)
    order = np.argsort(y, kind="stable")
    table = pa.table({**{f"c{i}": X[order, i].round(5) for i in range(8)}, "y": y[order]})
    pyarrow.csv.write_csv(table, folder / "rows.csv")
    with pa.CompressedOutputStream(str(folder / "rows.csv.gz"), "gzip") as sink:
        pyarrow.csv.write_csv(table, sink)
    pq.write_table(table, folder / "rows.parquet", row_group_size=1000)
    return folder


def stays(folder, kind="csv", validation=0.0, seed=0, window=WINDOW, source=None):
    prepared = prepare(
        open_source(folder / (source or f"rows.{kind}"), target="y"),
        validation=validation,
        seed=seed,
        in_source=True,
    )
    prepared.train.X.window_rows = window
    tell_order(prepared.train.X, prepared.learned.clustering)
    return prepared


@pytest.mark.parametrize("kind", ["csv", "parquet", "csv.gz"])
def test_sorted_files_are_learnt_as_in_memory(folder, kind):
    """Five epochs over a file sorted by label leave at most three times the excess loss of a shuffle in memory."""
    loaded = prepare(open_source(folder / "rows.csv", target="y"), validation=0.0)
    loss, penalty = find_objective(loaded.train, loaded.target, Settings())
    engine = make_engine(loaded.train, loss, penalty)
    lowest = engine.mean_loss(fit(loaded, Settings(tol=1e-9)).model.parameters)
    in_memory = np.mean(
        [engine.mean_loss(fit(loaded, replace(PLAIN, seed=s)).model.parameters) for s in (0, 1)]
    )
    streamed = [
        engine.mean_loss(
            fit_from_source(stays(folder, kind, seed=s), replace(PLAIN, seed=s)).model.parameters
        )
        for s in (0, 1)
    ]
    assert max(streamed) - lowest < 3 * (in_memory - lowest)


def test_the_order_of_the_file_is_told(folder):
    """A sorted file is said to be sorted, with the share, and ``descend ingest`` is named; a mixed one is not."""
    found = stays(folder).train.X
    assert found.warning is not None
    assert "the target changes from one part of the file to the next (9" in found.warning
    assert "descend ingest" in found.warning
    mixed = pyarrow.csv.read_csv(folder / "rows.csv").take(np.random.default_rng(0).permutation(ROWS))
    pyarrow.csv.write_csv(mixed, folder / "mixed.csv")
    calm = stays(folder, source="mixed.csv")
    assert calm.train.X.warning is None
    assert calm.train.X.readings == 1


def test_results_repeat_whatever_the_threads(folder):
    """The same seed gives the same parameters with one thread and with three."""
    one, three = (
        fit_from_source(stays(folder, validation=0.1), Settings(epochs=2, threads=threads))
        for threads in (1, 3)
    )
    assert np.array_equal(one.model.parameters, three.model.parameters)
    assert one.optimizer == "sgd"
    other = fit_from_source(stays(folder, validation=0.1), Settings(epochs=2, seed=1))
    assert not np.array_equal(one.model.parameters, other.model.parameters)


def test_a_run_ends_by_itself(folder):
    """Without epochs a run ends when nothing is gained, by validation rows where there are some."""
    run = fit_from_source(stays(folder), Settings())
    assert run.stopped == "converged"
    early = fit_from_source(stays(folder, validation=0.2), Settings(early_stopping=True))
    assert early.stopped in ("early_stopping", "converged")
    assert early.history.last["validation_loss"] is not None


def test_full_batch_reads_every_row_for_a_step(folder):
    """The full batch goes down step by step as it does in memory."""
    settings = Settings(batch_size="full", epochs=30, standardize=True)
    run = fit_from_source(stays(folder), settings)
    loaded = prepare(open_source(folder / "rows.csv", target="y"), validation=0.0)
    same = fit(loaded, replace(settings, optimizer="nesterov"))
    assert run.optimizer == "nesterov"
    assert run.history.last["updates"] == 30
    assert run.history.last["loss"] == pytest.approx(same.history.last["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (Settings(optimizer="saga"), "optimizer 'saga': rows does not fit .* descend ingest"),
        (Settings(optimizer="lbfgs"), "optimizer 'lbfgs': rows does not fit .* descend ingest"),
        (Settings(batch_size=WINDOW + 1), "batch size 1,501: rows does not fit .* 1,500 rows at a time"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(folder, settings, told):
    """An optimizer that comes back to single rows, or a batch larger than a window, is refused with what to do."""
    with pytest.raises(InputError, match=told):
        fit_from_source(stays(folder), settings)


def test_a_file_that_changes_while_training_is_told(folder, tmp_path):
    """Rows added or lost between two epochs end the run with the name of the data."""
    path = tmp_path / "rows.csv"
    path.write_bytes((folder / "rows.csv").read_bytes())
    prepared = prepare(open_source(path, target="y"), validation=0.0, in_source=True)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(SourceError, match=r"rows\.csv changed while it was read"):
        fit_from_source(prepared, PLAIN)


def test_ctrl_c_keeps_what_was_learnt(folder):
    """A callback that stops, as Ctrl-C does, leaves a model and no thread that reads on."""
    run = fit_from_source(stays(folder), PLAIN, callbacks=[lambda seen: seen.updates > 20])
    assert run.stopped == "interrupted"
    assert run.model.parameters.any()


def test_divergence_is_told_with_its_column(folder):
    """A rate far too high is a run that diverged, with the bound."""
    run = fit_from_source(stays(folder), replace(PLAIN, learning_rate=1e6))
    assert run.stopped == "diverged"
    assert "2/L" in run.history.notes[-1]


@pytest.mark.parametrize("window", [WINDOW, 4 * WINDOW])
def test_a_run_that_is_taken_up_again_ends_in_the_same_bits(folder, tmp_path, window):
    """Ended in the midst of an epoch and resumed, a run ends as in one go; with other windows it is refused."""
    settings = replace(PLAIN, epochs=3, dense=True)
    whole = fit_from_source(stays(folder, window=window), settings)
    with opened(tmp_path / "kept", resume=False) as kept:
        run = fit_from_source(
            stays(folder, window=window), settings, callbacks=[lambda seen: seen.epoch > 1.3], checkpoint=kept
        )
    assert run.stopped == "interrupted"
    with opened(tmp_path / "kept", resume=True) as kept:
        again = fit_from_source(stays(folder, window=window), settings, checkpoint=kept)
    assert np.array_equal(again.model.parameters, whole.model.parameters)
    with (
        opened(tmp_path / "kept", resume=True) as kept,
        pytest.raises(InputError, match="rows in a window"),
    ):
        fit_from_source(stays(folder, window=window + 1), settings, checkpoint=kept)


def test_what_is_held_in_memory_does_not_hang_on_a_little_of_it(folder, monkeypatch):
    """With somewhat more memory free the same rows are held, so that a run can be taken up again."""
    monkeypatch.setattr("descend.features.prepare_source.FEWEST_SAMPLE_ROWS", 64)
    held = []
    for free in (300_000, 330_000, 390_000):
        monkeypatch.setattr(
            "descend.features.prepare_source.find_rooms", lambda _, free=free: [Room(free, "a test")]
        )
        prepared = stays(folder, validation=0.3)
        assert prepared.validation.num_rows < 0.3 * ROWS / 2
        held.append((prepared.validation.X.tobytes(), prepared.train.X.sample.X.tobytes()))
    assert held[0] == held[1] == held[2]
