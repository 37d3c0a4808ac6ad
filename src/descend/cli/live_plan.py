"""What is seen of ``batch-size`` while it measures: on a terminal a table with a curve, elsewhere lines."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from descend.cli.progress import PLAIN_SECONDS
from descend.cli.redrawing import Redrawn, Showing
from descend.cli.talk import Talk
from descend.report import formatting
from descend.report.plan_evidence import OUTCOMES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from descend.batch_size.findings import Findings
    from descend.watching import Observation

REDRAW_SECONDS = 0.25
BAR_WIDTH = 14
OTHER_LINES = 4
PILOT = "a first run with nothing set"


@dataclass(frozen=True, slots=True)
class Row:
    """One batch size as it stands: texts, and seconds to the target where they are known or predicted."""

    size: int
    step: str
    rate: str
    steps: str
    seconds: float | None
    measured: bool
    state: str


class PlanDisplay(Showing):
    """Silent; also the base of the others. ``pilot`` and ``update`` follow what is measured."""

    def __init__(self, name: str, budget: float) -> None:
        super().__init__()
        self.name, self.budget = name, budget
        self.found: Findings | None = None
        self.seen: Observation | None = None

    def pilot(self, seen: Observation) -> None:
        """Takes in a look at the first run."""
        self.seen = seen
        self.draw_if_due()

    def update(self, found: Findings) -> None:
        """Takes in what has been measured so far."""
        self.found = found
        self.draw_if_due()

    @property
    def clock(self) -> str:
        """Seconds of the budget."""
        spent = formatting.duration(round(self.seconds))
        return f"{spent} of {formatting.duration(self.budget)}"

    @property
    def doing(self) -> str:
        """What is being done, in words."""
        if self.found is None:
            return PILOT if self.seen is None else f"{PILOT}: loss {formatting.loss(self.seen.loss)}"
        running = self.found.running
        if running is None:
            return self.found.doing
        rate = formatting.number(running.rate, 3)
        return f"{self.found.doing}, rate {rate}: loss {formatting.loss(running.look.loss)}"


class PlainPlanDisplay(PlanDisplay):
    """A line every few seconds, for logs."""

    def draw(self) -> float:
        print(f"{self.clock}: {self.doing}{self._best()}", file=sys.stderr, flush=True)
        return PLAIN_SECONDS

    def _best(self) -> str:
        best = None if self.found is None else self.found.best
        if best is None:
            return ""
        size = formatting.counted(best.batch_size, "row")
        rate, seconds = formatting.number(best.rate, 3), formatting.duration(best.seconds)
        return f" (best so far: {size} at rate {rate}, {seconds})"


class LivePlanDisplay(PlanDisplay):
    """A table that replaces itself; drawn by the callbacks, so nothing competes with what is measured."""

    def __init__(self, name: str, budget: float) -> None:
        super().__init__(name, budget)
        self._drawn = Redrawn()

    def draw(self) -> float:
        self._drawn.show(self.table(self._drawn.height))
        return REDRAW_SECONDS

    def close(self) -> None:
        self._drawn.close()

    def table(self, height: int = 24) -> RenderableType:
        """The state as a table of at most ``height`` lines."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        title = Text(f"batch size on {formatting.prose(self.name, 30)} · {self.clock}", style="dim")
        doing = Text(self.doing, style="dim", no_wrap=True, overflow="ellipsis")
        if self.found is None:
            return Group(title, doing)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("batch", "a step", "rate", "steps", "to target"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True, width=BAR_WIDTH)
        table.add_column("", no_wrap=True, overflow="ellipsis")
        rows = table_rows(self.found, height - OTHER_LINES)
        bars = curve_bars([row.seconds for row in rows])
        best = self.found.best
        for row, bar in zip(rows, bars, strict=True):
            style = "bold" if best is not None and row.size == best.batch_size else ""
            time_text = formatting.duration(row.seconds) if row.seconds is not None else ""
            faint = style if row.measured else "dim"
            table.add_row(
                *(Text(text, style=style) for text in (f"{row.size:,}", row.step, row.rate, row.steps)),
                Text(time_text, style=faint),
                Text(bar, style="dodger_blue1" if row.measured else "dim"),
                Text(row.state, style=style),
            )
        return Group(title, doing, table)


def table_rows(found: Findings, most: int) -> list[Row]:
    """A row for every size that was timed; where there are more than ``most``, for those that were tried."""
    tried = {branch.batch_size for branch in found.branches}
    if found.running is not None:
        tried.add(found.running.batch_size)
    sizes = sorted({*found.times.sizes, *tried})
    if len(sizes) > most:
        sizes = sorted(tried)[: max(most, 1)]
    predicted = found.predicted()
    return [_row(found, size, predicted.get(size)) for size in sizes]


def _row(found: Findings, size: int, seconds: float | None) -> Row:
    best, fastest = found.best_of_sizes.get(size), found.best
    step = found.times.seconds.get(size)
    rate = formatting.number(best.rate, 3) if best else ""
    steps = formatting.short_count(best.updates) if best else ""
    state = "fastest so far" if fastest is not None and fastest.batch_size == size else _state(found, size)
    if found.running is not None and found.running.batch_size == size:
        rate = rate or formatting.number(found.running.rate, 3)
        state = "training"
    return Row(
        size,
        formatting.duration(step) if step else "",
        rate,
        steps,
        seconds,
        best is not None,
        state,
    )


def _state(found: Findings, size: int) -> str:
    """How the last run of a size ended; nothing where none was made."""
    own = [branch for branch in found.branches if branch.batch_size == size]
    if any(branch.reached for branch in own):
        return "measured"
    return OUTCOMES.get(own[-1].outcome, own[-1].outcome) if own else ""


def curve_bars(values: Iterable[float | None], width: int = BAR_WIDTH) -> list[str]:
    """Bars as long as the logarithm over the least one; the least has one mark, a hundred times it all of them.

    >>> curve_bars([1.0, 10.0, 1000.0, None], width=5)
    ['█', '███', '█████', '']
    """
    given = list(values)
    least = min((value for value in given if value), default=None)
    if least is None:
        return ["" for _ in given]
    return [
        "█" * (1 + min(width - 1, round((width - 1) * math.log10(v / least) / 2))) if v else "" for v in given
    ]


def make_plan_display(talk: Talk, name: str, budget: float) -> PlanDisplay:
    """The display that suits where stderr goes."""
    kind = PlanDisplay if talk.quiet else LivePlanDisplay if talk.is_live else PlainPlanDisplay
    return kind(name, budget)
