"""Sparse rows, block by block."""

import pickle

import numpy as np
import pytest
from blocks import in_blocks, sparse_rows
from scipy.sparse import csr_array

from descend import LinearClassifier


def test_sparse_blocks_are_learnt_from():
    """Blocks of CSR rows end near fit, at every batch size, and a refused dense-to-sparse change names X."""
    X, y = sparse_rows()
    rows = csr_array(X)
    best = LinearClassifier(random_state=0).fit(rows, y).score(rows, y)
    for batch_size in (1, 32, "auto"):
        model = in_blocks(LinearClassifier(batch_size=batch_size, random_state=0), rows, y, 6, 10)
        assert model.score(rows, y) > best - 0.05
        assert model.model_.features.takes_sparse
    assert in_blocks(LinearClassifier(random_state=0), rows[:100], y[:100], 100).score(rows, y) > 0.6
    with pytest.raises(ValueError, match="X is sparse"):
        LinearClassifier(random_state=0).partial_fit(X, y, classes=[0, 1]).partial_fit(rows, y)


def test_sparse_predictions_do_not_jump():
    """Sparse rows that change every scale move no prediction, after fit as after blocks; dense rows may follow."""
    X, y = sparse_rows()
    rows = csr_array(X)
    for model in (
        LinearClassifier(random_state=0, average=False).fit(rows, y),
        LinearClassifier(random_state=0, average=False).partial_fit(rows, y, classes=[0, 1]),
    ):
        before = model.decision_function(rows)
        model.set_params(learning_rate=1e-300).partial_fit(1e3 * rows, y)
        np.testing.assert_allclose(model.decision_function(rows), before, rtol=1e-8, atol=1e-10)
        model.partial_fit(X, y)
        np.testing.assert_allclose(model.decision_function(X), before, rtol=1e-8, atol=1e-10)


def test_nothing_of_single_rows_is_kept():
    """What a stream remembers does not grow with its rows."""
    X, y = sparse_rows()
    model = LinearClassifier(random_state=0).fit(csr_array(X), y)
    sizes = []
    for _ in range(3):
        model.partial_fit(csr_array(X), y)
        sizes.append(len(pickle.dumps(model._stream.learned)) + len(pickle.dumps(model._learned)))
    assert sizes[0] == sizes[-1]
