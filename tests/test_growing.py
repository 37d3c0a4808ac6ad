"""Batches that grow where the rate would fall: as much noise is left in a step, on a clock of rows."""

from dataclasses import replace
from math import ceil, cos, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import descend
from descend import growing
from descend.engines.base import Rule, State
from descend.errors import InputError
from descend.growing import Growth, grown, in_words, measure_growth, staged
from descend.recipe import Phase
from descend.updates import OPTIMIZERS
from descend.updates.schedules import find_schedule

X = np.random.default_rng(0).normal(size=(2000, 5)).astype(np.float32)
NUMBERS = X @ np.arange(1.0, 6.0) + np.random.default_rng(1).normal(size=2000)
CLASSES = np.where(X[:, 0] * X[:, 1] > 0.0, "yes", "no")


def falling(optimizer="sgd", shares=(1.0, 0.25, 0.0625), batch_size=32, **options):
    rule = Rule(OPTIMIZERS[optimizer], 0.4, **options)
    return tuple(
        Phase(optimizer, replace(rule, rate=share * rule.rate), batch_size, epochs=3) for share in shares
    )


def whole(schedule, epochs, batch_size=32):
    rule = Rule(OPTIMIZERS["sgd"], 1.0, schedule=find_schedule(schedule), num_steps=7 * epochs)
    return Phase("sgd", rule, batch_size, epochs)


@pytest.fixture
def cheap(monkeypatch):
    """A machine on which eight times more rows are cheap, and no more."""
    for module in ("fitting", "networks.fitting"):
        monkeypatch.setattr(f"descend.{module}.measure_growth", lambda *_: Growth(8, 1.7))


def test_rows_take_the_place_of_the_rate():
    """Where all growth is cheap the rate stays, and a quarter of it is four times the rows."""
    phases = grown(falling(), Growth(64, None))
    assert [phase.batch_size for phase in phases] == [32, 128, 512]
    assert [phase.rule.rate for phase in phases] == [0.4, 0.4, 0.4]


def test_the_rate_falls_by_what_is_left():
    """Where twice the rows are cheap and four times are not, the rate falls by the other half, and then alone."""
    phases = grown(falling(), Growth(2, 1.5))
    assert [phase.batch_size for phase in phases] == [32, 64, 64]
    assert [phase.rule.rate for phase in phases] == pytest.approx([0.4, 0.2, 0.05])


def test_nothing_cheap_changes_nothing():
    """At a size above the knee the phases are those that were given."""
    assert grown(falling(), Growth(1, 1.9)) == falling()


@given(st.sampled_from(["sgd", "momentum", "adam", "rmsprop"]), st.integers(0, 10), st.floats(0.001, 1.0))
def test_as_much_noise_is_left(name, doublings, share):
    """Rate over rows, of Adam and its kin over their root, is as where the rate falls alone; no rate is higher."""
    before = falling(name, (1.0, share))
    after = grown(before, Growth(2**doublings, None))
    root = 0.5 if OPTIMIZERS[name].scale_free else 1.0
    for one, other in zip(before, after, strict=True):
        assert other.rule.rate / other.batch_size**root == pytest.approx(one.rule.rate / one.batch_size**root)
        assert other.rule.rate <= 0.4 * (1 + 1e-9)


def test_a_sum_over_more_rows_gets_a_smaller_rate():
    """With reduction "sum" a step of four times the rows is four times as long by itself."""
    phases = grown(falling(sum_rows=True), Growth(64, None))
    assert [phase.batch_size for phase in phases] == [32, 128, 512]
    assert [phase.rule.rate for phase in phases] == pytest.approx([0.4, 0.1, 0.025])


def test_stages_are_those_of_the_schedule():
    """Step: thirds of the epochs. Cosine and linear: each epoch at its own rate, the last above zero."""
    assert [(stage.epochs, stage.rule.rate) for stage in staged(whole("step", 9), 9)] == [
        (3, 1.0),
        (3, pytest.approx(0.1)),
        (3, pytest.approx(0.01)),
    ]
    cosine = [stage.rule.rate for stage in staged(whole("cosine", 8), 8)]
    assert cosine == pytest.approx([0.5 + 0.5 * cos(pi * epoch / 8) for epoch in range(8)])
    linear = staged(whole("linear", 4), 4)
    assert [stage.rule.rate for stage in linear] == [1.0, 0.75, 0.5, 0.25]
    assert sum(stage.epochs for stage in linear) == 4
    assert {stage.rule.schedule for stage in linear} == {0}


