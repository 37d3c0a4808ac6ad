"""``descend evaluate``: figures of a model on labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.cli import options
from descend.cli.command import option, verb
from descend.cli.talk import Talk

if TYPE_CHECKING:
    from descend.model_metrics import Sums
    from descend.models.model import Model
    from descend.types import Source

APART = ("labels", "rows")
"""What is shown below the figures."""


@verb(
    "descend evaluate adult.descend test.parquet",
    "descend evaluate films.descend films.parquet --target drama,comedy,crime --json",
)
@options.model_argument
@options.data_argument
@option(
    "Data",
    "--target",
    metavar="COLUMN",
    help="Column with the truth; of several labels a row their columns, a,b,c. Default: that of training.",
)
@option("Data", "--weights", metavar="COLUMN", help="Column of row weights.")
@options.talking
def command(model: str, data: str, **given: Any) -> int:
    """Figures of a model on labelled data.

    MODEL is a file that descend fit wrote. Classification: accuracy, balanced_accuracy, log_loss, roc_auc (of
    two classes) and f1 (that of the second class; of more than two the mean over classes, macro). Of several
    labels a row accuracy (every label right), hamming_loss, log_loss, roc_auc and f1 (means over the labels),
    f1_micro (all labels counted together), and a table with the figures of each. Regression: r2, rmse, mae. Rows
    without a target are left out, and said so.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])

    from descend.cli.scoring import open_labelled
    from descend.model_metrics import figures
    from descend.models.loading import load_model

    loaded = load_model(model)
    source = open_labelled(loaded, data, given["target"], given["weights"])
    sums = _add_up(loaded, source)
    _say_unknown(talk, sums)
    talk.notes(tuple(getattr(source, "notes", ())))
    metrics = figures(sums)
    for name, value in metrics.items():
        if value is None:
            talk.note("note", f"{name} cannot be told from these rows")
    names = getattr(source, "label_names", None)
    for number, label in enumerate(metrics.get("labels", ())):
        metrics["labels"][number] = {"label": names[number] if names else number} | label
    _show(talk, metrics)
    return 0


def _add_up(model: Model, source: Source) -> Sums:
    from descend.cli.scoring import scores
    from descend.errors import ColumnError, SourceError, shorten
    from descend.metrics import ClassificationMetrics
    from descend.model_metrics import add_rows, make_sums
    from descend.sources.selection import listing

    sums = make_sums(model)
    for scored, part in scores(model, source):
        add_rows(sums, model, scored, part.target, part.weights)
    if not sums.rows:
        raise SourceError(f"{source.name} has no rows with a target; at least 1 is needed")
    if isinstance(sums, ClassificationMetrics) and sums.unknown_rows == sums.rows:
        known = listing([str(label) for label in model.target.classes], 5)
        found = listing([str(label) for label in sums.unknown], 5)
        raise ColumnError(
            f"target {shorten(str(source.target_name))!r} holds none of the model's classes ({known}), but "
            f"{found}; name the column with the truth with --target"
        )
    return sums


def _say_unknown(talk: Talk, sums: Sums) -> None:
    from descend.errors import shorten
    from descend.report.formatting import counted

    unknown = getattr(sums, "unknown_rows", 0)
    if not unknown:
        return
    labels = list(getattr(sums, "unknown", {}))
    shown = ", ".join(shorten(str(label), 30) for label in labels[:5]) + (", …" if len(labels) > 5 else "")
    talk.note(
        "note",
        f"{counted(unknown, 'row')} of classes that the model was not trained on ({shown}): counted as told wrong; "
        "log_loss and roc_auc leave out such rows",
    )


def _show(talk: Talk, metrics: dict[str, Any]) -> None:
    from descend.report import formatting

    told = {name: value for name, value in metrics.items() if value is not None and name not in APART}
    lines = [(name.replace("_", " "), formatting.number(value)) for name, value in told.items()]
    lines.append(("rows", f"{metrics['rows']:,}"))
    width = max(len(name) for name, _ in lines)
    right = max(len(text) for _, text in lines)
    text = "".join(f"{name:<{width}}  {text:>{right}}\n" for name, text in lines)
    talk.text(text + _table(metrics.get("labels", [])))
    talk.json(metrics)


def _table(labels: list[dict[str, Any]]) -> str:
    """A line for each label, under the names of the figures."""
    from descend.errors import shorten
    from descend.report import formatting

    if not labels:
        return ""
    cells = [[name.replace("_", " ") for name in labels[0]]]
    cells += [
        [
            shorten(str(value), 30) if name == "label" else formatting.number(value)
            for name, value in one.items()
        ]
        for one in labels
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            f"{cell:>{width}}" if place else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n" + "".join(f"{line.rstrip()}\n" for line in lines)
