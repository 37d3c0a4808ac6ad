"""The claims about noise and local minima, on summaries made by hand: each comes out true, false and open."""

import json

import pytest

from descend.comparing.claims import CLAIMS, answer_claims
from descend.comparing.gradient_noise import GradientNoise
from descend.comparing.kinds import Kind
from descend.comparing.valley_claims import network_claims

FIRST, BEST, ROWS = 1.0, 0.0, 1000
SIZES = {"stochastic": 1, "mini-batch": 32, "batch": ROWS}
LEAVES, FLATTER = "Its noise lets it leave local minima", "It ends in flatter places than batch"
WORSE = "It can settle in a worse place"
CHANCE, START = "Where it ends depends on chance", "Where it ends depends on where it starts"


def excursion(left, wall=0.0, change=-0.001):
    return {
        "moved": 0.2,
        "change": change,
        "back_change": -0.001,
        "back_distance": 0.1,
        "wall": wall,
        "left": left,
    }


def excursions(*left, reason="", diverged=0):
    found = [excursion(one, wall=0.05 if one else 0.0) for one in left]
    return {"reason": reason, "passes": 30, "found": found, "diverged": diverged}


def kind(name, finals=(0.0, 0.001, 0.002), stopped=None, sharp=(1.0, 1.1, 1.2), left=None, falling=True):
    """One kind's summary: final losses and eigenvalues seed by seed, and what its excursions made."""
    histories = [
        {
            "columns": {
                "seconds": [0.0, 1.0, 2.0, 3.0], "epoch": [0.0, 1.0, 2.0, 3.0], "rows": [0, ROWS, 2 * ROWS, 3 * ROWS],
                "updates": [0, 1, 2, 3], "loss": [FIRST, 0.5, final, final], "last_loss": [FIRST, 0.5, final, final],
                "learning_rate": [0.1, 0.1, 0.1, 0.00625 if falling else 0.1],
            }
        }
        for final in finals
    ]  # fmt: skip
    summary = {
        "kind": name, "batch_size": SIZES[name], "target_reached": 3, "num_seeds": len(finals), "learning_rate": 0.1,
        "seconds_to_target": {"median": 1.0, "low": 1.0, "high": 1.0}, "final_loss": finals[0],
        "rows_per_second": 1e6, "rows_per_second_range": [1e6, 1e6],
        "working_bytes": 40, "stopped": list(stopped or ["converged"] * len(finals)),
        "sharpness_found": [{"value": v, "within": 0.0, "iterations": 20, "arrived": True} for v in sharp],
        "excursions": left or excursions(False, False, False), "histories": histories,
    }  # fmt: skip
    return Kind(summary, FIRST, BEST, GradientNoise(SIZES[name], 0.0), ROWS)


def answers(**given):
    names = {"stochastic": "stochastic", "mini": "mini-batch", "batch": "batch"}
    kinds = [kind(name, **given.get(short, {})) for short, name in names.items()]
    found = answer_claims(kinds, network_claims())
    json.dumps(found, allow_nan=False)
    return {(one["kind"], one["claim"]): one for one in found}


