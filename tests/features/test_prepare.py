"""From a source to encoded rows: the split, the order, weights, and what is never copied."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.errors import ColumnError, InputError, SourceError
from descend.features import Features, Statistics, prepare
from descend.sources import array_source, open_source, table_source

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 4)) * [1, 10, 100, 1000] + 5
Y = X @ [1.0, 0.1, 0.01, 0.001]


def rows_as_set(data):
    return {tuple(np.round(row, 5)) for row in np.hstack([data.X, data.y])}


def test_every_row_is_used_once():
    """Training and validation rows together are all rows, encoded by training statistics."""
    ready = prepare(array_source(X, Y), seed=3)
    raw = ready.features.encode(X, dtype=np.float64)
    everything = {tuple(np.round(row, 5)) for row in np.hstack([raw, ready.target.encode(Y)])}
    assert rows_as_set(ready.train) | rows_as_set(ready.validation) == everything
    assert ready.num_rows == len(everything) == 1000
    assert 60 < ready.validation.num_rows < 140
    np.testing.assert_allclose(ready.train.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(ready.train.X.std(axis=0), 1)


def table_of(X, y):
    return table_source(pd.DataFrame(X, columns=list("abcd")), y)


@pytest.mark.parametrize("weight", [None, "balanced"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("as_source", [array_source, table_of])
def test_a_class_takes_a_byte_a_row(as_source, shuffle, weight):
    """Whatever holds the rows and whatever is done with them; numbers stay float64."""
    for share in (0.0, 0.1):
        options = {"validation": share, "shuffle": shuffle, "standardize": shuffle}
        ready = prepare(as_source(X, Y > 0), class_weight=weight, **options)
        for data in (ready.train, ready.validation):
            assert data is None or data.y.nbytes == data.num_rows
        assert prepare(as_source(X, Y), **options).train.y.dtype == np.float64


def test_labels_of_a_row_take_a_byte_each():
    """Several labels a row, as booleans; their codes are they themselves."""
    labels = X[:, :3] > 5
    data = prepare(array_source(X, labels), task="regression", validation=0.0, shuffle=False).train
    assert data.y.dtype == np.int8
    np.testing.assert_array_equal(data.y, labels)


@given(st.integers(1, 400), st.integers(0, 3))
def test_blocks_do_not_matter(block_rows, seed):
    """Split, order and values are the same however the rows are cut into blocks."""
    small, large = array_source(X[:300], Y[:300]), array_source(X[:300], Y[:300])

    def blocks():
        for whole in large.blocks():
            for start in range(0, whole.num_rows, block_rows):
                piece = slice(start, start + block_rows)
                yield type(whole)(whole.columns[piece], whole.target[piece])

    small.blocks = blocks
    one, other = prepare(small, seed=seed), prepare(large, seed=seed)
    np.testing.assert_allclose(one.train.X, other.train.X, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.validation.y, other.validation.y)


def test_order_follows_the_seed_alone():
    """The same seed gives the same order, another seed another, and shuffling off keeps the file's."""
    one, same, other = (prepare(array_source(X, Y), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.train.X, same.train.X)
    assert one.train.X.shape != other.train.X.shape or not np.array_equal(one.train.X, other.train.X)
    kept = prepare(array_source(X, Y), validation=0, shuffle=False)
    np.testing.assert_allclose(kept.target.decode(kept.train.y)[:, 0], Y)
    assert not np.array_equal(prepare(array_source(X, Y), validation=0).train.y, kept.train.y)


def test_statistics_are_of_training_rows_only(tmp_path):
    """A value that occurs only in validation rows changes no scale."""
    held = prepare(array_source(X, Y), seed=5, shuffle=False)
    far = X.copy()
    is_held = np.random.Generator(np.random.PCG64([5, 0])).random(1000) < 0.1
    far[np.flatnonzero(is_held)[0], 0] = 1e6
    again = prepare(array_source(far, Y), seed=5, shuffle=False)
    np.testing.assert_array_equal(held.features.scale, again.features.scale)
    np.testing.assert_array_equal(held.train.X, again.train.X)


def test_the_users_array_is_not_copied():
    """A C-contiguous float array neither scaled, shuffled nor split is used as it is."""
    for array in (X, X.astype(np.float32)):
        ready = prepare(array_source(array, Y), validation=0, standardize=False, shuffle=False)
        assert np.shares_memory(ready.train.X, array)
    gaps = X.copy()
    gaps[0, 0] = np.nan
    ready = prepare(array_source(gaps, Y), validation=0, standardize=False, shuffle=False)
    assert not np.shares_memory(ready.train.X, gaps)


def test_the_callers_arrays_are_never_written():
    """Preparing leaves the caller's arrays as they were."""
    x, y, w = X.copy(), Y.copy(), np.ones(1000)
    prepare(array_source(x, y, weights=w))
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    ("array", "asked", "kept"),
    [(X, None, np.float64), (X.astype(np.float32), None, np.float32), (X, np.float32, np.float32)],
)
def test_rows_are_kept_in_the_arrays_type(array, asked, kept):
    """float32 stays float32, all else is float64, unless asked."""
    assert prepare(array_source(array, Y), dtype=asked).train.X.dtype == kept


