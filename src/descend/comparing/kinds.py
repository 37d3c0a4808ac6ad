"""One kind of gradient descent as its runs showed it: the figures that claims are answered from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any

import numpy as np

from descend.comparing.clearly import Spread
from descend.comparing.gradient_noise import GradientNoise

GAINED = 1e-6
"""Of the first loss: less than that is rounding, and no gap to measure anything by."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind's summary, as ``comparison`` makes it, with what claims need to read it."""

    summary: dict[str, Any]
    first_loss: float
    best_loss: float
    noise: GradientNoise
    num_rows: int
    is_streamed: bool = False
    """Whether rows stayed on the disk, and were read in every epoch."""

    @property
    def name(self) -> str:
        return str(self.summary["kind"])

    @property
    def label(self) -> str:
        return f"{self.name} ({self.summary['batch_size']:,})" if self.name == "mini-batch" else self.name

    @property
    def gap(self) -> float:
        return max(self.first_loss - self.best_loss, 1e-300)

    @property
    def has_gap(self) -> bool:
        """Whether any run gained anything."""
        return self.first_loss - self.best_loss > GAINED * abs(self.first_loss)

    @property
    def has_diverged(self) -> bool:
        """Whether a seed did: where it ended and what it took until then say nothing of the others."""
        return "diverged" in self.summary["stopped"]

    def columns(self) -> list[dict[str, list[Any]]]:
        return [history["columns"] for history in self.summary["histories"]]

    def final_losses(self) -> list[float]:
        """The last loss of each seed's history; infinite where there is none."""
        lasts = [c["loss"][-1] for c in self.columns()]
        return [float("inf") if loss is None else float(loss) for loss in lasts]

    def seconds_to_share(self, share: float) -> Spread:
        """Seconds until ``share`` of the gap is closed."""
        found = []
        for c in self.columns():
            start = (
                self.first_loss if c["loss"][0] is None else c["loss"][0]
            )  # another seed may start elsewhere
            target = start - share * (start - self.best_loss)
            pairs = _pairs(c, "seconds", "loss")
            found.append(next((s for s, loss in pairs if loss <= target), inf))
        return Spread.of(found)

    def loss_after(self, column: str, amount: float) -> Spread:
        """Loss at the last observation at or before ``amount`` seconds or epochs, as a share of the gap."""
        losses = [
            [loss for place, loss in _pairs(c, column, "loss") if place <= amount][-1] for c in self.columns()
        ]
        return Spread.of([(loss - self.best_loss) / self.gap for loss in losses])

    def hovering(self) -> float:
        """Mean height of the last parameters over the best loss in the last third of the run, share of the gap."""
        heights = [np.mean(_last_third(c)) for c in self.columns()]
        return (float(np.median(heights)) - self.best_loss) / self.gap

    def wobble(self) -> float:
        """Standard deviation of the step from look to look of the last parameters' loss, last third, share of gap."""
        wobbles = []
        for c in self.columns():
            steps = np.diff(_last_third(c))
            wobbles.append(float(np.std(steps)) if len(steps) > 2 else np.nan)
        return float(np.nanmedian(wobbles)) / self.gap if np.isfinite(wobbles).any() else float("nan")

    def seconds_to_target(self) -> Spread:
        """Seconds until the target."""
        found, seeds = self.summary["seconds_to_target"], self.summary["num_seeds"]
        if not found:
            return Spread(inf, inf, inf, seeds)
        if self.summary["target_reached"] < seeds:
            return Spread(found["low"], inf, inf, seeds)
        return Spread(found["low"], found["median"], found["high"], seeds)

    @property
    def rows_per_second(self) -> float:
        """Median; not a number where no run took time."""
        return float(self.summary["rows_per_second"] or nan)

    def speeds(self) -> Spread:
        """Rows a second of training."""
        low, high = self.summary["rows_per_second_range"] or (nan, nan)
        return Spread(low, self.rows_per_second, high, self.summary["num_seeds"])

    def updates_an_epoch(self) -> float:
        return float(self.num_rows / self.summary["batch_size"])

    def seconds_an_update(self) -> float:
        return float(self.summary["batch_size"] / self.rows_per_second)

    def seconds_an_epoch(self) -> float:
        return float(self.num_rows / self.rows_per_second)


def _pairs(columns: dict[str, list[Any]], x: str, y: str) -> list[tuple[float, float]]:
    return [(a, b) for a, b in zip(columns[x], columns[y], strict=True) if b is not None]


def _last_third(columns: dict[str, list[Any]]) -> list[float]:
    pairs = _pairs(columns, "rows", "last_loss")
    end = pairs[-1][0]
    return [loss for rows, loss in pairs if rows >= end * 2 / 3] or [pairs[-1][1]]


def find_kind(kinds: list[Kind], name: str) -> Kind | None:
    """The kind of that name; of several mini-batch sizes the one that reached the target first."""
    named = [kind for kind in kinds if kind.name == name]
    return min(named, key=lambda kind: kind.seconds_to_target().median, default=None)


def listing(kinds: list[Kind], text: Callable[[Kind], str]) -> str:
    """A figure for each kind, as in: stochastic 1 s, batch 2 s."""
    return ", ".join(f"{kind.label} {text(kind)}" for kind in kinds)
