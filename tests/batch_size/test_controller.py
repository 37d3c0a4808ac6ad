"""What moves the learning rate while training goes on: its decisions on numbers, on a quadratic, and in a fit."""

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest
from sklearn.datasets import load_digits

from descend import MLPClassifier, MLPRegressor
from descend.averaging import TailAverage
from descend.batch_size.controller import MOST_TAKEN_BACK, Controller, Course, decide
from descend.engines.base import State
from descend.features import prepare
from descend.networks import fitting as network_fitting
from descend.networks.fitting import fit_network
from descend.networks.planning import resolve_network
from descend.settings import Settings
from descend.sources import array_source

COURSE = Course(first=2.0, lowest=1.0)


# --- numbers in, decision out ------------------------------------------------------------------------


def test_noise_above_what_is_gained_halves_the_rate():
    """Last weights nine times as far above their average as that has gained: noise; seven times: not."""
    course, verdict = decide(COURSE, last=0.99 + 0.09, average=0.99)
    assert (verdict, course.rate, course.lowest) == ("noisy", 0.5, 0.99)
    course, verdict = decide(COURSE, last=0.99 + 0.07, average=0.99)
    assert (verdict, course.rate, course.lowest) == ("stay", 1.0, 0.99)


def test_noise_takes_the_rate_to_its_floor_and_no_lower():
    """However often noise is told, the rate ends at the lowest one, and one that is lower already stays."""
    course = COURSE
    for _ in range(10):
        course, _ = decide(course, last=1.2, average=1.0)
    assert course.rate == course.lowest_rate
    assert decide(replace(course, rate=0.01), last=1.2, average=1.0)[0].rate == 0.01


def test_a_gain_without_noise_doubles_the_rate_up_to_its_cap():
    """Without noise the rate doubles while it gains, and never goes above the highest one."""
    course = replace(COURSE, highest_rate=4.5)
    rates = []
    for loss in (0.9, 0.8, 0.7, 0.6):
        course, _ = decide(course, last=loss, average=loss)
        rates.append(course.rate)
    assert rates == [2.0, 4.0, 4.0, 4.0]


def test_without_any_noise_the_search_takes_strides_of_four():
    """An average above the last weights quadruples the rate while it is being looked for, and never past the edge."""
    for course, rate in ((COURSE, 4.0), (replace(COURSE, edge=3.0), 2.0), (replace(COURSE, chances=0), 2.0)):
        assert decide(course, last=0.8, average=0.81)[0].rate == rate


def test_above_the_ladders_edge_a_window_that_gains_nothing_is_taken_back():
    """Two windows with hardly any noise lead above the edge; what gains nothing there is never tried again."""
    course = replace(COURSE, edge=1.5)
    for noisy in (0.88, 0.86):  # noise of a third of what was gained leads up to the edge, and not above it
        course, verdict = decide(course, last=noisy, average=noisy - 0.04)
        assert (verdict, course.rate) == ("stay", 1.0)
    for loss, rate in ((0.7, 1.0), (0.6, 2.0)):
        course, _ = decide(course, last=loss, average=loss)
        assert course.rate == rate
    failed, verdict = decide(course, last=0.62, average=0.61)
    assert (verdict, failed.rate) == ("astray", 1.0)
    assert failed.highest_rate < 2.0
    gained, verdict = decide(course, last=0.58, average=0.55)
    assert (verdict, gained.rate) == ("stay", 2.0)
    assert decide(gained, last=0.56, average=0.57)[1] == "stay"  # the trial is over


def test_above_the_edge_no_rate_is_looked_for_once_a_window_was_noisy():
    """What a noisy window brought down comes back to the edge and no further."""
    course = replace(COURSE, edge=1.5, chances=0)
    for loss in (0.8, 0.7, 0.6, 0.5):
        course, _ = decide(course, last=loss, average=loss)
    assert course.rate == 1.0


@pytest.mark.parametrize(("last", "average"), [(1.02, 1.04), (1.1, 1.3), (1.0, 1.0), (1.2, 1.25)])
def test_what_got_worse_never_raises_the_rate(last, average):
    """Where nothing was gained and the average is worse still, which looks like no noise, the rate does not rise."""
    assert decide(COURSE, last, average)[0].rate <= 1.0


