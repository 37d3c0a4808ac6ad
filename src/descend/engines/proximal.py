"""Steps from the whole curvature with an L1 penalty: proximal Newton and proximal L-BFGS.

(Lee, Sun and Saunders 2014, https://arxiv.org/abs/1206.1623.) The smooth part is replaced by a quadratic, L1 stays as
it is, and the step goes to the lowest place of their sum. That place is found by coordinate descent, which finds out
which weights are 0, in turns with solving for the others at once, which coordinate descent is slow at where columns
are nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines.cholesky import cholesky_solver
from descend.engines.lbfgs import ENOUGH, HALVINGS, SLACK, Memory, Objective
from descend.engines.newton import hessian
from descend.engines.proximal_kernels import Along, descend_by_coordinates
from descend.objectives.losses import Loss
from descend.objectives.penalties import shrunk
from descend.types import Dataset, FloatArray, IntArray

ROUNDS = 30
SWEEPS = 10
MOST_AT_ONCE = 800
"""Solving for more weights at once than this takes longer than sweeps do."""
SOLVED = 1e-10
NEARLY = 1e-5
NO_MATRIX = np.empty((0, 0))


@dataclass(slots=True)
class Quadratic:
    """The curvature diagonal + scale · blocks of H + U M Uᵀ of the numbers at ``free`` among all k · (d + 1)."""

    free: IntArray
    diagonal: FloatArray
    H: FloatArray
    scale: float
    place: IntArray
    U: FloatArray
    UM: FloatArray
    exact: bool = False
    unsolved: float = SOLVED
    """The share of what it promises that may be left undone."""

    def bends(self) -> FloatArray:
        """The curvature along each free number alone."""
        bends = self.diagonal + np.einsum("ij,ij->i", self.UM, self.U)
        if self.H.size:
            bends += self.scale * np.diag(self.H)[self.place % len(self.H)]
        return np.asarray(bends)

    def lowest(
        self, gradient: FloatArray, start: FloatArray, strengths: FloatArray
    ) -> tuple[FloatArray, float]:
        """Where gradient · move + ½ move · curvature · move + Σ strength · |number| is lowest, and by how much."""
        curvature, bends = (self.diagonal, self.H, self.scale, self.place, self.U, self.UM), self.bends()
        point = start.copy()
        num_blocks = int(self.place.max(initial=0)) // len(self.H) + 1 if self.H.size else 0
        fall = 0.0
        along = self._along(point - start, num_blocks)
        for _ in range(ROUNDS):
            left = descend_by_coordinates(
                curvature,
                bends,
                gradient,
                strengths,
                start,
                point,
                along,
                SWEEPS,
                self.unsolved * fall,
            )
            before = fall
            fall, slope = self._fall(gradient, start, point, strengths, along)
            if left <= self.unsolved * fall or fall - before <= 0.1 * self.unsolved * fall:
                break
            kept = np.flatnonzero((point != 0.0) | (strengths == 0.0))
            if not 0 < len(kept) <= MOST_AT_ONCE:
                continue
            try:
                solve = cholesky_solver(self._matrix(kept))
            except (np.linalg.LinAlgError, ValueError):
                continue
            step = solve((gradient + slope + strengths * np.sign(point))[kept])
            for walk in (_to_zero_and_on, _to_the_first_zero):
                trial = point.copy()
                trial[kept] = walk(point[kept], step, strengths[kept] > 0.0)
                there = self._along(trial - start, num_blocks)
                further, _ = self._fall(gradient, start, trial, strengths, there)
                if further >= fall:
                    point, fall, along = trial, further, there
                    break
        return point, fall

    def _along(self, move: FloatArray, num_blocks: int) -> Along:
        """H · move in the places of the blocks, and Uᵀ · move."""
        wide = np.zeros(num_blocks * len(self.H))
        if self.H.size:
            wide[self.place] = move
            wide = (wide.reshape(num_blocks, -1) @ self.H).ravel()
        return wide, move @ self.U

    def _fall(
        self,
        gradient: FloatArray,
        start: FloatArray,
        point: FloatArray,
        strengths: FloatArray,
        along: Along,
    ) -> tuple[float, FloatArray]:
        """How much lower the quadratic with L1 is at ``point`` than at ``start``, and curvature · move."""
        move = point - start
        along_H, along_U = along
        slope = self.diagonal * move + self.UM @ along_U
        if self.H.size:
            slope += self.scale * along_H[self.place]
        shrinking = float(strengths @ (np.abs(start) - np.abs(point)))
        return shrinking - float(gradient @ move) - 0.5 * float(slope @ move), slope

    def _matrix(self, kept: IntArray) -> FloatArray:
        """The curvature itself, of the free numbers ``kept``."""
        total = self.UM[kept] @ self.U[kept].T
        if self.H.size and len(self.place) == len(self.H):
            total += self.scale * self.H[np.ix_(kept, kept)]
        elif self.H.size:
            block, at = np.divmod(self.place[kept], len(self.H))
            total += self.scale * np.where(block[:, None] == block, self.H[np.ix_(at, at)], 0.0)
        total[np.diag_indices(len(kept))] += self.diagonal[kept]
        return np.asarray(total)


def _to_zero_and_on(here: FloatArray, step: FloatArray, sharp: NDArray[np.bool_]) -> FloatArray:
    """A whole step, but numbers that would change their sign end at 0."""
    there = here - step
    return np.where(sharp & (here * there <= 0.0), 0.0, there)


def _to_the_first_zero(here: FloatArray, step: FloatArray, sharp: NDArray[np.bool_]) -> FloatArray:
    """As much of a step as is taken when the first number comes to 0: always leads down."""
    crossing = np.flatnonzero(sharp & (here * (here - step) <= 0.0))
    if not len(crossing):
        return here - step
    lengths = here[crossing] / step[crossing]
    first = int(np.argmin(lengths))
    there = here - lengths[first] * step
    there[crossing[first]] = 0.0
    return np.asarray(there)


Model = Callable[[Memory], Quadratic]
"""The quadratic that stands for the smooth part at the memory's point."""


