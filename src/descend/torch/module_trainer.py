"""The caller's module as the configurator trains it: a copy of it, from the same start, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
import torch

from descend.batch_size.trainer import Look
from descend.batches import Visits, order, shuffle
from descend.errors import InputError, TrainingError
from descend.torch.assembling import elsewhere
from descend.torch.batches import Batches
from descend.torch.checks import MOST_LOOKED_AT, check_module, copied, float_type, held_out_share, split
from descend.torch.coupling import refuse_coupled
from descend.torch.criterion import as_criterion
from descend.torch.devices import choose_device, faster_threads, spread
from descend.torch.evaluating import evaluate
from descend.torch.fitting import FOR_EVER, fit
from descend.torch.given import as_rows, as_validation
from descend.torch.lengths import longest_first
from descend.torch.modes import random_numbers, training_mode
from descend.torch.nested import count_rows, moved_to
from descend.torch.optimizers import make_optimizer, of_copy
from descend.torch.snapshots import copied as snapshot
from descend.torch.snapshots import restore
from descend.torch.stepper import Stepper, rate_of_ladder
from descend.torch.trying import FEW, materialise, try_first
from descend.watching import Observation

RULE_OPTIMIZERS = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Lion")
"""Their steps do not follow the gradient's length: a rule is as good a start as a ladder."""
RULE_RATE, RULE_SIZE, RULE_LARGEST = 1e-3, 32, 256
LOOK_SHARE = 0.005
"""Of the budget, what a look at the held-out rows may take."""
LONGEST_SHARE = 0.02
"""And what finding the longest rows may."""
FEWEST_LOOKED_AT = 32
THREAD_SIZE, THREAD_SHARE = 64, 0.05
FEW_AT_ONCE = 8
"""Rows that are looked at together before it is known what memory they take."""
WORTHWHILE_STEPS = 200
"""What a budget should hold at the least, where it is said that one is too short."""


