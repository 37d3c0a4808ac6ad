"""Rows that are added to a store later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ingests import KINDS, content, files, source_of, table, tighten

from descend.errors import InputError, SourceError
from descend.sources import array_source, table_source
from descend.store import Store, ingest, open_store
from descend.store import manifest as manifests
from descend.store.ingesting import run
from descend.store.job import Job, Progress
from descend.types import Source, is_sparse


def rows_of(store: Store) -> list[np.ndarray]:
    """All rows of a store: X dense, y and weights."""
    parts = list(store.blocks())
    X = [X.toarray() if is_sparse(X) else X.values if store.is_coded else X for X, _, _ in parts]
    weights = [w for _, _, w in parts if w is not None]
    found = [np.concatenate(X), np.concatenate([y for _, y, _ in parts])]
    return [*found, np.concatenate(weights)] if weights else found


def mixed(rows: int, seed: int) -> Source:
    return table_source(table(rows, seed), target="answer", weights="weight", name="mixed")


@pytest.mark.parametrize("kind", KINDS)
def test_added_rows_follow_those_that_were_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rows keep their places; the others follow in an order of their own, encoded as the first were."""
    tighten(monkeypatch)
    place = tmp_path / "store"
    store = ingest(source_of(kind), place)
    first, features = rows_of(store), store.features.to_json()
    store = ingest(source_of(kind), place, append=True)
    assert store.num_rows == 2000
    assert store.features.to_json() == features
    assert [record.rows for record in store.manifest.blocks[:-1]] == [128] * 15
    for one, other in zip(first, rows_of(store), strict=True):
        np.testing.assert_array_equal(one, other[:1000])
        assert (one != other[1000:]).any()
        np.testing.assert_array_equal(np.sort(one, axis=0), np.sort(other[1000:], axis=0))
    assert set(files(place)) == {"store.json", *(record.file for record in store.manifest.blocks)}


def test_statistics_are_those_of_all_rows(tmp_path: Path) -> None:
    """Class counts, total weight and moments are those of all rows; a note says what the encoding is of."""
    place = tmp_path / "store"
    ingest(mixed(1000, 0), place)
    ingest(mixed(500, 1), place, append=True)
    store = ingest(mixed(700, 2), place, append=True)
    both = pa.concat_tables([table(1000, 0), table(500, 1), table(700, 2)])
    whole = ingest(table_source(both, target="answer", weights="weight"), tmp_path / "whole")
    assert store.target_statistics.counts == pytest.approx(whole.target_statistics.counts)
    assert store.manifest.total_weight == pytest.approx(whole.manifest.total_weight)
    np.testing.assert_allclose(store.statistics.moments.variance, whole.statistics.moments.variance)
    assert [note for note in store.notes if "added later" in note] == [
        "1,200 rows were added later; columns are encoded as the first rows said"
    ]


