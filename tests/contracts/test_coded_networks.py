"""Networks on rows kept in small numbers: the steps are those on the decoded rows."""

import numpy as np
import pytest
from support import dataset, rule

from descend.batches import order
from descend.coded_rows import CodedRows
from descend.engines.base import State
from descend.engines.choose import make_network_engine
from descend.engines.coded_mlp import CodedNetworkEngine
from descend.engines.mlp import NetworkEngine
from descend.models.network import Network, initialise
from descend.objectives.activations import ACTIVATIONS
from descend.objectives.penalties import Penalty
from descend.types import Dataset

ROWS, NEAR = 150, 16
"""Sixteen rows are decoded at a time: batches of 7 go two by two, those of 64 and all rows in pieces."""


def both(dtype, weighted=False, **options):
    data, loss, k = dataset("softmax", num_rows=ROWS, dtype=np.float32, weighted=weighted)
    values = np.clip(np.rint(data.X * 30.0 + 100.0), 0, 255).astype(dtype)
    X = CodedRows(values, values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64))
    network = Network((data.num_columns, 9, k), ACTIVATIONS["tanh"])
    plain, coded = Dataset(X[:], data.y, data.weights), Dataset(X, data.y, data.weights)
    if options.pop("visits", False):
        options["weights"] = np.random.default_rng(5).uniform(0.3, 1.0, size=ROWS)
    return (
        NetworkEngine(plain, loss, Penalty(0.01), network, **options),
        CodedNetworkEngine(coded, loss, Penalty(0.01), network, near=NEAR, **options),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16])
@pytest.mark.parametrize("batch_size", [1, 7, 16, 64, ROWS])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("visits", [False, True])
def test_steps_are_those_on_decoded_rows(dtype, batch_size, weighted, visits):
    """After two epochs with momentum and averaging the parameters are the same to float32's rounding."""
    engines = both(dtype, weighted, visits=visits, average_every=3)
    states = [State(initialise(engines[0].network, 1, np.float32)) for _ in engines]
    for engine, state in zip(engines, states, strict=True):
        for epoch in (1, 2):
            rows = None if batch_size == ROWS and not visits else order(0, epoch, ROWS)
            engine.run(state, rule("momentum", rate=0.01), rows, batch_size)
    one, other = states
    for name in ("parameters", "first", "average"):
        np.testing.assert_allclose(
            getattr(other, name), getattr(one, name), rtol=2e-4, atol=2e-5, err_msg=name
        )
    assert (one.steps, one.num_averaged, one.visits) == (other.steps, other.num_averaged, other.visits)
    assert np.abs(one.parameters - initialise(engines[0].network, 1, np.float32)).max() > 1e-4


@pytest.mark.parametrize("num_rows", [None, 50])
def test_losses_are_those_of_decoded_rows(num_rows):
    """The mean loss over all rows, and over the first 50, is the same."""
    one, other = both(np.uint8, weighted=True)
    parameters = initialise(one.network, 1, np.float32)
    assert other.mean_loss(parameters, num_rows) == pytest.approx(
        one.mean_loss(parameters, num_rows), rel=1e-6
    )


def test_threads_change_nothing():
    """The full batch's step is the same to the last bit with three threads."""
    engines = [
        CodedNetworkEngine(*_many_rows(), Penalty(0.01), Network((6, 9, 1), ACTIVATIONS["relu"]), threads=t)
        for t in (1, 3)
    ]
    states = [State(initialise(engines[0].network, 1, np.float32)) for _ in engines]
    for engine, state in zip(engines, states, strict=True):
        engine.run(state, rule("sgd", rate=0.1), None, 0)
    assert (states[0].parameters == states[1].parameters).all()


def _many_rows():
    data, loss, _ = dataset("squared_error", num_rows=3000, dtype=np.float32)
    values = np.clip(np.rint(data.X * 30.0 + 100.0), 0, 255).astype(np.uint8)
    d = values.shape[1]
    wide = np.hstack([values] * -(-6 // d))[:, :6].copy()
    return Dataset(CodedRows(wide, np.full(6, 100.0), np.full(6, 30.0)), data.y), loss


def test_coded_rows_get_the_engine_that_decodes_them():
    """Neither decoded whole nor given to kernels as they are."""
    data, loss = _many_rows()
    engine = make_network_engine(data, loss, Penalty(0.0), Network((6, 9, 1), ACTIVATIONS["relu"]))
    assert isinstance(engine, CodedNetworkEngine)