def test_files_are_float32(tmp_path):
    """Rows of files are kept as float32."""
    pd.DataFrame({"a": X[:, 0], "y": Y}).to_csv(tmp_path / "t.csv", index=False)
    ready = prepare(open_source(tmp_path / "t.csv", target="y"))
    assert ready.train.X.dtype == np.float32
    assert ready.train.y.dtype == np.float64


def test_weights_are_counts():
    """Weight 2 is the row twice and weight 0 its absence, in features and target; weights have mean 1."""
    w = RNG.integers(0, 3, size=1000).astype(float)
    one = prepare(array_source(X, Y, weights=w), validation=0)
    other = prepare(
        array_source(np.repeat(X, w.astype(int), axis=0), np.repeat(Y, w.astype(int))), validation=0
    )
    np.testing.assert_allclose(one.features.mean, other.features.mean)
    np.testing.assert_allclose(one.features.scale, other.features.scale)
    np.testing.assert_allclose(one.target.scale, other.target.scale)
    assert one.train.num_rows == (w > 0).sum()
    assert one.train.weights.mean() == pytest.approx(1)
    assert prepare(array_source(X, Y)).train.weights is None


def test_all_weights_zero_is_refused():
    """Weights that are all 0 leave nothing to learn from."""
    with pytest.raises(ColumnError, match="every weight of X is 0"):
        prepare(array_source(X, Y, weights=np.zeros(1000)))


def test_balanced_classes_weigh_the_same():
    """Balanced, the weights of each class have one sum; given ones multiply row weights."""
    labels = np.array(["a"] * 900 + ["b"] * 100)
    ready = prepare(array_source(X, labels), class_weight="balanced", validation=0)
    sums = [ready.train.weights[ready.train.y[:, 0] == c].sum() for c in (0, 1)]
    assert sums == pytest.approx([500, 500])
    given_ = prepare(array_source(X, labels), class_weight={"b": 9.0}, validation=0)
    sums = [given_.train.weights[given_.train.y[:, 0] == c].sum() for c in (0, 1)]
    assert sums[0] == pytest.approx(sums[1])


@pytest.mark.parametrize(
    ("y", "class_weight", "message"),
    [
        (Y, "balanced", "is a quantity"),
        (np.arange(1000) % 2, "even", "'even' is not known"),
        (np.arange(1000) % 2, {7: 1.0}, "'7', which is no class"),
        (np.arange(1000) % 2, {0: -1.0}, "at least 0"),
        (np.arange(1000) % 2, {0: 0.0}, "leaves one class only, '1'"),
    ],
)
def test_class_weights_that_make_no_sense_are_refused(y, class_weight, message):
    """Each is refused with what is accepted."""
    with pytest.raises(InputError, match=message):
        prepare(array_source(X, y), class_weight=class_weight)


@pytest.mark.parametrize("num_rows", [2, 3, 5, 10])
def test_short_tables_keep_at_least_two_training_rows(num_rows):
    """However few the rows, two or more train; where none can be set aside, a note says so."""
    for seed in range(20):
        ready = prepare(array_source(X[:num_rows], Y[:num_rows]), validation=0.3, seed=seed)
        assert ready.train.num_rows >= 2
        if ready.validation is None:
            assert any("too few rows" in note for note in ready.notes)
        else:
            assert ready.validation.num_rows >= 1


def test_one_row_is_refused():
    """One row teaches nothing."""
    with pytest.raises(SourceError, match="1 sample"):
        prepare(array_source(X[:1], Y[:1]))


@pytest.mark.parametrize("validation", [-0.1, 1.0, 2, float("nan")])
def test_shares_outside_0_to_1_are_refused(validation):
    """A share is at least 0 and below 1."""
    with pytest.raises(InputError, match="validation is"):
        prepare(array_source(X, Y), validation=validation)


def test_a_class_seen_only_in_validation_rows_is_a_class():
    """Every label of the source is a class, wherever its rows fell."""
    labels = np.array(["a"] * 999 + ["b"])
    for seed in range(30):
        assert prepare(array_source(X, labels), seed=seed).target.classes == ("a", "b")


