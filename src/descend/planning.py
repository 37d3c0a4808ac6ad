"""What a run will do: every setting that was left to descend is settled here, before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from descend.batches import Visits
from descend.engines.base import Rule
from descend.errors import InputError
from descend.growing import check_falls, staged
from descend.learning_rate import Rate, automatic_rate, batch_curvature
from descend.machine import num_threads
from descend.objectives.losses import LOG_LOSS, SQUARED_ERROR, Loss
from descend.objectives.penalties import Penalty
from descend.recipe import WHOLE, Phase, untuned_phases
from descend.settings import (
    SMALL_TABLE,
    Settings,
    default_optimizer,
    first_of_growing,
    is_growing,
    settle_batch_size,
)
from descend.target_objective import class_shares, find_objective
from descend.troubles import column_scales
from descend.types import Dataset, FloatArray, Task
from descend.updates import Optimizer, find_optimizer
from descend.updates.schedules import find_schedule

if TYPE_CHECKING:
    from descend.engines.curvature import Curvature
    from descend.engines.preconditioner import Preconditioner
    from descend.features import Prepared

MOST_NEWTON_ROWS = 4000
"""Above this L-BFGS's passes in compiled loops take less than the Hessian does in NumPy."""
SOLVED = 1e-20
SOLVED_CORNERS = 1e-5
"""The least share of the gain that is left to gain on a small table, where corners of the loss are rounded."""
DEAR_PASSES = 2.0
"""Passes over all rows that weighing them may take before an epoch over batches: it saves four to nine. Without it
certified fits took 0.70 to 0.98 of the time with two classes, 0.8 to 0.95 with three, on 16 to 400 columns."""
TOLD_ROWS = 1000
"""Rows that the curvature is measured on where it is only told."""
TOLD_NUMBERS = 150_000
"""Numbers that the mean curvature is measured on behind a truncated step: heavy rows decide on the rate there."""


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
    shares: FloatArray | None = None
    """The share of the weight that each class has, where it was asked for."""

    @property
    def untuned(self) -> bool:
        """Whether nothing was set: several phases, and an end that descend finds and certifies."""
        return not self.phases[-1].rule.optimizer.elementwise

    @property
    def by_batches(self) -> bool:
        """Whether an epoch over batches is followed by others."""
        return sum(phase.batch_size > 0 for phase in self.phases) > 1


def resolve(prepared: Prepared, settings: Settings, epochs: int) -> Plan:
    """Settles every setting that was left to descend; raises ``InputError`` where one does not fit the data."""
    from descend.engines.preconditioner import MOST_COLUMNS

    data, target = prepared.train, prepared.target
    loss, penalty = find_objective(data, target, settings)
    wanted, reason = settings.batch_size, "as asked"
    # One step by the covariance, which is made anyway, ends at the optimum.
    solved = loss.code == SQUARED_ERROR and data.num_columns <= MOST_COLUMNS and settings.optimizer == "auto"
    shares = class_shares(loss, data, target.num_outputs) if is_untuned(settings) else None
    by_sample = wanted == "auto" and (
        # decided when rows were left where they are: then nothing may go by batches of them
        (prepared.in_order and loss.code == LOG_LOSS)
        or _goes_by_sample(data, settings, loss, penalty, shares)
    )
    by_curvature = loss.has_corners or not loss.has_bound or solved or by_sample
    if wanted == "auto" and is_untuned(settings) and by_curvature:
        wanted, reason = "full", f"{loss.name} is solved on every row at once"
    elif wanted == "auto" and _batches_cost_more(data, settings, loss, penalty, target.num_outputs):
        wanted, reason = (
            "full",
            "fixed rule: weighing rows for batches costs more than it saves; not measured",
        )
    if penalty.l1 and wanted == "auto" and data.is_sparse and data.num_rows > SMALL_TABLE:
        # A step of one sparse row costs that row alone, so many small steps cost no more than few larger ones.
        wanted, reason = 1, "fixed rule: L1 on sparse rows takes them one by one; not measured"
    if is_growing(wanted):
        check_falls(settings.schedule, falls_by_itself=False)
        wanted, reason = first_of_growing(data.num_rows)
    if settings.optimizer in WHOLE:
        wanted, reason = "full", f"{settings.optimizer} works on every row at once"
    batch_size, reason = settle_batch_size(wanted, reason, data.num_rows)
    if settings.optimizer == "saga":
        _check_saga(loss)
    if is_untuned(settings):
        plan = _untuned_plan(data, settings, loss, penalty, batch_size, reason, target.num_outputs, by_sample)
        return replace(plan, shares=shares)
    return _plan_of_one(data, settings, loss, penalty, batch_size, reason, epochs)


