"""The record of a measurement as Markdown, and its place in the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.ratios import OURS, READ

BEGIN = "<!-- benchmarks.linear: begin -->"
END = "<!-- benchmarks.linear: end -->"
TITLES = {
    "dense": "Dense rows, one output",
    "softmax": "Dense rows, several classes (softmax)",
    "sparse": "Sparse rows",
}


def markdown(record: dict[str, Any]) -> str:
    """Ratios, times, whether the answers agree, who ran and how: all that the record holds."""
    cells = record["cells"]
    parts = [
        _ratios(record["ratios"]),
        *_times(cells, list(record["what"])),
        _agreement(cells),
        _who(record),
        f"## How it is measured\n\n{record['how']}",
    ]
    return "\n\n".join(part for part in parts if part)


def _ratios(ratios: list[dict[str, Any]]) -> str:
    if not ratios:
        return ""
    lines = [
        "## In short",
        "",
        "| rows | against | batch sizes | cells | geometric mean | worst cell | wanted |",
        "|---|---|---|---:|---:|---|---|",
    ]
    for r in ratios:
        bars = "; ".join(f"{b['text']}: {'met' if b['met'] else '**missed**'}" for b in r["bars"]) or "–"
        sizes = ", ".join(map(str, r["batch_sizes"]))
        lines.append(
            f"| {r['group']} | {r['peer']} | {sizes} | {r['cells']} | {r['mean']:.2f} | "
            f"{r['worst']:.2f} ({r['worst_cell']}) | {bars} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"The peer's time over descend's: above 1, descend is faster. Against the {READ} it is the other way "
            "round: how many times as long as reading an epoch takes.",
        ]
    )


def _times(cells: list[dict[str, Any]], competitors: list[str]) -> list[str]:
    parts = []
    for group, title in TITLES.items():
        of_group = [cell for cell in cells if cell["group"] == group]
        if of_group:
            parts += [f"## {title}", _table(of_group, competitors)]
    parts.append(
        "Milliseconds an epoch, and in brackets the time relative to descend's: above 1, descend is faster. "
        "`~`: an epoch was cut short, or fewer rows ran, and the time scaled up. `¹`: a row a step, or no step at "
        "all, whatever the batch size."
    )
    return parts


def _table(cells: list[dict[str, Any]], competitors: list[str]) -> str:
    ran = {result["competitor"] for cell in cells for result in cell["results"]}
    names = [name for name in competitors if name in ran]
    lines = [
        "| rows × columns | batch size | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for cell in cells:
        times = {result["competitor"]: result for result in cell["results"]}
        entries = [_entry(times[name], times, cell) if name in times else "–" for name in names]
        lines.append(f"| {cell['problem']} | {cell['batch_size']} | " + " | ".join(entries) + " |")
    return "\n".join(lines)


def _entry(result: dict[str, Any], times: dict[str, Any], cell: dict[str, Any]) -> str:
    cut = "~" if result["share_timed"] < 0.999 else ""
    other = "¹" if result["row_a_step"] and cell["batch_size"] != 1 else ""
    beside = ""
    if result["competitor"] != OURS and OURS in times:
        beside = f" ({_short(result['seconds'] / times[OURS]['seconds'])})"
    return f"{cut}{_short(1e3 * result['seconds'])}{other}{beside}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _agreement(cells: list[dict[str, Any]]) -> str:
    checks = [cell[kind] for cell in cells for kind in ("check", "check_timed")]
    worst = max(check["largest_difference"] for check in checks)
    agree = all(check["agree"] for check in checks)
    return (
        f"Final losses of those that run the same algorithm {'agree' if agree else '**disagree**'}: they differ by "
        f"at most {100 * worst:.1f} % of what training gained."
    )


def _who(record: dict[str, Any]) -> str:
    machine, after = record["machine"], record["machine_after"]
    loads = [cell["load"] for cell in record["cells"]]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "## Who ran",
        "",
        "| competitor | what runs |",
        "|---|---|",
        *(f"| {name} | {what} |" for name, what in record["what"].items()),
        "",
        *(f"Left out: {name} ({reason})." for name, reason in record["absent"].items()),
        "",
        f"{record['date'][:10]}; {machine['cpu']}, {machine['cores']} cores, one thread each; load "
        f"{machine['load']} before, {after['load']} after, {min(loads)} to {max(loads)} in between; the whole took "
        f"{record['seconds'] / 60:.0f} min. Python {record['python']}, {versions}; medians of {record['repeats']}, "
        "interleaved.",
    ]
    return "\n".join(lines)


def replace_table(document: Path, table: str, benchmark: str = "linear") -> None:
    """Puts ``table`` between the markers that ``document`` has for this benchmark."""
    begin, end = (marker.replace("linear", benchmark) for marker in (BEGIN, END))
    text = document.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{document} must hold {begin} and {end} once each")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    document.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
