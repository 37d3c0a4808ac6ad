"""``configure_batch_size`` on tables: what it promises is what a run then does."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

import descend
from descend.batch_size.plan import BOUNDS
from descend.engines.mlp import NetworkEngine
from descend.errors import InputError, ModelFileError
from descend.features import prepare
from descend.settings import Settings
from descend.sources import array_source
from descend.table_trainer import TableTrainer

KEYS = {
    "batch_size", "microbatch", "accumulation", "learning_rate", "optimizer", "momentum", "threads", "device",
    "bound_by", "equivalent", "matters", "predicted", "evidence", "tuning_seconds",
}  # fmt: skip
SECONDS = 4.0


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def plan(digits):
    return descend.configure_batch_size(*digits, seconds=SECONDS)


def test_the_plan_has_every_key(plan):
    """What programs read is there, JSON-able, and of the documented kind."""
    record = json.loads(json.dumps(plan.record, allow_nan=False))
    assert set(record) >= KEYS
    assert record["bound_by"] in BOUNDS
    assert set(record["predicted"]) >= {"step_seconds", "peak_bytes", "seconds_to_target"}
    assert set(record["evidence"]) >= {"step_seconds", "steps_to_target", "memory_bytes"}
    assert plan.microbatch * plan.accumulation >= plan.batch_size
    assert plan.equivalent[0] <= plan.batch_size <= plan.equivalent[1]
    assert plan.optimizer == "sgd"
    assert plan.momentum is None
    assert plan.explain().startswith(f"Take batches of {plan.batch_size} rows at learning rate")


def test_a_run_needs_the_steps_that_the_plan_says(plan, digits):
    """``compare`` at the plan's size and rate reaches the plan's target after as many updates, for the same seeds."""
    comparison = descend.compare(
        *digits,
        batch_sizes=(plan.batch_size,),
        learning_rate=plan.learning_rate,
        target_loss=plan.record["target_loss"],
        seeds=3,
        validation_fraction=0.0,
    )
    run = comparison.runs[0]
    assert run["target_reached"] == 3
    assert run["updates_to_target"]["median"] == plan.evidence["steps_to_target"][str(plan.batch_size)]


def test_the_rows_stay_as_they_are(digits):
    """Nothing that was given is changed by all the runs."""
    X, y = (array.copy() for array in digits)
    descend.configure_batch_size(X, y, seconds=0.5)
    assert np.array_equal(X, digits[0])
    assert np.array_equal(y, digits[1])


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_other_optimizers_have_plans_too(digits, optimizer):
    """The optimizer that was named is the plan's; momentum is said where there is one."""
    plan = descend.configure_batch_size(*digits, optimizer=optimizer, seconds=SECONDS)
    assert plan.record["told"]
    assert plan.optimizer == optimizer
    assert plan.momentum == (0.9 if optimizer == "momentum" else None)


def test_a_network_has_a_plan(digits):
    """A network's default is adam; the target is one that its pilot run reached within the budget."""
    plan = descend.configure_batch_size(*digits, model="mlp", hidden_layer_sizes=16, seconds=6.0)
    assert plan.optimizer == "adam"
    assert plan.record["target_share"] in (0.01, 0.05, 0.2)
    assert plan.evidence["steps_to_target"]


def test_numbers_are_predicted_in_their_units():
    """For a regression the losses are in the target's units: ½ of the squared deviation before the first step."""
    X, y = load_diabetes(return_X_y=True)
    plan = descend.configure_batch_size(X, y, seconds=2.0)
    assert plan.record["first_loss"] == pytest.approx(0.5 * y.var(), rel=1e-6)
    assert plan.record["best_loss"] < plan.record["target_loss"] < plan.record["first_loss"]


def test_twenty_rows_have_a_plan(digits):
    """A table of 20 rows ends at once, with a size that it has."""
    plan = descend.configure_batch_size(digits[0][:20], digits[1][:20] % 2, seconds=2.0)
    assert 1 <= plan.batch_size <= 20


