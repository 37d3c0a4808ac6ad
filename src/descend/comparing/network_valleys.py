"""The objective of a network as it is looked at after the runs, and walks over it (``ends.py``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.comparing.ends import Terrain, measure_ends, sample_rows
from descend.comparing.network_hessian import NetworkHessian
from descend.comparing.sharpness import Sharpness, sharpness
from descend.engines.mlp import NetworkEngine
from descend.machine import one_blas_thread
from descend.models.mlp import MLPModel
from descend.models.network import Network
from descend.networks.fitting import fit_network
from descend.networks.planning import resolve_network
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.runs import Run
from descend.settings import Settings
from descend.target_objective import loss_unit
from descend.types import Dataset, FloatArray

if TYPE_CHECKING:
    from descend.features import Prepared


class NetworkObjective:
    """Mean loss + penalty of a network on the first ``num_rows`` rows, in float64."""

    def __init__(self, data: Dataset, loss: Loss, penalty: Penalty, network: Network, num_rows: int) -> None:
        few = min(num_rows, data.num_rows)
        X: Any = data.X[:few]
        weights = None if data.weights is None else data.weights[:few]
        self.data = Dataset(X.astype(np.float64), data.y[:few], weights)
        self.loss, self.penalty, self.network = loss, penalty, network
        self.engine = NetworkEngine(self.data, loss, penalty, network)

    def height(self, parameters: FloatArray) -> float:
        """The mean loss + penalty at ``parameters`` (P,)."""
        return self.engine.mean_loss(np.asarray(parameters, dtype=np.float64))

    def sharpness(self, parameters: FloatArray, seed: int = 0) -> Sharpness | None:
        """The largest eigenvalue of the Hessian there; None where the place is not finite."""
        with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
            hessian = NetworkHessian(self.data, self.loss, self.penalty, self.network, parameters)
            return sharpness(hessian.times, self.network.size, seed)


@dataclass(frozen=True, slots=True)
class NetworkTerrain:
    """A network's objective, with what walks over it need."""

    prepared: Prepared
    settings: Settings
    objective: NetworkObjective
    unit: float

    @property
    def num_rows(self) -> int:
        return self.objective.data.num_rows

    @property
    def all_rows(self) -> int:
        return self.prepared.train.num_rows

    def height(self, parameters: FloatArray) -> float:
        return self.objective.height(parameters)

    def sharpness(self, parameters: FloatArray, seed: int = 0) -> Sharpness | None:
        return self.objective.sharpness(parameters, seed)

    def with_lengths_of(self, direction: FloatArray, at: FloatArray) -> FloatArray:
        return with_lengths_of(self.objective.network, direction, at)

    def walker(self, run: Run[MLPModel], number: int, passes: int) -> NetworkWalker:
        settings = replace(self.settings, seed=self.settings.seed + number)
        return NetworkWalker(replace(self.prepared, validation=None), settings, self.objective, run, passes)


def measure_network_ends(
    prepared: Prepared, settings: Settings, runs: dict[int, list[Any]], gap: float
) -> tuple[dict[str, Any] | None, dict[str, Any], dict[int, dict[str, Any]]]:
    """What ``ends.py`` measures, of networks."""
    data = prepared.train
    plan = resolve_network(data, prepared.target, settings, epochs=1)
    few = sample_rows(data.num_rows, plan.network.size)
    objective = NetworkObjective(data, plan.loss, plan.penalty, plan.network, few)
    terrain: Terrain = NetworkTerrain(
        prepared, settings, objective, loss_unit(prepared.target, settings.loss)
    )
    return measure_ends(terrain, runs, gap, settings.seed)


def with_lengths_of(network: Network, direction: FloatArray, at: FloatArray) -> FloatArray:
    """``direction`` with every unit's weights as long as those at ``at``, and nothing along the intercepts."""
    made = np.zeros(network.size)
    parts = zip(network.parts(made), network.parts(direction), network.parts(at), strict=True)
    for (into, _), (weights, _), (own, _) in parts:
        into[:] = weights * (np.linalg.norm(own, axis=0) / np.linalg.norm(weights, axis=0))
    return made


@dataclass(frozen=True, slots=True)
class NetworkWalker:
    """The two ways to walk from a place.

    The kinds take the rate that their ladder finds there. Batch gradient descent goes back at the rate that its own
    run had, or at 1 / sharpness where that is less.
    """

    prepared: Prepared
    settings: Settings
    objective: NetworkObjective
    batch: Run[MLPModel]
    passes: int

    def settle(self, start: FloatArray) -> FloatArray:
        """Plain steps over every row, at 1 / sharpness, but no faster than its own run took them."""
        rate = self.batch.rate.value
        found = self.objective.sharpness(start)
        if found is not None and found.value > 0.0:
            steepest = 1.0 / found.value
            rate = min(rate, steepest) if self.batch.optimizer == "sgd" else steepest
        return self._walk(start, optimizer="sgd", batch_size="full", learning_rate=rate, schedule="constant")

    def wander(self, start: FloatArray, batch_size: int) -> FloatArray:
        return self._walk(start, batch_size=batch_size)

    def _walk(self, start: FloatArray, **changed: Any) -> FloatArray:
        """Not a number where it diverged."""
        if not np.isfinite(start).all():
            return start
        settings = replace(self.settings, epochs=self.passes, seconds=None, dense=False, **changed)
        run = fit_network(self.prepared, settings, initial=start.astype(self.prepared.train.X.dtype))
        if run.stopped == "diverged":
            return np.full_like(start, np.nan)
        return run.model.parameters.astype(np.float64)
