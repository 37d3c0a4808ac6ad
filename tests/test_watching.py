"""The watch: why a run ends, what is restored, and what does not count as training time."""

import time
from dataclasses import replace

import numpy as np
import pytest
from support import dataset, rule

import descend.watching.losses as losses
from descend.averaging import TailAverage
from descend.batches import Visits
from descend.engines.base import KeepsNothing, State
from descend.engines.linear import LinearEngine
from descend.objectives.penalties import Penalty
from descend.recipe import Phase
from descend.training import train
from descend.types import Dataset
from descend.watching import BLOW_UP, Limits, Watch


class Scripted(KeepsNothing):
    """An engine whose losses are written down: its parameters are the number of epochs done."""

    num_rows = 1000

    def __init__(self, losses):
        self.losses = losses

    def run(self, state, rule, order, batch_size):
        rows = self.num_rows if order is None else len(order)
        state.visits += rows
        state.steps += 1 if order is None else -(-rows // batch_size)
        state.parameters += rows / self.num_rows

    def mean_loss(self, parameters, num_rows=None, gradient_follows=False):
        return self.losses[min(int(parameters[0, 0] + 1e-9), len(self.losses) - 1)]


def follow(losses, validation=None, batch_size=10, held_out=1000, **limits):
    """Runs the script to its end; returns the epoch whose parameters came back, and the watch."""
    engine, epochs = Scripted(losses), len(losses) - 1
    watch = Watch(
        engine,
        engine.num_rows,
        Limits(epochs=epochs, **limits),
        validation=None if validation is None else Scripted(validation),
    )
    if validation is not None:
        watch.validation.num_rows = held_out
    phase = Phase("sgd", rule(), batch_size, epochs)
    parameters = train(engine, State(np.zeros((1, 2))), [phase], Visits(engine.num_rows), watch)
    return round(float(parameters[0, 0])), watch


FALLING = [10.0 / (1 + i) for i in range(21)]


def test_a_fixed_number_of_epochs_returns_the_last():
    """Asked for exactly so many epochs, the last one's parameters come back, better or not."""
    epoch, watch = follow([5.0, 1.0, 2.0, 3.0], exact=True, tol=None)
    assert (epoch, watch.stopped) == (3, "epochs")
    assert watch.history["loss"] == [5.0, 1.0, 2.0, 3.0]


def test_otherwise_the_best_comes_back():
    """Without that wish the lowest loss comes back, and is the history's last row."""
    epoch, watch = follow([5.0, 1.0, 2.0, 3.0], tol=None)
    assert (epoch, watch.stopped) == (1, "epochs")
    assert watch.history["loss"] == [5.0, 1.0, 2.0, 3.0, 1.0]
    assert watch.history.last["epoch"] == 3.0


@pytest.mark.parametrize(
    ("convex", "third", "returned"), [(True, 7.0, 3), (False, 7.0, 1), (True, 8.5, 2), (True, 20.0, 2)]
)
def test_rows_held_out_do_not_go_back_for_next_to_nothing(convex, third, returned):
    """Of convex objectives the last comes back that fits better and that they like less by 0.2 % of the gain."""
    losses = [10.0, 9.0, 8.0, third, *[6.0] * 10]
    watched = {"early_stopping": True, "patience": 5, "tol": None, "certify": convex}
    epoch, watch = follow(losses, [9.0, 3.0, 3.001, 3.002, *[3.01] * 10], **watched)
    assert (epoch, watch.stopped) == (returned, "early_stopping")
    assert watch.history.last["loss"] == losses[epoch]
    assert watch.best.epoch == 1


@pytest.mark.parametrize(("held_out", "convex", "returned"), [(29, True, 2), (30, True, 0), (29, False, 0)])
def test_few_rows_held_out_do_not_choose_the_beginning(held_out, convex, returned):
    """Fewer than 30 rows choose among the passes of a convex fit that were trained, more may choose the start."""
    watched = {"early_stopping": True, "patience": 5, "tol": None, "certify": convex}
    losses, validation = [10.0, 11.0, 8.0, *[7.0] * 10], [1.0, 1.5, 2.0, 2.5, *[3.0] * 9]
    epoch, watch = follow(losses, validation, held_out=held_out, **watched)
    assert (epoch, watch.stopped) == (returned, "early_stopping")
    assert watch.history.last["loss"] == losses[epoch]


def test_early_stopping_restores_the_best_validation():
    """Validation's best epoch comes back, though the training loss went on falling; patience counts from it."""
    validation = [9.0, 6.0, 4.0, 3.0, *[3.5] * 30]
    losses = [10.0 * 0.9**i for i in range(34)]
    epoch, watch = follow(losses, validation, early_stopping=True, patience=5)
    assert (epoch, watch.stopped) == (3, "early_stopping")
    assert watch.history["epoch"][-2] == 8.0
    assert watch.history.last["validation_loss"] == 3.0
    assert watch.history.last["loss"] == pytest.approx(losses[3])


def test_validation_without_early_stopping_only_looks_on():
    """Validation losses are recorded and decide nothing unless early stopping is on."""
    epoch, watch = follow(FALLING, [1.0] * 21, tol=None)
    assert (epoch, watch.stopped) == (20, "epochs")
    assert watch.history["validation_loss"] == [1.0] * 21


def test_it_ends_when_nothing_is_gained():
    """A loss that has stopped falling ends the run after the patience, as converged."""
    epoch, watch = follow([10.0, 5.0, 2.0, 1.0, *[1.0] * 60], tol=1e-3, patience=5)
    assert watch.stopped == "converged"
    assert watch.history.last["epoch"] == 8.0
    assert epoch == 3


def test_a_run_that_gains_goes_on():
    """A loss that falls by one percent of all gained within the window is not converged."""
    losses = [10.0, *[5.0 - 0.01 * i for i in range(60)]]
    assert follow(losses, tol=1e-3)[1].stopped == "epochs"
    assert follow(losses, tol=0.5)[1].stopped == "converged"


def test_without_tol_it_never_converges():
    """Tol None runs to the last epoch whatever is gained."""
    assert follow([1.0] * 40, tol=None)[1].stopped == "epochs"


@pytest.mark.parametrize("blown", [float("nan"), float("inf"), 10.0 * BLOW_UP * 1.01, 1e30])
def test_numbers_that_leave_the_range_are_divergence(blown):
    """NaN, infinity or a hundred times the first loss end the run as diverged, and the best before it comes back."""
    epoch, watch = follow([10.0, 8.0, 6.0, blown, 5.0], tol=None)
    assert (epoch, watch.stopped) == (2, "diverged")
    assert watch.history.last["loss"] == 6.0
    shown = watch.history["loss"][3]
    assert shown is None if not np.isfinite(blown) else shown == blown


class Cliff(Scripted):
    """Its loss falls with the parameters up to 2.9 and is gone beyond; an epoch moves them by the rate."""

    def __init__(self, blown, delay=0.0):
        super().__init__([])
        self.blown, self.delay = blown, delay

    def run(self, state, rule, order, batch_size):
        before = float(state.parameters[0, 0])
        super().run(state, rule, order, batch_size)
        state.parameters[:] = before + (float(state.parameters[0, 0]) - before) * rule.rate
        time.sleep(self.delay if state.parameters[0, 0] > 2.9 and order is None else 0.0)

    def mean_loss(self, parameters, num_rows=None):
        return 10.0 - parameters[0, 0] if parameters[0, 0] < 2.9 else self.blown


def over_the_cliff(blown, rates, delay=0.0, **limits):
    """Phases of these rates, each of 5 epochs; returns where it came to, and the watch."""
    engine = Cliff(blown, delay)
    watch = Watch(engine, 1000, Limits(epochs=5 * len(rates), tol=None, **limits))
    phases = [
        Phase("sgd", rule(rate=rate), 0, 5, when_flat="stop" if rate == rates[-1] else "next")
        for rate in rates
    ]
    parameters = train(engine, State(np.zeros((1, 2))), phases, Visits(1000), watch)
    return float(parameters[0, 0]), watch.stopped


@pytest.mark.parametrize("blown", [float("nan"), 10.0 * BLOW_UP * 1.01])
def test_a_phase_that_blows_up_gives_way_to_the_next(blown):
    """Where a lower rate is next, the run goes on from its best place; in the last phase it has diverged."""
    assert over_the_cliff(blown, [1.0, 0.1]) == (pytest.approx(2.5), "epochs")
    assert over_the_cliff(blown, [1.0]) == (2.0, "diverged")
    assert over_the_cliff(blown, [1.0, 0.5]) == (2.5, "diverged")
    assert over_the_cliff(blown, [1.0, 0.1], delay=0.3, seconds=0.2) == (2.0, "time")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tol", [None, 1e-3])
def test_never_below_the_start_is_divergence(exact, tol):
    """A run whose epochs all lie above its start has diverged, also where it settles there."""
    _, watch = follow([10.0, 20.0, 15.0, *[12.0] * 20], tol=tol, exact=exact)
    assert watch.stopped == "diverged"
    assert watch.history.last["loss"] == (12.0 if exact and tol is None else 10.0)


def test_data_without_signal_do_not_diverge():
    """A run that hovers a little above its start has nothing to learn, and has not diverged."""
    epoch, watch = follow([10.0, *[10.1] * 20], tol=1e-3)
    assert (epoch, watch.stopped) == (0, "converged")
    assert follow([10.0, *[10.1] * 20], tol=None, exact=True)[1].stopped == "epochs"


def test_a_run_that_begins_at_the_optimum_may_hover():
    """A run continued from parameters other than zero keeps them where it finds nothing better."""
    engine = Scripted([10.0, 10.0, *[20.0] * 20])
    watch = Watch(engine, 1000, Limits(epochs=20))
    state = State(np.ones((1, 2)))
    train(engine, state, [Phase("sgd", rule(), 10, 20)], Visits(1000), watch)
    assert watch.stopped == "converged"
    assert watch.history.last["loss"] == 10.0


def test_what_training_rows_cannot_bear_is_not_the_best():
    """Weights that validation likes best, but whose training loss has blown up, do not come back."""
    epoch, watch = follow([10.0, 8.0, 1e9, 7.0], [5.0, 4.0, 1.0, 3.0], early_stopping=True, tol=None)
    assert (epoch, watch.stopped) == (1, "diverged")


class Timid:
    """A tuner that takes back whatever went astray, as long as it has patience, and looks every 1,000 rows."""

    def __init__(self, patience=9):
        self.patience, self.next_visit, self.seen = patience, 1000, []

    def refuses(self, state, loss):
        return False

    def begin(self, state):
        self.next_visit = state.visits + 1000

    def look(self, state, average, astray):
        self.seen.append((float(state.parameters[0, 0]), astray))
        self.next_visit = state.visits + 1000
        self.patience -= astray
        return astray and self.patience >= 0


@pytest.mark.parametrize(("patience", "stopped"), [(9, "epochs"), (0, "diverged")])
def test_a_tuner_may_take_back_what_went_astray(patience, stopped):
    """A loss that blew up ends a run only where the tuner no longer goes on from the best."""
    engine = Scripted([10.0, 6.0, 4.0, float("nan"), 3.0])
    watch = Watch(engine, 1000, Limits(epochs=5, tol=None), tuner=Timid(patience))
    phase = Phase("sgd", rule(), 10, 5, tuned=True)
    parameters = train(engine, State(np.zeros((1, 2))), [phase], Visits(1000), watch)
    assert watch.stopped == stopped
    assert (2.0, True) in watch.tuner.seen
    assert parameters[0, 0] == 2.0
    assert watch.history.last["loss"] == 4.0


def test_a_tuner_is_asked_in_its_own_phases_alone():
    """A phase that is not tuned keeps its rate; one that is has its windows where the tuner wants them."""
    for tuned in (False, True):
        engine = Scripted(FALLING)
        watch = Watch(engine, 1000, Limits(epochs=4, tol=None), tuner=Timid())
        phase = Phase("sgd", rule(), 10, 4, tuned=tuned)
        train(engine, State(np.zeros((1, 2))), [phase], Visits(1000), watch)
        assert len(watch.tuner.seen) == (3 if tuned else 0)


def test_an_average_that_is_no_number_is_not_returned():
    """Where the last weights have a loss and their average has none, the last ones are what counts."""
    data, loss, _ = dataset("log_loss", num_rows=100)
    engine = LinearEngine(data, loss, Penalty(0.01), average_every=1)
    state, tail = State(np.zeros((1, 6))), TailAverage()
    watch = Watch(engine, 100, Limits(epochs=1, tol=None), tail=tail)
    state.average[:], state.num_averaged = np.nan, 1
    watch.start(state, Phase("sgd", rule(), 10, 1))
    assert watch.history.last["loss"] == pytest.approx(np.log(2.0))


def test_a_single_bad_epoch_is_not_divergence():
    """Losses may rise for a while, below a hundred times the first."""
    epoch, watch = follow([10.0, 900.0, 3.0, 2.0], tol=None)
    assert (epoch, watch.stopped) == (3, "epochs")


def test_few_updates_are_not_judged():
    """Where an epoch is one update, 50 of them pass before a gain is judged, and no more than a look's distance."""
    _, watch = follow([1.0] * 100, batch_size=0)
    assert watch.stopped == "converged"
    assert 50 <= watch.history.last["updates"] <= 1.05 * 50 + 1


# --- time ------------------------------------------------------------------------------------------


def trained(limits, callbacks=(), num_rows=3000, batch_size=16):
    data, loss, _ = dataset("log_loss", num_rows=num_rows)
    engine = LinearEngine(data, loss, Penalty(0.01))
    engine.warm_up([(rule(), batch_size)], State(np.zeros((1, 6))))
    watch = Watch(engine, num_rows, limits, callbacks=callbacks)
    phase = Phase("sgd", rule(rate=0.01), batch_size, limits.epochs)
    train(engine, State(np.zeros((1, 6))), [phase], Visits(num_rows), watch)
    return watch


def test_a_time_budget_ends_the_run():
    """A run with a tenth of a second ends as "time", long before its epochs do."""
    watch = trained(Limits(epochs=10**9, seconds=0.1, tol=None))
    assert watch.stopped == "time"
    assert watch.history.last["seconds"] >= 0.1
    assert watch.history.last["epoch"] < 10**8


def test_a_certificate_of_parameters_above_earlier_ones_needs_no_rows_held_out():
    """Where a loose certificate is of the higher ones, the lower ones are returned."""
    watch = trained(Limits(epochs=3, tol=None))
    watch.stopped, watch.certificate.certified = "converged", True
    watch.latest = replace(watch.latest, score=watch.latest.score + 1.0)
    lowest = watch.best.parameters
    assert watch.latest is not watch.best
    assert np.array_equal(watch.finish(State(np.ones((1, 6)))), lowest)


def test_observing_is_off_the_clock():
    """Callbacks that sleep 50 ms do not enter the seconds."""
    calls = []

    def slow(observation):
        calls.append(observation)
        time.sleep(0.05)

    watch = trained(Limits(epochs=20, tol=None), [slow], num_rows=500)
    assert len(calls) >= 15
    assert watch.history.last["seconds"] < 0.05 * len(calls) / 2


def test_seconds_left_follow_the_nearer_end():
    """The time left is that to the end of the budget or of the epochs, whichever is nearer, and never negative."""
    seen = []
    trained(Limits(epochs=10**9, seconds=0.05, tol=None), [seen.append])
    left = [observation.seconds_left for observation in seen]
    assert all(0 <= seconds <= 0.05 for seconds in left)
    assert left[-1] == 0.0


# --- looking at a sample ---------------------------------------------------------------------------


def test_samples_stand_for_the_whole(monkeypatch):
    """Looks inside an epoch may read a sample that is unlike the whole, and are close to the whole all the same."""
    monkeypatch.setattr(losses, "SAMPLE_ROWS", 200)
    monkeypatch.setattr(losses, "SAMPLE_NUMBERS", 0)
    data, loss, _ = dataset("log_loss", num_rows=4000)
    rng = np.random.default_rng(0)
    flips = np.where(np.arange(4000) < 200, 0.45, 0.2)[:, None]
    data = Dataset(data.X, np.where(rng.random((4000, 1)) < flips, 1 - data.y, data.y))
    engine = LinearEngine(data, loss, Penalty(0.01))
    path = []
    watch = Watch(
        engine, 4000, Limits(epochs=3, dense=True, tol=None), snapshot=lambda p: path.append(p.copy())
    )
    calls = []
    whole = engine.mean_loss
    engine.mean_loss = lambda parameters, num_rows=None: calls.append(num_rows) or whole(parameters, num_rows)
    train(engine, State(np.zeros((1, 6))), [Phase("sgd", rule(rate=0.02), 4, 3)], Visits(4000), watch)
    assert calls.count(200) > 20
    exact = [whole(parameters) for parameters in path]
    told = watch.history["last_loss"][: len(exact)]
    raw = [whole(parameters, 200) for parameters in path]
    assert np.mean(np.divide(raw, exact)[-10:]) > 1.1
    np.testing.assert_allclose(told[-10:], exact[-10:], rtol=0.04)  # the sample alone is 14 % off
    for rows, loss_told, loss_exact in zip(watch.history["rows"], told, exact, strict=False):
        if rows % 4000 == 0:
            assert loss_told == pytest.approx(loss_exact, rel=1e-12)


def test_the_unit_turns_losses_into_the_users():
    """All losses of the history are in the user's unit, and the decisions are not changed by it."""
    data, loss, _ = dataset("squared_error", num_rows=100)
    histories = []
    for unit in (1.0, 1e12):
        engine = LinearEngine(data, loss, Penalty(0.0))
        watch = Watch(engine, 100, Limits(epochs=300), unit=unit, validation=engine)
        train(engine, State(np.zeros((1, 6))), [Phase("sgd", rule(rate=0.1), 8, 300)], Visits(100), watch)
        histories.append(watch.history)
    one, large = histories
    assert one.stopped == large.stopped == "converged"
    for name in ("loss", "last_loss", "validation_loss"):
        np.testing.assert_allclose(np.array(one[name]) * 1e12, large[name], rtol=1e-12)
