"""What to say of a linear model's run that is over: what is left to gain, and what held it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from descend.history import History
from descend.learning_rate import batch_curvature
from descend.objectives.losses import POISSON
from descend.planning import Plan
from descend.settings import Settings
from descend.troubles import column_scales
from descend.types import FloatArray
from descend.watching import Watch

if TYPE_CHECKING:
    from descend.features import Prepared


def say_what_is_left(history: History, watch: Watch, plan: Plan, parameters: FloatArray) -> None:
    """Which rule ended the run; the estimate of what is left to gain, and the bound beside it."""
    certificate, bound = watch.certificate, None
    told = plan.untuned and history.stopped != "diverged"
    if told:
        bound = certificate.bound if certificate.bound is not None else _bound(watch, parameters)
        if (
            bound is not None and plan.loss.code != POISSON
        ):  # the others are nowhere below 0, nor are penalties
            bound = min(bound, history.last["loss"] / watch.unit)
        watch.believe(bound)
    history.rule = history.stopped.replace("_", " ")
    if history.stopped == "converged":
        history.rule = "certified" if certificate.certified else "nothing gained"
    if not told:
        return
    history.gap_bound = None if bound is None else bound * watch.unit
    gap = certificate.gap if certificate.gap is None or bound is None else min(certificate.gap, bound)
    history.gap_estimate = None if gap is None else gap * watch.unit


def _bound(watch: Watch, parameters: FloatArray) -> float | None:
    """The least that bounds what is left to gain, told of the parameters themselves or of the last ones below."""
    bounds = [watch.engine.gap_bound(parameters)]
    if watch.kept_above > 0.0:
        last = watch.engine.gap_bound(watch.latest.parameters)
        bounds.append(None if last is None else last + watch.kept_above)
    return min((bound for bound in bounds if bound is not None), default=None)


def start_notes(watch: Watch) -> list[str]:
    """What to tell where the rows held out like the model best that training began with."""
    validation = watch.validation
    if validation is None or not watch.limits.early_stopping or not watch.fresh or watch.best.epoch > 0:
        return []
    if watch.returned is None or watch.returned is watch.latest or watch.stopped == "diverged":
        return []
    rows = validation.num_rows
    liked = (
        f"the {rows:,} validation row{'s like' if rows != 1 else ' likes'} the model best that knows nothing"
    )
    if watch.returned.epoch > 0:
        return [f"{liked}: too few to go by, and the best one that was trained is kept"]
    return [f"{liked}, and it is kept: what was learnt of the others did not hold there"]


SMALL_ALPHA = 1e-4


def certificate_notes(watch: Watch, plan: Plan) -> list[str]:
    """What to tell where a limit ended a run before its certificate did.

    A loss with corners and next to no penalty has its lowest place far out, where few rows lie on corners and no
    curvature leads to it: hinge on the ten digits with alpha 1e-5 is still far from it after 2,000 epochs, and ends
    after 96 with 1e-4.
    """
    if watch.stopped not in ("epochs", "time"):
        return []
    gap = watch.certificate.gap
    left = "it is not known" if gap is None else f"{gap * watch.unit:.2g} of the loss is estimated to be"
    penalty, more = plan.penalty, "give it more time"
    if plan.loss.has_corners and penalty.alpha + penalty.l1 < SMALL_ALPHA:
        more += f", or a larger alpha: with next to none {plan.loss.name} is lowest far out, where steps take long"
    return [f"not certified: {left} what is left to gain; {more}"]


def _safer(settings: Settings) -> str:
    """What to take in place of a rate that was too high."""
    if settings.learning_rate != "auto":
        return 'take learning_rate="auto"'
    return 'take optimizer="auto"' if settings.optimizer != "auto" else "take a larger alpha"


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
            f"{remedy}{_safer(settings)}"
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
