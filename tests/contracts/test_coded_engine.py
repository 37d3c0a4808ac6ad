"""Rows kept in small numbers: the engine that decodes them takes the dense engine's steps on the decoded rows."""

import itertools

import numpy as np
import pytest
from support import OTHERS, SHAPES, dataset, rule, start

from descend.batches import NO_ORDER, Visits, order, shuffle
from descend.coded_rows import CodedRows
from descend.engines import decoding
from descend.engines.base import Rule
from descend.engines.certificate import estimate_gap, hessian_product, sample
from descend.engines.coded import CodedEngine
from descend.engines.curvature import measure_curvature, split_heavy_rows
from descend.engines.decoding import decode
from descend.engines.linear import LinearEngine
from descend.engines.newton import hessian
from descend.engines.preconditioner import precondition
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS

DTYPES = [np.uint8, np.int16, np.float16]
ROWS, NEAR = 150, 16
"""Sixteen rows are decoded at a time: batches of 7 go two by two, those of 64 and all rows in pieces."""
CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def coded(shape, dtype, weighted=False):
    """Coded rows with the columns' own means and deviations, and the same rows decoded by NumPy in float64."""
    data, loss, k = dataset(shape, num_rows=ROWS, dtype=np.float32, weighted=weighted)
    values = data.X * 30.0 + 100.0
    values = (values if dtype == np.float16 else np.clip(np.rint(values), 0, 255)).astype(dtype)
    exact = values.astype(np.float64)
    X = CodedRows(values, exact.mean(axis=0), exact.std(axis=0))
    decoded = ((exact - X.mean) / X.scale).astype(np.float32)
    return Dataset(X, data.y, data.weights), Dataset(decoded, data.y, data.weights), loss, k


def both(shape, dtype, weighted=False, penalty=None, near=NEAR, **options):
    one, other, loss, k = coded(shape, dtype, weighted)
    penalty = penalty or Penalty(0.01)
    if options.pop("visits", False):
        options["weights"] = np.random.default_rng(5).uniform(0.3, 1.0, size=ROWS)
    engines = (
        LinearEngine(other, loss, penalty, **options),
        CodedEngine(one, loss, penalty, near=near, **options),
    )
    return engines, [start(other, k) for _ in engines]


def assert_same(states):
    one, other = states
    for name in ("parameters", "first", "second", "average", "table", "mean_gradient"):
        expected = getattr(one, name)
        if expected is not None:
            np.testing.assert_allclose(getattr(other, name), expected, err_msg=name, **CLOSE)
    assert (one.steps, one.num_averaged, one.visits) == (other.steps, other.num_averaged, other.visits)
    assert other.share == pytest.approx(one.share, rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_decoded_to_the_last_digit(dtype):
    """A row is (stored − mean) / scale within two roundings, where the mean is ten thousand deviations away, too."""
    rng = np.random.default_rng(0)
    away = {np.uint8: 200.0, np.int16: 30_000.0, np.float16: 1000.0}[dtype]
    values = rng.normal(away, 3.0, size=(70, 9)).astype(dtype)
    exact = values.astype(np.float64)
    X = CodedRows(values, exact.mean(axis=0), exact.std(axis=0))
    expected = (exact - X.mean) / X.scale
    rows = rng.permutation(70)[:33]
    out = np.empty((33, 9), dtype=np.float32)
    decode(X, rows.astype(np.int32), 0, 33, out)
    for found in (out, X[rows]):
        np.testing.assert_allclose(found, expected[rows], rtol=3e-7, atol=2e-7)


def test_halves_are_decoded_from_the_smallest_to_the_largest():
    """Every finite float16, the smallest and both signs included, is decoded to the same number."""
    bits = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = bits[np.isfinite(bits)].reshape(-1, 8)
    X = CodedRows(values, np.zeros(8), np.ones(8))
    out = np.empty(values.shape, dtype=np.float32)
    decode(X, NO_ORDER, 0, len(values), out)
    np.testing.assert_array_equal(out, values.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, *OTHERS])
def test_steps_are_those_of_the_decoded_rows(shape, dtype):
    """For every loss, optimizer, batch size, ragged end, L1, weights and clipping, two epochs end in one state."""
    optimizers = [name for name, optimizer in OPTIMIZERS.items() if optimizer.elementwise]
    for i, (optimizer, batch_size) in enumerate(itertools.product(optimizers, (1, 7, 64, ROWS))):
        how = rule(
            optimizer,
            0.002,
            "linear",
            num_steps=2 * -(-ROWS // batch_size),
            fit_intercept=i % 4 != 3,
            clip=0.5 * (i % 3 == 2),
        )
        penalty = Penalty(0.01, 0.01 * (i % 5 == 4))
        engines, states = both(
            shape, dtype, i % 2 == 1, penalty, visits=i % 3 == 1, average_every=(0, 1, 3)[i % 3]
        )
        for epoch in (1, 2):
            for engine, state in zip(engines, states, strict=True):
                engine.run(state, how, order(0, epoch, ROWS), batch_size)
        assert_same(states)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [1, 7, 16, 64, ROWS])
