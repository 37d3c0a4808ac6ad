"""``compare`` of networks: the same start for all kinds, and what is measured of where they ended."""

import json
from dataclasses import replace

import numpy as np
import pytest

from descend import compare
from descend.comparing.compared import Networks
from descend.comparing.ends import FEWEST_PASSES, MOST_PASSES, SHARE, shared_passes
from descend.comparing.network_valleys import NetworkObjective, with_lengths_of
from descend.comparing.valleys import MOST_REPEATS
from descend.errors import InputError
from descend.features import prepare
from descend.networks.fitting import fit_network
from descend.report import comparison_text, render_page
from descend.settings import Settings
from descend.sources import array_source, open_source
from descend.target_objective import loss_unit


@pytest.fixture(scope="module")
def iris():
    return compare(
        "sklearn:iris", model="mlp", hidden_layer_sizes=(5,), activation="tanh", epochs=120, seeds=2, random_state=3
    )  # fmt: skip


@pytest.fixture(scope="module")
def diabetes():
    return compare(
        "sklearn:diabetes", model="mlp", hidden_layer_sizes=6, epochs=8, seeds=1, batch_sizes=(1, 16, 64, "full")
    )  # fmt: skip


ALL = ["iris", "diabetes"]


@pytest.mark.parametrize("name", ALL)
def test_the_record_holds_what_was_measured_of_the_ends(name, request):
    """Strict JSON; a sharpness for each seed, a wall for each pair of ends, the network's shape in the settings."""
    record = request.getfixturevalue(name).record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    seeds = len(record["settings"]["seeds"])
    for run in record["runs"]:
        assert len(run["sharpness_found"]) == seeds
        values = [one["value"] for one in run["sharpness_found"]]
        assert (run["sharpness"]["low"], run["sharpness"]["high"]) == (min(values), max(values))
        assert set(run["excursions"]) == {"reason", "passes", "found", "diverged"}
    kinds = len(record["runs"])
    assert len(record["valleys"]["walls"]) == kinds * (kinds - 1) / 2
    assert record["settings"]["model"] == "mlp"
    assert len(record["claims"]) == 22


def test_a_seed_moves_the_start_and_all_kinds_share_it(iris):
    """All kinds begin at the same loss with the same seed, and at another with another; so does the full batch."""
    starts = [[h["columns"]["loss"][0] for h in run["histories"]] for run in iris.runs]
    assert starts[0] == pytest.approx(starts[1], rel=1e-12)
    assert starts[0] == pytest.approx(starts[2], rel=1e-12)
    assert starts[0][0] != starts[0][1]
    batch = iris.runs[2]
    assert batch["kind"] == "batch"
    assert len({h["columns"]["loss"][-1] for h in batch["histories"]}) == 2
    assert iris.record["first_loss"] == pytest.approx(np.median(starts[0]))


def test_a_long_full_batch_runs_with_every_seed(monkeypatch):
    """Unlike that of a linear model, the full batch of a network is not run once for all: its start moves."""
    monkeypatch.setattr("descend.comparing.summary.REPEAT_SECONDS", 0.0)
    ends = {}
    for model in ("linear", "mlp"):
        found = compare("sklearn:iris", model=model, batch_sizes=("full",), epochs=3, seeds=2)
        ends[model] = {h["columns"]["loss"][-1] for h in found.runs[0]["histories"]}
    assert (len(ends["linear"]), len(ends["mlp"])) == (1, 2)


def test_the_start_is_the_one_that_runs_start_from():
    """The gradient's noise is measured where the runs of the first seed begin."""
    ready = prepare(open_source("sklearn:iris"), validation=0.0)
    settings = Settings(hidden=(5,), optimizer="sgd", batch_size=1, epochs=1, seed=4)
    engine, parameters = Networks().start(ready, settings)
    run = fit_network(ready, settings, keep_path=True)
    assert (run.path[0] == parameters).all()
    assert run.history["loss"][0] == pytest.approx(engine.mean_loss(parameters), rel=1e-12)


def test_the_same_seed_is_the_same_comparison(iris):
    """With a number of epochs what is measured of the ends repeats to the last bit."""
    again = compare(
        "sklearn:iris", model="mlp", hidden_layer_sizes=(5,), activation="tanh", epochs=120, seeds=2, random_state=3
    )  # fmt: skip

    def measured(found):
        return (
            [(run["final_loss"], run["sharpness_found"], run["excursions"]) for run in found.runs],
            found.record["valleys"],
            found.record["surface"],
        )

    assert measured(again) == measured(iris)


