"""Rows that stay in their source: the engine that reads them takes the steps of the engine that holds them."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from support import rule

from descend.batches import Stretch, VisitsAsRead, shuffle
from descend.engines.base import State
from descend.engines.choose import make_engine
from descend.engines.sourced import SourcedEngine
from descend.features import prepare
from descend.objectives.losses import LOG_LOSS, LOSSES, SOFTMAX_LOSS
from descend.objectives.penalties import Penalty
from descend.sources import open_source
from descend.types import Dataset

ROWS = 1500


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut a file of some kilobytes into many parts; no row counts as heavy."""
    monkeypatch.setattr("descend.features.heavy_rows.HEAVY", 1e6)
    for name in ("READ_BYTES", "FEWEST_BYTES"):
        monkeypatch.setattr(f"descend.sources.line_ranges.{name}", 4096)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    X = rng.uniform(-1.0, 1.0, size=(ROWS, 6))
    scores = X @ rng.normal(size=(6, 3)) + 0.5 * rng.normal(size=(ROWS, 3))
    columns = {f"x{i}": X[:, i] for i in range(6)} | {"w": rng.uniform(0.5, 2.0, ROWS)}
    for name, y in (
        ("two", (scores[:, 0] > 0).astype(int)),
        ("three", scores.argmax(1)),
        ("number", scores[:, 0]),
    ):
        pyarrow.csv.write_csv(pa.table(columns | {"y": y}), folder / f"{name}.csv")
    lines = [f"{int(s > 0)} " + " ".join(f"{1 + j}:{x:.4f}" for j, x in enumerate(row) if x > 0)
             for row, s in zip(X, scores[:, 0], strict=True)]  # fmt: skip
    (folder / "sparse.svm").write_text("\n".join(lines))
    return folder


LOSS = {"two": LOG_LOSS, "three": SOFTMAX_LOSS, "number": LOSSES["squared_error"], "sparse": LOG_LOSS}


def both(folder, name, window=130, weights=None, **options):
    """The engine that reads, and the one that holds the same rows in the order in which they lie."""
    loss = SOFTMAX_LOSS if name == "three" else LOSSES["squared_error" if name == "number" else "log_loss"]
    penalty = Penalty(options.pop("alpha", 0.01), options.pop("l1", 0.0))
    choice = {} if name == "sparse" else {"target": "y", "drop": [] if weights else ["w"], "weights": weights}
    path = folder / ("sparse.svm" if name == "sparse" else f"{name}.csv")
    stay, loaded = (
        prepare(open_source(path, **choice), validation=0.0, shuffle=False, in_source=in_source)
        for in_source in (True, False)
    )
    rows = stay.train.X
    rows.window_rows = window
    state = State(np.zeros((stay.target.num_outputs, rows.shape[1] + 1), dtype=np.float32))
    return (
        SourcedEngine(rows, loss, penalty, **options),
        make_engine(loaded.train, loss, penalty, **options),
        state,
    )


def copied(state):
    return State(state.parameters.copy())


@pytest.mark.parametrize("batch_size", [1, 7, 128])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("name", list(LOSS))
def test_steps_are_those_of_rows_in_memory(folder, name, optimizer, batch_size):
    """In the file's order steps are the same to the last bit: no batch is cut where a window ends.

    Plain steps on sparse rows shrink weights late, when a run of steps ends, and round there.
    """
    reads, holds, state = both(folder, name, average_every=1)
    assert reads.rows.heaviness.num_visits == ROWS
    other = copied(state)
    epoch = Stretch(1, 0, ROWS, in_order=True)
    each = rule(optimizer, 0.01 if optimizer == "momentum" else 0.1)
    for part in (slice(0, 896), slice(896, 1344), slice(1344, ROWS)):
        reads.run(state, each, epoch[part], batch_size)
        holds.run(other, each, np.arange(ROWS, dtype=np.int32)[part], batch_size)
    close = {"rtol": 1e-5, "atol": 1e-6} if (name, optimizer) == ("sparse", "sgd") else {"rtol": 0, "atol": 0}
    assert np.allclose(state.parameters, other.parameters, **close)
    assert np.allclose(state.average, other.average, **close)
    assert (state.steps, state.visits, state.num_averaged) == (other.steps, other.visits, other.num_averaged)
    assert np.abs(state.parameters).max() > 0.01


