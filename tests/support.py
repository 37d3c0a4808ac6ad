"""What several tests build: small data sets, rules, and the two engines over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines.base import Rule, State
from descend.engines.linear import LinearEngine
from descend.engines.reference import ReferenceEngine
from descend.objectives.losses import LOSSES, SOFTMAX_LOSS, Loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS
from descend.updates.schedules import find_schedule

SHAPES = {
    "log_loss": (LOSSES["log_loss"], 1),
    "softmax": (SOFTMAX_LOSS, 3),
    "squared_error": (LOSSES["squared_error"], 1),
    "squared_errors": (LOSSES["squared_error"], 2),
}
"""The losses whose formulas stand in kernels of their own, at the numbers of outputs at which their code differs."""
OTHERS = {
    f"{name}{'' if outputs == 1 else 's'}": (replace(LOSSES[name], shape=(setting, 0.0)), outputs)
    for name, setting in (
        ("hinge", 0.0),
        ("squared_hinge", 0.0),
        ("modified_huber", 0.0),
        ("huber", 0.7),
        ("epsilon_insensitive", 0.3),
        ("quantile", 0.8),
        ("poisson", 0.0),
    )
    for outputs in (1, 3)
}
"""The others, at one output and at three: each class against the rest, or three numbers."""

MANY = {
    "many classes": (SOFTMAX_LOSS, 18),
    "many numbers": (LOSSES["squared_error"], 7),
    "many against the rest": (replace(LOSSES["squared_hinge"], shape=(0.0, 0.0)), 16),
}
"""So many outputs that another kernel works on them; they fill tiles of 16, or do not."""


def dataset(
    shape: str = "log_loss",
    num_rows: int = 37,
    num_columns: int = 5,
    dtype: Any = np.float64,
    weighted: bool = False,
    seed: int = 0,
) -> tuple[Dataset, Loss, int]:
    """Random rows with targets that depend on them: data, loss, and number of outputs."""
    loss, num_outputs = (SHAPES | OTHERS | MANY)[shape]
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(num_rows, num_columns))
    scores = X @ rng.normal(size=(num_columns, num_outputs)) + rng.normal(size=(num_rows, num_outputs))
    if loss.name == "poisson":
        scores = np.floor(np.exp(0.3 * scores))
    if loss.task == "classification" and num_outputs > 1:
        y = scores.argmax(axis=1)[:, None].astype(np.float64)
    else:
        y = (scores > 0).astype(np.float64) if loss.task == "classification" else scores
    weights = rng.uniform(0.2, 3.0, size=num_rows) if weighted else None
    if weights is not None:
        weights /= weights.mean()
    return Dataset(X.astype(dtype), y, weights), loss, num_outputs


def engines(
    data: Dataset, loss: Loss, alpha: float = 0.01, **options: Any
) -> tuple[ReferenceEngine, LinearEngine]:
    """The plain twin and the compiled engine over the same rows."""
    penalty = Penalty(alpha, options.pop("l1", 0.0))
    return ReferenceEngine(data, loss, penalty, **options), LinearEngine(data, loss, penalty, **options)


def rule(optimizer: str = "sgd", rate: float = 0.05, schedule: str = "constant", **options: Any) -> Rule:
    return Rule(OPTIMIZERS[optimizer], rate, find_schedule(schedule), **options)


def start(data: Dataset, num_outputs: int, spread: float = 0.1, seed: int = 1) -> State:
    """A state away from zero, so that penalties and softmax's couplings show."""
    rng = np.random.default_rng(seed)
    shape = (num_outputs, data.num_columns + 1)
    return State((spread * rng.normal(size=shape)).astype(data.X.dtype))


def fourth_order(function: Any, at: NDArray[Any], step: float = 1e-3) -> NDArray[np.float64]:
    """The gradient of ``function`` (array → number) at ``at`` by central differences; error of order step⁴."""
    gradient = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        values = []
        for shift in (-2, -1, 1, 2):
            moved = at.copy()
            moved[place] += shift * step
            values.append(function(moved))
        gradient[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return gradient
