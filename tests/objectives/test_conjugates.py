"""Conjugates of the losses: what they are by definition, and where a bound needs them to hold."""

import numpy as np
import pytest
from support import OTHERS, SHAPES, dataset

from descend.objectives.conjugates import conjugates
from descend.objectives.losses import row_derivatives, row_losses

EVERY = SHAPES | OTHERS


@pytest.mark.parametrize("shape", EVERY)
def test_slopes_meet_their_losses(shape):
    """At a derivative of the loss the conjugate is slope · score − loss: Fenchel's equality, for every loss."""
    data, loss, k = dataset(shape)
    scores = np.random.default_rng(3).normal(size=(data.num_rows, k)) * 2.0
    slopes = row_derivatives(loss.code, scores, data.y, loss.shape)
    got = conjugates(loss.code, slopes, data.y, loss.shape).sum(axis=1)
    expected = (slopes * scores).sum(axis=1) - row_losses(loss.code, scores, data.y, loss.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shrink", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("shape", EVERY)
def test_no_score_beats_the_conjugate(shape, shrink):
    """Slope · score − loss is nowhere above the conjugate, also at slopes that were made smaller."""
    data, loss, k = dataset(shape)
    rng = np.random.default_rng(4)
    slopes = shrink * row_derivatives(loss.code, rng.normal(size=(data.num_rows, k)), data.y, loss.shape)
    most = conjugates(loss.code, slopes, data.y, loss.shape).sum(axis=1)
    for _ in range(300):
        scores = rng.normal(size=(data.num_rows, k)) * rng.choice([0.3, 3.0, 10.0])
        here = (slopes * scores).sum(axis=1) - row_losses(loss.code, scores, data.y, loss.shape)
        assert (here <= most + 1e-9 * np.maximum(1.0, np.abs(most))).all()
