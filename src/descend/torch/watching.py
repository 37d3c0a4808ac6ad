"""What looks at a run of ``fit``: clock, history, callbacks, budgets, patience, the best module so far.

What decides the result happens at ends of epochs and at step counts, as everywhere in descend; only a time budget
depends on the clock. On the CPU a loss is read at every step. On other devices reading one waits for the device, so
losses are kept there and read at looks; the step of one that is not finite is known all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from typing import Any

import torch

from descend.history import History
from descend.torch.optimizers import rate_of
from descend.torch.rising import told_of_rise
from descend.torch.snapshots import Snapshot, copied, restore
from descend.torch.steps import CALLBACK, DATA, VALIDATION, NotFiniteError, Place
from descend.watching import FEWEST_UPDATES, LOOK_SECONDS, Callback, Observation

LOOK_SHARE = 0.01
"""Looks come every LOOK_SECONDS, later in a run every hundredth of it: a long run does not make a long history."""
COPY_SHARE = 100.0
"""A copy to fall back on is taken when it has taken this many times its own time since the last."""
WAITING = 256
"""Losses that wait on a device at most: so many steps are looked at together."""


@dataclass(slots=True)
class Watch:
    """Follows one run."""

    module: Any
    optimizer: Any
    place: Place
    num_rows: int
    """Rows of an epoch."""
    batch_size: int
    epochs: int
    evaluate: Callable[[], float] | None = None
    """The validation loss, or None: nothing is held out."""
    seconds_allowed: float | None = None
    early_stopping: bool = False
    patience: int = 5
    sum_rows: bool = False
    """The loss sums over rows; histories have it for a row."""
    callbacks: Sequence[Callback] = ()
    save: Callable[[Watch], None] | None = None
    """Writes a checkpoint of this watch's run."""
    save_is_due: Callable[[], bool] = lambda: False
    tuner: Any = None
    """Finds and moves the rate (``tuning.py``), or None: it is the caller's."""
    flat_since: int = 0
    """The epoch since which another rate has had its chance."""
    history: History = field(default_factory=History)
    stopped: str = ""
    seconds: float = 0.0
    rows: int = 0
    interrupt: int = 0
    """The signal by which somebody asked for the end: it comes behind the step that is going on."""
    best: Snapshot | None = None
    safe: Snapshot | None = None
    """The module at the last end of an epoch at which all was well."""
    loss_sum: float = 0.0
    loss_rows: int = 0
    """Of this epoch."""
    first: Any = None
    """The loss of the first batch, a number or a tensor."""
    _waiting: list[Any] = field(default_factory=list)
    _waiting_rows: list[int] = field(default_factory=list)
    _started: float = 0.0
    _next_look: float = 0.0
    _next_copy: float = 0.0

    def start(self) -> None:
        """Before the first step, or the first behind a checkpoint."""
        if self.place.step == 0:
            validation = self._validate()
            if validation is not None:
                self._record(None, validation)
            self._keep(validation)
        elif self.safe is None:
            self.safe = self._snapshot(inf)
        self._resume()

    def note(self, value: Any) -> bool:
        """A step has been taken, its batch had the loss ``value``; True ends the run."""
        place = self.place
        place.step += 1
        rows = min(self.batch_size, self.num_rows - place.batch * self.batch_size)
        place.batch += 1
        self.rows += rows
        if value.__class__ is float:
            self.loss_sum += value * rows
            self.loss_rows += rows
        elif value is not None:  # else the step is taken back
            self._waiting.append(value)
            self._waiting_rows.append(rows)
        if place.step == 1:
            self.first = value
        if self.tuner is not None:
            self.tuner.after_step(rows)
        if self.interrupt or time.perf_counter() >= self._next_look or len(self._waiting) >= WAITING:
            self.look()
        return bool(self.stopped)

    def look(self) -> None:
        """Inside an epoch: records, tells, saves, and sees whether the time is over."""
        self._read_waiting()
        self._pause()
        if self.place.batch * self.batch_size < self.num_rows:  # else the end of the epoch looks, in a moment
            self._record(self._loss(), None)
            self._tell(None)
            if self.interrupt:
                self._stop("interrupted")
            elif self._out_of_time():
                self._stop("time")
            self._save_if_due()
        self._resume()

    def end_epoch(self) -> None:
        """Behind the last batch of an epoch: validates, keeps the best, decides."""
        self._read_waiting()
        self._pause()
        validation = self._validate()
        self._record(self._loss(), validation)
        self._keep(validation)
        self._tell(validation)
        self._decide()
        self.place.epoch, self.place.batch = self.place.epoch + 1, 0
        self.loss_sum, self.loss_rows = 0.0, 0
        self._resume()

    # --- for the tuner ---------------------------------------------------------------------------

    def read_losses(self) -> bool:
        """Losses that wait on a device are read; whether one of them is no number."""
        before, self.tuner.lost = self.tuner.lost, False
        self._read_waiting()
        lost: bool = self.tuner.lost
        self.tuner.lost = before
        return lost

    def mark(self, loss: float | None) -> None:
        """A row of the history with this loss."""
        self._pause()
        self._record(loss, None)
        self._resume()

    def mark_running(self) -> None:
        """A row of the history with the mean of the epoch so far."""
        self.mark(self._loss())

    def offer(self) -> None:
        """Validates the module as it is now, and keeps it where it is the best; off the clock."""
        loss, validation = self._loss(), self._validate()
        self._record(self.history.last["loss"] if loss is None else loss, validation)
        self._keep(validation)

    def go_back_to_best(self) -> None:
        """The module is the best that validation saw, and has as long again to become a better one."""
        if self.best is not None:
            restore(self.module, self.best.module)
        self.flat_since = self.place.epoch

    def save_if_due(self) -> None:
        """At the end of an epoch, when the schedule has moved too."""
        self._pause()
        self._save_if_due()
        self._resume()

    @property
    def score(self) -> float:
        """What a schedule on plateaus is told at the end of an epoch."""
        last = self.history.last
        told = last["loss"] if last["validation_loss"] is None else last["validation_loss"]
        return inf if told is None else float(told)

    def finish(self) -> History:
        """Ends the run; with early stopping the module becomes the best that validation saw."""
        self._read_waiting()
        self._pause()
        self.stopped = self.stopped or "epochs"
        if (
            self.place.batch and self.evaluate is not None
        ):  # inside an epoch: what was learnt there counts too
            validation = self._validate()
            self._record(self._loss(), validation)
            self._keep(validation)
        if self.tuner is not None:
            self.tuner.settle()
        else:
            self._note_rise()
        if self.early_stopping and self.best is not None:
            restore(self.module, self.best.module)
            told = {name: self.best.row[name] for name in ("loss", "last_loss", "validation_loss")}
            if any(self.history.last[name] != value for name, value in told.items()):
                self.history.append(self.history.last | told)
        self.history.stopped = self.stopped
        self.history.rule = self.stopped.replace("_", " ")
        return self.history

    def _note_rise(self) -> None:
        first = None if self.first is None else float(self.first)
        if first is not None and self.sum_rows:
            first /= self.batch_size
        note = (
            told_of_rise(self.history, first, self.batch_size, self.num_rows) if len(self.history) else None
        )
        if note is not None:
            self.history.notes.append(note)

    # --- the clock -------------------------------------------------------------------------------

    def _resume(self) -> None:
        self._started = time.perf_counter()
        wait = max(LOOK_SECONDS, LOOK_SHARE * self.seconds)
        if self.seconds_allowed is not None:
            wait = min(wait, max(0.0, self.seconds_allowed - self.seconds))
        self._next_look = self._started + wait

    def _pause(self) -> None:
        if self._started:
            self.seconds += time.perf_counter() - self._started
        self._started = 0.0

    def _out_of_time(self) -> bool:
        return self.seconds_allowed is not None and self.seconds >= self.seconds_allowed

    # --- observing -------------------------------------------------------------------------------

    def _read_waiting(self) -> None:
        """Losses that wait on a device; the first that is not finite is where the run went wrong."""
        if not self._waiting:
            return
        values, rows = torch.stack(self._waiting).tolist(), self._waiting_rows
        self._waiting, self._waiting_rows = [], []
        for number, (value, count) in enumerate(zip(values, rows, strict=True)):
            if not isfinite(value) and self.tuner is not None and self.tuner.takes_back:
                self.tuner.lost = True
                continue
            if not isfinite(value):
                behind = len(values) - 1 - number
                self.place.step -= behind + 1
                self.place.batch -= behind + 1
                raise NotFiniteError(str(value))
            self.loss_sum += value * count
            self.loss_rows += count

    def _loss(self) -> float | None:
        if not self.loss_rows:
            return None
        return self.loss_sum / (self.loss_rows * (self.batch_size if self.sum_rows else 1))

    def _validate(self) -> float | None:
        if self.evaluate is None:
            return None
        self.place.doing = VALIDATION
        value = self.evaluate()
        self.place.doing = DATA
        return value

    def _record(self, loss: float | None, validation_loss: float | None) -> None:
        self.history.append(
            {
                "seconds": self.seconds,
                "epoch": self._epoch(),
                "rows": self.rows,
                "updates": self.place.step,
                "loss": loss,
                "last_loss": loss,
                "validation_loss": validation_loss,
                "batch_size": self.batch_size,
                "learning_rate": rate_of(self.optimizer),
            }
        )

    def _epoch(self) -> float:
        return self.place.epoch - 1 + min(1.0, self.place.batch * self.batch_size / self.num_rows)

    def _tell(self, validation_loss: float | None) -> None:
        speed = self.rows / self.seconds if self.seconds > 0 else 0.0
        left = []
        if self.seconds_allowed is not None:
            left.append(self.seconds_allowed - self.seconds)
        if speed > 0 and not self.early_stopping:
            left.append((self.epochs * self.num_rows - self.rows) / speed)
        loss = self._loss()
        seen = Observation(
            seconds=self.seconds,
            epoch=self._epoch(),
            rows=self.rows,
            updates=self.place.step,
            loss=float("nan") if loss is None else loss,
            validation_loss=validation_loss,
            rows_per_second=speed,
            seconds_left=max(0.0, min(left)) if left else None,
        )
        self.place.doing = CALLBACK
        for callback in self.callbacks:
            if callback(seen) is True:
                self._stop("interrupted")
                self.history.stopped_by_callback = True
        self.place.doing = DATA

    # --- keeping and stopping --------------------------------------------------------------------

    def _keep(self, validation_loss: float | None) -> None:
        """The best that validation saw; without validation, now and then, something to fall back on."""
        if validation_loss is not None:
            if self.best is None or validation_loss < self.best.score:
                self.best = self.safe = self._snapshot(validation_loss)
            return
        now = time.perf_counter()
        if now >= self._next_copy:
            self.safe = self._snapshot(inf)
            taken = time.perf_counter() - now
            self._next_copy = now + COPY_SHARE * taken

    def _snapshot(self, score: float) -> Snapshot:
        row = self.history.last if len(self.history) else {}
        epochs_done = self.place.epoch if self.place.batch else self.place.epoch - 1
        return Snapshot(epochs_done, self.place.step, score, row, copied(self.module))

    def _decide(self) -> None:
        epoch = self.place.epoch
        updates_an_epoch = ceil(self.num_rows / self.batch_size)
        window = max(self.patience, epoch // 25, ceil(FEWEST_UPDATES / updates_an_epoch))
        if self.interrupt:
            self._stop("interrupted")
        elif self._out_of_time():
            self._stop("time")
        elif self._is_flat(window) and not (self.tuner is not None and self.tuner.falls_when_flat()):
            self._stop("early_stopping")
        elif epoch >= self.epochs:
            self._stop("epochs")

    def _is_flat(self, window: int) -> bool:
        """Whether rows held out have not been predicted better for so many epochs."""
        best = self.best
        return (
            self.early_stopping
            and best is not None
            and self.place.epoch - max(best.epoch, self.flat_since) >= window
        )

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why

    def _save_if_due(self) -> None:
        if self.may_save and (self.stopped or self.save_is_due()):
            self.save_now()

    @property
    def may_save(self) -> bool:
        """Not on a ladder: a run that is ended there begins anew."""
        return self.save is not None and not (self.tuner is not None and self.tuner.is_climbing)

    def save_now(self) -> None:
        """Writes a checkpoint."""
        if self.save is not None:
            self.save(self)
