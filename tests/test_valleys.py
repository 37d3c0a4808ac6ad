"""Walls and valleys: on surfaces of two numbers, where both are known."""

import numpy as np
import pytest

from descend.comparing.valleys import come_to_rest, excursion, is_wall, wall_between

GAP = 10.0


def two_valleys(w):
    """Valleys at x = −1 (lower) and x = 1, with a wall of about 1 between them; flat along the third number."""
    x, y, _ = w
    return (x**2 - 1) ** 2 + 0.1 * x + 0.5 * y**2


def one_bowl(w):
    """A bowl, long in one direction: the lowest place is 0."""
    return 0.5 * (w[0] ** 2 + 0.01 * w[1] ** 2)


def walker(height, steps=2000, rate=0.05):
    """Gradient descent by central differences."""

    def settle(start):
        w = start.copy()
        for _ in range(steps):
            slope = [(height(w + h) - height(w - h)) / 2e-6 for h in 1e-6 * np.eye(len(w))]
            w -= rate * np.array(slope)
        return w

    return settle


@pytest.fixture(scope="module")
def rest():
    return come_to_rest(two_valleys, walker(two_valleys), np.array([0.8, 0.3, 2.0]), GAP)


def test_the_wall_between_two_valleys_is_as_high_as_it_is():
    """On the line between both lowest places the loss rises by the known height, above the higher one."""
    low, high = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])
    wall = wall_between(two_valleys, low, high, stops=199)
    assert wall.height == pytest.approx(1.0 - 0.1 + 0.0025, abs=2e-3)
    assert wall.at == pytest.approx(0.5, abs=0.05)


def test_a_slope_is_no_wall():
    """Down a slope, or across a bowl, nothing rises above the higher end."""
    down = wall_between(lambda w: float(w[0]), np.zeros(1), np.ones(1))
    bowl = wall_between(one_bowl, np.array([-1.0, 3.0]), np.array([2.0, -1.0]))
    assert (down.height, bowl.height) == (0.0, 0.0)


def test_a_wall_to_a_place_that_is_no_number_is_none():
    """Where the loss is not finite somewhere on the line nothing is told."""
    assert wall_between(lambda w: float(w[0]), np.zeros(1), np.full(1, np.nan)) is None


@pytest.mark.parametrize(
    ("height", "answer"), [(0.1, True), (0.0999, None), (0.011, None), (0.01, False), (0.0, False)]
)
def test_a_low_wall_is_left_open(height, answer):
    """From 1 % of the gap on it is a wall, up to 0.1 % none; between them it cannot be told."""
    assert is_wall(height, GAP) is answer


def test_gradient_descent_comes_to_rest_where_it_stays(rest):
    """From the right it rests in the right valley, and going on gains nothing."""
    assert rest.stays
    assert rest.place[0] == pytest.approx(0.987, abs=0.01)


def test_a_place_that_is_still_gaining_is_no_rest():
    """On a slope without an end every walk gains, and it is told that this is no rest."""
    found = come_to_rest(lambda w: float(w[0]), lambda w: w - 1.0, np.zeros(1), GAP)
    assert found.gained == pytest.approx(0.1)
    assert not found.stays


def test_who_jumps_into_the_other_valley_has_left(rest):
    """From the other valley gradient descent comes to another lowest place, behind a wall."""
    found = excursion(two_valleys, walker(two_valleys), lambda w: np.array([-0.7, 0.1, w[2]]), rest, GAP)
    assert found.left is True
    assert found.wall == pytest.approx(0.09, abs=0.01)
    assert found.back_change == pytest.approx(-0.02, abs=0.002)


def test_who_is_shaken_within_the_valley_has_not_left(rest):
    """Noise that moves far up the side, and far along a flat direction, leads back into the same valley."""
    found = excursion(two_valleys, walker(two_valleys), lambda w: w + np.array([0.4, 1.0, 5.0]), rest, GAP)
    assert found.left is False
    assert found.wall == pytest.approx(0.0, abs=1e-6)
    assert found.moved > 1.0
    assert found.change > 0.1
    assert found.back_change == pytest.approx(0.0, abs=1e-6)


def test_who_diverges_is_not_judged(rest):
    """A walk to a place that is not a number gives None."""
    assert excursion(two_valleys, walker(two_valleys, 1), lambda w: w * np.nan, rest, GAP) is None
