"""One training run of a network, put together: prepared rows and settings in, a model with its history out.

Beside ``fitting.py``, which does this for linear models: there rates and the end come from curvature and a
certificate, of which a network has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batch_size.controller import Controller
from descend.batch_size.ladder import LOOK_ROWS, Ladder, climb, recorded
from descend.batches import Visits, shuffle
from descend.checkpoint import Checkpoint
from descend.engines.base import State
from descend.growing import grown, in_words, measure_growth
from descend.identity import identity_of
from descend.learning_rate import Rate
from descend.machine import num_threads, one_blas_thread
from descend.models.mlp import MLPModel
from descend.models.network import aligned_zeros, initialise
from descend.networks.dead_units import revive
from descend.networks.planning import NetworkPlan, Planned, StepsPlan, resolve_network
from descend.networks.recipe import NETWORK_AVERAGE_ROWS
from descend.runs import ASKED, Run, average_of, growth_of, limits_of, summarise
from descend.settings import Settings, is_growing, most_epochs
from descend.target_objective import class_shares, constant_loss, first_intercept, loss_unit
from descend.trail import Trail
from descend.training import train
from descend.troubles import unlike_outputs
from descend.types import FloatArray
from descend.watching import Callback, Watch

if TYPE_CHECKING:
    from descend.features import Prepared

LOWEST_OF_LADDER, LOWEST_OF_RULE, HIGHEST_OF_RULE = 0.25, 1.0, 2.0
"""What noise may lower a rate to, and a rule's may rise to, as shares of it."""
BOLD_START = 4.0
"""The same where units that long steps kill are started anew: what training begins with. It may double from there."""
AS_GOOD = 0.25
"""Of what a ladder gained: rungs so little above the lowest are told apart by chance, and the highest of their rates
is begun at. To lower a rate takes a window, to raise it many: every other fit of electricity began at an eighth of
what it wanted. 24 networks of twelve tables, six to ten seeds, came to three targets in 0.97, 0.95 and 0.98 of the
rows (electricity in 0.75); with batches of 8 and 128 rows in as many as before."""
CHANCES_OF_MOMENTUM = 2
"""Its rate is a share of what plain steps could bear, further off, and on a plateau it swings."""
NETWORK_GROWTH = 1.25
"""Of the windows of the average, the last 20 to 36 % of the steps: meanwhile the loss of a network still falls."""
NETWORK_ASKED = (*ASKED, "hidden", "activation", "weight_decay")


