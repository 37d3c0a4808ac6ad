"""Rows held out have their say where it is more than chance."""

import numpy as np
import pytest

from descend import LinearRegressor
from descend.engines.base import Sums
from descend.watching.chance import clearly_lower


class Losses:
    """An engine whose rows' losses are what the parameters say."""

    def __init__(self, weights):
        self.weights, self.num_rows = weights, len(weights)

    def loss_and_gradient(self, parameters, rows):
        return Sums(float(parameters[rows] @ self.weights[rows]), parameters, float(self.weights[rows].sum()))


@pytest.mark.parametrize("num_rows", [8, 30, 500])
def test_one_odd_row_is_chance_and_a_little_of_every_row_is_not(num_rows):
    """All the difference in one row is within its standard error; the same difference spread over the rows is not."""
    rng = np.random.default_rng(0)
    engine, ones = Losses(np.ones(num_rows)), rng.exponential(size=num_rows)
    odd = ones.copy()
    odd[3] += 5.0
    spread = ones + 5.0 / num_rows * rng.uniform(0.5, 1.5, num_rows)
    assert not clearly_lower(engine, ones, odd)
    assert clearly_lower(engine, ones, spread)
    assert not clearly_lower(engine, spread, ones)


def test_how_often_chance_is_taken_for_more():
    """Of two that are alike one is found clearly lower about one time in six, as one standard error says."""
    rng = np.random.default_rng(1)
    engine = Losses(np.ones(60))
    found = [clearly_lower(engine, *rng.normal(size=(2, 60))) for _ in range(2000)]
    assert 0.13 < np.mean(found) < 0.2


def test_infinite_losses_are_not_averaged_away():
    """Where the others' loss is infinite the ones are clearly lower; nan tells nothing."""
    engine, ones = Losses(np.ones(10)), np.ones(10)
    assert clearly_lower(engine, ones, np.where(np.arange(10) == 2, np.inf, 1.0))
    assert not clearly_lower(engine, ones, np.where(np.arange(10) == 2, np.nan, 1.0))


def test_one_odd_row_held_out_does_not_undo_least_squares():
    """Whichever row is far out, held out or trained on: never is the mean of the targets returned for the optimum."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = X @ [3.0, -2.0, 1.0] + 0.1 * rng.normal(size=60)
    for odd in range(60):
        targets = y.copy()
        targets[odd] -= 60.0 * np.sign(y[odd])
        model = LinearRegressor(early_stopping=True, validation_fraction=0.1, random_state=0).fit(X, targets)
        assert model.history_.stopped == "converged"
        assert np.linalg.norm(model.coef_) > 1.0
