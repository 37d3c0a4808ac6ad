"""What textbooks say for and against the three kinds, each claim answered from what was measured.

``holds`` is True, False, or None where these runs cannot tell. Times are medians over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from descend.comparing.kinds import Kind, find_kind, listing
from descend.comparing.wording import bytes_text, percent, seconds_text, two_digits

PROGRESS_SHARE = 0.1
SETTLED_SHARE = 0.01
CLEARLY = 1.1
"""Less than 10 % apart counts as even: timings on one machine differ by as much."""

Answer = tuple[bool | None, str]


def _clearly_less(mine: float, others: list[float]) -> bool | None:
    """Whether ``mine`` is the least: None where it is within 10 % of the least other."""
    least = min(others)
    if mine * CLEARLY < least:
        return True
    return False if mine > least * CLEARLY else None


def shows_progress_first(mine: Kind, kinds: list[Kind]) -> Answer:
    times = {kind.label: kind.seconds_to_share(PROGRESS_SHARE) for kind in kinds}
    evidence = "a tenth of the way down after " + listing(kinds, lambda k: seconds_text(times[k.label]))
    if times[mine.label] is None:
        return False, evidence
    others = [t if t is not None else np.inf for label, t in times.items() if label != mine.label]
    return _clearly_less(times[mine.label] or 0.0, others), evidence


def is_the_simplest(mine: Kind, kinds: list[Kind]) -> Answer:
    return None, (
        "running it does not show it: all kinds here are one loop with one number changed. "
        "At batch size 1 no gradient is summed up before the update; that is the whole difference"
    )


def learns_fastest_at_the_start(mine: Kind, kinds: list[Kind]) -> Answer:
    one_epoch = {kind.label: kind.loss_after("epoch", 1.0) for kind in kinds}
    moment = min(_seconds_of_an_epoch(kind) for kind in kinds)
    at_once = {kind.label: kind.loss_after("seconds", moment) for kind in kinds}
    evidence = (
        "left of the gap after one epoch: "
        + listing(kinds, lambda k: percent(one_epoch[k.label]))
        + f"; after {seconds_text(moment)}: "
        + listing(kinds, lambda k: percent(at_once[k.label]))
    )
    least = [
        _clearly_less(shares[mine.label], [share for label, share in shares.items() if label != mine.label])
        for shares in (one_epoch, at_once)
    ]
    return (True if all(least) else False if False in least and True not in least else None), evidence


def _seconds_of_an_epoch(kind: Kind) -> float:
    return float(kind.num_rows / (kind.summary["rows_per_second"] or np.nan))


def updates_are_noisy(mine: Kind, kinds: list[Kind]) -> Answer:
    evidence = (
        "the loss jumps from look to look by "
        + listing(kinds, lambda k: percent(k.wobble()))
        + (" of the gap (standard deviation, last third of the run)")
    )
    wobbles = {kind.label: kind.wobble() for kind in kinds}
    others = [wobble for label, wobble in wobbles.items() if label != mine.label and np.isfinite(wobble)]
    if not np.isfinite(wobbles[mine.label]) or not others:
        return None, evidence
    return wobbles[mine.label] > 3 * min(others) and wobbles[mine.label] > 1e-5, evidence


def cannot_settle(mine: Kind, kinds: list[Kind]) -> Answer:
    final = (mine.summary["final_loss"] - mine.best_loss) / mine.gap
    evidence = (
        f"in the last third its parameters hover {percent(mine.hovering())} of the gap above the best loss "
        f"(settled: under {percent(SETTLED_SHARE)}); their average ended {percent(final)} above"
    )
    return mine.hovering() > SETTLED_SHARE, evidence


def costs_more_per_row(mine: Kind, kinds: list[Kind]) -> Answer:
    return _clearly_less(
        mine.summary["rows_per_second"],
        [kind.summary["rows_per_second"] for kind in kinds if kind is not mine],
    ), _speeds(kinds)


def cheaper_per_row(mine: Kind, kinds: list[Kind]) -> Answer:
    rest = [-kind.summary["rows_per_second"] for kind in kinds if kind is not mine]
    fastest = -min(rest)
    speed = mine.summary["rows_per_second"]
    holds = True if speed > CLEARLY * fastest else False if speed * CLEARLY < fastest else None
    return holds, _speeds(kinds)


def _speeds(kinds: list[Kind]) -> str:
    return "million rows a second: " + listing(
        kinds, lambda k: two_digits(k.summary["rows_per_second"] / 1e6)
    )


def updates_less_often(mine: Kind, kinds: list[Kind]) -> Answer:
    evidence = "updates in an epoch: " + listing(kinds, lambda k: f"{np.ceil(k.updates_an_epoch()):,.0f}")
    return mine.updates_an_epoch() < min(k.updates_an_epoch() for k in kinds if k is not mine), evidence


def gradient_is_stable(mine: Kind, kinds: list[Kind]) -> Answer:
    evidence = "at the start a batch's gradient strays from the whole one by " + listing(
        kinds, lambda k: percent(k.noise.relative) if k.noise.relative else "nothing"
    )
    return mine.noise.relative < min(k.noise.relative for k in kinds if k is not mine), evidence


def settles_in_a_worse_place(mine: Kind, kinds: list[Kind]) -> Answer:
    share = (mine.summary["final_loss"] - mine.best_loss) / mine.gap
    evidence = (
        f"this objective is convex: it has one lowest place, and batch ended {percent(share)} of the gap above "
        "the best loss seen"
    )
    if share > SETTLED_SHARE:
        evidence += "; it had not arrived yet"
    return False, evidence


def needs_every_row(mine: Kind, kinds: list[Kind]) -> Answer:
    return True, (
        "one update reads "
        + listing(kinds, lambda k: bytes_text(k.summary["working_bytes"]))
        + (
            "; they were read from the disk here, at a pass over all rows for each update"
            if mine.is_streamed
            else "; the sum could be streamed from disk, at a pass over all rows for each update"
        )
    )


def slows_on_large_data(mine: Kind, kinds: list[Kind]) -> Answer:
    others = [kind for kind in kinds if kind is not mine]
    slower = mine.seconds_an_update() / min(kind.seconds_an_update() for kind in others)
    evidence = (
        "seconds an update: "
        + listing(kinds, lambda k: seconds_text(k.seconds_an_update()))
        + f"; only batch's grows with the number of rows ({mine.num_rows:,} here)"
    )
    mine_time, rest = mine.seconds_to_target(), [kind.seconds_to_target() for kind in others]
    reached = [time for time in rest if time is not None]
    evidence += f"; to the target {listing(kinds, lambda k: seconds_text(k.seconds_to_target()))}"
    if not reached:
        return None, evidence
    if mine_time is None:
        return True, evidence
    holds = _clearly_less(min(reached), [mine_time])
    return (None if holds is None or slower < 1 else holds), evidence


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
    ratio = mine.summary["rows_per_second"] / stochastic.summary["rows_per_second"]
    holds = True if ratio > CLEARLY else False if ratio * CLEARLY < 1 else None
    return holds, f"{two_digits(ratio)} times the rows a second of stochastic"


def needs_only_a_batch(mine: Kind, kinds: list[Kind]) -> Answer:
    total = mine.num_rows * mine.summary["working_bytes"] / mine.summary["batch_size"]
    return True, (
        f"one update reads {bytes_text(mine.summary['working_bytes'])} of {bytes_text(total)}; "
        + (
            "here rows were read from the disk"
            if mine.is_streamed
            else "here every kind had all rows at hand"
        )
    )


def asks_for_one_more_number(mine: Kind, kinds: list[Kind]) -> Answer:
    sizes = [kind for kind in kinds if kind.name == "mini-batch"]
    if len(sizes) > 1:
        return True, "to the target: " + listing(sizes, lambda k: seconds_text(k.seconds_to_target()))
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


def answer_claims(
    kinds: list[Kind], claims: Sequence[tuple[str, str, Question]] = CLAIMS
) -> list[dict[str, Any]]:
    """Every claim with ``claim``, ``kind``, ``holds`` and ``evidence``, JSON-able."""
    answers = []
    for name, claim, question in claims:
        mine = find_kind(kinds, name)
        holds: bool | None = None
        evidence = f"{name} gradient descent was not among the runs"
        if mine is not None and len(kinds) < 2:
            evidence = "there was nothing to compare it with"
        elif mine is not None:
            holds, evidence = question(mine, kinds)
        answers.append(
            {
                "claim": claim,
                "kind": name,
                "holds": None if holds is None else bool(holds),
                "evidence": evidence,
            }
        )
    return answers


def verdict(kinds: list[Kind]) -> str:
    """The result in one sentence."""
    arrived = [(kind.seconds_to_target(), kind) for kind in kinds]
    times = sorted(((t, kind) for t, kind in arrived if t is not None), key=lambda pair: pair[0])
    if not times:
        return "No kind reached the target loss with every seed in this budget."
    first, winner = times[0]
    name = winner.label[0].upper() + winner.label[1:]
    sentence = f"{name} gradient descent reached the target first, after {seconds_text(first)}"
    others = []
    for t, kind in times[1:]:
        ratio = t / max(first, 1e-12)
        others.append(
            f"{kind.label} was about as fast"
            if ratio < CLEARLY
            else f"{kind.label} took {two_digits(ratio)} times as long"
        )
    others += [f"{kind.label} did not reach it" for t, kind in arrived if t is None]
    return sentence + ("; " + ", ".join(others) if others else "") + "."
