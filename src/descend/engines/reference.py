"""Gradient descent as the textbook has it, in plain NumPy: slow, and the measure for every other engine."""

from __future__ import annotations

import numpy as np

from descend.engines.base import KeepsNothing, Rule, State, Sums
from descend.objectives.losses import (
    SOFTMAX,
    Loss,
    row_derivatives,
    row_losses,
    second_derivatives,
    softmax,
)
from descend.objectives.penalties import Penalty, shrunk
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import ADAMW, SAGA, reach, update
from descend.updates.schedules import rate_at


class ReferenceEngine(KeepsNothing):
    """Linear models, one readable step after another."""

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        penalty: Penalty,
        weights: FloatArray | None = None,
        average_every: int = 0,
        preconditioner: FloatArray | None = None,
    ) -> None:
        self.preconditioner = preconditioner
        self.only_visits = np.ones(data.num_rows) if weights is None else weights
        self.data, self.loss, self.penalty = data, loss, penalty
        self.num_rows = data.num_rows
        self.weights = np.ones(data.num_rows) if data.weights is None else data.weights
        self.visit_weights = self.weights if weights is None else self.weights * weights
        self.average_every = average_every

    def loss_and_gradient(
        self, parameters: FloatArray, rows: IntArray | slice, weights: FloatArray | None = None
    ) -> Sums:
        X, y = self.data.X[rows], self.data.y[rows]
        weight = (self.weights if weights is None else weights)[rows]
        predictions = X @ parameters[:, :-1].T + parameters[:, -1]
        error = row_derivatives(self.loss.code, predictions, y, self.loss.shape) * weight[:, None]
        gradient = np.hstack([error.T @ X, error.sum(axis=0)[:, None]])
        losses = row_losses(self.loss.code, predictions, y, self.loss.shape)
        return Sums(float(losses @ weight), gradient, float(weight.sum()))

    def step(self, state: State, rule: Rule, rows: IntArray | slice, num_rows: int) -> None:
        """One batch, one update."""
        # Weights of visits belong to an order: without one, every row comes once and counts whole.
        weights = self.weights if isinstance(rows, slice) else self.visit_weights
        sums = self.loss_and_gradient(state.parameters, rows, weights)
        rows_counted = 1 if rule.sum_rows else num_rows
        gradient = sums.gradient / rows_counted
        if not rule.fit_intercept:
            gradient[:, -1] = 0.0
        length = float(np.linalg.norm(gradient))
        if rule.clip and length > rule.clip:
            gradient *= rule.clip / length
        state.steps += 1
        rate = rate_at(rule.schedule, rule.rate_in(state), state.steps, rule.num_steps)
        ridge = self.penalty.alpha * (num_rows / rows_counted)
        if rule.optimizer.code == ADAMW:  # L2 acts on the weights themselves
            state.parameters[:, :-1] *= 1 - rate * ridge
        else:
            gradient[:, :-1] += ridge * state.parameters[:, :-1]
        state.parameters[:], state.first[:], state.second[:] = update(
            rule.optimizer.code,
            state.parameters,
            gradient,
            state.first,
            state.second,
            rate,
            rule.beta1,
            rule.beta2,
            1 - rule.beta1**state.steps,
            1 - rule.beta2**state.steps,
        )
        if self.penalty.l1:
            lengths = reach(rule.optimizer.code, rate, state.second, rule.beta1, 1 - rule.beta2**state.steps)
            by = self.penalty.l1 * (num_rows / rows_counted) * (lengths + np.zeros(state.parameters.shape))
            state.parameters[:, :-1] = shrunk(state.parameters[:, :-1], by[:, :-1])
        if self.average_every and state.steps % self.average_every == 0:
            state.num_averaged += 1
            state.average += (state.parameters - state.average) / state.num_averaged

    def saga_step(self, state: State, rule: Rule, rows: IntArray, batch_size: int) -> None:
        """One batch of mini-batch SAGA; while ``rule.filling`` an SGD step that fills the table."""
        if state.table is None or state.mean_gradient is None:
            state.table = np.zeros((self.num_rows, len(state.parameters)))
            state.mean_gradient = np.zeros(state.parameters.shape)
        s = np.sqrt(max(state.share, 0.03))
        if rule.filling:
            rate = (1 - 0.9 * state.steps / rule.num_steps) / (s * (rule.full_term + 2 * rule.single_term))
        else:
            rate = 1 / (s * (rule.full_term + 3 * rule.single_term))
        rate *= state.pace
        state.steps += 1
        X = np.hstack([self.data.X[rows], np.ones((len(rows), 1))])
        scores = X @ state.parameters.T
        now = (
            row_derivatives(self.loss.code, scores, self.data.y[rows], self.loss.shape)
            * self.weights[rows, None]
        )
        for row, share in zip(rows, row_shares(self.loss, scores, self.data.y[rows]), strict=True):
            seen = self.only_visits[row] * self.weights[row] * share
            state.share += 10 / self.num_rows * (seen - state.share)
        gradient = np.zeros(state.parameters.shape) if rule.filling else state.mean_gradient.copy()
        for x, row, derivative in zip(X, rows, now, strict=True):  # a row may come twice in a batch
            change = derivative - state.table[row]
            state.table[row] = derivative
            towards = derivative if rule.filling else change
            gradient += np.outer(self.only_visits[row] * towards, x) / len(rows)
            state.mean_gradient += np.outer(change, x) / self.num_rows
        gradient[:, :-1] += self.penalty.alpha * state.parameters[:, :-1]
        if not rule.fit_intercept:
            gradient[:, -1] = 0.0
        if self.preconditioner is not None:
            gradient = gradient @ self.preconditioner
        rate *= len(rows) / batch_size
        state.parameters -= rate * gradient
        state.parameters[:, :-1] = shrunk(state.parameters[:, :-1], rate * self.penalty.l1)

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if order is not None and rule.optimizer.code == SAGA:
            for start in range(0, len(order), batch_size):
                self.saga_step(state, rule, order[start : start + batch_size], batch_size)
            return
        if order is None:
            self.step(state, rule, slice(None), self.num_rows)
            return
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            self.step(state, rule, batch, len(batch))

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        sums = self.loss_and_gradient(parameters, slice(num_rows))
        return sums.loss / sums.weight + self.penalty.value(parameters)


def row_shares(loss: Loss, scores: FloatArray, y: FloatArray) -> FloatArray:
    """Each row's second derivative as a share of the loss's bound, shape (n,)."""
    if loss.code == SOFTMAX:
        p = softmax(scores)
        return np.asarray(np.minimum(2 * p, 4 * p * (1 - p)).max(axis=1))
    return np.asarray(second_derivatives(loss.code, scores, y, loss.shape).max(axis=1) / loss.curvature)
