"""``descend batch-size`` from the command line to its table, its page and its plan; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]
SHORT = ("--time", "1s")
KEYS = {
    "batch_size", "microbatch", "accumulation", "learning_rate", "optimizer", "momentum", "threads", "device",
    "bound_by", "equivalent", "matters", "predicted", "evidence", "tuning_seconds",
}  # fmt: skip


@pytest.fixture
def found(descend: Command, table: Path) -> Any:
    """A short search with --json."""
    return descend("batch-size", table, "--target", "answer", *SHORT, "--json")


def test_json_of_a_plan(found: Any) -> None:
    """--json prints every promised key, with curves by batch size, and says where plan and page are."""
    assert found.status == 0, found.err
    value = found.json
    assert set(value) >= KEYS
    assert set(value["predicted"]) >= {"step_seconds", "peak_bytes", "seconds_to_target"}
    for curve in ("step_seconds", "steps_to_target", "memory_bytes"):
        assert all(int(size) >= 1 and number > 0 for size, number in value["evidence"][curve].items())
    assert value["bound_by"] in ("statistics", "throughput", "memory", "data", "nothing")
    assert value["equivalent"][0] <= value["batch_size"] <= value["equivalent"][1]
    assert (value["plan"], value["report"]) == ("table-batch-size.json", "table-batch-size.html")


def test_a_plan_is_drawn_again(found: Any, descend: Command) -> None:
    """`descend report` makes the same page from the plan alone, and prints the answer."""
    record = json.loads(Path("table-batch-size.json").read_text())
    assert record["settings"]["command"].startswith("descend batch-size ")
    again = descend("report", "table-batch-size.json", "-o", "again.html")
    assert again.status == 0, again.err
    assert Path("again.html").read_text() == Path("table-batch-size.html").read_text()
    assert " ".join(record["explanation"]) in " ".join(again.out.split())


def test_the_answer_and_its_reasons_are_printed(descend: Command, table: Path) -> None:
    """Stdout has the answer and three sentences in 80 columns and no colour; progress is on stderr."""
    result = descend("batch-size", table, "--target", "answer", *SHORT, "--no-report", "-o", "plan.json")
    assert result.status == 0, result.err
    record = json.loads(Path("plan.json").read_text())
    assert " ".join(record["explanation"]) in " ".join(result.out.split())
    for words in ("Batch size ", "Learning rate ", "Time to the target ", "Within 10 % of it ", "Bound by "):
        assert words in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert "\x1b" not in result.out + result.err
    assert " of 1 s: " in result.err
    assert not list(Path().glob("*.html"))


def test_quiet_and_json_print_one_object_and_nothing_else(descend: Command, table: Path) -> None:
    """With --quiet and --json stderr is empty and stdout one object."""
    result = descend("batch-size", table, "--target", "answer", *SHORT, "--json", "--quiet", "--no-report")
    assert result.err == ""
    assert result.json["report"] is None


def test_a_network_has_a_plan(descend: Command, table: Path) -> None:
    """--model mlp is tuned with the network's default optimizer."""
    result = descend(
        "batch-size", table, "--target", "answer", "--model", "mlp", "--hidden", 4, "--time", "2s", "--json"
    )
    assert result.status == 0, result.err
    assert result.json["optimizer"] == "adam"
    assert json.loads(Path("table-batch-size.json").read_text())["settings"]["hidden"] == [4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "nothing"], "--target: column 'nothing' is not in table"),
        (["--target-loss", "5"], "--target-loss 5 is met before the first step"),
        (["--target-loss", "1e-9"], "--target-loss 1e-09 cannot be reached"),
        (["--target-loss", "much"], "--target-loss is 'much'"),
        (["--optimizer", "lbfgs"], "--optimizer is 'lbfgs'"),
        (["--optimizer", "saga"], "--optimizer is 'saga'"),
        (["--optimizer", "best"], "--optimizer 'best' is not known"),
        (["--optimizer", "momentum", "--momentum", "2"], "--momentum is 2"),
        (["--memory-limit", "much"], "--memory-limit is 'much'; give auto, or bytes such as 2GB"),
        (["--memory-limit", "1MB"], "--memory-limit 1 MB is too low"),
        (["--time", "0"], "--time '0' is not a time span"),
        (["--time", "soon"], "--time 'soon' is not a time span"),
        (["--model", "tree"], "--model 'tree' is not known"),
        (["--hidden", "4"], "--hidden describes a network"),
        (["--batch-size", "4"], "No such option '--batch-size'"),
        (["--learning-rate", "0.1"], "No such option '--learning-rate'"),
        (["--report", "a.html", "--no-report"], "--report and --no-report contradict each other"),
        (["--report", "a.html", "-o", "a.html"], "--output and --report are both 'a.html'"),
        (["-o", "plan.htm"], "for the page: --report plan.htm"),
        (["-o", "table.csv"], "--output 'table.csv' is what is read"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    words: list[str], message: str, descend: Command, table: Path
) -> None:
    """A bad option gives status 2, one line that names it as it was typed, and no file."""
    target = [] if "--target" in words else ["--target", "answer"]
    result = descend("batch-size", table.name, *target, *SHORT, *words)
    assert result.status == 2
    said = [line for line in result.err.splitlines() if line.startswith("descend: ")]
    assert len(said) == 1
    assert message in said[0]
    assert result.out == ""
    assert [path.name for path in Path().iterdir()] == ["table.csv"]


