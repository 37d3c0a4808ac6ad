"""How the rates of an optimizer move: by a name of descend's, or by a scheduler of PyTorch's."""

from __future__ import annotations

from typing import Any

import torch

from descend.errors import InputError
from descend.updates.schedules import (
    ENDING,
    PLATEAU,
    PLATEAU_EPOCHS,
    PLATEAU_FACTOR,
    PLATEAU_GAIN,
    find_schedule,
    rate_at,
)


class Schedule:
    """How the rates of an optimizer move: after every step (``by_step``), or after every epoch.

    A name of descend's schedules multiplies each group's rate by the schedule's factor. A callable gets the optimizer
    and returns one of PyTorch's schedulers.
    """

    def __init__(
        self, optimizer: Any, schedule: Any, every: str, num_steps: int | None, waits: bool = False
    ) -> None:
        """``waits``: until ``begin``, for the rates that it multiplies are being found."""
        if every not in ("epoch", "step"):
            raise InputError(f"schedule_every is {every!r}; choose one of: epoch, step")
        self.optimizer, self.num_steps = optimizer, num_steps
        self._schedule, self._every, self._waits = schedule, every, False
        self.scheduler: Any = None
        self.code: int | None = None
        self._make()
        if waits:
            self._check_multiplies()
            self._waits, self.by_step, self.scheduler, self.code = True, False, None, None

    @property
    def is_given(self) -> bool:
        """Whether there is one."""
        return self._schedule is not None

    def begin(self, steps: int, epochs: int) -> None:
        """The rates are found: goes on as if it had multiplied them for so many steps and epochs."""
        if not self._waits:
            return
        self._waits = False
        self._make()
        if self.code is not None:
            self.after_step(steps)
        elif self.scheduler is not None and not self.takes_loss:
            for _ in range(steps if self.by_step else epochs):
                self.scheduler.step()

    def _check_multiplies(self) -> None:
        """Raises ``InputError`` for one that sets rates of its own; leaves the optimizer's as they were."""
        first, groups = self.first_rates, self.optimizer.param_groups
        begun = [float(group.get("initial_lr", rate)) for group, rate in zip(groups, first, strict=True)]
        if begun != [float(rate) for rate in first]:
            raise InputError(
                'learning_rate "auto" finds a rate for the schedule to multiply, and '
                f"{type(self.scheduler).__name__} begins at a rate of its own; pass the rate that you mean, or "
                "another schedule"
            )
        for group, kept in zip(groups, self._groups, strict=True):
            for name in set(group) - {"params"}:
                if name in kept:
                    group[name] = kept[name]
                else:
                    del group[name]

    def _make(self) -> None:
        schedule, optimizer, every = self._schedule, self.optimizer, self._every
        self.scheduler, self.code = None, None
        self.by_step = every == "step"
        self._groups = [
            {name: value for name, value in group.items() if name != "params"}
            for group in optimizer.param_groups
        ]
        self.first_rates = [group["lr"] for group in self._groups]
        if schedule is None:
            self.by_step = False
        elif isinstance(schedule, str):
            self._by_name(schedule)
        elif not isinstance(schedule, type) and getattr(schedule, "optimizer", None) is optimizer:
            self.scheduler = schedule
        elif callable(schedule) and (isinstance(schedule, type) or not hasattr(schedule, "state_dict")):
            self.scheduler = schedule(optimizer)
            if not hasattr(self.scheduler, "step"):
                raise InputError(
                    f"schedule returned a {type(self.scheduler).__name__}; a scheduler of PyTorch, with "
                    "step(), is needed"
                )
        else:
            raise InputError(
                "schedule has to be a callable of the optimizer, such as "
                "lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 10), a scheduler of the optimizer "
                "instance that is passed, or a name of descend's schedules"
            )
        self.takes_loss = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        if self.takes_loss and self.by_step:
            raise InputError(
                'schedule_every is "step", and ReduceLROnPlateau looks at the loss of an epoch; pass "epoch"'
            )

    def _by_name(self, name: str) -> None:
        code = find_schedule(name)
        if code == PLATEAU:
            self.by_step = False
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimizer, factor=PLATEAU_FACTOR, patience=PLATEAU_EPOCHS - 1, threshold=PLATEAU_GAIN
            )
            return
        if self.num_steps is None and name in ENDING:
            raise InputError(f"schedule {name!r} has to know where the run ends; pass epochs")
        self.by_step, self.code = True, code

    def after_step(self, step: int) -> None:
        """``step`` updates have been done."""
        if self.code is None:
            self.scheduler.step()
            return
        factor = rate_at(self.code, 1.0, step + 1, self.num_steps or 1)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * factor

    def after_epoch(self, loss: float) -> None:
        if self.scheduler is not None and not self.by_step:
            if self.takes_loss:
                self.scheduler.step(loss)
            else:
                self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return {"first_rates": self.first_rates, "scheduler": self.scheduler and self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_rates = list(state["first_rates"])
        if self.scheduler is not None and state["scheduler"]:
            self.scheduler.load_state_dict(state["scheduler"])
