"""What is left to gain, in words: the estimate, the bound beside it, and the rule that ended the run."""

from __future__ import annotations

from typing import Any

from descend.report import formatting
from descend.report.schema import Run

RULES = {
    "certified": "It stopped because what is left to gain is certified to be small",
    "nothing gained": "It stopped because it gained nothing more; no certificate says how much is left",
    "early stopping": "Kept are the parameters that the validation rows liked best",
    "epochs": "It stopped after the last of its epochs",
    "time": "It stopped because its time was up",
    "interrupted": "It was interrupted",
}


def left_figure(run: Run) -> str:
    """The estimate and the bound, short: ``1.2e-5, at most 0.004``; empty where nothing is known."""
    estimate, bound = run.get("gap_estimate"), run.get("gap_bound")
    said = [] if estimate is None else [formatting.number(estimate, 2)]
    if bound is not None:
        said.append(f"at most {formatting.number(bound, 2)}")
    return ", ".join(said)


def left_sentence(run: Run) -> str:
    """Why the run stopped, and how far above the lowest loss it is; empty for runs that were saved without."""
    estimate, bound = run.get("gap_estimate"), run.get("gap_bound")
    rule = RULES.get(str(run.get("rule") or ""), "")
    if not rule or (estimate is None and bound is None):
        return rule and f"{rule}."
    if estimate is None:
        return f"{rule}. The loss is {_height(run, bound)} above the lowest there is at the most."
    words = f"is estimated to be {_height(run, estimate)} above the lowest there is"
    beside = (
        "; no bound is known" if bound is None else f", and is {_height(run, bound)} above it at the most"
    )
    return f"{rule}. The loss {words}{beside}."


def _height(run: Run, gap: Any) -> str:
    return f"{formatting.number(gap, 2)}{_of_the_gain(run, gap)}"


def _of_the_gain(run: Run, gap: float) -> str:
    losses = [loss for loss in run["history"]["columns"]["loss"] if loss is not None]
    gained = losses[0] - losses[-1] if losses else 0.0
    if not gained > 0.0:
        return ""
    return f" ({formatting.number(100.0 * gap / gained, 2)} % of what was gained)"
