"""The ladder of learning rates: it trains, stops at an edge, and gives back good weights."""

from itertools import pairwise

import numpy as np
import pytest
from support import dataset, rule

from descend.batch_size.ladder import LOOK_ROWS, climb, lowest_rate, recorded
from descend.batch_size.rungs import BriefClimb, WaryClimb, climb_rungs
from descend.engines.base import State
from descend.engines.mlp import NetworkEngine
from descend.models.network import Network, initialise
from descend.objectives.activations import ACTIVATIONS
from descend.objectives.penalties import Penalty


def ladder_of(shape="softmax", batch_size=16, optimizer="sgd", scale=1.0, average_every=0):
    data, loss, outputs = dataset(shape, 600, 8)
    data.X[:] *= scale
    network = Network((8, 20, outputs), ACTIVATIONS["relu"])
    engine, state = (
        NetworkEngine(data, loss, Penalty(1e-4), network, average_every=average_every),
        State(initialise(network, 0, np.float64)),
    )
    before = engine.mean_loss(state.parameters)
    with np.errstate(all="ignore"):
        ladder = climb(engine, state, rule(optimizer), batch_size, loss, data, seed=0)
    return ladder, before, engine, state


@pytest.mark.parametrize("batch_size", [0, 1, 16, 300])
@pytest.mark.parametrize("shape", ["softmax", "squared_error"])
def test_the_rungs_rise_to_an_edge_and_have_trained(shape, batch_size):
    """Rates rise until two in a row are too high; the weights left behind are those of the lowest rung."""
    ladder, before, engine, state = ladder_of(shape, batch_size)
    rates = [rung.rate for rung in ladder.rungs]
    assert np.isfinite(ladder.edge)
    assert rates[-1] == rates[-2] == ladder.edge
    ratios = [later / one for one, later in pairwise(rates)]
    assert all(any(ratio == pytest.approx(step) for step in (0.25, 1, 2, 8)) for ratio in ratios)
    assert engine.mean_loss(state.parameters, LOOK_ROWS) == pytest.approx(
        min(rung.loss for rung in ladder.rungs), rel=1e-9
    )
    assert engine.mean_loss(state.parameters) < before
    assert ladder.rate <= ladder.edge / 2


def rungs_of(loss_at, lowest=1.0, **options):
    """Rates that are tried where a rung ends at ``loss_at(rate)``, whatever came before; and rate and edge."""
    tried = []

    def run(rate):
        tried.append(rate)
        return loss_at(rate)

    return tried, climb_rungs(run, lambda: None, lambda _: None, lowest, before=1.0, **options)


def test_rates_far_too_low_are_passed_in_strides_and_the_others_one_by_one():
    """Eight times the rate until a tenth of the loss is gone, then twice, and the last one once more."""
    tried, (rate, edge) = rungs_of(
        lambda rate: 0.99 if rate < 64 else 9.0 if rate > 300 else 0.8 - rate / 1e4
    )
    assert tried == [1, 8, 64, 128, 256, 512, 512]
    assert (rate, edge) == (256, 512)


@pytest.mark.parametrize("edge", [3, 12, 40, 200, 700])
def test_a_stride_that_leads_too_far_is_taken_back(edge):
    """Where a stride jumps over every good rate, the ladder goes on at twice the last one that was good."""
    _, (rate, found) = rungs_of(lambda rate: 9.0 if rate > edge else 0.99 - 1e-4 * rate)
    assert edge / 2 <= rate <= edge
    assert edge <= found <= 2 * edge


@pytest.mark.parametrize(("as_good", "rate"), [(0.0, 8), (0.2, 8), (0.25, 64), (0.9, 64)])
def test_a_higher_rate_that_is_nearly_as_good_is_taken(as_good, rate):
    """A quarter of what was gained tells rungs no better apart; the edge still halves what is taken."""
    losses = {1: 0.99, 8: 0.92, 64: 0.94, 512: 9.0, 128: 9.0}
    assert rungs_of(losses.__getitem__, as_good=as_good)[1] == (rate, 128)


def test_nothing_of_the_rates_that_were_too_high_is_left_in_the_average():
    """An average that steps have blown up during the ladder does not outlive it."""
    *_, state = ladder_of("squared_error", average_every=1)
    assert state.num_averaged == 0
    assert not state.average.any()


def test_columns_a_thousand_times_as_large_only_lower_the_rates():
    """Where the ladder starts follows the curvature, so that large columns do not begin too high."""
    assert ladder_of(scale=1000.0)[0].rungs[0].loss < 1.3 * ladder_of(scale=1000.0)[1]
    data, loss, _ = dataset("softmax", 600, 8)
    small = lowest_rate(data, loss)
    data.X[:] *= 1000
    assert lowest_rate(data, loss) == pytest.approx(1e-6 * small)


def test_momentum_gets_its_share():
    """What momentum multiplies is divided out: 1 − β of the rate of plain steps."""
    plain, slow = ladder_of()[0], ladder_of(optimizer="momentum")[0]
    assert slow.rate == pytest.approx((1 - rule("momentum").momentum) * plain.rate)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_the_rate_may_rise_to_the_edge_of_plain_steps(optimizer):
    """What noise does to momentum is no bound for later, when there may be none: only the edge is, over 1.9."""
    ladder = ladder_of(optimizer=optimizer)[0]
    assert ladder.highest == pytest.approx(ladder.edge / 1.9)


