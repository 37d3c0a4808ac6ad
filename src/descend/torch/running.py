"""A run from its first step to its end, whatever ends it: the module that is left is whole."""

from __future__ import annotations

import signal

from descend.errors import InputError, TrainingError
from descend.torch.batches import Batches
from descend.torch.faults import fall_back, fault_of, put_back, rows_not_finite
from descend.torch.interrupts import interrupts_wait
from descend.torch.rows import TensorRows
from descend.torch.scheduling import Schedule
from descend.torch.steps import CALLBACK, UPDATE, NotFiniteError, Pieces, Place, make_step
from descend.torch.training import train
from descend.torch.watching import Watch


def run(pieces: Pieces, batches: Batches, schedules: Schedule, watch: Watch) -> None:
    """Trains; whatever goes wrong leaves a whole module behind, and is told with step, batch and rows."""
    place = watch.place
    try:
        with interrupts_wait(watch):
            if watch.tuner is not None and place.step == 0 and watch.may_save:
                watch.save_now()  # a run that is ended on its ladder begins anew, with the same random numbers
            watch.start()
            step = make_step(pieces)
            if watch.tuner is not None:
                step = watch.tuner.guarded(step)
                watch.tuner.begin()
            train(step, batches, schedules, watch)
        watch.finish()
    except Exception as error:
        kept = fall_back(error, watch, pieces.on_cpu)
        fault = fault_of(error, place, batches, pieces.criterion, pieces.examine.classes, kept)
        watch.history.stopped = "diverged" if isinstance(error, NotFiniteError) else "fault"
        if fault is error:
            raise
        if isinstance(fault, TrainingError):
            fault.history = watch.history
        raise fault from error
    except KeyboardInterrupt:
        if place.doing == UPDATE:
            put_back(watch)
        if place.doing == CALLBACK and watch.may_save and place.batch < len(batches):
            watch.save_now()
        watch.history.stopped = "interrupted"
        raise
    finally:
        if watch.tuner is not None:
            watch.tuner.leave()
    if watch.interrupt:
        raise SystemExit(143) if watch.interrupt == signal.SIGTERM else KeyboardInterrupt


def validated(value: float, place: Place, batches: Batches) -> float:
    """The loss over the validation rows; raises ``InputError`` where it is no number before the first step."""
    if value == value or place.step:
        return value
    looked_at = range(len(batches) if isinstance(batches.source, TensorRows) else 0)
    bad = [row for at in looked_at for row in rows_not_finite(tuple(batches.rows_of(at)), batches)]
    where = f"row {bad[0]} holds a number that is not finite" if bad else "module or loss make it of them"
    raise InputError(
        f"validation: the loss is nan before the first step: {where}; correct or leave out such rows"
    )