def _goes_by_sample(
    data: Dataset, settings: Settings, loss: Loss, penalty: Penalty, shares: FloatArray | None
) -> bool:
    """Whether a run with nothing set begins at the lowest place of a sample of rows."""
    from descend.engines.preconditioner import MOST_COLUMNS
    from descend.engines.sampled import goes_by_sample

    if shares is None or settings.optimizer != "auto" or settings.epochs is not None:
        return False
    fits = data.num_rows > SMALL_TABLE and data.num_columns <= MOST_COLUMNS
    return fits and goes_by_sample(data, loss, penalty, float(shares.min()))


def _begins_truncated(data: Dataset, settings: Settings, loss: Loss, penalty: Penalty) -> bool:
    """Whether a run with nothing set begins with a truncated step of Newton's.

    Of sparse rows with more columns than there are rows, the few heaviest keep the rate of batches low: what an epoch
    gains, two or three conjugate gradients gain many times over.
    """
    from descend.engines.preconditioner import MOST_COLUMNS

    left_alone = settings.optimizer == "auto" and settings.batch_size == "auto" and settings.epochs is None
    wide = data.is_sparse and data.num_columns > max(MOST_COLUMNS, data.num_rows)
    return left_alone and wide and not (penalty.l1 or loss.has_straights)


def _batches_cost_more(
    data: Dataset, settings: Settings, loss: Loss, penalty: Penalty, num_outputs: int
) -> bool:
    """Whether an epoch over batches costs more than the passes over all rows that it saves.

    Its rate wants to know how heavy each row is under the matrix, d² products; a pass takes 2 · d for each output.
    """
    from descend.engines.many_outputs import FEWEST
    from descend.engines.preconditioner import MOST_COLUMNS

    columns = data.num_columns
    if penalty.l1 or data.is_sparse or data.is_stored or num_outputs >= FEWEST:
        return False  # of so many outputs an epoch takes no longer, in tiles, than two passes
    nothing_asked = settings.optimizer == "auto" and is_untuned(settings) and settings.epochs is None
    if not nothing_asked or data.num_rows <= MOST_NEWTON_ROWS or columns > MOST_COLUMNS:
        return False
    weighs = _needs_matrix(data, loss, penalty, num_outputs)
    return weighs and columns > 2.0 * num_outputs * DEAR_PASSES


def begins_by_sample(settings: Settings, num_rows: int, num_columns: int, rarer: float) -> bool:
    """Whether a run on dense rows of two classes begins so, told before there are any rows.

    ``rarer``: the share of the weight that the rarer class has.
    """
    from descend.engines.preconditioner import MOST_COLUMNS
    from descend.engines.sampled import knows_enough

    return (
        settings.loss in (None, "log_loss")
        and settings.penalty in (None, "l2")
        and settings.optimizer == "auto"
        and is_untuned(settings)
        and settings.batch_size == "auto"
        and settings.epochs is None
        and num_rows > SMALL_TABLE
        and num_columns <= MOST_COLUMNS
        and knows_enough(num_rows, num_columns, rarer)
    )


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


def is_solved_at_once(settings: Settings, num_columns: int) -> bool:
    """Whether regression on so many columns is squared error's, solved from the covariance."""
    from descend.engines.preconditioner import MOST_COLUMNS

    return (
        settings.loss in (None, "squared_error")
        and settings.penalty in (None, "l2")
        and settings.optimizer == "auto"
        and is_untuned(settings)
        and settings.batch_size in ("auto", "full")
        and settings.epochs is None
        and num_columns <= MOST_COLUMNS
    )