def test_a_killed_append_leaves_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the last step the store is the old one; run again, the rows are added once."""
    tighten(monkeypatch)
    place = tmp_path / "store"
    before = content(ingest(mixed(1000, 0), place))

    def stop(progress: Progress) -> None:
        if progress.stage == "writing" and progress.rows > 1200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(mixed(1000, 1), place, append=True, on_progress=stop)
    for one, other in zip(before, content(open_store(place)), strict=True):
        np.testing.assert_array_equal(one, other)
    job = Job(mixed(1000, 1), place, append=True)
    assert run(job).num_rows == 2000
    assert "gone on with" in job.notes[0]
    other_place = tmp_path / "other"
    ingest(mixed(1000, 0), other_place)
    ingest(mixed(1000, 1), other_place, append=True)
    assert files(place) == files(other_place)


def test_an_append_killed_behind_its_last_step_adds_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the rows were in the store already, the same command notices that and adds them no second time."""
    place = tmp_path / "store"
    ingest(mixed(1000, 0), place)
    write = manifests.write_manifest

    def killed(folder: Path, manifest: manifests.Manifest) -> None:
        write(folder, manifest)
        raise KeyboardInterrupt

    monkeypatch.setattr(manifests, "write_manifest", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest(mixed(500, 1), place, append=True)
    monkeypatch.undo()
    assert open_store(place).num_rows == 1500
    job = Job(mixed(500, 1), place, append=True)
    assert run(job).num_rows == 1500
    assert job.notes == ["these rows were added already when the ingest was cut short"]
    assert ingest(mixed(500, 1), place, append=True).num_rows == 2000


WRONG = {
    "a new class": (
        lambda: _numbers(3, y="maybe"),
        "holds 'maybe', which is none of the store's classes: no, yes",
    ),
    "a column less": (lambda: _numbers(2), "lacks 'c2'"),
    "a column more": (lambda: _numbers(4), "has besides 'c3'"),
    "another target": (lambda: _numbers(3, y=1.5), "the store's target holds text"),
    "a matrix": (lambda: array_source(np.ones((3, 3)), ["yes", "no", "yes"]), "columns of the store"),
    "texts": (lambda: _numbers(3, x="a"), "c0"),
}


def _numbers(columns: int, y: object = "yes", x: object = 1.0) -> Source:
    random = np.random.default_rng(0)
    data = {f"c{i}": random.normal(size=40).tolist() for i in range(columns)}
    data["c0"][-1] = x
    if isinstance(x, str):
        data["c0"] = [x] * 40
    labels: list[object] = ["yes", "no"] * 20 if isinstance(y, str) else [0.5, 2.5] * 20
    labels[-1] = y
    return table_source(pa.table(data | {"y": labels}), target="y", name="new")


@pytest.mark.parametrize("case", WRONG)
def test_rows_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    """Rows of other columns, kinds or classes are refused by name, and the store stays as it is."""
    place = tmp_path / "store"
    ingest(_numbers(3), place)
    before = files(place)
    make, words = WRONG[case]
    with pytest.raises(InputError, match=words):
        ingest(make(), place, append=True)
    assert files(place) == before


def test_small_numbers_take_no_others(tmp_path: Path) -> None:
    """A store of bytes takes no floats."""
    place = tmp_path / "store"
    store = ingest(source_of("bytes"), place)
    X = np.random.default_rng(0).random((30, len(store.features.input_names)))
    with pytest.raises(InputError, match="keeps numbers of type uint8"):
        ingest(array_source(X, np.arange(30) % 3), place, append=True)


def test_there_has_to_be_a_store(tmp_path: Path) -> None:
    """Rows are not added to nothing."""
    with pytest.raises(InputError, match="no store that rows could be added to"):
        ingest(source_of("table"), tmp_path / "store", append=True)
    assert not list(tmp_path.iterdir())


def test_levels_that_are_new_are_pooled(tmp_path: Path) -> None:
    """A text that no first row had counts as unknown in the rows that are added: no column of its own is 1."""
    colours = ["red", "green"] * 50
    first = pa.table({"colour": colours, "x": np.arange(100.0), "y": np.arange(100) % 2})
    later = pa.table({"colour": ["violet"] * 10, "x": np.arange(10.0), "y": np.arange(10) % 2})
    place = tmp_path / "store"
    ingest(table_source(first, target="y"), place)
    store = ingest(table_source(later, target="y"), place, append=True)
    X = rows_of(store)[0]
    at = [i for i, name in enumerate(store.features.names) if name.startswith("colour=")]
    assert X[:100, at].sum() == 100
    assert X[100:, at].sum() == 0


def test_columns_that_are_empty_in_new_rows(tmp_path: Path) -> None:
    """A column of texts without a value in any new row is missing there; one of numbers is refused by name."""
    colours = ["red", "green", None, "red"] * 25
    first = pa.table({"colour": colours, "x": np.arange(100.0), "y": np.arange(100) % 2})
    place = tmp_path / "store"
    ingest(table_source(first, target="y"), place)
    empty = pa.table({"colour": pa.nulls(10), "x": np.arange(10.0), "y": np.arange(10) % 2})
    store = ingest(table_source(empty, target="y"), place, append=True)
    added = rows_of(store)[0][100:]
    missing = store.features.names.index("colour=missing")
    assert added[:, missing].tolist() == [1.0] * 10
    assert added[:, [i for i in range(3) if i != missing]].sum() == 0
    before = files(place)
    lacking = pa.table({"colour": ["red"] * 10, "x": pa.nulls(10), "y": np.arange(10) % 2})
    with pytest.raises(InputError, match="column 'x' has no value in any row"):
        ingest(table_source(lacking, target="y"), place, append=True)
    assert files(place) == before


def test_sparse_rows_need_sparse_rows(tmp_path: Path) -> None:
    """Dense rows are not added to sparse ones."""
    place = tmp_path / "store"
    ingest(source_of("sparse"), place)
    with pytest.raises(SourceError, match="rows of the store are sparse"):
        ingest(
            array_source(np.ones((10, 40)) * np.arange(10)[:, None], np.arange(10) % 2 > 0),
            place,
            append=True,
        )
