"""``fit``: one training run of the caller's module, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from descend.errors import InputError
from descend.history import History
from descend.settings import most_epochs
from descend.torch.assembling import (
    captured,
    elsewhere,
    first_rows,
    in_the_same,
    may_be_several,
    with_gradients,
    with_loss,
)
from descend.torch.batches import Batches
from descend.torch.checkpoint import Checkpoint, opened, told
from descend.torch.checks import (
    asks_early_stopping,
    check_callbacks,
    check_module,
    check_numbers,
    float_type,
    split,
)
from descend.torch.coupling import refuse_coupled
from descend.torch.criterion import as_criterion
from descend.torch.devices import (
    choose_call,
    choose_device,
    choose_precision,
    in_precision,
    moved,
    spread,
    state_moved,
)
from descend.torch.evaluating import evaluate
from descend.torch.examine import Examiner
from descend.torch.finding import make_tuner
from descend.torch.given import as_rows, as_validation
from descend.torch.modes import autograd_on, device_of, random_numbers, training_mode
from descend.torch.optimizers import listed, make_optimizer, needs_closure
from descend.torch.progress import Progress
from descend.torch.rates import Rates, has_own_rate, needed_rate
from descend.torch.rows import TensorRows
from descend.torch.running import run, validated
from descend.torch.scheduling import Schedule
from descend.torch.sizes import at_once, piece_sizes
from descend.torch.steps import Pieces, Place
from descend.torch.trying import FEW, materialise, refuse_single, writes_into
from descend.torch.tuning import Length
from descend.torch.watching import Watch
from descend.updates.schedules import ENDING
from descend.watching import Callback

TRIED_ROWS = 64
FOR_EVER = 10**9
"""Epochs, where seconds end the run."""


@autograd_on()
def fit(
    module: Any,
    loss: Any,
    data: Any,
    optimizer: Any = None,
    batch_size: int | str = 32,
    *,
    learning_rate: float | str | None = None,
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
    collate: Callable[[list[Any]], Any] | None = None,
    schedule: Any = None,
    schedule_every: str = "epoch",
    clip: float | None = None,
    shuffle: bool = True,
    seed: int = 0,
    device: Any = "auto",
    precision: str = "float32",
    compile: bool | str = False,
    cuda_graphs: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    verbose: int = 0,
) -> History:
    """Trains ``module`` in place and returns the history of the run.

    ``loss``: a callable of (output, y), of ``torch.nn``, ``torch.nn.functional`` or anyone's. ``data``: (X, y), or
    (X, y, weights), of tensors or arrays with n rows, or a map-style dataset of such pairs; an X that is a tuple is a
    module's several inputs. Arrays' floats get the module's type; tensors are taken as they are. ``weights`` (n,):
    weight 2 counts like the row twice. ``collate``: makes a batch of a list of a dataset's items, as a DataLoader's
    ``collate_fn``.

    ``optimizer``: a class of ``torch.optim`` (Adam if none is named), with ``optimizer_options`` and
    ``parameter_groups`` (PyTorch's, or a callable of the module); a callable of parameters; or an instance.
    ``learning_rate``: a number, ``"auto"``, or None: the optimizer's own, and ``"auto"`` where no optimizer is named.
    ``"auto"`` finds a factor of the rates of all groups by a ladder that is already training (15 % of the steps or
    seconds at the most), moves it, lowers it to a quarter twice, and leaves the better of the last and the averaged
    weights; ``history.notes`` has what was found. A ``schedule`` multiplies the found rate, and then nothing else
    moves it. Raises ``InputError`` for optimizers and schedules that have no such rate.

    ``schedule``: a callable of the optimizer that returns a scheduler of PyTorch, moved each ``schedule_every``
    (``epoch`` or ``step``), or the name of one of descend's. ``clip``: the gradient's largest norm.

    ``epochs`` and ``seconds`` end the run. Where neither is given, it ends when a tenth of the rows, held out, has
    not been predicted better for ``n_iter_no_change`` epochs (and 50 steps, and a 25th of the run), and the best
    module is put back: ``early_stopping``. ``validation``: rows to see that on, (X, y) or a dataset;
    ``validation_fraction``: held out of ``data``.

    ``batch_size``: rows for each update, ``"full"``, or ``"auto"``: what the times of some steps on a copy of the
    module suggest, in half a second at the most.

    ``microbatch``: rows that go through the module at once; larger batches go in parts, and the gradient is the
    batch's. A module in which rows of a batch depend on one another is refused then. Of a loss that is not PyTorch's
    nothing is assumed, at the price of a second pass; ``reduction`` (``mean`` or ``sum`` over rows) saves that.

    ``device``: ``auto``, or one of PyTorch's. ``precision``: ``float32`` (as the module is), ``bf16``, ``fp16``.
    ``compile``: through ``torch.compile``; ``auto`` on GPUs alone. ``cuda_graphs``: forward and backward of batches
    that are alike are captured and played again, for a module whose Python does the same in every step. What cannot
    be had and is not insisted upon becomes a line of ``history.notes``.

    ``checkpoint``: a folder, written every ``checkpoint_seconds`` (None: as often as costs less than 2 % of the time)
    and when the run ends; ``resume`` goes on from it, to the batch, and begins where it holds nothing. ``seed``: the
    order of rows and PyTorch's random numbers while it trains; the caller's stay as they were. A module that is in
    evaluation mode is trained in training mode; layers of a module in training mode that are not are left so
    (frozen). Modes are put back.

    The history's ``loss`` is the mean over the batches of the epoch so far, each before its step. Raises
    ``InputError`` before anything is trained, ``TrainingError`` where a step fails: it has the step, the rows, and
    the history; the module is left as it was before that step, or where that cannot be, as the last copy. Ctrl-C
    waits for the step, writes the checkpoint, and goes on as ``KeyboardInterrupt``; so does SIGTERM where there is
    a checkpoint, and goes on as ``SystemExit(143)``.
    """
    check_module(module)
    check_numbers(
        epochs=epochs,
        n_iter_no_change=n_iter_no_change,
        microbatch=microbatch,
        evaluation_batch_size=evaluation_batch_size,
        seconds=seconds,
        clip=clip,
        checkpoint_seconds=checkpoint_seconds,
    )
    check_callbacks(callbacks)
    if resume and checkpoint is None:
        raise InputError("resume=True needs checkpoint, the folder to go on from")
    if not isinstance(cuda_graphs, bool):
        raise InputError(f"cuda_graphs is {cuda_graphs!r}; True or False is needed")
    parameter_groups = listed(parameter_groups)
    notes: list[str] = []
    device = choose_device(device, module, notes)
    dtype = choose_precision(precision, device, notes)
    criterion = as_criterion(loss, reduction)
    numbers = float_type(module)
    rows = as_rows(data, weights, numbers, collate=collate)
    held = None if validation is None else as_validation(validation, numbers, collate)
    stops_early = asks_early_stopping(early_stopping, epochs is None and seconds is None)
    trained, held_out = split(rows.num_rows, held, validation_fraction, stops_early, seed)
    if batch_size == "auto":
        from descend.torch.suggesting import measured_size  # which trains by fit itself

        batch_size = measured_size(
            module, loss, rows, optimizer, optimizer_options, parameter_groups, reduction, device, seed, notes
        )
    batches = Batches(rows, None, batch_size, seed, shuffle=shuffle, device=elsewhere(device), rows=trained)
    home = device_of(module)
    with ExitStack() as stack:
        for context in (random_numbers(seed, device), training_mode(module), moved(module, loss, device)):
            stack.enter_context(context)
        materialise(module, lambda: first_rows(batches, trained, FEW, device))
        full = batches.batch_size >= batches.num_rows
        is_auto = learning_rate == "auto"
        rate: Any = needed_rate(optimizer, optimizer_options) if is_auto else learning_rate
        made = make_optimizer(module, optimizer, rate, optimizer_options, parameter_groups, full)
        is_auto = is_auto or (optimizer is None and learning_rate is None and has_own_rate(made))
        rates = Rates(made) if is_auto else None
        stack.enter_context(state_moved(made, device, home))
        refuse_single(
            module, batches.num_rows, batches.batch_size, lambda: first_rows(batches, trained, 1, device)
        )
        if isinstance(rows, TensorRows):  # of every row a copy takes as much memory again
            batches.keeps_rows = not full or writes_into(module, first_rows(batches, trained, FEW, device))
        if dtype is torch.float16 and needs_closure(made):
            raise InputError(
                f"precision fp16 scales gradients, and optimizer {type(made).__name__} takes its own in a closure; "
                'pass precision="bf16" or "float32"'
            )
        whole = with_loss(module, loss, made, notes)
        num_steps = epochs and epochs * len(batches)
        schedules = Schedule(made, schedule, schedule_every, num_steps, waits=is_auto)
        if microbatch is not None and microbatch < batches.batch_size:
            few = first_rows(batches, trained, min(microbatch, TRIED_ROWS), device)
            refuse_coupled(module, few, lambda layers, X: spread(layers)(X))
        sizes = piece_sizes(batches.num_rows, batches.batch_size, microbatch)
        tried = (first_rows(batches, trained, size, device) for size in sizes)
        called = choose_call(module, compile, device, dtype, tried, notes)
        call = in_precision(spread(called) if may_be_several(rows) else called, device, dtype)
        judge = in_the_same(criterion, device, dtype)
        watch = Watch(
            whole,
            made,
            Place(),
            batches.num_rows,
            batches.batch_size,
            epochs or (most_epochs(batches.num_rows) if seconds is None else FOR_EVER),
            seconds_allowed=seconds,
            early_stopping=stops_early,
            patience=n_iter_no_change,
            sum_rows=criterion.reduction == "sum",
            callbacks=[*callbacks, *([Progress()] if verbose else [])],
        )
        watch.history.notes = notes
        evaluated = evaluation_batch_size or at_once(microbatch or batches.batch_size)
        if held is not None or held_out is not None:
            ahead = Batches(
                held or rows, None, evaluated, shuffle=False, device=elsewhere(device), rows=held_out
            )
            ahead.keeps_rows = True
            watch.evaluate = lambda: validated(evaluate(module, call, judge, ahead), watch.place, ahead)
        pieces = Pieces(
            call,
            judge,
            made,
            with_gradients(module, made),
            watch.place,
            Examiner(judge, rows),
            clip=clip,
            scaler=torch.amp.GradScaler(device.type) if dtype is torch.float16 else None,
            device=device,
            microbatch=microbatch,
        )
        if rates is not None:
            length = Length(num_steps, seconds)
            watch.tuner = make_tuner(
                rates, schedules, module, pieces, dtype, batches, trained, evaluated, watch, length
            )
        if cuda_graphs:
            pieces = captured(pieces, module, rows, notes)
        batches.make_ready()
        with opened(checkpoint, resume) as folder:
            if folder is not None:
                settings = {
                    "learning_rate": "auto" if is_auto else learning_rate,
                    "clip": clip,
                    "microbatch": microbatch,
                    "reduction": criterion.reduction,
                    "precision": precision,
                    "schedule": schedule if isinstance(schedule, str) else None,
                    "schedule_every": schedule_every,
                    "epochs": epochs if schedule in ENDING else None,
                    "early_stopping": stops_early,
                    "n_iter_no_change": n_iter_no_change,
                    "data": told(rows),
                    "validation": told(held),
                }
                saved = Checkpoint(
                    folder,
                    whole,
                    made,
                    schedules,
                    pieces.scaler,
                    batches,
                    settings,
                    checkpoint_seconds,
                    watch.tuner,
                )
                saved.load(watch)
                watch.save, watch.save_is_due = saved.save, saved.turns.is_due
            run(pieces, batches, schedules, watch)
    return watch.history
