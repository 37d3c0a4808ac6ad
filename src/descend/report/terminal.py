"""The tables of a terminal. ``rich`` is imported when something is drawn, and colours only a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from descend.report import formatting, plan_evidence
from descend.report.comparison import ANSWERS, claim_groups, claim_tally
from descend.report.ends import ends_measures, has_ends, walls_text, why_not_tried
from descend.report.fit import fit_glance, metric_rows
from descend.report.measures import seeds_words
from descend.report.plan import plan_glance
from descend.report.schema import check_run
from descend.report.series import Series, comparison_series

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.table import Table

WIDE = 1000
"""Columns of a terminal that every table fits into."""
_STYLES = {"stochastic": "dark_orange", "mini-batch": "dodger_blue1", "batch": "green"}
_ANSWER_STYLES = {"yes": "green", "no": "red", "unknown": "dim"}


def comparison_table(run: dict[str, Any]) -> Group:
    """Table, verdict and claims of a comparison, to give to ``rich.console.Console.print``.

    Names from the data are plain text: neither markup nor control characters of theirs have an effect.
    """
    from rich.console import Group
    from rich.text import Text

    checked = check_run(run)
    shown = comparison_series(checked)
    notes = [
        Text(f"{series.label}: {formatting.prose(series.run['note'], 300)}", style="dim")
        for series in shown
        if series.run.get("note")
    ]
    target = f"target: loss {formatting.number(checked.get('target_loss'))}"
    heading = Text(f"{formatting.prose(checked['data']['name'], 60)}, {target}", style="dim")
    return _group(
        Group, [heading, _runs(shown), *notes], _verdict(checked), _ends(checked, shown), _claims(checked)
    )


def comparison_text(run: dict[str, Any], width: int = 100) -> str:
    """The same without colour, for a pipe or a log."""
    return _text(comparison_table(run), width)


def fit_table(run: dict[str, Any]) -> Group:
    """Verdict, metrics and figures of one training, to give to ``rich.console.Console.print``."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    checked = check_run(run)
    has_validation = bool(checked.get("validation"))
    metrics = _frame(Table)
    metrics.add_column("")
    for name in (["validation"] if has_validation else []) + ["training"]:
        metrics.add_column(name, justify="right")
    for name, train, validation in metric_rows(checked):
        metrics.add_row(Text(name), *([Text(validation)] if has_validation else []), Text(train))
    figures = Text(" · ".join(f"{name.lower()} {text}" for name, text in fit_glance(checked)), style="dim")
    return _group(Group, _verdict(checked), [metrics] if metrics.row_count else [], [figures])


def fit_text(run: dict[str, Any], width: int = 100) -> str:
    """The same without colour, for a pipe or a log."""
    return _text(fit_table(run), width)


def plan_table(run: dict[str, Any]) -> Group:
    """Answer, measured sizes and explanation, to give to ``rich.console.Console.print``."""
    from rich.console import Group
    from rich.text import Text

    checked = check_run(run)
    heading = formatting.prose(checked["data"]["name"], 60)
    if checked.get("target_loss") is not None:
        heading += f", target: loss {formatting.number(checked['target_loss'])}"
    sizes = _plan_sizes(checked)
    sentences = [formatting.prose(text, 600) for text in checked.get("explanation") or [checked["verdict"]]]
    return _group(
        Group,
        [Text(heading, style="dim"), _plan_answer(checked)],
        [sizes] if sizes.row_count else [],
        [Text(text, style="" if i else "bold") for i, text in enumerate(sentences)],
    )


def plan_text(run: dict[str, Any], width: int = 80) -> str:
    """The same without colour, for a pipe or a log."""
    return _text(plan_table(run), width)


