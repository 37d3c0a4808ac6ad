"""The record of a measurement as a Markdown table, and its place in the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN = "<!-- benchmarks.linear: begin -->"
END = "<!-- benchmarks.linear: end -->"
BAR = 3.0
BAR_CELLS = (("100,000 × 30", 1), ("100,000 × 30", 32))
OURS, PEER = "descend", "scikit-learn SGDClassifier"


def bars(record: dict[str, Any]) -> list[dict[str, Any]]:
    """How many times as fast as ``SGDClassifier`` an epoch is, where a bar was set."""
    found = []
    for cell in record["cells"]:
        if (cell["problem"], cell["batch_size"]) not in BAR_CELLS:
            continue
        times = {result["competitor"]: result for result in cell["results"]}
        if PEER in times:
            wall, cpu = (times[PEER][key] / times[OURS][key] for key in ("seconds", "cpu_seconds"))
            found.append(
                {
                    "problem": cell["problem"],
                    "batch_size": cell["batch_size"],
                    "bar": BAR,
                    "ratio": wall,
                    "cpu_ratio": cpu,
                    "met": wall >= BAR,
                }
            )
    return found


def markdown(record: dict[str, Any]) -> str:
    """What was measured, one line a problem and batch size; then how, and whether the answers agree."""
    names = list(dict.fromkeys(r["competitor"] for cell in record["cells"] for r in cell["results"]))
    lines = [
        "| rows × columns | batch size | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for cell in record["cells"]:
        times = {result["competitor"]: result for result in cell["results"]}
        base = times[OURS]["seconds"]
        entries = [_entry(times[name], base, cell) if name in times else "–" for name in names]
        lines.append(f"| {cell['problem']} | {cell['batch_size']} | " + " | ".join(entries) + " |")
    checks = [cell[kind] for cell in record["cells"] for kind in ("check", "check_timed")]
    worst = max(check["largest_difference"] for check in checks)
    agree = all(check["agree"] for check in checks)
    machine, after = record["machine"], record["machine_after"]
    lines += [
        "",
        "Milliseconds an epoch, and in brackets the time relative to descend's: above 1, descend is faster. "
        "`~`: an epoch was cut short and its time scaled up. `¹`: a row a step whatever the batch size.",
        "",
        f"Final losses {'agree' if agree else '**disagree**'}: they differ by at most "
        f"{100 * worst:.1f} % of what training gained.",
        "",
    ]
    lines += [
        f"Bar, {bar['problem']} at batch size {bar['batch_size']}: {bar['ratio']:.1f} times as fast as "
        f"`SGDClassifier` (processor time: {bar['cpu_ratio']:.1f}), at least {bar['bar']:.0f} wanted: "
        f"{'met' if bar['met'] else '**missed**'}."
        for bar in record["bars"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines += [
        "",
        f"{record['date'][:10]}; {machine['cpu']}, {machine['cores']} cores, one thread each; load "
        f"{machine['load']} before, {after['load']} after; Python {record['python']}, {versions}; "
        f"medians of {record['repeats']}, interleaved.",
    ]
    lines += [f"Left out: {name} ({reason})." for name, reason in record["absent"].items()]
    return "\n".join(lines)


def _entry(result: dict[str, Any], base: float, cell: dict[str, Any]) -> str:
    milliseconds = 1e3 * result["seconds"]
    text = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
    cut = "~" if result["steps_timed"] < result["steps"] else ""
    wanted = cell["rows"] if cell["batch_size"] == "full" else cell["batch_size"]
    other = "¹" if result["batch_size"] != wanted else ""
    ratio = result["seconds"] / base
    beside = "" if result["competitor"] == OURS else f" ({ratio:,.0f})" if ratio >= 10 else f" ({ratio:.2g})"
    return f"{cut}{text}{other}{beside}"


def replace_table(document: Path, table: str) -> None:
    """Puts ``table`` between the markers of ``document``."""
    text = document.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{document} must hold {BEGIN} and {END} once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
