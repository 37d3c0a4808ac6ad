"""Models of a table as the configurator trains them: by ``fit``, from the same start, at a rate and size it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batch_size.ladder import climb
from descend.batch_size.trainer import Look
from descend.batches import Visits, shuffle
from descend.engines.base import Rule, State
from descend.engines.choose import make_engine, make_network_engine
from descend.engines.curvature import Curvature, measure_curvature
from descend.fitting import fit, num_threads
from descend.machine import one_blas_thread
from descend.models.linear import initialise
from descend.network_fitting import first_state, fit_network, resolve_network
from descend.network_recipe import rule_rate
from descend.objectives.losses import Loss
from descend.planning import choose_rate
from descend.settings import Settings
from descend.target_objective import find_objective
from descend.updates import find_optimizer
from descend.watching import Observation

if TYPE_CHECKING:
    from descend.features import Prepared

MOST_EPOCHS = 1_000_000
ORDERINGS = 4


class TableTrainer:
    """What both kinds of models share; ``settings`` name the optimizer, and are the caller's otherwise."""

    def __init__(self, prepared: Prepared, settings: Settings) -> None:
        self.prepared = replace(prepared, validation=None)
        self.settings = replace(settings, epochs=None, seconds=None, dense=True, early_stopping=False)
        self.num_rows = prepared.train.num_rows
        self.optimizer = find_optimizer(settings.optimizer)
        self.threads = num_threads(settings.threads)
        self.rates: dict[int, float] = {}
        self._place = 0
        self._order_seconds = self._seconds_to_order()
        self._order = shuffle(Visits(self.num_rows), settings.seed, 0)

    def possible(self, batch_size: int) -> bool:
        return True

    def first_rate(self, batch_size: int) -> float:
        """A rate to begin with, the same each time it is asked for."""
        if batch_size not in self.rates:
            self.rates[batch_size] = self._find_rate(batch_size)
        return self.rates[batch_size]

    def time_steps(self, batch_size: int, count: int) -> float:
        """Seconds of ``count`` steps on shuffled rows, at a rate that moves nothing."""
        rule = Rule(self.optimizer, 1e-30, momentum=self.settings.momentum)
        with one_blas_thread():
            if batch_size >= self.num_rows:
                started = time.perf_counter()
                for _ in range(count):
                    self.engine.run(self.state, rule, None, batch_size)
                return time.perf_counter() - started
            rows = self._next_rows(batch_size * count)
            started = time.perf_counter()
            self.engine.run(self.state, rule, rows, batch_size)
            return time.perf_counter() - started + len(rows) * self._order_seconds

    def warm_up(self) -> None:
        """Compiles what steps of any size need: no clock counts that."""
        rule = Rule(self.optimizer, 1e-30, momentum=self.settings.momentum)
        self.engine.warm_up([(rule, 1), (rule, 2), (rule, 0)], self.state)

    def _seconds_to_order(self) -> float:
        """Seconds that it takes to put a row in its place of an epoch's order."""
        times = []
        for epoch in range(ORDERINGS):
            started = time.perf_counter()
            shuffle(Visits(self.num_rows), self.settings.seed, epoch)
            times.append(time.perf_counter() - started)
        return min(times) / self.num_rows

    def _next_rows(self, count: int) -> Any:
        """Rows of the order that were not used lately, so that no cache has them by chance."""
        if self._place + count > self.num_rows:
            self._place = 0
        rows = self._order[self._place : self._place + count]
        self._place += count
        return rows if len(rows) == count else np.resize(self._order, count)

    def _own(self, batch_size: int, rate: float, seed: int) -> Settings:
        size: int | str = "full" if batch_size >= self.num_rows else batch_size
        return replace(self.settings, batch_size=size, learning_rate=rate, seed=seed)

    # What differs between linear models and networks.

    engine: Any
    state: State
    loss: Loss

    def _find_rate(self, batch_size: int) -> float:
        raise NotImplementedError

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        """Trains from the start until ``look`` returns True, or nothing is gained any more."""
        raise NotImplementedError


class LinearTrainer(TableTrainer):
    """A linear model."""

    def __init__(self, prepared: Prepared, settings: Settings) -> None:
        super().__init__(prepared, settings)
        data, target = prepared.train, prepared.target
        self.loss, self.penalty = find_objective(data, target, settings)
        self.engine = make_engine(data, self.loss, self.penalty, threads=self.threads)
        self.state = State(initialise(target.num_outputs, data.num_columns, data.X.dtype))
        self.curvature: Curvature = measure_curvature(data, self.loss, settings.seed, split=False)
        whole = measure_curvature(
            data, self.loss, settings.seed, True, (self.curvature.mean, self.curvature.direction)
        )
        self.curvature = replace(self.curvature, row=whole.row)
        self.warm_up()

    def _find_rate(self, batch_size: int) -> float:
        own = replace(self.settings, learning_rate="auto")
        return choose_rate(own, self.optimizer, batch_size, self.penalty, self.curvature).value

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        fit(
            self.prepared,
            self._own(batch_size, rate, seed),
            callbacks=[follow(look)],
            give_up_after=MOST_EPOCHS,
        )


class NetworkTrainer(TableTrainer):
    """A network."""

    def __init__(self, prepared: Prepared, settings: Settings) -> None:
        super().__init__(prepared, settings)
        plan = resolve_network(prepared.train, prepared.target, replace(settings, batch_size="auto"), 1)
        self.loss, self.network = plan.loss, plan.network
        self.engine = make_network_engine(
            prepared.train,
            plan.loss,
            plan.penalty,
            plan.network,
            threads=self.threads,
            weight_decay=settings.weight_decay,
        )
        self.first = first_state(plan, prepared, settings, None, False)
        self.state = self._fresh()
        self.warm_up()

    def _fresh(self) -> State:
        return State(self.first.parameters.copy())

    def _find_rate(self, batch_size: int) -> float:
        size = 0 if batch_size >= self.num_rows else batch_size
        if self.optimizer.scale_free:
            return rule_rate(self.optimizer, self.network, size).value
        rule = Rule(self.optimizer, 1.0, momentum=self.settings.momentum)
        with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
            ladder = climb(
                self.engine, self._fresh(), rule, size, self.loss, self.prepared.train, self.settings.seed
            )
        return ladder.rate

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        fit_network(self.prepared, self._own(batch_size, rate, seed), callbacks=[follow(look)])


def follow(look: Callable[[Look], bool]) -> Callable[[Observation], bool]:
    """A callback of ``fit`` that shows each observation to ``look``."""

    def callback(seen: Observation) -> bool:
        return look(Look(seen.seconds, seen.rows, seen.updates, seen.loss))

    return callback