def _text(renderable: RenderableType, width: int) -> str:
    import io

    from rich.console import Console

    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False
    )
    with console.capture() as capture:
        console.print(renderable, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _group(group: type[Group], *parts: list[RenderableType]) -> Group:
    """The parts with an empty line between them."""
    given = [part for part in parts if part]
    return group(*[item for i, part in enumerate(given) for item in ([""] if i else []) + part])


def _frame(table: type[Table]) -> Table:
    return table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


LEFT_OUT = ("memory", "rows/s", "updates", "seeds", "batch")
"""Columns that a narrow terminal does without, one after the other."""


def _runs(shown: list[Series]) -> Fitting:
    return Fitting([_runs_without(shown, LEFT_OUT[:number]) for number in range(len(LEFT_OUT) + 1)])


def _runs_without(shown: list[Series], left_out: tuple[str, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    fastest = _fastest(shown)
    table = _frame(Table)
    table.add_column("", no_wrap=True)
    rows = [[Text(series.label, style=_STYLES.get(series.run["kind"], ""))] for series in shown]
    for name, text in RUN_COLUMNS.items():
        if name in left_out:
            continue
        table.add_column(name, justify="right", no_wrap=True)
        for series, row in zip(shown, rows, strict=True):
            row.append(Text(text(series.run), style="bold" if name == "time" and series is fastest else ""))
    for row in rows:
        table.add_row(*row)
    return table


RUN_COLUMNS: dict[str, Callable[[Any], str]] = {
    "batch": lambda one: formatting.batch_size(one["batch_size"]),
    "time": lambda one: formatting.spread(one.get("seconds_to_target"), formatting.duration)[0],
    "epochs": lambda one: _median(one.get("epochs_to_target")),
    "updates": lambda one: _median(one.get("updates_to_target")),
    "seeds": lambda one: seeds_words(one).removesuffix("s").removesuffix(" seed"),
    "final loss": lambda one: formatting.loss(one.get("final_loss")),
    "rows/s": lambda one: formatting.short_count(one.get("rows_per_second")),
    "memory": lambda one: formatting.size(one.get("peak_bytes")),
}


class Fitting:
    """Of several tables, the widest first, the first that the terminal has room for, or else the last."""

    def __init__(self, tables: list[Table]) -> None:
        self.tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        wide = options.update(max_width=WIDE)
        fitting = (
            table for table in self.tables
            if console.measure(table, options=wide).maximum <= options.max_width
        )  # fmt: skip
        yield next(fitting, self.tables[-1])


def _ends(run: Any, shown: list[Series]) -> list[RenderableType]:
    """Where a network's runs ended: measures down, runs across; and the walls between."""
    from rich.table import Table
    from rich.text import Text

    if not has_ends(run):
        return []
    table = _frame(Table)
    table.add_column("Where they ended")
    for series in shown:
        table.add_column(Text(series.label, style=_STYLES.get(series.run["kind"], "")), justify="right")
    for number, (group, rows) in enumerate(ends_measures(run, shown)):
        if number:
            table.add_row(Text(group, style="bold"))
        for measure in rows:
            table.add_row(Text(measure.name), *(Text(cell.detail or cell.text) for cell in measure.cells))
    lines = [line for line in (walls_text(run, shown), why_not_tried(run)) if line]
    return [table, *(Text(line, style="dim") for line in lines)]


def _median(measure: Any) -> str:
    return formatting.NOTHING if measure is None else formatting.short_count(measure["median"])


def _fastest(shown: list[Series]) -> Series | None:
    arrived = [s for s in shown if s.reached and s.run.get("seconds_to_target")]
    return min(arrived, key=lambda s: s.run["seconds_to_target"]["median"], default=None)


def _verdict(run: Any) -> list[RenderableType]:
    from rich.text import Text

    return [Text(formatting.prose(run["verdict"], 400), style="bold")]


def _claims(run: Any) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    if not run["claims"]:
        return []
    words = {style: answer.lower() for style, answer in ANSWERS.values()} | {"unknown": "?"}
    table = _frame(Table)
    table.add_column(no_wrap=True)
    table.add_column()
    table.show_header = False
    for kind, claims in claim_groups(run):
        table.add_row("", Text(kind, style="bold"))
        for one in claims:
            text = Text(formatting.prose(one["claim"], 200))
            text.append(f"\n{formatting.prose(one['evidence'], 300)}", style="dim")
            table.add_row(Text(words[one["style"]], style=_ANSWER_STYLES[one["style"]]), text)
    return [Text(f"What the textbook says: {claim_tally(run)}"), table]


def _plan_answer(run: Any) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = _frame(Table)
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text, detail in plan_glance(run):
        words = Text(text, style="bold" if name in ("Batch size", "Learning rate") else "")
        if detail:
            words.append(f"  {detail}", style="dim")
        table.add_row(Text(name, style="dim"), words)
    return table


def _plan_sizes(run: Any) -> Table:
    """A row for each size that reached the target."""
    from rich.table import Table
    from rich.text import Text

    seconds = plan_evidence.by_size(run, "seconds_to_target")
    steps = plan_evidence.by_size(run, "steps_to_target")
    step_seconds = plan_evidence.by_size(run, "step_seconds")
    rates = plan_evidence.best_rates(plan_evidence.tried(run))
    table = _frame(Table)
    for name in ("measured size", "a step alone", "steps", "best rate", "to target"):
        table.add_column(name, justify="right", no_wrap=True)
    for size, count in steps.items():
        cells = [
            f"{size:,}",
            formatting.duration(step_seconds.get(size)),
            formatting.short_count(count),
            formatting.number(rates.get(size), 3),
            formatting.duration(seconds.get(size)),
        ]
        table.add_row(*(Text(cell, style="bold" if size == run["batch_size"] else "") for cell in cells))
    return table
