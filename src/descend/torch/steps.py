"""One step: zero, module, loss, backward, update; whole, or a batch in parts that add up to its gradient.

    output = module(X)
    value = loss(output, y)
    value.backward()
    optimizer.step()

``Place`` says where a run is and what it is doing, so that whatever goes wrong can be told with step, batch and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch

from descend.errors import InputError
from descend.torch.criterion import Criterion
from descend.torch.examine import Examiner
from descend.torch.modes import random_state, set_random_state
from descend.torch.nested import count_rows, cut_rows
from descend.torch.optimizers import needs_closure

DATA, MODULE, LOSS, BACKWARD, UPDATE = "data", "module", "loss", "backward", "update"
SCHEDULE, VALIDATION, CALLBACK, CHECKPOINT = "schedule", "validation", "callback", "checkpoint"

Step = Callable[[tuple[Any, ...]], Any]
"""Takes a batch, changes the module, returns the batch's loss: a number on the CPU, a tensor on other devices."""


class NotFiniteError(ArithmeticError):
    """The loss is infinite or not a number.

    ``rows``: those to blame, if not the batch's that is going on. ``at_any_rate``: a lower learning rate is no help.
    """

    def __init__(self, text: str, rows: tuple[int, ...] | None = None, at_any_rate: bool = False) -> None:
        super().__init__(text)
        self.rows, self.at_any_rate = rows, at_any_rate


@dataclass(slots=True)
class Place:
    """Where a run is: updates done, the epoch (from 1) that is going on, batches of it done."""

    step: int = 0
    epoch: int = 1
    batch: int = 0
    doing: str = DATA


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a step is made of."""

    call: Callable[[Any], Any]
    """The module on a batch's X."""
    criterion: Criterion
    optimizer: Any
    parameters: tuple[Any, ...]
    place: Place
    examine: Examiner
    """Looks at the first output and its y before the first loss."""
    clip: float | None = None
    scaler: Any = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    microbatch: int | None = None
    wrap: Callable[[Step], Step] = lambda passes: passes
    """What a step without its update is made into, such as a captured graph."""

    @property
    def on_cpu(self) -> bool:
        return bool(self.device.type == "cpu")


def make_step(pieces: Pieces) -> Step:
    """The step that these pieces make: batches of more rows than ``microbatch`` go in parts."""
    place, update = pieces.place, _update(pieces)
    passes = pieces.wrap(make_pass(pieces))
    if needs_closure(pieces.optimizer):
        return _searching_step(pieces, passes)

    def step(batch: tuple[Any, ...]) -> Any:
        number = passes(batch)
        place.doing = UPDATE
        update()
        place.doing = DATA
        return number

    return step


def make_pass(pieces: Pieces) -> Step:
    """A step without its update: the batch's gradient is in the parameters, the loss is returned."""
    whole = _whole_pass(pieces)
    limit = pieces.microbatch
    if limit is None:
        return whole
    in_parts = _added_pass(pieces, limit) if pieces.criterion.adds_up else _twofold_pass(pieces, limit)
    return lambda batch: in_parts(batch) if count_rows(batch[1]) > limit else whole(batch)


def _searching_step(pieces: Pieces, passes: Step) -> Step:
    """For optimizers that evaluate the loss themselves, such as LBFGS: as often as they like in a step."""
    place, optimizer = pieces.place, pieces.optimizer

    def step(batch: tuple[Any, ...]) -> Any:
        first: Any = None

        def closure() -> torch.Tensor:
            nonlocal first
            try:
                with torch.enable_grad():
                    number = passes(batch)
            except Exception:
                if first is not None:
                    place.doing = UPDATE  # the parameters are somewhere on the way
                raise
            place.doing = UPDATE
            if pieces.clip is not None:
                torch.nn.utils.clip_grad_norm_(_of_optimizer(optimizer), pieces.clip)
            first = number if first is None else first
            return torch.as_tensor(number)

        optimizer.step(closure)
        place.doing = DATA
        return first

    return step


def _whole_pass(pieces: Pieces) -> Step:
    # Names are local here: a step of a small network takes 0.3 ms, of which this may cost no share.
    call, parameters, place, on_cpu = pieces.call, pieces.parameters, pieces.place, pieces.on_cpu
    loss: Callable[..., Any] = pieces.criterion
    if pieces.criterion.kind is not None and pieces.criterion.reduction != "none":
        loss = _plain(pieces.criterion)
    backward = _backward(pieces)
    fresh = True

    def passes(batch: tuple[Any, ...]) -> Any:
        nonlocal fresh
        for parameter in parameters:
            parameter.grad = None
        place.doing = MODULE
        output = call(batch[0])
        place.doing = LOSS
        if fresh:
            pieces.examine(output, batch[1])
            fresh = False
        value = loss(output, *batch[1:])
        number = value.item() if on_cpu else value.detach()
        if on_cpu and not isfinite(number):
            raise NotFiniteError(str(number))
        place.doing = BACKWARD
        backward(value)
        return number

    return passes


