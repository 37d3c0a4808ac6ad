"""What is drawn while a command runs."""

from __future__ import annotations

import io
import sys

import pytest

from descend.cli.live import BARS, Display, LiveDisplay, PlainDisplay, curve, make_display
from descend.cli.progress import StatusLine
from descend.cli.talk import Talk
from descend.watching import Observation


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def seen(seconds: float, loss: float) -> Observation:
    return Observation(
        seconds, seconds * 10, int(seconds * 1000), int(seconds * 1000), loss, None, 1000.0, None
    )


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Stderr as a terminal. No fixture: pytest puts its own stream back between a fixture and its test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return stream


def test_displays_suit_where_stderr_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets the table, a dumb one and a pipe lines, and --quiet nothing."""
    on_a_terminal(monkeypatch)
    assert type(make_display(Talk(), "t", [1], 10, 3)) is LiveDisplay
    assert type(make_display(Talk(quiet=True), "t", [1], 10, 3)) is Display
    monkeypatch.setenv("TERM", "dumb")
    assert type(make_display(Talk(), "t", [1], 10, 3)) is PlainDisplay


def test_the_live_table_is_gone_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table shows each kind with a curve while it runs, fits into 80 columns, and touches stderr only."""
    terminal = on_a_terminal(monkeypatch)
    with make_display(Talk(), "adult\x1b[31m", [1, 32, 100], 100, 3) as display:
        for i in range(12):
            display.update("stochastic", 1, 0, seen(0.1 * i, 1.0 / (1 + i)))
        assert isinstance(display, LiveDisplay)
        from rich.console import Console

        console = Console(file=io.StringIO(), width=80)
        with console.capture() as capture:
            console.print(display.table())
    text = capture.get()
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["stochastic", "mini-batch", "batch"]
    assert "1/3" in text
    assert any(bar in text for bar in BARS)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[31m" not in terminal.getvalue()
    assert "adult" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set the live table has no colours."""
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    with make_display(Talk(), "t", [1, 100], 100, 1) as display:
        display.update("stochastic", 1, 0, seen(0.0, 1.0))
    assert "\x1b[38;5" not in terminal.getvalue()


def test_plain_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a terminal a run of many observations gives one line within the first seconds."""
    with make_display(Talk(), "t", [1], 10, 3) as display:
        for i in range(1000):
            display.update("stochastic", 1, 0, seen(0.01 * i, 1.0 / (1 + i)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("stochastic (batch size 1), run 1 of 3: loss ")


@pytest.mark.parametrize("losses", [[1.0], [1.0, float("nan")], [1.0, 1e300, float("inf")], [0.5, 0.5, 0.5]])
def test_a_curve_takes_any_losses(losses: list[float]) -> None:
    """Runs of one point, of no progress and that diverge give bars or nothing, never an error."""
    bars = curve([0.1 * i for i in range(len(losses))], losses, first=losses[0], lowest=0.1)
    assert set(bars) <= set(BARS)


def test_a_curve_falls_from_left_to_right() -> None:
    """A falling loss gives bars that never rise, from the highest to the lowest."""
    seconds = [0.001 * 1.2**i for i in range(60)]
    losses = [1.0 / (1 + 1000 * s) for s in seconds]
    bars = curve(seconds, losses, first=1.0, lowest=losses[-1])
    heights = [BARS.index(bar) for bar in bars]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[-1]) == (7, 0)


def test_a_status_line_fits_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of progress is cut to the terminal's width and wiped out at the end."""
    terminal = on_a_terminal(monkeypatch)
    line = StatusLine(Talk())
    line.show("x" * 500)
    line.show("too soon")
    line.clear()
    assert terminal.getvalue() == "\r\x1b[K" + "x" * 79 + "\r\x1b[K"


def test_a_status_line_of_wide_letters_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters that take two columns are counted so: a line that broke could not be wiped out."""
    terminal = on_a_terminal(monkeypatch)
    StatusLine(Talk()).show("日" * 60)
    assert terminal.getvalue() == "\r\x1b[K" + "日" * 39


@pytest.mark.parametrize("width", [60, 66, 72, 80])
def test_nothing_of_the_live_table_is_cut(width: int) -> None:
    """On a narrow terminal curves are shorter and columns fewer; what is there is whole."""
    from rich.console import Console

    display = LiveDisplay("adult", [1, 32, 123_456], 123_456, 3)
    for i in range(12):
        display._next = float("inf")  # nothing is drawn on stderr
        display.update("stochastic", 1, 0, seen(0.1 * i, 1.0 / (1 + i)))
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(display.table())
    text = capture.get()
    assert "…" not in text
    assert "0.08333" in text
    assert BARS[-1] in text
    assert len(text.splitlines()) == 5