def remembered(
    memory: Memory,
    free: IntArray,
    diagonal: FloatArray,
    H: FloatArray,
    first: Callable[[FloatArray], FloatArray],
) -> Quadratic:
    """L-BFGS's curvature in its compact form (Byrd, Nocedal and Schnabel 1994), from diagonal or blocks of H on.

    ``diagonal`` (k, d + 1), or H (d + 1, d + 1) for each output; ``first`` applies the inverse of these.
    """
    assert memory.point is not None
    none = np.zeros((len(free), 0))
    start = Quadratic(free, diagonal.ravel()[free], H, 1.0, free, none, none)
    if not memory.moves:
        return start
    S = np.stack([move.ravel() for move in memory.moves], axis=1)
    Y = np.stack([change.ravel() for change in memory.changes], axis=1)
    last = memory.changes[-1]
    scale = float(np.vdot(last, first(last))) / float(S[:, -1] @ Y[:, -1])
    blocks = S.reshape(*memory.point.shape, -1)
    BS = diagonal.reshape(*memory.point.shape, 1) * blocks
    if H.size:
        BS = BS + np.einsum("ij,kjm->kim", H, blocks)
    BS = scale * BS.reshape(S.shape)
    SY = S.T @ Y
    lower = np.tril(SY, -1)
    middle = np.block([[S.T @ BS, lower], [lower.T, -np.diag(np.diag(SY))]])
    W = np.concatenate([BS, Y], axis=1)
    try:
        WM = -np.linalg.solve(middle, W.T).T
    except np.linalg.LinAlgError:
        return start
    quadratic = Quadratic(
        free, scale * start.diagonal, H, scale, free, W[free], np.ascontiguousarray(WM[free])
    )
    floor = 1e-8 * scale * (start.bends())
    return quadratic if (quadratic.bends() > floor).all() else start