@pytest.mark.parametrize(("last", "average"), [(inf, 0.9), (nan, nan), (nan, 0.9), (1.6, 1.7), (5.0, None)])
def test_steps_that_went_astray_halve_the_rate_for_good(last, average):
    """A loss that is not a number, or that lost half of what was gained: half the rate, which never comes back."""
    course, verdict = decide(COURSE, last, average)
    assert (verdict, course.rate, course.lowest) == ("astray", 0.5, 1.0)
    for loss in (0.9, 0.8, 0.7):
        course, _ = decide(course, last=loss, average=loss)
    assert course.rate == 0.5


def test_an_average_that_swung_out_is_noise():
    """The last weights are as good as ever, but their average tells of a swing: the rate falls."""
    assert decide(COURSE, last=0.95, average=1.2)[1] == "noisy"


def test_the_rate_is_looked_for_boldly_until_a_window_is_noisy():
    """Noise of half of what is gained doubles the rate, and its floor, at first; behind a noisy window neither."""
    course, verdict = decide(COURSE, last=0.85, average=0.8)
    assert (verdict, course.rate, course.lowest_rate) == ("calm", 2.0, 0.5)
    course, verdict = decide(course, last=1.2, average=0.79)
    assert (verdict, course.rate) == ("noisy", 1.0)
    course, verdict = decide(course, last=0.65, average=0.6)
    assert (verdict, course.rate, course.lowest_rate) == ("stay", 1.0, 0.5)


def test_momentum_has_a_second_chance():
    """With two chances the first noisy window does not end the bold search, and the second does."""
    course = replace(COURSE, chances=2)
    for noisy, chances in ((1.2, 1), (1.3, 0), (1.3, 0)):
        course, verdict = decide(course, last=noisy, average=1.0)
        assert (verdict, course.chances) == ("noisy", chances)


def test_the_way_back_to_a_noisy_rate_takes_two_calm_windows():
    """The window behind a noisy one looks calm by that one's steps in its average: one such changes nothing."""
    course, _ = decide(replace(COURSE, rate=2.0), last=1.2, average=1.0)
    assert (course.rate, course.noisy_rate) == (1.0, 2.0)
    rates = []
    for loss in (0.9, 0.8):
        course, _ = decide(course, last=loss, average=loss + 0.01)
        rates.append(course.rate)
    assert rates == [1.0, 2.0]


def test_without_an_average_the_rate_only_falls_where_steps_go_astray():
    """Noise is not known then: neither a gain nor a small loss moves the rate."""
    assert decide(COURSE, last=0.5, average=None)[1] == "stay"
    assert decide(COURSE, last=1.1, average=None)[1] == "stay"


def test_on_the_plateau_of_a_constant_the_rate_stays():
    """Where the network is no better than a constant noise does not lower the rate, and a gain does not raise it."""
    plateau = replace(COURSE, constant=1.0)
    assert decide(plateau, last=1.05, average=0.999)[1] == "stay"
    assert decide(plateau, last=0.96, average=0.96)[1] == "stay"
    assert decide(plateau, last=0.9, average=0.9)[1] == "calm"


# --- a quadratic -------------------------------------------------------------------------------------

CURVATURES = np.logspace(0, -2, 20)
STEEPEST = 1.0


class Bowl:
    """½ Σ h w², walked by steps whose gradients have known noise, as a watch would let a controller see them."""

    def __init__(self, noise, rate, highest=inf, lowest=1 / 64):
        self.noise, self.rate, self.random = noise, rate, np.random.default_rng(0)
        self.state, self.tail = State(np.ones(20)), TailAverage()
        self.controller = Controller(self.loss, self.state, lowest=lowest)
        self.controller.limit(highest)
        self.controller.begin(self.state)

    @staticmethod
    def loss(w):
        with np.errstate(over="ignore", invalid="ignore"):
            return float(0.5 * np.sum(CURVATURES * np.square(w)))

    def walk(self, steps):
        state = self.state
        for _ in range(steps):
            noise = self.noise * self.random.standard_normal(20)
            with np.errstate(over="ignore", invalid="ignore"):
                state.parameters -= state.pace * self.rate * (CURVATURES * state.parameters + noise)
            state.steps += 1
            state.visits += 32
            state.num_averaged += 1
            state.average += (state.parameters - state.average) / state.num_averaged
            self.tail.close_if_due(state)
            taken_back = state.visits >= self.controller.next_visit and self.controller.look(
                state, self.tail.parameters(state)
            )
            if taken_back:
                self.tail.begin_anew(state)
        return self


