"""The textbook's claims, on summaries made by hand: each comes out true, false and open where it should."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from descend.comparing.claims import CLAIMS, answer_claims, verdict
from descend.comparing.clearly import Spread, least
from descend.comparing.gradient_noise import GradientNoise
from descend.comparing.kinds import Kind
from descend.comparing.wording import percent, time_text

ROWS, FIRST, BEST = 1000, 1.0, 0.0
SIZES = {"stochastic": 1, "mini-batch": 32, "batch": ROWS}


def history(losses, seconds_each=1.0, last_losses=None, epochs_each=1.0):
    """Columns with one look at a time: losses, evenly spaced in seconds and epochs."""
    n = len(losses)
    return {
        "columns": {
            "seconds": [i * seconds_each for i in range(n)],
            "epoch": [i * epochs_each for i in range(n)],
            "rows": [i * epochs_each * ROWS for i in range(n)],
            "updates": list(range(n)),
            "loss": losses,
            "last_loss": last_losses or losses,
        }
    }


FALLING = [1.0, 0.5, 0.2, 0.05, 0.01, 0.001, 0.0]


def kind(
    name,
    *,
    speed=1e6,
    speeds=None,
    seconds=1.0,
    reached=3,
    final=0.0,
    noise=None,
    batch_size=None,
    histories=None,
    stopped="converged",
):
    """One kind's summary: reached the target with ``reached`` of the seeds after ``seconds`` (None: never)."""
    batch_size = batch_size or SIZES[name]
    histories = histories or [history(FALLING)] * 3
    low, median, high = seconds if isinstance(seconds, tuple) else (seconds,) * 3
    summary = {
        "kind": name,
        "batch_size": batch_size,
        "target_reached": 0 if seconds is None else reached,
        "num_seeds": len(histories),
        "seconds_to_target": None if seconds is None else {"median": median, "low": low, "high": high},
        "final_loss": final,
        "rows_per_second": speed,
        "rows_per_second_range": speeds or [speed, speed],
        "working_bytes": batch_size * 40,
        "stopped": [stopped] * len(histories),
        "histories": histories,
    }
    relative = {"stochastic": 5.0, "mini-batch": 1.0, "batch": 0.0}[name] if noise is None else noise
    return Kind(summary, FIRST, BEST, GradientNoise(batch_size, relative), ROWS)


def answers(stochastic=None, mini=None, batch=None):
    kinds = [
        kind("stochastic", **(stochastic or {})),
        kind("mini-batch", **(mini or {})),
        kind("batch", **(batch or {})),
    ]
    return {(a["kind"], a["claim"]): a["holds"] for a in answer_claims(kinds)}


def looks(losses, seconds_each=1.0, last_losses=None):
    return {"histories": [history(losses, seconds_each, last_losses)] * 3}


NOISY = looks(FALLING + [0.0] * 12, last_losses=FALLING + [0.02, 0.2, 0.05, 0.3, 0.1, 0.02] * 2)
SMOOTH = looks(FALLING + [0.0] * 12)

KINDS = ("stochastic", "mini", "batch")


def one_look(seconds_each):
    return {"histories": [history(FALLING, seconds_each)]}


