"""Sparse rows on their way to training: never dense, scaled by the same numbers, shuffled to the same places."""

import json
import tracemalloc

import numpy as np
import pytest
from scipy.sparse import coo_array, csc_array, csr_array, csr_matrix, random_array

from descend.errors import ColumnError, InputError, ModelFileError
from descend.features import Features, prepare
from descend.features.moments import Moments, of_sparse_rows
from descend.features.sparse import SparseFeatures
from descend.sources import array_source
from descend.sources import sparse as sparse_sources


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(3.0, 2.0, size=(200, 12)) * 10.0 ** rng.integers(-3, 4, size=12)
    X[rng.random(X.shape) < 0.7] = 0.0
    X[:, 5], X[:, 7] = 0.0, 4.0
    return X, (rng.random(200) < 0.5).astype(int), rng.integers(0, 4, size=200).astype(float)


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_of_sparse_rows_are_those_of_dense_ones(table, weighted):
    """Mean, deviation, range and count take the zeros in, weights are counts, and records of parts merge."""
    X, _, weights = table
    w = weights + 0.3 if weighted else None
    dense, merged = Moments(12), Moments(12)
    dense.update(X, w)
    for rows in (slice(0, 50), slice(50, 51), slice(51, 200)):
        merged.merge(of_sparse_rows(csr_array(X[rows]), None if w is None else w[rows]))
    for name in ("count", "mean", "minimum", "maximum"):
        np.testing.assert_allclose(getattr(merged, name), getattr(dense, name), rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(merged.M2, dense.M2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [csr_array, csr_matrix, csc_array, coo_array])
@pytest.mark.parametrize("block_numbers", [1, 50, 2**20])
def test_rows_go_where_dense_ones_go(monkeypatch, table, make, block_numbers):
    """Split, order, target and weights are the dense ones; values are divided by the deviation and not shifted."""
    monkeypatch.setattr(sparse_sources, "BLOCK_NUMBERS", block_numbers)
    X, y, weights = table
    options = {"validation": 0.2, "seed": 3, "class_weight": "balanced", "dtype": np.float64}
    dense = prepare(array_source(X, y, weights), standardize=False, **options)
    sparse = prepare(array_source(make(X), y, weights), **options)
    kept = weights > 0
    for one, other in ((dense.train, sparse.train), (dense.validation, sparse.validation)):
        assert other.is_sparse
        assert other.X.has_canonical_format
        np.testing.assert_allclose(other.X.toarray() * sparse.features.scale, one.X, rtol=1e-12)
        np.testing.assert_array_equal(other.y, one.y)
        np.testing.assert_allclose(other.weights, one.weights, rtol=1e-12)
    rows = np.flatnonzero(kept)
    assert dense.num_rows == sparse.num_rows == len(rows)
    assert (sparse.features.mean == 0).all()
    assert sparse.features.scale[5] == 1.0  # holds nothing
    assert sparse.features.scale[7] == 4.0  # the same number everywhere
    assert "1 columns hold nothing" in " ".join(sparse.notes)


def test_the_scale_is_the_deviation_of_the_training_rows(table):
    """The scale (d,) is NumPy's standard deviation, zeros included."""
    X, y, _ = table
    scale = prepare(array_source(csr_array(X), y), validation=0.0).features.scale
    others = np.setdiff1d(np.arange(12), [5, 7])
    np.testing.assert_allclose(scale[others], X.std(axis=0)[others], rtol=1e-12)


def test_nothing_of_the_size_of_the_dense_matrix_is_made():
    """20,000 rows of 100,000 columns (16 GB dense) are prepared within a few times their stored numbers."""
    X = random_array((20_000, 100_000), density=1e-4, format="csr", random_state=0)
    y = np.arange(20_000) % 2
    tracemalloc.start()
    ready = prepare(array_source(X, y), validation=0.1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ready.train.X.nnz + ready.validation.X.nnz == X.nnz
    assert peak < 2e8


def test_rows_that_need_no_change_are_not_copied(table):
    """Without scaling, order and split the user's own arrays are trained on."""
    X, y, _ = table
    given = csr_array(X)
    ready = prepare(array_source(given, y), validation=0.0, standardize=False, shuffle=False)
    assert np.shares_memory(ready.train.X.data, given.data)


def test_a_number_written_twice_is_their_sum_and_the_users_matrix_stays():
    """CSR that is not canonical is put in order on a copy."""
    given = csr_array((np.array([1.0, 2.0, 5.0, 3.0]), np.array([1, 1, 1, 0]), np.array([0, 2, 4])))
    source = array_source(given, [0, 1])
    assert next(source.blocks()).columns.toarray().tolist() == [[0, 3], [3, 5]]
    assert given.data.tolist() == [1.0, 2.0, 5.0, 3.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused_with_their_place(table, bad):
    """NaN and infinity have no meaning in a sparse row: column and row are named."""
    X, y, weights = table
    X[17, 3] = bad
    weights[:] = 1.0
    weights[4] = 0.0
    with pytest.raises(ColumnError, match=rf"'x3' holds {bad} in row 18;.*leave it out"):
        prepare(array_source(csr_array(X), y, weights), validation=0.0)


def test_features_of_sparse_rows_come_back_from_json_to_the_last_bit(table):
    """Names, scale and notes survive; a damaged record is told."""
    X, y, _ = table
    for names in (None, tuple("abcdefghijkl"), tuple(str(i) for i in range(3, 15))):
        source = array_source(csr_array(X), y)
        if names is not None:
            source.column_names = names
        features = prepare(source).features
        stored = json.loads(json.dumps(features.to_json()))
        back = Features.from_json(stored)
        assert isinstance(back, SparseFeatures)
        np.testing.assert_array_equal(back.scale, features.scale)
        assert (back.names, back.notes, back.standardize) == (features.names, features.notes, True)
        with pytest.raises(ModelFileError, match="damaged"):
            Features.from_json(stored | {"scale": "AAAA"})


def test_encoding_takes_dense_and_sparse_rows_and_refuses_others(table):
    """The same numbers for dense rows; another width and a table are refused."""
    import pyarrow as pa

    X, y, _ = table
    features = prepare(array_source(csr_array(X), y)).features
    np.testing.assert_array_equal(features.encode(X), features.encode(csr_array(X)).toarray())
    with pytest.raises(ColumnError, match="has 3 columns, but the model was made with 12"):
        features.encode(csr_array(X[:, :3]))
    with pytest.raises(ColumnError, match="trained on sparse rows"):
        features.encode(pa.RecordBatch.from_pydict({"x0": [1.0]}))


def test_matrices_that_are_none_are_refused():
    """Shape, kind and lengths are checked before anything is read."""
    with pytest.raises(InputError, match=r"1 column at least"):
        array_source(csr_array((3, 0)), [0, 1, 1])
    with pytest.raises(InputError, match="one target a row"):
        array_source(csr_array(np.eye(3)), [0, 1])
    with pytest.raises(ColumnError, match="numbers are needed"):
        array_source(csr_array(np.eye(3) * 1j), [0, 1, 1])
