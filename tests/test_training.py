"""The loop: what looking at it may not change, where it ends, and what an interrupted run leaves behind."""

import numpy as np
import pytest
from support import dataset, rule

import descend.watching.observing as observing
from descend.averaging import TailAverage
from descend.batches import Visits, order, rows_together
from descend.engines.base import State
from descend.engines.linear import LinearEngine
from descend.engines.reference import ReferenceEngine
from descend.objectives.penalties import Penalty
from descend.recipe import Phase
from descend.training import train
from descend.updates import OPTIMIZERS
from descend.watching import Limits, Watch

ELEMENTWISE = [name for name, optimizer in OPTIMIZERS.items() if optimizer.elementwise]
N = 300
DATA, LOSS, _ = dataset("log_loss", num_rows=N)


def run(
    optimizer="sgd", batch_size=8, epochs=10, tail=False, in_order=False, engine=None, rate=0.05, **limits
):
    """One training run over ``DATA``; ``batch_size`` 0 is the full batch. Returns parameters and watch."""
    callbacks, snapshot = limits.pop("callbacks", ()), limits.pop("snapshot", None)
    seed = limits.pop("seed", 0)
    engine = engine or LinearEngine(DATA, LOSS, Penalty(0.01), average_every=1 if tail else 0)
    watch = Watch(
        engine,
        N,
        Limits(epochs=epochs, **limits),
        tail=TailAverage() if tail else None,
        callbacks=callbacks,
        snapshot=snapshot,
    )
    phase = Phase(optimizer, rule(optimizer, rate), batch_size, epochs)
    state = State(np.zeros((1, 6)))
    return train(engine, state, [phase], Visits(N), watch, seed, in_order), watch


# --- looking changes nothing -----------------------------------------------------------------------


def textbook(optimizer, batch_size, epochs, in_order=False):
    """The loop with nobody looking: shuffle, cut, update."""
    engine, state = ReferenceEngine(DATA, LOSS, Penalty(0.01)), State(np.zeros((1, 6)))
    for epoch in range(1, epochs + 1):
        rows = np.arange(N) if in_order else order(0, epoch, N)
        engine.run(state, rule(optimizer, 0.05), rows if batch_size else None, batch_size or N)
    return state.parameters


@pytest.mark.parametrize("optimizer", ELEMENTWISE)
@pytest.mark.parametrize("batch_size", [1, 7, 64, 0])
def test_a_fixed_number_of_epochs_is_the_textbooks_loop(optimizer, batch_size):
    """Exactly so many epochs end where the plain loop over shuffled batches ends, at any batch size."""
    parameters, watch = run(optimizer, batch_size, epochs=4, tol=None, exact=True)
    np.testing.assert_allclose(parameters, textbook(optimizer, batch_size, 4), rtol=1e-9, atol=1e-12)
    steps = 4 * (1 if batch_size == 0 else -(-N // batch_size))
    assert (watch.history.last["epoch"], watch.history.last["rows"]) == (4.0, 4 * N)
    assert watch.history.last["updates"] == steps
    assert watch.stopped == "epochs"


def test_rows_in_their_own_order_are_not_shuffled():
    """With ``in_order`` every epoch walks the rows as they lie."""
    parameters, _ = run(epochs=3, tol=None, exact=True, in_order=True)
    np.testing.assert_allclose(parameters, textbook("sgd", 8, 3, in_order=True), rtol=1e-9)


def test_another_seed_is_another_run():
    """The seed reaches the order of the rows."""
    assert (run(seed=1)[0] != run(seed=2)[0]).any()
    np.testing.assert_array_equal(run(seed=1)[0], run(seed=1)[0])


class Clock:
    """A clock that a test moves: each reading takes ``tick`` seconds."""

    def __init__(self, tick):
        self.now, self.tick = 0.0, tick

    def perf_counter(self):
        self.now += self.tick
        return self.now


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8, 0])
@pytest.mark.parametrize("exact", [False, True])
def test_how_often_it_is_looked_at_changes_no_bit(tail, batch_size, exact, monkeypatch):
    """Dense looks, callbacks, snapshots, and a machine a million times slower give the same bits and the same end."""
    limits = {"tol": None if exact else 1e-3, "exact": exact, "epochs": 30}
    plain, watch = run(batch_size=batch_size, tail=tail, **limits)
    numbers = [len(watch.history)]
    for tick, extra in (
        (0.0, {"dense": True}),
        (1e-7, {}),
        (0.01, {}),
        (0.07, {"dense": True}),
        (10.0, {"callbacks": [lambda seen: None], "snapshot": lambda parameters: None}),
    ):
        monkeypatch.setattr(observing, "time", Clock(tick))
        looked_at, other = run(batch_size=batch_size, tail=tail, **limits, **extra)
        np.testing.assert_array_equal(plain, looked_at)
        assert other.stopped == watch.stopped
        ends = [w.history.last for w in (watch, other)]
        for name in ("rows", "updates", "loss", "last_loss"):
            assert ends[0][name] == ends[1][name]
        numbers.append(len(other.history))
    if batch_size:
        assert len(set(numbers)) > 2


