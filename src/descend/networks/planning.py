"""What a network's run will do: every setting that was left to descend, settled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from descend.engines.base import Rule
from descend.errors import InputError
from descend.growing import check_falls, staged
from descend.learning_rate import Rate
from descend.models.network import Network
from descend.networks.recipe import falling_phases, rule_rate
from descend.objectives.activations import find_activation
from descend.objectives.losses import LOSSES, Loss
from descend.objectives.penalties import Penalty
from descend.recipe import Phase
from descend.settings import Settings, first_of_growing, is_growing, settle_batch_size
from descend.target_objective import find_objective
from descend.types import Dataset
from descend.updates import OPTIMIZERS, find_optimizer
from descend.updates.schedules import find_schedule

if TYPE_CHECKING:
    from descend.features import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsPlan:
    """How anything that is no linear model is trained."""

    batch_size: int
    batch_size_reason: str
    optimizer: str
    rate: Rate
    average: bool
    phases: tuple[Phase, ...]
    by_ladder: bool = False
    """The rate is found by trying (``batch_size/ladder.py``); that in the phases is none yet."""


Planned = TypeVar("Planned", bound=StepsPlan)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan(StepsPlan):
    """What a run will do, every ``auto`` resolved."""

    loss: Loss
    penalty: Penalty
    network: Network


def resolve_network(
    data: Dataset, target: Target, settings: Settings, epochs: int, multilabel: bool = False
) -> NetworkPlan:
    """Settles every setting that was left to descend; raises ``InputError`` where one does not fit."""
    if settings.optimizer != "auto" and not find_optimizer(settings.optimizer).elementwise:
        fitting = ", ".join(o.name for o in OPTIMIZERS.values() if o.elementwise)
        raise InputError(
            f"optimizer is {settings.optimizer!r}, which networks do not take; choose one of: auto, {fitting}"
        )
    loss, penalty = network_objective(data, target, settings, multilabel)
    network = Network(
        (data.num_columns, *settings.hidden, target.num_outputs), find_activation(settings.activation)
    )
    wanted, reason = settings.batch_size, "as asked"
    if is_growing(wanted):
        check_falls(settings.schedule, falls_by_itself=settings.learning_rate == "auto")
        wanted, reason = first_of_growing(data.num_rows)
    batch_size, reason = settle_batch_size(wanted, reason, data.num_rows)
    full = batch_size >= data.num_rows
    optimizer = find_optimizer("adam" if settings.optimizer == "auto" else settings.optimizer)
    by_itself = settings.learning_rate == "auto"
    size = 0 if full else batch_size
    rate = rule_rate(optimizer, network, size)
    if settings.learning_rate != "auto":
        rate = Rate(float(settings.learning_rate), float("inf"), "as asked")
    rule = Rule(
        optimizer=optimizer,
        rate=rate.value / (batch_size if by_itself and settings.reduction == "sum" else 1),
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        num_steps=epochs * -(-data.num_rows // batch_size),
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
        clip=settings.clip or 0.0,
    )
    if by_itself and settings.schedule == "constant":
        phases = falling_phases(rule, size, epochs, settings.epochs is not None)
        rate = replace(rate, reason=f"{rate.reason}; a quarter of it, twice, as nothing more is gained")
    else:
        phases = (Phase(optimizer.name, rule, size, epochs),)
        if is_growing(settings.batch_size) and not full:
            phases = staged(phases[0], epochs)
    # An average of weights that are zero now and then is not zero.
    average = by_itself and not full and not penalty.l1
    average = average if settings.average == "auto" else bool(settings.average)
    ladder = by_itself and not optimizer.scale_free
    return NetworkPlan(
        loss=loss,
        penalty=penalty,
        network=network,
        batch_size=batch_size,
        batch_size_reason=reason,
        optimizer=optimizer.name,
        rate=rate,
        average=average,
        phases=phases,
        by_ladder=ladder,
    )


def network_objective(
    data: Dataset, target: Target, settings: Settings, multilabel: bool
) -> tuple[Loss, Penalty]:
    """Loss and penalty; labels that are there or not have log loss each."""
    if not multilabel:
        return find_objective(data, target, settings)
    if settings.loss not in (None, "log_loss"):
        raise InputError(f"loss is {settings.loss!r}, but several labels a row go with log_loss alone")
    plain = replace(settings, loss=None)
    return LOSSES["log_loss"], find_objective(data, target, plain)[1]
