"""The regret benchmark: its row sets, its curves and clocks, its oracles, its rivals and its tables."""

import json
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from descend import fitting
from descend.networks import fitting as network_fitting
from descend.watching import Watch

sys.path.append(str(Path(__file__).parents[2]))
regret, runs, sets, grids, rivals, tables = (
    import_module(f"benchmarks.regret{part}")
    for part in ("", "_runs", "_workloads", "_grid", "_rivals", "_table")
)
Curve, grid_run, our_run = runs.Curve, runs.grid_run, runs.our_run


def made(kind: str):
    """A small workload of two classes; the sparse one's rows are CSR."""
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 6)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * random.normal(size=2000) > 0).astype(int)
    if "sparse" in kind:
        X = csr_array(np.where(np.abs(X) > 0.7, X, 0.0).astype(np.float32))
    sets_of_rows = sets._three_sets(X, y, "classification")
    return sets._workload(f"made {kind.removeprefix('sparse ')}", *sets_of_rows, hidden=16)


@pytest.fixture(scope="module", params=["mlp momentum", "linear sgd", "sparse linear sgd"])
def workload(request):
    return made(request.param)


def test_the_three_sets_share_no_row():
    """Rows to train on, rows that the algorithm may look at and rows of the target: each row is in one of them."""
    X = np.arange(1000.0)[:, None]
    prepared, held_out = sets._three_sets(X, np.arange(1000) % 2, "classification")
    parts = [np.round(s.X[:, 0], 5) for s in (prepared.train, prepared.validation, held_out)]
    assert [len(part) for part in parts] == pytest.approx([700, 100, 200], abs=40)
    assert sum(map(len, parts)) == len(np.unique(np.concatenate(parts))) == 1000


def test_sparse_rows_stay_sparse():
    """Neither the training rows nor the target's are made dense."""
    workload = made("sparse linear sgd")
    assert workload.prepared.train.is_sparse
    assert type(workload.target).__name__ == type(workload.engine).__name__ == "SparseEngine"


def curve(losses, rows):
    made = Curve()
    for loss, row in zip(losses, rows, strict=True):
        made.add(loss, row, wall=float(row))
    return made


def test_a_target_is_reached_at_two_checkpoints_in_a_row():
    """A single lucky look does not count, but at the end."""
    made = curve([0.5, 0.9, 0.5, 0.4], [1, 2, 3, 4])
    assert made.reached(0.6) == 2
    assert made.reached(0.45) == 3
    assert made.reached(0.3) is None


def test_a_stopped_clock_takes_off_what_is_done_inside(monkeypatch):
    """Seconds inside ``stopped`` are not counted, and those before and behind it are."""
    now = 100.0
    monkeypatch.setattr(runs.Clock, "now", staticmethod(lambda: now))
    clock = runs.Clock()
    now = 101.0
    with clock.stopped():
        now = 105.0
    now = 107.0
    assert clock.seconds == 3.0


def test_a_cut_that_only_the_curve_needs_is_off_the_clock(workload, monkeypatch):
    """Where every look waits, the wall's clock counts those that a fit makes by itself, and no others."""
    look, count, wait = Watch.look, 0, 0.01

    def slow(self, state):
        nonlocal count
        count += 1
        time.sleep(wait)
        return look(self, state)

    our_run(workload, 0, batch_size=16)  # compiles
    monkeypatch.setattr(Watch, "look", slow)
    curve, *_ = our_run(workload, 0, batch_size=16)
    with_cuts, count = count, 0
    fit = network_fitting.fit_network if workload.is_network else fitting.fit
    fit(workload.prepared, replace(workload.settings, batch_size=16, seconds=30.0))
    assert count < with_cuts
    assert (count - 1) * wait < curve.wall[-1] < with_cuts * wait


def test_processor_time_counts_no_sleep():
    """Sleeping takes no time within it, by the benchmark's clock and by that of fit; then all is as before."""
    before = runs.Clock.now, runs.observing.time
    with runs.processor_time():
        clock, began = runs.Clock(), runs.observing.time.perf_counter()
        time.sleep(0.2)
        assert max(clock.seconds, runs.observing.time.perf_counter() - began) < 0.1
    assert before == (runs.Clock.now, runs.observing.time)


def test_a_rate_that_falls_to_zero_ends_lower_than_one_that_does_not(workload):
    """At a high rate the decayed run's last weights beat those of the constant one, as does the average."""
    rate = 0.5 if "sgd" in workload.name else 0.05
    raw, averaged = grid_run(workload, 8, rate, 14_000, seed=0)
    decayed = grid_run(workload, 8, rate, 14_000, seed=0, decay=True)[0]
    assert decayed.losses[-1] < raw.losses[-1]
    assert averaged.losses[-1] <= raw.losses[-1]
    assert decayed.rows[-1] == raw.rows[-1] == 14_000
    assert raw.wall == sorted(raw.wall)


