"""The engine contract for networks: the compiled engine takes the reference's steps, and its gradients are right."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from support import OTHERS, SHAPES, dataset, fourth_order, rule

from descend.averaging import TailAverage
from descend.batches import order, rows_together
from descend.engines.base import State
from descend.engines.mlp import NetworkEngine
from descend.engines.reference_mlp import ReferenceNetworkEngine, weights_of
from descend.models.network import Network, initialise
from descend.objectives.activations import ACTIVATIONS
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS as EVERY
from descend.updates.schedules import SCHEDULES

OPTIMIZERS = [name for name, optimizer in EVERY.items() if optimizer.elementwise]
TOLERANCE = {np.float32: {"rtol": 5e-4, "atol": 5e-5}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}
LOSSES_AND_LABELS = [*SHAPES, *OTHERS, "labels"]
"""Every loss of the linear models, with one output and several; and log loss on several labels a row."""
SMOOTH = [name for name in LOSSES_AND_LABELS if not name.startswith(("hinge", "epsilon", "quantile"))]


def table(shape, **options):
    """Rows, loss and number of outputs as in ``dataset``; "labels": three labels, each there or not."""
    if shape != "labels":
        return dataset(shape, **options)
    data, _, _ = dataset("squared_errors", **options)
    more = np.hstack([data.y, data.y[:, :1] - data.y[:, 1:]])
    return Dataset(data.X, (more > 0).astype(np.float64), data.weights), LOSSES["log_loss"], more.shape[1]


def network_of(data, outputs, activation="tanh", hidden=(7, 18)):
    return Network((data.num_columns, *hidden, outputs), ACTIVATIONS[activation])


def both_engines(shape, activation="tanh", hidden=(7, 18), alpha=0.01, dtype=np.float64, l1=0.0, **options):
    weighted = options.pop("weighted", False)
    data, loss, outputs = table(shape, num_rows=options.pop("num_rows", 37), dtype=dtype, weighted=weighted)
    network = network_of(data, outputs, activation, hidden)
    penalty = Penalty(alpha, l1)
    return (
        ReferenceNetworkEngine(data, loss, penalty, network, **options),
        NetworkEngine(data, loss, penalty, network, **options),
    )


def start(network, dtype=np.float64, seed=1):
    """Random weights, and intercepts away from zero."""
    parameters = initialise(network, seed, dtype)
    rng = np.random.default_rng(seed)
    for _, bias in network.parts(parameters):
        bias[:] = 0.1 * rng.normal(size=bias.shape)
    return State(parameters)


def assert_same_state(one, other, dtype):
    for name in ("parameters", "first", "second", "average"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), err_msg=name, **TOLERANCE[dtype])
    assert (one.steps, one.num_averaged, one.visits) == (other.steps, other.num_averaged, other.visits)
    assert one.parameters.dtype == other.parameters.dtype == dtype


# --- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", SMOOTH)
def test_the_gradient_is_that_of_the_mean_loss(shape, activation):
    """For every activation and loss, the sums' gradient is a finite difference of ``mean_loss``, in both engines."""
    for engine in both_engines(shape, activation, hidden=(3, 4), alpha=0.3, num_rows=11, weighted=True):
        parameters = start(engine.network).parameters
        sums = engine.loss_and_gradient(parameters, slice(None))
        gradient = sums.gradient / sums.weight + 0.3 * parameters * weights_of(engine.network)
        found = fourth_order(engine.mean_loss, parameters, step=1e-4)
        used = np.zeros(engine.network.size, dtype=bool)
        for part in itertools.chain(*engine.network.parts(used)):
            part[:] = True
        np.testing.assert_allclose(gradient[used], found[used], rtol=2e-6, atol=1e-8)
        assert not sums.gradient[~used].any()  # what fills up rows is never moved


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LOSSES_AND_LABELS)
def test_both_doors_agree_with_the_reference(shape, dtype, activation):
    """Loss, gradient and weight of some rows, and the mean loss, are the reference engine's."""
    reference, compiled = both_engines(shape, activation, dtype=dtype, weighted=True, num_rows=150)
    parameters = start(compiled.network, dtype).parameters
    rows = np.random.default_rng(3).permutation(150)[:131]
    a, b = reference.loss_and_gradient(parameters, rows), compiled.loss_and_gradient(parameters, rows)
    rel = 1e-12 if dtype == np.float64 else 2e-5
    assert b.loss == pytest.approx(a.loss, rel=rel)
    assert b.weight == pytest.approx(a.weight, rel=1e-12)
    scale = np.abs(a.gradient).max()
    np.testing.assert_allclose(
        b.gradient, a.gradient, rtol=0, atol=(1e-13 if dtype == np.float64 else 2e-6) * scale
    )
    for count in (None, 1, 77):
        expected = reference.mean_loss(parameters, count)
        assert compiled.mean_loss(parameters, count) == pytest.approx(expected, rel=rel)


