"""What is left to gain, in words: the estimate, the bound beside it, and the rule that ended the run."""

from __future__ import annotations

from descend.report import formatting
from descend.report.schema import Run

RULES = {
    "certified": "It stopped because what is left to gain is certified to be small",
    "certified, earlier": "What was left to gain was certified to be small; kept are earlier parameters, which the "
    "validation rows liked better",
    "nothing gained": "It stopped because it gained nothing more; no certificate says how much is left",
    "early stopping": "It stopped because the validation rows gained nothing more",
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
    name = str(run.get("rule") or "")
    earlier = name == "certified" and (estimate is None or _is_above_its_end(run))
    rule = RULES.get("certified, earlier" if earlier else name, "")
    if not rule or (estimate is None and bound is None):
        return rule and f"{rule}."
    said = []
    if estimate is not None:
        said.append(f"is estimated to be {formatting.number(estimate, 2)}{_of_the_gain(run, estimate)} above")
    if bound is not None:
        said.append(f"is {formatting.number(bound, 2)}{_of_the_gain(run, bound)} above it at the most")
    words = " the lowest there is, and ".join(said) if len(said) == 2 else f"{said[0]} the lowest there is"
    if bound is None:
        words += "; no bound is known"
    elif estimate is None:
        words = words.replace(
            "above it at the most the lowest there is", "above the lowest there is at the most"
        )
    return f"{rule}. The loss {words}."


def _is_above_its_end(run: Run) -> bool:
    """Whether the last row, of the parameters that are kept, has a higher loss than the one where the run ended."""
    columns = run["history"]["columns"]
    losses, updates = columns["loss"][-2:], columns["updates"][-2:]
    known = len(losses) == 2 and None not in losses and updates[0] == updates[1]
    return known and losses[1] > losses[0]


def _of_the_gain(run: Run, gap: float) -> str:
    losses = [loss for loss in run["history"]["columns"]["loss"] if loss is not None]
    gained = losses[0] - losses[-1] if losses else 0.0
    if not gained > 0.0:
        return ""
    return f" ({formatting.number(100.0 * gap / gained, 2)} % of what was gained)"
