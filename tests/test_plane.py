"""The plane through the ends: they lie in it, where it says, and so do the losses."""

import json

import numpy as np
import pytest

from descend.comparing.plane import ends_surface, spanning

SIZE = 12


def height(w):
    return float(np.sum((w - 1.0) ** 2 * np.arange(1, SIZE + 1)))


def as_it_is(direction, at):
    return direction


def surface_of(ends, num_rows=100, filters=as_it_is):
    start = np.full(SIZE, -1.0)
    paths = {size: [start, (start + end) / 2, end] for size, end in ends.items()}
    return ends_surface(height, ends, paths, filters, num_rows)


def random_ends(sizes):
    rng = np.random.default_rng(0)
    return {size: rng.normal(size=SIZE) for size in sizes}


@pytest.mark.parametrize(("sizes", "random"), [((1, 32, 100), 0), ((1, 100), 1), ((100,), 2)])
def test_the_ends_lie_in_the_plane(sizes, random):
    """Up to three ends lie in the plane to rounding, as far apart as they are, and the start is told to be off it."""
    ends = random_ends(sizes)
    surface = surface_of(ends)
    json.dumps(surface, allow_nan=False)
    assert surface["random_directions"] == random
    at = {path["batch_size"]: np.array([path["x"][-1], path["y"][-1]]) for path in surface["paths"]}
    for path in surface["paths"]:
        assert path["off"][1] == pytest.approx(0.0, abs=1e-9)
        assert path["off"][0] > 0.5
    for one in sizes:
        for other in sizes:
            distance = np.linalg.norm(ends[one] - ends[other])
            assert np.linalg.norm(at[one] - at[other]) == pytest.approx(distance, abs=1e-9)


def test_losses_on_the_grid_are_those_of_the_plane():
    """The loss at a grid point is that of the point in parameter space that it stands for."""
    ends = random_ends((1, 32, 100))
    surface = surface_of(ends)
    places = np.array([[path["x"][-1], path["y"][-1]] for path in surface["paths"]])
    points = np.array(list(ends.values()))
    origin = points.mean(axis=0)
    axes = np.linalg.lstsq(places, points - origin, rcond=None)[0]
    for i, j in ((0, 0), (15, 20), (30, 4)):
        expected = height(origin + surface["x"][i] * axes[0] + surface["y"][j] * axes[1])
        assert surface["loss"][j][i] == pytest.approx(expected, rel=1e-9)


def test_the_random_direction_has_the_filters_lengths_and_repeats():
    """It is what ``filters`` makes of it, less what lies along the ends; the same seed gives the same plane."""
    ends = random_ends((1, 100))
    only = np.eye(SIZE)[3]
    one, other = (surface_of(ends, filters=lambda direction, at: only) for _ in range(2))
    assert one == other
    line = (ends[100] - ends[1]) / np.linalg.norm(ends[100] - ends[1])
    across = only - (only @ line) * line
    across /= np.linalg.norm(across)
    origin = (ends[1] + ends[100]) / 2
    assert one["loss"][30][0] == pytest.approx(
        height(origin + one["x"][0] * line + one["y"][30] * across), rel=1e-9
    )


def test_of_many_ends_three_span_the_plane():
    """The first, the middle and the last; the others lie off it."""
    ends = random_ends((1, 8, 32, 64, 100))
    assert [list(end) for end in spanning(list(ends.values()))] == [list(ends[size]) for size in (1, 32, 100)]
    off = {path["batch_size"]: path["off"][1] for path in surface_of(ends)["paths"]}
    assert off[8] > 0.1
    assert off[32] == pytest.approx(0.0, abs=1e-9)


def test_ends_that_are_no_places_have_no_surface():
    """A diverged end, or ends and ways that are one point, give None."""
    ends = random_ends((1, 100))
    assert surface_of(ends | {1: np.full(SIZE, np.nan)}) is None
    still = np.full(SIZE, -1.0)
    assert ends_surface(height, {1: still, 100: still}, {1: [still], 100: [still]}, as_it_is, 100) is None


def test_ends_in_one_place_still_have_ways_to_draw():
    """Two kinds that ended at the same place are drawn in random directions."""
    end = random_ends((1,))[1]
    surface = surface_of({1: end, 100: end.copy()})
    assert surface["random_directions"] == 2


def test_a_single_weight_has_no_plane():
    """Where only one direction is not along an intercept there is no surface, and no search for ever."""

    def one_weight(direction, at):
        return np.where(np.arange(SIZE) == 0, direction, 0.0)

    assert surface_of(random_ends((100,)), filters=one_weight) is None