# --- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("shape", LOSSES_AND_LABELS)
def test_the_engines_take_the_same_steps(shape, optimizer, dtype):
    """For every loss, optimizer and precision, batch size and ragged end, states agree step by step."""
    cases = itertools.product((1, 3, 64, 150), (False, True))
    for number, (batch_size, weighted) in enumerate(cases):
        schedule = list(SCHEDULES)[number % len(SCHEDULES)]
        options = {
            "weight_decay": 0.1 * (number % 3 == 1),
            "average_every": number % 3,
            "alpha": 0.02 * (number % 2),
            "l1": 0.01 * (number % 4 == 3),
        }
        reference, compiled = both_engines(shape, dtype=dtype, weighted=weighted, num_rows=150, **options)
        how = rule(
            optimizer,
            0.003,
            schedule,
            num_steps=150,
            fit_intercept=number % 5 != 4,
            clip=0.5 * (number % 3 == 2),
        )
        states = [start(compiled.network, dtype) for _ in range(2)]
        rows = order(0, 1, 150)[:131]  # no batch size but 1 divides it
        for piece in (rows[:batch_size], rows[batch_size : 2 * batch_size], rows[2 * batch_size :]):
            for engine, state in zip((reference, compiled), states, strict=True):
                engine.run(state, how, piece, batch_size)
            assert_same_state(*states, dtype)
        assert np.isfinite(states[0].parameters).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", ["softmax", "squared_errors", "labels"])
def test_first_layers_worked_out_together_are_the_references_steps_one_by_one(shape, dtype, batch_size):
    """Plain steps on few rows are the reference's, whatever pulls on weights, is averaged, or comes twice."""
    cases = itertools.product((0.0, 0.3), (0, 1, 3, 5), (False, True))
    for number, (alpha, average_every, sum_rows) in enumerate(cases):
        reference, compiled = both_engines(
            shape,
            hidden=[(18,), (), (5, 3)][number % 3],
            dtype=dtype,
            num_rows=60,
            weighted=number % 2 == 1,
            alpha=alpha,
            weight_decay=alpha,
            average_every=average_every,
        )
        how = rule("sgd", 0.05, "linear", num_steps=90, sum_rows=sum_rows, fit_intercept=number % 4 != 3)
        states = [start(compiled.network, dtype) for _ in range(2)]
        rows = np.repeat(order(0, 1, 60)[:29], 2)
        for engine, state in zip((reference, compiled), states, strict=True):
            engine.run(state, how, rows, batch_size)
        assert_same_state(*states, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "sgd"])
