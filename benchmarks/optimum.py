"""The lowest value of a problem's objective, in float64, by solvers that share nothing with descend."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.untuned_problems import Problem

MOST_PARAMETERS = 2600
"""Up to so many the Hessian is written out; above that conjugate gradients take its place."""
ENOUGH = 1e-9
"""The optimum is found when ½ g · H⁻¹ g is below this share of what there is to gain."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """``lowest`` objective, and that of the best constant model, from which gains are counted."""

    lowest: float
    constant: float
    left: float
    """What the solver itself says is left to gain."""


class Objective:
    """Mean loss + ½ alpha |w|² of scores X w + b, columns scaled as descend scales them."""

    def __init__(self, problem: Problem) -> None:
        X = problem.X
        self.is_sparse = not isinstance(X, np.ndarray)
        self.n, self.d = X.shape
        X = X.astype(np.float64)
        if self.is_sparse:
            mean = np.asarray(X.mean(axis=0)).ravel()
            variance = np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2
            scale = np.sqrt(np.maximum(variance, 0.0))
            from scipy.sparse import diags_array

            scale[scale < 1e-12] = 1.0
            self.X = (X @ diags_array(1.0 / scale)).tocsr()
        else:
            self.X = X
            if problem.standardize:
                scale = X.std(axis=0)
                constant = scale <= 1e-12 * np.abs(X).max(axis=0)
                scale[constant] = 1.0
                self.X = (X - X.mean(axis=0)) / scale
                self.X[:, constant] = 0.0
        self.alpha, self.task = problem.alpha, problem.task
        if self.task == "regression":
            self.y, self.k = problem.y.astype(np.float64)[:, None], 1
        else:
            labels, codes = np.unique(problem.y, return_inverse=True)
            self.k = 1 if len(labels) == 2 else len(labels)
            self.y = codes[:, None].astype(np.float64) if self.k == 1 else np.eye(self.k)[codes]

    def scores(self, p: Array) -> Array:
        return np.asarray(self.X @ p[:, :-1].T) + p[:, -1]

    def of_scores(self, scores: Array, weights: Array) -> float:
        """The objective of scores (n, k) and standardised weights (k, d)."""
        if self.task == "regression":
            losses = 0.5 * (scores - self.y) ** 2
        elif self.k == 1:
            losses = np.logaddexp(0.0, scores) - self.y * scores
        else:
            top = scores.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(scores - top).sum(axis=1, keepdims=True)) + top
            losses = log_sum - (scores * self.y).sum(axis=1, keepdims=True)
        return float(losses.mean() + 0.5 * self.alpha * np.sum(weights**2))

    def value_and_gradient(self, p: Array) -> tuple[float, Array]:
        scores = self.scores(p)
        slopes = self._chances(scores) - self.y
        gradient = np.empty(p.shape)
        gradient[:, :-1] = np.asarray(self.X.T @ slopes).T / self.n + self.alpha * p[:, :-1]
        gradient[:, -1] = slopes.mean(axis=0)
        return self.of_scores(scores, p[:, :-1]), gradient

    def _chances(self, scores: Array) -> Array:
        if self.task == "regression":
            return scores
        if self.k == 1:
            return np.asarray(np.exp(np.minimum(scores, 0)) / (1 + np.exp(-np.abs(scores))))
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def constant_model(self) -> Array:
        """Weights 0, and the intercept that is best with them."""
        p = np.zeros((self.k, self.d + 1))
        mean = self.y.mean(axis=0)
        if self.task == "regression":
            p[:, -1] = mean
        elif self.k == 1:
            p[:, -1] = np.log(mean / (1 - mean))
        else:
            p[:, -1] = np.log(mean)
        return p

    def bends(self, scores: Array) -> Array:
        q = self._chances(scores)
        return np.ones_like(scores) if self.task == "regression" else q if self.k > 1 else q * (1 - q)

    def times(self, bends: Array, v: Array) -> Array:
        """The Hessian times a direction (k, d + 1)."""
        moves = self.scores(v)
        if self.k > 1:
            moves = moves - (bends * moves).sum(axis=1, keepdims=True)
        moves = moves * bends
        out = np.empty(v.shape)
        out[:, :-1] = np.asarray(self.X.T @ moves).T / self.n + self.alpha * v[:, :-1]
        out[:, -1] = moves.mean(axis=0)
        return out

    def hessian(self, bends: Array) -> Array:
        rows = np.hstack([self.X.toarray() if self.is_sparse else self.X, np.ones((self.n, 1))])
        m = self.d + 1
        H = np.zeros((self.k, m, self.k, m))
        for a in range(self.k):
            for b in range(a + 1 if self.k > 1 else 1):
                share = bends[:, a] * ((a == b) - bends[:, b]) if self.k > 1 else bends[:, 0]
                H[a, :, b, :] = H[b, :, a, :] = (rows * share[:, None]).T @ rows / self.n
        flat = H.reshape(self.k * m, self.k * m)
        ridge = np.full((self.k, m), self.alpha)
        ridge[:, -1] = 0.0
        flat[np.diag_indices_from(flat)] += ridge.ravel()
        return flat


def find_optimum(problem: Problem, cache: Path | None = None) -> Reference:
    """Newton's method with a line search, from the constant model; kept in ``cache`` by the data's digest."""
    place = None
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        place = cache / f"{_digest(problem)}.npz"
        if place.exists():
            kept = np.load(place)
            return Reference(float(kept["lowest"]), float(kept["constant"]), float(kept["left"]))
    found = _newton(Objective(problem))
    if place is not None:
        np.savez(place, lowest=found.lowest, constant=found.constant, left=found.left)
    return found


def _newton(f: Objective) -> Reference:
    p = f.constant_model()
    start = f.value_and_gradient(p)[0]
    if f.k * (f.d + 1) > MOST_PARAMETERS and f.task == "classification":
        p = _lbfgs(f, p)
    left = np.inf
    for _ in range(100):
        value, g = f.value_and_gradient(p)
        bends = f.bends(f.scores(p))
        if f.k * (f.d + 1) <= MOST_PARAMETERS:
            H = f.hessian(bends)
            H[np.diag_indices_from(H)] += 1e-14 * np.trace(H) / len(H)
            try:
                step = np.linalg.solve(H, g.ravel()).reshape(p.shape)
            except np.linalg.LinAlgError:
                step = np.linalg.lstsq(H, g.ravel())[0].reshape(p.shape)
        else:
            step = _conjugate_gradients(f, bends, g)
        left = 0.5 * float(np.vdot(g, step))
        if left <= ENOUGH * (start - value):
            break
        length = 1.0
        while f.value_and_gradient(p - length * step)[0] > value - 1e-4 * length * 2 * left and length > 1e-9:
            length *= 0.5
        p = p - length * step
    return Reference(min(value, f.value_and_gradient(p)[0]), start, left)


def _lbfgs(f: Objective, p: Array) -> Array:
    from scipy.optimize import minimize

    def flat(v: Array) -> tuple[float, Array]:
        value, gradient = f.value_and_gradient(v.reshape(p.shape))
        return value, gradient.ravel()

    options = {"maxiter": 1500, "maxfun": 2000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9}
    found = minimize(flat, p.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x).reshape(p.shape)


def _conjugate_gradients(f: Objective, bends: Array, g: Array) -> Array:
    step, residual = np.zeros(g.shape), g.copy()
    direction, rr = residual.copy(), float(np.vdot(residual, residual))
    first = rr
    for _ in range(600):
        bent = f.times(bends, direction)
        curve = float(np.vdot(direction, bent))
        if curve <= 0 or rr <= 1e-10 * first:
            break
        length = rr / curve
        step += length * direction
        residual -= length * bent
        before, rr = rr, float(np.vdot(residual, residual))
        direction = residual + (rr / before) * direction
    return step


def _digest(problem: Problem) -> str:
    X = problem.X
    parts = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
    y = problem.y if problem.y.dtype.kind in "iufb" else problem.y.astype("U")
    digest = hashlib.sha256(f"{problem.task} {problem.alpha} {problem.standardize} {X.shape}".encode())
    for part in [*parts, y]:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:24]
