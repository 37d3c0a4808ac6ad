"""The page of a plan: what the template is given."""

from __future__ import annotations

from typing import Any

from descend.report import facts, formatting, plan_evidence
from descend.report.plan_figures import plan_figures
from descend.report.plan_sweep import size_hues, sweep_sizes
from descend.report.plan_tables import plan_tables
from descend.report.schema import Run


def plan_context(run: Run) -> dict[str, Any]:
    """Words, tables and figures of a plan, for ``plan.html.j2``."""
    figures = plan_figures(run)
    sizes = sweep_sizes(run)
    hues = size_hues(sizes)
    return {
        "charts": {name: {"figure": figure} for name, figure in figures.items()},
        "because": reasons(run),
        "glance": plan_glance(run),
        "captions": _captions(run),
        "legend": [(formatting.batch_size(size), hues[size], "●") for size in sizes],
        "numbers": plan_tables(run),
        "noise": _noise_words(run),
        "process_memory": _process_memory(run),
        "facts": [
            ("Data", facts.data_facts(run)),
            ("Settings", facts.settings_facts(run)),
            ("Machine", facts.machine_facts(run)),
        ],
    }


def reasons(run: Run) -> list[str]:
    """The explanation without the sentence that is the verdict."""
    return [text for text in run.get("explanation") or () if text != run["verdict"]]


def plan_glance(run: Run) -> list[tuple[str, str, str]]:
    """The answer in figures, each with its name and a detail; the same on the page and in a terminal."""
    predicted = run.get("predicted") or {}
    told = run["told"]
    low, high = plan_evidence.equivalent(run)
    others = "no other size" if low == high else f"{low:,} to {high:,}"
    time, ends = _time(predicted)
    pairs = [
        ("Batch size" if told else "Batch size to begin with", *_size(run)),
        ("Learning rate", formatting.number(run.get("learning_rate"), 3), ""),
        ("Optimizer", _optimizer(run), ""),
        ("Time to the target", time if told else "cannot be told", ends if told else ""),
        ("Within 10 % of it", others if told else "", ""),
        ("Bound by", formatting.prose(run.get("bound_by") or "", 40) if told else "", ""),
        ("A step takes", formatting.duration(predicted.get("step_seconds")), ""),
        ("Peak memory", formatting.size(predicted.get("peak_bytes")), ""),
    ]
    return [entry for entry in pairs if entry[1] not in ("", formatting.NOTHING)]


def _size(run: Run) -> tuple[str, str]:
    size, parts = formatting.batch_size(run["batch_size"]), run.get("accumulation") or 1
    return size, "" if parts == 1 else f"in {parts} parts of {formatting.batch_size(run.get('microbatch'))}"


def _optimizer(run: Run) -> str:
    name, momentum = formatting.prose(run.get("optimizer") or "", 20), run.get("momentum")
    return name if momentum is None else f"{name} {formatting.number(momentum, 3)}"


def _time(predicted: Any) -> tuple[str, str]:
    ends = plan_evidence.pair_of(predicted.get("seconds_to_target_interval"))
    low, high = ends or (None, None)
    measured = {"median": predicted.get("seconds_to_target"), "low": low, "high": high}
    return (
        formatting.spread(measured, formatting.duration)
        if ends
        else (formatting.duration(measured["median"]), "")
    )


def _captions(run: Run) -> dict[str, str]:
    """What is said under a figure, by its name."""
    has_wall = plan_evidence.ceiling(run) is not None
    wall = " The dashed upright line is the most rows that memory holds at once." if has_wall else ""
    return {
        "seconds-to-target": "Filled: measured by training until the target; open: predicted from a step's time and "
        "the number of steps. The diamond is the answer, with the range over seeds. Shaded: from the smallest "
        f"to the largest size within 10 % of it.{wall}",
        "step-seconds": "Points are medians, bars the range of the rounds; the dotted line is the answer."
        + _affine_words(run)
        + _cliff_words(run),
        "steps-to-target": _law_words(run),
        "memory": "Peak memory while steps of a size were taken; the dotted line is the answer."
        + wall
        + _room_words(run),
    }


def _room_words(run: Run) -> str:
    """What the line across is."""
    room = run["evidence"].get("room_bytes")
    if not room:
        return ""
    bound = run["evidence"].get("room_bound")
    reason = f", by {formatting.prose(bound, 60)}" if bound else ""
    return f" The line across is {formatting.size(room)}, what there is room for{reason}."


def _affine_words(run: Run) -> str:
    fit = plan_evidence.affine(run)
    if fit is None:
        return " No straight line a + b·B holds at every size within 15 %, so none is drawn."
    step, row = (formatting.duration(part) for part in fit)
    return f" Dashed: {step} and {row} for each row, within 15 % of every point."


def _cliff_words(run: Run) -> str:
    cliffs = [int(size) for size in run["evidence"].get("cliffs") or () if size]
    if not cliffs:
        return ""
    return (
        " Diamonds mark cliffs, where a row costs 1.3 times what it does at half the size, or more: "
        f"{_sizes(cliffs)}."
    )


def _law_words(run: Run) -> str:
    words = (
        "Filled: the best rate of each size; open: every run that reached the target, at other rates too; "
        "the dotted line is the answer."
    )
    law = plan_evidence.steps_law(run)
    if law is None:
        few = len(plan_evidence.by_size(run, "steps_to_target")) < plan_evidence.FEWEST_OF_A_LAW
        why = (
            "Fewer than three sizes reached the target"
            if few
            else "No law S_min · (1 + B_crit / B) holds within 25 %"
        )
        return f"{words} {why}, so none is drawn."
    fewest, critical = (formatting.count(round(number)) for number in law)
    ends = plan_evidence.pair_of(run["evidence"].get("critical_batch_size_interval"))
    spread = ""
    if ends is not None:
        low, high = (formatting.count(round(end)) for end in ends)
        spread = f" ({low} to {high}, shaded: each measurement left out in turn)"
    return (
        f"{words} Dashed: S = {fewest} · (1 + B_crit / B). The critical batch size B_crit is {critical}{spread}: "
        "there, twice as many steps are needed as by the largest batches."
    )


def _noise_words(run: Run) -> str:
    """Gradient noise as a number of rows, where it was measured."""
    noise = run["evidence"].get("noise") or {}
    places = (("first", "at the start"), ("last", "near the end"))
    said = [f"{words} {place}" for key, place in places if (words := _rows_of_noise(noise.get(key) or {}))]
    if not said:
        return ""
    return (
        f"Gradient noise tr Σ / |G|², in rows: {' and '.join(said)}. It is shown for comparison and not used."
    )


def _rows_of_noise(noise: Any) -> str:
    if noise.get("simple"):
        return formatting.count(round(noise["simple"], 1))
    low = next(iter(noise.get("interval") or ()), None)
    return "" if low is None else f"at least {formatting.count(round(low, 1))}"


def _sizes(sizes: list[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def _process_memory(run: Run) -> str:
    """What is said where memory was not measured size by size."""
    memory = plan_evidence.by_size(run, "memory_bytes")
    if not memory or plan_evidence.memory_is_told(run):
        return ""
    most = formatting.size(max(memory.values()))
    return (
        f"The process held {most} at the most while all sizes were measured; no size was measured on its own."
    )
