"""The bound from Fenchel's dual: never above the objective, and close to its lowest value."""

import numpy as np
import pytest
from support import OTHERS, SHAPES, dataset

from descend.engines.linear import LinearEngine
from descend.objectives.penalties import Penalty

EVERY = SHAPES | OTHERS
PENALTIES = {"l1": Penalty(0.0, 0.05), "strong l1": Penalty(0.0, 5.0), "elasticnet": Penalty(0.05, 0.02)}


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("shape", EVERY)
def test_no_parameters_go_below_the_bound(shape, penalty, fit_intercept):
    """Bounds from forty places are below the objective at all forty, weights and intercepts or none."""
    data, loss, k = dataset(shape, weighted=True)
    engine = LinearEngine(data, loss, PENALTIES[penalty], fit_intercept=fit_intercept)
    rng = np.random.default_rng(5)
    places = [rng.normal(size=(k, 6)) * size for size in np.geomspace(1e-3, 1.0, 40)]
    for place in places:
        place[:, -1] *= fit_intercept
    bounds = [engine._lower_bound(place) for place in places]
    assert max(bounds) <= min(engine.mean_loss(place) for place in places)
    assert np.isfinite(bounds).all()


def test_an_intercept_off_its_place_raises_no_bound():
    """With L1 above every slope the lowest value is half the variance: met at the mean, not passed off it."""
    data, loss, _ = dataset("squared_error")
    data.y[:] += 2.0
    engine = LinearEngine(data, loss, Penalty(0.0, 50.0))
    lowest = 0.5 * data.y.var()
    for share in (0.3, 0.5, 0.9):
        assert engine._lower_bound(np.array([[0.0] * 5 + [share * data.y.mean()]])) < lowest
    assert engine._lower_bound(np.array([[0.0] * 5 + [data.y.mean()]])) == pytest.approx(lowest, rel=1e-12)


def test_no_classs_bound_passes_its_entropy():
    """The same for softmax: with strong L1 the lowest value is the entropy of the classes' shares."""
    data, loss, k = dataset("softmax")
    engine = LinearEngine(data, loss, Penalty(0.0, 50.0))
    shares = np.bincount(data.y[:, 0].astype(int), minlength=k) / data.num_rows
    entropy = -float(shares @ np.log(shares))
    at = np.zeros((k, 6))
    for share in (0.0, 0.5, 1.5):
        at[:, -1] = share * np.log(shares)
        assert engine._lower_bound(at) < entropy
    at[:, -1] = np.log(shares)
    assert engine._lower_bound(at) == pytest.approx(entropy, rel=1e-9)
