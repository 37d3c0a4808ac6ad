"""Moments: equal to NumPy's on the whole, whatever the blocks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from descend.features.moments import Moments

VALUES = st.one_of(st.floats(-1e6, 1e6), st.just(float("nan")))
TABLES = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (n, 3), elements=VALUES))


def record(values, weights=None):
    moments = Moments(values.shape[1])
    moments.update(values, weights)
    return moments


def assert_equal(one, other):
    for name in Moments.__slots__:
        np.testing.assert_allclose(
            getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-3, err_msg=name
        )


@given(TABLES, st.integers(0, 30))
def test_two_records_of_disjoint_rows_merge_to_that_of_all(values, cut):
    """Merging the records of two parts gives the record of the whole."""
    merged = record(values[:cut])
    merged.merge(record(values[cut:]))
    assert_equal(merged, record(values))


@given(TABLES, st.data())
def test_a_weight_is_a_count(values, data):
    """A weight of 2 is the row twice, and moments of missing values are those of the others."""
    weights = data.draw(arrays(np.int64, len(values), elements=st.integers(1, 3)))
    assert_equal(record(values, weights.astype(float)), record(np.repeat(values, weights, axis=0)))


def test_moments_are_those_of_numpy():
    """Mean, population variance and range equal NumPy's without missing values."""
    values = np.random.default_rng(0).normal(50, 3, size=(1000, 4))
    found = record(values)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, values.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(found.minimum, values.min(axis=0))
    np.testing.assert_array_equal(found.maximum, values.max(axis=0))


def test_large_offset_does_not_cancel():
    """Spread of 1 around 1e9 survives merging many blocks: squares are never summed raw."""
    values = 1e9 + np.random.default_rng(0).normal(size=(10_000, 1))
    found = Moments(1)
    for start in range(0, len(values), 100):
        found.update(values[start : start + 100])
    np.testing.assert_allclose(found.variance, values.var(axis=0), rtol=1e-6)
