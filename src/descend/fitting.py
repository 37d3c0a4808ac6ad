"""One training run, put together: prepared data and settings in, a model with its history out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.advice import faster_whole
from descend.averaging import PolyakAverage, TailAverage
from descend.batches import Visits, check_batch_size
from descend.engines.base import Rule, State
from descend.errors import InputError
from descend.history import History
from descend.learning_rate import Rate, automatic_rate, batch_curvature
from descend.machine import usable_cores
from descend.models.linear import LinearModel, initialise
from descend.objectives.losses import LOG_LOSS, LOSSES, POISSON, SOFTMAX, SQUARED_ERROR, Loss, find_loss
from descend.objectives.penalties import Penalty, find_penalty
from descend.recipe import WHOLE, Phase, untuned_phases
from descend.settings import SMALL_TABLE, Settings, default_batch_size, default_optimizer, most_epochs
from descend.training import train
from descend.troubles import column_scales, troubles
from descend.types import Dataset, FloatArray
from descend.updates import Optimizer, find_optimizer
from descend.updates.schedules import find_schedule
from descend.watching import Callback, Limits, Watch

if TYPE_CHECKING:
    from descend.engines.curvature import Curvature
    from descend.engines.preconditioner import Preconditioner
    from descend.features import Prepared, Target

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
)
SOLVED_CORNERS = 1e-5
"""The least share of the gain that is left to gain on a small table, where corners of the loss are rounded."""
SAFETY = 4.0
"""Poisson's curvature has no bound: rates go by so many times that of the constant model."""
MOST_NEWTON_ROWS = 4000
"""Above this L-BFGS's passes in compiled loops take less than the Hessian does in NumPy."""
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, every ``auto`` resolved."""

    loss: Loss
    penalty: Penalty
    batch_size: int
    batch_size_reason: str
    optimizer: str
    rate: Rate
    visits: Visits
    average: bool
    curvature: Curvature
    phases: tuple[Phase, ...]
    preconditioner: Preconditioner | None = None
    precondition_steps: bool = False

    @property
    def untuned(self) -> bool:
        """Whether nothing was set: several phases, and an end that descend finds and certifies."""
        return not self.phases[-1].rule.optimizer.elementwise


def resolve(prepared: Prepared, settings: Settings, epochs: int) -> Plan:
    """Settles every setting that was left to descend; raises ``InputError`` where one does not fit the data."""
    from descend.engines.preconditioner import MOST_COLUMNS

    data, target = prepared.train, prepared.target
    loss, penalty = find_objective(data, target, settings)
    wanted, reason = settings.batch_size, "as asked"
    # One step by the covariance, which is made anyway, ends at the optimum.
    solved = loss.code == SQUARED_ERROR and data.num_columns <= MOST_COLUMNS and settings.optimizer == "auto"
    if wanted == "auto" and is_untuned(settings) and (loss.has_corners or not loss.has_bound or solved):
        wanted, reason = "full", f"{loss.name} is solved on every row at once"
    if penalty.l1 and wanted == "auto" and data.is_sparse and data.num_rows > SMALL_TABLE:
        # A step of one sparse row costs that row alone, so many small steps cost no more than few larger ones.
        wanted, reason = 1, "fixed rule: L1 on sparse rows takes them one by one; not measured"
    if settings.optimizer in WHOLE:
        wanted, reason = "full", f"{settings.optimizer} works on every row at once"
    elif wanted == "auto":
        wanted, reason = default_batch_size(data.num_rows)
    batch_size = data.num_rows if wanted == "full" else int(check_batch_size(wanted, data.num_rows))
    if settings.optimizer == "saga":
        _check_saga(loss)
    if is_untuned(settings):
        return _untuned_plan(data, settings, loss, penalty, batch_size, reason, target.num_outputs)
    return _plan_of_one(data, settings, loss, penalty, batch_size, reason, epochs)


def _check_saga(loss: Loss) -> None:
    if loss.has_corners:
        raise InputError(
            f"optimizer 'saga' does not go with loss {loss.name!r}, whose slope jumps; "
            'take "auto", "sgd" or "lbfgs"'
        )
    if not loss.has_bound:
        raise InputError(
            f"optimizer 'saga' does not go with loss {loss.name!r}: its rate comes from the largest second "
            'derivative, and this loss has none; take "auto", "sgd" or "lbfgs"'
        )


def find_objective(data: Dataset, target: Target, settings: Settings) -> tuple[Loss, Penalty]:
    """Loss and penalty for the target as it is scaled; raises ``InputError`` where they do not fit it."""
    scale = float(np.sqrt(np.mean(np.square(target.scale)))) if target.task == "regression" else 1.0
    loss = find_loss(
        settings.loss, target.task, target.num_outputs, settings.epsilon, settings.quantile, scale
    )
    penalty = find_penalty(settings.penalty, settings.alpha, settings.l1_ratio, loss.degree, scale)
    if loss.code == POISSON:
        lowest = float(data.y.min() * target.scale[0] + target.mean[0])
        if lowest < 0.0:
            raise InputError(
                f"loss is 'poisson', but the target goes down to {lowest:g}; counts ≥ 0 are needed"
            )
        loss = replace(loss, curvature=SAFETY * float(_mean_counts(data).max()))
    return loss, penalty


def is_untuned(settings: Settings) -> bool:
    """Whether optimizer and rate are both left to descend, and nothing else asks for plain steps."""
    return (
        settings.optimizer == "auto"
        and settings.learning_rate == "auto"
        and settings.schedule == "constant"
        and settings.reduction == "mean"
        and settings.average == "auto"
        and settings.clip is None
    ) or settings.optimizer in ("saga", *WHOLE)


def _plan_of_one(
    data: Dataset,
    settings: Settings,
    loss: Loss,
    penalty: Penalty,
    batch_size: int,
    reason: str,
    epochs: int,
) -> Plan:
    """One optimizer from the first epoch to the last."""
    from descend.engines.curvature import measure_curvature

    full_batch = batch_size >= data.num_rows
    name = default_optimizer(full_batch) if settings.optimizer == "auto" else settings.optimizer
    optimizer = find_optimizer(name)
    by_curvature = settings.learning_rate == "auto" and not optimizer.scale_free
    curvature = measure_curvature(data, loss, settings.seed, split=by_curvature and not full_batch)
    rate = choose_rate(settings, optimizer, batch_size, penalty, curvature)
    # An average of weights that are zero now and then is not zero.
    by_itself = by_curvature and not full_batch and not penalty.l1
    average = by_itself if settings.average == "auto" else bool(settings.average)
    rule = Rule(
        optimizer=optimizer,
        rate=rate.value,
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        num_steps=epochs * -(-curvature.visits.num_visits // batch_size),
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
        clip=settings.clip or 0.0,
    )
    phase = Phase(name, rule, 0 if full_batch else batch_size, epochs)
    return Plan(loss, penalty, batch_size, reason, name, rate, curvature.visits, average, curvature, (phase,))


def _untuned_plan(
    data: Dataset,
    settings: Settings,
    loss: Loss,
    penalty: Penalty,
    batch_size: int,
    reason: str,
    num_outputs: int,
) -> Plan:
    """The recipe of ``recipe.py``: the preconditioner where the columns allow it, and rates from L(B)."""
    from descend.engines.curvature import Curvature, measure_curvature, split_heavy_rows
    from descend.engines.newton import is_small
    from descend.engines.preconditioner import MOST_COLUMNS, precondition

    full_batch = batch_size >= data.num_rows
    fits = data.num_columns <= MOST_COLUMNS and _needs_matrix(data, loss, penalty, num_outputs)
    saga = settings.optimizer == "saga" or (not loss.has_corners and loss.has_bound)
    # Applied to a batch's gradient the matrix costs d² a step; below d / 4 rows that is more than the rows do.
    # Mixtures of weights have no corners at zero, so that with L1 only the finish goes by it.
    steps_too = fits and not full_batch and 4 * batch_size >= data.num_columns and not data.is_sparse
    steps_too = steps_too and saga and not penalty.l1
    matrix = None
    if fits:
        matrix = precondition(data, loss.curvature, penalty.alpha, steps_too, settings.fit_intercept)
    known = None if matrix is None else (max(matrix.bend - penalty.alpha, 0.0), matrix.direction)
    split = not full_batch and not steps_too
    curvature = measure_curvature(data, loss, settings.seed, split, known)
    if steps_too and matrix is not None and matrix.norms is not None:
        visits = split_heavy_rows(matrix.norms, settings.seed)
        if visits.weights is not None:
            matrix.norms[:] *= visits.weights
        curvature = Curvature(curvature.mean, float(matrix.norms.max()), curvature.direction, visits)
        mean, row = 1.0, curvature.row
        matrix = replace(matrix, norms=None)  # 8 bytes a row less for the run
    else:
        visits = curvature.visits
        mean, row = curvature.mean + penalty.alpha, curvature.row + penalty.alpha
    full_term, single_term = batch_curvature(batch_size, visits.num_visits, mean, row)
    # With L1 a Hessian of the weights that are not 0, on a sample of rows at need, is nearly always to be had.
    small = penalty.l1 > 0.0 or is_small(data.num_rows, data.num_columns, num_outputs)
    if not loss.has_corners and matrix is not None and data.num_rows > MOST_NEWTON_ROWS and not penalty.l1:
        small = False
    phases = untuned_phases(
        0 if full_batch and settings.optimizer != "saga" else batch_size,
        visits.num_visits,
        full_term,
        single_term,
        settings.fit_intercept,
        straight_to_finish=settings.batch_size == "auto",
        small=small,
        named=settings.optimizer,
        has_corners=loss.has_corners,
        by_sgd=not saga,
    )
    rate = Rate(phases[0].rule.rate, 2.0 / (full_term + single_term), "from curvature, at every batch size")
    return Plan(
        loss,
        penalty,
        batch_size,
        reason,
        "+".join(dict.fromkeys(phase.name for phase in phases))
        if settings.optimizer == "auto"
        else settings.optimizer,
        rate,
        visits,
        False,
        curvature,
        phases,
        matrix,
        steps_too,
    )


def _needs_matrix(data: Dataset, loss: Loss, penalty: Penalty, num_outputs: int) -> bool:
    """Whether the bound's matrix is of use: with L1 not where Hessians at the parameters are cheap to have."""
    from descend.engines.proximal import MOST_AT_ONCE

    hessians = not loss.has_corners and loss.code != SQUARED_ERROR
    return not (penalty.l1 and hessians and num_outputs * (data.num_columns + 1) <= MOST_AT_ONCE)


