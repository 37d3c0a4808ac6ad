"""One training run, put together: prepared data and settings in, a model with its history out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.advice import faster_whole
from descend.averaging import PolyakAverage, TailAverage
from descend.batches import shuffle
from descend.checkpoint import Checkpoint
from descend.engines.base import State
from descend.growing import Growth, grown, in_words, measure_growth
from descend.history import History
from descend.identity import identity_of
from descend.learning_rate import Rate, batch_curvature
from descend.machine import one_blas_thread, usable_cores
from descend.models.linear import LinearModel, initialise
from descend.planning import Plan, resolve
from descend.recipe import WHOLE
from descend.settings import SMALL_TABLE, Settings, is_growing, most_epochs
from descend.target_objective import constant_loss, first_intercept, loss_unit
from descend.training import train
from descend.troubles import check_range, column_scales, troubles
from descend.types import Dataset, FloatArray
from descend.watching import Callback, Limits, Watch

if TYPE_CHECKING:
    from descend.features import Prepared

SOLVED = 1e-20
ASKED = (
    "loss",
    "penalty",
    "alpha",
    "l1_ratio",
    "epsilon",
    "quantile",
    "batch_size",
    "optimizer",
    "learning_rate",
    "schedule",
    "clip",
    "reduction",
    "fit_intercept",
    "standardize",
    "momentum",
    "epochs",
    "tol",
    "n_iter_no_change",
    "average",
    "shuffle",
)
"""What a model file keeps of the settings: an estimator that is loaded has them again."""
SOLVED_CORNERS = 1e-5
"""The least share of the gain that is left to gain on a small table, where corners of the loss are rounded."""
AVERAGE_ROWS = 16
"""The average takes in the parameters every 16 rows: at batch size 1 every step would double the step's cost."""


@dataclass(slots=True)
class Run:
    """A finished run."""

    model: LinearModel
    batch_size: int
    batch_size_reason: str
    optimizer: str
    rate: Rate
    history: History
    path: list[FloatArray] = field(default_factory=list)
    """Parameters at each observation, where asked for."""

    @property
    def stopped(self) -> str:
        return self.history.stopped


