"""What regret is measured on: open data in three disjoint sets of rows, each with a model and an optimizer.

Training rows; rows that the algorithm may look at; rows that only the target is read from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.untuned_problems import open_data
from descend.engines.base import Engine, State
from descend.features.prepare import Prepared
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.types import Dataset

MOST_ROWS = 40_000
TARGETS = {False: (0.05, 0.01, 0.002), True: (0.20, 0.08, 0.03)}
"""What is left of (first − best) loss: of linear models, and of networks."""
FEW = (
    "letter mlp sgd",
    "letter mlp adam",
    "kin40k mlp momentum",
    "usps mlp sgd",
    "adult linear sgd",
    "letter linear sgd",
)
"""A run of a few minutes."""
USUAL = (
    *FEW,
    "california_housing mlp adam",
    "electricity mlp sgd",
    "diamonds linear sgd",
    "a9a linear sgd",
    "news20bydate linear sgd",
)
"""What is run where nothing else is asked for, beside the convolutional network."""
ALL = {
    "adult": ("mlp sgd", "mlp adam", "linear sgd", "linear momentum"),
    "california_housing": ("mlp sgd", "mlp adam", "linear sgd"),
    "diamonds": ("mlp sgd", "mlp adam", "linear sgd"),
    "electricity": ("mlp sgd", "mlp adam", "linear sgd"),
    "kin40k": ("mlp sgd", "mlp momentum", "mlp adam"),
    "letter": ("mlp sgd", "mlp momentum", "mlp adam", "linear sgd"),
    "usps": ("mlp sgd", "mlp adam", "linear sgd", "linear momentum"),
    "fashion_mnist": ("mlp sgd", "mlp adam", "linear sgd"),
    "a9a": ("linear sgd", "linear momentum"),
    "news20bydate": ("linear sgd",),
}
NAMES = tuple(f"{table} {kind}" for table, kinds in ALL.items() for kind in kinds)


@dataclass(slots=True)
class Workload:
    """One table, model and optimizer. ``engine`` holds the training rows, ``target`` the target's."""

    name: str
    prepared: Prepared
    settings: Settings
    loss: Loss
    engine: Engine
    target: Engine
    is_network: bool

    @property
    def targets(self) -> tuple[float, ...]:
        return TARGETS[self.is_network]

    def first_state(self, seed: int) -> State:
        """Where a fit with this seed begins."""
        from descend.models.linear import initialise as zeros
        from descend.models.network import aligned_zeros, initialise
        from descend.target_objective import first_intercept

        data, outputs = self.prepared.train, self.prepared.target.num_outputs
        if not self.is_network:
            return State(zeros(outputs, data.num_columns, data.X.dtype))
        network = self.engine.network  # type: ignore[attr-defined]
        parameters = initialise(network, seed, data.X.dtype)
        network.parts(parameters)[-1][1][:] = first_intercept(self.loss, data, outputs)
        state = State(parameters)
        for name in ("first", "second"):
            setattr(state, name, aligned_zeros(parameters.size, parameters.dtype))
        return state


def workloads(folder: Path, names: tuple[str, ...], hidden: int) -> Iterator[Workload]:
    """Those of ``names`` whose tables are in ``folder``; a9a and news20bydate are rows in CSR."""
    wanted = {name.split()[0] for name in names}
    for problem in open_data(folder, wanted):
        few = np.random.default_rng(0).permutation(problem.X.shape[0])[:MOST_ROWS]
        three = _three_sets(problem.X[few], problem.y[few], problem.task)
        for name in names:
            if name.split()[0] == problem.name:
                yield _workload(name, *three, hidden)


def _three_sets(X: Any, y: Any, task: Any) -> tuple[Prepared, Dataset]:
    """Seven tenths to train on and one that the algorithm may look at, encoded; two for the target."""
    from descend.features import prepare
    from descend.sources import array_source

    cut = int(0.8 * len(y))
    if not hasattr(X, "tocsr"):
        X = np.ascontiguousarray(X, dtype=np.float32)
    prepared = prepare(array_source(X[:cut], y=y[:cut]), task=task, validation=0.125, seed=0)
    codes = np.asarray(prepared.target.encode(y[cut:], unknown="mark"), dtype=np.float64)
    codes = codes.reshape(len(codes), -1)
    known = np.ones(len(codes), bool) if task == "regression" else codes[:, 0] >= 0
    held_out = Dataset(prepared.features.encode(X[cut:][known]), codes[known])
    return prepared, held_out


def _workload(name: str, prepared: Prepared, held_out: Dataset, hidden: int) -> Workload:
    from descend.engines.choose import make_engine, make_network_engine
    from descend.models.network import Network
    from descend.objectives.activations import ACTIVATIONS
    from descend.target_objective import find_objective

    _, kind, optimizer = name.split()
    settings = Settings(optimizer=optimizer, hidden=(hidden,), early_stopping=True, threads=1)
    data = prepared.train
    loss, penalty = find_objective(data, prepared.target, settings)
    none = Penalty(0.0, 0.0)
    engine: Engine
    target: Engine
    if kind == "mlp":
        shape = (data.num_columns, hidden, prepared.target.num_outputs)
        network = Network(shape, ACTIVATIONS["relu"])
        engine = make_network_engine(data, loss, penalty, network, threads=1)
        target = make_network_engine(held_out, loss, none, network, threads=1)
    else:
        engine = make_engine(data, loss, penalty, threads=1)
        target = make_engine(held_out, loss, none, threads=1)
    return Workload(name, prepared, settings, loss, engine, target, kind == "mlp")