@pytest.mark.parametrize("name", ["two", "sparse"])
def test_steps_with_an_l1_penalty_are_those_of_rows_in_memory(folder, name):
    """Proximal steps do not notice windows either."""
    reads, holds, state = both(folder, name, l1=0.002)
    other = copied(state)
    reads.run(state, rule("sgd", 0.1), Stretch(1, 0, ROWS, in_order=True), 8)
    holds.run(other, rule("sgd", 0.1), np.arange(ROWS, dtype=np.int32), 8)
    assert np.allclose(state.parameters, other.parameters, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("name", ["two", "three", "number"])
def test_the_full_batch_is_that_of_rows_in_memory(folder, name, weights):
    """A step from every row is the same, weights counted, whatever the threads that read."""
    reads, holds, state = both(folder, name, weights=weights)
    other, more = copied(state), copied(state)
    for _ in range(3):
        reads.run(state, rule("nesterov", 0.1), None, 0)
        holds.run(other, rule("nesterov", 0.1), None, 0)
    assert np.allclose(state.parameters, other.parameters, rtol=1e-5, atol=1e-6)
    reads.threads = 3
    for _ in range(3):
        reads.run(more, rule("nesterov", 0.1), None, 0)
    assert np.array_equal(more.parameters, state.parameters)


@pytest.mark.parametrize("batch_size", [1, 32])
def test_an_epoch_is_the_same_however_it_is_cut(folder, batch_size):
    """Looks between batches, and an engine that takes the epoch up in its midst, change nothing."""
    reads, _, state = both(folder, "two")
    cut, late = copied(state), None
    epoch = shuffle(VisitsAsRead(ROWS, total=ROWS), 0, 2)
    reads.run(state, rule(), epoch, batch_size)
    for start in range(0, ROWS, 320):
        if start == 960:
            late = copied(cut)
        reads.run(cut, rule(), epoch[start : start + 320], batch_size)
    assert np.array_equal(cut.parameters, state.parameters)
    resumed, _, _ = both(folder, "two")
    resumed.run(late, rule(), epoch[960:], batch_size)
    assert np.array_equal(late.parameters, state.parameters)


def test_heavy_rows_weigh_what_they_weigh(folder, monkeypatch):
    """Rows that are split over several visits have in sum the gradient that they have in one."""
    monkeypatch.setattr("descend.features.heavy_rows.HEAVY", 0.5)
    reads, holds, state = both(folder, "number")
    visits = reads.rows.heaviness.num_visits
    assert visits > 1.5 * ROWS
    gradient = holds.loss_and_gradient(state.parameters, slice(None)).gradient
    before = state.parameters.copy()
    reads.run(state, rule("sgd", 1e-6, sum_rows=True), Stretch(1, 0, visits), 32)
    moved = (before - state.parameters) / 1e-6 / (visits / ROWS)
    assert np.allclose(moved, gradient, rtol=0.02, atol=0.02 * np.abs(gradient).max())


def test_looks_are_at_the_sample(folder):
    """The loss is that of the sample, all rows here; and nobody reads after the engine is closed."""
    reads, holds, state = both(folder, "two")
    assert reads.mean_loss(state.parameters) == pytest.approx(holds.mean_loss(state.parameters), rel=1e-6)
    reads.run(state, rule(), Stretch(1, 0, 64), 32)
    reads.close()
    sample = reads.rows.sample
    reads.rows.sample = Dataset(sample.X[:10], sample.y[:10])
    reads.run(state, rule(), Stretch(1, 0, ROWS), 32)
    assert np.isfinite(state.parameters).all()