def test_validation_rows_of_another_source():
    """Another source gives the validation rows; labels that are no class are left out and counted."""
    labels = np.array(["a", "b"] * 500)
    other = array_source(X[:10], np.array(["a", "b"] * 4 + ["c"] * 2), name="later")
    ready = prepare(array_source(X, labels), validation_source=other)
    assert ready.train.num_rows == 1000
    assert ready.validation.num_rows == 8
    assert any("2 validation rows" in note for note in ready.notes)


@pytest.mark.parametrize("of_its_own", [False, True])
def test_the_first_validation_rows_stand_for_all(of_its_own):
    """Rows held out of sorted data, or given apart and sorted, are mixed, with their targets, as others are."""
    time = np.arange(4000.0)[:, None]
    ready = prepare(
        array_source(time, time[:, 0]),
        validation=0.25,
        validation_source=array_source(time, time[:, 0]) if of_its_own else None,
        standardize=False,
        scale_target=False,
    )
    held_out = ready.validation
    assert abs(np.mean(held_out.X[:256]) / np.mean(held_out.X) - 1.0) < 0.15
    np.testing.assert_array_equal(held_out.X[:, 0], held_out.y[:, 0])
    in_order = prepare(
        array_source(time, time[:, 0]), validation=0.25, standardize=False, shuffle=False
    ).validation
    assert np.all(np.diff(in_order.X[:, 0]) > 0)


def test_words_among_numbers_are_found_in_every_row():
    """A word among numbers is refused wherever its row fell, with the row of the file."""
    for row in range(0, 200, 5):
        column = [str(v) for v in X[:200, 0]]
        column[row] = "oops"
        frame = pd.DataFrame({"a": column, "b": X[:200, 1], "y": Y[:200]})
        with pytest.raises(ColumnError, match=f"'oops' in row {row + 1};"):
            prepare(table_source(frame, target="y"), validation=0.3)


def test_infinity_is_found_in_every_row():
    """An infinite feature or target is refused with the row of the file, rows left out before it counted."""
    for row in range(1, 100, 9):
        frame = pd.DataFrame({"a": X[:100, 0], "y": Y[:100]})
        frame.loc[0, "y"] = None
        frame.loc[row, "a"] = np.inf
        with pytest.raises(ColumnError, match=f"'a' holds inf in row {row + 1};"):
            prepare(table_source(frame, target="y"), validation=0.5)
        frame.loc[row, "y"] = -np.inf
        with pytest.raises(ColumnError, match=f"holds -?inf in row {row + 1};"):
            prepare(table_source(frame, target="y"), validation=0.5)


def test_a_late_change_of_type_begins_again(tmp_path, monkeypatch):
    """A CSV file whose integers turn to fractions far in is prepared as if known from the start."""
    monkeypatch.setattr("descend.sources.dialect.BLOCK_BYTES", 4096)
    monkeypatch.setattr("descend.sources.dialect.HEAD_BYTES", 1024)
    values = [*range(5000), 0.5]
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "".join(f"{v},{i % 2}\n" for i, v in enumerate(values)))
    ready = prepare(open_source(path, target="y"), validation=0, standardize=False)
    assert sorted(ready.train.X[:, 0].tolist()) == sorted(values)


def test_progress_counts_both_passes():
    """``on_progress`` hears growing counts up to twice the rows."""
    heard = []
    prepare(array_source(X, Y), on_progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 2000


def test_raw_numbers_beyond_float32_are_refused(tmp_path):
    """Raw numbers that float32 cannot hold are refused by column, not turned to infinity."""
    (tmp_path / "t.csv").write_text("a,y\n1e39,0\n2,1\n3,0\n")
    with pytest.raises(ColumnError, match="'a' holds 1e\\+39, beyond the range of float32"):
        prepare(open_source(tmp_path / "t.csv", target="y"), standardize=False, validation=0)


def test_prepared_features_equal_those_of_the_whole():
    """Without validation rows the features are those of one update with all rows."""
    stats = Statistics(("x0", "x1", "x2", "x3"))
    stats.update(X)
    direct = Features.from_statistics(stats)
    ready = prepare(array_source(X, Y), validation=0)
    np.testing.assert_allclose(ready.features.mean, direct.mean, rtol=1e-12)
    np.testing.assert_allclose(ready.features.scale, direct.scale, rtol=1e-12)


@pytest.mark.parametrize("in_source", [False, True])
def test_a_file_written_to_between_two_readings_is_refused(tmp_path, in_source):
    """Other numbers of the same length, written while rows are read, are an error that names the file."""
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i % 7},{i % 2}\n" for i in range(400)))

    def write(done):
        if done == 400:
            path.write_text("a,y\n" + "".join(f"{i % 5},{i % 2}\n" for i in range(400)))

    with pytest.raises(SourceError, match=r"rows\.csv changed while it was read"):
        prepare(open_source(path, target="y"), in_source=in_source, on_progress=write)
    assert prepare(open_source(path, target="y"), in_source=in_source).num_rows == 400