def test_no_time_is_no_answer(digits):
    """A hundredth of a second: a size from the machine alone, called what it is, and no time to the target."""
    plan = descend.configure_batch_size(*digits, seconds=0.01)
    assert not plan.record["told"]
    assert plan.predicted["seconds_to_target"] is None
    assert plan.explain().startswith("It cannot be told in this budget")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_loss": 5.0}, r"target loss 5 is met before the first step \(2\.30259\)"),
        ({"target_loss": 1e-6}, r"target loss 1e-06 cannot be reached: 0\.0\d+ is the lowest"),
        ({"optimizer": "lbfgs"}, r"optimizer is 'lbfgs', which works out its own steps"),
        ({"optimizer": "sdg"}, r"optimizer 'sdg' is not known"),
        ({"model": "tree"}, r"model 'tree' is not known; choose one of: linear, mlp"),
        ({"seconds": 0}, r"time is 0; a number above 0 is needed"),
    ],
)
def test_what_cannot_be_is_refused(digits, options, message):
    """Each refusal names the argument, the value and what is accepted."""
    with pytest.raises(InputError, match=message):
        descend.configure_batch_size(*digits, **{"seconds": 1.0} | options)


def test_a_target_that_is_met_is_refused_before_anything_is_trained(digits, monkeypatch):
    """No first run is made where nothing is left to do."""
    from descend import configuring

    monkeypatch.setattr(configuring, "fit", None)
    with pytest.raises(InputError, match=r"target loss 5 is met before the first step"):
        descend.configure_batch_size(*digits, target_loss=5.0)


def test_a_first_run_takes_half_of_the_budget_at_the_most(digits, monkeypatch):
    """A linear fit that is not certified in time claims no lowest loss: a target below it is tried for."""
    from descend import configuring

    seen = []
    fit = configuring.fit

    def one_epoch(prepared, settings, **options):
        seen.append(settings.seconds)
        return fit(prepared, replace(settings, epochs=1), **options)

    monkeypatch.setattr(configuring, "fit", one_epoch)
    plan = descend.configure_batch_size(*digits, target_loss=1e-6, seconds=2.0)
    assert seen == [1.0]
    assert not plan.record["told"]


def test_a_ladder_takes_its_share_of_what_is_left(digits, monkeypatch):
    """A rate that is looked for when the time is over is no reason for a hundred steps over every row."""
    settings = Settings(optimizer="sgd", hidden=(8,)).checked()
    trainer = TableTrainer(prepare(array_source(*digits)), settings, "mlp")
    steps = []
    run = NetworkEngine.run
    monkeypatch.setattr(NetworkEngine, "run", lambda *args: (steps.append(1), run(*args)))
    trainer.deadline = time.perf_counter()
    assert trainer.first_rate(trainer.num_rows) > 0.0
    assert not steps
    trainer.deadline = time.perf_counter() + 60.0
    assert trainer.first_rate(64) > 0.0
    assert steps


def test_columns_that_leave_the_range_of_the_numbers_are_refused():
    """Columns around 1e18, taken as they are, have squares whose sum is no float32: the column is named."""
    X = (1e18 * np.random.default_rng(0).normal(size=(3000, 2))).astype(np.float32)
    with pytest.raises(InputError, match=r"column 'x0' has numbers around 1e\+18.*standardise"):
        descend.configure_batch_size(X, X[:, 0] > 0, standardize=False, seconds=2.0)


def test_columns_without_use_are_said():
    """Nothing can be gained from columns that are all the same number."""
    with pytest.raises(InputError):
        descend.configure_batch_size(np.ones((50, 3)), np.arange(50) % 2, seconds=1.0)


def test_a_plan_is_saved_and_read(plan, tmp_path):
    """What is read is what was saved; a file that is something else is named."""
    path = plan.save(tmp_path / "plan.json")
    assert descend.Plan.load(path).record == json.loads(json.dumps(plan.record))
    with pytest.raises(InputError, match="exists"):
        plan.save(path)
    other = tmp_path / "other.json"
    other.write_text('{"format": "descend.history"}')
    with pytest.raises(ModelFileError, match=r"descend\.plan"):
        descend.Plan.load(other)
    other.write_text("{")
    with pytest.raises(ModelFileError, match="no saved plan"):
        descend.Plan.load(other)
    with pytest.raises(InputError, match="cannot be read"):
        descend.Plan.load(tmp_path / "none.json")