def test_the_averages_windows_close_at_their_own_steps(monkeypatch):
    """However the run is cut, windows close at the steps 8, 12, 18, 27, … of the average's own rule."""
    for tick in (1e-7, 0.05, 10.0):
        closes = []

        class Recorded(TailAverage):
            def close_if_due(self, state, closes=closes):
                before = self.next_close
                super().close_if_due(state)
                if self.next_close != before:
                    closes.append(state.steps)

        monkeypatch.setattr(observing, "time", Clock(tick))
        engine = LinearEngine(DATA, LOSS, Penalty(0.01), average_every=1)
        watch = Watch(engine, N, Limits(epochs=1, tol=None), tail=Recorded())
        train(engine, State(np.zeros((1, 6))), [Phase("sgd", rule(), 1, 1)], Visits(N), watch)
        assert closes == [8, 12, 18, 27, 41, 62, 93, 140, 210]


# --- the last row is the model ---------------------------------------------------------------------


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8, 0])
@pytest.mark.parametrize("rate", [0.05, 1.5])
@pytest.mark.parametrize("exact", [False, True])
def test_the_last_row_is_the_model_that_is_returned(tail, batch_size, rate, exact):
    """The objective recomputed by the reference from the parameters is the history's last loss."""
    parameters, watch = run("sgd", batch_size, 20, tail, rate=rate, exact=exact, tol=None if exact else 1e-3)
    loss = ReferenceEngine(DATA, LOSS, Penalty(0.01)).mean_loss(parameters)
    assert watch.history.last["loss"] == pytest.approx(loss, rel=1e-12)
    if not exact:
        assert loss <= min(watch.history["loss"]) * (1 + 1e-12)


def test_the_average_is_returned_where_it_is_better():
    """At a rate too large to settle, the tail's average has the lower loss and is what comes back."""
    parameters, watch = run(batch_size=1, epochs=20, tail=True, rate=0.5, tol=None, exact=True)
    last = watch.history.last
    assert last["loss"] < 0.9 * last["last_loss"]
    loss = ReferenceEngine(DATA, LOSS, Penalty(0.01)).mean_loss(parameters)
    assert last["loss"] == pytest.approx(loss, rel=1e-12)


def test_the_history_is_in_order():
    """Rows, updates, epochs and seconds never fall, and begin at 0 with the loss of zero parameters, log 2."""
    _, watch = run(batch_size=8, epochs=12, dense=True, tol=None)
    for name in ("rows", "updates", "epoch", "seconds"):
        values = watch.history[name]
        assert values[0] == 0
        assert (np.diff(values) >= 0).all()
    assert watch.history["loss"][0] == pytest.approx(np.log(2))
    epochs = np.array(watch.history["rows"]) / N
    np.testing.assert_allclose(watch.history["epoch"], epochs)
    assert set(watch.history["batch_size"]) == {8}