ALONE = dict.fromkeys(KINDS, one_look(1.0))
CASES = [
    # claim, kind, what the runs were like, the answer
    ("It shows progress first", "stochastic", {"stochastic": looks(FALLING, 0.1)}, True),
    ("It shows progress first", "stochastic", {"stochastic": looks(FALLING, 2.0)}, False),
    ("It shows progress first", "stochastic", {"stochastic": looks([1.0, 0.99, 0.95])}, False),
    ("It shows progress first", "stochastic", {}, None),
    # clearly less in the median, but one seed of it took longer than one of the others
    (
        "It shows progress first",
        "stochastic",
        {"stochastic": {"histories": [history(FALLING, each) for each in (0.1, 0.1, 1.5)]}},
        None,
    ),
    # one seed each: 1.5 times apart may be chance, ten times is not
    ("It shows progress first", "stochastic", ALONE | {"stochastic": one_look(0.7)}, None),
    ("It shows progress first", "stochastic", ALONE | {"stochastic": one_look(0.1)}, True),
    ("It is the simplest", "stochastic", {}, None),
    ("It learns fastest at the start", "stochastic", {"stochastic": looks([1.0, 0.1, 0.0], 0.001)}, True),
    ("It learns fastest at the start", "stochastic", {"stochastic": looks([1.0, 0.9, 0.8])}, False),
    ("It learns fastest at the start", "stochastic", {}, None),
    # ahead after an epoch, behind after the seconds that the fastest kind's epoch took
    (
        "It learns fastest at the start",
        "stochastic",
        {"stochastic": looks([1.0, 0.1, 0.0], 1.0), "mini": looks([1.0, 0.5, 0.2], 0.001)},
        None,
    ),
    ("Its updates are noisy", "stochastic", {"stochastic": NOISY, "mini": SMOOTH, "batch": SMOOTH}, True),
    ("Its updates are noisy", "stochastic", {"stochastic": SMOOTH, "mini": NOISY, "batch": SMOOTH}, False),
    ("Its updates are noisy", "stochastic", {"stochastic": NOISY, "mini": NOISY, "batch": NOISY}, False),
    ("Its updates are noisy", "stochastic", {"stochastic": looks([1.0, 0.5])}, None),
    ("It cannot settle", "stochastic", {"stochastic": NOISY}, True),
    ("It cannot settle", "stochastic", {"stochastic": SMOOTH}, False),
    # still on its way: what it is above the best loss, its average is too
    ("It cannot settle", "stochastic", {"stochastic": looks([1.0, 0.9, 0.8, 0.7, 0.6]) | {"final": 0.6}}, None),
    ("It cannot settle", "stochastic", {"stochastic": NOISY | {"stopped": "diverged"}}, None),
    ("Updating so often costs more computation per row", "stochastic", {"stochastic": {"speed": 1e5}}, True),
    ("Updating so often costs more computation per row", "stochastic", {"stochastic": {"speed": 1e7}}, False),
    ("Updating so often costs more computation per row", "stochastic", {}, None),
    (
        "Updating so often costs more computation per row",
        "stochastic",
        {"stochastic": {"speed": 5e5, "speeds": [4e5, 1.1e6]}},
        None,
    ),
    (
        "Updating so often costs more computation per row",
        "stochastic",
        {"stochastic": {"speed": 1e5, "stopped": "diverged"}},
        None,
    ),
    ("It updates less often", "batch", {}, True),
    ("It is cheaper per row", "batch", {"batch": {"speed": 1e7}}, True),
    ("It is cheaper per row", "batch", {"batch": {"speed": 1e5}}, False),
    ("It is cheaper per row", "batch", {"batch": {"speed": 1.05e6}}, None),
    ("Its error gradient is stable", "batch", {}, True),
    ("Its error gradient is stable", "batch", {"mini": {"noise": 0.0}}, False),
    ("It can settle in a worse place", "batch", {}, False),
    ("It can settle in a worse place", "batch", {"batch": {"final": 0.5}}, False),
    ("It needs every row in memory", "batch", {}, True),
    ("It slows on large data", "batch", {"batch": {"seconds": 9.0}}, True),
    ("It slows on large data", "batch", {"batch": {"seconds": None}}, True),
    ("It slows on large data", "batch", {"batch": {"seconds": 0.1}}, False),
    ("It slows on large data", "batch", {"batch": {"seconds": (0.9, 9.0, 9.0)}}, None),
    ("It slows on large data", "batch", {"batch": {"seconds": (0.9, 0.9, 9.0), "reached": 2}}, None),
    ("It slows on large data", "batch", {}, None),
    ("It slows on large data", "batch", {"stochastic": {"seconds": None}, "mini": {"seconds": None}}, None),
    ("It updates more often than batch", "mini-batch", {}, True),
    ("It is cheaper per row than stochastic", "mini-batch", {"mini": {"speed": 1e7}}, True),
    ("It is cheaper per row than stochastic", "mini-batch", {"mini": {"speed": 1e5}}, False),
    ("It is cheaper per row than stochastic", "mini-batch", {}, None),
    ("It needs only a batch in memory", "mini-batch", {}, True),
    ("It asks for one more hyperparameter", "mini-batch", {}, True),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "name", "runs", "holds"), CASES)
def test_each_claim_is_answered_from_the_runs(claim, name, runs, holds):
    """A claim is true, false or open as the hand-made runs say."""
    assert answers(**runs)[name, claim] is holds


def test_every_claim_of_the_textbook_is_asked():
    """All sixteen claims are answered, each with a kind, evidence in words, and an answer that JSON knows."""
    assert {(claim, name) for name, claim, _ in CLAIMS} == {(claim, name) for claim, name, _, _ in CASES}
    found = answer_claims([kind("stochastic"), kind("mini-batch"), kind("batch")])
    assert len(found) == 16
    for answer in found:
        assert set(answer) == {"claim", "kind", "holds", "evidence"}
        assert answer["holds"] in (True, False, None)
        assert type(answer["holds"]) in (bool, type(None))
        assert len(answer["evidence"]) > 20
        assert not any(bad in answer["evidence"] for bad in ("nan", "inf", "e-0", "e+0", "None"))
    json.dumps(found, allow_nan=False)


