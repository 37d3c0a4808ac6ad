"""A network trained as the textbook has it, in plain NumPy: the measure for ``engines/mlp.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.engines.base import KeepsNothing, Rule, State, Sums
from descend.models.network import Network
from descend.objectives.activations import activate, slope_of
from descend.objectives.losses import Loss, row_derivatives, row_losses
from descend.objectives.penalties import Penalty, shrunk
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import ADAMW, reach, update
from descend.updates.schedules import rate_at


class ReferenceNetworkEngine(KeepsNothing):
    """Networks, one readable step after another."""

    def __init__(
        self,
        data: Dataset,
        loss: Loss,
        penalty: Penalty,
        network: Network,
        weights: FloatArray | None = None,
        average_every: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        self.data, self.loss, self.penalty, self.network = data, loss, penalty, network
        self.num_rows = data.num_rows
        self.weights = np.ones(data.num_rows) if data.weights is None else data.weights
        self.visit_weights = self.weights if weights is None else self.weights * weights
        self.average_every, self.weight_decay = average_every, weight_decay

    def loss_and_gradient(
        self, parameters: FloatArray, rows: IntArray | slice, weights: FloatArray | None = None
    ) -> Sums:
        """Forward, keeping what every layer took in; then backward by the chain rule."""
        weight = (self.weights if weights is None else weights)[rows]
        parts, code = self.network.parts(parameters), self.network.activation.code
        taken_in, scores = [], []
        inputs = self.data.X[rows]
        for number, (W, b) in enumerate(parts):
            taken_in.append(inputs)
            scores.append(inputs @ W + b)
            if number + 1 < len(parts):
                inputs = activate(code, scores[-1])
        y = self.data.y[rows]
        losses = row_losses(self.loss.code, scores[-1], y, self.loss.shape)
        error = row_derivatives(self.loss.code, scores[-1], y, self.loss.shape) * weight[:, None]
        gradient = np.zeros(self.network.size)
        into = self.network.parts(gradient)
        for number in range(len(parts) - 1, -1, -1):
            into[number][0][:] = taken_in[number].T @ error
            into[number][1][:] = error.sum(axis=0)
            if number:
                slope = slope_of(code, scores[number - 1], taken_in[number])
                error = (error @ parts[number][0].T) * slope
        return Sums(float(losses @ weight), gradient, float(weight.sum()))

    def step(self, state: State, rule: Rule, rows: IntArray | slice, num_rows: int) -> None:
        """One batch, one update."""
        # Weights of visits belong to an order: without one, every row comes once and counts whole.
        weights = self.weights if isinstance(rows, slice) else self.visit_weights
        sums = self.loss_and_gradient(state.parameters, rows, weights)
        counted = 1 if rule.sum_rows else num_rows
        gradient = sums.gradient / counted
        is_weight = weights_of(self.network)
        if not rule.fit_intercept:
            gradient[~is_weight] = 0.0
        length = float(np.linalg.norm(gradient))
        if rule.clip and length > rule.clip:
            gradient *= rule.clip / length
        state.steps += 1
        rate = rate_at(rule.schedule, rule.rate_in(state), state.steps, rule.num_steps)
        ridge, decay = self.penalty.alpha * (num_rows / counted), self.weight_decay
        if rule.optimizer.code == ADAMW:  # L2 acts on the weights themselves
            ridge, decay = 0.0, decay + ridge
        gradient += ridge * state.parameters * is_weight
        state.parameters *= 1 - rate * decay * is_weight
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
            by = self.penalty.l1 * (num_rows / counted) * lengths * is_weight
            state.parameters[:] = shrunk(state.parameters, by)
        if self.average_every and state.steps % self.average_every == 0:
            state.num_averaged += 1
            state.average += (state.parameters - state.average) / state.num_averaged

    def run(self, state: State, rule: Rule, order: IntArray | None, batch_size: int) -> None:
        state.visits += self.num_rows if order is None else len(order)
        if order is None:
            self.step(state, rule, slice(None), self.num_rows)
            return
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            self.step(state, rule, rows, len(rows))

    def mean_loss(
        self, parameters: FloatArray, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        """Mean loss + penalty over the first ``num_rows`` rows (all by default)."""
        sums = self.loss_and_gradient(parameters, slice(0, num_rows))
        penalty = sum(self.penalty.of(weights) for weights, _ in self.network.parts(parameters))
        return sums.loss / sums.weight + penalty


def weights_of(network: Network) -> NDArray[np.bool_]:
    """Which of the parameters are weights, and no intercepts, (P,)."""
    found = np.zeros(network.size)
    for weights, _ in network.parts(found):
        weights[:] = 1.0
    return found > 0.0
