"""The loss surface: the plane of the paths, and losses on it that the reference engine computes too."""

import json

import numpy as np
import pytest

from descend.comparing import surface
from descend.comparing.surface import GRID, MOST_POINTS, loss_surface, principal_plane
from descend.engines.reference import ReferenceEngine
from descend.features import prepare
from descend.fitting import fit
from descend.objectives.losses import find_loss
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.sources import open_source
from descend.target_objective import loss_unit


@pytest.fixture(scope="module", params=["sklearn:iris", "sklearn:diabetes", "sklearn:breast_cancer"])
def case(request):
    ready = prepare(open_source(request.param), validation=0.0)
    runs = {
        size: fit(ready, Settings(batch_size=size, optimizer="sgd", epochs=30, dense=True), keep_path=True)
        for size in (1, 32, ready.train.num_rows)
    }
    paths = {size: run.path for size, run in runs.items()}
    return ready, runs, paths, loss_surface(ready, runs[1], paths, loss_unit(ready.target))


def test_it_is_strict_json_on_a_grid(case):
    """Axes and losses make a grid, and the whole is JSON without NaN."""
    surface = case[3]
    assert (len(surface["x"]), len(surface["y"])) == (GRID, GRID)
    assert np.shape(surface["loss"]) == (GRID, GRID)
    json.dumps(surface, allow_nan=False)


def test_paths_lie_inside_the_grid_and_carry_their_kind(case):
    """Every point of every path lies within the axes; no path is longer than a page needs."""
    surface = case[3]
    assert [path["kind"] for path in surface["paths"]] == ["stochastic", "mini-batch", "batch"]
    for path in surface["paths"]:
        assert 2 < len(path["x"]) == len(path["y"]) <= MOST_POINTS
        for name in ("x", "y"):
            assert surface[name][0] < min(path[name])
            assert max(path[name]) < surface[name][-1]


def test_all_paths_begin_in_one_place(case):
    """All kinds start from the same parameters, so from the same point."""
    starts = [(path["x"][0], path["y"][0]) for path in case[3]["paths"]]
    np.testing.assert_allclose(starts, [starts[0]] * 3, atol=1e-9)


def plane(paths):
    return np.array([p.ravel() for path in paths.values() for p in path], dtype=float)


def test_the_plane_is_that_of_the_largest_spread(case):
    """The two shares are the largest eigenvalues of the points' covariance, and fall."""
    _, _, paths, surface = case
    if max(len(path) for path in paths.values()) > MOST_POINTS:
        paths = {
            size: [
                path[i]
                for i in np.unique(np.linspace(0, len(path) - 1, min(len(path), MOST_POINTS)).astype(int))
            ]
            for size, path in paths.items()
        }
    values = np.linalg.eigvalsh(np.cov(plane(paths).T))[::-1]
    np.testing.assert_allclose(surface["explained"], values[:2] / values.sum(), rtol=1e-5)
    assert surface["explained"][0] >= surface["explained"][1] > 0
    for name, value in zip(("x", "y"), values, strict=False):
        places = np.concatenate([path[name] for path in surface["paths"]])
        assert np.var(places, ddof=1) == pytest.approx(value, rel=1e-5)
        assert surface[name][-1] - surface[name][0] == pytest.approx(1.3 * np.ptp(places))


def test_losses_on_the_grid_are_the_objectives(case):
    """The grid's losses are those of the parameters at that point of the plane, in the user's units."""
    ready, runs, paths, surface = case
    thinned = {}
    for size, path in paths.items():
        keep = np.unique(np.linspace(0, len(path) - 1, min(len(path), MOST_POINTS)).astype(int))
        thinned[size] = [path[i] for i in keep]
    points = plane(thinned)
    centre = points.mean(axis=0)
    places = np.array(
        [(x, y) for path in surface["paths"] for x, y in zip(path["x"], path["y"], strict=True)]
    )
    # The axes are what takes the centred points to their places.
    axes = np.linalg.lstsq(places, points - centre, rcond=None)[0]
    loss = find_loss(None, ready.target.task, ready.target.num_outputs)
    engine = ReferenceEngine(ready.train, loss, Penalty(1e-4))
    for i, j in ((0, 0), (15, 15), (30, 4), (7, 22)):
        parameters = centre + surface["x"][i] * axes[0] + surface["y"][j] * axes[1]
        expected = engine.mean_loss(parameters.reshape(runs[1].model.parameters.shape)) * loss_unit(
            ready.target
        )
        assert surface["loss"][j][i] == pytest.approx(expected, rel=1e-3)


def test_paths_without_extent_have_no_surface(case):
    """Where nothing moved, or went out of the numbers' range, there is no surface."""
    ready, runs, paths, _ = case
    still = {size: [path[0], path[0], path[0]] for size, path in paths.items()}
    assert loss_surface(ready, runs[1], still, 1.0) is None
    assert loss_surface(ready, runs[1], {1: paths[1][:2]}, 1.0) is None
    broken = {1: [*paths[1][:5], np.full_like(paths[1][0], np.inf)]}
    assert loss_surface(ready, runs[1], broken, 1.0) is None


def test_points_of_many_numbers_have_the_same_plane(monkeypatch):
    """A plane told by the points' products is that of their singular values, but for its axes' signs."""
    random = np.random.default_rng(0)
    points = list((random.normal(size=(40, 3)) * [5.0, 2.0, 0.1]) @ random.normal(size=(3, 500)))
    centre, axes, places, lengths = principal_plane(points)
    monkeypatch.setattr(surface, "AT_ONCE", 1000)
    other = principal_plane(points)
    np.testing.assert_allclose(other[0], centre, atol=1e-9)
    np.testing.assert_allclose(other[3][:3], lengths[:3], rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(other[1] * axes, axis=1)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(other[2] @ other[1], places @ axes, atol=1e-6)
    line = [np.full(500, float(i)) for i in range(40)]
    assert principal_plane(line) is None
