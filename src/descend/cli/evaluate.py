"""``descend evaluate``: figures of a model on labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.cli import options
from descend.cli.command import option, verb
from descend.cli.talk import Talk

if TYPE_CHECKING:
    from descend.metrics import ClassificationMetrics, Metrics, RegressionMetrics
    from descend.models.model import Model
    from descend.types import Source


@verb(
    "descend evaluate adult.descend test.parquet",
    "descend evaluate usps.descend usps.npz --target y_test --json",
)
@options.model_argument
@options.data_argument
@option("Data", "--target", metavar="COLUMN", help="Column with the truth. Default: that of training.")
@option("Data", "--weights", metavar="COLUMN", help="Column of row weights.")
@options.talking
def command(model: str, data: str, **given: Any) -> int:
    """Figures of a model on labelled data.

    MODEL is a file that descend fit wrote. Classification: accuracy, balanced_accuracy, log_loss, roc_auc (of
    two classes) and f1 (that of the second class; of more than two the mean over classes, macro). Regression:
    r2, rmse, mae. Rows without a target are left out, and said so.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])

    from descend.cli.scoring import open_labelled
    from descend.errors import InputError
    from descend.models.loading import load_model

    loaded = load_model(model)
    if getattr(loaded, "labels", 0):
        raise InputError(
            "the model tells several labels a row, and figures for these are not offered; "
            "descend predict writes its answers"
        )
    source = open_labelled(loaded, data, given["target"], given["weights"])
    sums = _add_up(loaded, source)
    _say_unknown(talk, sums)
    talk.notes(tuple(getattr(source, "notes", ())))
    metrics = sums.result()
    for name, value in metrics.items():
        if value is None:
            talk.note("note", f"{name} cannot be told from these rows")
    _show(talk, metrics, sums.rows)
    return 0


def _add_up(model: Model, source: Source) -> ClassificationMetrics | RegressionMetrics:
    from descend.cli.scoring import scores
    from descend.errors import ColumnError, SourceError, shorten
    from descend.features.target_values import as_values
    from descend.metrics import ClassificationMetrics, RegressionMetrics
    from descend.sources.selection import listing

    classes = len(model.target.classes)
    sums = (
        ClassificationMetrics(classes, model.loss == "log_loss")
        if classes
        else RegressionMetrics(model.target.num_outputs)
    )
    for scored, part in scores(model, source):
        codes = model.target.encode(part.target, unknown="mark")
        if isinstance(sums, RegressionMetrics):
            sums.add(model.expected(scored), model.target.decode(codes), part.weights)
        else:
            labels = as_values(part.target, model.target.name) if (codes < 0).any() else None
            sums.add(scored, codes, part.weights, labels)
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


def _say_unknown(talk: Talk, sums: ClassificationMetrics | RegressionMetrics) -> None:
    from descend.errors import shorten

    unknown = getattr(sums, "unknown_rows", 0)
    if not unknown:
        return
    labels = list(getattr(sums, "unknown", {}))
    shown = ", ".join(shorten(str(label), 30) for label in labels[:5]) + (", …" if len(labels) > 5 else "")
    talk.note(
        "note",
        f"{unknown:,} rows are of {len(labels):,} classes that the model was not trained on ({shown}): "
        "counted as told wrong; log_loss and roc_auc leave them out",
    )


def _show(talk: Talk, metrics: Metrics, rows: int) -> None:
    from descend.report import formatting

    told = {name: value for name, value in metrics.items() if value is not None}
    lines = [(name.replace("_", " "), formatting.number(value)) for name, value in told.items()]
    lines.append(("rows", f"{rows:,}"))
    width = max(len(name) for name, _ in lines)
    right = max(len(text) for _, text in lines)
    text = "".join(f"{name:<{width}}  {text:>{right}}\n" for name, text in lines)
    talk.text(text)
    talk.json(dict(metrics) | {"rows": rows})
