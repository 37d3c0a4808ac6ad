"""Looks that cost little beside the steps between them, and what they say all the same (``watching/sparing.py``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import descend.watching.observing as observing
from descend.engines.mlp import NetworkEngine
from descend.features import Prepared, prepare
from descend.networks.fitting import fit_network
from descend.runs import limits_of
from descend.settings import Settings
from descend.sources import array_source
from descend.watching.sparing import EVALUATION, FEW, FIRST_WHOLE, Sparing

ROWS = 9000
HOW: dict[str, Any] = {"hidden": (8,), "batch_size": 64, "early_stopping": True, "seconds": None}


def prepared_waves() -> Prepared:
    """Waves with noise."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(ROWS, 3)).astype(np.float32)
    return prepare(
        array_source(X, y=np.sin(2 * X[:, 0]) * X[:, 1] + 0.3 * rng.normal(size=ROWS)), validation=0.1
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each evaluation read."""
    rows: list[int] = []
    mean_loss = NetworkEngine.mean_loss

    def counted(
        self: Any, parameters: Any, num_rows: int | None = None, gradient_follows: bool = False
    ) -> float:
        rows.append(self.num_rows if num_rows is None else min(num_rows, self.num_rows))
        return mean_loss(self, parameters, num_rows, gradient_follows)

    monkeypatch.setattr(NetworkEngine, "mean_loss", counted)
    return rows


@pytest.mark.parametrize(("epochs", "share"), [(4, 0.35), (40, 0.2)])
def test_looking_costs_little_beside_training(epochs: int, share: float, read: list[int]) -> None:
    """All looks of a run cost less than a third of its steps where it is short, and a fifth where it is not."""
    run = fit_network(prepared_waves(), Settings(**HOW | {"early_stopping": False}, epochs=epochs))
    trained = run.history.last["rows"] or 0.0
    assert trained == epochs * run.model.summary["rows"]
    assert EVALUATION * sum(read) < share * trained


@pytest.mark.parametrize(("epochs", "early_stopping"), [(3, True), (20, True), (3, False), (12, False)])
def test_the_last_row_tells_every_row(epochs: int, early_stopping: bool) -> None:
    """The history ends with the loss of the returned parameters over all training rows, whatever looks had read."""
    prepared = prepared_waves()
    settings = Settings(**HOW | {"early_stopping": early_stopping}, epochs=epochs)
    run = fit_network(prepared, settings)
    exact = fit_network(prepared, replace(settings, thrifty=False))
    assert np.array_equal(run.model.parameters, exact.model.parameters)
    assert run.history.last["loss"] == pytest.approx(exact.history.last["loss"], rel=1e-9)
    assert run.history.last["validation_loss"] == exact.history.last["validation_loss"]
    assert [e for e in run.history["epoch"] if e == int(e)][: epochs + 1] == list(range(epochs + 1))


def test_a_sample_unlike_the_rest_is_corrected() -> None:
    """Where the sample's rows are noisier than the others, what is told from epoch 8 on is close to the whole."""
    prepared = prepared_waves()
    y = prepared.train.y
    y[:1000] += np.random.default_rng(1).normal(size=(1000, 1))
    settings = Settings(**HOW, epochs=FIRST_WHOLE + 4)
    told = {}
    for thrifty in (True, False):
        history = fit_network(prepared, replace(settings, thrifty=thrifty)).history
        pairs = zip(history["epoch"], history["loss"], strict=True)
        told[thrifty] = {epoch: loss for epoch, loss in pairs if epoch == int(epoch or 0)}
    first, later = FIRST_WHOLE - 1, FIRST_WHOLE + 2
    assert told[True][first] > 1.3 * told[False][first]
    assert told[True][later] == pytest.approx(told[False][later], rel=0.05)


def test_when_the_clock_looks_decides_on_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at behind every call of the engine, a run ends with the same parameters at the same epoch."""
    prepared, settings = prepared_waves(), Settings(**HOW, epochs=20)
    ends = []
    for seconds in (observing.LOOK_SECONDS, 1e-9):
        monkeypatch.setattr(observing, "LOOK_SECONDS", seconds)
        run = fit_network(prepared, settings)
        ends.append((run.model.parameters.tobytes(), run.history.last["updates"], run.history.last["loss"]))
    assert ends[0] == ends[1]


def test_few_rows_held_out_are_corrected_where_they_are_asked() -> None:
    """What few rows held out are off all of them is told from the last look at all, and read only when needed."""
    losses, asked = {FEW: 3.0, None: 1.0}, []

    def loss_of(parameters: Any, rows: int | None) -> float:
        asked.append(rows)
        return losses[rows] + float(parameters[0])

    sparing, at = Sparing(), np.zeros(1)
    for _ in range(3):
        assert sparing.held_out(at, loss_of, whole=True) == 1.0
    assert asked == [None] * 3
    at += 0.25  # the run goes on in the same array
    assert [sparing.held_out(at, loss_of, whole=False) for _ in range(2)] == [1.25, 1.25]
    assert asked[3:] == [FEW] * 3


def test_who_reads_all_rows() -> None:
    """A sample tells the loss where rows are mixed and it decides on nothing; compared runs read all there is."""
    early, exact = Settings(early_stopping=True), Settings(epochs=3)
    for settings in (early, exact):
        assert limits_of(settings, 3, held_out=True, mixed=True).by_sample
        assert not limits_of(settings, 3, held_out=True).by_sample
        assert not limits_of(replace(settings, thrifty=False), 3, held_out=True, mixed=True).by_sample
    assert not limits_of(early, 3, held_out=False, mixed=True).by_sample
    assert not limits_of(replace(exact, schedule="plateau"), 3, held_out=True, mixed=True).by_sample


def test_small_sets_are_told_from_larger_ones() -> None:
    """What few rows are off the sample, and the sample off all rows, is added to what they say later."""
    losses = {FEW: 3.0, 2000: 2.0, None: 1.0}
    sparing = Sparing()
    sparing.take(20_000, most=10**6)
    assert sparing.rows == 2000
    at, average = np.zeros(1), np.ones(1)

    def loss_of(parameters: Any, rows: int | None) -> float:
        return losses[rows] - 0.5 * parameters[0]

    assert sparing.look(at, None, loss_of, 20_000, "sample").loss == 2.0
    assert sparing.look(at, average, loss_of, 20_000, "few").loss == 1.5
    whole = sparing.look(at, average, loss_of, 20_000, "whole")
    assert (whole.loss, whole.last_loss, whole.whole) == (0.5, 1.0, True)
    few = sparing.look(at, None, loss_of, 20_000, "few")
    assert (few.loss, few.whole) == (1.0, False)


def test_a_few_rows_do_not_choose_what_is_returned() -> None:
    """Where few rows like the last parameters and a tenth of all their average, a run ends with the average."""
    sparing = Sparing()
    sparing.take(20_000, most=10**6)
    at, average = np.zeros(1), np.ones(1)

    def loss_of(parameters: Any, rows: int | None) -> float:
        return 1.0 + parameters[0] * (0.1 if rows == FEW else -0.1)

    assert sparing.look(at, average, loss_of, 20_000, "sample").parameters is at
    end = sparing.look(at, average, loss_of, 20_000, "whole")
    assert end.parameters is average
    assert end.loss == pytest.approx(0.9)
