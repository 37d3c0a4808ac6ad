"""Rows that stay in their source: each epoch reads the rows that would have been loaded, all of them, and mixed."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy.sparse import issparse

from descend.engines.source_windows import windows
from descend.errors import InputError, SourceError
from descend.features import prepare
from descend.features.heavy_rows import Heaviness, weighted_norms
from descend.features.prepare_source import choose_place
from descend.machine import Room
from descend.sources import open_source
from descend.store.ahead import ahead
from descend.types import Dataset

ROWS = 3000


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut where a file of some kilobytes has many parts, and read it in many blocks."""
    monkeypatch.setattr("descend.sources.limits.MAX_BLOCK_ROWS", 200)
    monkeypatch.setattr("descend.sources.limits.MAX_TABLE_BYTES", 1)
    for name in ("READ_BYTES", "FEWEST_BYTES"):
        monkeypatch.setattr(f"descend.sources.line_ranges.{name}", 4096)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same rows as CSV, Parquet and compressed text, and others as svmlight; sorted by label."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    heavy = rng.normal(size=ROWS) * np.where(rng.random(ROWS) < 0.01, 20.0, 1.0)
    table = pa.table(
        {
            "id": np.arange(ROWS).astype(float),
            "heavy": heavy,
            "word": rng.choice(["red", "green", "blue"], size=ROWS),
            "gap": [None if i % 9 == 0 else float(i % 5) for i in range(ROWS)],
            "w": rng.uniform(0.0, 2.0, ROWS) * (rng.random(ROWS) > 0.05),
            "y": np.sort(rng.integers(2, size=ROWS)),
        }
    )
    pyarrow.csv.write_csv(table, folder / "rows.csv")
    with pa.CompressedOutputStream(str(folder / "rows.csv.gz"), "gzip") as sink:
        pyarrow.csv.write_csv(table, sink)
    pq.write_table(table, folder / "rows.parquet", row_group_size=170)
    lines = [f"{i // (ROWS // 2)} {1 + i % 7}:{i} {8 + i % 3}:{i % 11}" for i in range(ROWS)]
    (folder / "rows.svm").write_text("\n".join(lines))
    return folder


def prepared(folder, kind, in_source, window=256, weights=None, seed=3):
    choice = {} if kind == "svm" else {"target": "y", "weights": weights, "drop": [] if weights else ["w"]}
    found = prepare(open_source(folder / f"rows.{kind}", **choice), validation=0.2, seed=seed, shuffle=False,
                    in_source=in_source)  # fmt: skip
    if in_source:
        found.train.X.window_rows = window
    return found


def dense(X):
    return X.toarray() if issparse(X) else np.asarray(X)


def whole(pieces):
    """Rows, targets and weights of pieces as one table each."""
    pieces = list(pieces)
    weights = None if pieces[0].weights is None else np.concatenate([p.weights for p in pieces])
    return np.concatenate([dense(p.X) for p in pieces]), np.concatenate([p.y for p in pieces]), weights


KINDS = ["csv", "csv.gz", "parquet", "svm"]


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_source_are_those_that_would_be_loaded(folder, kind, weights):
    """Training and validation rows, targets and weights are the same, encoded alike, as if they were loaded."""
    if kind == "svm" and weights:
        return
    stay, loaded = (prepared(folder, kind, in_source, weights=weights) for in_source in (True, False))
    X, y, w = whole(stay.train.X.pieces(threads=2))
    assert np.array_equal(X, dense(loaded.train.X))
    assert np.array_equal(y, loaded.train.y)
    in_windows = next(windows(stay.train.X, 0, 8)).data.y
    for some in (y, stay.train.y, stay.validation.y, stay.train.X.sample.y, in_windows, loaded.train.y):
        assert some.dtype == np.int8  # kernels are compiled for one type
    assert (w is None) == (loaded.train.weights is None)
    if w is not None:
        assert np.allclose(w, loaded.train.weights, rtol=1e-12)
        assert w.mean() == pytest.approx(1.0)
        assert np.allclose(stay.validation.weights, loaded.validation.weights, rtol=1e-12)
    assert np.array_equal(dense(stay.validation.X), dense(loaded.validation.X))
    assert stay.num_rows == loaded.num_rows
    assert stay.train.num_rows == loaded.train.num_rows == len(X)
    assert stay.features.to_json() == loaded.features.to_json()


def keys(X):
    """A row as bytes, so that rows can be counted."""
    return [row.tobytes() for row in np.ascontiguousarray(dense(X))]


def visited(rows, epoch, batch_size=8, **options):
    """Rows in the order of an epoch's visits, and the weight of each visit."""
    found, weights = [], []
    for window in windows(rows, epoch, batch_size, **options):
        found += np.array(keys(window.data.X), dtype=object)[window.order].tolist()
        here = np.ones(window.data.num_rows) if window.visit_weights is None else window.visit_weights.copy()
        weights.append(here[window.order])
    return found, np.concatenate(weights)


