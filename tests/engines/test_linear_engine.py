"""What is particular to the compiled engine: its dedicated loop, chunks, non-contiguous orders, broken numbers."""

import numpy as np
import pytest
from support import dataset, rule, start

from descend.batches import order
from descend.engines import row_kernels as kernels
from descend.engines.full_batch import CHUNKS, SMALLEST_CHUNK
from descend.engines.linear import LinearEngine
from descend.engines.reference import ReferenceEngine
from descend.objectives.penalties import Penalty
from descend.types import Dataset


@pytest.mark.parametrize("shape", ["log_loss", "squared_error"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("average_every", [0, 3, 4, 16])
def test_the_loop_for_single_rows_is_the_general_one(shape, fit_intercept, average_every):
    """The dedicated loop of batch size 1, which takes rows in fours, and the general one take the same steps."""
    data, loss, k = dataset(shape, weighted=True)
    rows = order(0, 1, 37)
    how = rule(rate=0.02, schedule="linear", num_steps=40, fit_intercept=fit_intercept)
    engine = LinearEngine(data, loss, Penalty(0.1), average_every=average_every)
    dedicated, general = start(data, k), start(data, k)
    engine._steps_of_one(dedicated, how, rows)
    engine._steps(general, how, rows, 1)
    for name in ("parameters", "average"):
        np.testing.assert_allclose(getattr(dedicated, name), getattr(general, name), rtol=1e-12, atol=1e-14)
    assert (dedicated.steps, dedicated.num_averaged) == (general.steps, general.num_averaged)
    assert dedicated.steps == 37
    assert dedicated.num_averaged == (37 // average_every if average_every else 0)


@pytest.mark.parametrize("num_rows", [1, 4095, 4096, 4097, 10_000, 300_000])
def test_chunks_cover_the_rows_once(num_rows):
    """Chunks follow each other without gap or overlap, are at most 16 and hang on the number of rows alone."""
    data = Dataset(np.zeros((num_rows, 2), dtype=np.float32), np.zeros((num_rows, 1)))
    loss = dataset("squared_error")[1]
    chunks = [LinearEngine(data, loss, Penalty(0.0), threads=t).chunks for t in (1, 2)]
    assert chunks[0] == chunks[1]
    assert [c for chunk in chunks[0] for c in range(num_rows)[chunk]] == list(range(num_rows))
    assert len(chunks[0]) <= CHUNKS
    assert all(c.stop - c.start >= SMALLEST_CHUNK for c in chunks[0][:-1])


def test_small_data_takes_no_threads():
    """Where handing out work would take longer than doing it, no pool is made."""
    data, loss, _ = dataset()
    assert LinearEngine(data, loss, Penalty(0.0), threads=8).pool is None


def test_empty_weights_are_no_weights():
    """Weights of length 0 mean all 1, as None does."""
    data, loss, k = dataset()
    parameters = start(data, k).parameters
    empty = LinearEngine(Dataset(data.X, data.y, np.empty(0)), loss, Penalty(0.1))
    assert empty.mean_loss(parameters) == LinearEngine(data, loss, Penalty(0.1)).mean_loss(parameters)


@pytest.mark.parametrize("batch_size", [1, 4, 37])
def test_numbers_beyond_the_range_are_not_hidden(batch_size):
    """A diverging run shows inf or NaN in its loss: the compiled loops never turn them into plausible numbers."""
    data, loss, k = dataset("squared_error")
    engine = LinearEngine(data, loss, Penalty(0.0))
    state = start(data, k)
    with np.errstate(over="ignore", invalid="ignore"):
        for epoch in range(1, 200):
            engine.run(state, rule(rate=1e6), order(0, epoch, 37), batch_size)
        assert not np.isfinite(engine.mean_loss(state.parameters))


def test_softmax_of_infinite_scores_is_not_a_number():
    """Infinite parameters give a loss that is NaN or infinite, in both engines."""
    data, loss, k = dataset("softmax")
    parameters = np.full((k, 6), np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        for engine in (ReferenceEngine(data, loss, Penalty(0.0)), LinearEngine(data, loss, Penalty(0.0))):
            assert not np.isfinite(engine.mean_loss(parameters))


def test_losses_are_added_up_in_float64():
    """The mean loss of float32 rows is right to 1e-6 over a million rows."""
    n = 1_000_000
    data = Dataset(np.full((n, 1), 0.1, dtype=np.float32), np.zeros((n, 1)))
    loss = dataset("squared_error")[1]
    mean = LinearEngine(data, loss, Penalty(0.0)).mean_loss(np.array([[1.0, 0.0]], dtype=np.float32))
    assert mean == pytest.approx(0.5 * 0.1**2, rel=1e-6)


def test_squared_norms_count_the_intercept():
    """The squared norm of a row has the intercept's 1 in it."""
    out = np.empty(2)
    kernels.squared_norms(np.array([[3.0, 4.0], [0.0, 0.0]]), out)
    assert out.tolist() == [26.0, 1.0]
