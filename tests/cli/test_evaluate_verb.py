"""``descend evaluate``: figures of a model on labelled data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]


def test_evaluation_of_a_classification(descend: Command, model: Path, table: Path) -> None:
    """The figures stand at the top level of the JSON and agree with scikit-learn's on the predictions."""
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

    found = descend("evaluate", model, table, "--json").json
    predicted = descend("predict", model, table, "--json", "--probabilities").json
    truth = [line.rsplit(",", 1)[1] for line in table.read_text().splitlines()[1:]]
    likely = np.array(predicted["probabilities"])
    assert list(found) == ["accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1", "rows"]
    assert found["rows"] == 300
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted["predictions"]))
    assert found["f1"] == pytest.approx(f1_score(truth, predicted["predictions"], pos_label="yes"))
    assert found["log_loss"] == pytest.approx(log_loss(truth, likely))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(np.array(truth) == "yes", likely[:, 1]))


def test_evaluation_of_a_regression(descend: Command, prices: Path) -> None:
    """A regression has r2, rmse and mae, those of the rows that were trained on among them."""
    fitted = descend(
        "fit", prices, "--target", "price", "--validation", 0, "--json", "--no-report", "-o", "m"
    ).json
    found = descend("evaluate", "m", prices, "--json").json
    assert set(found) == {"r2", "rmse", "mae", "rows"}
    for name, value in fitted["train"].items():
        assert found[name] == pytest.approx(value, rel=1e-5)


def test_the_table_names_every_figure(descend: Command, model: Path, table: Path) -> None:
    """Without --json the figures are lines of name and value."""
    lines = descend("evaluate", model, table).out.splitlines()
    assert [line.rsplit(maxsplit=1)[0].strip() for line in lines] == [
        "accuracy", "balanced accuracy", "log loss", "roc auc", "f1", "rows",
    ]  # fmt: skip


def test_a_figure_that_the_loss_does_not_define_has_no_line(descend: Command, table: Path) -> None:
    """Hinge has no probabilities: the table leaves log_loss out, --json says null."""
    descend("fit", table, "--target", "answer", "--loss", "hinge", "--output", "h.descend", "--no-report")
    assert "log loss" not in descend("evaluate", "h.descend", table).out
    assert descend("evaluate", "h.descend", table, "--json").json["log_loss"] is None


def test_rows_without_a_target_are_left_out_and_counted(descend: Command, model: Path, table: Path) -> None:
    """Rows whose target is empty do not count, and a note on stderr says how many there were."""
    table.write_text(table.read_text() + "1.0,red,\n2.0,green,\n")
    result = descend("evaluate", model, table, "--json")
    assert result.json["rows"] == 300
    assert "2 rows without a value in target 'answer' left out" in result.err


def test_rows_of_unknown_classes_count_as_wrong(descend: Command, model: Path, table: Path) -> None:
    """A class that the model never saw lowers the accuracy, leaves log_loss alone, and is told."""
    before = descend("evaluate", model, table, "--json").json
    table.write_text(table.read_text() + "1.0,red,maybe\n" * 100)
    result = descend("evaluate", model, table, "--json")
    assert result.json["rows"] == 400
    assert result.json["accuracy"] == pytest.approx(0.75 * before["accuracy"])
    assert result.json["log_loss"] == pytest.approx(before["log_loss"])
    assert "100 rows of classes that" in result.err
    assert "maybe" in result.err


def test_one_class_alone_has_no_roc(descend: Command, model: Path, table: Path) -> None:
    """Where only one class occurs roc_auc is null, and said so."""
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line for line in lines if line.endswith("yes"))]) + "\n")
    result = descend("evaluate", model, table, "--json")
    assert result.json["roc_auc"] is None
    assert "roc_auc cannot be told" in result.err


def test_weights_weigh(descend: Command, model: Path, table: Path) -> None:
    """A row of weight 2 counts as two rows, one of weight 0 as none."""
    lines = table.read_text().splitlines()
    weights = [i % 3 for i in range(300)]
    rows = [f"{line},{weight}" for line, weight in zip(lines[1:], weights, strict=True)]
    table.write_text("\n".join([f"{lines[0]},w", *rows]) + "\n")
    weighted = descend("evaluate", model, table, "--weights", "w", "--json").json
    repeated = [line for line, weight in zip(lines[1:], weights, strict=True) for _ in range(weight)]
    table.write_text("\n".join([lines[0], *repeated]) + "\n")
    plain = descend("evaluate", model, table, "--json").json
    for name in ("accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1"):
        assert weighted[name] == pytest.approx(plain[name]), name