def choose_rate(
    settings: Settings, optimizer: Optimizer, batch_size: int, penalty: Penalty, curvature: Curvature
) -> Rate:
    """The rate asked for, or the automatic one; "sum" takes steps B times as long, so it gets 1/B of the rate."""
    mean, row = curvature.mean + penalty.alpha, curvature.row + penalty.alpha
    num_visits = curvature.visits.num_visits
    if settings.learning_rate != "auto":
        return Rate(float(settings.learning_rate), 2.0 / mean, "as asked")
    rate = automatic_rate(optimizer, batch_size, num_visits, mean, row, settings.momentum)
    if settings.reduction == "sum":
        return replace(rate, value=rate.value / batch_size, bound=rate.bound / batch_size)
    return rate


def fit(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    keep_path: bool = False,
    give_up_after: int | None = None,
) -> Run:
    """Trains a linear model.

    ``initial`` (k, d + 1): start there instead of at zero. ``give_up_after`` epochs a run ends that has neither
    ``epochs`` nor stops by itself.
    """
    from descend.engines.choose import make_engine

    settings = settings.checked()
    data = prepared.train
    epochs = settings.epochs or give_up_after or most_epochs(data.num_rows)
    started = time.perf_counter()
    plan = resolve(prepared, settings, epochs)
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
    )
    validation = None
    if prepared.validation is not None:
        validation = make_engine(prepared.validation, plan.loss, plan.penalty, threads=threads)
    path: list[FloatArray] = []
    watch = Watch(
        engine,
        plan.visits.num_visits,
        Limits(
            epochs=epochs,
            seconds=settings.seconds,
            tol=tolerance(settings, plan, data),
            asked=None if settings.epochs is not None else settings.tol,
            rounding=1e-22 if data.X.dtype == np.float64 else 1e-7,
            patience=settings.n_iter_no_change,
            early_stopping=settings.early_stopping and validation is not None,
            certify=plan.untuned,
            close=settings.optimizer == "auto",
            constant=constant_loss(plan.loss, data, prepared.target.num_outputs)
            if settings.fit_intercept
            else None,
            plateau=settings.schedule == "plateau",
            exact=settings.epochs is not None and not settings.early_stopping,
            dense=settings.dense,
            growth=settings.growth,
        ),
        validation=validation,
        tail=average_of(settings) if plan.average else None,
        unit=loss_unit(prepared.target, plan.loss.name),
        callbacks=callbacks,
        snapshot=(lambda parameters: path.append(parameters.copy())) if keep_path else None,
        fresh=initial is None or not initial.any(),
    )
    if initial is None:
        initial = initialise(prepared.target.num_outputs, data.num_columns, data.X.dtype)
        if settings.fit_intercept and (plan.untuned or not plan.loss.has_bound):
            initial[:, -1] = first_intercept(plan.loss, data, prepared.target.num_outputs)
    state = State(np.array(initial, dtype=data.X.dtype))
    if settings.epochs is not None:
        state.most_visits = epochs * plan.visits.num_visits
    engine.warm_up([(phase.rule, phase.batch_size) for phase in plan.phases], state)
    with one_blas_thread():
        parameters = train(
            engine, state, plan.phases, plan.visits, watch, settings.seed, not settings.shuffle
        )
    history = watch.history
    if settings.optimizer != "auto" or settings.batch_size not in ("auto", "full"):
        history.advice = faster_whole(
            engine, data, plan.loss, plan.penalty, len(parameters), time.perf_counter() - started
        )
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