def test_progress_is_told(digits):
    """A caller who watches sees sizes timed first and branches afterwards."""
    seen = []
    descend.configure_batch_size(
        *digits,
        seconds=2.0,
        progress=lambda found: seen.append((len(found.times.sizes), len(found.branches))),
    )
    assert seen[0] == (0, 0)
    assert seen[-1][0] >= 8
    assert seen[-1][1] >= 3


def test_every_fitted_estimator_says_what_it_settled(digits, tmp_path):
    """``plan_`` has the size and the rate that were taken, with the reasons, also of a model that is loaded."""
    X, y = digits
    with pytest.raises(AttributeError):
        _ = descend.LinearClassifier().plan_
    model = descend.MLPClassifier(8, epochs=2, random_state=0).fit(X, y)
    assert model.plan_.batch_size == 32
    assert model.plan_.learning_rate == model.history_["learning_rate"][0]
    assert model.plan_.matters is None
    model.save(tmp_path / "model.descend")
    assert descend.load(tmp_path / "model.descend").plan_.record == model.plan_.record
    asked = descend.LinearClassifier(batch_size=7, optimizer="sgd", learning_rate=0.25, epochs=1).fit(X, y)
    assert (asked.plan_.batch_size, asked.plan_.learning_rate) == (7, 0.25)
    assert asked.plan_.explain().startswith(
        "Batches of 7 rows: as asked. Learning rate 0.25 of sgd: as asked."
    )


def test_a_memory_limit_is_kept_or_refused(digits):
    """A limit that the process is above is refused with what it holds; a plan within one has a peak within it."""
    with pytest.raises(
        InputError, match=r"memory limit 1 MB is too low: with the rows in it the process holds \d+"
    ):
        descend.configure_batch_size(*digits, memory_limit=10**6, seconds=1.0)
    with pytest.raises(InputError, match="memory_limit is '2GB'"):
        descend.configure_batch_size(*digits, memory_limit="2GB", seconds=1.0)
    limit = 8 * 10**9
    assert (
        0
        < descend.configure_batch_size(*digits, memory_limit=limit, seconds=1.0).predicted["peak_bytes"]
        <= limit
    )


def test_runs_that_come_to_hold_more_than_the_limit_are_refused(digits, monkeypatch):
    """A limit between what is held and what runs take is found too low by the runs, and said to be."""
    from descend import machine

    monkeypatch.setattr(machine, "held_bytes", lambda: 9 * 10**12)
    with pytest.raises(
        InputError, match="runs on these rows, at whatever batch size, come to hold 9,000,000 MB"
    ):
        descend.configure_batch_size(*digits, memory_limit=8 * 10**12, seconds=1.0)


def test_a_step_is_predicted_as_it_is_in_a_run(plan):
    """Seconds of a step are those of the runs that reached the target; the curve has those of steps alone."""
    predicted = plan.predicted
    steps = plan.evidence["steps_to_target"][str(plan.batch_size)]
    assert predicted["step_seconds"] * steps == pytest.approx(predicted["seconds_to_target"], rel=0.3)


def test_compiling_is_not_taken_off_the_budget(digits, monkeypatch):
    """Two seconds of compiling in a first run leave a budget of one second whole: the target is reached in it."""
    from descend import configuring
    from descend.engines import kernel_cache

    compiled = [0.0]
    monkeypatch.setattr(kernel_cache, "seconds_compiling", lambda: compiled[0])
    fit = configuring.fit

    def slowly(*args, **options):
        time.sleep(2.0)
        compiled[0] += 2.0
        return fit(*args, **options)

    monkeypatch.setattr(configuring, "fit", slowly)
    assert descend.configure_batch_size(*digits, seconds=1.0).record["told"]


def test_the_peak_is_that_of_a_process_that_compiles_nothing(digits, monkeypatch):
    """What compiling has left this process with is not in the predicted peak."""
    _, before, after = (_peak_with(monkeypatch, digits, left) for left in (0, 0, 30_000_000))
    assert before - after == pytest.approx(30e6, abs=5e6)


def _peak_with(monkeypatch, digits, left):
    monkeypatch.setattr("descend.engines.kernel_cache.bytes_left_by_compiling", lambda: left)
    return descend.configure_batch_size(*digits, seconds=1.0).predicted["peak_bytes"]
