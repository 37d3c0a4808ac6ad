"""What is seen of a comparison while it runs: on a terminal a table with small curves, elsewhere lines."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from descend.cli.progress import PLAIN_SECONDS
from descend.cli.redrawing import Redrawn, Showing
from descend.cli.talk import Talk
from descend.report import formatting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from descend.watching import Observation

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 24
SMALLEST_GAP = 1e-3
REDRAW_SECONDS = 0.15
FIRST_SECONDS = 0.1
"""Before that much training there is nothing to say about its speed."""
_STYLES = {"stochastic": "dark_orange", "mini-batch": "dodger_blue1", "batch": "green"}


@dataclass(slots=True)
class Lane:
    """One batch size: what its latest run has shown so far."""

    kind: str
    batch_size: int
    seed: int | None = None
    num_runs: int = 0
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    last: Observation | None = None

    def add(self, seed: int, seen: Observation) -> None:
        if seed != self.seed:
            self.seed, self.num_runs = seed, self.num_runs + 1
            self.seconds, self.losses = [], []
        self.seconds.append(seen.seconds)
        self.losses.append(seen.loss)
        self.last = seen


class Display(Showing):
    """Silent; also the base of the others. ``update`` follows the runs."""

    def __init__(self, name: str, batch_sizes: Sequence[int], num_rows: int, seeds: int) -> None:
        from descend.batches import kind_of

        super().__init__()
        self.name = name
        self.seeds = seeds
        self.lanes = {size: Lane(kind_of(size, num_rows), size) for size in batch_sizes}
        self.lane: Lane | None = None
        """Whose run was seen last."""
        self.first_loss = float("nan")
        self.lowest = math.inf

    def update(self, kind: str, batch_size: int | str, seed: int, seen: Observation) -> None:
        """Takes in one observation."""
        self.lane = self.lanes[int(batch_size)]
        self.lane.add(seed, seen)
        if seen.updates == 0:
            self.first_loss = seen.loss
        if math.isfinite(seen.loss):
            self.lowest = min(self.lowest, seen.loss)
        self.draw_if_due()

    def measuring(self) -> None:
        """The runs are over; what is measured of them may take a moment."""


class PlainDisplay(Display):
    """A line every few seconds, for logs."""

    def draw(self) -> float:
        lane = self.lane
        if lane is None or lane.last is None or lane.last.seconds < FIRST_SECONDS:
            return 0.0
        print(
            f"{lane.kind} (batch size {lane.batch_size:,}), run {lane.num_runs} of {self.seeds}: "
            f"loss {formatting.loss(lane.last.loss)} after {formatting.count(lane.last.epoch)} epochs, "
            f"{formatting.short_count(lane.last.rows_per_second)} rows/s",
            file=sys.stderr,
            flush=True,
        )
        return PLAIN_SECONDS

    def measuring(self) -> None:
        if self.seconds > PLAIN_SECONDS:
            print("the runs are over: measuring where they ended", file=sys.stderr, flush=True)


class LiveDisplay(Display):
    """A table that replaces itself; drawn by the callback, so nothing competes with training."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._drawn = Redrawn()
        self._doing = "comparing"

    def measuring(self) -> None:
        self._doing = "measuring where runs ended"
        if self._drawn.is_shown:
            self._drawn.show(self.table())

    def draw(self) -> float:
        self._drawn.show(self.table())
        return REDRAW_SECONDS

    def close(self) -> None:
        self._drawn.close()

    def table(self) -> RenderableType:
        """The state as a table."""
        from rich.table import Table
        from rich.text import Text

        seconds = formatting.duration(round(self.seconds))
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", header_style="dim"
        )
        table.title = Text(f"{self._doing} on {formatting.prose(self.name, 40)} · {seconds}", style="dim")
        for title in ("", "batch", "run", "loss", "its gap to the lowest", "epochs", "rows/s"):
            right = title in ("batch", "loss", "epochs", "rows/s")
            table.add_column(title, justify="right" if right else "left", no_wrap=True)
        for lane in self.lanes.values():
            style = _STYLES.get(lane.kind, "")
            cells = self._cells(lane)
            table.add_row(Text(lane.kind, style=style), *(Text(cell, style=style if i == 3 else "")
                                                          for i, cell in enumerate(cells)))  # fmt: skip
        return table

    def _cells(self, lane: Lane) -> list[str]:
        size = f"{lane.batch_size:,}"
        if lane.last is None:
            return [size, f"0/{self.seeds}", "", "", "", ""]
        return [
            size,
            f"{lane.num_runs}/{self.seeds}",
            formatting.loss(lane.last.loss),
            curve(lane.seconds, lane.losses, self.first_loss, self.lowest),
            formatting.short_count(lane.last.epoch),
            formatting.short_count(lane.last.rows_per_second),
        ]


def make_display(talk: Talk, name: str, batch_sizes: Sequence[int], num_rows: int, seeds: int) -> Display:
    """The display that suits where stderr goes."""
    kind = Display if talk.quiet else LiveDisplay if talk.is_live else PlainDisplay
    return kind(name, batch_sizes, num_rows, seeds)


def curve(
    seconds: Sequence[float], losses: Sequence[float], first: float, lowest: float, width: int = CURVE_WIDTH
) -> str:
    """A descent as bars: the gap to the lowest loss, on a log scale, over the logarithm of time.

    >>> curve([0.0, 0.1, 1.0, 10.0], [1.0, 0.5, 0.1, 0.0], first=1.0, lowest=0.0, width=4)
    '██▆▁'
    """
    moments = [s for s in seconds if s > 0]
    if not moments or not first > lowest:
        return ""
    low, high = math.log(moments[0]), math.log(max(moments[-1], moments[0] * 1.01))
    bars = []
    for place in range(width):
        moment = math.exp(low + (high - low) * place / (width - 1)) * 1.000001
        loss = losses[bisect_right(seconds, moment) - 1] if place else losses[0]
        gap = (loss - lowest) / (first - lowest)
        share = 1 - math.log(min(max(gap, SMALLEST_GAP), 1.0)) / math.log(SMALLEST_GAP) if gap == gap else 1.0
        bars.append(BARS[min(len(BARS) - 1, int(share * len(BARS)))])
    return "".join(bars)
