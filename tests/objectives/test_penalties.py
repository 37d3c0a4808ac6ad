"""Penalties: hand values, the free intercept, and what is refused."""

import numpy as np
import pytest
from support import dataset, engines, fourth_order

from descend.errors import InputError
from descend.objectives.penalties import Penalty, find_penalty, shrunk


def test_hand_value():
    """Alpha · ½‖w‖² of (3, 4) at alpha 0.5 is 6.25, and the intercept does not count."""
    assert Penalty(0.5).value(np.array([[3.0, 4.0, 100.0]])) == 6.25


def test_hand_value_of_l1():
    """Strength times the sum of sizes is added, and the intercept does not count."""
    assert Penalty(0.5, l1=2.0).value(np.array([[3.0, -4.0, 100.0]])) == 6.25 + 14.0


def test_elasticnet_shares_alpha_out():
    """Elastic net is l1_ratio of L1 and the rest of L2; 0 and 1 are the pure ones."""
    assert find_penalty("elasticnet", 0.2, 0.25) == Penalty(0.2 * 0.75, l1=0.05)
    assert find_penalty("elasticnet", 0.2, 0.0) == find_penalty("l2", 0.2)
    assert find_penalty("elasticnet", 0.2, 1.0) == find_penalty("l1", 0.2)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_impossible_ratios_are_refused(ratio):
    """A share outside 0 … 1 is refused by name."""
    with pytest.raises(InputError, match="l1_ratio"):
        find_penalty("elasticnet", 1.0, ratio)


def test_shrinking_solves_l1s_own_problem():
    """The shrunk weight is the lowest place of ½ (v − w)² + by · |v| on a fine grid."""
    grid = np.linspace(-3, 3, 60_001)
    for w in (-2.0, -0.3, 0.0, 0.5, 0.7, 1.9):
        best = grid[np.argmin(0.5 * (grid - w) ** 2 + 0.5 * np.abs(grid))]
        assert shrunk(w, 0.5) == pytest.approx(best, abs=1.1e-4)
    assert shrunk(np.array([0.5, -0.5, 0.2]), 0.5).tolist() == [0.0, 0.0, 0.0]


def test_outputs_add_up():
    """The penalty of k outputs is the sum of theirs."""
    rows = np.random.default_rng(0).normal(size=(3, 5))
    assert Penalty(0.3).value(rows) == pytest.approx(sum(Penalty(0.3).value(row[None]) for row in rows))


def test_float32_parameters_are_added_up_in_float64():
    """Squares beyond float32's range do not overflow."""
    assert Penalty(2.0).value(np.array([[1e30, 0.0]], dtype=np.float32)) == pytest.approx(1e60, rel=1e-6)


def test_gradient_is_alpha_times_the_weights():
    """The step's penalty part is the derivative of the penalty's value, and 0 for the intercept."""
    parameters = np.array([[3.0, -4.0, 100.0]])
    difference = fourth_order(Penalty(0.3).value, parameters)
    np.testing.assert_allclose(difference, [[0.9, -1.2, 0.0]], atol=1e-8)


def test_the_objective_adds_the_penalty_to_the_mean():
    """Loss with the penalty minus loss without it is the penalty, in both engines."""
    data, loss, k = dataset("squared_errors")
    parameters = np.random.default_rng(3).normal(size=(k, data.num_columns + 1))
    for with_it, without in zip(engines(data, loss, 0.7), engines(data, loss, 0.0), strict=True):
        extra = with_it.mean_loss(parameters) - without.mean_loss(parameters)
        assert extra == pytest.approx(Penalty(0.7).value(parameters), rel=1e-12)


@pytest.mark.parametrize("name", [None, "none"])
def test_no_penalty_is_alpha_zero(name):
    """Without a penalty alpha does not matter."""
    assert find_penalty(name, 5.0).alpha == 0.0


@pytest.mark.parametrize("alpha", [-1e-9, float("nan"), float("inf")])
def test_impossible_alphas_are_refused(alpha):
    """A negative or infinite alpha is refused by name, even where it would not be used."""
    for name in ("l2", "none"):
        with pytest.raises(InputError, match="alpha"):
            find_penalty(name, alpha)


def test_unknown_penalties_are_refused():
    """An unknown penalty is refused with the known ones."""
    with pytest.raises(InputError, match=r"penalty 'l3'.*l2, l1, elasticnet, none"):
        find_penalty("l3", 1.0)
