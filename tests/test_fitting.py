"""One training run put together: the optimum, the same bits anywhere, and divergence with a name."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from descend.batches import order
from descend.engines.reference import ReferenceEngine
from descend.errors import InputError
from descend.features import prepare
from descend.fitting import fit
from descend.machine import num_threads
from descend.objectives.losses import find_loss
from descend.objectives.penalties import Penalty
from descend.settings import Settings
from descend.sources import array_source
from descend.target_objective import loss_unit
from descend.updates import OPTIMIZERS

LOADERS = {"breast_cancer": load_breast_cancer, "diabetes": load_diabetes, "iris": load_iris}
ALPHA = 1e-2


def prepared(name, dtype=np.float64, validation=0.0, **options):
    X, y = LOADERS[name](return_X_y=True)
    return prepare(array_source(X.astype(dtype), y), validation=validation, **options)


def objective(ready, parameters, alpha=ALPHA):
    loss = find_loss(None, ready.target.task, ready.target.num_outputs)
    return ReferenceEngine(ready.train, loss, Penalty(alpha)).mean_loss(np.asarray(parameters, float))


def optimum(ready):
    """The objective's lowest value, by scikit-learn."""
    X, y, n = ready.train.X, ready.train.y[:, 0], ready.train.num_rows
    if ready.target.task == "regression":
        model = Ridge(alpha=n * ALPHA).fit(X, y)
    else:
        model = LogisticRegression(C=1 / (n * ALPHA), tol=1e-10, max_iter=10_000).fit(X, y)
    k = ready.target.num_outputs
    return np.hstack([model.coef_.reshape(k, -1), np.reshape(model.intercept_, (k, 1))])


@pytest.mark.parametrize("name", LOADERS)
def test_rows_are_standardised_as_scikit_learn_does(name):
    """The rows that are trained on are StandardScaler's, to 1e-6, in another order."""
    ready = prepared(name, dtype=np.float32)
    expected = StandardScaler().fit_transform(LOADERS[name](return_X_y=True)[0])
    for mine, theirs in zip(ready.train.X.T, expected.T, strict=True):
        np.testing.assert_allclose(np.sort(mine), np.sort(theirs), atol=1e-6)


@pytest.mark.parametrize("optimizer", ["auto", "sgd", "momentum", "nesterov"])
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
@pytest.mark.parametrize("name", LOADERS)
def test_every_kind_ends_near_scikit_learns_optimum(name, batch_size, optimizer):
    """With nothing tuned, the gap to the lowest objective closes to a thousandth of what there was to gain."""
    ready = prepared(name)
    lowest = objective(ready, optimum(ready))
    run = fit(ready, Settings(batch_size=batch_size, optimizer=optimizer, alpha=ALPHA, tol=1e-4))
    first = objective(ready, np.zeros_like(run.model.parameters))
    gap = (objective(ready, run.model.parameters) - lowest) / (first - lowest)
    assert -1e-9 < gap < 1e-3
    assert run.stopped == "converged"


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_called_certified_is(name):
    """Left to itself, the run ends with a gap below ``tol`` of what was gained, at several tolerances."""
    ready = prepared(name)
    lowest = objective(ready, optimum(ready))
    for tol in (1e-2, 1e-4, 1e-8):
        for batch_size in (1, 32, "full"):
            run = fit(ready, Settings(batch_size=batch_size, alpha=ALPHA, tol=tol))
            first = objective(ready, np.zeros_like(run.model.parameters))
            gap = (objective(ready, run.model.parameters) - lowest) / (first - lowest)
            assert gap < tol + 1e-9


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_parameters_are_those_of_scikit_learn(name):
    """A long full-batch run has scikit-learn's parameters to 1e-6."""
    ready = prepared(name)
    run = fit(ready, Settings(batch_size="full", alpha=ALPHA, tol=1e-14))
    np.testing.assert_allclose(run.model.parameters, optimum(ready), atol=1e-6)


# --- rows held out that prefer knowing nothing -------------------------------------------------------


@pytest.mark.parametrize(("share", "trained"), [(0.03, True), (0.3, False)])
def test_few_rows_held_out_do_not_bring_the_constant_model_back(share, trained):
    """Of rows that are all told wrong, fewer than 30 leave a trained model, more do not, and a note says so."""
    ready = prepared("breast_cancer", validation=share)
    settings = Settings(early_stopping=True)
    assert not any("knows nothing" in note for note in fit(ready, settings).history.notes)
    held_out = replace(ready.validation, y=1.0 - ready.validation.y)
    assert (held_out.num_rows < 30) == trained
    run = fit(replace(ready, validation=held_out), settings)
    (note,) = (note for note in run.history.notes if "knows nothing" in note)
    assert note.startswith(f"the {held_out.num_rows} validation rows like the model best that knows nothing")
    assert bool(run.model.parameters[:, :-1].any()) == ("too few to go by" in note) == trained