@pytest.mark.parametrize("shape", SHAPES)
def test_saga_keeps_one_table_whatever_is_decoded(shape, batch_size, dtype):
    """Three epochs of SAGA over rows of which heavy ones come several times in a batch end in the same state."""
    for weighted, preconditioned, l1 in itertools.product((False, True), (False, True), (0.0, 0.01)):
        one, other, loss, k = coded(shape, dtype, weighted)
        norms = np.random.default_rng(3).uniform(1.0, 2.0, size=ROWS)
        norms[:5] = 30.0
        visits = split_heavy_rows(norms, seed=0) if weighted else Visits(ROWS)
        penalty = Penalty(0.01, 0.0 if preconditioned else l1)
        options = {
            "weights": visits.weights,
            "preconditioner": precondition(other, loss.curvature, 0.01, norms=False),
            "precondition_steps": preconditioned,
        }
        engines = (
            LinearEngine(other, loss, penalty, **options),
            CodedEngine(one, loss, penalty, near=NEAR, **options),
        )
        states = [start(other, k) for _ in engines]
        for epoch in (1, 2, 3):
            how = Rule(
                OPTIMIZERS["saga"],
                rate=0.0,
                num_steps=-(-visits.num_visits // batch_size),
                filling=epoch == 1,
                full_term=2.0,
                single_term=3.0,
            )
            for engine, state in zip(engines, states, strict=True):
                engine.run(state, how, shuffle(visits, 0, epoch), batch_size)
        assert_same(states)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, *OTHERS])
def test_sums_over_all_rows_are_those_of_the_decoded_rows(shape, dtype):
    """Full-batch steps, losses, objectives in both precisions and the sums of batches agree."""
    for weighted in (False, True):
        engines, states = both(shape, dtype, weighted)
        for engine, state in zip(engines, states, strict=True):
            for _ in range(5):
                engine.run(state, rule("momentum", 0.05), None, ROWS)
        assert_same(states)
        at = states[0].parameters
        dense, small = engines
        assert small.mean_loss(at) == pytest.approx(dense.mean_loss(at), rel=1e-5)
        assert small.mean_loss(at, 21) == pytest.approx(dense.mean_loss(at, 21), rel=1e-5)
        rows = np.random.default_rng(0).integers(ROWS, size=40)
        for chosen in (slice(3, 90), rows):
            one, other = dense.loss_and_gradient(at, chosen), small.loss_and_gradient(at, chosen)
            assert (other.loss, other.weight) == pytest.approx((one.loss, one.weight), rel=1e-5)
            np.testing.assert_allclose(other.gradient, one.gradient, rtol=1e-4, atol=1e-3)
        for exact in (False, True):
            for engine in engines:
                engine.in_float64 = exact
            value, gradient = dense.objective(at.astype(np.float64))
            found, own = small.objective(at.astype(np.float64))
            assert found == pytest.approx(value, rel=1e-5)
            np.testing.assert_allclose(own, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_measured_on_rows_is_that_of_the_decoded_rows(shape, monkeypatch):
    """Curvature, heavy rows, preconditioner, Hessian and the estimate of the gap are those of the decoded rows."""
    one, other, loss, k = coded(shape, np.uint8, weighted=True)
    monkeypatch.setattr(decoding, "near_rows", lambda _: NEAR)
    found, expected = (measure_curvature(d, loss, seed=0) for d in (one, other))
    assert (found.mean, found.row) == pytest.approx((expected.mean, expected.row), rel=1e-5)
    one_matrix, matrix = (precondition(d, loss.curvature, 0.01, norms=True) for d in (one, other))
    np.testing.assert_allclose(one_matrix.inverse, matrix.inverse, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one_matrix.norms, matrix.norms, rtol=1e-3)
    at = start(other, k).parameters.astype(np.float64)
    for cautious in (False, True):
        own, whole = (hessian(d, loss, 0.01, at, True, cautious) for d in (one, other))
        np.testing.assert_allclose(own, whole, rtol=1e-4, atol=1e-6)
    gradient = LinearEngine(other, loss, Penalty(0.01)).objective(at)[1]
    products = [hessian_product(d, loss, 0.01, at, True, sample(d)) for d in (one, other)]
    gaps = [estimate_gap(product, gradient, lambda v: v).gap for product in products]
    assert gaps[0] == pytest.approx(gaps[1], rel=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_do_not_depend_on_threads(dtype):
    """Three threads, each with a place of its own for decoded rows, give one thread's sums to the last bit."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, size=(6000, 100)).astype(dtype)
    X = CodedRows(values, values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64))
    data = Dataset(X, (rng.random((6000, 1)) > 0.5).astype(np.float64), rng.uniform(0.5, 1.5, size=6000))
    loss, at = SHAPES["log_loss"][0], 0.1 * rng.normal(size=(1, 101))
    one, three = (CodedEngine(data, loss, Penalty(0.01), near=256, threads=n) for n in (1, 3))
    assert three.pool is not None
    for _ in range(20):
        assert one.objective(at)[0] == three.objective(at)[0]
        np.testing.assert_array_equal(one.objective(at)[1], three.objective(at)[1])
        own = at.astype(np.float32)
        assert one.mean_loss(own) == three.mean_loss(own)