def test_a_hopeless_rate_is_given_up(workload):
    """A constant rate that has gained nothing in an eighth of its rows is not run to its end; others are."""
    assert grid_run(workload, 8, 500.0, 14_000, seed=0)[0].rows[-1] <= 0.25 * 14_000
    assert grid_run(workload, 8, 0.01, 14_000, seed=0)[0].rows[-1] == 14_000


def test_our_run_counts_what_it_evaluates_and_leaves_the_package_as_it_was(workload):
    """What ladder and controller evaluate is on the clock, as tuning; ``Watch`` is itself again afterwards."""
    curve, size, _ = our_run(workload, 0, batch_size=16)
    assert size == 16
    assert network_fitting.Watch is Watch
    assert curve.losses[-1] < curve.losses[0]
    assert curve.rows == sorted(curve.rows)
    assert curve.wall == sorted(curve.wall)
    assert (curve.tuning[-1] > 0) == workload.is_network
    assert all(tuning <= rows for tuning, rows in zip(curve.tuning, curve.rows, strict=True))
    assert all(seconds < wall for seconds, wall in zip(curve.training, curve.wall, strict=True))


def test_a_run_that_is_there_may_end(workload):
    """It ends behind two checkpoints below the level, and reached it where the whole run did."""
    whole = our_run(workload, 0, batch_size=16)[0]
    level = sorted(whole.losses)[len(whole.losses) // 2]
    cut = our_run(workload, 0, batch_size=16, until=level)[0]
    assert len(cut.losses) < len(whole.losses)
    assert cut.losses[:-1] == whole.losses[: len(cut.losses) - 1]  # the last looks where the run ends
    assert cut.reached(level) == whole.reached(level)


def test_the_oracle_is_the_fewest_seconds_at_a_size_or_of_all():
    """Rows are priced by their size, and a size that never came to the target has no seconds."""
    cells = [
        grids.Cell(8, 0.1, None, curve([0.5, 0.1, 0.1], [10, 20, 30])),
        grids.Cell(8, 0.2, None, curve([0.5, 0.5, 0.1], [10, 20, 30])),
        grids.Cell(32, 0.1, None, curve([0.1, 0.1, 0.1], [15, 20, 30])),
        grids.Cell(64, 0.1, None, curve([0.5, 0.5, 0.5], [1, 2, 3])),
    ]
    prices = {8: 1.0, 32: 2.0, 64: 0.1}
    assert grids.best_of(cells, 0.2, prices) == (20.0, cells[0])
    assert grids.best_of(cells, 0.2, prices, 32) == (30.0, cells[2])
    assert grids.best_by_size(cells, 0.2, prices) == {"8": 20.0, "32": 30.0}


def test_the_grid_leaves_out_what_is_too_slow_and_finds_the_best(workload):
    """Rates on both sides of the best are tried at each size, and none that cannot win any more."""
    cells = grids.grid(workload, [32], 14_000, 2, seed=0)
    constant = {cell.rate: min(cell.curve.losses) for cell in cells["raw"]}
    best = min(constant, key=constant.get)
    assert min(constant) < best < max(constant)
    assert len(constant) < grids.MOST_RATES
    assert {cell.length for cell in cells["free"]} == {None, 7000, 14_000}
    slowest = min(cells["free"], key=lambda cell: cell.rate).curve
    assert slowest.losses[-1] > min(cell.curve.loss_after(3500) for cell in cells["free"])


def test_noise_is_not_slowness():
    """A run that ends above another's lowest loss is slow where it still falls, and not where it has been lower."""
    falling, noisy = curve([0.9, 0.7, 0.5], [1, 2, 3]), curve([0.9, 0.3, 0.5], [1, 2, 3])
    assert grids.is_slow(falling, falling, 0.4)
    assert not grids.is_slow(falling, falling, 0.495)
    assert not grids.is_slow(noisy, noisy, 0.4)
    assert [noisy.loss_after(rows) for rows in (0.5, 1, 2)] == [np.inf, 0.9, 0.3]


def test_a_winner_runs_again_to_its_target(workload):
    """The run that the wall's clock times comes to the level of the grid's, be its rate constant or falling."""
    for length in (None, 7000):
        seen = grid_run(workload, 32, 0.05, 7000, seed=0, decay=length is not None)[1]
        level = seen.losses[len(seen.losses) // 2]
        cell = grids.Cell(32, 0.05, length, seen)
        place = grids.again(workload, "free", cell, level, seed=0).reached(level)
        assert place is not None
        assert place <= seen.reached(level)


def test_a_sweep_takes_the_rate_where_the_loss_falls_fastest():
    """Where the loss falls around one rate and rises steeply behind another, the first is found, the rest cut off."""

    def step(rate):
        return 1.0 - 0.5 / (1.0 + (1e-3 / rate) ** 3) + 100.0 * (rate > 0.05)

    rate, steps = rivals.sweep(step)
    assert 3e-4 < rate < 1e-2
    assert steps < rivals.SWEEP[2]


def test_the_largest_batch_fits_into_rows_and_memory():
    """A power of two below the rows, the bytes and Lightning's own bound."""
    assert rivals.largest_batch(1000, 4.0) == (512, [2, 4, 8, 16, 32, 64, 128, 256, 512])
    assert rivals.largest_batch(10**6, 4.0)[0] == 8192
    assert rivals.largest_batch(10**6, 1e7)[0] == 64


def test_rivals_count_what_they_need_to_decide(workload):
    """Timing every size, the noise's gradients and a sweep of rates all take seconds before the first step."""
    prices = runs.Prices(workload)
    for rival in (rivals.throughput, rivals.noise_scale, rivals.lightning_like):
        outcome = rival(workload, prices, 0, rivals.Goal(-np.inf, 0.001))
        assert outcome.before > 0
        assert outcome.batch_size <= workload.engine.num_rows
    assert outcome.batch_size == 1024


def outcome(regret, needed=1.0, rival="fit", **parts):
    seconds = None if regret is None else regret * needed
    return tables.Outcome("w", rival, 0, "raw", "loose", needed, seconds, **parts)


def test_the_summary_tells_the_missed_apart():
    """The geometric mean is of those that arrived; the 90th percentile and the worst count the others as never."""
    assert tables.summary([outcome(r) for r in (1.0, 4.0, None)]) == "2.00 / ∞ / ∞ (1 of 3 missed)"
    assert tables.summary([outcome(2.0)] * 10) == "2.00 / 2.0 / 2.0 (10)"
    assert tables.summary([outcome(None)]) == "never (1 of 1 missed)"
    assert tables.summary([]) == "–"


def test_the_parts_make_up_the_regret():
    """Batch regret times rate regret over the share that is no tuning is the regret."""
    workload = {
        "workload": "w",
        "network": True,
        "targets": [{"target": "loose", "raw": {"seconds": 2.0, "at_size": {"32": 3.0}}, "free": None}],
        "runs": [{"rival": "fit", "seed": 0, "batch_size": 32, "seconds": [8.0], "tuning": [2.0]}],
    }
    fit, auto = tables.outcomes([workload])
    assert (fit.batch, fit.rate, fit.overhead) == (1.5, 2.0, 0.25)
    assert fit.batch * fit.rate / (1.0 - fit.overhead) == fit.regret == auto.regret == 4.0
    assert (fit.rival, auto.rival) == ("fit", "auto")


def test_it_says_whether_a_fixed_size_is_faster():
    """The sentence names the fastest of the fixed sizes and which side of ``auto`` it is on."""
    found = [outcome(2.0), outcome(4.0, rival="B = 8"), outcome(1.0, rival="B = 64")]
    assert "is 64: it is faster than" in tables.fixed_sizes(found)
    assert "is 8: it is slower than" in tables.fixed_sizes(found[:2])
    assert tables.fixed_sizes([outcome(1.0, needed=0.001)]) == ""


def test_it_runs_from_end_to_end(tmp_path, capsys):
    """From one small table it prints both oracles and clocks, writes a record, and fills the document."""
    random = np.random.default_rng(0)
    X = random.normal(size=(7291, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "usps.npz", X_train=X, y_train=(X[:, 0, 0] > 0).astype(int))
    document = tmp_path / "page.md"
    begin, end = "<!-- benchmarks.regret: begin -->", "<!-- benchmarks.regret: end -->"
    document.write_text(f"before\n{begin}\nof last year\n{end}\nafter\n", encoding="utf-8")
    how = ["--data", str(tmp_path), "--seeds", "0", "--batch-sizes", "64", "--epochs", "2", "--decays", "1"]
    how += [
        "--repeats",
        "1",
        "--hidden",
        "4",
        "--output",
        str(tmp_path / "r.json"),
        "--document",
        str(document),
    ]
    assert regret.main(how) == 0
    shown = capsys.readouterr()
    assert "| usps mlp sgd |" in shown.out
    assert "convolution adam: left out, " in shown.err
    assert "a9a linear sgd: left out, its file is not in the folder" in shown.err
    assert shown.out.strip() in document.read_text(encoding="utf-8")
    assert "of last year" not in document.read_text(encoding="utf-8")
    (workload,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["workloads"]
    assert {run["rival"] for run in workload["runs"]} == set(rivals.RIVALS) - {"optimizer auto"}
    assert {"32", "64"} <= set(workload["targets"][0]["raw"]["at_size"])
    assert {cell["oracle"] for cell in workload["wall"]} == {"raw", "free"}


def test_a_linear_models_own_optimizer_is_told_by_its_own_clock():
    """It has no row's price, and is what comes with nothing set; networks have none."""
    assert set(rivals.rivals_of(False)) - set(rivals.rivals_of(True)) == {"optimizer auto"}
    record = import_module("benchmarks.regret_scores").run_record
    told = Curve()
    told.add(0.1, rows=5.0, wall=9.0, training=7.0)
    run = rivals.Outcome(told, 32, "converged")
    assert record("optimizer auto", 0, run, [0.2, 0.05], None)["seconds"] == [7.0, None]
    assert record("fit", 0, run, [0.2, 0.05], 2.0)["seconds"] == [10.0, None]
