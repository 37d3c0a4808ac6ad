"""The look of each run of a comparison: one name, colour and symbol wherever it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from descend.errors import shorten
from descend.report import formatting
from descend.report.schema import Run

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star")
GLYPHS = ("●", "■", "◆", "▲", "▼", "★")
_FIXED = {"stochastic": 0, "mini-batch": 1, "batch": 2}


@dataclass(frozen=True, slots=True)
class Series:
    """One run of a comparison and how it is shown.

    ``colour`` names a variable of the style sheet, so that the page can be light or dark.
    """

    run: Run
    label: str
    detail: str
    colour: str
    symbol: str
    glyph: str

    @property
    def reached(self) -> bool:
        """Every seed arrived at the target."""
        return bool(self.run.get("target_reached")) and self.run["target_reached"] == self.run.get(
            "num_seeds"
        )


def comparison_series(run: Run) -> list[Series]:
    """The runs of a comparison in their order.

    The three kinds have colours of their own; a second mini-batch run takes the next free one.
    """
    kinds = [str(one["kind"]) for one in run["runs"]]
    taken: set[int] = set()
    shown = []
    for one, kind in zip(run["runs"], kinds, strict=True):
        slot = _slot(kind, taken)
        taken.add(slot)
        shown.append(
            Series(
                run=one,
                label=_label(one, kinds),
                detail=_detail(one, run["data"].get("rows")),
                colour=f"--series-{slot}",
                symbol=SYMBOLS[slot],
                glyph=GLYPHS[slot],
            )
        )
    return shown


def _slot(kind: str, taken: set[int]) -> int:
    fixed = _FIXED.get(kind)
    if fixed is not None and fixed not in taken:
        return fixed
    free = [slot for slot in range(3, len(SYMBOLS)) if slot not in taken]
    return free[0] if free else len(SYMBOLS) - 1


def _label(one: Any, kinds: Sequence[str]) -> str:
    label = shorten(str(one["kind"]), 20).capitalize()
    several = kinds.count(str(one["kind"])) > 1
    return f"{label} {formatting.batch_size(one['batch_size'])}" if several else label


def _detail(one: Any, rows: float | None) -> str:
    if one["batch_size"] == "full" or one["kind"] == "batch":
        return f"all {formatting.count(rows)} rows a step" if rows is not None else "all rows a step"
    shown = formatting.batch_size(one["batch_size"])
    return f"{shown} row a step" if one["batch_size"] == 1 else f"{shown} rows a step"
