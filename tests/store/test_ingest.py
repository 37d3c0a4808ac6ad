"""Ingesting: what comes out is what went in, in an order that the keys alone decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from ingests import KINDS, Cut, content, files, source_of, table, tighten
from scipy.stats import chi2

import descend
from descend.errors import ColumnError, InputError, SourceError
from descend.features import prepare
from descend.sources import array_source, open_source, table_source
from descend.store import ingest
from descend.store.budget import Budget
from descend.store.keys import RowKeys
from descend.types import is_sparse


@pytest.mark.parametrize("spills", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_source_in_the_order_of_their_keys(
    kind: str, spills: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store holds what ``Features.encode`` makes of the source's rows, to the last bit, sorted by key."""
    source = source_of(kind)
    tighten(monkeypatch, *([] if spills else [Budget(2**30, 2**30, 2)]))
    store = ingest(source, tmp_path / "store", seed=5)
    order = np.argsort(RowKeys(5).next(1000))
    blocks = list(source.blocks())
    target = store.target(standardize=False)
    y = np.concatenate([target.encode(block.target) for block in blocks])
    parts = list(store.blocks())
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in parts]), y[order])
    if kind == "bytes":
        raw = np.concatenate([block.columns for block in blocks])[:, store.features.origin]
        assert store.is_coded
        np.testing.assert_array_equal(np.concatenate([X.values for X, _, _ in parts]), raw[order])
    else:
        encoded = [store.features.encode(block.columns) for block in blocks]
        dense = np.concatenate([X.toarray() if is_sparse(X) else X for X in encoded])
        rows = np.concatenate([X.toarray() if is_sparse(X) else X for X, _, _ in parts])
        np.testing.assert_array_equal(rows, dense[order])
    assert store.layout.sparse == (kind == "sparse")
    if kind == "table":
        weights = np.concatenate([block.weights for block in blocks if block.weights is not None])
        np.testing.assert_array_equal(
            np.concatenate([w for _, _, w in parts if w is not None]), weights[order]
        )
    else:
        assert not store.layout.has_weights


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_target_are_those_of_training_in_memory(kind: str, tmp_path: Path) -> None:
    """Encoding, target and notes of a store are those that training straight from the source would use."""
    store = ingest(source_of(kind), tmp_path / "store")
    ready = prepare(source_of(kind), validation=0.0)
    assert store.features.to_json() == ready.features.to_json()
    assert store.target().to_json() == ready.target.to_json()
    assert set(ready.notes) == set(store.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_threads_and_blocks_of_the_input_change_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores of equal rows are equal files, whatever the memory, the threads and the source's blocks."""
    tighten(monkeypatch, Budget(2**30, 2**30, 1))
    ingest(source_of(kind), tmp_path / "large")
    expected = files(tmp_path / "large")
    for name, budget, cut in (
        ("small", Budget(40_000, 15_000, 3), 333),
        ("tiny", Budget(9_000, 1_000, 2), 64),
        ("single", Budget(2**30, 20_000, 1), 1000),
    ):
        tighten(monkeypatch, budget)
        ingest(Cut(source_of(kind), cut), tmp_path / name)
        assert files(tmp_path / name) == expected


def test_another_seed_is_another_order(tmp_path: Path) -> None:
    """The seed decides the order, and nothing else of what a store holds."""
    one, other = (ingest(source_of("numbers"), tmp_path / str(seed), seed=seed) for seed in (0, 1))
    X, Z = content(one)[0], content(other)[0]
    assert (X != Z).any()
    np.testing.assert_array_equal(np.sort(X, axis=0), np.sort(Z, axis=0))


def test_every_order_of_five_rows_is_equally_likely() -> None:
    """Over 12,000 seeds the 120 orders of five rows come equally often: chi-square, p > 0.001."""
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(12_000):
        order = tuple(np.argsort(RowKeys(seed).next(5)).tolist())
        counts[order] = counts.get(order, 0) + 1
    observed = np.array([*counts.values()])
    assert len(observed) == 120
    assert chi2.sf(((observed - 100.0) ** 2 / 100.0).sum(), 119) > 0.001


def test_places_and_neighbours_are_uniform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a row of the source ends up, and beside which other one, is random: chi-square, p > 0.001."""
    tighten(monkeypatch, Budget(400_000, 200_000, 2), block_rows=4096)
    rows, cells = 60_000, 20
    store = ingest(
        array_source(np.arange(rows, dtype=np.float64)[:, None], y=np.arange(rows) % 2), tmp_path / "s"
    )
    feature = np.concatenate([X for X, _, _ in store.blocks()])[:, 0]
    came_from = np.argsort(np.argsort(feature)) * cells // rows  # rows grow with their place in the source
    placed = np.arange(rows) * cells // rows
    for one, other in ((came_from, placed), (came_from[:-1], came_from[1:])):
        observed = np.zeros((cells, cells))
        np.add.at(observed, (one, other), 1)
        expected = observed.sum(1, keepdims=True) * observed.sum(0) / observed.sum()
        assert chi2.sf(((observed - expected) ** 2 / expected).sum(), (cells - 1) ** 2) > 0.001


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_files_of_every_kind_give_the_same_store(kind: str, tmp_path: Path) -> None:
    """Rows in several files, compressed or in row groups, give the store that they give from memory."""
    data = table(2000)
    for i in range(2):
        part = data.slice(i * 1000, 1000)
        path = tmp_path / f"part{i}.{kind}"
        if kind == "parquet":
            pa.parquet.write_table(part, path, row_group_size=170)
        else:
            with pa.output_stream(str(path), compression="detect") as stream:
                pa.csv.write_csv(part, stream)
    choice: dict[str, Any] = {"target": "answer", "weights": "weight"}
    store = ingest(
        open_source([tmp_path / f"part{i}.{kind}" for i in range(2)], **choice), tmp_path / "store"
    )
    expected = ingest(table_source(data, **choice), tmp_path / "expected")
    for one, other in zip(content(store), content(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_types_that_widen_late_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose last rows are of wider types gives the store of a file that has them from the beginning."""
    tighten(monkeypatch, Budget(2_000_000, 2_000_000, 2), block_rows=8192)
    rows = [f"{i % 90},{i % 7},{i % 2}" for i in range(180_000)]
    late = tmp_path / "late.csv"
    late.write_text("\n".join(["a,b,y", *rows, "0.5,x,1", ""]))
    early = tmp_path / "early.csv"
    early.write_text("\n".join(["a,b,y", "0.5,x,1", *rows, ""]))
    with pytest.raises(ColumnError, match="b"):  # one text among numbers is a mistake, found behind all rows
        ingest(open_source(str(late), target="y"), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = ingest(open_source(str(late), target="y", drop=["b"]), tmp_path / "store")
    other = ingest(open_source(str(early), target="y", drop=["b"]), tmp_path / "other")
    assert store.num_rows == other.num_rows == 180_001
    np.testing.assert_allclose(store.features.mean, other.features.mean, rtol=1e-12)


def test_types_that_differ_between_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is empty in the first file, and whole where it has fractions later, keeps all its values."""
    tighten(monkeypatch)
    random = np.random.default_rng(0)
    first = pa.table({"a": random.integers(0, 9, 500), "b": pa.nulls(500), "y": random.integers(0, 2, 500)})
    last = pa.table({"a": random.normal(size=500), "b": ["u", "v"] * 250, "y": random.integers(0, 2, 500)})
    for i, part in enumerate((first, last)):
        pa.parquet.write_table(part, tmp_path / f"p{i}.parquet")
    store = ingest(open_source(str(tmp_path / "p*.parquet"), target="y"), tmp_path / "store")
    assert set(store.features.names) >= {"a", "b=u", "b=v", "b=missing"}
    X = np.concatenate([X for X, _, _ in store.blocks()])
    assert X[:, store.features.names.index("b=missing")].sum() == 500
    values = np.concatenate([first["a"].to_numpy(), last["a"].to_numpy()])
    order = np.argsort(RowKeys(0).next(1000))
    at = store.features.names.index("a")
    np.testing.assert_allclose(X[:, at], ((values - values.mean()) / values.std())[order], atol=1e-5)


def test_rows_of_weight_zero_are_left_out(tmp_path: Path) -> None:
    """Rows whose weight is 0 are not in the store, and the others keep their order."""
    X = np.arange(100.0)[:, None]
    weights = (np.arange(100) % 3).astype(float)
    store = ingest(array_source(X, np.arange(100) % 2, weights), tmp_path / "store")
    order = np.argsort(RowKeys(0).next(100))
    (_, y, w), *_ = store.blocks()
    kept = order[weights[order] > 0]
    assert store.num_rows == len(kept)
    np.testing.assert_array_equal(y[:, 0], kept % 2)
    assert w is not None
    np.testing.assert_array_equal(w, weights[kept])


BAD = {
    "no target": (lambda: array_source([[1.0], [2.0]]), "no target"),
    "infinite": (lambda: array_source([[1.0], [np.inf], [2.0]], [0, 1, 0]), "holds inf in row 2"),
    "one row": (lambda: array_source([[1.0]], [0]), "1 row to learn from"),
    "one class": (lambda: array_source([[1.0], [2.0]], ["a", "a"]), "one class only"),
    "one weight": (
        lambda: array_source([[1.0], [2.0], [3.0]], [0, 1, 0], [1.0, 1e12, 1.0]),
        "has the weight 1e",
    ),
    "constant": (lambda: array_source([[1.0], [1.0]], [0, 1]), "no column is left"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_and_leave_nothing(case: str, tmp_path: Path) -> None:
    """Data that training would refuse are refused with the same words, and no folder is left."""
    make, words = BAD[case]
    with pytest.raises(InputError, match=words):
        ingest(make(), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_memory_limit_that_is_too_small_is_refused(tmp_path: Path) -> None:
    """A limit below what the process holds already is refused before anything is read."""
    with pytest.raises(InputError, match=r"memory limit of 50 MB is too small"):
        ingest(source_of("numbers"), tmp_path / "store", memory_limit=50_000_000)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    """A file that grows while it is read is named; nothing is left."""
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(200)))

    def grow(_: Any) -> None:
        path.write_text(path.read_text() + "7,1\n")

    with pytest.raises(SourceError, match="rows changed while it was read"):
        ingest(open_source(path, target="y"), tmp_path / "store", files=(path,), on_progress=grow)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize("limit", ["2GB", 0, -1, True, 1e9])
def test_a_memory_limit_that_is_no_number_of_bytes_is_refused(limit: Any, tmp_path: Path) -> None:
    """Python takes bytes; what the command line writes, and what is no whole number, is named."""
    with pytest.raises(InputError, match=r"memory_limit is .* whole number of bytes"):
        descend.ingest(np.eye(4), tmp_path / "store", [0, 1, 0, 1], memory_limit=limit)