def test_rows_on_the_disk_are_told_as_such():
    """Evidence of what lies in memory is that of the runs: of streamed rows it does not say that all were at hand."""
    for is_streamed in (False, True):
        kinds = [replace(kind(name), is_streamed=is_streamed) for name in SIZES]
        evidence = " ".join(answer["evidence"] for answer in answer_claims(kinds))
        assert ("had all rows at hand" in evidence) is not is_streamed
        assert ("could be streamed" in evidence) is not is_streamed
        assert ("read from the disk here" in evidence) is is_streamed


@pytest.mark.parametrize("present", [[], ["stochastic"], ["mini-batch"], ["batch"]])
def test_a_kind_alone_proves_nothing(present):
    """With one kind, or none, every claim is open, and the evidence says why."""
    found = answer_claims([kind(name) for name in present])
    assert [answer["holds"] for answer in found] == [None] * 16
    for answer in found:
        expected = "nothing to compare" if answer["kind"] in present else "not among the runs"
        assert expected in answer["evidence"]


@pytest.mark.parametrize("missing", ["stochastic", "mini-batch", "batch"])
def test_claims_of_a_missing_kind_are_open(missing):
    """Without one of the kinds its claims are open, and the others' still get an answer or a reason."""
    found = answer_claims(
        [kind(name, speed=s) for name, s in zip(SIZES, (1e5, 1e6, 1e7), strict=True) if name != missing]
    )
    for answer in found:
        if answer["kind"] == missing:
            assert answer["holds"] is None
            assert "not among the runs" in answer["evidence"]
    if missing == "batch":
        (often,) = [a for a in found if a["claim"] == "It updates more often than batch"]
        assert often["holds"] is None


def test_of_several_mini_batches_the_first_at_the_target_answers():
    """Of two mini-batch sizes the one that reached the target first stands for the kind, and both are quoted."""
    kinds = [
        kind("stochastic"),
        kind("mini-batch", batch_size=8, seconds=5.0),
        kind("mini-batch", batch_size=64, seconds=2.0),
        kind("batch"),
    ]
    found = {answer["claim"]: answer for answer in answer_claims(kinds)}
    assert "mini-batch (8) 5 s" in found["It asks for one more hyperparameter"]["evidence"]
    assert "mini-batch (64) 2 s" in found["It asks for one more hyperparameter"]["evidence"]
    assert "16 updates in an epoch" in found["It updates more often than batch"]["evidence"]


def test_answers_survive_runs_that_failed():
    """Kinds that diverged at once, or were never seen again, still give answers and evidence that can be read."""
    broken = history([1.0, None, None])
    kinds = [
        kind("stochastic", seconds=None, final=1.0, histories=[broken] * 3),
        kind("mini-batch", seconds=None, final=1.0, histories=[history([1.0])] * 3),
        kind("batch"),
    ]
    json.dumps(answer_claims(kinds), allow_nan=False)
    assert "did not reach it" in verdict(kinds)


# --- the verdict -----------------------------------------------------------------------------------


def test_the_verdict_names_the_first_and_the_distance_of_the_others():
    """The winner, its time, and how many times as long the others took."""
    kinds = [kind("stochastic", seconds=2.0), kind("mini-batch", seconds=0.5), kind("batch", seconds=50.0)]
    assert verdict(kinds) == (
        "Mini-batch (32) gradient descent reached the target first, after 500 ms; "
        "stochastic took 4 times as long, batch took 100 times as long."
    )


def test_the_verdict_calls_a_tie_a_tie():
    """Less than 10 % apart is about as fast."""
    kinds = [kind("stochastic", seconds=1.0), kind("batch", seconds=1.05)]
    assert verdict(kinds).endswith("; batch was about as fast.")


def test_the_verdict_says_who_did_not_arrive():
    """A kind that missed the target with one seed did not reach it; if all did, that is the sentence."""
    kinds = [kind("stochastic", reached=2), kind("batch")]
    assert verdict(kinds).endswith(
        "the target first, after 1 s; stochastic did not reach it with 1 of 3 seeds."
    )
    assert verdict([kind("stochastic", reached=2)]).startswith("No kind reached the target")


# --- the numbers behind them -----------------------------------------------------------------------