def exact(
    data: Dataset,
    loss: Loss,
    alpha: float,
    memory: Memory,
    columns: IntArray,
    fit_intercept: bool,
    few: tuple[IntArray | slice, FloatArray] | None = None,
) -> Quadratic:
    """The Hessian of the smooth part at the memory's point, of the weights of ``columns`` and the intercepts.

    ``few``: of these rows alone, each with its share of the mean.
    """
    assert memory.point is not None
    k, width = memory.point.shape
    kept = np.append(columns, width - 1)
    X: Any = data.X
    y, weights = data.y, data.weights
    rows: IntArray | slice = slice(None)
    if few is not None:
        rows, y, weights = few[0], y[few[0]], np.asarray(few[1] * len(few[1]), dtype=np.float64)
    chosen = columns if len(columns) < width - 1 else None
    if data.comes_in_parts:
        X = X.part(rows, chosen)
    else:
        X = X if few is None else X[rows]
        X = X if chosen is None else X[:, chosen]
        X = X.toarray() if data.is_sparse else X
    part = Dataset(X, y, weights)
    H = hessian(part, loss, alpha, memory.point[:, kept], fit_intercept, memory.cautious)
    free = (np.arange(k)[:, None] * width + kept).ravel()
    if not fit_intercept:
        inside = free % width < width - 1
        free, H = free[inside], H[np.ix_(inside, inside)]
    none = np.zeros((len(free), 0))
    return Quadratic(
        free,
        np.zeros(len(free)),
        np.ascontiguousarray(H),
        1.0,
        np.arange(len(free)),
        none,
        none,
        True,
        SOLVED if few is None else NEARLY,
    )


def free_numbers(
    parameters: FloatArray, gradient: FloatArray, l1: float, fit_intercept: bool
) -> NDArray[np.bool_]:
    """Which numbers (k, d + 1) are not 0, or are drawn away from 0 harder than ``l1`` holds them there."""
    free = np.asarray((parameters != 0.0) | (np.abs(gradient) > l1))
    free[:, -1] = fit_intercept
    return free


def least_slope(parameters: FloatArray, gradient: FloatArray, l1: float) -> FloatArray:
    """The gradient with L1 in it (k, d + 1); at 0, where L1 has many slopes, the one of least size."""
    if l1 == 0.0:
        return gradient
    slope = gradient.copy()
    weights, inner = parameters[:, :-1], slope[:, :-1]
    slope[:, :-1] = np.where(weights != 0.0, inner + l1 * np.sign(weights), shrunk(inner, l1))
    return slope


def aim_with_l1(memory: Memory, model: Model, l1: float) -> None:
    """Sets the next step, where it goes, and what it promises."""
    assert memory.gradient is not None
    assert memory.point is not None
    quadratic = model(memory)
    goal = memory.point.copy()
    strengths = np.full(goal.shape, l1)
    strengths[:, -1] = 0.0
    free = quadratic.free
    goal.ravel()[free], memory.decrement = quadratic.lowest(
        memory.gradient.ravel()[free], memory.point.ravel()[free], strengths.ravel()[free]
    )
    memory.goal, memory.step, memory.exact = goal, memory.point - goal, quadratic.exact


def proximal_step(
    objective: Objective, parameters: FloatArray, memory: Memory, model: Model, l1: float
) -> int:
    """One step with a halving line search, as ``lbfgs_step`` does it; ``objective`` counts L1 in its value."""
    evaluations = 0
    if memory.point is None:
        memory.point = parameters.astype(np.float64)
        memory.value, memory.gradient = objective(memory.point)
        aim_with_l1(memory, model, l1)
        evaluations = 1
    assert memory.gradient is not None
    assert memory.step is not None
    assert memory.goal is not None
    size = np.abs(memory.point[:, :-1]).sum()
    slope = float(np.vdot(memory.gradient, memory.step)) + l1 * float(
        size - np.abs(memory.goal[:, :-1]).sum()
    )
    length = 1.0
    for _ in range(HALVINGS):
        # Point − step would leave something of what has to be 0.
        trial = memory.goal if length == 1.0 else memory.point - length * memory.step
        value, gradient = objective(trial)
        evaluations += 1
        if value <= memory.value - ENOUGH * length * slope + SLACK * abs(memory.value):
            memory.keep(trial, value, gradient)
            memory.length = length
            aim_with_l1(memory, model, l1)
            return evaluations
        length *= 0.5
    memory.length = 0.0
    return evaluations
