"""What textbooks say of noise and local minima, each answered from what was measured of a network's runs.

The textbook: noise lets stochastic and mini-batch gradient descent avoid local minima; a stable gradient may let
batch gradient descent settle early in a worse place. And what is said of small batches: they end in flatter places
(Keskar et al. 2017, https://arxiv.org/abs/1609.04836).
"""

from __future__ import annotations

import numpy as np

from descend.comparing.claims import (
    CLAIMS,
    SETTLED_SHARE,
    Answer,
    Question,
    cannot_settle,
    settles_in_a_worse_place,
    updates_are_noisy,
)
from descend.comparing.clearly import CLEARLY, ENOUGH_SEEDS
from descend.comparing.kinds import Kind, find_kind, listing
from descend.comparing.wording import percent
from descend.report.formatting import number

ONE_IN = 20
"""Deviations count as different where chance alone would set them so far apart once in so many times."""


def settles_early(mine: Kind, kinds: list[Kind]) -> Answer:
    """Of seeds that stopped by themselves: whether they all did so clearly above the best loss, or none."""
    above = [(loss - mine.best_loss) / mine.gap for loss in mine.final_losses()]
    stopped = mine.summary["stopped"]
    evidence = (
        "it ended above the best loss seen by "
        + ", ".join(percent(share) for share in above)
        + " of the gap, seed by seed"
    )
    arrived = [share > SETTLED_SHARE for share, why in zip(above, stopped, strict=True) if why == "converged"]
    broken = list(stopped).count("diverged")
    if broken:
        evidence += f"; {broken} diverged"
    if len(above) - len(arrived) - broken:
        evidence += f"; {len(above) - len(arrived) - broken} had not stopped gaining when it was over"
    if not arrived:
        return (None if max(above) > SETTLED_SHARE else False), evidence
    if all(arrived) == any(arrived):
        return all(arrived), evidence
    return None, evidence


def with_falling_rate(question: Question) -> Question:
    """The same question; where the rate fell on the way, the evidence says so."""

    def asked(mine: Kind, kinds: list[Kind]) -> Answer:
        holds, evidence = question(mine, kinds)
        rates = [c["learning_rate"] for c in mine.columns()]
        left = [one[-1] / one[0] for one in rates if one[0] and one[-1] is not None]
        if len(left) == len(rates) and max(left) < 0.99:
            evidence += f"; its learning rate had fallen to {percent(min(left))} of the first by then"
        return holds, evidence

    return asked


def ends_differ(mine: Kind, kinds: list[Kind]) -> Answer:
    """Whether its final losses spread more over the seeds than those of the kind that spreads least."""
    spreads = {kind.label: _deviation(kind.final_losses()) / mine.gap for kind in kinds}
    seeds = len(mine.final_losses())
    evidence = (
        f"final losses of {seeds} seeds, each with a starting point and an order of its own, deviate by "
        + listing(kinds, lambda k: percent(spreads[k.label]))
        + " of the gap"
    )
    if seeds < 2:
        return None, "one seed has no spread: take --seeds 3 or more"
    others = [kind for kind in kinds if kind is not mine]
    needed = float(np.sqrt(_f_quantile(seeds - 1, len(others))))
    least = min(spreads[kind.label] for kind in others)
    evidence += f". From {seeds} seeds a difference can be told from {number(needed, 2)} times on"
    if on_the_way := _on_the_way(kinds):
        return None, evidence + on_the_way
    if spreads[mine.label] > needed * least:
        return True, evidence
    return (False if spreads[mine.label] * needed < least else None), evidence


def ends_in_flatter_places(mine: Kind, kinds: list[Kind]) -> Answer:
    """Seed by seed, from the same start: whether its largest Hessian eigenvalue is clearly below batch's."""
    batch = find_kind(kinds, "batch")
    if batch is None:
        return None, "batch gradient descent was not among the runs"
    pairs = [
        (a["value"], b["value"])
        for a, b in zip(mine.summary["sharpness_found"], batch.summary["sharpness_found"], strict=True)
        if a["value"] is not None and b["value"] is not None
    ]
    if not pairs:
        return None, "the curvature where they ended is not a number"
    flatter = sum(a * CLEARLY < b for a, b in pairs)
    sharper = sum(b * CLEARLY < a for a, b in pairs)
    evidence = (
        "largest eigenvalue of the Hessian where they ended: "
        + listing([mine, batch], lambda k: _range(_values(k)))
        + f"; flatter in {flatter} of {len(pairs)} seeds, sharper in {sharper}"
    )
    if on_the_way := _on_the_way([mine, batch]):
        return None, evidence + on_the_way
    if len(pairs) < ENOUGH_SEEDS:
        return None, f"{evidence}; so few may be chance: take --seeds {ENOUGH_SEEDS} or more"
    if flatter == len(pairs):
        return True, evidence
    return (False if flatter == 0 else None), evidence


