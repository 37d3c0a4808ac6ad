"""What went wrong in a step, told with step, batch and rows, and what to try."""

from __future__ import annotations

import torch

from descend.errors import InputError, TrainingError
from descend.torch.batches import Batches
from descend.torch.criterion import BY_CLASS, Criterion
from descend.torch.examine import first_outside, outside
from descend.torch.nested import are_finite
from descend.torch.rows import named
from descend.torch.snapshots import restore
from descend.torch.steps import (
    BACKWARD,
    CALLBACK,
    CHECKPOINT,
    DATA,
    LOSS,
    MODULE,
    SCHEDULE,
    UPDATE,
    VALIDATION,
    NotFiniteError,
    Place,
)
from descend.torch.trying import advice_on
from descend.torch.watching import Watch

SHOWN_ROWS = 8
WHO = {
    DATA: "the data",
    MODULE: "the module",
    LOSS: "the loss",
    BACKWARD: "the way back through the module",
    UPDATE: "the optimizer",
    SCHEDULE: "the schedule",
    VALIDATION: "the module or the loss on the validation rows",
    CALLBACK: "a callback",
    CHECKPOINT: "writing the checkpoint",
}


def fault_of(
    error: Exception,
    place: Place,
    batches: Batches,
    criterion: Criterion,
    output_classes: int | None,
    kept: str,
) -> TrainingError | InputError:
    """The error to raise for ``error``. ``kept``: which module is left behind."""
    if isinstance(error, InputError) and place.step == 0:
        return error
    inside = place.doing in (DATA, MODULE, LOSS, BACKWARD, UPDATE)
    step, position = place.step + inside, place.batch
    rows = tuple(batches.rows_of(position)) if inside and position < len(batches) else ()
    if isinstance(error, TrainingError) and error.rows:
        rows = error.rows
        what, advice = str(error), ""
    elif isinstance(error, NotFiniteError):
        rows, what, advice = _not_finite(error, rows, batches, criterion)
    else:
        what = f"{WHO[place.doing]} raised {named(error)}"
        rows, advice = _guess(error, place, rows, batches, criterion, output_classes)
    where = f"step {step} (epoch {place.epoch}, batch {position + 1} of {len(batches)}{_shown(rows)})"
    if isinstance(error, NotFiniteError) and error.rows:
        step, position, where = 0, -1, f"before the first step ({_shown(rows)[2:]})"
    elif not inside:
        where = f"after step {step} (epoch {place.epoch})"
    text = f"{where}: {what}. {kept}" + (f" {advice}" if advice else "")
    return TrainingError(text, step=step, epoch=place.epoch, batch=position + 1, rows=rows)


def _shown(rows: tuple[int, ...]) -> str:
    if not rows:
        return ""
    numbers = ", ".join(map(str, rows[:SHOWN_ROWS])) + (", …" if len(rows) > SHOWN_ROWS else "")
    return f"; row{'s' if len(rows) > 1 else ''} {numbers} of the data"


def _not_finite(
    error: NotFiniteError, rows: tuple[int, ...], batches: Batches, criterion: Criterion
) -> tuple[tuple[int, ...], str, str]:
    rows = rows if error.rows is None else error.rows
    bad = error.rows or rows_not_finite(rows, batches)
    what = f"the loss is {error}"
    if bad:
        return bad, f"{what}, and so are numbers of these rows", "Correct these rows, or leave them out."
    if _all_ignored(rows, batches, criterion):
        return (
            rows,
            f"{what}: every target of the batch is {criterion.ignored}, which the loss ignores (ignore_index)",
            "Leave these rows out, or take a larger batch_size.",
        )
    zeros = "look for a logarithm, root or division of 0 in module and loss."
    if error.at_any_rate:
        return rows, what, f"No learning rate is to blame: {zeros}"
    lower = "take a lower learning rate, clip=1.0, scaled columns, or"
    return rows, what, f"The rows hold finite numbers: {lower} {zeros}"


def _all_ignored(rows: tuple[int, ...], batches: Batches, criterion: Criterion) -> bool:
    if not rows or criterion.kind not in BY_CLASS or criterion.ignored is None:
        return False
    y = batches.fetch(rows)[1]
    return not y.is_floating_point() and bool((y == criterion.ignored).all())


def rows_not_finite(rows: tuple[int, ...], batches: Batches) -> tuple[int, ...]:
    """Those of ``rows`` that hold a nan or something infinite."""
    if not rows:
        return ()
    try:
        fine = are_finite(batches.fetch(rows), len(rows))
    except Exception:  # the fault that is being told counts, not that its rows cannot be had again
        return ()
    return tuple(row for row, good in zip(rows, fine, strict=True) if not good)


def _guess(
    error: Exception,
    place: Place,
    rows: tuple[int, ...],
    batches: Batches,
    criterion: Criterion,
    classes: int | None,
) -> tuple[tuple[int, ...], str]:
    """Rows that are at fault, if that can be told, and what to try."""
    text = str(error)
    if place.doing == LOSS and criterion.kind in BY_CLASS and classes is not None:
        y = batches.fetch(rows)[1]
        if not y.is_floating_point() and (at := first_outside(y, classes, criterion.ignored)) is not None:
            return (rows[at],), outside(rows[at], y[at], classes) + "."
    if place.doing == BACKWARD and "does not require grad" in text:
        return rows, "The loss has to be computed from the module's output with PyTorch's operations."
    advice = advice_on("out of memory" if isinstance(error, torch.cuda.OutOfMemoryError) else text)
    if advice:
        return rows, advice
    if place.doing == MODULE:
        return rows, "Try the module on these rows alone."
    return rows, ""


def fall_back(error: Exception, watch: Watch, on_cpu: bool) -> str:
    """Leaves a module that is whole, and says which."""
    late = isinstance(error, NotFiniteError) and not on_cpu
    if late or watch.place.doing == UPDATE or not _is_finite(watch.module):
        return put_back(watch)
    if watch.place.step == 0:
        return "Nothing was trained; the module is as it was."
    return f"The module has the weights of step {watch.place.step}."


def put_back(watch: Watch) -> str:
    """The last copy of the module that was good; says which."""
    if watch.safe is None:
        return "The module may be damaged."
    restore(watch.module, watch.safe.module)
    return f"The module was put back to that of step {watch.safe.step}."


def _is_finite(module: torch.nn.Module) -> bool:
    tensors = [t.detach() for t in (*module.parameters(), *module.buffers())]
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point() or t.is_complex())
