"""Steps that only rounding tells apart come to an end."""

import numpy as np
import pytest

from descend import LinearClassifier
from descend.engines.base import Rule, State
from descend.engines.closing import Closing
from descend.engines.gaps import Certified
from descend.engines.lbfgs import IDLE, Memory
from descend.engines.linear import LinearEngine
from descend.objectives.losses import find_loss
from descend.objectives.penalties import Penalty
from descend.types import Dataset
from descend.updates import OPTIMIZERS


def rare_columns(seed, classes):
    """Thirty rows of rare columns, targets by chance: nothing to learn but by heart."""
    rng = np.random.default_rng(seed)
    X = (rng.random((30, 90)) < 10 ** rng.uniform(-3, -0.3, 90)) * 1.0
    return X, rng.integers(0, classes, 30)


@pytest.mark.parametrize("optimizer", ["newton", "lbfgs"])
def test_steps_at_the_lowest_place_end(optimizer):
    """Within a few hundred steps at the lowest place only rounding is left to gain, and the memory says so."""
    X, labels = rare_columns(0, 3)
    y = labels[:, None].astype(np.float64)
    engine = LinearEngine(Dataset(X, y), find_loss("log_loss", "classification", 3), Penalty(1e-2))
    state = State(np.zeros((3, 91)))
    rule = Rule(OPTIMIZERS[optimizer], 1.0)
    for _ in range(300):
        engine.run(state, rule, None, 0)
        if state.memory.stuck:
            break
    assert state.memory.stuck
    assert np.abs(state.memory.gradient).max() < 1e-12


def test_a_gradient_that_shrinks_is_no_idling():
    """Where the value stands still and the gradient still falls, steps go on; where both stand still they end."""
    memory = Memory(value=1.0)
    assert not any(memory.has_idled(0.9**step) for step in range(3 * IDLE))
    idled = [memory.has_idled(0.9 ** (3 * IDLE)) for _ in range(2 * IDLE + 1)]
    assert 1 <= sum(idled) <= 2


def test_newton_is_certified_where_values_differ_by_rounding_only():
    """A difference in the last digit of the loss is no gain to hold against the certificate, whose limit is below."""
    X, y = rare_columns(7, 20)
    with pytest.warns(UserWarning, match="unique classes"):
        model = LinearClassifier(optimizer="newton", batch_size="full", random_state=0).fit(X, y)
    assert model.history_.rule == "certified"
    assert model.n_iter_ < 30
    assert model.history_.gap_bound < 1e-15


@pytest.mark.parametrize("optimizer", ["newton", "lbfgs"])
def test_a_run_ends_where_no_certificate_is_believed(optimizer, monkeypatch):
    """Where rounding is all that is left to gain the run ends and says so, though no certificate does."""
    monkeypatch.setattr(Certified, "close", lambda *_, **__: Closing(1.0, None, False, None))
    monkeypatch.setattr(Certified, "gap_bound", lambda *_: None)
    X, y = rare_columns(0, 3)
    model = LinearClassifier(optimizer=optimizer, batch_size="full", alpha=1e-2, tol=1e-30).fit(X, y)
    assert (model.history_.stopped, model.history_.rule) == ("converged", "nothing gained")
    assert len(model.history_["loss"]) < 400