def say_what_is_left(history: History, watch: Watch, plan: Plan, parameters: FloatArray) -> None:
    """Which rule ended the run; the estimate of what is left to gain, and the bound beside it."""
    history.rule = history.stopped.replace("_", " ")
    if history.stopped == "converged":
        history.rule = "certified" if watch.certified else "nothing gained"
    if not plan.untuned or history.stopped == "diverged":
        return
    bound = watch.bound if watch.bound is not None else watch.engine.gap_bound(parameters)
    history.gap_bound = None if bound is None else bound * watch.unit
    history.gap_estimate = None if watch.gap is None else watch.gap * watch.unit


def first_intercept(loss: Loss, data: Dataset, num_outputs: int) -> FloatArray | float:
    """Where training starts: at the best constant model where a formula gives it, else at zero.

    From zero nearly all that log loss gains on a rare class would be the intercept's, and poisson's eˢ bends too much
    between zero and the mean.
    """
    if loss.code == POISSON:
        return np.log(_mean_counts(data))
    if loss.code not in (LOG_LOSS, SOFTMAX):
        return 0.0
    logs = np.log(np.maximum(_class_shares(data, num_outputs), 0.5 / data.num_rows))
    return np.asarray(logs[1:] - logs[:1] if loss.code == LOG_LOSS else logs - logs.mean())