class Machine:
    """An engine whose steps take a + b · rows on a clock of their own."""

    def __init__(self, step, row):
        self.step, self.row, self.now = step, row, 0.0

    def run(self, state, rule, order, batch_size):
        assert rule.rate == 1e-30
        self.now += len(order) / batch_size * (self.step + self.row * batch_size)

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(("knee", "most"), [(1.0, 1), (100.0, 2), (250.0, 4), (1e6, 16)])
def test_growth_ends_at_the_knee(knee, most, monkeypatch):
    """t(2B) < 1.3 t(B) holds below 3/7 of the knee: that is where growing ends, or where the rate falls no more."""
    machine = Machine(knee * 1e-6, 1e-6)
    monkeypatch.setattr(growing, "time", machine)
    growth = measure_growth(machine, State(np.zeros(3)), falling(), np.arange(10**6))
    assert growth.most == most
    assert (growth.dearer is None) == (most == 16)
    assert growth.dearer is None or growth.dearer == pytest.approx(
        (knee + 64 * most) / (knee + 32 * most), rel=1e-6
    )


def test_an_epoch_keeps_some_batches(monkeypatch):
    """However cheap more rows are, four batches are left of the rows that there are."""
    machine = Machine(1.0, 1e-9)
    monkeypatch.setattr(growing, "time", machine)
    growth = measure_growth(machine, State(np.zeros(3)), falling(), np.arange(600))
    assert growth == Growth(4, None)
    assert "too few rows" in in_words(falling(), Growth(1, None))


def test_a_linear_model_grows_with_its_schedule(cheap):
    """By thirds of the epochs: 32 rows, then eight times as many, and the rate falls by the rest."""
    model = descend.LinearRegressor(
        optimizer="sgd", schedule="step", epochs=9, batch_size="growing", random_state=0
    ).fit(X, NUMBERS)
    history = model.history_
    sizes, rates = np.array(history["batch_size"]), np.array(history["learning_rate"])
    assert list(dict.fromkeys(sizes.tolist())) == [32, 256]
    visits = history.last["rows"] // 9
    assert history.last["epoch"] == 9.0
    assert history.last["updates"] == 3 * ceil(visits / 32) + 6 * ceil(visits / 256)
    assert rates[sizes == 256][0] / rates[0] == pytest.approx(0.8)
    assert rates[-1] / rates[0] == pytest.approx(0.08)
    assert (
        "growing where the rate would fall: 32, 256; 512 rows take 1.7 times as long" in model.plan_.explain()
    )
    assert model.batch_size_ == 32
    assert model.score(X, NUMBERS) > 0.95


def test_a_plateau_lets_batches_grow(cheap):
    """Where the schedule would divide the rate by ten, there are eight times more rows at eight tenths of it."""
    history = (
        descend.LinearClassifier(
            optimizer="sgd", schedule="plateau", learning_rate=0.5, batch_size="growing", random_state=0
        )
        .fit(X, X[:, 0] > 0.1)
        .history_
    )
    sizes, rates = np.array(history["batch_size"]), np.array(history["learning_rate"])
    assert set(sizes.tolist()) == {32, 256}
    assert set(rates[sizes == 32].tolist()) == {0.5}
    assert rates[sizes == 256][0] == pytest.approx(0.4)
    assert history.stopped == "converged"


@pytest.mark.parametrize("optimizer", ["auto", "sgd"])
def test_a_network_grows_from_phase_to_phase(cheap, optimizer):
    """Its rate falls by a quarter, twice: SGD's batches are 4 and 8 times larger, Adam's 8 times at once."""
    options = {"hidden_layer_sizes": 8, "optimizer": optimizer, "random_state": 0, "batch_size": "growing"}
    one, other = (descend.MLPClassifier(**options).fit(X, CLASSES) for _ in range(2))
    sizes = list(dict.fromkeys(one.history_["batch_size"]))
    assert sizes == ([32, 256] if optimizer == "auto" else [32, 128, 256])
    assert all(np.array_equal(a, b) for a, b in zip(one.coefs_, other.coefs_, strict=True))
    assert one.score(X, CLASSES) > 0.9


def test_few_rows_begin_with_all_of_them():
    """Twenty rows are one batch, and nothing grows."""
    model = descend.MLPRegressor(4, batch_size="growing", epochs=8, random_state=0).fit(X[:20], NUMBERS[:20])
    assert set(model.history_["batch_size"]) == {20}
    assert "growing, but these are all the rows" in model.plan_.explain()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (descend.LinearRegressor, {}, "needs a learning rate that falls"),
        (descend.LinearRegressor, {"optimizer": "sgd"}, "needs a learning rate that falls"),
        (descend.LinearRegressor, {"optimizer": "lbfgs"}, "does not go with optimizer 'lbfgs'"),
        (descend.LinearRegressor, {"optimizer": "saga"}, "does not go with optimizer 'saga'"),
        (
            descend.LinearRegressor,
            {"optimizer": "sgd", "schedule": "inverse-scaling"},
            "does not go with schedule inverse-scaling",
        ),
        (descend.MLPRegressor, {"learning_rate": 0.1}, "needs a learning rate that falls"),
    ],
)
def test_where_no_rate_falls_it_is_refused(model, options, message):
    """What would not grow is named before anything is trained."""
    with pytest.raises(InputError, match=message):
        model(batch_size="growing", **options).fit(X, NUMBERS)