def test_excursions_are_told_or_the_reason_is(iris, diabetes):
    """Of long runs every kind has one for each place; of short ones the reason says how many passes there were."""
    valleys = iris.record["valleys"]
    assert valleys["passes"] >= FEWEST_PASSES
    tried = [len(run["excursions"]["found"]) + run["excursions"]["diverged"] for run in iris.runs]
    assert tried == ([0] * 3 if valleys["reason"] else [len(valleys["gained"])] * 3)
    short = diabetes.record["valleys"]
    assert f"passes for each walk, and {FEWEST_PASSES} are needed" in short["reason"]
    leaves = [c for c in diabetes.claims if c["claim"] == "Its noise lets it leave local minima"]
    assert [c["holds"] for c in leaves] == [None, None]
    assert all(c["evidence"] == short["reason"] for c in leaves)


def test_the_budget_of_the_excursions_is_half_of_the_runs():
    """All walks together make no more passes than half of those that the runs made, and no place gets too few."""
    for all_passes in (10, 90, 400, 1320, 50_000):
        for kinds in (2, 3, 5):
            places, passes = shared_passes(all_passes, kinds, 3)
            assert 1 <= places <= 3
            assert passes <= MOST_PASSES
            assert places * passes * (2 * kinds + MOST_REPEATS) <= SHARE * all_passes
            assert places == 1 or passes >= FEWEST_PASSES


def test_the_surface_goes_through_the_ends(iris):
    """The loss at a grid point near an end is near the end's, and the way there begins at the common start."""
    surface = iris.record["surface"]
    assert surface["through"] == "ends"
    starts = [(path["x"][0], path["y"][0]) for path in surface["paths"]]
    np.testing.assert_allclose(starts, [starts[0]] * 3, atol=1e-6)
    for path, run in zip(surface["paths"], iris.runs, strict=True):
        assert path["off"][1] == pytest.approx(0.0, abs=1e-5)
        column = int(np.argmin(np.abs(np.array(surface["x"]) - path["x"][-1])))
        row = int(np.argmin(np.abs(np.array(surface["y"]) - path["y"][-1])))
        end = run["histories"][0]["columns"]["loss"][-1]
        assert surface["loss"][row][column] == pytest.approx(end, abs=0.1)


def test_sharpness_does_not_depend_on_the_precision_of_training():
    """A place has one sharpness, whether it is given in float32 or in float64."""
    ready = prepare(open_source("sklearn:iris"), validation=0.0)
    settings = Settings(hidden=(5,), activation="tanh", epochs=30, optimizer="sgd", batch_size=8)
    run = fit_network(ready, settings)
    from descend.networks.planning import resolve_network

    plan = resolve_network(ready.train, ready.target, settings, 1)
    objective = NetworkObjective(ready.train, plan.loss, plan.penalty, plan.network, 150)
    at = run.model.parameters
    one, other = objective.sharpness(at), objective.sharpness(at.astype(np.float64))
    assert one.value == pytest.approx(other.value, rel=1e-6)
    assert objective.sharpness(np.full_like(at, np.nan)) is None
    direction = np.random.default_rng(0).normal(size=plan.network.size)
    made = with_lengths_of(plan.network, direction, at)
    for (weights, intercepts), (own, _) in zip(plan.network.parts(made), plan.network.parts(at), strict=True):
        np.testing.assert_allclose(np.linalg.norm(weights, axis=0), np.linalg.norm(own, axis=0), rtol=1e-5)
        assert not intercepts.any()


@pytest.mark.parametrize("name", ALL)
def test_page_and_terminal_tell_of_the_ends(name, request):
    """Both have the section, the sharpness of every kind, the walls and every claim."""
    found = request.getfixturevalue(name)
    page, text = render_page(found.record), comparison_text(found.record, width=200)
    for shown in (page, text):
        assert "Where they ended" in shown
        assert "Largest eigenvalue" in shown
        assert "straight lines between the ends" in shown
        for claim in found.claims:
            assert claim["claim"] in shown
    assert "through three of the ends" in page
    assert 'id="sharpness"' in page


