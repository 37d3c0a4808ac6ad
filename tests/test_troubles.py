"""What makes a rate or an optimum impossible is told with its name; what would be faster is told with the seconds."""

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

from descend import LinearClassifier, LinearRegressor, compare, fitting
from descend.history import History
from descend.machine import num_threads

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(600, 4)), columns=["age", "income", "height", "weight"])
SIDE = (X["age"] + RNG.normal(size=600) > 0).astype(int)


def notes_of(model, X, y, **how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return " ".join(model.fit(X, y, **how).history_.notes)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_number_is_refused_with_its_column(value):
    """The error has scikit-learn's words, and the column's name and the row besides."""
    broken = X.copy()
    broken.loc[17, "height"] = value
    with pytest.raises(ValueError, match=r"(?s)infinity.*row 17 of column 'height'"):
        LinearClassifier().fit(broken, SIDE)
    with pytest.raises(ValueError, match=r"(?s)infinity.*row 17 of column number 2"):
        LinearClassifier().fit(broken.to_numpy(), SIDE)


@pytest.mark.parametrize("value", [1e30, -1e12])
def test_one_huge_number_is_told_with_its_column(value):
    """A column whose deviation is one row's says so; a rare indicator, and one that is large all over, do not."""
    broken = X.copy()
    broken.loc[17, "height"] = value
    assert "column 'height'" in notes_of(LinearClassifier(random_state=0), broken, SIDE)
    harmless = X.assign(height=0.0, income=1e30 * X["income"])
    harmless.loc[17, "height"] = 1.0
    assert not notes_of(LinearClassifier(random_state=0), harmless, SIDE)


@pytest.mark.parametrize("optimizer", ["auto", "sgd"])
def test_a_raw_column_of_another_scale_is_told(optimizer):
    """Unscaled, one column 1e30 times the others is named, whatever the optimizer; standardised it is no trouble."""
    raw = X.assign(income=1e30 * X["income"])
    how = {"optimizer": optimizer, "random_state": 0, "epochs": 30}
    assert "column 'income'" in notes_of(LinearClassifier(standardize=False, **how), raw, SIDE)
    assert not notes_of(LinearClassifier(**how), raw, SIDE)


def test_saga_slows_down_where_columns_say_nearly_the_same():
    """Steps that few rows make too long are taken back, and go on at half the rate."""
    rng = np.random.default_rng(0)
    alike = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 60)) + 0.003 * rng.normal(size=(500, 60))
    scores = (alike - alike.mean(0)) @ rng.normal(size=(60, 2)) * 10 + rng.gumbel(size=(500, 2))
    model = LinearClassifier(optimizer="saga", batch_size=128, epochs=60, random_state=0)
    assert not notes_of(model, alike, scores.argmax(1)).startswith("diverged")
    losses, rates = model.history_["last_loss"], model.history_["learning_rate"]
    astray = int(np.argmax(np.diff(losses) > 0.02)) + 1
    assert losses[astray] > min(losses[:astray])
    assert rates[astray + 1] == 0.5 * rates[astray]
    assert losses[-1] < 0.9 * min(losses[:astray])


def test_who_takes_the_automatic_rate_is_not_advised_to(monkeypatch):
    """Diverged at that rate, a run is told of the default optimizer; at a rate of one's own, of the automatic one."""
    monkeypatch.setattr("descend.watching.watch.SLOWEST", 1.0)
    monkeypatch.setattr(
        "descend.engines.linear.saga_pace_of", lambda rule, state: (False, 1.0, 0, 1, 1e-3, 0.0)
    )
    assert 'take optimizer="auto"' in notes_of(LinearClassifier(optimizer="saga", random_state=0), X, SIDE)
    how = {"optimizer": "sgd", "learning_rate": 1e5, "random_state": 0}
    assert 'take learning_rate="auto"' in notes_of(LinearClassifier(**how), X, SIDE)


@pytest.mark.parametrize("batch_size", [1, 32, "auto"])
def test_separable_classes_without_a_penalty_have_no_optimum(batch_size):
    """With alpha 0 the note names the column that separates; with a penalty, or with noise, there is no such note."""
    side = (X["income"] > 0.2).astype(int)
    note = notes_of(LinearClassifier(penalty=None, batch_size=batch_size, random_state=0), X, side)
    assert "no finite optimum" in note
    assert "'income'" in note
    assert not notes_of(LinearClassifier(batch_size=batch_size, random_state=0), X, side)
    assert not notes_of(LinearClassifier(penalty=None, batch_size=batch_size, random_state=0), X, SIDE)