def test_without_noise_the_rate_rises_to_what_curvature_allows():
    """From 1 / 64 of 1 / h, below a cap of 2 / h over 1.9, the rate rises to 1 / h and stays there."""
    bowl = Bowl(noise=0.0, rate=1 / 64, highest=64 * 2 / 1.9).walk(10_000)
    assert bowl.state.pace * bowl.rate == pytest.approx(1.0 / STEEPEST)
    assert "astray" not in bowl.controller.verdicts


def test_without_a_cap_it_comes_back_from_above_the_edge():
    """Nobody told where steps overshoot: the rate ends no higher than 2 / h, the loss below that of 1 / 64."""
    bowl = Bowl(noise=0.0, rate=1 / 64).walk(10_000)
    assert "astray" in bowl.controller.verdicts
    assert 0.5 < bowl.state.pace * bowl.rate <= 2.0 / STEEPEST
    slow = Bowl(noise=0.0, rate=1 / 64, highest=1.0).walk(10_000)
    assert bowl.loss(bowl.state.parameters) < 0.1 * slow.loss(slow.state.parameters)


def test_noise_brings_the_rate_down_and_the_last_weights_with_it():
    """At rate r noise alone holds the loss at r · σ² · d / 4 and more; the controller's ends 16 times below that."""
    bowl = Bowl(noise=1.0, rate=0.5, highest=2.0).walk(60_000)
    stays_at = 0.5 * 1.0**2 * 20 / 4
    assert bowl.state.pace <= 1 / 16
    last = np.mean([bowl.loss(bowl.walk(100).state.parameters) for _ in range(20)])
    assert last < stays_at / 8


# --- its hands ---------------------------------------------------------------------------------------


def test_steps_that_went_astray_are_taken_back():
    """The parameters are those with which the window began, and what momentum remembers is forgotten."""
    state = State(np.ones(20))
    controller = Controller(Bowl.loss, state, lowest=0.25)
    controller.begin(state)
    state.parameters[:] = 1e9
    state.first[:] = 7.0
    assert controller.look(state, None)
    assert np.array_equal(state.parameters, np.ones(20))
    assert not state.first.any()
    assert state.pace == 0.5
    assert "went astray" in controller.reason


def test_it_gives_up_in_the_end():
    """Where no rate helps steps are taken back a limited number of times."""
    state = State(np.ones(20))
    controller = Controller(Bowl.loss, state, lowest=0.25)
    taken_back = [controller.look(state, None, astray=True) for _ in range(MOST_TAKEN_BACK + 5)]
    assert taken_back == [True] * MOST_TAKEN_BACK + [False] * 5


def test_it_says_with_how_much_of_the_rate_training_begins():
    """A start at more than the rate is the state's pace and in the reason, and moves are counted from there."""
    state = State(np.ones(20))
    controller = Controller(Bowl.loss, state, lowest=1.0)
    assert controller.reason == ""
    controller.start_at(state, 10 / 3)
    assert state.pace == 10 / 3
    assert controller.reason == "begun at 3.33 times that"
    controller.begin(state)
    state.parameters[:] = 1e9
    controller.look(state, None)
    assert state.pace == 5 / 3
    assert controller.reason.startswith(
        "begun at 3.33 times that and moved 1 time, between 1.67 and 3.33 times that"
    )


def test_a_start_that_other_rows_find_bad_is_refused():
    """Weights of the ladder whose loss over all rows is far above the first give way to the first ones."""
    state = State(np.ones(20))
    controller = Controller(Bowl.loss, state, lowest=0.25)
    state.parameters[:] = 0.5
    assert not controller.refuses(state, Bowl.loss(state.parameters))
    assert controller.refuses(state, nan)
    assert np.array_equal(state.parameters, np.ones(20))