# --- the last row of the history -------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
@pytest.mark.parametrize("settings", [{}, {"epochs": 3}, {"optimizer": "sgd"}, {"early_stopping": True}])
def test_the_last_row_is_the_returned_model_in_the_users_units(name, batch_size, settings):
    """The objective of the saved parameters, in the target's own units, is the history's last loss."""
    ready = prepared(name, validation=0.2)
    run = fit(ready, Settings(batch_size=batch_size, alpha=ALPHA, **settings))
    expected = objective(ready, run.model.parameters) * loss_unit(ready.target)
    assert run.history.last["loss"] == pytest.approx(expected, rel=1e-9)
    weights, intercept = run.model.in_units()
    if name == "diabetes":
        X, y = load_diabetes(return_X_y=True)
        half_squares = 0.5 * (X @ weights.T + intercept - y[:, None]) ** 2
        whole = run.history.last["loss"] * ready.train.num_rows / ready.num_rows
        assert half_squares.mean() == pytest.approx(whole, rel=0.3)


def test_squared_error_is_told_in_the_targets_units():
    """A target a thousand times larger has a loss a million times larger, and the same run."""
    X, y = load_diabetes(return_X_y=True)
    histories = []
    for factor in (1.0, 1000.0):
        ready = prepare(array_source(X, factor * y), validation=0.1)
        histories.append(fit(ready, Settings(optimizer="sgd", epochs=5)).history)
    np.testing.assert_allclose(np.array(histories[0]["loss"]) * 1e6, histories[1]["loss"], rtol=1e-9)
    first = histories[0]["loss"][0]
    assert first == pytest.approx(0.5 * np.var(y), rel=0.05)


# --- the same bits anywhere ------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np
from descend.features import prepare
from descend.fitting import fit
from descend.settings import Settings
from descend.sources import array_source

rng = np.random.default_rng(0)
X = rng.normal(size=(20_000, 30)).astype(np.float32)
y = X @ rng.normal(size=30) + rng.normal(size=20_000) > 0
for i, batch_size in enumerate((1, 32, "full")):
    for j, optimizer in enumerate(("auto", "sgd")):
        ready = prepare(array_source(X, y), seed=3)
        settings = Settings(batch_size=batch_size, optimizer=optimizer, epochs=6, seed=3, threads=int(sys.argv[2]))
        fit(ready, settings).model.save(f"{sys.argv[1]}/{i}{j}.descend")
"""


def without_times(header):
    """A model's header without what a clock or the number of threads may change."""
    header = json.loads(json.dumps(header))
    header["summary"].pop("seconds")
    header["history"].pop("advice")  # whether another method had been faster hangs on measured seconds
    last = {name: values[-1] for name, values in header["history"]["columns"].items() if name != "seconds"}
    header["history"]["columns"] = last  # how many looks there were hangs on the clock; the last row does not
    return header


def test_two_processes_and_any_threads_write_the_same_model(tmp_path):
    """The same seed gives the same parameters bit for bit, in another process and with 1 or 2 threads."""
    from descend.model_file import read_model

    written = []
    for name, threads in (("one", 1), ("again", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / name), str(threads)]
        subprocess.run(command, check=True)
        models = [read_model(path) for path in sorted((tmp_path / name).iterdir())]
        assert len(models) == 6
        written.append([(arrays["parameters"].tobytes(), without_times(header)) for arrays, header in models])
    assert written[0] == written[1] == written[2]


def test_equal_settings_are_equal_seeds():
    """The seed alone decides: the same one repeats to the last bit, another does not."""
    ready = prepared("breast_cancer")
    for batch_size in (1, 32):
        settings = Settings(batch_size=batch_size, optimizer="sgd", epochs=2, seed=5)
        one, same = fit(ready, settings), fit(ready, settings)
        np.testing.assert_array_equal(one.model.parameters, same.model.parameters)
        other = fit(ready, Settings(batch_size=batch_size, optimizer="sgd", epochs=2, seed=6))
        assert (one.model.parameters != other.model.parameters).any()


