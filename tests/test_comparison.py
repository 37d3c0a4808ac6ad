"""``compare``: the record and its arithmetic, on small real runs and on histories made by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from descend import compare, configure_batch_size
from descend.comparing.compared import Lines, find_compared
from descend.comparing.comparison import Comparison, check_batch_sizes
from descend.comparing.gradient_noise import gradient_noise
from descend.comparing.summary import KindRuns, first_at_or_below, note_on, spread_of, summarise
from descend.errors import InputError
from descend.features import prepare
from descend.history import COLUMNS, History
from descend.learning_rate import Rate
from descend.report import render_page
from descend.runs import Run
from descend.settings import Settings
from descend.sources import open_source


@pytest.fixture(scope="module")
def digits():
    return compare("sklearn:digits", seconds=0.15, seeds=2, random_state=3)


@pytest.fixture(scope="module")
def iris():
    return compare("sklearn:iris", epochs=15, seeds=3)


@pytest.fixture(scope="module")
def diabetes():
    return compare("sklearn:diabetes", epochs=10, seeds=1, batch_sizes=(1, 16, 64, "full"))


ALL = ["digits", "iris", "diabetes"]
RUN_KEYS = {"kind", "batch_size", "learning_rate", "target_reached", "seconds_to_target", "epochs_to_target",
            "rows_to_target", "updates_to_target", "final_loss", "rows_per_second", "peak_bytes"}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_the_record_is_what_programs_are_promised(name, request):
    """The record is strict JSON with the interface's keys, its spreads, claims and target."""
    record = request.getfixturevalue(name).to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {"runs", "target_loss", "best_loss", "claims", "verdict"} <= set(record)
    for run in record["runs"]:
        assert set(run) >= RUN_KEYS
        for key in ("seconds", "epochs", "rows", "updates"):
            spread = run[f"{key}_to_target"]
            if run["target_reached"]:
                assert set(spread) == {"median", "low", "high"}
                assert spread["low"] <= spread["median"] <= spread["high"]
            else:
                assert spread is None
                assert run["note"]
        assert run["peak_bytes"] > run["working_bytes"]
    for claim in record["claims"]:
        assert set(claim) == {"claim", "kind", "holds", "evidence"}


@pytest.mark.parametrize(
    ("name", "kinds", "seeds"),
    [
        ("digits", ["stochastic", "mini-batch", "batch"], 2),
        ("iris", ["stochastic", "mini-batch", "batch"], 3),
        ("diabetes", ["stochastic", "mini-batch", "mini-batch", "batch"], 1),
    ],
)
def test_every_size_gets_a_row_and_every_seed_a_run(name, kinds, seeds, request):
    """There is one row for each batch size, and one history for each seed."""
    found = request.getfixturevalue(name)
    assert [run["kind"] for run in found.runs] == kinds
    for run in found.runs:
        assert run["num_seeds"] == len(run["histories"]) == len(run["stopped"]) == seeds
        assert 0 <= run["target_reached"] <= seeds
    assert len(found.record["settings"]["seeds"]) == seeds


@pytest.mark.parametrize("name", ALL)
def test_all_kinds_begin_alike_and_each_has_its_own_rate(name, request):
    """All runs start at the same loss, and the automatic rate grows with the batch size."""
    record = request.getfixturevalue(name).record
    for run in record["runs"]:
        for history in run["histories"]:
            assert history["columns"]["loss"][0] == pytest.approx(record["first_loss"], rel=1e-12)
    rates = [run["learning_rate"] for run in record["runs"]]
    assert rates == sorted(rates)
    assert len(set(rates)) == len(rates)