def fit(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    keep_path: bool = False,
    give_up_after: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """Trains a linear model.

    ``initial`` (k, d + 1): start there instead of at zero. ``give_up_after`` epochs a run ends that has neither
    ``epochs`` nor stops by itself; such a run is one of a comparison, and gets no advice. ``checkpoint``: the run is
    saved there and gone on with; ``InputError`` where that is one of other data or settings.
    """
    from descend.engines.choose import make_engine

    settings = settings.checked()
    data = prepared.train
    if not settings.standardize:
        check_range(prepared)
    epochs = settings.epochs or give_up_after or most_epochs(data.num_rows)
    plan = resolve(prepared, settings, epochs)
    if checkpoint is not None:
        checkpoint.check(identity_of("linear", prepared, settings, plan.phases, initial))
    threads = num_threads(settings.threads)
    engine = make_engine(
        data,
        plan.loss,
        plan.penalty,
        weights=plan.visits.weights,
        average_every=max(1, AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        threads=threads,
        preconditioner=plan.preconditioner,
        precondition_steps=plan.precondition_steps,
        mean_curvature=plan.curvature.mean + plan.penalty.alpha,
        fit_intercept=settings.fit_intercept,
        in_order=not settings.shuffle,
    )
    outputs = prepared.target.num_outputs
    shares = plan.shares if settings.fit_intercept else None
    validation = None
    if prepared.validation is not None:
        validation = make_engine(prepared.validation, plan.loss, plan.penalty, threads=threads)
    path: list[FloatArray] = []
    tol = tolerance(settings, plan, data)
    constant = None
    if plan.untuned and settings.fit_intercept and tol is not None:
        constant = constant_loss(plan.loss, data, outputs, shares)
    watch = Watch(
        engine,
        plan.visits.num_visits,
        Limits(
            epochs=epochs,
            seconds=settings.seconds,
            tol=tol,
            asked=None if settings.epochs is not None else settings.tol,
            rounding=1e-22 if data.X.dtype == np.float64 else 1e-7,
            patience=settings.n_iter_no_change,
            early_stopping=settings.early_stopping and validation is not None,
            certify=plan.untuned,
            close=settings.optimizer == "auto",
            by_batches=plan.by_batches,
            constant=constant,
            plateau=settings.schedule == "plateau",
            exact=settings.epochs is not None and not settings.early_stopping,
            dense=settings.dense,
            growth=settings.growth,
        ),
        validation=validation,
        tail=average_of(settings) if plan.average else None,
        unit=loss_unit(prepared.target, plan.loss.name),
        callbacks=callbacks,
        first_loss=constant if plan.phases[0].rule.by_sample and initial is None else None,
        snapshot=(lambda parameters: path.append(parameters.copy())) if keep_path else None,
        fresh=initial is None or not initial.any(),
    )
    if initial is None:
        initial = initialise(outputs, data.num_columns, data.X.dtype)
        if settings.fit_intercept and (plan.untuned or not plan.loss.has_bound):
            initial[:, -1] = first_intercept(plan.loss, data, outputs, shares)
    state = State(np.array(initial, dtype=data.X.dtype))
    if settings.epochs is not None:
        state.most_visits = epochs * plan.visits.num_visits
    engine.warm_up([(phase.rule, phase.batch_size) for phase in plan.phases], state)
    with one_blas_thread():
        if is_growing(settings.batch_size) and plan.batch_size < data.num_rows:
            rows = shuffle(plan.visits, settings.seed, 0)
            phases = plan.phases
            growth = growth_of(checkpoint, lambda: measure_growth(engine, state, phases, rows))
            phases = grown(phases, growth)
            plan = replace(plan, phases=phases, batch_size_reason=in_words(phases, growth))
        parameters = train(
            engine, state, plan.phases, plan.visits, watch, settings.seed, not settings.shuffle, checkpoint
        )
    history = watch.history
    if give_up_after is None and _may_be_slow(settings, plan, data.num_rows):
        seconds = history.last["seconds"]  # of training: a kernel's first compilation is no reason to change
        history.advice = faster_whole(engine, data, plan.loss, plan.penalty, len(parameters), seconds)
    say_what_is_left(history, watch, plan, parameters)
    if plan.untuned and settings.epochs is None and history.stopped in ("epochs", "time"):
        left = (
            "it is not known"
            if watch.gap is None
            else f"{watch.gap * watch.unit:.2g} of the loss is estimated to be"
        )
        history.notes.append(f"not certified: {left} what is left to gain; give it more time")
    history.notes += troubles(prepared, plan.loss, plan.penalty, parameters, settings.standardize)
    if history.stopped != "converged":
        history.notes += slow_or_diverged(prepared, plan, settings, history.stopped)
    model = LinearModel(prepared.features, prepared.target, parameters, plan.loss.name, history=history)
    model.summary = summarise(prepared, plan, settings, history)
    model.summary |= {"gap_estimate": history.gap_estimate, "gap_bound": history.gap_bound}
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer, plan.rate, history, path)


def growth_of(checkpoint: Checkpoint | None, measure: Callable[[], Growth]) -> Growth:
    """How batches grow: measured once, and of a run that is gone on with as it was."""
    if checkpoint is None:
        return measure()
    return Growth(**checkpoint.once("growth", lambda: asdict(measure())))


def _may_be_slow(settings: Settings, plan: Plan, num_rows: int) -> bool:
    """Whether something was set that keeps the run from a method of every row at once."""
    if settings.optimizer != "auto":
        return settings.optimizer not in WHOLE
    return settings.batch_size != "auto" and plan.batch_size < num_rows


def say_what_is_left(history: History, watch: Watch, plan: Plan, parameters: FloatArray) -> None:
    """Which rule ended the run; the estimate of what is left to gain, and the bound beside it."""
    history.rule = history.stopped.replace("_", " ")
    if history.stopped == "converged":
        history.rule = "certified" if watch.certified else "nothing gained"
    if not plan.untuned or history.stopped == "diverged":
        return
    bound = watch.bound if watch.bound is not None else _bound(watch, parameters)
    history.gap_bound = None if bound is None else bound * watch.unit
    gap = watch.gap if watch.gap is None or bound is None else min(watch.gap, bound)
    history.gap_estimate = None if gap is None else gap * watch.unit


def _bound(watch: Watch, parameters: FloatArray) -> float | None:
    """The least that bounds what is left to gain, told of the parameters themselves or of the last ones below."""
    bounds = [watch.engine.gap_bound(parameters)]
    if watch.kept_above > 0.0:
        last = watch.engine.gap_bound(watch.latest.parameters)
        bounds.append(None if last is None else last + watch.kept_above)
    return min((bound for bound in bounds if bound is not None), default=None)


def tolerance(settings: Settings, plan: Plan, data: Dataset) -> float | None:
    """``tol`` where the run has to find its end itself. A small table is solved: that costs milliseconds.

    Not with L1 and more columns than rows: which weights are 0 takes seconds to settle to the last digit.
    """
    if settings.epochs is not None or settings.tol is None:
        return None
    if plan.penalty.l1 and data.num_columns >= data.num_rows:
        return settings.tol
    solved = SOLVED_CORNERS if plan.loss.has_corners else SOLVED
    return min(settings.tol, solved) if plan.untuned and data.num_rows <= SMALL_TABLE else settings.tol


def average_of(settings: Settings) -> TailAverage:
    """Which average of the parameters is kept, where one is."""
    return PolyakAverage() if settings.average == "polyak" else TailAverage()


def num_threads(threads: int | str) -> int:
    """The threads to use; ``"auto"``: one for each core this process may use, its group's quota counted."""
    return usable_cores() if threads == "auto" else int(threads)


def slow_or_diverged(prepared: Prepared, plan: Plan, settings: Settings, stopped: str) -> list[str]:
    """What to tell about a run that failed, or that an unscaled column slowed down: with the column's name."""
    column, share = plan.curvature.steepest_column
    names = prepared.features.names
    blamed = f"column {names[column]!r}" if column < len(names) else "the intercept"
    sharpness = plan.curvature.mean + plan.penalty.alpha
    if stopped == "diverged":
        full, single = batch_curvature(
            plan.batch_size, plan.visits.num_visits, sharpness, plan.curvature.row + plan.penalty.alpha
        )
        bound = 2.0 / (full + single) if np.isfinite(single) else 2.0 / sharpness
        cause = f"{blamed} has {100 * share:.0f} % of the curvature L = {sharpness:.3g}"
        remedy = "" if settings.standardize else "standardise the columns, or "
        if plan.phases[0].rule.optimizer.scale_free:  # 2/L bounds plain steps, and these are none
            return [
                f"diverged: learning rate {plan.rate.value:.3g}, and a step of {plan.optimizer} moves every weight "
                f'by about that; {cause}; {remedy}take a lower rate or learning_rate="auto"'
            ]
        return [
            f"diverged: learning rate {plan.rate.value:.3g} against the bound 2/L = {bound:.3g}; {cause}; "
            f'{remedy}take learning_rate="auto"'
        ]
    flattest = column_scales(prepared.train)
    spread = float(flattest.max() / max(flattest[flattest > 0].min(), 1e-300)) if flattest.any() else 1.0
    if spread > 1e4:
        steepest = names[int(np.argmax(flattest))]
        return [
            f"slow: the columns' scales differ by a factor of {spread:.1g}, and the learning rate "
            f"{plan.rate.value:.3g} is held down by column {steepest!r}; standardise the columns"
        ]
    return []


def summarise(prepared: Prepared, plan: Any, settings: Settings, history: History) -> dict[str, Any]:
    """Settings and figures of a run, JSON-able: what model file, page and ``--json`` show; ``plan`` of any model."""
    last = history.last
    return {
        "task": prepared.target.task,
        "loss": plan.loss.name,
        "penalty": settings.penalty or "none",
        "alpha": settings.alpha if plan.penalty.alpha or plan.penalty.l1 else 0.0,
        "batch_size": plan.batch_size,
        "batch_size_reason": plan.batch_size_reason,
        "learning_rate": plan.rate.value,
        "learning_rate_reason": plan.rate.reason,
        "optimizer": plan.optimizer,
        "schedule": settings.schedule,
        "momentum": settings.momentum if plan.phases[0].rule.optimizer.uses_momentum else None,
        "average": plan.average,
        "reduction": settings.reduction,
        "seed": settings.seed,
        "rows": prepared.train.num_rows,
        "validation_rows": prepared.validation.num_rows if prepared.validation is not None else 0,
        "epochs": last["epoch"],
        "steps": last["updates"],
        "seconds": last["seconds"],
        "stopped": history.stopped,
        "asked": {name: getattr(settings, name) for name in ASKED},
    }