def fit_network(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    multilabel: bool = False,
    keep_path: bool = False,
    give_up_after: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run[MLPModel]:
    """Trains a network.

    ``initial`` (P,): start there instead of at random weights. ``multilabel``: the target's columns are labels,
    each 0 or 1. ``give_up_after`` epochs a run ends that has neither ``epochs`` nor stops by itself.
    ``checkpoint``: the run is saved there and gone on with.

    Raises ``InputError`` naming a setting that does not go with networks or with the data.
    """
    from descend.engines.choose import make_network_engine

    settings = settings.checked()
    data = prepared.train
    epochs = settings.epochs or give_up_after or most_epochs(data.num_rows)
    plan = resolve_network(data, prepared.target, settings, epochs, multilabel)
    if checkpoint is not None:
        checkpoint.check(identity_of("mlp", prepared, settings, plan.phases, initial))
    threads = num_threads(settings.threads)
    engine = make_network_engine(
        data,
        plan.loss,
        plan.penalty,
        plan.network,
        average_every=max(1, NETWORK_AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        threads=threads,
        weight_decay=settings.weight_decay,
    )
    validation = None
    if prepared.validation is not None:
        validation = make_network_engine(
            prepared.validation, plan.loss, plan.penalty, plan.network, threads=threads
        )
    trail = Trail()
    outputs = prepared.target.num_outputs
    shares = class_shares(plan.loss, data, outputs) if not multilabel else None
    watch = Watch(
        engine,
        data.num_rows,
        replace(
            limits_of(
                settings,
                epochs,
                held_out=validation is not None,
                mixed=settings.shuffle and not prepared.in_order,
            ),
            constant=constant_loss(plan.loss, data, outputs, shares) if not multilabel else None,
        ),
        validation=validation,
        tail=average_of(settings, NETWORK_GROWTH) if plan.average else None,
        unit=loss_unit(prepared.target, plan.loss.name),
        callbacks=callbacks,
        snapshot=trail.add if keep_path else None,
        fresh=initial is None,
    )
    state = first_state(plan, prepared, settings, initial, multilabel, shares)
    if keep_path:
        trail.add(state.parameters)
    engine.warm_up([(phase.rule, phase.batch_size) for phase in plan.phases], state)
    with one_blas_thread():
        if is_growing(settings.batch_size) and plan.batch_size < data.num_rows:
            rows = shuffle(Visits(data.num_rows), settings.seed, 0)
            phases = plan.phases
            growth = growth_of(checkpoint, lambda: measure_growth(engine, state, phases, rows))
            phases = grown(plan.phases, growth)
            plan = replace(plan, phases=phases, batch_size_reason=in_words(phases, growth))
        if plan.phases[0].tuned:
            wakers: list[int] = []
            watch.mend = lambda state: revive(
                plan.network, state, data.X, settings.seed, not settings.shuffle, wakers
            )
            watch.tuner = controller_of(plan, engine, watch, state)
        if plan.by_ladder:
            first = plan.phases[0]
            plan = up_the_ladder(
                plan,
                engine,
                state,
                watch,
                lambda: climb(
                    engine,
                    state,
                    first.rule,
                    first.batch_size,
                    plan.loss,
                    data,
                    settings.seed,
                    as_good=AS_GOOD,
                ),
            )
        if watch.tail is not None:
            engine.close_windows_of(watch.tail)
            watch.cuts_windows = False
        parameters = train(
            engine,
            state,
            plan.phases,
            Visits(data.num_rows),
            watch,
            settings.seed,
            not settings.shuffle,
            checkpoint,
        )
    if isinstance(watch.tuner, Controller) and watch.tuner.reason:
        value, reason = plan.rate.value * watch.tuner.paces[0], f"{plan.rate.reason}; {watch.tuner.reason}"
        plan = replace(plan, rate=replace(plan.rate, value=value, reason=reason))
    history = watch.history
    if prepared.target.task == "regression" and not multilabel:
        history.notes += unlike_outputs(data, prepared.target.name)
    history.rule = history.stopped.replace("_", " ")
    if history.stopped == "converged":
        history.rule = "nothing gained"
    if history.stopped == "diverged":
        remedies = [] if settings.learning_rate == "auto" else ['learning_rate="auto"']
        remedies += [] if settings.standardize else ["standardised columns"]
        history.notes.append(
            f"diverged: learning rate {plan.rate.value:.3g} of {plan.optimizer}; take "
            + ", or ".join(["a lower rate", *remedies])
        )
    model = MLPModel(
        prepared.features,
        prepared.target,
        parameters,
        plan.loss.name,
        history=history,
        hidden=settings.hidden,
        activation=plan.network.activation.name,
        labels=prepared.target.num_outputs if multilabel else 0,
    )
    model.summary = summarise(prepared, plan, settings, history) | network_summary(settings)
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer, plan.rate, history, trail.path)


def up_the_ladder(
    plan: Planned, engine: Any, state: State, watch: Watch, find: Callable[[], Ladder]
) -> Planned:
    """The plan at the rate that the ladder found; its time is on the watch, its rungs are in the history."""
    first = plan.phases[0]
    before, sample = watch.loss_at_start(state.parameters), engine.mean_loss(state.parameters, LOOK_ROWS)
    watch.tell_beginning(before)
    with np.errstate(over="ignore", invalid="ignore"):
        ladder = find()
    # Rungs look at the first rows alone: told of all rows, they stand as high over those as the start did.
    share = before / sample if before > 0.0 < sample else 1.0
    told = replace(ladder, rungs=tuple(replace(rung, loss=rung.loss * share) for rung in ladder.rungs))
    for row in recorded(told, before, engine.num_rows, plan.batch_size, watch.unit):
        watch.history.append(row)
    watch.seconds = ladder.seconds
    if isinstance(watch.tuner, Controller):
        watch.tuner.limit(inf)
        watch.tuner.meet(ladder.highest / ladder.rate)
    factor = ladder.rate / first.rule.rate
    phases = tuple(replace(p, rule=replace(p.rule, rate=p.rule.rate * factor)) for p in plan.phases)
    reason = ladder.reason + ("; a quarter, twice, as nothing more is gained" if first.when_flat else "")
    return replace(plan, phases=phases, rate=Rate(ladder.rate, ladder.edge, reason))


def controller_of(plan: StepsPlan, engine: Any, watch: Watch, state: State) -> Controller:
    """What moves the rate. It looks at rows held out where they choose the parameters anyway, else at the first ones.

    Rows held out for it alone would be lost for training, and those that a caller holds out to judge the model by
    must not shape it. A rate by a rule is not looked for: it may double once, and falls with the phases alone; where
    the watch mends what long steps break, training begins with more of it, as far as the rule's bound allows, may
    double once from there, whatever the bound, and noise brings it down.
    """
    held_out = watch.validation if watch.limits.early_stopping and watch.validation is not None else engine
    chances = CHANCES_OF_MOMENTUM if plan.phases[0].rule.optimizer.uses_momentum else 1
    chances = chances if plan.by_ladder else 0
    controller = Controller(
        lambda parameters: held_out.mean_loss(parameters, LOOK_ROWS),
        state,
        lowest=LOWEST_OF_LADDER if plan.by_ladder else LOWEST_OF_RULE,
        constant=watch.limits.constant,
        batch_size=plan.batch_size,
        chances=chances,
    )
    room = plan.rate.bound / plan.rate.value
    bold = watch.mend is not None and not plan.by_ladder and room > 1.0
    start = min(BOLD_START, room)
    controller.limit(2.0 * start if bold else min(HIGHEST_OF_RULE, room))
    if bold:
        controller.start_at(state, start)
    return controller


def first_state(
    plan: NetworkPlan,
    prepared: Prepared,
    settings: Settings,
    initial: FloatArray | None,
    multilabel: bool,
    shares: FloatArray | None = None,
) -> State:
    """Random weights, the last intercepts at the best constant model (``shares``: see there); or ``initial``."""
    data = prepared.train
    parameters = initialise(plan.network, settings.seed, data.X.dtype)
    if initial is not None:
        parameters[:] = initial
    elif settings.fit_intercept and not multilabel:
        plan.network.parts(parameters)[-1][1][:] = first_intercept(
            plan.loss, data, prepared.target.num_outputs, shares
        )
    state = State(parameters)
    for name in ("first", "second"):
        setattr(state, name, aligned_zeros(parameters.size, parameters.dtype))
    return state


def network_summary(settings: Settings) -> dict[str, Any]:
    """What the summary of a run has besides, or in place of, that of a linear model's."""
    return {
        "weight_decay": settings.weight_decay,
        "hidden": list(settings.hidden),
        "activation": settings.activation,
        "gap_estimate": None,
        "gap_bound": None,
        "asked": {name: getattr(settings, name) for name in NETWORK_ASKED},
    }