def test_rungs_are_rows_of_the_history():
    """The start and each rung have their seconds, rows, steps and rate, in the order of time."""
    ladder = ladder_of()[0]
    rows = recorded(ladder, 3.0, 600, 16, unit=2.0)
    assert len(rows) == len(ladder.rungs) + 1
    assert rows[0]["loss"] == 6.0
    assert [row["updates"] for row in rows] == sorted(row["updates"] for row in rows)
    assert rows[1]["learning_rate"] == ladder.rungs[0].rate


@pytest.mark.parametrize("depth", [0.0, 0.9, 100.0])
def test_losses_below_nothing_have_rungs_too(depth):
    """A loss that falls below 0, as a likelihood may, is not too high for being no multiple of the lowest."""
    place = [1.0]

    def run(rate):
        for _ in range(3):
            place[0] -= rate * place[0]
        return place[0] ** 2 - depth

    rate, edge = climb_rungs(run, place.copy, lambda kept: place.__setitem__(0, kept[0]), 1e-3, 1.0 - depth)
    assert 0.1 < rate <= 2.0
    assert edge > 2.0


def wary(loss_at, lowest=1.0, below=4.0):
    """A wary ladder to its end: the rates that it tried, and the one whose weights are left."""
    return climbed(loss_at, lambda keep, put_back: WaryClimb(keep, put_back, lowest, 1.0, below))


def brief(loss_at, first=1.0):
    """The same of a brief one."""
    return climbed(loss_at, lambda keep, put_back: BriefClimb(keep, put_back, first, 1.0, 1.0, 2.0))


def climbed(loss_at, made):
    tried, place = [], [0.0]
    climb = made(lambda: place[0], lambda kept: place.__setitem__(0, kept))
    while not climb.is_over:
        tried.append(climb.rate)
        place[0] = climb.rate
        climb.tell(loss_at(climb.rate))
    return tried, climb.end(), climb.edge, place[0]


def test_a_wary_ladder_takes_a_constant_for_too_high():
    """Units that died have the loss of a constant, which is no multiple of the lowest: it is an edge all the same."""
    tried, rate, edge, _ = wary(lambda rate: 0.99 if rate < 8 else 0.8 if rate <= 32 else 0.95)
    assert edge == 64
    assert tried[-2:] == [64, 64]
    assert rate <= 16
    assert (
        climb_rungs(
            lambda rate: 0.99 if rate < 8 else 0.8 if rate <= 32 else 0.95 if rate < 1e3 else np.inf,
            lambda: None,
            lambda _: None,
            1.0,
            before=1.0,
        )[1]
        > 1e3
    )


def test_a_wary_ladder_goes_back_over_what_it_leapt():
    """Where the first fall comes with a stride of eight the rates below it are tried, one twice the other."""
    tried, *_ = wary(lambda rate: 0.99 if rate < 10 else 0.5 if rate < 100 else 9.0)
    assert tried == [1, 8, 64, 16, 32, 64, 128, 128]


def test_a_brief_ladder_ends_where_a_rung_gains_little_more():
    """The rate is that of the last that gained a tenth of what was gained; weights are the lowest all the same."""
    losses = {1: 0.97, 2: 0.92, 4: 0.8, 8: 0.5, 16: 0.48}
    tried, rate, edge, left = brief(losses.__getitem__)
    assert tried == [1, 2, 4, 8, 16]
    assert (rate, edge, left) == (8, np.inf, 16)


def test_a_brief_ladder_is_patient_until_the_loss_has_fallen():
    """Rungs that gain little, or nothing, do not end it before a tenth of the loss is gone."""
    tried, rate, _, _ = brief(lambda rate: 0.99 if rate < 64 else 0.5 if rate == 64 else 0.6)
    assert tried == [1, 2, 4, 8, 16, 32, 64, 128]
    assert rate == 64


def test_a_brief_ladder_tries_no_rate_twice():
    """The first that is too high ends it, from where it was before; a first rung that is leads downwards."""
    tried, rate, edge, left = brief(lambda rate: {1: 0.8, 2: 0.5}.get(rate, 9.0))
    assert (tried, rate, edge, left) == ([1, 2, 4], 2, 4, 2)
    tried, rate, edge, left = brief({1.0: 9.0, 0.125: 0.7, 0.25: 0.4, 0.5: 0.1}.__getitem__)
    assert (tried, rate, edge) == ([1.0, 0.125, 0.25, 0.5, 1.0], 0.5, 1.0)
    assert left == 0.5


@pytest.mark.parametrize("below", [4.0, 8.0])
def test_a_wary_ladder_leaves_weights_that_were_trained_no_higher(below):
    """The rate is the edge over ``below``, and the weights are those of a rung at no more than it."""
    _, rate, edge, place = wary(
        lambda rate: 0.99 if rate < 8 else 1.0 / rate if rate < 200 else 9.0, below=below
    )
    assert rate == edge / below
    assert place <= rate


@pytest.mark.parametrize("good", [0.3, 1e-3, 3e-6])
def test_a_wary_ladder_goes_down_where_its_first_rung_is_too_high(good):
    """A start that is too high by any factor up to a million is left downwards, and an edge is found there."""
    _, rate, edge, _ = wary(lambda rate: np.inf if rate > good else 0.1, lowest=1.0)
    assert good / 64 < rate <= good
    assert good <= edge


def test_a_wary_ladder_with_no_good_rung_leaves_the_start():
    """Where every rate is too high the weights are those of the start, and the ladder ends."""
    tried, rate, edge, place = wary(lambda rate: np.nan)
    assert len(tried) == 8
    assert (place, edge) == (0.0, tried[-1])
    assert rate < edge
