"""NumPy files: read in blocks, columns by position, nothing pickled."""

import tracemalloc

import numpy as np
import pytest

from descend.errors import ColumnError, SourceError
from descend.sources import open_source
from descend.sources.limits import MAX_BLOCK_BYTES

X = np.random.default_rng(0).normal(size=(1000, 5))


def read(source):
    """Features and target, whole."""
    blocks = list(source.blocks())
    target = None if blocks[0].target is None else np.concatenate([b.target for b in blocks])
    return np.concatenate([b.columns for b in blocks]), target


def saved(tmp_path, array, name="X.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("target", ["x4", "4", "-1"])
def test_columns_go_by_name_or_position(tmp_path, order, target):
    """The last column is the target by its name, its position, or −1, in either memory order."""
    features, goal = read(open_source(saved(tmp_path, np.asarray(X, order=order)), target=target))
    assert np.array_equal(features, X[:, :4])
    assert np.array_equal(goal, X[:, 4])


def test_a_target_in_the_middle(tmp_path):
    """Columns on both sides of the target stay in order."""
    features, goal = read(open_source(saved(tmp_path, X), target="x2", drop=["0"]))
    assert np.array_equal(features, X[:, [1, 3, 4]])
    assert np.array_equal(goal, X[:, 2])


def test_a_file_is_never_whole_in_memory(tmp_path):
    """Reading a file of 64 MB block by block allocates little more than two blocks."""
    path = saved(tmp_path, np.zeros((160_000, 50)))
    tracemalloc.start()
    num_rows = sum(block.num_rows for block in open_source(path, target="-1").blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_rows == 160_000
    assert peak < 2.5 * MAX_BLOCK_BYTES


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_has_x_and_y(tmp_path, save):
    """Arrays X and y are found by themselves; X of any rank is flattened to rows."""
    y = np.arange(1000) % 3
    save(tmp_path / "d.npz", X=X.reshape(1000, 5, 1), y=y)
    source = open_source(tmp_path / "d.npz")
    features, goal = read(source)
    assert source.target_name == "y"
    assert np.array_equal(features, X)
    assert np.array_equal(goal, y)


def test_naming_y_train_takes_x_train(tmp_path):
    """A target array ``y_train`` takes ``X_train`` with it; without it the arrays there are listed."""
    np.savez(tmp_path / "d.npz", X_train=X[:600], y_train=X[:600, 0], X_test=X[600:], y_test=X[600:, 0])
    features, goal = read(open_source(tmp_path / "d.npz", target="y_test"))
    assert np.array_equal(features, X[600:])
    assert np.array_equal(goal, X[600:, 0])
    with pytest.raises(ColumnError, match="X_train, y_train, X_test, y_test"):
        open_source(tmp_path / "d.npz")


def test_npz_without_target(tmp_path):
    """Without y a target is asked for; a column of X may be it; predicting needs none."""
    np.savez(tmp_path / "d.npz", X=X)
    with pytest.raises(ColumnError, match="no y; give --target"):
        open_source(tmp_path / "d.npz")
    assert np.array_equal(read(open_source(tmp_path / "d.npz", target="x0"))[1], X[:, 0])
    assert read(open_source(tmp_path / "d.npz", require_target=False))[0].shape == (1000, 5)


def test_objects_are_never_unpickled(tmp_path):
    """An array of Python objects is refused, not loaded."""
    np.save(tmp_path / "d.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="Python objects"):
        open_source(tmp_path / "d.npy", target="0")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(5.0), "matrix"),
        (np.empty((0, 3)), "no rows"),
        (np.empty((3, 0)), "no columns"),
        (np.ones((3, 2), dtype=complex), "complex"),
        (np.array([["a", "b"]]), "numbers are needed"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    """Arrays that are no matrix of numbers are refused with their shape or type."""
    with pytest.raises((SourceError, ColumnError), match=message):
        open_source(saved(tmp_path, array), target="0")


@pytest.mark.parametrize("name", ["d.npy", "d.npz"])
def test_a_cut_file_is_refused(tmp_path, name):
    """A file that ends before its rows do is refused by name."""
    (np.save if name == "d.npy" else np.savez)(tmp_path / name, X)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="cut short"):
        list(open_source(tmp_path / name, target="-1").blocks())


def test_fields_of_a_structured_array_are_columns(tmp_path):
    """A structured array is a table of its fields."""
    rows = np.array([(1, 2.5), (3, 4.5)], dtype=[("age", "i4"), ("pay", "f8")])
    block = next(iter(open_source(saved(tmp_path, rows), target="pay").blocks()))
    assert block.columns.to_pydict() == {"age": [1, 3]}
    assert block.target.to_pylist() == [2.5, 4.5]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (">f8", [1.5, 2.5]),
        (">i4", [1, 2]),
        (">U3", ["uvw", "x"]),
        ("S2", [b"uv", b"x"]),
        ("?", [True, False]),
        (">M8[s]", ["2020-01-01T10:00", "2021-05-01T11:00"]),
        ("M8[D]", ["2020-01-01", "2021-05-01"]),
        ("M8[M]", ["2020-01", "2021-05"]),
        ("m8[h]", [3, 4]),
        ("f2", [1.5, 2.5]),
    ],
)
def test_fields_of_any_one_value_are_read(tmp_path, kind, values):
    """Numbers, texts, booleans and times of either order of bytes are columns with the values they have in NumPy."""
    records = np.zeros(2, dtype=[("a", kind), ("y", "i4")])
    records["a"] = np.array(values, dtype=kind)
    np.save(tmp_path / "t.npy", records)
    (block,) = open_source(tmp_path / "t.npy", target="y").blocks()
    read = np.array(block.columns.column(0).to_pylist())
    expected = records["a"].astype("M8[s]" if kind.lstrip(">").startswith("M8") else records["a"].dtype)
    np.testing.assert_array_equal(read.astype(expected.dtype), expected)


@pytest.mark.parametrize("kind", ["(2,)i4", "c16", "V3"])
def test_fields_of_several_values_are_refused(tmp_path, kind):
    """A field that is no one number, text, boolean or date is refused by its name, and may be left out."""
    np.save(tmp_path / "t.npy", np.zeros(9, dtype=[("both", kind), ("a", "f8"), ("y", "i4")]))
    with pytest.raises(ColumnError, match=r"field 'both' of t.npy holds .*leave it out"):
        open_source(tmp_path / "t.npy", target="y")
    (block,) = open_source(tmp_path / "t.npy", target="y", drop="both").blocks()
    assert block.num_rows == 9


def test_files_of_another_width_are_refused(tmp_path):
    """Matrices read together have one width."""
    saved(tmp_path, X, "1.npy")
    saved(tmp_path, X[:, :3], "2.npy")
    with pytest.raises(SourceError, match="3 columns"):
        open_source(tmp_path, target="0")
