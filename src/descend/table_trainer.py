"""Models of a table as the configurator trains them: as ``compare`` does, at a size and rate that it names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batch_size.ladder import climb
from descend.batch_size.trainer import Look
from descend.batches import Visits, shuffle
from descend.comparing.compared import find_compared
from descend.engines.base import Rule, State
from descend.engines.curvature import measure_curvature
from descend.machine import Scales, one_blas_thread
from descend.networks.recipe import rule_rate
from descend.planning import choose_rate
from descend.settings import Settings
from descend.updates import find_optimizer
from descend.watching import Observation

if TYPE_CHECKING:
    from descend.features import Prepared

ORDERINGS = 4
LADDER_SHARE = 0.3
"""Of the time that is left, what finding one rate may take."""


class TableTrainer:
    """A linear model or a network; ``settings`` name the optimizer, and are the caller's otherwise."""

    def __init__(self, prepared: Prepared, settings: Settings, model: str) -> None:
        self.prepared = replace(prepared, validation=None)
        self.settings = replace(
            settings, epochs=None, seconds=None, dense=True, thrifty=False, early_stopping=False
        )
        self.num_rows = prepared.train.num_rows
        self.optimizer = find_optimizer(settings.optimizer)
        self.compared = find_compared(model)
        self.engine, self.start = self.compared.start(self.prepared, self.settings)
        self.state = State(self.start.copy())
        self._find_rate = RATES[model](self)
        self._rates: dict[int, float] = {}
        self.scales = Scales()
        """What the process holds while runs go on."""
        self.deadline = inf
        """On ``time.perf_counter``: a ladder of steps over every row could take longer than the whole search."""
        self._place = 0
        self._order_seconds = self._seconds_to_order()
        self._order = shuffle(Visits(self.num_rows), settings.seed, 0)
        self._warm_up()

    def possible(self, batch_size: int) -> bool:
        return True

    def first_rate(self, batch_size: int) -> float:
        """A rate to begin with, the same each time it is asked for."""
        if batch_size not in self._rates:
            self._rates[batch_size] = self._find_rate(batch_size)
        return self._rates[batch_size]

    def time_steps(self, batch_size: int, count: int) -> float:
        """Seconds of ``count`` steps on shuffled rows, at a rate that moves nothing."""
        rule = Rule(self.optimizer, 1e-30, momentum=self.settings.momentum)
        with one_blas_thread():
            if batch_size >= self.num_rows:
                started = time.perf_counter()
                for _ in range(count):
                    self.engine.run(self.state, rule, None, batch_size)
                return time.perf_counter() - started
            if batch_size * count >= self.num_rows:
                return self._time_epochs(rule, batch_size, count)
            rows = self._next_rows(batch_size * count)
            started = time.perf_counter()
            self.engine.run(self.state, rule, rows, batch_size)
            return time.perf_counter() - started + len(rows) * self._order_seconds

    def _time_epochs(self, rule: Rule, batch_size: int, count: int) -> float:
        """Seconds of steps that make up epochs: each is ordered and entered by itself, which a small table feels."""
        an_epoch = -(-self.num_rows // batch_size)
        started, left, epoch = time.perf_counter(), count, 0
        while left > 0:
            epoch += 1
            rows = shuffle(Visits(self.num_rows), self.settings.seed, epoch)
            self.engine.run(self.state, rule, rows[: left * batch_size], batch_size)
            left -= an_epoch
        return time.perf_counter() - started

    def _warm_up(self) -> None:
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

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        """Trains from the start until ``look`` returns True, or nothing is gained any more."""
        own = self._own(batch_size, rate, seed)
        self.compared.run(self.prepared, own, callbacks=[self._follow(look)], keep_path=False)

    def _follow(self, look: Callable[[Look], bool]) -> Callable[[Observation], bool]:
        """A callback of ``fit`` that shows each observation to ``look``, and sees what the process holds."""

        def callback(seen: Observation) -> bool:
            self.scales.weigh()
            return look(Look(seen.seconds, seen.rows, seen.updates, seen.loss))

        return callback


def rates_of_lines(trainer: TableTrainer) -> Callable[[int], float]:
    """Rates by batch size for a linear model: from curvature, in closed form."""
    data, settings = trainer.prepared.train, replace(trainer.settings, learning_rate="auto")
    loss, penalty = trainer.engine.loss, trainer.engine.penalty
    whole = measure_curvature(data, loss, settings.seed, split=False)
    # The runs visit each row once; the heaviest is taken as if it had been split.
    row = measure_curvature(data, loss, settings.seed, True, (whole.mean, whole.direction)).row
    curvature = replace(whole, row=row)
    return lambda batch_size: choose_rate(settings, trainer.optimizer, batch_size, penalty, curvature).value


def rates_of_networks(trainer: TableTrainer) -> Callable[[int], float]:
    """Rates by batch size for a network: by a rule, or from a ladder."""
    engine, data, settings = trainer.engine, trainer.prepared.train, trainer.settings
    rule = Rule(trainer.optimizer, 1.0, momentum=settings.momentum)

    def find(batch_size: int) -> float:
        size = 0 if batch_size >= data.num_rows else batch_size
        if trainer.optimizer.scale_free:
            return rule_rate(trainer.optimizer, engine.network, size).value
        state = State(trainer.start.copy())
        with np.errstate(over="ignore", invalid="ignore"), one_blas_thread():
            seconds = LADDER_SHARE * max(0.0, trainer.deadline - time.perf_counter())
            return climb(engine, state, rule, size, engine.loss, data, settings.seed, seconds).rate

    return find


RATES = {"linear": rates_of_lines, "mlp": rates_of_networks}