def test_dense_looks_grow_by_a_tenth():
    """Dense looks begin with the first batches that go together, and are a tenth, or as many, apart at the most."""
    _, watch = run(batch_size=4, epochs=3, dense=True, tol=None)
    rows, together = np.unique(watch.history["rows"]).astype(int), rows_together(4)
    assert rows[1] == together
    gaps = np.diff(rows)
    assert (gaps <= np.maximum(together, np.ceil(0.1 * rows[:-1]) + together)).all()


def test_the_full_batch_is_called_all_rows():
    """The full batch's rows carry the number of all rows as their batch size."""
    _, watch = run(batch_size=0, epochs=3, tol=None)
    assert set(watch.history["batch_size"]) == {N}


# --- interrupted -----------------------------------------------------------------------------------


def interrupt_once(epoch):
    """A callback that is Ctrl-C at this epoch."""
    pressed = []

    def callback(observation):
        if observation.epoch >= epoch and not pressed:
            pressed.append(observation)
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("batch_size", [1, 8, 0])
@pytest.mark.parametrize("tail", [False, True])
def test_ctrl_c_leaves_what_was_learnt(batch_size, tail):
    """An interrupted run ends as "interrupted", with parameters better than the start and a matching last row."""
    options = {"tol": None, "rate": 0.05 if batch_size else 1.0, "callbacks": [interrupt_once(5)]}
    parameters, watch = run("sgd", batch_size, 1000, tail, **options)
    assert watch.stopped == watch.history.stopped == "interrupted"
    assert 5 <= watch.history.last["epoch"] < 1000
    loss = ReferenceEngine(DATA, LOSS, Penalty(0.01)).mean_loss(parameters)
    assert loss < 0.9 * np.log(2)
    assert watch.history.last["loss"] == pytest.approx(loss, rel=1e-12)
    assert not watch.history.stopped_by_callback


def test_a_callback_that_ends_the_run_is_not_asked_again():
    """Whoever interrupted or stopped the run hears no more of it, and cannot interrupt its end."""
    for how in ("raise", "return"):
        seen = []

        def press(observation, how=how, seen=seen):
            seen.append(observation.epoch)
            if observation.epoch >= 3 and how == "raise":
                raise KeyboardInterrupt
            return observation.epoch >= 3

        _, watch = run(epochs=50, tol=None, callbacks=[press])
        assert seen == [0.0, 1.0, 2.0, 3.0]
        assert watch.history.stopped == "interrupted"


def test_ctrl_c_inside_an_epoch_keeps_its_steps():
    """Steps of an unfinished epoch count: the parameters differ from those of the last whole one."""
    parameters, watch = run(batch_size=1, epochs=1, tol=None, dense=True, callbacks=[interrupt_once(0.5)])
    assert 0.5 <= watch.history.last["epoch"] < 1
    assert parameters.any()


def test_a_callback_may_end_the_run():
    """A callback that returns True ends the run there; other true values do not."""
    seen = []

    def stop_at_four(observation):
        seen.append(observation.epoch)
        return observation.epoch >= 4

    _, watch = run(epochs=50, tol=None, callbacks=[stop_at_four])
    assert watch.history.stopped == "interrupted"
    assert watch.history.stopped_by_callback
    assert watch.history.last["epoch"] == 4.0
    assert run(epochs=6, tol=None, callbacks=[lambda observation: "yes"])[1].stopped == "epochs"


def test_callbacks_are_told_what_the_history_says():
    """Every observation has the history's numbers, in its order, and a speed that is finite."""
    seen = []
    _, watch = run(epochs=6, tol=None, callbacks=[seen.append])
    assert len(seen) == len(watch.history)
    for i, observation in enumerate(seen):
        assert observation.rows == watch.history["rows"][i]
        assert observation.updates == watch.history["updates"][i]
        assert observation.loss == watch.history["loss"][i]
        assert np.isfinite(observation.rows_per_second)
    assert seen[-1].seconds_left == pytest.approx(0.0)


def test_an_error_in_a_callback_is_not_swallowed():
    """Any other exception of a callback comes out."""
    with pytest.raises(ZeroDivisionError):
        run(callbacks=[lambda observation: 1 / 0])
