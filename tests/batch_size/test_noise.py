"""Gradient noise from microbatches: without bias, and honest where the gradient cannot be told from zero."""

import numpy as np
import pytest

from descend.batch_size.noise import measure_noise, noise_of

DEVIATION, COLUMNS = 3.0, 20


def gaussian(mean, num_rows, seed=0):
    """Single rows' gradients with a known mean and trace of their covariance, 20 · 9."""
    rng = np.random.default_rng(seed)
    rows = mean + DEVIATION * rng.normal(size=(num_rows, COLUMNS))
    return lambda part: rows[part].mean(axis=0)


@pytest.mark.parametrize("rows_each", [1, 8, 64])
def test_trace_and_square_are_without_bias(rows_each):
    """Over 40 draws the means of both estimates are the true ones within three standard errors."""
    found = [measure_noise(gaussian(0.5, 10_000, seed), 10_000, rows_each, seed) for seed in range(40)]
    for estimate, truth in (("trace", COLUMNS * DEVIATION**2), ("square", COLUMNS * 0.25)):
        values = [getattr(noise, estimate) for noise in found]
        assert abs(np.mean(values) - truth) < 3.0 * np.std(values) / np.sqrt(len(values)) + 1e-9


def test_the_interval_holds_the_true_size():
    """In at least 33 of 40 draws the interval of B_simple (true: 36) holds it."""
    noises = [measure_noise(gaussian(0.5, 10_000, seed), 10_000, 16, seed) for seed in range(40)]
    assert sum(noise.interval[0] <= 36.0 <= noise.interval[1] for noise in noises) >= 33


def test_beside_the_optimum_only_a_lower_bound_is_said():
    """A gradient of zero: no size is made up, the lower end is far above the rows of a microbatch."""
    noises = [measure_noise(gaussian(0.0, 10_000, seed), 10_000, 8, seed) for seed in range(20)]
    unknown = [noise for noise in noises if noise.simple is None]
    assert len(unknown) >= 17
    assert all(noise.interval[1] == np.inf for noise in unknown)
    assert np.median([noise.interval[0] for noise in unknown]) > 100.0


def test_it_is_not_the_plug_in_of_one_batch():
    """A true size of 3600 is seen from 1024 rows, where tr Σ / |g|² of that batch could say at most about 1024."""
    few = [measure_noise(gaussian(0.05, 100_000, seed), 100_000, 8, seed) for seed in range(30)]
    square = np.mean([noise.square for noise in few])
    assert np.mean([noise.trace for noise in few]) / square == pytest.approx(3600.0, rel=0.6)


def test_too_few_rows_say_nothing():
    """Of three microbatches nothing is concluded."""
    assert measure_noise(gaussian(0.5, 24), 24, 8) is None


def test_products_of_equal_gradients_have_no_noise():
    """All microbatches alike: no noise, and a size of 0 would be said, not divided by."""
    noise = noise_of(np.full((5, 5), 2.0), 4)
    assert noise.trace == pytest.approx(0.0)
    assert noise.square == pytest.approx(2.0)


def test_gradients_that_are_not_kept_say_the_same(monkeypatch):
    """Made twice instead of kept, gradients give the same estimates and the same interval."""
    for mean in (0.0, 0.5):
        kept = measure_noise(gaussian(mean, 10_000), 10_000, 8)
        monkeypatch.setattr("descend.batch_size.noise.MOST_KEPT", 10)
        again = measure_noise(gaussian(mean, 10_000), 10_000, 8)
        monkeypatch.undo()
        assert again.trace == pytest.approx(kept.trace)
        assert again.square == pytest.approx(kept.square)
        assert again.interval == pytest.approx(kept.interval)