def test_the_frame_has_medians_of_sharpness(iris):
    """``to_frame`` has no nested values and the median of the seeds' sharpness."""
    frame = iris.to_frame()
    assert list(frame["sharpness"]) == [run["sharpness"]["median"] for run in iris.runs]
    assert not any(isinstance(value, (dict, list)) for value in frame.to_numpy().ravel())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "tree"}, "model 'tree' is not known; choose one of: linear, mlp"),
        ({"hidden_layer_sizes": (5,)}, 'hidden_layer_sizes describes a network: give model="mlp"'),
        ({"activation": "tanh"}, "activation describes a network"),
        ({"model": "mlp", "hidden_layer_sizes": (0,)}, "hidden_layer_sizes holds 0"),
        ({"model": "mlp", "activation": "rulu"}, "activation 'rulu' is not known"),
        ({"model": "mlp", "optimizer": "saga"}, "optimizer is 'saga', which networks do not take"),
    ],
)
def test_what_does_not_fit_is_named(given, told):
    """A setting that does not go with the model is refused by name."""
    with pytest.raises(InputError, match="^" + told.replace("(", r"\(").replace(")", r"\)")):
        compare("sklearn:iris", **given)


def test_a_rate_that_proves_too_high_is_lowered():
    """Where the ladder's rate lets batch gradient descent blow up later, the run goes on from its best place."""
    ready = prepare(open_source("sklearn:breast_cancer"), validation=0.0)
    settings = Settings(optimizer="sgd", hidden=(8,), batch_size=32)
    stopped = [fit_network(ready, replace(settings, seed=seed)).stopped for seed in range(4)]
    assert "diverged" not in stopped


def test_progress_begins_before_the_ladder():
    """The first that is heard of every run is its loss before any step, though a ladder comes before the epochs."""
    heard = {}
    found = compare(
        "sklearn:iris",
        model="mlp",
        hidden_layer_sizes=(4,),
        epochs=3,
        seeds=2,
        progress=lambda kind, size, seed, seen: heard.setdefault((kind, size, seed), seen),
    )
    assert len(heard) == 6
    for (kind, _, seed), first in heard.items():
        run = next(run for run in found.runs if run["kind"] == kind)
        assert (first.updates, first.rows, first.seconds) == (0, 0, 0.0)
        assert first.loss == pytest.approx(run["histories"][seed]["columns"]["loss"][0], rel=1e-12)


def test_rungs_are_told_as_all_rows_would_have_it():
    """The first row of the history is the loss of all rows, and a rung's is as far above the first rows' as that."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 3))
    y = X[:, 0] + np.where(np.arange(2000) < 512, 0.1, 3.0) * rng.normal(size=2000)
    ready = prepare(array_source(X, y), validation=0.0, shuffle=False)
    settings = Settings(hidden=(4,), optimizer="sgd", epochs=1, batch_size=16, shuffle=False)
    run = fit_network(ready, settings)
    engine, parameters = Networks().start(ready, settings)
    unit = loss_unit(ready.target)
    assert run.history["loss"][0] == pytest.approx(engine.mean_loss(parameters) * unit, rel=1e-9)
    assert engine.mean_loss(parameters, 512) < 0.5 * engine.mean_loss(parameters)
    assert run.history["loss"][1] > 0.7 * run.history["loss"][0]


def test_rows_kept_in_small_numbers_give_what_they_say():
    """A comparison of rows in 8 bits is that of the same numbers in float32, ends and their sharpness too."""
    X = np.random.default_rng(0).integers(0, 255, size=(2100, 500)).astype(np.uint8)
    y = (X[:, 0].astype(int) + X[:, 1] > 250).astype(int)
    shape = {"model": "mlp", "hidden_layer_sizes": (4,), "learning_rate": 0.01, "epochs": 2}
    small, large = (
        compare(rows, y, batch_sizes=(64, "full"), seeds=1, **shape) for rows in (X, X.astype(np.float32))
    )
    for one, other in zip(small.runs, large.runs, strict=True):
        assert one["final_loss"] == pytest.approx(other["final_loss"], rel=1e-4)
        assert one["sharpness"]["median"] == pytest.approx(other["sharpness"]["median"], rel=1e-2)