CASES = [
    # left another valley from every place, from none, from some, diverged, not tried
    (LEAVES, "stochastic", {"stochastic": {"left": excursions(True, True)}}, True),
    (LEAVES, "stochastic", {}, False),
    (LEAVES, "mini-batch", {"mini": {"left": excursions(True, False)}}, None),
    (LEAVES, "mini-batch", {"mini": {"left": excursions(None)}}, None),
    (LEAVES, "stochastic", {"stochastic": {"left": excursions(diverged=3)}}, None),
    (LEAVES, "stochastic", {"stochastic": {"left": excursions(True, True, diverged=1)}}, None),
    (LEAVES, "stochastic", {"stochastic": {"left": excursions(reason="batch had not come to rest")}}, None),
    # flatter with every seed, with none, with some; less than 10 % apart; still on the way
    (FLATTER, "stochastic", {"batch": {"sharp": (2.0, 2.0, 2.0)}}, True),
    (FLATTER, "stochastic", {"batch": {"sharp": (0.5, 0.5, 0.5)}}, False),
    (FLATTER, "mini-batch", {"batch": {"sharp": (2.0, 0.5, 2.0)}}, None),
    (FLATTER, "mini-batch", {"batch": {"sharp": (1.05, 1.15, 1.25)}}, False),
    (FLATTER, "stochastic", {"batch": {"sharp": (2.0,) * 3, "finals": (0.3,) * 3, "stopped": ["time"] * 3}}, None),
    (FLATTER, "stochastic", {"batch": {"sharp": (None,) * 3}}, None),
    # one seed, two seeds: chance
    (FLATTER, "stochastic", {"stochastic": {"sharp": (1.0, None, None)}, "batch": {"sharp": (9.0, 9.0, 9.0)}}, None),
    (FLATTER, "stochastic", {"stochastic": {"sharp": (9.0, 9.0, None)}, "batch": {"sharp": (1.0, 1.0, 1.0)}}, None),
    # stopped by itself above the best, did not, for some seeds, was cut off
    (WORSE, "batch", {"batch": {"finals": (0.2, 0.2, 0.3)}}, True),
    (WORSE, "batch", {}, False),
    (WORSE, "batch", {"batch": {"finals": (0.2, 0.0, 0.2)}}, None),
    (WORSE, "batch", {"batch": {"finals": (0.2,) * 3, "stopped": ["time"] * 3}}, None),
    (WORSE, "batch", {"batch": {"finals": (0.001,) * 3, "stopped": ["time"] * 3}}, False),
    # spread: clearly more than the least, clearly less than all, a factor that three seeds cannot tell
    (CHANCE, "stochastic", {"stochastic": {"finals": (0.0, 0.1, 0.2)}}, True),
    (CHANCE, "stochastic", {"stochastic": {"finals": (0.0, 0.1, 0.2), "stopped": ["time"] * 3}}, None),
    (CHANCE, "stochastic", {}, None),
    # the kind that spreads least was cut off on its way: that is no end to compare with
    (CHANCE, "stochastic", {"stochastic": {"finals": (0.0, 0.1, 0.2)},
                            "batch": {"finals": (0.5,) * 3, "stopped": ["time"] * 3}}, None),
    (START, "batch", {"batch": {"finals": (0.0, 1e-5, 2e-5)}}, False),
    (START, "batch", {"batch": {"finals": (0.0, 0.003, 0.006)}}, None),
    (START, "batch", {name: {"finals": (0.0,), "sharp": (1.0,)} for name in ("stochastic", "mini", "batch")}, None),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "name", "given", "holds"), CASES)
def test_each_claim_is_answered(claim, name, given, holds):
    """Every claim comes out yes, no and open where it should."""
    assert answers(**given)[name, claim]["holds"] is holds


def test_networks_are_asked_what_lines_are_and_more():
    """No claim of the textbook is lost, each kind's stand together, and none is there twice."""
    asked = [(kind, claim) for kind, claim, _ in network_claims()]
    assert {(kind, claim) for kind, claim, _ in CLAIMS} < set(asked)
    assert len(asked) == len(set(asked))
    order = [kind for kind, _ in asked]
    assert order == sorted(order, key=["stochastic", "batch", "mini-batch"].index)


def test_what_cannot_be_told_says_why():
    """The reason is the evidence where nothing was tried, where seeds are too few and where a kind is on its way."""
    found = answers(
        stochastic={
            "left": excursions(reason="batch gradient descent diverged"),
            "finals": (0.0,),
            "sharp": (1.0,),
        },
        mini={"finals": (0.0,), "sharp": (1.0,)},
        batch={"finals": (0.3,), "stopped": ["time"], "sharp": (1.0,)},
    )
    assert found["stochastic", LEAVES]["evidence"] == "batch gradient descent diverged"
    assert "one seed has no spread" in found["stochastic", CHANCE]["evidence"]
    assert "batch had not arrived" in found["stochastic", FLATTER]["evidence"]
    assert "1 had not stopped gaining" in found["batch", WORSE]["evidence"]


def test_a_falling_rate_is_told_where_noise_is_judged():
    """Whether it settles is told together with what its rate had fallen to, and not where it did not fall."""
    assert "had fallen to 6.2 % of the first" in answers()["stochastic", "It cannot settle"]["evidence"]
    steady = answers(stochastic={"falling": False})["stochastic", "It cannot settle"]
    assert "fallen" not in steady["evidence"]
    assert steady["holds"] is False


def test_a_tenth_of_the_way_is_counted_from_each_seeds_own_start():
    """A seed that starts lower than the others has not made progress by that."""
    one = kind("stochastic")
    for seed in (1, 2):
        one.columns()[seed]["loss"][0] = 0.6
    assert one.seconds_to_share(0.1).median == 1.0