def test_single_rows_take_the_references_steps_and_the_same_bits_however_cut(optimizer, dtype):
    """Whatever the layers, pulls, averages and clipping, rows one by one step as the reference does, cut or not."""
    cases = itertools.product((0.0, 0.3), (False, True), (0.0, 0.5), (0.0, 0.02))
    for number, (alpha, sum_rows, clip, l1) in enumerate(cases):
        reference, compiled = both_engines(
            ["softmax", "squared_errors", "log_loss"][number % 3],
            list(ACTIVATIONS)[number % len(ACTIVATIONS)],
            [(18,), (), (5, 3), (33, 16, 2)][number % 4],
            dtype=dtype,
            num_rows=40,
            weighted=number % 2 == 1,
            alpha=alpha,
            l1=l1,
            weight_decay=alpha / 3,
            average_every=number % 4,
        )
        how = rule(
            optimizer,
            0.003,
            "linear",
            num_steps=90,
            sum_rows=sum_rows,
            clip=clip,
            fit_intercept=number % 5 != 3,
        )
        states = [start(compiled.network, dtype) for _ in range(3)]
        rows = np.repeat(order(0, 1, 40)[:23], 2)
        for engine, state in zip((reference, compiled), states, strict=False):
            engine.run(state, how, rows, 1)
        assert_same_state(*states[:2], dtype)
        for piece in np.split(rows, [1, 2, 5, 13, 45]):
            compiled.run(states[2], how, piece, 1)
        for name in ("parameters", "first", "second", "average"):
            np.testing.assert_array_equal(getattr(states[1], name), getattr(states[2], name), err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_full_batch_takes_the_references_steps(optimizer, dtype):
    """Without an order both engines take the same steps, weights, sums and threads included."""
    for sum_rows, weighted in itertools.product((False, True), (False, True)):
        reference, compiled = both_engines(
            "softmax", num_rows=2500, dtype=dtype, weighted=weighted, weight_decay=0.1
        )
        shared = NetworkEngine(
            compiled.data, compiled.loss, compiled.penalty, compiled.network, threads=3, weight_decay=0.1
        )
        how = rule(optimizer, 1e-6 if sum_rows else 0.01, sum_rows=sum_rows, clip=0.4)
        states = [start(compiled.network, dtype) for _ in range(3)]
        for engine, state in zip((reference, compiled, shared), states, strict=True):
            for _ in range(3):
                engine.run(state, how, None, 2500)
        assert_same_state(states[0], states[1], dtype)
        np.testing.assert_array_equal(states[1].parameters, states[2].parameters)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_batches_take_the_references_steps_whatever_the_threads(dtype, optimizer):
    """Batches that threads share, a ragged last one too, give the reference's steps, equal bits for any threads."""
    weights = np.random.default_rng(5).uniform(0.3, 1.0, size=5000)
    options = {"num_rows": 5000, "dtype": dtype, "weighted": True, "weights": weights, "average_every": 2}
    reference, compiled = both_engines("softmax", **options)
    shared = NetworkEngine(
        compiled.data, compiled.loss, compiled.penalty, compiled.network, weights, average_every=2, threads=3
    )
    states = [start(compiled.network, dtype) for _ in range(3)]
    for engine, state in zip((reference, compiled, shared), states, strict=True):
        engine.run(state, rule(optimizer, 0.01), order(0, 1, 5000), 1200)
    assert_same_state(states[0], states[1], dtype)
    np.testing.assert_array_equal(states[1].parameters, states[2].parameters)


@pytest.mark.parametrize("hidden", [(), (1,), (16,), (33, 5), (17, 1, 64)])
@pytest.mark.parametrize("num_columns", [1, 5, 16, 40])
def test_any_shape_agrees(num_columns, hidden):
    """Layers of one unit, of a whole number of vectors, or none at all, give the reference's steps."""
    data, loss, outputs = dataset("softmax", 70, num_columns)
    network = network_of(data, outputs, "relu", hidden)
    states = [start(network) for _ in range(2)]
    for batch_size in (1, 2, 5, 9, 70):
        for kind, state in zip((ReferenceNetworkEngine, NetworkEngine), states, strict=True):
            kind(data, loss, Penalty(0.01), network).run(
                state, rule("sgd", 0.05), order(0, 1, 70), batch_size
            )
        assert_same_state(*states, np.float64)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_rows_take_the_steps_of_dense_ones(dtype, optimizer):
    """CSR rows give the states of the same rows written out, over an order and over every row."""
    data, loss, outputs = dataset("softmax", 90, 30, dtype=dtype, weighted=True)
    thinned = np.where(np.random.default_rng(4).random(data.X.shape) < 0.8, 0, data.X).astype(dtype)
    network = network_of(data, outputs, "relu")
    states = [start(network, dtype) for _ in range(2)]
    for X, state in zip((thinned, csr_array(thinned)), states, strict=True):
        engine = NetworkEngine(replace(data, X=X), loss, Penalty(0.01), network)
        for batch_size in (1, 7, 80):
            engine.run(state, rule(optimizer, 0.01), order(0, 1, 90), batch_size)
        engine.run(state, rule(optimizer, 0.01), None, 90)
        assert engine.loss_and_gradient(state.parameters, np.array([4, 80, 7])).weight > 0
    assert_same_state(*states, dtype)


def test_visits_weights_leave_loss_and_full_gradient_alone():
    """Weights of visits change the steps over an order, as in the reference, and neither loss nor whole gradient."""
    visits = np.random.default_rng(5).uniform(0.3, 1.0, size=37)
    reference, compiled = both_engines("softmax", weighted=True, weights=visits)
    plain = NetworkEngine(compiled.data, compiled.loss, compiled.penalty, compiled.network)
    parameters = start(compiled.network).parameters
    assert compiled.mean_loss(parameters) == plain.mean_loss(parameters)
    states = [start(compiled.network) for _ in range(3)]
    for engine, state in zip((reference, compiled, plain), states, strict=True):
        engine.run(state, rule("momentum", 0.05), order(0, 1, 37), 5)
    assert_same_state(*states[:2], np.float64)
    assert not np.allclose(states[1].parameters, states[2].parameters)


@pytest.mark.parametrize("shape", ["softmax", "labels", "squared_error"])
@given(cuts=st.lists(st.integers(0, 37), max_size=5), seed=st.integers(0, 5))
def test_sums_of_parts_are_the_sums_of_the_whole(shape, cuts, seed):
    """Loss, gradient and weight of all rows are those of any partition, added up; in any order of the rows."""
    for engine in both_engines(shape, weighted=True):
        parameters = start(engine.network).parameters
        whole = engine.loss_and_gradient(parameters, slice(None))
        rows = np.random.default_rng(seed).permutation(37)
        parts = [engine.loss_and_gradient(parameters, part) for part in np.split(rows, sorted(cuts))]
        assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-12)
        assert sum(part.weight for part in parts) == pytest.approx(whole.weight, rel=1e-12)
        np.testing.assert_allclose(sum(p.gradient for p in parts), whole.gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@given(
    cuts=st.lists(st.integers(0, 9), max_size=4),
    batch_size=st.sampled_from([1, 3, 4, 70]),
    average_every=st.integers(2, 5),
)
def test_a_run_may_be_cut_between_groups_of_batches(optimizer, cuts, batch_size, average_every):
    """Calling ``run`` in pieces, empty ones among them, gives bit for bit what one call gives."""
    _, engine = both_engines("softmax", num_rows=150, average_every=average_every)
    rows, how = order(0, 1, 150), rule(optimizer, 0.02, "linear", num_steps=150)
    whole, cut = start(engine.network), start(engine.network)
    engine.run(whole, how, rows, batch_size)
    for piece in np.split(rows, sorted(min(150, c * rows_together(batch_size)) for c in cuts)):
        engine.run(cut, how, piece, batch_size)
    for name in ("parameters", "first", "second", "average", "steps", "num_averaged"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)


def test_numbers_that_diverge_are_seen():
    """A rate far too high ends in a loss that is no finite number, and not in silent units."""
    _, engine = both_engines("squared_error", "relu")
    state = start(engine.network)
    with np.errstate(all="ignore"):
        engine.run(state, rule("sgd", 1e200), order(0, 1, 37), 1)
        assert not np.isfinite(engine.mean_loss(state.parameters))


def test_a_step_of_one_row_needs_no_memory_that_grows_with_the_rows():
    """A full batch of four times the rows takes no more memory beside the data."""
    import tracemalloc

    peaks = []
    for num_rows in (5000, 20_000):
        _, engine = both_engines("softmax", num_rows=num_rows)
        state = start(engine.network)
        engine.run(state, rule("adam", 0.01), None, num_rows)
        tracemalloc.start()
        engine.run(state, rule("adam", 0.01), None, num_rows)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 50_000


# --- windows of an average --------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "parts"), [(1, 3), (32, 1), (32, 4), (1100, 2)])
def test_steps_close_windows_as_a_run_cut_there_does(batch_size, parts):
    """An average whose windows the steps close is that of a run that is cut at each of them.

    To the last bit where nothing goes together with a batch.
    """
    data, loss, outputs = table("squared_error", num_rows=5000)
    network = network_of(data, outputs)
    found = []
    for by_itself in (False, True):
        engine = NetworkEngine(data, loss, Penalty(0.01), network, average_every=1 if batch_size > 8 else 4)
        state, tail = start(network), TailAverage(1.25)
        if by_itself:
            engine.close_windows_of(tail)
        for epoch in range(2):
            if epoch == 1:
                tail.begin_anew(state)
            for rows in np.array_split(order(0, epoch, 4400), parts):
                at = 0
                while at < len(rows):
                    steps = len(rows) if by_itself else max(1, tail.next_close - state.steps)
                    engine.run(state, rule("sgd", rate=1e-3), rows[at : at + steps * batch_size], batch_size)
                    at += steps * batch_size
                    if not by_itself:
                        tail.close_if_due(state)
        found.append(
            (tail.began, tail.next_close, tail.num_closed, state.num_averaged, tail.parameters(state))
        )
    assert found[0][:4] == found[1][:4]
    if batch_size > 1:
        np.testing.assert_array_equal(found[0][4], found[1][4])
    np.testing.assert_allclose(found[0][4], found[1][4], rtol=1e-10, atol=1e-12)
