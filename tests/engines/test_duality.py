"""The bound from Fenchel's dual: never above the objective, and close to its lowest value."""

import numpy as np
import pytest
from support import OTHERS, SHAPES, dataset

from descend.engines.linear import LinearEngine
from descend.objectives.penalties import Penalty

EVERY = SHAPES | OTHERS
PENALTIES = {"l1": Penalty(0.0, 0.05), "elasticnet": Penalty(0.05, 0.02)}


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
