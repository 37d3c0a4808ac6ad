"""Proximal steps: the quadratic with L1 is solved, and what L-BFGS remembers is what its recursion gives."""

from collections import deque

import numpy as np
import pytest

from descend.engines.lbfgs import Memory
from descend.engines.proximal import NO_MATRIX, Quadratic, least_slope, remembered

F = 24


def quadratic(kind, rng):
    """A quadratic over 24 numbers in one of its forms, and the whole matrix that it stands for."""
    places = np.arange(F)
    none = np.zeros((F, 0))
    A = rng.normal(size=(F, 8)) if kind == "flat" else rng.normal(size=(F, 40))
    if kind in ("matrix", "flat"):
        H = A @ A.T / 40 + 1e-6 * np.eye(F)
        return Quadratic(places, np.zeros(F), H, 1.0, places, none, none), H
    if kind == "blocks":  # three outputs of eight numbers, the last of each left out
        small = A[:8] @ A[:8].T / 40
        kept = np.flatnonzero(places % 8 != 7)
        whole = 0.5 * np.kron(np.eye(3), small)[np.ix_(kept, kept)]
        none = np.zeros((len(kept), 0))
        return Quadratic(kept, np.zeros(len(kept)), small, 0.5, kept, none, none), whole
    diagonal = rng.uniform(1.0, 3.0, size=F)
    U = rng.normal(size=(F, 4))
    UM = 0.2 * U
    return Quadratic(places, diagonal, NO_MATRIX, 1.0, places, U, UM), np.diag(diagonal) + UM @ U.T


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["matrix", "flat", "blocks", "remembered"])
def test_the_quadratic_with_l1_is_solved(kind, seed):
    """At the place that is found every number is 0 and held there, or the slope is gone; the fall is as said."""
    rng = np.random.default_rng(seed)
    model, whole = quadratic(kind, rng)
    size = len(model.free)
    gradient, start = rng.normal(size=size), rng.normal(size=size) * (rng.random(size) < 0.5)
    if kind == "flat":
        gradient = whole @ gradient  # else the lowest place lies far out
    strengths = np.where(np.arange(size) % 8 == 7, 0.0, 0.3)
    found, fall = model.lowest(gradient, start, strengths)

    def value(at):
        move = at - start
        return gradient @ move + 0.5 * move @ whole @ move + strengths @ np.abs(at)

    slope = gradient + whole @ (found - start)
    held = (found == 0.0) & (strengths > 0.0)
    tolerance = 1e-5  # 1e-10 of the fall may be left, and a slope is as its square root
    assert np.abs(slope + strengths * np.sign(found))[~held].max(initial=0.0) < tolerance
    assert (np.abs(slope)[held] <= strengths[held] + tolerance).all()
    assert fall == pytest.approx(value(start) - value(found), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("blocks", [False, True])
def test_the_compact_memory_is_the_recursion(blocks):
    """The compact form with ten moves is the matrix that updating a dense one ten times gives."""
    rng = np.random.default_rng(0)
    k, d = 2, 6
    size = k * d
    A = rng.normal(size=(size, 30))
    true = A @ A.T / 30
    small = A[:d] @ A[:d].T / 30 if blocks else NO_MATRIX
    diagonal = np.zeros((k, d)) if blocks else rng.uniform(0.5, 2.0, size=(k, d))
    start = np.kron(np.eye(k), small) if blocks else np.diag(diagonal.ravel())
    memory = Memory(moves=deque(), changes=deque(), point=np.zeros((k, d)))
    for _ in range(10):
        move = rng.normal(size=size)
        memory.moves.append(move.reshape(k, d))
        memory.changes.append((true @ move).reshape(k, d))
    inverse = np.linalg.inv(start)
    got = remembered(
        memory,
        np.arange(size),
        diagonal,
        small,
        lambda g: (inverse @ g.ravel()).reshape(k, d),
    )._matrix(np.arange(size))
    s, y = memory.moves[-1].ravel(), memory.changes[-1].ravel()
    B = start * (y @ inverse @ y) / (s @ y)
    for move, change in zip(memory.moves, memory.changes, strict=True):
        s, y = move.ravel(), change.ravel()
        B = B - np.outer(B @ s, B @ s) / (s @ B @ s) + np.outer(y, y) / (s @ y)
    np.testing.assert_allclose(got, B, rtol=1e-7, atol=1e-9)


def test_the_least_slope_at_zero_is_zero_where_l1_holds():
    """Weights at 0 that are drawn less than L1 holds have no slope, the intercept keeps its own."""
    slope = least_slope(np.array([[0.0, 0.0, 2.0, 5.0]]), np.array([[0.2, -0.5, 0.1, 0.7]]), 0.3)
    np.testing.assert_allclose(slope, [[0.0, -0.2, 0.4, 0.7]])
