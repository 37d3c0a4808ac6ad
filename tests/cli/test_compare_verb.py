"""``descend compare`` from the command line to its table, its page and its run."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SHORT = ("--seeds", 2, "--epochs", 15)
RUN_KEYS = {
    "kind", "batch_size", "learning_rate", "target_reached", "seconds_to_target", "epochs_to_target",
    "rows_to_target", "updates_to_target", "final_loss", "rows_per_second", "peak_bytes",
}  # fmt: skip


@pytest.fixture
def found(descend: Command, table: Path) -> Any:
    """A short comparison with --json."""
    return descend("compare", table, "--target", "answer", *SHORT, "--json")


def test_json_of_a_comparison(found: Any) -> None:
    """--json prints every promised key; the three kinds are there in order, histories are not."""
    assert found.status == 0, found.err
    value = found.json
    assert set(value) >= {"runs", "target_loss", "best_loss", "claims", "report", "run"}
    assert [run["kind"] for run in value["runs"]] == ["stochastic", "mini-batch", "batch"]
    for run in value["runs"]:
        assert set(run) >= RUN_KEYS
        assert "histories" not in run
        spread = run["seconds_to_target"]
        assert spread is None or set(spread) == {"median", "low", "high"}
    assert all(set(claim) == {"claim", "kind", "holds", "evidence"} for claim in value["claims"])


def test_a_comparison_leaves_a_page_and_a_run(found: Any, descend: Command) -> None:
    """Page and run lie in the working folder, named after the data; `descend report` draws the run again."""
    assert (found.json["report"], found.json["run"]) == ("table-compare.html", "table-compare.json")
    record = json.loads(Path("table-compare.json").read_text())
    assert record["settings"]["command"].startswith("descend compare ")
    assert len(record["runs"][0]["histories"]) == 2
    again = descend("report", "table-compare.json", "-o", "again.html")
    assert again.status == 0, again.err
    assert Path("again.html").read_text() == Path("table-compare.html").read_text()
    assert "Mini-batch" in again.out


def test_the_table_the_verdict_and_the_claims_are_printed(descend: Command, table: Path) -> None:
    """Stdout has a row for each kind, the verdict and the claims, and no colour in a pipe."""
    result = descend("compare", table, "--target", "answer", *SHORT, "--no-report", "--output", "run.json")
    assert result.status == 0
    for word in ("Stochastic", "Mini-batch", "Batch", "What the textbook says"):
        assert word in result.out
    assert json.loads(Path("run.json").read_text())["verdict"].split()[0] in result.out
    assert "\x1b" not in result.out + result.err
    assert not list(Path().glob("*.html"))


def test_batch_sizes_seeds_and_target_loss_are_obeyed(descend: Command, table: Path) -> None:
    """The sizes that were asked for are compared against the loss that was asked for."""
    found = descend(
        "compare", table, "--target", "answer", "--batch-sizes", "8,64", "--seeds", 1, "--epochs", 5,
        "--target-loss", 0.5, "--no-report", "--json", "--quiet",
    )  # fmt: skip
    assert found.err == ""
    assert [run["batch_size"] for run in found.json["runs"]] == [8, 64]
    assert found.json["target_loss"] == 0.5
    assert found.json["report"] is None


def test_a_comparison_in_which_all_diverge_fails(descend: Command) -> None:
    """At an absurd rate every kind diverges: the JSON says so, and the status is 1."""
    found = descend(
        "compare", "sklearn:breast_cancer", "--no-standardize", "--learning-rate", 1, "--seeds", 1,
        "--epochs", 3, "--no-report", "--json", "--quiet",
    )  # fmt: skip
    assert found.status == 1
    assert [run["stopped"] for run in found.json["runs"]] == [["diverged"]] * 3
    assert "--learning-rate auto" in found.err


def test_a_page_that_finds_no_room_leaves_the_run(
    descend: Command, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full for the page, the run is kept, and one line says where it is and how to go on."""
    written = os.fsync

    def full(handle: int) -> None:
        if os.fstat(handle).st_size > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(handle)

    monkeypatch.setattr(os, "fsync", full)
    result = descend("compare", table, "--target", "answer", "--epochs", 2, "--seeds", 1)
    assert result.status == 1
    assert "No space left on device" in result.err
    assert "table-compare.json is saved, and `descend report table-compare.json` draws the page" in result.err
    assert Path("table-compare.json").exists()
    assert not Path("table-compare.html").exists()


def test_an_interrupt_while_the_page_is_made_says_what_is_there(
    descend: Command, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C while the page is drawn leaves 130, and does not say that nothing was written."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("descend.report.write_page", interrupted)
    for verb, kept in (("compare", "table-compare.json"), ("fit", "table.descend")):
        result = descend(verb, table, "--target", "answer", "--epochs", 2)
        assert result.status == 130
        assert "nothing was written" not in result.err
        assert kept in result.err
        assert Path(kept).exists()
