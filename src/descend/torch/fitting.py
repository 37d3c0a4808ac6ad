"""``fit``: one training run of the caller's module, put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descend.errors import InputError
from descend.history import History
from descend.settings import most_epochs
from descend.torch.batches import Batches
from descend.torch.checkpoint import Checkpoint
from descend.torch.coupling import refuse_coupled
from descend.torch.criterion import Criterion, as_criterion
from descend.torch.devices import (
    choose_call,
    choose_device,
    choose_precision,
    in_precision,
    move_state,
    moved,
    spread,
)
from descend.torch.examine import examine
from descend.torch.faults import fault_of
from descend.torch.interrupts import interrupts_wait
from descend.torch.modes import modes_kept, random_numbers, training_mode
from descend.torch.optimizers import Schedule, make_optimizer
from descend.torch.progress import Progress
from descend.torch.rows import as_rows, mapped
from descend.torch.steps import CALLBACK, UPDATE, NotFiniteError, Pieces, Place, make_step, unique
from descend.torch.training import train
from descend.torch.watching import Watch, restore
from descend.watching import Callback

HELD_OUT = 0.1
EVALUATED_ROWS = (256, 4096)
"""Rows that are evaluated at once: those of a batch, but no fewer and no more than these."""


def fit(
    module: Any,
    loss: Any,
    data: Any,
    optimizer: Any = None,
    batch_size: int | str = 32,
    *,
    learning_rate: float | None = None,
    optimizer_options: Mapping[str, Any] | None = None,
    parameter_groups: Any = None,
    weights: Any = None,
    epochs: int | None = None,
    seconds: float | None = None,
    validation: Any = None,
    validation_fraction: float | None = None,
    early_stopping: bool | str = "auto",
    n_iter_no_change: int = 5,
    microbatch: int | None = None,
    evaluation_batch_size: int | None = None,
    reduction: str | None = None,
    schedule: Any = None,
    schedule_every: str = "epoch",
    clip: float | None = None,
    shuffle: bool = True,
    seed: int = 0,
    device: Any = "auto",
    precision: str = "float32",
    compile: bool | str = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    verbose: int = 0,
) -> History:
    """Trains ``module`` in place and returns the history of the run.

    ``loss``: a callable of (output, y), of ``torch.nn``, ``torch.nn.functional`` or anyone's. ``data``: (X, y), or
    (X, y, weights), of tensors or arrays with n rows, or a map-style dataset of such pairs; an X that is a tuple is a
    module's several inputs. Arrays' floats get the module's type; tensors are taken as they are. ``weights`` (n,):
    weight 2 counts like the row twice.

    ``optimizer``: a class of ``torch.optim`` (Adam if none is named), with ``learning_rate``, ``optimizer_options`` and
    ``parameter_groups`` (PyTorch's, or a callable of the module); a callable of parameters; or an instance.
    ``schedule``: a callable of the optimizer that returns a scheduler of PyTorch, moved each ``schedule_every`` (``epoch``
    or ``step``), or the name of one of descend's. ``clip``: the gradient's largest norm.

    ``epochs`` and ``seconds`` end the run. Where neither is given, it ends when a tenth of the rows, held out, has not
    been predicted better for ``n_iter_no_change`` epochs (and 50 steps, and a 25th of the run), and the best module is
    put back: ``early_stopping``. ``validation``: rows to see that on, (X, y) or a dataset; ``validation_fraction``: held
    out of ``data``.

    ``microbatch``: rows that go through the module at once; larger batches go in parts, and the gradient is the batch's.
    A module in which rows of a batch depend on one another is refused then. Of a loss that is not PyTorch's nothing is
    assumed, at the price of a second pass; ``reduction`` (``mean`` or ``sum`` over rows) saves that.

    ``device``: ``auto``, or one of PyTorch's. ``precision``: ``float32`` (as the module is), ``bf16``, ``fp16``.
    ``compile``: through ``torch.compile``; ``auto`` on GPUs alone. What cannot be had and is not insisted upon becomes a
    line of ``history.notes``.

    ``checkpoint``: a folder, written every ``checkpoint_seconds`` and when the run ends; ``resume`` goes on from it, to
    the batch. ``seed``: the order of rows and PyTorch's random numbers while it trains; the caller's stay as they were.
    A module that is in evaluation mode is trained in training mode; layers of a module in training mode that are not
    are left so (frozen). Modes are put back.

    The history's ``loss`` is the mean over the batches of the epoch so far, each before its step. Raises
    ``InputError`` before anything is trained, ``TrainingFault`` where a step fails: it has the step, the rows, and the
    history; the module is left as it was before that step, or where that cannot be, as the last copy. Ctrl-C waits for
    the step, writes the checkpoint, and goes on as ``KeyboardInterrupt``.
    """
    _check(module, epochs, seconds, n_iter_no_change, microbatch, evaluation_batch_size, clip)
    _check_fraction(validation, validation_fraction)
    notes: list[str] = []
    place_for = choose_device(device, module, notes)
    dtype = choose_precision(precision, place_for, notes)
    criterion = as_criterion(loss, reduction)
    source = as_rows(data, weights, dtype=_float_type(module))
    if early_stopping not in (True, False, "auto"):
        raise InputError(f'early_stopping is {early_stopping!r}; True, False or "auto" is needed')
    stops_early = early_stopping is True or (early_stopping == "auto" and epochs is None and seconds is None)
    chosen, held_out = _split(source.num_rows, validation, validation_fraction, stops_early, seed)
    batches = Batches(source, None, batch_size, seed, shuffle=shuffle, device=_elsewhere(place_for), rows=chosen)
    with ExitStack() as stack:
        stack.enter_context(random_numbers(seed, place_for))
        stack.enter_context(training_mode(module))
        stack.enter_context(moved(module, loss, place_for))
        opt = make_optimizer(module, optimizer, learning_rate, optimizer_options, parameter_groups)
        move_state(opt, place_for)
        most = epochs if epochs is not None else most_epochs(batches.num_rows) if seconds is None else 10**9
        known = None if epochs is None else epochs * len(batches)
        moves = Schedule(opt, schedule, schedule_every, known)
        if microbatch is not None and microbatch < batches.batch_size:
            few = np.arange(source.num_rows) if chosen is None else chosen
            X = _some(source, few[: min(microbatch, 64)], place_for)
            refuse_coupled(module, X, lambda m, x: spread(m)(x))
        first = _some(source, np.zeros(1, dtype=np.int64) if chosen is None else chosen[:1], place_for)
        caller = choose_call(module, compile, place_for, first, notes)
        call = caller if not isinstance(first, tuple) else spread(caller)
        call = in_precision(call, place_for, dtype)
        judge = criterion if dtype is None else _judge_in(criterion, place_for, dtype)
        place = Place()
        watch = Watch(
            module,
            opt,
            place,
            batches.num_rows,
            batches.batch_size,
            most,
            seconds_allowed=seconds,
            early_stopping=stops_early,
            patience=n_iter_no_change,
            sum_rows=criterion.reduction == "sum",
            callbacks=[*callbacks, *([Progress()] if verbose else [])],
            save_seconds=checkpoint_seconds,
        )
        watch.history.notes = notes
        rows_at_once = evaluation_batch_size or min(
            max(microbatch or batches.batch_size, EVALUATED_ROWS[0]), EVALUATED_ROWS[1]
        )
        if validation is not None:
            held = as_rows(validation, None, dtype=_float_type(module), name="validation")
            ahead = Batches(held, None, rows_at_once, shuffle=False, device=_elsewhere(place_for))
            watch.evaluate = lambda: evaluate(module, call, criterion, ahead)
        elif held_out is not None:
            ahead = Batches(
                source, None, rows_at_once, shuffle=False, device=_elsewhere(place_for), rows=held_out
            )
            watch.evaluate = lambda: evaluate(module, call, criterion, ahead)
        scaler = torch.amp.GradScaler(place_for.type) if dtype is torch.float16 else None
        seen = _Seen(judge, source)
        trained = unique(p for group in opt.param_groups for p in group["params"])
        step = make_step(
            Pieces(
                call,
                judge,
                opt,
                unique((*trained, *(p for p in module.parameters() if p.requires_grad))),
                place,
                seen,
                clip,
                scaler,
                place_for.type == "cpu",
                microbatch,
            )
        )
        if checkpoint is not None:
            saved = Checkpoint(checkpoint, module, opt, moves, scaler, batches)
            saved.prepare(resume)
            if resume:
                saved.load(watch)
            watch.save = saved.save
        elif resume:
            raise InputError("resume=True needs checkpoint, the folder to go on from")
        _run(step, batches, moves, watch, criterion, seen, place_for)
    return watch.history


def _run(
    step: Any,
    batches: Batches,
    moves: Schedule,
    watch: Watch,
    criterion: Criterion,
    seen: _Seen,
    device: torch.device,
) -> None:
    place = watch.place
    try:
        with interrupts_wait(watch):
            watch.start()
            train(step, batches, moves, watch)
        watch.finish()
    except Exception as error:
        kept = _fall_back(error, watch, device)
        fault = fault_of(error, place, batches, criterion, seen.classes, kept)
        watch.history.stopped = "diverged" if isinstance(error, NotFiniteError) else "fault"
        if fault is error:
            raise
        fault.history = watch.history  # type: ignore[union-attr]
        raise fault from error
    except KeyboardInterrupt:
        if place.doing == UPDATE:
            _put_back(watch)
        if place.doing == CALLBACK and watch.save is not None and place.batch < len(batches):
            watch.save(watch)
        watch.history.stopped = "interrupted"
        raise
    if watch.interrupt:
        raise KeyboardInterrupt


def _fall_back(error: Exception, watch: Watch, device: torch.device) -> str:
    """Leaves a module that is whole, and says which."""
    place = watch.place
    late = isinstance(error, NotFiniteError) and device.type != "cpu"
    if late or place.doing == UPDATE or not _is_finite(watch.module):
        return _put_back(watch)
    if place.step == 0:
        return "Nothing was trained; the module is as it was."
    return f"The module has the weights of step {place.step}."


def _put_back(watch: Watch) -> str:
    if watch.safe is None:
        return "The module may be damaged."
    restore(watch.module, watch.safe.module)
    return f"The module was put back to that of step {watch.safe.step}."


def _is_finite(module: Any) -> bool:
    tensors = [*module.parameters(), *module.buffers()]
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())


class _Seen:
    """Looks at the first output, and remembers how many classes it has."""

    def __init__(self, criterion: Criterion, source: Any) -> None:
        self.criterion, self.source = criterion, source
        self.classes: int | None = None

    def __call__(self, output: Any, y: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() > 1:
            self.classes = output.shape[1]
        examine(self.criterion, output, y, self.source)


def evaluate(module: Any, call: Callable[[Any], Any], criterion: Criterion, batches: Batches) -> float:
    """The mean loss over rows, as they lie, in evaluation mode and without gradients."""
    total: Any = 0.0
    rows: Any = 0.0
    with modes_kept(module), torch.no_grad():
        module.eval()
        batches.set_epoch(1)
        for batch in batches:
            y, w = batch[1], batch[2] if len(batch) == 3 else None
            output = call(batch[0])
            if criterion.adds_up:
                total = total + criterion.part(output, y, w, 1.0).double()
                by_rows = criterion.reduction == "sum"
                rows = rows + (_rows_of(y, w) if by_rows else criterion.divisor(y, w))
            else:
                total = total + criterion(output, y, w).double() * len(y)
                rows = rows + len(y)
    return float(total / rows)


def _rows_of(y: Any, weights: Any) -> Any:
    return float(len(y)) if weights is None else weights.sum()


def _check(
    module: Any, epochs: Any, seconds: Any, patience: Any, microbatch: Any, evaluated: Any, clip: Any
) -> None:
    if not isinstance(module, torch.nn.Module):
        hint = f"; make one of it: {module.__name__}(…)" if isinstance(module, type) else ""
        raise InputError(f"module is {module!r}; a torch.nn.Module is needed{hint}")
    for name, value in (
        ("epochs", epochs),
        ("n_iter_no_change", patience),
        ("microbatch", microbatch),
        ("evaluation_batch_size", evaluated),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise InputError(f"{name} is {value!r}; a whole number from 1 on is needed")
    for name, value in (("seconds", seconds), ("clip", clip)):
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise InputError(f"{name} is {value!r}; a number above 0 is needed")


def _check_fraction(validation: Any, fraction: Any) -> None:
    if fraction is None:
        return
    if not isinstance(fraction, (int, float)) or isinstance(fraction, bool) or not 0 <= fraction < 1:
        raise InputError(f"validation_fraction is {fraction!r}; a number from 0 on and below 1 is needed")
    if validation is not None and fraction:
        raise InputError("validation and validation_fraction are both given; pass one of them")


def _split(
    num_rows: int, validation: Any, fraction: float | None, stops_early: bool, seed: int
) -> tuple[Any, Any]:
    """Numbers of the rows that train and of those held out; None: all of them, none."""
    if validation is not None:
        return None, None
    share = fraction if fraction is not None else HELD_OUT if stops_early else 0.0
    if stops_early and not share:
        raise InputError(
            "early_stopping needs rows to validate on; pass validation, a validation_fraction above 0, or epochs alone"
        )
    if not share:
        return None, None
    count = max(1, round(share * num_rows))
    if count >= num_rows:
        raise InputError(
            f"validation_fraction {share:g} of {num_rows} rows leaves none to train on; pass validation=(X, y)"
        )
    order = np.random.Generator(np.random.PCG64([seed, 0])).permutation(num_rows)
    return np.sort(order[count:]), np.sort(order[:count])


def _float_type(module: Any) -> torch.dtype | None:
    """The type of the module's numbers, which arrays are given."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def _elsewhere(device: torch.device) -> torch.device | None:
    """Batches stay where they are on the CPU."""
    return None if device.type == "cpu" else device


def _some(source: Any, rows: Any, device: torch.device) -> Any:
    """X of some rows, on the device."""
    X = source.fetch(torch.from_numpy(np.asarray(rows, dtype=np.int64)))[0]
    return mapped(lambda part: part.to(device), X)


def _judge_in(criterion: Criterion, device: torch.device, dtype: torch.dtype) -> Criterion:
    """The loss under autocast, as the module is."""
    of_rows = criterion.of_rows
    return dataclasses.replace(
        criterion,
        call=in_precision(criterion.call, device, dtype),
        of_rows=None if of_rows is None else in_precision(of_rows, device, dtype),
    )
