"""Units that are silent on every row are started anew (``dead_units.py``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from descend.coded_rows import CodedRows
from descend.engines.awake import find_awake
from descend.engines.base import State
from descend.features import prepare
from descend.models.network import Network, initialise
from descend.networks import fitting as network_fitting
from descend.networks.dead_units import FIRST, LOOKED_AT, revive
from descend.networks.fitting import fit_network
from descend.objectives.activations import ACTIVATIONS
from descend.settings import Settings
from descend.sources import array_source

SIZES = (5, 12, 8, 2)


def state_with_dead_units(activation: str = "relu") -> tuple[Network, State, Any]:
    """Unit 3 of the first hidden layer and unit 6 of the second sleep through all rows."""
    network = Network(SIZES, ACTIVATIONS[activation])
    state = State(initialise(network, 0, np.float32))
    X = np.random.default_rng(0).normal(size=(300, SIZES[0])).astype(np.float32)
    parts = network.parts(state.parameters)
    parts[0][1][3] = parts[1][1][6] = -1e3
    for memory in (state.first, state.second):
        memory[:] = 1.0
    return network, state, X


def silent(network: Network, state: State, X: Any) -> list[int]:
    """How many units of each hidden layer are 0 on every row."""
    counts = []
    for weights, bias in network.parts(state.parameters)[:-1]:
        X = np.maximum(X @ weights + bias, 0.0)
        counts.append(int((X == 0.0).all(axis=0).sum()))
    return counts


def test_dead_units_wake_and_predictions_stay() -> None:
    """Reviving leaves what the network says of every row as it was, to the last bit, and no unit silent."""
    network, state, X = state_with_dead_units()
    before = network.scores(state.parameters, X)
    assert silent(network, state, X) == [1, 1]
    assert revive(network, state, X, seed=0) == 2
    np.testing.assert_array_equal(network.scores(state.parameters, X), before)
    assert silent(network, state, X) == [0, 0]
    assert revive(network, state, X, seed=0) == 0


@pytest.mark.parametrize("kind", ["array", "sparse", "coded"])
def test_rows_in_order_are_looked_at_from_end_to_end(kind: str) -> None:
    """A unit that only the last of many sorted rows wake is left as it is, however the rows are kept."""
    network, state, _ = state_with_dead_units()
    X = np.zeros((4 * LOOKED_AT, SIZES[0]), dtype=np.float32)
    X[-LOOKED_AT // 2 :] = 1.0
    parts = network.parts(state.parameters)
    for weights, bias in parts[:-1]:
        weights[:], bias[:] = 1.0, -0.5
    before = state.parameters.copy()
    rows: Any = {
        "array": X,
        "sparse": csr_array(X),
        "coded": CodedRows(X.astype(np.uint8), np.zeros(SIZES[0]), np.ones(SIZES[0])),
    }[kind]
    assert revive(network, state, rows, seed=0, in_order=True) == 0
    np.testing.assert_array_equal(state.parameters, before)


def test_the_optimizer_forgets_which_way_dead_units_went() -> None:
    """Momentum of a unit that begins anew is 0, that of all others stays."""
    network, state, X = state_with_dead_units()
    revive(network, state, X, seed=0)
    (inner, bias), (middle, middle_bias), (last, _) = network.parts(state.first)
    assert not inner[:, 3].any()
    assert not middle[3].any()
    assert bias[3] == middle_bias[6] == 0.0
    assert not middle[:, 6].any()
    assert not last[6].any()
    assert (np.delete(inner, 3, axis=1) == 1.0).all()
    assert (np.delete(np.delete(middle, 3, axis=0), 6, axis=1) == 1.0).all()


def test_squared_gradients_of_a_unit_begin_at_those_of_its_neighbours() -> None:
    """A unit that begins anew takes Adam's steps as long as the others of its layer do, from the first one on."""
    network, state, X = state_with_dead_units()
    for weights, bias in network.parts(state.second):
        weights[:] = np.arange(weights.size).reshape(weights.shape)
        bias[:] = np.arange(bias.size)
    before = [(weights.copy(), bias.copy()) for weights, bias in network.parts(state.second)]
    revive(network, state, X, seed=0)
    after = network.parts(state.second)
    np.testing.assert_allclose(after[0][0][:, 3], np.delete(before[0][0], 3, axis=1).mean(axis=1))
    np.testing.assert_allclose(after[0][1][3], np.delete(before[0][1], 3).mean())
    np.testing.assert_allclose(after[2][0][6], np.delete(before[2][0], 6, axis=0).mean(axis=0))
    np.testing.assert_array_equal(np.delete(after[0][0], 3, axis=1), np.delete(before[0][0], 3, axis=1))


def test_a_layer_that_is_all_dead_begins_as_it_began() -> None:
    """With no unit awake there is none to take after: what is remembered is 0 again, and no number is lost."""
    network, state, X = state_with_dead_units()
    network.parts(state.parameters)[0][1][:] = -1e3
    assert revive(network, state, X, seed=0) >= SIZES[1]
    weights, bias = network.parts(state.second)[0]
    assert not weights.any()
    assert not bias.any()
    assert np.isfinite(state.second).all()


def test_new_weights_follow_from_the_seed_and_the_step() -> None:
    """The same seed and step draw the same weights, another step others."""
    drawn = []
    for seed, steps in ((1, 10), (1, 10), (1, 11), (2, 10)):
        network, state, X = state_with_dead_units()
        state.steps = steps
        revive(network, state, X, seed)
        drawn.append(network.parts(state.parameters)[0][0][:, 3].copy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], drawn[3])