def test_a_fit_is_the_textbooks_loop():
    """Settings reach the loop: a run with all of them set is the reference engine over ``order``."""
    from descend.engines.base import Rule, State
    from descend.updates.schedules import find_schedule

    ready = prepared("diabetes")
    settings = Settings(batch_size=32, optimizer="momentum", momentum=0.7, learning_rate=1e-3, schedule="linear",
                        reduction="sum", alpha=0.05, epochs=3, seed=9, fit_intercept=False)  # fmt: skip
    run = fit(ready, settings)
    n = ready.train.num_rows
    how = Rule(OPTIMIZERS["momentum"], 1e-3, find_schedule("linear"), momentum=0.7, num_steps=3 * -(-n // 32),
               sum_rows=True, fit_intercept=False)  # fmt: skip
    loss = find_loss(None, "regression", 1)
    engine, state = ReferenceEngine(ready.train, loss, Penalty(0.05)), State(np.zeros((1, 11)))
    for epoch in (1, 2, 3):
        engine.run(state, how, order(9, epoch, n), 32)
    np.testing.assert_allclose(run.model.parameters, state.parameters, rtol=1e-9, atol=1e-12)
    assert run.model.parameters[0, -1] == 0.0


# --- what was asked, and what was left to descend --------------------------------------------------


@pytest.mark.parametrize("optimizer", [name for name, o in OPTIMIZERS.items() if o.elementwise])
@pytest.mark.parametrize("batch_size", [1, 50, "full"])
def test_so_many_epochs_are_exactly_so_many(optimizer, batch_size):
    """``epochs=N`` visits every row N times and takes N · ⌈n / B⌉ steps, whatever was gained."""
    ready = prepared("iris")
    run = fit(ready, Settings(batch_size=batch_size, optimizer=optimizer, learning_rate=1e-3, epochs=7))
    last = run.history.last
    steps = {1: 150, 50: 3, "full": 1}[batch_size]
    assert (last["epoch"], last["rows"], last["updates"]) == (7.0, 7 * 150, 7 * steps)
    assert run.stopped == "epochs"
    assert run.model.summary["epochs"] == 7.0


@pytest.mark.parametrize(
    ("asked", "told"), [(151, "as asked: 151 are more than the training rows"), (150, "as asked")]
)
def test_more_rows_than_there_are_is_every_row(asked, told):
    """A batch size above the training rows is the full batch's, and the reason says what was asked for."""
    run = fit(prepared("iris"), Settings(batch_size=asked, optimizer="sgd", epochs=3))
    assert (run.batch_size, run.batch_size_reason, run.history.last["updates"]) == (150, told, 3)


def test_the_automatic_batch_size_is_the_fixed_rule():
    """The automatic size is every row of a small table and 32 of a larger one, and the model says so."""
    small, large = (fit(prepared(name), Settings(epochs=1)) for name in ("iris", "breast_cancer"))
    assert (small.batch_size, large.batch_size) == (150, 32)
    for run in (small, large):
        assert "not measured" in run.batch_size_reason
        assert run.model.summary["batch_size_reason"] == run.batch_size_reason


def test_automatic_batches_are_every_row_where_weighing_rows_costs_more_than_passes():
    """Two classes on many columns, one more than a sample knows enough of; not with many classes, nor in epochs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4500, 60)).astype(np.float32)
    scores = X[:, :8] + rng.normal(size=(4500, 8))
    few, many = (
        prepare(array_source(X, y=y), task="classification")
        for y in (scores[:, 0] > 0, scores.argmax(axis=1))
    )
    whole, in_epochs, by_many = (
        fit(ready, Settings(epochs=epochs)) for ready, epochs in ((few, None), (few, 2), (many, None))
    )
    sizes = whole.batch_size, in_epochs.batch_size, by_many.batch_size
    assert sizes == (few.train.num_rows, 32, 32)
    assert (whole.stopped, whole.optimizer) == ("converged", "lbfgs")
    assert "weighing rows for batches costs more" in whole.batch_size_reason


def test_a_loss_of_the_other_task_is_refused():
    """Squared error for classes, or log loss for numbers, is refused."""
    with pytest.raises(
        InputError, match="is for regression, and the task is classification; choose one of: log_loss"
    ):
        fit(prepared("iris"), Settings(loss="squared_error"))
    with pytest.raises(
        InputError, match="is for classification, and the task is regression; choose one of: squared_error"
    ):
        fit(prepared("diabetes"), Settings(loss="log_loss"))


def test_the_sum_takes_the_means_steps():
    """With the automatic rate the sum over a batch takes the steps that its mean takes."""
    ready = prepared("breast_cancer")
    mean, total = (
        fit(ready, Settings(batch_size="full", optimizer="sgd", reduction=r, epochs=5))
        for r in ("mean", "sum")
    )
    assert mean.rate.value == pytest.approx(569 * total.rate.value)
    np.testing.assert_allclose(mean.model.parameters, total.model.parameters, rtol=1e-9)


def test_training_goes_on_from_given_parameters():
    """``initial`` is where the run starts: begun at the optimum it stays there."""
    ready = prepared("breast_cancer")
    best = optimum(ready)
    run = fit(ready, Settings(batch_size="full", alpha=ALPHA, optimizer="sgd", epochs=3), initial=best)
    assert run.history["loss"][0] == pytest.approx(objective(ready, best), rel=1e-12)
    np.testing.assert_allclose(run.model.parameters, best, atol=1e-6)


def test_the_summary_is_strict_json():
    """The summary of any run, diverged ones included, is JSON without NaN."""
    for rate in ("auto", 1e300):
        run = fit(prepared("iris"), Settings(optimizer="sgd", learning_rate=rate, epochs=3))
        json.dumps(run.model.summary, allow_nan=False)
        json.dumps(run.history.to_json(), allow_nan=False)


def test_the_path_begins_at_zero_and_holds_copies():
    """The path over the loss surface has the parameters of every look, the first all zero."""
    run = fit(prepared("iris"), Settings(optimizer="sgd", epochs=4), keep_path=True)
    assert len(run.path) == len(run.history)
    assert not run.path[0].any()
    assert (run.path[-1] != run.path[1]).any()
    assert fit(prepared("iris"), Settings(epochs=1)).path == []


def test_threads():
    """Automatic threads are at least one thread, and a number is itself."""
    assert num_threads("auto") >= 1
    assert num_threads(3) == 3


# --- divergence ------------------------------------------------------------------------------------

RATES = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0, 1e3, 1e30, 1e300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
def test_no_rate_fails_in_silence(batch_size, optimizer, dtype):
    """On raw columns a rate lowers the loss, or is told as divergence with column, and bound if there is one."""
    ready = prepared("breast_cancer", dtype=dtype, standardize=False)
    outcomes = set()
    for rate in RATES:
        for epochs in (None, 5):
            settings = Settings(
                batch_size=batch_size,
                optimizer=optimizer,
                learning_rate=rate,
                epochs=epochs,
                standardize=False,
            )
            run = fit(ready, settings, give_up_after=60)
            assert np.isfinite(run.model.parameters).all()
            last = run.history.last["loss"]
            assert last is not None
            assert last < 100
            outcomes.add(run.stopped == "diverged")
            if run.stopped == "diverged":
                (note,) = run.history.notes
                assert f"learning rate {rate:.3g}" in note
                assert ("bound 2/L = " in note) == (optimizer != "adam")  # it bounds plain steps alone
                assert "column 'x3'" in note or "column 'x23'" in note
                assert "standardise" in note
            else:
                assert run.model.parameters.any()
                assert last < np.log(2) * 1.1
    if optimizer != "adam":
        assert outcomes == {True, False}


def test_a_slow_run_names_the_column_that_holds_it_down():
    """Unscaled columns that slow the automatic rate are named, and standardised ones are not complained of."""
    ready = prepared("breast_cancer", standardize=False)
    slow = fit(ready, Settings(batch_size=32, optimizer="sgd"), give_up_after=5)
    (note,) = slow.history.notes
    assert note.startswith("slow: ")
    assert "column 'x23'" in note
    assert (
        fit(prepared("breast_cancer"), Settings(batch_size=32, optimizer="sgd", epochs=3)).history.notes == []
    )


def test_the_bound_that_is_named_is_where_descent_ends():
    """On a full batch, 0.9 of the named bound still descends and 1.2 of it diverges, on least squares."""
    ready = prepared("diabetes")
    broken = fit(ready, Settings(batch_size="full", optimizer="sgd", learning_rate=50.0, epochs=500))
    (note,) = broken.history.notes
    bound = float(note.split("2/L = ")[1].split(";")[0])
    below, above = (
        fit(ready, Settings(batch_size="full", optimizer="sgd", learning_rate=share * bound, epochs=500))
        for share in (0.9, 1.2)
    )
    assert below.stopped == "epochs"
    assert below.history.last["loss"] < 0.6 * below.history["loss"][0]
    assert above.stopped == "diverged"


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ({}, 1),
        ({"fit_intercept": False}, 0),
        ({"epochs": 3}, 0),
        ({"tol": None, "seconds": 0.01}, 0),
        ({"optimizer": "sgd", "epochs": 3}, 0),
    ],
    ids=str,
)
def test_the_best_constant_model_is_worked_out_for_the_certificate_alone(how, asked, monkeypatch):
    """Its loss takes a pass over the targets, and only a run that ends by its certificate reads it."""
    calls = []
    monkeypatch.setattr("descend.fitting.constant_loss", lambda *args: calls.append(1))
    fit(prepared("iris"), Settings(**how))
    assert len(calls) == asked