def test_hovering_is_the_mean_height_of_the_last_third():
    """Mean of the last parameters' losses in the last third of the rows, as a share of the gap."""
    one = kind("stochastic", histories=[history([1.0, 0, 0, 0, 0.1, 0.3, 0.2])])
    assert one.hovering() == pytest.approx(0.2)


def test_wobble_is_the_deviation_of_the_steps():
    """Standard deviation of the differences in the last third, a share of the gap; unknown of too few looks."""
    losses = [1.0, *[0.5] * 5, 0.0, 0.2, 0.0, 0.2]
    expected = np.std(np.diff(losses[6:]))
    assert kind("stochastic", histories=[history(losses)]).wobble() == pytest.approx(expected)
    assert math.isnan(kind("stochastic", histories=[history([1.0, 0.5])]).wobble())


def test_times_are_medians_and_never_where_a_seed_missed():
    """Seconds to a share are medians over the seeds, and None where one of them never got there."""
    runs = [history(FALLING, s) for s in (1.0, 2.0, 9.0)]
    assert kind("stochastic", histories=runs).seconds_to_share(0.1) == Spread(1.0, 2.0, 9.0, 3)
    runs[2] = history([1.0, 0.95])
    assert kind("stochastic", histories=runs).seconds_to_share(0.1) == Spread(1.0, math.inf, math.inf, 3)


def test_loss_after_takes_the_last_look_before():
    """The loss after an amount is that of the last look at or before it."""
    one = kind("stochastic", histories=[history(FALLING)])
    assert one.loss_after("epoch", 2.0).median == pytest.approx(0.2)
    assert one.loss_after("epoch", 2.9).median == pytest.approx(0.2)
    assert one.loss_after("seconds", 0.0).median == 1.0


@pytest.mark.parametrize(
    ("mine", "other", "expected"),
    [
        ((1.0, 1.0, 1.0), (1.2, 1.2, 1.2), True),
        ((1.0, 1.0, 1.0), (1.05, 1.05, 1.05), None),
        ((1.2, 1.2, 1.2), (1.0, 1.0, 1.0), False),
        ((1.0, 1.0, 1.3), (1.2, 2.0, 2.0), None),
        ((1.0,), (1.9,), None),
        ((1.0,), (2.1,), True),
        ((1.0, 1.0, math.inf), (5.0, 5.0, 5.0), None),
        ((math.inf,) * 3, (5.0, 5.0, 5.0), False),
        ((math.inf,) * 3, (math.inf,) * 3, None),
    ],
)
def test_what_is_least_is_clearly_apart(mine, other, expected):
    """Medians 10 % apart and no seed across: with fewer than three seeds twice apart; missing is not arriving."""
    assert least(Spread.of(mine), [Spread.of(other)]) is expected


def test_where_nothing_was_gained_nothing_is_measured_by_the_gap():
    """Without a gap, claims that are shares of it are open and say why; those that are counted are answered."""
    flat = {"histories": [history([1.0, 1.0, 1.0])] * 3, "final": 1.0, "seconds": 0.0}
    kinds = [replace(kind(name, **flat), best_loss=FIRST - 1e-9) for name in SIZES]
    found = {answer["claim"]: answer for answer in answer_claims(kinds)}
    for claim in ("It shows progress first", "It cannot settle", "It can settle in a worse place"):
        assert found[claim]["holds"] is None
        assert "no run gained anything" in found[claim]["evidence"]
    assert found["It updates less often"]["holds"] is True
    assert verdict(kinds).startswith("No kind gained anything")


def test_a_gradient_of_nothing_is_not_called_stable():
    """Where the gradient of all rows is 0, how far a batch's strays from it is no number."""
    kinds = [
        replace(kind(name), noise=GradientNoise(size, None if name == "batch" else 1.0))
        for name, size in SIZES.items()
    ]
    (stable,) = [a for a in answer_claims(kinds) if a["claim"] == "Its error gradient is stable"]
    assert stable["holds"] is None


def test_a_target_that_the_start_meets_makes_no_race():
    """A target at or above the first loss is said to be met, and nobody is called the first."""
    kinds = [kind(name, seconds=0.0) for name in SIZES]
    assert verdict(kinds, target_loss=FIRST).startswith("The target loss was met before the first step")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (time_text(float("inf")), "never"),
        (time_text(0.0123), "12.3 ms"),
        (percent(0.5), "50 %"),
        (percent(float("nan")), "unknown"),
    ],
)
def test_numbers_read_well(text, expected):
    """Times and shares that are not there have words."""
    assert text == expected
