"""One run of the caller's module in a comparison, by the phases, ladder, controller and watch of networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any, TypeAlias

import numpy as np

from descend.averaging import TailAverage
from descend.batch_size.controller import Controller
from descend.batch_size.ladder import Ladder, climb_from
from descend.batches import Visits
from descend.engines.base import Rule, State
from descend.learning_rate import Rate
from descend.networks.fitting import controller_of, up_the_ladder
from descend.networks.planning import StepsPlan
from descend.networks.recipe import BASE_SIZE, LARGEST_SIZE, falling_phases
from descend.recipe import Phase
from descend.runs import AVERAGE_ROWS, Run, limits_of
from descend.settings import Settings, settle_batch_size
from descend.torch.modes import random_numbers
from descend.torch.module_data import ModuleData
from descend.torch.module_engine import ModuleEngine
from descend.torch.module_trainer import RULE_RATE
from descend.torch.stepper import LOWEST_RATE
from descend.trail import Trail
from descend.training import train
from descend.types import FloatArray
from descend.updates import OPTIMIZERS, Optimizer
from descend.updates.schedules import find_schedule
from descend.watching import Callback, Watch

OWN = -1
"""The code of an optimizer that is the caller's."""


@dataclass(frozen=True, slots=True)
class ModuleEnd:
    """Where a run ended."""

    parameters: FloatArray
    loss: str


ModuleRun: TypeAlias = Run[ModuleEnd]


def run_module(
    data: ModuleData,
    settings: Settings,
    epochs: int,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    keep_path: bool = False,
    plain: bool = False,
) -> ModuleRun:
    """Trains the copy from the start of the settings' seed, or from ``initial`` (P,), for ``epochs`` at the most.

    ``plain``: by steps of SGD with nothing besides, in the place of the caller's optimizer.
    """
    plan = resolve_module(data, settings, epochs, plain)
    engine: Any = ModuleEngine(
        data,
        data.train,
        average_every=max(1, AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        clip=settings.clip,
        plain=plain,
    )
    held_out: Any = None if data.held_out is None else ModuleEngine(data, data.held_out)
    trail = Trail()
    watch = Watch(
        engine,
        data.train.num_rows,
        limits_of(settings, epochs, held_out=False),
        validation=held_out,
        tail=TailAverage() if plan.average else None,
        callbacks=callbacks,
        snapshot=trail.add if keep_path else None,
        fresh=initial is None,
    )
    state = State((data.start(settings.seed) if initial is None else initial).copy())
    if keep_path:
        trail.add(state.parameters)
    with random_numbers(settings.seed, data.device):
        engine.loss_and_gradient(
            state.parameters, slice(1)
        )  # what PyTorch does once is done before the clock runs
        if plan.phases[0].tuned:
            watch.tuner = controller_of(plan, engine, watch, state)
        if plan.by_ladder:
            plan = up_the_ladder(
                plan, engine, state, watch, lambda: _climb(data, engine, state, plan, settings)
            )
        parameters = train(engine, state, plan.phases, Visits(data.train.num_rows), watch, settings.seed)
    history = watch.history
    history.rule = "nothing gained" if history.stopped == "converged" else history.stopped.replace("_", " ")
    if history.stopped == "diverged":
        history.notes.append(
            f"diverged: learning rate {plan.rate.value:.3g} of {plan.optimizer}; take a lower rate, or clip"
        )
    reason = plan.rate.reason
    if isinstance(watch.tuner, Controller) and watch.tuner.reason:
        reason = f"{reason}; {watch.tuner.reason}"
    rate = Rate(plan.rate.value, plan.rate.bound, reason)
    return Run(
        model=ModuleEnd(parameters, loss_name(data.loss)),
        batch_size=plan.batch_size,
        batch_size_reason=plan.batch_size_reason,
        optimizer=plan.optimizer,
        rate=rate,
        history=history,
        path=trail.path,
    )


def resolve_module(data: ModuleData, settings: Settings, epochs: int, plain: bool = False) -> StepsPlan:
    """Settles batch size, rate and phases."""
    num_rows = data.train.num_rows
    batch_size, reason = settle_batch_size(settings.batch_size, "as asked", num_rows)
    full = batch_size >= num_rows
    by_itself = settings.learning_rate == "auto"
    optimizer = OPTIMIZERS["sgd"] if plain else own_optimizer(data)
    rows = min(batch_size, LARGEST_SIZE)
    base = data.own_rate or RULE_RATE
    rate = Rate(base * sqrt(rows / BASE_SIZE), inf, f"a rule: {base:g}, times √({rows} rows / {BASE_SIZE})")
    if settings.learning_rate != "auto":
        rate = Rate(float(settings.learning_rate), inf, "as asked")
    rule = Rule(
        optimizer,
        rate.value,
        schedule=find_schedule(settings.schedule),
        momentum=data.momentum,
        num_steps=epochs * -(-num_rows // batch_size),
    )
    size = 0 if full else batch_size
    phases: tuple[Phase, ...] = (Phase(optimizer.name, rule, size, epochs),)
    if by_itself and settings.schedule == "constant":
        phases = falling_phases(rule, size, epochs, settings.epochs is not None)
    return StepsPlan(
        batch_size=batch_size,
        batch_size_reason=reason,
        optimizer=optimizer.name,
        rate=rate,
        average=by_itself and not full,
        phases=phases,
        by_ladder=by_itself and not optimizer.scale_free,
    )


def own_optimizer(data: ModuleData) -> Optimizer:
    """The caller's optimizer, as ladder and phases see it."""
    return Optimizer(data.optimizer_name, OWN, uses_momentum=data.momentum > 0.0, scale_free=data.scale_free)


def loss_name(loss: object) -> str:
    """What the caller's loss is called."""
    loss = getattr(loss, "func", loss)
    return str(getattr(loss, "__name__", type(loss).__name__))


def _climb(
    data: ModuleData, engine: ModuleEngine, state: State, plan: StepsPlan, settings: Settings
) -> Ladder:
    """A ladder of plain steps where the optimizer is SGD, of its own steps where nothing is known of it."""
    first = plan.phases[0]
    is_sgd = data.optimizer_name == "SGD"
    rule = replace(first.rule, optimizer=OPTIMIZERS["sgd"]) if is_sgd else first.rule
    slower = 1.0 - data.momentum if is_sgd else 1.0
    lowest = data.lowest_rate if is_sgd else LOWEST_RATE
    seconds = inf if settings.seconds is None else settings.seconds
    with np.errstate(over="ignore", invalid="ignore"):
        return climb_from(lowest, engine, state, rule, first.batch_size, settings.seed, slower, seconds)