def leaves_where_batch_stays(mine: Kind, kinds: list[Kind]) -> Answer:
    """Started where batch gradient descent stays: whether a wall lies between where that goes from both places."""
    told = mine.summary["excursions"]
    if told["reason"]:
        return None, told["reason"]
    found = told["found"]
    if not found:
        return None, "started where batch stays, it diverged"
    left = [one["left"] for one in found] + [None] * told["diverged"]
    evidence = (
        f"started where batch stays it moved by {_range([100 * one['moved'] for one in found])} % of that place's "
        f"length in {told['passes']} passes; the loss went {_ups_and_downs([one['change'] for one in found])}. "
        f"Batch went on from there to where {_walls([one['wall'] for one in found])} stands before its own place"
    )
    if all(one is True for one in left):
        return True, evidence + ": another valley"
    if all(one is False for one in left):
        return False, evidence + ": the same valley"
    counts = (
        f"another valley from {left.count(True)} of {len(left)} places, the same from {left.count(False)}"
    )
    return None, f"{evidence}: {counts}"


def _on_the_way(kinds: list[Kind]) -> str:
    """What is said where some of them had not arrived; empty where all had."""
    names = [kind.label for kind in kinds if not _has_arrived(kind)]
    return f"; {' and '.join(names)} had not arrived, so these are no ends to compare" if names else ""


def _has_arrived(kind: Kind) -> bool:
    """Whether all its runs stopped by themselves, or are as good as at the best loss."""
    return all(
        why == "converged" or (loss - kind.best_loss) / kind.gap <= SETTLED_SHARE
        for why, loss in zip(kind.summary["stopped"], kind.final_losses(), strict=True)
    )


def _values(kind: Kind) -> list[float]:
    return [one["value"] for one in kind.summary["sharpness_found"] if one["value"] is not None]


def _range(values: list[float]) -> str:
    low, high = number(min(values), 2), number(max(values), 2)
    return low if low == high else f"{low} to {high}"


def _ups_and_downs(changes: list[float]) -> str:
    """Shares of the gap in words, as in: down by 0.1 % to 0.3 % of the gap."""
    if all(change <= 0.0 for change in changes) or all(change >= 0.0 for change in changes):
        low, high = (percent(share) for share in (min(map(abs, changes)), max(map(abs, changes))))
        way = "up" if max(changes) > 0.0 else "down"
        return f"{way} by {low if low == high else f'{low} to {high}'} of the gap"
    return f"between {percent(-min(changes))} down and {percent(max(changes))} up"


def _walls(shares: list[float]) -> str:
    if max(shares) == 0.0:
        return "no wall"
    low, high = percent(min(shares)), percent(max(shares))
    return f"a wall of {low if low == high else f'{low} to {high}'} of the gap"


def _deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _f_quantile(degrees: int, others: int) -> float:
    """The ratio of a variance to the least of ``others`` that chance exceeds no more than once in twenty times.

    All have ``degrees`` of freedom.
    """
    from scipy.special import fdtri

    return float(fdtri(degrees, degrees, 1.0 - 1.0 / (ONE_IN * others)))


MORE: dict[str, tuple[tuple[str, Question], ...]] = {
    "stochastic": (
        ("Its noise lets it leave local minima", leaves_where_batch_stays),
        ("It ends in flatter places than batch", ends_in_flatter_places),
        ("Where it ends depends on chance", ends_differ),
    ),
    "batch": (("Where it ends depends on where it starts", ends_differ),),
    "mini-batch": (
        ("Its noise lets it leave local minima", leaves_where_batch_stays),
        ("It ends in flatter places than batch", ends_in_flatter_places),
    ),
}


INSTEAD: dict[Question, Question] = {
    settles_in_a_worse_place: settles_early,
    updates_are_noisy: with_falling_rate(updates_are_noisy),
    cannot_settle: with_falling_rate(cannot_settle),
}
"""Questions that are asked of networks in another way."""


def network_claims() -> tuple[tuple[str, str, Question], ...]:
    """The claims of linear models, with those of networks behind them, kind by kind."""
    asked: list[tuple[str, str, Question]] = []
    for kind, more in MORE.items():
        for _, claim, question in (one for one in CLAIMS if one[0] == kind):
            asked.append((kind, claim, INSTEAD.get(question, question)))
        asked += [(kind, claim, question) for claim, question in more]
    return tuple(asked)
