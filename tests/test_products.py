"""Sums of products of columns over rows."""

from __future__ import annotations

import numpy as np
import pytest

from descend.products import products_of


@pytest.mark.parametrize("weighted", [False, True])
def test_scaled_targets_need_no_rows(weighted: bool) -> None:
    """Products with targets that are scaled and shifted are those of rows with such targets."""
    random = np.random.default_rng(0)
    X, y = random.normal(1.0, 1.0, (50, 4)), random.normal(3.0, 2.0, (50, 2))
    weights = random.random(50) if weighted else None
    scale, shift = np.array([0.5, -2.0]), np.array([7.0, 0.3])
    found = products_of([(X, y, weights)]).with_targets(scale, shift)
    for one, other in zip(found[:3], products_of([(X, scale * y + shift, weights)])[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_parts_add_up() -> None:
    """Products of rows in pieces are those of all rows."""
    random = np.random.default_rng(0)
    X, y = random.normal(size=(50, 4)), random.normal(size=(50, 1))
    pieces = products_of([(X[:20], y[:20], None), (X[20:], y[20:], None)])
    total = products_of([(X[:20], y[:20], None)])
    total.add(products_of([(X[20:], y[20:], None)]))
    for one, other, whole in zip(pieces[:3], total[:3], products_of([(X, y, None)])[:3], strict=True):
        np.testing.assert_allclose(one, whole, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other, whole, rtol=1e-12, atol=1e-12)
