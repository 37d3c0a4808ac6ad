"""Single steps of a module outside a run: timed at every size, and taken at ever higher rates for a ladder."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from itertools import chain, islice, repeat
from math import inf
from typing import TYPE_CHECKING

import torch

from descend.batch_size.rungs import climb_rungs
from descend.torch.assembling import elsewhere, with_gradients
from descend.torch.batches import Batches
from descend.torch.devices import spread
from descend.torch.examine import Examiner
from descend.torch.modes import random_numbers, training_mode
from descend.torch.optimizers import make_optimizer, with_rates
from descend.torch.steps import Pieces, Place, make_step
from descend.types import IntArray

if TYPE_CHECKING:
    from descend.torch.module_trainer import ModuleTrainer

LOWEST_RATE = 1e-5
FEWEST_STEPS, ROWS_OF_RUNG = 6, 128
LADDER_SHARE = 0.1
"""Of the budget, what a ladder may take."""


class Stepper:
    """Takes steps of one size, epoch after epoch."""

    def __init__(
        self, trainer: ModuleTrainer, batch_size: int, rate: float, rows: IntArray | None = None
    ) -> None:
        """``rows``: these, as they lie, in the place of those that are trained on in their order."""
        self.optimizer, self.set_rate = with_rates(
            lambda at: make_optimizer(trainer.module, trainer.optimizer, at, trainer.options, trainer.groups)
        )
        self.set_rate(rate)
        self.is_timed = rate == 0.0
        """Steps are for their time: what their loss is does not matter."""
        batches = Batches(
            trainer.rows,
            None,
            batch_size,
            trainer.seed,
            shuffle=rows is None,
            device=elsewhere(trainer.device),
            rows=trainer.trained if rows is None else rows,
        )
        self.step = make_step(
            Pieces(
                spread(trainer.module),
                trainer.criterion,
                self.optimizer,
                with_gradients(trainer.module, self.optimizer),
                Place(),
                Examiner(trainer.criterion, trainer.rows),
                device=trainer.device,
                microbatch=trainer.parts_of(batch_size),
            )
        )
        self.on_cuda = trainer.device.type == "cuda"
        self.waiting = chain.from_iterable(repeat(batches))  # epoch after epoch

    def run(self, count: int, rate: float | None = None) -> float:
        """Seconds that ``count`` steps take, a GPU waited for."""
        if rate is not None:
            self.set_rate(rate)
        self._wait()
        started = time.perf_counter()
        for batch in islice(self.waiting, count):
            with suppress(ArithmeticError) if self.is_timed else nullcontext():
                self.step(batch)
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize()


def rate_of_ladder(trainer: ModuleTrainer, batch_size: int) -> float:
    """The rate of the lowest rung; the module is as it was at the start afterwards.

    Where one step takes so long that a rung's do not fit into the time, a rung is that step.
    """
    end = time.perf_counter() + min(trainer.seconds_left, LADDER_SHARE * trainer.budget)
    steps = max(FEWEST_STEPS, -(-ROWS_OF_RUNG // batch_size))
    with random_numbers(trainer.seed, trainer.device), training_mode(trainer.module):
        stepper = Stepper(trainer, batch_size, LOWEST_RATE)

        def run(rate: float) -> float:
            try:
                taken = stepper.run(1, rate)
                if taken * steps < end - time.perf_counter():
                    stepper.run(steps - 1, rate)
            except ArithmeticError:
                return inf
            return trainer.loss_now()

        left = end - time.perf_counter()
        if left <= 0.0:
            return LOWEST_RATE
        rate, _ = climb_rungs(run, trainer.state, trainer.put_back, LOWEST_RATE, trainer.loss_now(), left)
    trainer.put_back(trainer.start)
    return rate
