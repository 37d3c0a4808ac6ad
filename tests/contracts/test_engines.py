"""The engine contract: the compiled engine takes the reference's steps, and sums over rows add up."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import SHAPES, dataset, engines, fourth_order, rule, start

from descend.averaging import TailAverage
from descend.batches import Visits, order, shuffle
from descend.engines.base import State
from descend.engines.curvature import split_heavy_rows
from descend.engines.linear import LinearEngine
from descend.engines.reference import ReferenceEngine
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS as EVERY
from descend.updates.schedules import SCHEDULES

OPTIMIZERS = [name for name, optimizer in EVERY.items() if optimizer.elementwise]
"""The others are held in test_saga.py."""
TOLERANCE = {np.float32: {"rtol": 2e-4, "atol": 2e-5}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}
BATCH_SIZES = (1, 2, 5, 32, 37)
"""Of 37 rows: single rows, ragged ends of 1, 2 and 5 rows, and all rows in an order."""


def assert_same_state(one: State, other: State, dtype) -> None:
    for name in ("parameters", "first", "second", "average"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), err_msg=name, **TOLERANCE[dtype])
    assert (one.steps, one.num_averaged) == (other.steps, other.num_averaged)
    assert one.parameters.dtype == other.parameters.dtype == dtype


def run_both(shape, dtype, weighted, how, batch_size, alpha=0.01, average_every=0, epochs=2):
    """Both engines over the same orders, looked at after every step of the first epoch."""
    data, loss, k = dataset(shape, dtype=dtype, weighted=weighted)
    visit_weights = np.random.default_rng(5).uniform(0.3, 1.0, size=data.num_rows) if weighted else None
    both = engines(data, loss, alpha, weights=visit_weights, average_every=average_every)
    states = [start(data, k), start(data, k)]
    for epoch in range(1, epochs + 1):
        rows = order(0, epoch, data.num_rows)
        piece = batch_size if epoch == 1 else data.num_rows
        for at in range(0, data.num_rows, piece):
            for engine, state in zip(both, states, strict=True):
                # As in training: OpenBLAS's products of few float32 rows now and then flag what lies beyond.
                with np.errstate(over="ignore", invalid="ignore"):
                    engine.run(state, how, rows[at : at + piece], batch_size)
            assert_same_state(*states, dtype)
    return both, states


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_engines_take_the_same_steps(shape, optimizer, dtype):
    """Step by step, for every batch size, ragged end, schedule, weighting, reduction and intercept, states agree."""
    rate = 0.01
    for i, (batch_size, schedule, sum_rows, weighted) in enumerate(
        itertools.product(BATCH_SIZES, SCHEDULES, (False, True), (False, True))
    ):
        num_steps = 2 * -(-37 // batch_size)
        how = rule(
            optimizer,
            rate / (batch_size if sum_rows and optimizer != "adam" else 1),
            schedule,
            sum_rows=sum_rows,
            num_steps=num_steps,
            fit_intercept=i % 4 != 3,
            momentum=0.8,
        )
        _, states = run_both(shape, dtype, weighted, how, batch_size, average_every=(0, 1, 3)[i % 3])
        assert states[0].steps == num_steps
        assert np.isfinite(states[0].parameters).all()
        if not how.fit_intercept:
            untouched = start(dataset(shape, dtype=dtype)[0], len(states[0].parameters)).parameters[:, -1]
            np.testing.assert_array_equal(states[1].parameters[:, -1], untouched)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("weighted", "sum_rows"), [(False, False), (True, False), (True, True)])
def test_the_full_batch_takes_the_references_steps(shape, optimizer, dtype, weighted, sum_rows):
    """Without an order both engines take the same ten steps, weights and reduction included."""
    data, loss, k = dataset(shape, dtype=dtype, weighted=weighted)
    how = rule(optimizer, 0.05 / (37 if sum_rows and optimizer != "adam" else 1), "linear", sum_rows=sum_rows,
               num_steps=10, fit_intercept=not weighted)  # fmt: skip
    states = [start(data, k), start(data, k)]
    for _ in range(10):
        for engine, state in zip(engines(data, loss), states, strict=True):
            engine.run(state, how, None, data.num_rows)
        assert_same_state(*states, dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_no_order_is_any_order_of_all_rows(shape, weighted):
    """A full batch read in place takes the step of a batch that gathers all rows."""
    data, loss, k = dataset(shape, weighted=weighted)
    for engine in engines(data, loss):
        in_place, gathered = start(data, k), start(data, k)
        engine.run(in_place, rule("momentum", 0.1), None, data.num_rows)
        engine.run(gathered, rule("momentum", 0.1), order(3, 1, data.num_rows), data.num_rows)
        np.testing.assert_allclose(in_place.parameters, gathered.parameters, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("num_columns", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5, 9])
def test_small_and_odd_shapes_agree(num_rows, num_columns):
    """Fewer rows than a block of four, and any number of columns, make no difference."""
    data, loss, k = dataset("squared_error", num_rows, num_columns)
    for batch_size in {1, 3, num_rows}:
        states = [start(data, k), start(data, k)]
        for engine, state in zip(engines(data, loss), states, strict=True):
            engine.run(state, rule(rate=0.01), order(0, 1, num_rows), batch_size)
        assert_same_state(*states, np.float64)


# --- the oracle: ten lines of NumPy ----------------------------------------------------------------


def ten_lines(X, y, orders, batch_size, rate, alpha):
    """Logistic regression by plain gradient descent, as anybody would write it."""
    w, b = np.zeros(X.shape[1]), 0.0
    for rows in orders:
        for at in range(0, len(rows), batch_size):
            batch = rows[at : at + batch_size]
            error = 1 / (1 + np.exp(-(X[batch] @ w + b))) - y[batch]
            w, b = w - rate * (X[batch].T @ error / len(batch) + alpha * w), b - rate * error.mean()
    return np.append(w, b)


@pytest.mark.parametrize(("batch_size", "tolerance"), [(1, 1e-9), (32, 1e-9), (500, 1e-12)])
def test_a_ten_line_loop_gets_the_same_numbers(batch_size, tolerance):
    """Epochs equal a ten-line NumPy loop: to 1e-12 for the full batch, to 1e-9 at B = 1 and 32."""
    data, loss, _ = dataset("log_loss", num_rows=500, num_columns=20)
    engine, state = LinearEngine(data, loss, Penalty(1e-3)), State(np.zeros((1, 21)))
    num_epochs = 5 if batch_size == 1 else 100
    orders = [order(0, epoch, 500) for epoch in range(1, num_epochs + 1)]
    for rows in orders:
        engine.run(state, rule(rate=0.05), None if batch_size == 500 else rows, batch_size)
    expected = ten_lines(data.X, data.y[:, 0], orders, batch_size, 0.05, 1e-3)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(state.parameters[0], expected, rtol=tolerance, atol=0)


# --- sums ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@given(cuts=st.lists(st.integers(0, 37), max_size=6), seed=st.integers(0, 5), weighted=st.booleans())
def test_sums_of_parts_are_the_sums_of_the_whole(shape, cuts, seed, weighted):
    """Loss, gradient and weight of all rows are those of any partition, added up; in any order of the rows."""
    data, loss, k = dataset(shape, weighted=weighted)
    parameters = start(data, k, spread=1.0).parameters
    rows = np.random.default_rng(seed).permutation(37)
    reference, compiled = engines(data, loss)
    whole = reference.loss_and_gradient(parameters, slice(None))
    for engine in (reference, compiled):
        parts = [engine.loss_and_gradient(parameters, part) for part in np.split(rows, sorted(cuts))]
        assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-12)
        assert sum(part.weight for part in parts) == pytest.approx(whole.weight, rel=1e-12)
        np.testing.assert_allclose(sum(p.gradient for p in parts), whole.gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_the_mean_loss(shape, weighted):
    """Sum of gradients over sum of weights, plus the penalty's, is a finite difference of ``mean_loss``."""
    data, loss, k = dataset(shape, weighted=weighted)
    parameters = start(data, k, spread=0.7).parameters
    for engine in engines(data, loss, alpha=0.3):
        sums = engine.loss_and_gradient(parameters, slice(None))
        gradient = sums.gradient / sums.weight
        gradient[:, :-1] += 0.3 * parameters[:, :-1]
        np.testing.assert_allclose(
            gradient, fourth_order(engine.mean_loss, parameters), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_plain_step_is_rate_times_the_gradient(shape, weighted):
    """One full-batch step moves by −rate · the finite difference of ``mean_loss``."""
    data, loss, k = dataset(shape, weighted=weighted)
    for engine in engines(data, loss, alpha=0.3):
        state = start(data, k, spread=0.7)
        before = state.parameters.copy()
        engine.run(state, rule(rate=0.1), None, data.num_rows)
        expected = before - 0.1 * fourth_order(engine.mean_loss, before)
        np.testing.assert_allclose(state.parameters, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_of_two_is_the_row_twice(shape):
    """Whole-number weights give the sums of data in which rows are repeated, in both engines."""
    data, loss, k = dataset(shape)
    counts = np.random.default_rng(8).integers(0, 4, size=37)
    repeated = np.repeat(np.arange(37), counts)
    heavy = Dataset(data.X, data.y, counts.astype(float))
    plain = Dataset(data.X[repeated], data.y[repeated])
    parameters = start(data, k, spread=1.0).parameters
    for one, other in zip(engines(heavy, loss), engines(plain, loss), strict=True):
        a, b = (
            one.loss_and_gradient(parameters, slice(None)),
            other.loss_and_gradient(parameters, slice(None)),
        )
        assert (a.loss, a.weight) == pytest.approx((b.loss, b.weight), rel=1e-12)
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-10, atol=1e-12)
        assert one.mean_loss(parameters) == pytest.approx(other.mean_loss(parameters), rel=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_mean_loss_of_the_first_rows_is_theirs(shape):
    """``mean_loss`` of m rows is that of an engine which holds just these; more than all means all."""
    data, loss, k = dataset(shape, weighted=True)
    parameters = start(data, k, spread=1.0).parameters
    few = Dataset(data.X[:11], data.y[:11], data.weights[:11])
    for whole, part in zip(engines(data, loss), engines(few, loss), strict=True):
        assert whole.mean_loss(parameters, 11) == pytest.approx(part.mean_loss(parameters), rel=1e-13)
        assert whole.mean_loss(parameters, 1000) == whole.mean_loss(parameters)


def test_visits_weights_leave_loss_and_full_gradient_alone():
    """Weights of visits change the steps over an order, and neither loss nor whole gradient."""
    data, loss, k = dataset(weighted=True)
    visits = np.full(37, 0.5)
    parameters = start(data, k).parameters
    for with_them, without in zip(engines(data, loss, weights=visits), engines(data, loss), strict=True):
        assert with_them.mean_loss(parameters) == without.mean_loss(parameters)
        a = with_them.loss_and_gradient(parameters, slice(None))
        b = without.loss_and_gradient(parameters, slice(None))
        np.testing.assert_array_equal(a.gradient, b.gradient)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_epoch_over_split_rows_has_the_objectives_gradient(shape):
    """All visits of split rows in one batch give the plain full-batch step: the objective is unchanged."""
    data, loss, k = dataset(shape, num_rows=60, weighted=True)
    heavy = data.X.copy()
    heavy[:3] *= 12
    data = Dataset(heavy, data.y, data.weights)
    norms = data.weights * ((heavy**2).sum(axis=1) + 1)
    visits = split_heavy_rows(norms, seed=0)
    assert visits.num_visits > 62
    for engine in engines(data, loss, weights=visits.weights):
        split, plain = start(data, k), start(data, k)
        engine.run(split, rule(rate=0.01), shuffle(visits, 0, 1), visits.num_visits)
        engine.run(plain, rule(rate=0.01), None, 60)
        np.testing.assert_allclose(split.parameters, plain.parameters, rtol=1e-11, atol=1e-13)


# --- how a run may be cut ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["log_loss", "softmax"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@given(cuts=st.lists(st.integers(0, 9), max_size=4), batch_size=st.sampled_from([1, 4, 5]))
def test_a_run_may_be_cut_between_batches(shape, optimizer, cuts, batch_size):
    """Calling ``run`` in pieces, empty ones among them, gives bit for bit what one call gives."""
    data, loss, k = dataset(shape)
    rows = order(0, 1, 37)
    how = rule(optimizer, 0.02, "linear", num_steps=37)
    for engine in engines(data, loss, average_every=2):
        whole, cut = start(data, k), start(data, k)
        engine.run(whole, how, rows, batch_size)
        for piece in np.split(rows, sorted(min(37, c * batch_size) for c in cuts)):
            engine.run(cut, how, piece, batch_size)
        for name in ("parameters", "first", "second", "average", "steps", "num_averaged"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)


@pytest.mark.parametrize("average_every", [1, 4])
def test_the_running_average_is_the_plain_mean(average_every):
    """``State.average`` is the mean of the parameters after every so many steps, in both engines."""
    data, loss, k = dataset("softmax")
    for engine in engines(data, loss, average_every=average_every):
        state, seen = start(data, k), []
        for row in order(0, 1, 37):
            engine.run(state, rule(rate=0.1), np.array([row]), 1)
            if state.steps % average_every == 0:
                seen.append(state.parameters.copy())
        assert state.num_averaged == len(seen) == 37 // average_every
        np.testing.assert_allclose(state.average, np.mean(seen, axis=0), rtol=1e-12, atol=1e-14)


def test_both_engines_train_alike():
    """The loop over either engine ends with the same parameters and history, averaging and stopping included."""
    from descend.recipe import Phase
    from descend.training import train
    from descend.watching import Limits, Watch

    data, loss, k = dataset("log_loss", num_rows=200)
    results = []
    for engine in engines(data, loss, average_every=2):
        how = rule(rate=0.05)
        watch = Watch(engine, 200, Limits(epochs=40), tail=TailAverage())
        parameters = train(engine, State(np.zeros((k, 6))), [Phase("sgd", how, 8, 40)], Visits(200), watch)
        results.append((parameters, watch.history))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9)
    for name in ("rows", "updates"):
        ends = [history.last[name] for _, history in results]
        assert ends[0] == ends[1]
    assert results[0][1].stopped == results[1][1].stopped
    assert results[0][1].last["loss"] == pytest.approx(results[1][1].last["loss"], rel=1e-10)


# --- threads and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(shape, dtype):
    """Full-batch steps and losses are the same to the last bit with 1, 2 and 3 threads."""
    data, loss, k = dataset(shape, num_rows=13_001, num_columns=40, dtype=dtype, weighted=True)
    results = []
    for threads in (1, 2, 3):
        engine = LinearEngine(data, loss, Penalty(0.01), threads=threads)
        assert (engine.pool is not None) == (threads > 1)
        state = start(data, k)
        for _ in range(3):
            engine.run(state, rule("adam", 0.05), None, data.num_rows)
        results.append((state.parameters.tobytes(), engine.mean_loss(state.parameters), engine.mean_loss(
            state.parameters, 9_000)))  # fmt: skip
        if engine.pool is not None:
            engine.pool.shutdown()
    assert results[0] == results[1] == results[2]


def test_many_chunks_add_up_to_the_reference():
    """Rows that are read in several chunks give the reference's loss and step."""
    data, loss, k = dataset("softmax", num_rows=13_001, num_columns=6, weighted=True)
    reference, compiled = engines(data, loss)
    assert len(compiled.chunks) > 2
    states = [start(data, k), start(data, k)]
    for engine, state in zip((reference, compiled), states, strict=True):
        engine.run(state, rule(rate=0.5), None, data.num_rows)
    assert_same_state(*states, np.float64)
    for num_rows in (None, 1, 4096, 4097, 9000):
        expected = reference.mean_loss(states[0].parameters, num_rows)
        assert compiled.mean_loss(states[0].parameters, num_rows) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 64, 40_000])