class ModuleTrainer:
    """Trains a copy of ``module``; the caller's module, random numbers and data are as they were afterwards.

    The losses that are looked at are those of held-out rows. Batches of more rows than ``microbatch`` go in parts,
    whose gradients add up to the batch's exactly; where layers couple rows (``coupled``) none may.
    """

    def __init__(
        self,
        module: Any,
        loss: Any,
        data: Any,
        optimizer: Any,
        options: Mapping[str, Any] | None = None,
        groups: Any = None,
        weights: Any = None,
        validation: Any = None,
        reduction: str | None = None,
        device: Any = "auto",
        seed: int = 0,
        budget: float = 30.0,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        check_module(module)
        self.budget = budget
        if hasattr(optimizer, "param_groups"):
            raise InputError(
                "optimizer is an instance, which goes with one module; pass its class (and optimizer_options), for "
                "each run starts with a fresh one"
            )
        self.notes: list[str] = []
        self.device = choose_device(device, module, self.notes)
        self.module = copied(module).to(self.device)
        self.loss, self.optimizer, self.seed = loss, optimizer, seed
        self.options = dict(options or {})
        self.own_rate = self.options.pop("lr", None)
        self.criterion = as_criterion(loss, reduction)
        self.reduction = reduction
        self.rows = as_rows(data, weights, float_type(module), collate=collate)
        materialise(self.module, lambda: self.few(FEW)[0])
        self.groups = of_copy(groups, module, self.module)
        held = None if validation is None else as_validation(validation, float_type(module), collate)
        fraction = None if held is not None else held_out_share(self.rows.num_rows)
        self.trained, held_out = split(self.rows.num_rows, held, fraction, False, seed)
        self.num_rows = self.rows.num_rows if self.trained is None else len(self.trained)
        # What orders rows is loaded once, and not in each process that measures memory.
        order(seed, 0, self.num_rows)
        shuffle(Visits(1), seed, 0)
        self._end = time.perf_counter() + budget
        self._look_rows = held or self.rows
        count = self._look_rows.num_rows if held_out is None else len(held_out)
        mixed = np.random.default_rng([seed, 4]).permutation(count)[:MOST_LOOKED_AT]
        self._look_places = mixed if held_out is None else held_out[mixed]
        self.look_at(len(mixed), FEW_AT_ONCE)
        try_first(self.module, self.criterion, self.few(min(8, self.num_rows)), self.rows)
        self.start = self.state()
        self.microbatch: int | None = None
        self.rates: dict[int, float] = {}
        self._steppers: dict[int, Stepper] = {}
        # What is wrong with it is said before any step.
        make_optimizer(self.module, optimizer, self.own_rate or RULE_RATE, self.options, self.groups)
        self._end = time.perf_counter() + budget  # what was loaded or compiled until here is so once
        self.longest, weighed = longest_first(self.rows, self.trained, seed, LONGEST_SHARE * budget)
        """Rows that memory is told by, the largest first; None: all are alike."""
        if self.longest is not None:
            self.notes.append(
                f"items differ in size: memory is that of the longest of {weighed:,} that were weighed"
            )
        self.coupled = self._coupling()
        """Why rows of a batch cannot go in parts, or None: they can."""

    @property
    def optimizer_name(self) -> str:
        kind = getattr(self.optimizer, "func", self.optimizer)
        return "Adam" if kind is None else str(getattr(kind, "__name__", kind))

    def choose_threads(self) -> int:
        """One thread or as many as there are, by what steps take; PyTorch is left with those that are faster."""
        if self.device.type != "cpu":
            return int(torch.get_num_threads())
        size = min(THREAD_SIZE, self.num_rows)
        return faster_threads(
            lambda: self.time_steps(size, 2),
            THREAD_SHARE * self.budget,
            self.seconds_left - 0.5 * self.budget,
        )

    def possible(self, batch_size: int) -> bool:
        """Not single rows where rows are normalised by their batch, and no size that leaves one over."""
        return self.coupled is None or (batch_size > 1 and self.num_rows % batch_size != 1)

    def _coupling(self) -> str | None:
        X = self.few(min(8, self.num_rows))[0]

        def call(layers: Any, x: Any) -> Any:
            started = time.perf_counter()
            output = spread(layers)(x)
            self.check_time(f"to send {count_rows(x)} rows through the module", started)
            return output

        try:
            with training_mode(self.module), random_numbers(self.seed, self.device):
                refuse_coupled(self.module, X, call)
        except OutOfTimeError:
            raise
        except InputError as error:
            return str(error).removeprefix("microbatch: ").split("; ")[0]
        return None

    def few(self, count: int) -> tuple[Any, ...]:
        """The first rows, on the device."""
        batches = Batches(self.rows, None, min(count, self.rows.num_rows), shuffle=False)
        return tuple(moved_to(part, self.device) for part in next(iter(batches)))

    @property
    def seconds_left(self) -> float:
        """Until the budget is over."""
        return self._end - time.perf_counter()

    def add_time(self, seconds: float) -> None:
        """Lets the budget last so much longer."""
        self._end += seconds

    def check_time(self, doing: str, started: float) -> None:
        """Raises ``OutOfTimeError`` where the budget is over; ``doing`` has taken the time since ``started``."""
        if self.seconds_left <= 0.0:
            self.say_too_short(doing, time.perf_counter() - started)

    def say_too_short(self, doing: str, taken: float) -> None:
        """Raises ``OutOfTimeError``."""
        raise OutOfTimeError(
            f"{self.budget:.3g} seconds are not enough to train anything: it takes {taken:.2g} s {doing}; give "
            f"more seconds, about {WORTHWHILE_STEPS * max(taken, 0.05):.0f}"
        )

    def time_steps(self, batch_size: int, count: int) -> float:
        """Seconds of ``count`` steps at the start, at a rate that moves nothing, batches made on the way."""
        with random_numbers(self.seed, self.device), training_mode(self.module):
            return self._stepper(batch_size).run(count)

    def step(self, batch_size: int) -> None:
        """A step as a run has it, on the longest rows, for the memory that it takes."""
        longest = None if self.longest is None else np.resize(self.longest, batch_size)
        with random_numbers(self.seed, self.device), training_mode(self.module):
            Stepper(self, batch_size, 0.0, longest).run(1)

    def first_rate(self, batch_size: int) -> float:
        """By a rule for Adam and its kin, for others from a ladder; the same each time."""
        if batch_size not in self.rates:
            if self.optimizer_name in RULE_OPTIMIZERS:
                rows = min(batch_size, RULE_LARGEST)
                self.rates[batch_size] = (self.own_rate or RULE_RATE) * sqrt(rows / RULE_SIZE)
            else:
                self.rates[batch_size] = rate_of_ladder(self, batch_size)
        return self.rates[batch_size]

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        """From the start at this rate; a loss that is no number is shown as infinite."""
        self.put_back(self.start)
        last = Look(0.0, 0, 0, inf)

        def follow(seen: Observation) -> bool:
            nonlocal last
            last = Look(seen.seconds, seen.rows, seen.updates, self.loss_now())
            return look(last)

        if look(Look(0.0, 0, 0, self.loss_now())):
            return
        try:
            fit(
                self.module,
                self.loss,
                self.rows,
                self.optimizer,
                batch_size,
                learning_rate=rate,
                optimizer_options=self.options,
                parameter_groups=self.groups,
                epochs=FOR_EVER,
                early_stopping=False,
                validation_fraction=0.0 if self.trained is None else held_out_share(self.rows.num_rows),
                microbatch=self.parts_of(batch_size),
                evaluation_batch_size=self.looked_at.batch_size,
                reduction=self.reduction,
                seed=seed,
                device=self.device,
                callbacks=[follow],
            )
        except TrainingError as fault:
            if getattr(fault.history, "stopped", "") != "diverged":
                raise
            look(Look(last.seconds, last.rows, last.updates, inf))
        finally:
            self.put_back(self.start)  # steps are timed there, and not where a run blew up

    def loss_now(self) -> float:
        """The mean loss over the rows that are looked at."""
        loss = evaluate(self.module, spread(self.module), self.criterion, self.looked_at)
        return loss if isfinite(loss) else inf

    def look_at(self, num_rows: int, rows_at_once: int) -> None:
        """Looks are at so many of the held-out rows from here on."""
        self.looked_at = Batches(
            self._look_rows,
            None,
            rows_at_once,
            shuffle=False,
            device=elsewhere(self.device),
            rows=self._look_places[:num_rows],
        )

    def first_loss(self) -> float:
        """The loss before the first step; leaves out rows where looks at all would take too much of the budget."""
        count, size = self.looked_at.num_rows, self.looked_at.batch_size
        started = time.perf_counter()
        self.look_at(min(size, count), size)
        self.loss_now()
        self.check_time(f"to look at {self.looked_at.num_rows} rows", started)
        seconds = (time.perf_counter() - started) / self.looked_at.num_rows
        most = int(LOOK_SHARE * self.budget / max(seconds, 1e-9))
        self.look_at(min(count, max(FEWEST_LOOKED_AT, most)), size)
        if seconds * self.looked_at.num_rows > self.seconds_left:
            self.say_too_short(f"to look at {size} rows", seconds * size)
        return self.loss_now()

    def look_together(self, num_rows: int) -> None:
        """Looks at so many rows at once, for the memory that it takes."""
        self.look_at(num_rows, num_rows)
        if self.longest is not None and self._look_rows is self.rows:
            places, self._look_places = self._look_places, np.resize(self.longest, num_rows)
            self.look_at(num_rows, num_rows)
            self._look_places = places
        self.loss_now()

    def put_back(self, state: dict[str, Any]) -> None:
        """Parameters and buffers as they were."""
        restore(self.module, state)

    def state(self) -> dict[str, Any]:
        """A copy of parameters and buffers."""
        return snapshot(self.module)

    def parts_of(self, batch_size: int) -> int | None:
        """Rows that go through the module at once, where a batch is too large to go whole."""
        return self.microbatch if self.microbatch is not None and batch_size > self.microbatch else None

    def _stepper(self, batch_size: int) -> Stepper:
        if batch_size not in self._steppers:
            self._steppers[batch_size] = Stepper(self, batch_size, 0.0)
        return self._steppers[batch_size]


class OutOfTimeError(InputError):
    """The budget is over before anything was trained."""