def uses_products(settings: Settings, num_columns: int, task: Task) -> bool:
    """Whether a run goes by the products of dense columns, told before there are any rows."""
    from descend.engines.preconditioner import MOST_COLUMNS
    from descend.engines.sampled import MOST_COLUMNS as MOST_BY_SAMPLE

    if not is_untuned(settings) or settings.penalty not in (None, "l2") or num_columns > MOST_COLUMNS:
        return False
    by_sample = settings.loss in (None, "log_loss") and settings.batch_size == "auto"
    return task == "regression" or not by_sample or num_columns > MOST_BY_SAMPLE


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
    phases = staged(phase, epochs) if is_growing(settings.batch_size) and not full_batch else (phase,)
    return Plan(loss, penalty, batch_size, reason, name, rate, curvature.visits, average, curvature, phases)


def _untuned_plan(
    data: Dataset,
    settings: Settings,
    loss: Loss,
    penalty: Penalty,
    batch_size: int,
    reason: str,
    num_outputs: int,
    by_sample: bool,
) -> Plan:
    """The recipe of ``recipe.py``: the preconditioner where the columns allow it, and rates from L(B)."""
    from descend.engines.curvature import SAMPLE_NUMBERS, Curvature, measure_curvature, split_heavy_rows
    from descend.engines.newton import is_small
    from descend.engines.preconditioner import MOST_COLUMNS, precondition

    full_batch = batch_size >= data.num_rows
    fits = data.num_columns <= MOST_COLUMNS and _needs_matrix(data, loss, penalty, num_outputs)
    fits = fits and not by_sample
    saga = settings.optimizer == "saga" or (not loss.has_corners and loss.has_bound)
    truncated = saga and not full_batch and _begins_truncated(data, settings, loss, penalty)
    # Applied to a batch's gradient the matrix costs d² a step; below d / 4 rows that is more than the rows do. Single
    # rows have loops of their own, six times as fast as one that can take a matrix.
    # Mixtures of weights have no corners at zero, so that with L1 only the finish goes by it.
    steps_too = fits and not full_batch and 4 * batch_size >= data.num_columns and not data.is_sparse
    steps_too = steps_too and batch_size > 1
    steps_too = steps_too and saga and not penalty.l1
    matrix = None
    if fits:
        threads = num_threads(settings.threads)
        matrix = precondition(data, loss.curvature, penalty.alpha, steps_too, settings.fit_intercept, threads)
    known = None if matrix is None else (max(matrix.bend - penalty.alpha, 0.0), matrix.direction)
    split = not full_batch and not steps_too
    if by_sample:  # only told: no step goes by it
        squares = np.append(np.square(column_scales(data.first(TOLD_ROWS))), 1.0)
        total = float(squares.sum())  # no less than the largest of the directions
        curvature = Curvature(loss.curvature * total, np.inf, np.sqrt(squares / total), Visits(data.num_rows))
    else:
        numbers = TOLD_NUMBERS if truncated else SAMPLE_NUMBERS
        curvature = measure_curvature(data, loss, settings.seed, split, known, numbers)
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
        by_sample=by_sample,
        truncated=truncated,
    )
    told = next((phase for phase in phases if phase.batch_size), phases[0])
    rate = Rate(told.rule.rate, 2.0 / (full_term + single_term), "from curvature, at every batch size")
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


def tolerance(settings: Settings, data: Dataset, loss: Loss, penalty: Penalty, untuned: bool) -> float | None:
    """``tol`` where the run has to find its end itself. A small table is solved: that costs milliseconds.

    Not with L1 and more columns than rows: which weights are 0 takes seconds to settle to the last digit.
    """
    if settings.epochs is not None or settings.tol is None:
        return None
    if penalty.l1 and data.num_columns >= data.num_rows:
        return settings.tol
    last = SOLVED_CORNERS if loss.has_corners else SOLVED
    return min(settings.tol, last) if untuned and data.num_rows <= SMALL_TABLE else settings.tol
