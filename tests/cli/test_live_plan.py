"""What is drawn while a batch size is searched for."""

from __future__ import annotations

import io
import sys

import pytest
from test_live import on_a_terminal

from descend.batch_size.branches import Branch
from descend.batch_size.findings import Findings, Running
from descend.batch_size.timing import StepTimes
from descend.batch_size.trainer import Look
from descend.cli.live_plan import (
    LivePlanDisplay,
    PlainPlanDisplay,
    PlanDisplay,
    curve_bars,
    make_plan_display,
    table_rows,
)
from descend.cli.talk import Talk
from descend.watching import Observation

SEEN = Observation(1.0, 2.5, 250, 250, 0.5, None, 250.0, None)


class Rows:
    """As much of a trainer as findings ask for."""

    num_rows = 1 << 15

    def possible(self, batch_size: int) -> bool:
        return True


def branch(size: int, rate: float, outcome: str, updates: int) -> Branch:
    step = 1e-6 * (10 + size)
    seconds = 1.2 * updates * step
    return Branch(
        size, rate, outcome, seconds, updates * size, updates, 0.3, 0.3, updates * step, ((seconds, updates),)
    )


@pytest.fixture
def findings() -> Findings:
    """Two sizes that arrived, one that did not, and a run that goes on."""
    found = Findings(Rows(), 0.2)  # type: ignore[arg-type]
    found.times = StepTimes({2**power: 1e-6 * (10 + 2**power) for power in range(16)})
    found.branches = [
        branch(64, 0.1, "reached", 1000), branch(8, 0.02, "reached", 9000), branch(512, 3.0, "diverged", 4),
    ]  # fmt: skip
    found.doing = "training with 32 rows a step"
    found.running = Running(32, 0.07, Look(0.5, 32_000, 1000, 0.31))
    return found


def drawn(display: LivePlanDisplay, height: int = 24, width: int = 80) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(display.table(height))
    return capture.get()


def test_displays_of_a_plan_suit_where_stderr_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets the table, a dumb one and a pipe lines, and --quiet nothing."""
    on_a_terminal(monkeypatch)
    assert type(make_plan_display(Talk(), "t", 30.0)) is LivePlanDisplay
    assert type(make_plan_display(Talk(quiet=True), "t", 30.0)) is PlanDisplay
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_plan_display(Talk(), "t", 30.0)) is PlainPlanDisplay


def test_the_table_has_a_row_for_every_size(findings: Findings) -> None:
    """In 80 columns and 24 lines each size has its time; those tried have rate, steps and state, too."""
    display = LivePlanDisplay("adult\x1b[31m", 30.0)
    display.found = findings
    text = drawn(display)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "training with 32 rows a step, rate 0.07: loss 0.3100" in text
    rows = {line.split()[0]: line for line in lines[3:]}
    assert len(rows) == 16
    assert rows["64"].split()[1:7] == ["74", "µs", "0.1", "1,000", "88.8", "ms"]
    assert "fastest so far" in rows["64"]
    assert "measured" in rows["8"]
    assert "diverged" in rows["512"]
    assert rows["32"].rstrip().endswith("training")


def test_a_short_terminal_gets_the_sizes_that_were_tried(findings: Findings) -> None:
    """Where not all sizes have room, those that were only timed are left out."""
    assert [row.size for row in table_rows(findings, most=12)] == [8, 32, 64, 512]
    assert [row.size for row in table_rows(findings, most=2)] == [8, 32]


def test_bars_grow_with_the_time(findings: Findings) -> None:
    """The fastest size has the shortest bar, and slower ones never a shorter one."""
    rows = table_rows(findings, most=30)
    times = [row.seconds or 0.0 for row in rows]
    lengths = [len(bar) for bar in curve_bars(times)]
    by_time = [length for _, length in sorted(zip(times, lengths, strict=True))]
    assert by_time == sorted(by_time)
    assert by_time[0] == 1 < by_time[-1]


def test_nothing_is_known_in_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything was measured the table is two lines that say what is done; it is gone at the end."""
    terminal = on_a_terminal(monkeypatch)
    with make_plan_display(Talk(), "adult", 30.0) as display:
        display.pilot(SEEN)
        assert isinstance(display, LivePlanDisplay)
        text = drawn(display)
        display.update(Findings(Rows(), 0.2))  # type: ignore[arg-type]
    assert text.splitlines()[1] == "a first run with nothing set: loss 0.5000"
    assert "first run" in terminal.getvalue()
    assert terminal.getvalue().rstrip().endswith("\x1b[2K")


def test_plain_lines_of_a_plan_are_few(findings: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a terminal many calls give one line within the first seconds; the next one names the best so far."""
    display = PlainPlanDisplay("t", 30.0)
    for _ in range(100):
        display.pilot(SEEN)
    assert capsys.readouterr().err == "0 s of 30 s: a first run with nothing set: loss 0.5000\n"
    display._next = 0.0
    display.update(findings)
    line = capsys.readouterr().err
    assert "loss 0.3100 (best so far: 64 rows at rate 0.1, 88.8 ms)" in line


def test_a_silent_display_says_nothing(findings: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    """With --quiet nothing is written anywhere."""
    with make_plan_display(Talk(quiet=True), "t", 30.0) as display:
        display.pilot(SEEN)
        display.update(findings)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert sys.stderr is not None