@pytest.mark.parametrize("name", ALL)
def test_the_figures_are_those_of_the_histories(name, request):
    """Best and final losses, the target and the times to it can be worked out again from the histories."""
    record = request.getfixturevalue(name).record
    lasts = [h["columns"]["loss"][-1] for run in record["runs"] for h in run["histories"]]
    assert record["best_loss"] == min(lasts)
    gap = record["first_loss"] - record["best_loss"]
    assert record["target_loss"] == pytest.approx(record["best_loss"] + 0.01 * gap)
    for run in record["runs"]:
        finals = [h["columns"]["loss"][-1] for h in run["histories"]]
        assert run["final_loss"] == pytest.approx(np.median(finals))
        hits = []
        for h in run["histories"]:
            columns = h["columns"]
            below = [i for i, loss in enumerate(columns["loss"]) if loss <= record["target_loss"]]
            if below:
                hits.append(columns["updates"][below[0]])
        assert len(hits) == run["target_reached"]
        if hits:
            assert run["updates_to_target"]["median"] == pytest.approx(np.median(hits))


def test_seeds_differ_where_there_is_randomness(iris):
    """Stochastic runs of two seeds differ; the full batch's do not."""
    stochastic, _, batch = iris.runs
    lasts = [[h["columns"]["loss"][-1] for h in run["histories"]] for run in (stochastic, batch)]
    assert len(set(lasts[0])) == 3
    assert len(set(lasts[1])) == 1


def test_the_same_seed_is_the_same_comparison():
    """Losses and updates of a comparison with a fixed number of epochs repeat to the last bit."""
    one, same, other = (compare("sklearn:iris", epochs=4, seeds=1, random_state=r) for r in (0, 0, 1))

    def ends(found):
        return [(run["final_loss"], run["histories"][0]["columns"]["rows"][-1]) for run in found.runs]

    assert ends(one) == ends(same)
    assert ends(one) != ends(other)


def test_epochs_are_exactly_so_many(iris):
    """Every kind got the epochs that were asked for; heavy rows may make an epoch longer, never shorter."""
    for run in iris.runs:
        for history in run["histories"]:
            assert history["columns"]["epoch"][-1] == 15.0


def test_a_budget_in_seconds_ends_every_run(digits):
    """With a budget each run took about as long, unless it had stopped gaining."""
    for run in digits.runs:
        for stopped, history in zip(run["stopped"], run["histories"], strict=True):
            assert stopped in ("time", "converged")
            assert history["columns"]["seconds"][-1] < 1.5


def test_a_target_that_is_out_of_reach_is_told(request):
    """With an impossible target nobody arrives: no times, a note with the reason, and a verdict that says so."""
    found = compare("sklearn:iris", epochs=3, seeds=2, target_loss=1e-9)
    for run in found.runs:
        assert run["target_reached"] == 0
        assert run["seconds_to_target"] is None
        assert "the epochs ended after" in run["note"]
        assert "% of the way short of the target" in run["note"]
    assert found.verdict == "No kind reached the target loss with every seed in this budget."
    assert "not reached" in render_page(found.record).lower()


def test_a_rate_that_breaks_every_run_still_makes_a_record():
    """With a rate that diverges at once the record is strict JSON, and the notes name bound and column."""
    found = compare("sklearn:breast_cancer", learning_rate=1e6, standardize=False, epochs=3, seeds=1)
    json.dumps(found.record, allow_nan=False)
    for run in found.runs:
        assert run["stopped"] == ["diverged"]
        assert run["target_reached"] == 0
        assert run["note"].startswith("diverged: learning rate 1e+06 against the bound")
    assert "Traceback" not in render_page(found.record)


def test_progress_is_told_by_kind_size_and_seed():
    """The callback hears of every kind and seed, with its batch size, in interleaved order."""
    heard = []
    compare("sklearn:iris", epochs=2, seeds=2, validation_fraction=0.0,
            progress=lambda kind, size, seed, seen: heard.append((kind, size, seed, seen.rows)))  # fmt: skip
    order = list(dict.fromkeys(entry[:3] for entry in heard))
    kinds = [("stochastic", 1), ("mini-batch", 32), ("batch", 150)]
    assert order == [(*kind, seed) for seed in (0, 1) for kind in kinds]