def test_three_separable_classes():
    """The same holds for softmax: one column parts three classes, or two do; with noise there is no such note."""
    plain = LinearClassifier(penalty=None, random_state=0)
    three = np.digitize(X["age"], [-0.5, 0.5])
    note = notes_of(plain, X[["age"]], three)
    assert "no finite optimum" in note
    assert "'age'" in note
    corners = np.array([[0.0, 5.0], [5.0, 0.0], [-5.0, -5.0]])[three] + 0.1 * X[["age", "income"]].to_numpy()
    assert "no finite optimum" in notes_of(plain, corners, three)
    noisy = np.digitize(X["age"] + X["income"], [-0.5, 0.5])
    assert not notes_of(plain, X[["age"]], noisy)


def test_a_row_with_all_the_weight_is_refused():
    """One weight of 1e30 beside 1s is an error that says so, not that columns are constant."""
    weights = np.ones(600)
    weights[7] = 1e30
    for optimizer in ("auto", "sgd"):
        with pytest.raises(ValueError, match=r"one row of X has the weight 1e\+30"):
            LinearClassifier(optimizer=optimizer).fit(X, SIDE, sample_weight=weights)


def test_a_target_that_says_nothing_is_told():
    """A constant target, and one with a single number of 1e30, are named."""
    assert "target 'y' is 3 in every row" in notes_of(LinearRegressor(), X, np.full(600, 3.0))
    y = X["age"].to_numpy().copy()
    y[4] = 1e30
    assert "target 'y'" in notes_of(LinearRegressor(random_state=0), X, y)
    assert not notes_of(LinearRegressor(random_state=0), X, X["age"].to_numpy())


def test_adams_divergence_quotes_no_bound():
    """2/L bounds plain steps; Adam's are as long as the rate, and its note says that."""
    note = notes_of(LinearClassifier(optimizer="adam", learning_rate=1e3, epochs=20, random_state=0), X, SIDE)
    assert "diverged" in note
    assert "2/L" not in note
    plain = LinearClassifier(optimizer="sgd", learning_rate=1e6, epochs=20, standardize=False, random_state=0)
    assert "2/L" in notes_of(plain, 5 * X, SIDE)


def test_threads_are_the_machines():
    """``auto`` is the machine's count, which a group's quota may cut."""
    from descend.machine import usable_cores

    assert num_threads("auto") == usable_cores()
    assert num_threads(3) == 3


def test_a_slow_run_is_told_what_would_be_faster():
    """A long run of SGD tells the whole-batch method's seconds; a short run, and that method, tell nothing."""
    slow = LinearClassifier(optimizer="sgd", batch_size=1, epochs=20_000, random_state=0).fit(X, SIDE)
    assert "faster here" in slow.history_.advice
    assert not slow.history_.notes
    quick = LinearClassifier(random_state=0).fit(X, SIDE)
    assert quick.history_.advice == ""
    assert History.from_json(slow.history_.to_json()).advice == slow.history_.advice
    short = LinearClassifier(optimizer="sgd", epochs=2, random_state=0).fit(X, SIDE)
    assert short.history_.advice == ""


def test_only_training_counts_for_the_advice():
    """A short run whose callback takes long is told nothing: looking at a run is not training."""
    how = {"optimizer": "sgd", "epochs": 2, "random_state": 0}
    model = LinearClassifier(callbacks=[lambda seen: time.sleep(0.2)], **how).fit(X, SIDE)
    assert model.history_.advice == ""


@pytest.mark.parametrize(
    ("how", "advised"),
    [
        ({"optimizer": "sgd"}, True),
        ({"optimizer": "saga"}, True),
        ({"optimizer": "nesterov", "batch_size": "full"}, True),
        ({"batch_size": 32}, True),
        ({"optimizer": "lbfgs"}, False),
        ({"optimizer": "newton"}, False),
        ({"batch_size": "auto"}, False),
        ({"batch_size": 600}, False),
    ],
    ids=str,
)
def test_who_works_on_every_row_is_not_advised_to(how, advised, monkeypatch):
    """L-BFGS and Newton, named or taken, are no advice to a run that goes by them."""
    monkeypatch.setattr(fitting, "faster_whole", lambda *args: "faster here")
    assert (LinearClassifier(random_state=0, **how).fit(X, SIDE).history_.advice != "") == advised


def test_compare_asks_for_no_advice(monkeypatch):
    """The runs of ``compare`` show what they show; nothing else is timed beside them."""
    monkeypatch.setattr(fitting, "faster_whole", lambda *args: pytest.fail("advice was worked out"))
    compare(X, SIDE, batch_sizes=(32, "full"), seeds=1, epochs=2)