def test_an_optimizer_without_batches_is_refused_before_rows_are_read(descend: Command) -> None:
    """The error about --optimizer comes though the file does not even exist."""
    assert "--optimizer is 'newton'" in descend("batch-size", "nowhere.csv", "--optimizer", "newton").err


@pytest.mark.parametrize(("target", "message"), [("one", "one class only"), ("3.5", "nothing can be gained")])
def test_a_constant_target_is_refused(target: str, message: str, descend: Command) -> None:
    """A target that never changes gives one clear line, not a plan."""
    Path("flat.csv").write_text("a,y\n" + "".join(f"{i},{target}\n" for i in range(100)))
    result = descend("batch-size", "flat.csv", "--target", "y", *SHORT)
    assert result.status == 2
    assert message in result.err
    assert [path.name for path in Path().iterdir()] == ["flat.csv"]


def test_twenty_rows_have_a_plan(descend: Command) -> None:
    """Twenty rows are enough; the size is one that there are rows for."""
    numbers = np.random.default_rng(0).normal(size=(20, 2))
    lines = [f"{a:.4f},{b:.4f},{'yes' if a + 0.3 * b > 0 else 'no'}" for a, b in numbers]
    Path("few.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    result = descend("batch-size", "few.csv", "--target", "y", "--validation", 0, *SHORT, "--json")
    assert result.status == 0, result.err
    assert 1 <= result.json["batch_size"] <= 20


def test_too_short_a_budget_cannot_tell(descend: Command, table: Path) -> None:
    """After a millisecond it says that it cannot be told, with a page and a plan that say so too."""
    result = descend("batch-size", table, "--target", "answer", "--time", "1ms")
    assert result.status == 0, result.err
    assert "It cannot be told in this budget" in result.out
    assert "cannot be told\n" in result.out
    assert not json.loads(Path("table-batch-size.json").read_text())["told"]
    assert "It cannot be told in this budget" in Path("table-batch-size.html").read_text()


def test_existing_files_are_kept(descend: Command, table: Path) -> None:
    """Default names go on to the next free one; a named file is replaced only by --force."""
    words = ("batch-size", table, "--target", "answer", "--time", "1ms", "--json")
    assert descend(*words).json["plan"] == "table-batch-size.json"
    assert descend(*words).json["plan"] == "table-batch-size-2.json"
    Path("mine.json").write_text("mine")
    refused = descend(*words, "-o", "mine.json")
    assert (refused.status, Path("mine.json").read_text()) == (2, "mine")
    assert "--force" in refused.err
    assert descend(*words, "-o", "mine.json", "--force").status == 0
    assert json.loads(Path("mine.json").read_text())["format"] == "descend.plan"


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("word", ["first run", "training with"])
def test_an_interrupt_saves_nothing(word: str, start: Start, tmp_path: Path) -> None:
    """Ctrl-C ends all of the search, in the first run as in a later one: 130, one line, no file."""
    X = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    X[:, -1] = np.tanh(X[:, 0] * X[:, 1]) + 0.3 * X[:, 2]
    np.save(tmp_path / "X.npy", X)
    process = start("batch-size", "X.npy", "--target", "-1", "--model", "mlp", "--time", "60s")
    assert process.stderr is not None
    assert any(word in line for line in process.stderr), "it was never said"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing was saved" in err
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]
