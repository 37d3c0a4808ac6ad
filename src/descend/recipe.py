"""What training with nothing to set consists of: a list of phases, each an optimizer with its rate.

    full batch            L-BFGS
    batch size "auto"     one epoch of SGD at batch size 32, then L-BFGS;
                          with few columns and two classes L-BFGS from the lowest place of a sample of rows;
                          where columns are many and outputs few, L-BFGS;
                          sparse rows of more columns than there are rows: a truncated step of Newton's first
    any other             one epoch of SGD, up to six of SAGA, then L-BFGS if the gap still closes too slowly

with Newton's own steps in the place of L-BFGS's where the problem is so small that they cost nothing. With an L1
penalty both are proximal (``engines/proximal.py``); a loss with corners is rounded for them, ever less.

The first epoch takes falling SGD steps and fills SAGA's table. Every rate follows from L(B)
(``learning_rate.py``); no other number moves with the batch size. Training ends when the certificate says
that what is left to gain is small (``engines/certificate.py``), in whatever phase that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from descend.engines.base import Rule
from descend.updates import OPTIMIZERS
from descend.updates.schedules import LINEAR

SAGA_EPOCHS = 6
FEWEST_STEPS = 16
"""With fewer steps in an epoch a full-batch method gains more from a pass than steps on batches do."""
FINISH_EPOCHS = 1000
WIDTHS = tuple(10.0 ** (-0.5 * step) for step in range(19))
"""What corners of a loss are rounded over, phase after phase: each starts where the one before it ended. Tenths of
the last width instead of thirds left Newton's steps short of the optimum of a support vector regression."""
WIDTH_EPOCHS = 100
WHOLE = ("lbfgs", "newton")
"""Optimizers that work on every row at once."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Epochs that one rule is followed for; ``batch_size`` 0 means every row at once."""

    name: str
    rule: Rule
    batch_size: int
    epochs: int
    leave_when_slow: bool = False
    """Ends when an epoch no longer divides the estimated gap by 2.5."""
    can_retreat: bool = False
    """Steps that go astray are taken back, and a method of every row goes on: one follows."""
    can_slow_down: bool = False
    """SAGA's steps that go astray are taken back, and go on at half the rate."""
    when_flat: Literal["", "next", "stop", "plateau"] = ""
    """Of networks, when nothing more is gained: the next phase goes on from the best, or the run ends. ``plateau``:
    where the schedule of that name would let the rate fall, the next phase comes."""
    tuned: bool = False
    """A tuner moves the rate (``batch_size/controller.py``)."""


def untuned_phases(
    batch_size: int,
    num_visits: int,
    full_term: float,
    single_term: float,
    fit_intercept: bool,
    straight_to_finish: bool,
    small: bool,
    named: str = "auto",
    has_corners: bool = False,
    by_sgd: bool = False,
    by_sample: bool = False,
    truncated: bool = False,
) -> tuple[Phase, ...]:
    """The phases for ``batch_size``; 0 for the full batch. The terms are those of L(B).

    ``named`` is ``"auto"``, or the one optimizer of these that was asked for: then nothing follows it. ``by_sgd``:
    the loss or the rows are such that SAGA cannot be had, and the epoch over batches is plain SGD. ``truncated``: a
    truncated step of Newton's comes before that epoch.
    """
    if by_sample:
        rule = Rule(OPTIMIZERS["lbfgs"], 1.0, fit_intercept=fit_intercept, by_sample=True)
        return (Phase("lbfgs", rule, 0, FINISH_EPOCHS),)
    name = named if named in WHOLE else "newton" if small else "lbfgs"
    finish = finishing_phases(name, fit_intercept, has_corners)
    if batch_size == 0:
        return finish
    steps = -(-num_visits // batch_size)
    if by_sgd or truncated:
        first = Rule(
            OPTIMIZERS["sgd"],
            rate=1.0 / (full_term + 2.0 * single_term),
            schedule=LINEAR,
            num_steps=steps + truncated,  # the step before it is counted
            fit_intercept=fit_intercept,
            by_share=truncated,
        )
        epoch = Phase("sgd", first, batch_size, 1, can_retreat=True)
        newton = Rule(OPTIMIZERS["lbfgs"], 1.0, fit_intercept=fit_intercept, truncated=True)
        return (*((Phase("newton", newton, 0, 1),) if truncated else ()), epoch, *finish)

    def steps_of(filling: bool) -> Rule:
        return Rule(
            OPTIMIZERS["saga"],
            rate=1.0 / (full_term + (2.0 if filling else 3.0) * single_term),
            num_steps=steps,
            fit_intercept=fit_intercept,
            filling=filling,
            full_term=full_term,
            single_term=single_term,
        )

    fill = Phase("sgd", steps_of(filling=True), batch_size, 1, can_retreat=named != "saga")
    if named == "saga":
        rule = steps_of(filling=False)
        return (fill, Phase("saga", rule, batch_size, FINISH_EPOCHS, can_slow_down=True))
    if straight_to_finish or steps < FEWEST_STEPS:
        return (fill, *finish)
    return (
        fill,
        Phase(
            "saga", steps_of(filling=False), batch_size, SAGA_EPOCHS, leave_when_slow=True, can_retreat=True
        ),
        *finish,
    )


def finishing_phases(name: str, fit_intercept: bool, has_corners: bool) -> tuple[Phase, ...]:
    """A method of the whole curvature over all rows; with corners on ever sharper ones.

    With rounded corners a phase ends when what it has left to gain is less than what its rounding may hide.
    """
    optimizer = OPTIMIZERS[name]
    if not has_corners:
        return (Phase(name, Rule(optimizer, 1.0, fit_intercept=fit_intercept), 0, FINISH_EPOCHS),)
    return tuple(
        Phase(name, Rule(optimizer, 1.0, fit_intercept=fit_intercept, width=width), 0, WIDTH_EPOCHS)
        for width in WIDTHS
    )
