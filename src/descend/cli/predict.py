"""``descend predict``: one row of predictions for each row of data."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from descend.cli import options, outputs
from descend.cli.command import option, verb
from descend.cli.talk import Talk

if TYPE_CHECKING:
    from descend.cli.prediction_files import Writer
    from descend.models.model import Model
    from descend.types import FloatArray, Source


@verb(
    "descend predict adult.descend new.csv > predictions.csv",
    "descend predict adult.descend new.parquet --probabilities --output predictions.parquet",
)
@options.model_argument
@options.data_argument
@option(
    "Data",
    "--target",
    metavar="COLUMN",
    help="Column that is no feature, where its name is not that of training (in .npz: which array).",
)
@option(
    "Output", "--probabilities", is_flag=True, help="A column for each class, or label: probability_<class>."
)
@option(
    "Output",
    "-o",
    "--output",
    metavar="FILE",
    help="Where they go: .csv, .parquet or .npy. Default: stdout, as CSV.",
)
@options.force
@options.talking
def command(model: str, data: str, **given: Any) -> int:
    """One row of predictions for each row of data.

    MODEL is a file that descend fit wrote. Rows are read and written a few at a time and none is left out.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    path = given["output"]
    outputs.check_given("--output", path, given["force"], data, model)

    from descend.cli.prediction_files import check_ending
    from descend.cli.scoring import open_unlabelled
    from descend.errors import InputError
    from descend.models.loading import load_model
    from descend.store import is_store

    ending = ".csv" if path is None else check_ending(path, given["probabilities"])
    loaded = load_model(model)
    if given["probabilities"] and loaded.target.task == "regression" and not num_labels(loaded):
        raise InputError("--probabilities belongs to classification; this model predicts numbers")
    if given["probabilities"] and not loaded.has_probabilities:
        raise InputError(
            f"--probabilities: loss {loaded.loss!r} defines none; train with log_loss or modified_huber for them"
        )
    source = open_unlabelled(loaded, data, given["target"])
    talk.notes(tuple(getattr(source, "notes", ())) if is_store(data) else ())
    if talk.as_json and path is None:
        _as_json(talk, loaded, source, given["probabilities"])
        return 0
    from descend.report.formatting import counted

    rows = _write(loaded, source, path, ending, given)
    if path is not None:
        talk.note("predictions", f"{counted(rows, 'row')} in {path}")
        talk.json({"rows": rows, "output": path})
    return 0


def num_labels(model: Model) -> int:
    """Of a model that tells several labels a row, how many; else 0."""
    return int(getattr(model, "labels", 0))


def _as_json(talk: Talk, model: Model, source: Source, probabilities: bool) -> None:
    from descend.cli.scoring import scores

    predicted: list[Any] = []
    likely: list[Any] = []
    for scored, _ in scores(model, source):
        predicted += model.predict_scores(scored).tolist()
        if probabilities:
            likely += model.probabilities(scored).tolist()
    found: dict[str, Any] = {"rows": len(predicted), "predictions": predicted}
    if probabilities:
        classes = list(model.target.classes) or list(range(num_labels(model)))
        found |= {"classes": classes, "probabilities": likely}
    talk.json(found)


def _write(model: Model, source: Source, path: str | None, ending: str, given: dict[str, Any]) -> int:
    """Writes all predictions; returns the number of rows."""
    import numpy as np

    from descend.cli.prediction_files import column_names, make_writer, whole_file
    from descend.cli.scoring import scores

    names = column_names(model, given["probabilities"])

    def write_to(file: Any) -> int:
        # The first rows are scored before the header is written: bad data leave no output at all.
        rows, writer = 0, None
        for scored, part in scores(model, source):
            writer = writer or make_writer(ending, file, names)
            put(writer, scored)
            rows += part.num_rows
        if writer is None:  # no rows: a header, or an array of length 0
            writer = make_writer(ending, file, names)
            put(writer, np.empty((0, model.target.num_outputs)))
        writer.close()
        return rows

    def put(writer: Writer, scored: FloatArray) -> None:
        likely = model.probabilities(scored) if given["probabilities"] else None
        writer.write(model.predict_scores(scored), likely)

    if path is None:
        return write_to(_StandardOutput())
    with whole_file(path, given["force"]) as file:
        return write_to(file)


class _StandardOutput:
    """Standard output as a binary file; where it is replaced by a text stream (in tests), that."""

    def write(self, content: bytes) -> int:
        stream = getattr(sys.stdout, "buffer", None)
        if stream is None:
            return sys.stdout.write(content.decode("utf-8"))
        sys.stdout.flush()
        return int(stream.write(content))

    def flush(self) -> None:
        sys.stdout.flush()