# --- how it is shown and kept ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_page_is_drawn_from_the_record_alone(name, request, tmp_path):
    """A record that went through a file gives the page, and the page has kinds, verdict and every claim."""
    found = request.getfixturevalue(name)
    path = found.save(tmp_path / "run.json")
    again = Comparison(json.loads(path.read_text()))
    page = render_page(again.record)
    for word in ("stochastic", "mini-batch", "batch"):
        assert word in page.lower()
    assert found.verdict.split(",")[0] in page
    for claim in found.claims:
        assert claim["claim"] in page
    assert found.save_html(tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(InputError, match="exists"):
        found.save(path)


def test_the_frame_has_a_row_for_each_size(digits):
    """``to_frame`` has medians in the place of spreads, and no nested values."""
    frame = digits.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["kind"]) == ["stochastic", "mini-batch", "batch"]
    for value in frame.to_numpy().ravel():
        assert not isinstance(value, (dict, list))
    reached = digits.runs[1]["seconds_to_target"]
    if reached:
        assert frame["seconds_to_target"][1] == reached["median"]


def test_it_plots_and_shows_itself(digits):
    """``plot`` is a plotly figure with data, and a notebook gets the page in a frame, escaped."""
    figure = digits.plot()
    assert len(figure.data) > 0
    assert digits._repr_html_().startswith('<iframe srcdoc="&lt;!')


# --- arithmetic on histories made by hand ----------------------------------------------------------


def made(losses, stopped="time"):
    history = History(stopped=stopped)
    for i, loss in enumerate(losses):
        row = dict.fromkeys(COLUMNS, float(i)) | {"loss": loss, "last_loss": loss, "updates": 1000 * i}
        history.append(row)
    return Run(None, 1, "", "sgd", Rate(1.0, 1.0, ""), history)


@pytest.mark.parametrize(
    ("losses", "place"),
    [([3.0, 2.0, 1.0, 0.5], 2), ([3.0, 1.0, 2.0, 0.5], 1), ([3.0, None, 1.0], 2), ([3.0, 1.5], None),
     ([1.0], 0), ([], None)],
)  # fmt: skip
def test_the_target_is_reached_at_the_first_row_at_or_below_it(losses, place):
    """The first loss at or below the target counts, exactly equal included; a missing loss does not."""
    assert first_at_or_below(losses, 1.0) == place


def test_spreads():
    """Median and range of what there is, and None of nothing."""
    assert spread_of([4.0, 1.0, 2.0, 3.0]) == {"median": 2.5, "low": 1.0, "high": 4.0}
    assert spread_of([]) is None


@pytest.mark.parametrize(
    ("stopped", "reason"),
    [
        ("time", "the time budget ended"),
        ("epochs", "the epochs ended"),
        ("converged", "it had stopped gaining"),
    ],
)
def test_a_miss_is_explained(stopped, reason):
    """The note says why the run ended, after how many updates, and how far from the target."""
    runs = KindRuns("stochastic", 1, [made([3.0, 1.0]), made([3.0, 2.0, 1.5], stopped)])
    note = note_on(runs, [1, None], target=1.0, first_loss=3.0)
    assert note == f"{reason} after 2,000 updates, 25 % of the way short of the target"


def test_a_miss_after_one_step_is_worded_as_one():
    """One update is no plural, and all of the way is a hundred per cent without an exponent."""
    history = History(stopped="epochs")
    for updates in (0, 1):
        history.append(
            dict.fromkeys(COLUMNS, float(updates)) | {"loss": 3.0, "last_loss": 3.0, "updates": updates}
        )
    run = Run(None, 1, "", "sgd", Rate(1.0, 1.0, ""), history)
    note = note_on(KindRuns("batch", 9, [run]), [None], target=1.0, first_loss=3.0)
    assert note == "the epochs ended after 1 update, 100 % of the way short of the target"


def test_a_miss_by_divergence_is_explained_by_it():
    """Where the run has a note of its own, such as divergence, that is the explanation."""
    run = made([3.0, None], "diverged")
    run.history.notes.append("diverged: learning rate 9 against the bound")
    assert note_on(KindRuns("batch", 9, [run]), [None], 1.0, 3.0) == run.history.notes[0]


def test_no_note_where_everybody_arrived():
    """A kind that reached the target with every seed has nothing to explain."""
    assert note_on(KindRuns("stochastic", 1, [made([3.0, 1.0])]), [1], 1.0, 3.0) is None