def constant_loss(loss: Loss, data: Dataset, num_outputs: int) -> float | None:
    """The loss of the best constant model; None where no formula gives it."""
    if loss.code == SQUARED_ERROR:
        mean = np.average(data.y, axis=0, weights=data.weights)
        return 0.5 * float(np.average(np.square(data.y - mean), axis=0, weights=data.weights).sum())
    if loss.code not in (LOG_LOSS, SOFTMAX):
        return None
    shares = _class_shares(data, num_outputs)
    return -float(np.sum(shares * np.log(np.maximum(shares, np.finfo(float).tiny))))


def _class_shares(data: Dataset, num_outputs: int) -> FloatArray:
    """The share of the weight that each class has."""
    codes = data.y[:, 0].astype(np.intp)
    sums = np.bincount(codes, weights=data.weights, minlength=max(2, num_outputs))
    return np.asarray(sums / sums.sum())


def _mean_counts(data: Dataset) -> FloatArray:
    """The mean of each output; of nothing but zeros half a count, for rows to come may hold more."""
    mean = np.average(data.y, axis=0, weights=data.weights)
    return np.where(mean > 0.0, mean, 0.5 / data.num_rows)


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


def one_blas_thread() -> Any:
    """A context in which NumPy's products use one thread: they are small here, and their sums must not vary."""
    return _blas().limit(limits=1)


@cache
def _blas() -> Any:
    """NumPy's library for products; to look for it takes as long as a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def loss_unit(target: Target, loss: str | None = None) -> float:
    """The loss in the target's units over that of the standardised target; squared error's by default."""
    if target.task == "classification":
        return 1.0
    square = float(np.mean(np.square(target.scale)))
    degree = LOSSES[loss or "squared_error"].degree
    return square if degree == 2 else float(square ** (0.5 * degree))


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


def summarise(prepared: Prepared, plan: Plan, settings: Settings, history: History) -> dict[str, Any]:
    """Settings and figures of a run, JSON-able: what model file, page and ``--json`` show."""
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
