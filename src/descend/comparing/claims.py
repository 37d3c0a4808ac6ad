"""What textbooks say for and against the three kinds, each claim answered from what was measured.

``holds`` is True, False, or None where these runs cannot tell: what is compared has to be clearly apart
(``clearly.py``). Times are medians over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import Any

import numpy as np

from descend.comparing.clearly import CLEARLY, Spread, least
from descend.comparing.kinds import Kind, find_kind, listing
from descend.comparing.wording import percent, time_text
from descend.report.formatting import ratio, size

PROGRESS_SHARE = 0.1
SETTLED_SHARE = 0.01
AT_THE_BOTTOM = 1e-4
"""What is left of the gap below this is all alike."""
NOISE_SHARE = 0.5
"""Of the height that a run hovers at: it cannot settle where its average is rid of so much; else it is on its way."""

Answer = tuple[bool | None, str]


def shows_progress_first(mine: Kind, kinds: list[Kind]) -> Answer:
    times = {kind.label: kind.seconds_to_share(PROGRESS_SHARE) for kind in kinds}
    evidence = "a tenth of the way down after " + listing(kinds, lambda k: time_text(times[k.label].median))
    return _is_least(mine, times), evidence


def _is_least(mine: Kind, spreads: dict[str, Spread], from_on: float = 0.0) -> bool | None:
    others = [spread for label, spread in spreads.items() if label != mine.label]
    return least(spreads[mine.label], others, from_on)


def is_the_simplest(mine: Kind, kinds: list[Kind]) -> Answer:
    return None, (
        "running it does not show it: all kinds here are one loop with one number changed. "
        "At batch size 1 no gradient is summed up before the update; that is the whole difference"
    )


def learns_fastest_at_the_start(mine: Kind, kinds: list[Kind]) -> Answer:
    one_epoch = {kind.label: kind.loss_after("epoch", 1.0) for kind in kinds}
    moment = min(kind.seconds_an_epoch() for kind in kinds)
    at_once = {kind.label: kind.loss_after("seconds", moment) for kind in kinds}
    evidence = (
        "left of the gap after one epoch: "
        + listing(kinds, lambda k: percent(one_epoch[k.label].median))
        + f"; after {time_text(moment)}: "
        + listing(kinds, lambda k: percent(at_once[k.label].median))
    )
    fewest = [_is_least(mine, shares, AT_THE_BOTTOM) for shares in (one_epoch, at_once)]
    return (True if all(fewest) else False if False in fewest and True not in fewest else None), evidence


def updates_are_noisy(mine: Kind, kinds: list[Kind]) -> Answer:
    evidence = (
        "the loss jumps from look to look by "
        + listing(kinds, lambda k: percent(k.wobble()))
        + " of the gap (standard deviation, last third of the run)"
    )
    wobbles = {kind.label: kind.wobble() for kind in kinds}
    others = [wobble for label, wobble in wobbles.items() if label != mine.label and np.isfinite(wobble)]
    if not np.isfinite(wobbles[mine.label]) or not others:
        return None, evidence
    return wobbles[mine.label] > 3 * min(others) and wobbles[mine.label] > 1e-5, evidence


def cannot_settle(mine: Kind, kinds: list[Kind]) -> Answer:
    if mine.has_diverged:
        return None, f"{mine.label} diverged"
    final, hovering = (mine.summary["final_loss"] - mine.best_loss) / mine.gap, mine.hovering()
    evidence = (
        f"in the last third its parameters hover {percent(hovering)} of the gap above the best loss "
        f"(settled: under {percent(SETTLED_SHARE)}); their average ended {percent(final)} above"
    )
    if hovering <= SETTLED_SHARE:
        return False, evidence
    if final > (1.0 - NOISE_SHARE) * hovering:
        return None, f"{evidence}: most of that is no noise, it was still on its way"
    return True, evidence


def costs_more_per_row(mine: Kind, kinds: list[Kind]) -> Answer:
    speeds = {kind.label: kind.speeds() for kind in kinds}
    return (None if _broken(kinds) else _is_least(mine, speeds)), _speeds(kinds)


def cheaper_per_row(mine: Kind, kinds: list[Kind]) -> Answer:
    costs = {kind.label: kind.speeds().inverse for kind in kinds}
    return (None if _broken(kinds) else _is_least(mine, costs)), _speeds(kinds)


def _broken(kinds: list[Kind]) -> str:
    """Kinds that diverged: what their runs took until then tells little of speed."""
    return ", ".join(kind.label for kind in kinds if kind.has_diverged)


def _speeds(kinds: list[Kind]) -> str:
    said = "million rows a second: " + listing(kinds, lambda k: ratio(k.rows_per_second / 1e6))
    return f"{said}; {_broken(kinds)} diverged" if _broken(kinds) else said


def updates_less_often(mine: Kind, kinds: list[Kind]) -> Answer:
    evidence = "updates in an epoch: " + listing(kinds, lambda k: f"{np.ceil(k.updates_an_epoch()):,.0f}")
    return mine.updates_an_epoch() < min(k.updates_an_epoch() for k in kinds if k is not mine), evidence


def gradient_is_stable(mine: Kind, kinds: list[Kind]) -> Answer:
    noises = {kind.label: kind.noise.relative for kind in kinds}
    told = {label: noise for label, noise in noises.items() if noise is not None}
    if len(told) < len(noises):
        return None, "the gradient of all rows is 0 at the start"
    evidence = "at the start a batch's gradient strays from the whole one by " + listing(
        kinds, lambda k: percent(told[k.label]) if told[k.label] else "nothing"
    )
    return told[mine.label] < min(noise for label, noise in told.items() if label != mine.label), evidence


def settles_in_a_worse_place(mine: Kind, kinds: list[Kind]) -> Answer:
    share = (mine.summary["final_loss"] - mine.best_loss) / mine.gap
    evidence = (
        f"this objective is convex: it has one lowest place, and batch ended {percent(share)} of the gap above "
        "the best loss seen"
    )
    if mine.has_diverged:
        evidence += "; it diverged"
    elif share > SETTLED_SHARE:
        evidence += "; it had not arrived yet"
    return False, evidence


def needs_every_row(mine: Kind, kinds: list[Kind]) -> Answer:
    return True, (
        "one update reads "
        + listing(kinds, lambda k: size(k.summary["working_bytes"]))
        + (
            "; they were read from the disk here, at a pass over all rows for each update"
            if mine.is_streamed
            else "; the sum could be streamed from disk, at a pass over all rows for each update"
        )
    )


def slows_on_large_data(mine: Kind, kinds: list[Kind]) -> Answer:
    others = [kind for kind in kinds if kind is not mine]
    evidence = (
        "seconds an update: "
        + listing(kinds, lambda k: time_text(k.seconds_an_update()))
        + f"; only batch's grows with the number of rows ({mine.num_rows:,} here); to the target "
        + listing(kinds, lambda k: time_text(k.seconds_to_target().median))
    )
    soonest = min((kind.seconds_to_target() for kind in others), key=lambda times: times.median)
    is_slower = mine.seconds_an_update() >= min(kind.seconds_an_update() for kind in others)
    if not is_slower or not isfinite(soonest.median):
        return None, evidence
    return least(soonest, [mine.seconds_to_target()]), evidence


def updates_more_often_than_batch(mine: Kind, kinds: list[Kind]) -> Answer:
    batch = find_kind(kinds, "batch")
    if batch is None:
        return None, "batch gradient descent was not among the runs"
    evidence = f"{np.ceil(mine.updates_an_epoch()):,.0f} updates in an epoch against 1"
    return mine.updates_an_epoch() > 1, evidence


def cheaper_than_stochastic(mine: Kind, kinds: list[Kind]) -> Answer:
    stochastic = find_kind(kinds, "stochastic")
    if stochastic is None:
        return None, "stochastic gradient descent was not among the runs"
    pair = [stochastic, mine]
    times = ratio(mine.rows_per_second / stochastic.rows_per_second)
    evidence = f"{times} times the rows a second of stochastic"
    if _broken(pair):
        return None, f"{evidence}; {_broken(pair)} diverged"
    return least(mine.speeds().inverse, [stochastic.speeds().inverse]), evidence


def needs_only_a_batch(mine: Kind, kinds: list[Kind]) -> Answer:
    total = mine.num_rows * mine.summary["working_bytes"] / mine.summary["batch_size"]
    return True, (
        f"one update reads {size(mine.summary['working_bytes'])} of {size(total)}; "
        + (
            "here rows were read from the disk"
            if mine.is_streamed
            else "here every kind had all rows at hand"
        )
    )


def asks_for_one_more_number(mine: Kind, kinds: list[Kind]) -> Answer:
    sizes = [kind for kind in kinds if kind.name == "mini-batch"]
    if len(sizes) > 1:
        return True, "to the target: " + listing(sizes, lambda k: time_text(k.seconds_to_target().median))
    return True, (
        f"the batch size, {mine.summary['batch_size']:,} here; its learning rate was found as for the other kinds"
    )


Question = Callable[[Kind, list[Kind]], Answer]
"""Takes the kind that is asked about, and all of them."""

CLAIMS: tuple[tuple[str, str, Question], ...] = (
    ("stochastic", "It shows progress first", shows_progress_first),
    ("stochastic", "It is the simplest", is_the_simplest),
    ("stochastic", "It learns fastest at the start", learns_fastest_at_the_start),
    ("stochastic", "Its updates are noisy", updates_are_noisy),
    ("stochastic", "It cannot settle", cannot_settle),
    ("stochastic", "Updating so often costs more computation per row", costs_more_per_row),
    ("batch", "It updates less often", updates_less_often),
    ("batch", "It is cheaper per row", cheaper_per_row),
    ("batch", "Its error gradient is stable", gradient_is_stable),
    ("batch", "It can settle in a worse place", settles_in_a_worse_place),
    ("batch", "It needs every row in memory", needs_every_row),
    ("batch", "It slows on large data", slows_on_large_data),
    ("mini-batch", "It updates more often than batch", updates_more_often_than_batch),
    ("mini-batch", "It is cheaper per row than stochastic", cheaper_than_stochastic),
    ("mini-batch", "It needs only a batch in memory", needs_only_a_batch),
    ("mini-batch", "It asks for one more hyperparameter", asks_for_one_more_number),
)


COUNTED = (
    is_the_simplest, costs_more_per_row, updates_less_often, cheaper_per_row, gradient_is_stable, needs_every_row,
    updates_more_often_than_batch, cheaper_than_stochastic, needs_only_a_batch, asks_for_one_more_number,
)  # fmt: skip
"""Questions that no gap between the first and the best loss is needed for."""


def answer_claims(
    kinds: list[Kind], claims: Sequence[tuple[str, str, Question]] = CLAIMS
) -> list[dict[str, Any]]:
    """Every claim with ``claim``, ``kind``, ``holds`` and ``evidence``, JSON-able."""
    return [
        {"claim": claim, "kind": name, "holds": None if holds is None else bool(holds), "evidence": evidence}
        for name, claim, question in claims
        for holds, evidence in [_answer(find_kind(kinds, name), name, question, kinds)]
    ]


def _answer(mine: Kind | None, name: str, question: Question, kinds: list[Kind]) -> Answer:
    if mine is None:
        return None, f"{name} gradient descent was not among the runs"
    if len(kinds) < 2:
        return None, "there was nothing to compare it with"
    if not mine.has_gap and question not in COUNTED:
        return (
            None,
            "no run gained anything: there is no gap between the first and the best loss to measure by",
        )
    return question(mine, kinds)


def verdict(kinds: list[Kind], target_loss: float = -inf) -> str:
    """The result in one sentence."""
    if not any(kind.has_gap for kind in kinds):
        return "No kind gained anything in this budget: no loss was clearly below that of the start."
    if kinds[0].first_loss <= target_loss:
        return "The target loss was met before the first step: give a lower one to have a race."
    arrived = sorted(
        (kind for kind in kinds if isfinite(kind.seconds_to_target().median)),
        key=lambda kind: kind.seconds_to_target().median,
    )
    if not arrived:
        return "No kind reached the target loss with every seed in this budget."
    first = arrived[0].seconds_to_target().median
    name = arrived[0].label[0].upper() + arrived[0].label[1:]
    others = [_behind(kind, first) for kind in arrived[1:]]
    others += [_short_of_it(kind) for kind in kinds if kind not in arrived]
    sentence = f"{name} gradient descent reached the target first, after {time_text(first)}"
    return sentence + ("; " + ", ".join(others) if others else "") + "."


def _behind(kind: Kind, first: float) -> str:
    times = kind.seconds_to_target().median / max(first, 1e-12)
    if times < CLEARLY:
        return f"{kind.label} was about as fast"
    return f"{kind.label} took {ratio(times)} times as long"


def _short_of_it(kind: Kind) -> str:
    reached, seeds = kind.summary["target_reached"], kind.summary["num_seeds"]
    return f"{kind.label} did not reach it" + (f" with {seeds - reached} of {seeds} seeds" if reached else "")