def test_no_step_copies_the_data(batch_size):
    """Steps and losses of 32 MB of rows take less than 1 MB beside them, whatever the batch size."""
    data, loss, k = dataset("log_loss", num_rows=40_000, num_columns=100, weighted=True)
    engine = LinearEngine(data, loss, Penalty(0.01))
    assert engine.data.X is data.X
    state = start(data, k)
    rows = None if batch_size == 40_000 else order(0, 1, 40_000)
    engine.warm_up([(rule(), 0 if rows is None else batch_size)], state)
    engine.mean_loss(state.parameters)
    tracemalloc.start()
    try:
        engine.run(state, rule(), rows, batch_size)
        engine.mean_loss(state.parameters)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert data.X.nbytes == 32_000_000
    assert peak < 1_000_000


def test_no_engine_changes_its_rows():
    """Rows, targets and weights are the same after steps of any kind, and may be read-only."""
    data, loss, k = dataset("softmax", weighted=True)
    copies = data.X.copy(), data.y.copy(), data.weights.copy()
    for array in (data.X, data.y, data.weights):
        array.flags.writeable = False
    for engine in engines(data, loss):
        for batch_size in (1, 4, 37):
            engine.run(start(data, k), rule("adam"), order(0, 1, 37), batch_size)
        engine.run(start(data, k), rule("adam"), None, 37)
        engine.mean_loss(start(data, k).parameters)
    for array, copy in zip((data.X, data.y, data.weights), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_warming_up_changes_nothing():
    """``warm_up`` leaves state, rows and later results as they are."""
    data, loss, k = dataset(weighted=True)
    fresh, warmed = (LinearEngine(data, loss, Penalty(0.01), average_every=2) for _ in range(2))
    states = [start(data, k), start(data, k)]
    warmed.warm_up([(rule("momentum"), 4)], states[1])
    for engine, state in zip((fresh, warmed), states, strict=True):
        engine.run(state, rule("momentum"), order(0, 1, 37), 4)
    np.testing.assert_array_equal(states[0].parameters, states[1].parameters)
    np.testing.assert_array_equal(states[0].average, states[1].average)


def test_the_reference_is_not_the_compiled_engine():
    """The twins share formulas, not loops: the reference imports nothing of the compiled one."""
    import inspect

    source = inspect.getsource(inspect.getmodule(ReferenceEngine))
    assert "linear" not in "".join(line for line in source.splitlines() if "import" in line)
    assert LOSSES