@pytest.mark.parametrize("clustered", [0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_visits_every_row(folder, kind, clustered):
    """Each row is visited as often as it is heavy, whatever the readings, and weighs the same in total."""
    rows = prepared(folder, kind, True).train.X
    rows.clustered = clustered
    assert (rows.readings > 1) == bool(clustered)
    data = Dataset(*whole(rows.pieces())[:2])
    copies = rows.heaviness.copies(weighted_norms(data))
    found, weights = visited(rows, 1)
    assert len(found) == copies.sum() == rows.heaviness.num_visits
    assert sorted(found) == sorted(np.repeat(np.array(keys(data.X), dtype=object), copies).tolist())
    total = {}
    for key, weight in zip(found, weights.tolist(), strict=True):
        total[key] = total.get(key, 0.0) + weight
    assert np.allclose(list(total.values()), rows.heaviness.num_visits / len(rows))


def test_the_order_is_of_seed_and_epoch_alone(folder):
    """An epoch has one order whatever the threads; another epoch has another, unless rows are left as they lie."""
    rows = prepared(folder, "csv", True).train.X
    first = visited(rows, 1)[0]
    assert visited(rows, 1, threads=3)[0] == first
    assert visited(rows, 2)[0] != first
    assert visited(prepared(folder, "csv", True).train.X, 1)[0] == first
    assert visited(rows, 1, in_order=True)[0] == visited(rows, 2, in_order=True)[0]


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_windows_hold_whole_batches(folder, batch_size):
    """Every window but the last has visits for whole batches, of single rows for whole groups of four."""
    rows = prepared(folder, "csv", True).train.X
    sizes = [len(window.order) for window in windows(rows, 1, batch_size)]
    assert len(sizes) > 5
    assert all(size % (batch_size if batch_size > 1 else 4) == 0 for size in sizes[:-1])


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_windows_of_a_sorted_file_hold_both_classes(folder, kind):
    """Told that labels are sorted, every window has rows of both classes in about their share."""
    rows = prepared(folder, kind, True, window=400).train.X
    assert rows.clustered > 0.9
    shares = [float(window.data.y.mean()) for window in windows(rows, 1, 8)][:-1]
    assert len(shares) >= 5
    assert max(abs(share - 0.5) for share in shares) < 0.35


def test_the_sample_is_of_all_parts(folder):
    """The rows that are looked at come from the whole file and not from its beginning, in no order."""
    sample = prepared(folder, "csv", True).train.X.sample
    half = sample.first(sample.num_rows // 2)
    assert 0.4 < half.y.mean() < 0.6


def test_what_comes_ahead_is_closed(folder):
    """An epoch that is left in the midst ends its thread, and what went wrong on it is raised where it is used."""
    rows = prepared(folder, "csv", True).train.X
    parts = ahead(windows(rows, 1, 8, threads=2), most=1)
    next(parts)
    parts.close()
    rows.counts[-1] += 1
    with pytest.raises(SourceError, match="rows changed while it was read"):
        list(ahead(windows(rows, 1, 8), most=1))


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_heavy_rows_are_split(spread):
    """No visit weighs more than three times the mean row, and an epoch grows by less than two thirds."""
    rng = np.random.default_rng(0)
    norms = np.exp(spread * rng.normal(size=20_000))
    heaviness = Heaviness()
    for part in np.array_split(norms, 7):
        heaviness.add(part)
    copies = heaviness.copies(norms)
    assert copies.sum() == heaviness.num_visits < 1.67 * len(norms)
    weighed = norms / copies * heaviness.num_visits / len(norms)
    assert weighed.max() <= heaviness.heaviest < 1.2 * max(weighed.max(), 1.0)
    assert heaviness.heaviest < 2.4 * norms.mean() * heaviness.num_visits / len(norms)
    assert (copies == 1).mean() > 0.5


def test_rows_stay_where_they_do_not_fit():
    """Rows above half of what is free stay in their source, unless the caller settles it."""
    assert not choose_place(1000, 80.0, None, 1).in_source
    tight = choose_place(1000, 80.0, 1, 1)
    assert tight.in_source
    assert not tight.fits
    assert not choose_place(1000, 80.0, 1, 1, in_source=False).in_source
    assert "88 kB encoded" in tight.reason
    assert "the limit of 1 B" in tight.reason
    assert "so the limit is not kept" in tight.reason
    assert "is not kept" not in choose_place(10**9, 80.0, 10**10, 1).reason


def test_what_needs_memory_refuses_by_name(folder, monkeypatch):
    """What cannot use rows in a source says so, and names ingest."""
    monkeypatch.setattr("descend.features.prepare_source.find_rooms", lambda limit: [Room(0, "free memory")])
    source = open_source(folder / "rows.csv", target="y")
    with pytest.raises(
        InputError,
        match=r"rows does not fit into memory \(.* that free memory leaves\), and compare needs .*descend ingest",
    ):
        prepare(source, in_source=None, needs_memory="compare")


def test_limit_below_what_the_process_holds_is_said_to_be_too_low(folder):
    """Where the limit leaves nothing, a block store would not fit either, and the message does not send there."""
    source = open_source(folder / "rows.csv", target="y")
    with pytest.raises(
        InputError, match=r"^memory limit 1 MB is too low: without rows .* hold [\d,]+ MB; give more$"
    ):
        prepare(source, memory_limit=10**6, in_source=None, needs_memory="compare")
