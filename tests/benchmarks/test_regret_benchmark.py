"""The regret benchmark: its row sets, its curves, its oracle and its summary."""

import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from descend.networks import fitting as network_fitting
from descend.watching import Watch

sys.path.append(str(Path(__file__).parents[2]))
regret, runs, sets = (import_module(f"benchmarks.regret{part}") for part in ("", "_runs", "_workloads"))
Curve, grid_run, our_run = runs.Curve, runs.grid_run, runs.our_run


@pytest.fixture(scope="module", params=["mlp momentum", "linear sgd"])
def workload(request):
    random = np.random.default_rng(0)
    X = random.normal(size=(2000, 6)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] + X[:, 2] + 0.5 * random.normal(size=2000) > 0).astype(int)
    return sets._workload(f"made {request.param}", *sets._three_sets(X, y, "classification"), hidden=16)


def test_the_three_sets_share_no_row():
    """Rows to train on, rows that the algorithm may look at and rows of the target: each row is in one of them."""
    X = np.arange(1000.0)[:, None]
    prepared, held_out = sets._three_sets(X, np.arange(1000) % 2, "classification")
    parts = [np.round(s.X[:, 0], 5) for s in (prepared.train, prepared.validation, held_out)]
    assert [len(part) for part in parts] == pytest.approx([700, 100, 200], abs=40)
    assert sum(map(len, parts)) == len(np.unique(np.concatenate(parts))) == 1000


def test_a_target_is_reached_at_two_checkpoints_in_a_row():
    """A single lucky look does not count, but at the end."""
    curve = Curve([1, 2, 3, 4], [0.5, 0.9, 0.5, 0.4])
    assert curve.reached(0.6) == 2
    assert curve.reached(0.45) == 3
    assert curve.reached(0.3) is None


def test_a_rate_that_falls_to_zero_ends_lower_than_one_that_does_not(workload):
    """At a high rate the decayed run's last weights beat those of the constant one, as does the average."""
    raw, averaged = grid_run(workload, 8, 0.5 if "sgd" in workload.name else 0.05, 14_000, seed=0)
    decayed = grid_run(workload, 8, 0.5 if "sgd" in workload.name else 0.05, 14_000, seed=0, decay=True)[0]
    assert decayed.losses[-1] < raw.losses[-1]
    assert averaged.losses[-1] <= raw.losses[-1]
    assert decayed.rows[-1] == raw.rows[-1] == 14_000


def test_our_run_counts_what_it_evaluates_and_leaves_the_package_as_it_was(workload):
    """What ladder and controller evaluate is on the clock; ``Watch`` is itself again afterwards."""
    curve, size, _ = our_run(workload, 0, batch_size=16)
    assert size == 16
    assert network_fitting.Watch is Watch
    assert curve.losses[-1] < curve.losses[0]
    assert curve.rows == sorted(curve.rows)
    assert any(rows % 1 > 0 for rows in curve.rows) == workload.is_network


def test_the_summary_tells_the_missed_apart():
    """The geometric mean and the worst are of those that arrived; the 90th percentile counts the others as never."""
    some = [{"regret": r} for r in (1.0, 4.0, None)]
    assert regret.summary(some) == "3 | 1 | 2.00 | inf | 4.0"
    assert regret.summary([{"regret": 2.0}] * 10) == "10 | 0 | 2.00 | 2.0 | 2.0"
    assert regret.summary([{"regret": None}]).startswith("1 | 1 | –")


def test_it_runs_from_end_to_end(tmp_path, capsys):
    """On a folder with one small table it prints both oracles and writes a record."""
    random = np.random.default_rng(0)
    X = random.normal(size=(7291, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "usps.npz", X_train=X, y_train=(X[:, 0, 0] > 0).astype(int))
    how = ["--data", str(tmp_path), "--seeds", "0", "--batch-sizes", "32", "--epochs", "2", "--decays", "1"]
    assert regret.main([*how, "--only", "usps", "--hidden", "4", "--output", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out
    assert "| fit | raw |" in shown
    assert "| fit | free |" in shown
    assert "usps mlp sgd" in (tmp_path / "r.json").read_text()


def test_linear_models_as_they_come_take_the_place_of_the_grids_optimizer():
    """Of a workload that was scored both ways only the default's cells are summed up; of others those of ``fit``."""
    cells = [
        {"workload": workload, "rival": rival}
        for workload, rival in (
            ("linear", "fit"),
            ("linear", regret.BY_WALL),
            ("mlp", "fit"),
            ("mlp", "fit, B = 8"),
        )
    ]
    assert regret.as_it_comes(cells) == [cells[1], cells[2]]


def test_the_default_optimizer_of_a_linear_model_is_scored_by_the_wall(workload):
    """Its regret is wall seconds over the grid's, and only linear models have it."""
    options = Namespace(batch_sizes=[32], epochs=2, decays=1, seeds=[0])
    cells = [c for c in regret.score(workload, options) if c["rival"] == regret.BY_WALL]
    assert bool(cells) != workload.is_network
    for cell in cells:
        assert cell["seconds"] == cell["wall_seconds"]