def _added_pass(pieces: Pieces, limit: int) -> Step:
    """Parts whose losses, each over the whole batch's divisor, add up to the batch's."""
    criterion, place = pieces.criterion, pieces.place
    backward = _backward(pieces)
    fresh = True

    def passes(batch: tuple[Any, ...]) -> Any:
        nonlocal fresh
        for parameter in pieces.parameters:
            parameter.grad = None
        y, weights = batch[1], batch[2] if len(batch) == 3 else None
        divisor = criterion.divisor_of_batch(y, weights)
        total: Any = 0.0
        for part in parts(batch, limit):
            place.doing = MODULE
            output = pieces.call(part[0])
            place.doing = LOSS
            if fresh:
                pieces.examine(output, part[1])
                fresh = False
            value = criterion.part(output, part[1], part[2] if len(part) == 3 else None, divisor)
            number = value.item() if pieces.on_cpu else value.detach()
            if pieces.on_cpu and not isfinite(number):
                raise NotFiniteError(str(number))
            total = total + number
            place.doing = BACKWARD
            backward(value)
        return total

    return passes


def _twofold_pass(pieces: Pieces, limit: int) -> Step:
    """For a loss of which nothing is known: outputs of all rows first, without a graph, then its gradient in them.

    The loss sees the whole batch's outputs, so any loss is exact; a second pass through the module carries the
    gradient on, part by part, with the random numbers of the first (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
    """
    criterion, place = pieces.criterion, pieces.place
    backward = _backward(pieces)
    fresh = True

    def passes(batch: tuple[Any, ...]) -> Any:
        nonlocal fresh
        for parameter in pieces.parameters:
            parameter.grad = None
        place.doing = MODULE
        xs = [part[0] for part in parts(batch, limit)]
        states, outputs = [], []
        with torch.no_grad():
            for X in xs:
                states.append(random_state(pieces.device))
                outputs.append(pieces.call(X))
        if not isinstance(outputs[0], torch.Tensor):
            raise InputError(
                f"microbatch: the module returns a {type(outputs[0]).__name__} and the loss is not one of torch.nn: "
                'parts cannot be put together; say how the loss sums up its rows: reduction="mean" or "sum"'
            )
        whole = torch.cat(outputs).requires_grad_()
        place.doing = LOSS
        if fresh:
            pieces.examine(whole, batch[1])
            fresh = False
        value = criterion(whole, *batch[1:])
        number = value.item() if pieces.on_cpu else value.detach()
        if pieces.on_cpu and not isfinite(number):
            raise NotFiniteError(str(number))
        place.doing = BACKWARD
        backward(value)
        after = random_state(pieces.device)
        gradients = whole.grad.split([len(output) for output in outputs])
        for X, state, gradient in zip(xs, states, gradients, strict=True):
            set_random_state(state, pieces.device)
            pieces.call(X).backward(gradient)
        set_random_state(after, pieces.device)
        return number

    return passes


def parts(batch: tuple[Any, ...], limit: int) -> Iterator[tuple[Any, ...]]:
    """The batch's rows in order, ``limit`` at a time; the last part has what is left."""
    num_rows = count_rows(batch[1])
    for start in range(0, num_rows, limit):
        yield tuple(cut_rows(part, slice(start, start + limit), num_rows) for part in batch)


def _plain(criterion: Criterion) -> Callable[..., Any]:
    """The caller's loss itself, where there are no weights: nothing stands between."""

    def loss(output: Any, y: Any, weights: Any = None) -> Any:
        return criterion.call(output, y) if weights is None else criterion(output, y, weights)

    return loss


def _backward(pieces: Pieces) -> Callable[[Any], Any]:
    if pieces.scaler is None:
        plain: Callable[[Any], Any] = torch.Tensor.backward
        return plain
    return lambda value: pieces.scaler.scale(value).backward()


def _update(pieces: Pieces) -> Callable[[], Any]:
    optimizer, clip, scaler = pieces.optimizer, pieces.clip, pieces.scaler
    if clip is None and scaler is None:
        return optimizer.step  # type: ignore[no-any-return]

    def update() -> None:
        if scaler is not None and clip is not None:
            scaler.unscale_(optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(_of_optimizer(optimizer), clip)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()

    return update


def _of_optimizer(optimizer: Any) -> list[Any]:
    """What is updated: gradients of anything else have no part in the norm, and a scaler leaves them scaled."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def unique(parameters: Iterable[Any]) -> tuple[Any, ...]:
    """Each parameter once, in order."""
    return tuple({id(p): p for p in parameters}.values())