# --- in a fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_digits_are_learnt_with_nothing_set_but_the_optimizer(optimizer):
    """From the ladder's rate, or the rule's, more than 95 % of 540 digits that were not trained on are told."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[540:], order[:540]
    model = MLPClassifier(optimizer=optimizer, random_state=0).fit(X[train], y[train])
    assert model.score(X[test], y[test]) > 0.95


@pytest.mark.parametrize(("hidden", "times"), [((20,), 4.0), ((100,), 10 / 3), ((400,), 1.0)])
def test_a_rule_begins_with_as_much_as_every_unit_can_bear(hidden, times):
    """Adam begins at four times the rule's rate, or where a unit's score may move by 1, and never below the rule."""
    prepared = prepared_waves()
    settings = Settings(hidden=hidden, epochs=1)
    rule = resolve_network(prepared.train, prepared.target, settings, 1).rate.value
    run = fit_network(prepared, settings)
    assert run.history.columns["learning_rate"][0] == run.rate.value == pytest.approx(times * rule)


def test_a_rule_may_rise_to_twice_what_it_begins_with():
    """However calm, Adam's rate ends no higher than at eight times the rule, or twice what units can bear."""
    highest = {}
    for hidden, begun in ((20, 4.0), (100, 10 / 3)):
        run = fit_network(prepared_waves(), Settings(hidden=(hidden,), epochs=60))
        highest[hidden] = max(run.history.columns["learning_rate"]) / run.rate.value
        assert run.rate.value == pytest.approx(3e-3 * begun)
    assert highest == pytest.approx({20: 2.0, 100: 2.0})


def test_windows_have_enough_steps():
    """Of batches of 200 rows a window has twelve steps and not 1,500 rows; of large ones it keeps to 3,000 rows."""
    first = {}
    for size in (1, 200, 2000):
        controller = Controller(Bowl.loss, State(np.ones(20)), lowest=0.25, batch_size=size)
        controller.begin(State(np.ones(20)))
        first[size] = controller.next_visit
    assert first == {1: 1500, 200: 2400, 2000: 3000}


def heavy_tailed(num_rows=4000):
    """Rows of which one in 400 is ten to sixty times as long as the others."""
    random = np.random.default_rng(0)
    X = random.normal(size=(num_rows, 10))
    X[::400] *= random.uniform(10, 60, size=(len(X[::400]), 1))
    y = np.abs(X[:, 0]) + X[:, 1] + 0.1 * random.normal(size=num_rows)
    return X, y


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_rare_long_rows_do_not_end_a_run(optimizer):
    """A rate that a few rows of the ladder allowed, and that long rows later do not, is lowered; training goes on."""
    X, y = heavy_tailed()
    model = MLPRegressor(optimizer=optimizer, batch_size=8, random_state=0).fit(X, y)
    assert model.history_.stopped != "diverged"
    assert model.score(X, y) > 0.9
    assert "went astray" in model.model_.summary["learning_rate_reason"]


def prepared_waves():
    X = np.random.default_rng(0).uniform(-2, 2, size=(3000, 2))
    return prepare(array_source(X, y=np.sin(2 * X[:, 0]) * X[:, 1]), validation=0.1)


def test_results_do_not_depend_on_who_looks():
    """A run that is looked at often, one that is not, and one with a slow onlooker end with the same weights."""
    how = {"optimizer": "momentum", "batch_size": 8, "epochs": 6, "early_stopping": True}

    def dawdle(_):
        for _ in range(20_000):
            pass

    ends = [
        fit_network(prepared_waves(), Settings(**how, dense=dense), callbacks).model.parameters
        for dense, callbacks in ((False, ()), (True, ()), (True, (dawdle,)))
    ]
    assert np.array_equal(ends[0], ends[1])
    assert np.array_equal(ends[1], ends[2])


def test_the_levels_are_in_the_history_and_the_looks_on_the_clock(monkeypatch):
    """Each rate that the controller gave stands in the history, and what its looks take is counted."""
    moved = []

    class Slow(Controller):
        def look(self, state, average, astray=False):
            import time

            time.sleep(0.02)
            taken_back = super().look(state, average, astray)
            moved.append(state.pace)
            return taken_back

    monkeypatch.setattr(network_fitting, "Controller", Slow)
    run = fit_network(prepared_waves(), Settings(optimizer="momentum", batch_size=8, epochs=20))
    rates = np.array(run.history.columns["learning_rate"]) / run.rate.value
    assert len(set(moved)) > 1
    assert all(np.isclose(rates, pace).any() for pace in moved[:-1])
    assert run.history.last["seconds"] > 0.02 * len(moved)