def test_no_more_rows_are_read_than_it_takes_to_see_all_units_awake() -> None:
    """Where the first rows wake every unit no other row is looked at; one that they leave asleep is looked for."""

    class Read:
        shape = (300, SIZES[0])

        def __init__(self) -> None:
            self.up_to = 0

        def __getitem__(self, rows: slice) -> Any:
            self.up_to = max(self.up_to, rows.stop)
            return X[rows]

    network, state, X = state_with_dead_units()
    asleep, awake = Read(), Read()
    assert revive(network, state, asleep, seed=0) == 2
    assert asleep.up_to == len(X)
    assert revive(network, state, awake, seed=0) == 0
    assert awake.up_to == FIRST


@pytest.mark.parametrize(("row", "revived"), [(0, 0), (2 * FIRST, 0), (LOOKED_AT - 1, 0), (LOOKED_AT, 1)])
def test_one_row_that_wakes_a_unit_is_found_wherever_it_lies(row: int, revived: int) -> None:
    """A unit that one row of the first 4096 wakes is left alone, one that only a later row wakes begins anew."""
    network = Network((1, 2, 1), ACTIVATIONS["relu"])
    state = State(initialise(network, 0, np.float32))
    (weights, bias), _ = network.parts(state.parameters)
    weights[:], bias[:] = [[0.0, 1.0]], [1.0, -0.5]
    X = np.zeros((LOOKED_AT + 1, 1), dtype=np.float32)
    X[row] = 1.0
    assert revive(network, state, X, seed=0) == revived


@pytest.mark.parametrize("num_columns", [1, 13, 64])
def test_units_are_awake_where_a_product_is_above_zero(num_columns: int) -> None:
    """The compiled loop tells which units some row wakes, and how many, as NumPy's products do."""
    rng = np.random.default_rng(num_columns)
    X = rng.normal(size=(300, num_columns)).astype(np.float32)
    weights = rng.normal(size=(9, num_columns)).astype(np.float32)
    highest = np.sort(X @ weights.T, axis=0)
    bias = -0.5 * (highest[-1] + highest[-2])  # one row wakes each
    bias[::2] -= 0.6 * (highest[-1] - highest[-2])[::2]  # and none these
    awake = np.zeros(9, dtype=np.int32)
    assert find_awake(X, weights, bias, awake) == 4
    first = (X @ weights.T + bias > 0.0).argmax(axis=0) + 1
    np.testing.assert_array_equal(awake, np.where(np.arange(9) % 2, first, 0))


def test_what_is_no_number_is_left_alone() -> None:
    """A unit whose scores a run that blew up has lost is not started anew."""
    network, state, X = state_with_dead_units()
    network.parts(state.parameters)[1][1][6] = np.nan
    assert revive(network, state, X, seed=0) == 1


def test_rows_that_woke_units_are_asked_first_and_change_nothing() -> None:
    """A row that alone woke a unit is remembered; where it no longer does, the others are asked as before."""
    network = Network((1, 2, 1), ACTIVATIONS["relu"])
    state = State(initialise(network, 0, np.float32))
    (weights, bias), _ = network.parts(state.parameters)
    weights[:], bias[:] = [[0.0, 1.0]], [1.0, -0.5]
    X = np.zeros((LOOKED_AT, 1), dtype=np.float32)
    X[3000], X[2000] = 1.0, -1.0
    wakers: list[int] = []
    for _ in range(2):
        assert revive(network, state, X, 0, False, wakers) == 0
        assert wakers == [3000]
    weights[0, 1] = -1.0
    assert revive(network, state, X, 0, False, wakers) == 0
    assert wakers == [2000, 3000]
    bias[1] = -2.0
    assert revive(network, state, X, 0, False, wakers) == 1


@pytest.mark.parametrize("activation", ["tanh", "logistic", "gelu", "identity"])
def test_other_activations_have_no_dead_units(activation: str) -> None:
    """Where a gradient reaches every unit nothing is changed."""
    network, state, X = state_with_dead_units(activation)
    before = state.parameters.copy()
    assert revive(network, state, X, seed=0) == 0
    np.testing.assert_array_equal(state.parameters, before)


def test_training_starts_them_anew() -> None:
    """A unit that is dead where a run begins takes part where it ends."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, SIZES[0]))
    prepared = prepare(array_source(X, y=X[:, 0] * X[:, 1]), validation=0.0)
    network = Network((SIZES[0], 8, 1), ACTIVATIONS["relu"])
    initial = initialise(network, 0, np.float32)
    network.parts(initial)[0][1][2] = -1e3
    run = fit_network(prepared, Settings(hidden=(8,), epochs=10), initial=initial)
    weights, bias = network.parts(run.model.parameters)[0]
    assert (prepared.train.X @ weights + bias > 0.0).any(axis=0)[2]


def test_they_begin_anew_at_every_epoch_while_epochs_are_few() -> None:
    """Units are looked at behind each of the first epochs, in phases whose rate nobody moves, too."""
    seen: list[int] = []
    prepared = prepare(
        array_source(np.random.default_rng(0).normal(size=(500, 4)), y=np.arange(500.0)), validation=0.0
    )
    looked = network_fitting.revive
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_fitting, "revive", lambda *a: (seen.append(a[1].visits // 500), looked(*a))[1])
        fit_network(prepared, Settings(hidden=(8,), epochs=12))
    assert seen[-1] == 11
    assert set(range(1, 12)) <= set(seen)