def test_a_diverged_run_does_not_count_as_arrived():
    """A run that passed the target and diverged later has not reached it."""
    ready = prepare(open_source("sklearn:iris"))
    kind = KindRuns("stochastic", 1, [made([3.0, 0.5, 2.0], "diverged")])
    kind.runs[0].history.notes.append("diverged: …")
    assert summarise(kind, ready, 1.0, 3.0)["target_reached"] == 0


def test_a_long_full_batch_runs_once_and_says_so():
    """The full batch has no randomness: a run above two seconds stands for every seed, and the note says it."""
    run = made([3.0, 2.0, 1.5, 1.0])
    long = KindRuns("batch", 150, [run, run])
    assert long.stands_for_all_seeds
    assert "run once" in note_on(long, [3, 3], 1.0, 3.0)
    assert not KindRuns("mini-batch", 32, [run]).stands_for_all_seeds
    assert not KindRuns("batch", 150, [made([3.0, 1.0])]).stands_for_all_seeds


@pytest.mark.parametrize(
    ("sizes", "checked"),
    [
        ((1, 32, "full"), [1, 32, 100]),
        (("1", "32"), [1, 32]),
        ((100, "full"), [100]),
        ((8, 8, 1), [8, 1]),
        ((101, "full"), [100]),
    ],
)
def test_batch_sizes_are_checked(sizes, checked):
    """Sizes come out as rows, in their order, each once."""
    assert check_batch_sizes(sizes, 100) == checked


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton"])
def test_sizes_that_do_not_go_with_the_optimizer_are_refused(optimizer):
    """Settings that were checked at the default size are checked again at each kind's."""
    with pytest.raises(InputError, match=f"batch size 1 does not go with optimizer '{optimizer}'"):
        compare("sklearn:iris", optimizer=optimizer, batch_sizes=(1, "full"), epochs=2, seeds=1)


@pytest.mark.parametrize("target", [float("nan"), float("inf"), "low", True])
def test_a_target_that_is_no_number_is_refused_before_any_run(target):
    """A target loss that is not a finite number is refused by name, and not found out when the record is saved."""
    with pytest.raises(InputError, match=r"target_loss is .*; a finite number is needed"):
        compare("sklearn:iris", target_loss=target)
    with pytest.raises(InputError, match=r"target_loss is .*; a finite number is needed"):
        configure_batch_size("sklearn:iris", target_loss=target)


@pytest.mark.parametrize("sizes", [(), (0,), (1, "auto"), ("many",), (1, None)])
def test_impossible_batch_sizes_are_refused(sizes):
    """None, zero, "auto", or no number at all are refused."""
    with pytest.raises(InputError, match="batch size"):
        check_batch_sizes(sizes, 100)


def test_the_budget_lies_between_one_and_thirty_seconds():
    """Small tables get a second, and none more than thirty."""
    budget = find_compared("linear").budget
    assert budget(prepare(open_source("sklearn:iris")), Settings()) == 1.0
    assert 1.0 < budget(prepare(open_source("sklearn:digits")), Settings()) <= 30.0


def test_gradient_noise_falls_with_the_root_of_the_batch():
    """Random batches stray by 1/√B of single rows, within a third, and the full batch not at all."""
    ready = prepare(open_source("sklearn:breast_cancer"), validation=0.0)
    engine, start = Lines().start(ready, Settings())
    noise = {size: gradient_noise(engine, start, 569, size, seed=0).relative for size in (1, 16, 568, 569)}
    assert noise[1] / noise[16] == pytest.approx(4.0, rel=0.35)
    assert noise[569] == 0.0
    assert noise[568] < 0.1 * noise[1] / 568**0.5  # all rows but one
    X = np.hstack([ready.train.X, np.ones((569, 1))]).astype(float)
    rows = X * (0.5 - ready.train.y)
    mean = rows.mean(axis=0)
    exact = np.sqrt(((rows - mean) ** 2).sum(axis=1).mean()) / np.linalg.norm(mean)
    assert noise[1] == pytest.approx(exact, rel=0.35)
