"""``descend predict``: a row of predictions for each row of data."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.models.loading import load_model
from descend.sources import open_source

Command = Callable[..., Any]


def expected(model: Path, data: Path) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Labels and probabilities of a model on a file with exactly its columns, read in one piece."""
    loaded = load_model(model)
    scores = np.concatenate(
        [loaded.scores(block.columns) for block in open_source(data, target="answer").blocks()]
    )
    return loaded.predict_scores(scores).tolist(), loaded.probabilities(scores)


def test_predictions_are_csv_on_stdout(descend: Command, model: Path, table: Path) -> None:
    """Stdout is a header and one row for each row of the data, and nothing else."""
    result = descend("predict", model, table)
    assert result.status == 0, result.err
    labels, _ = expected(model, table)
    assert result.out.splitlines() == ["prediction", *labels]
    assert result.err == ""


def test_probabilities_have_a_column_for_each_class(descend: Command, model: Path, table: Path) -> None:
    """--probabilities adds columns named after the classes, whose numbers come back exactly."""
    rows = list(csv.DictReader(io.StringIO(descend("predict", model, table, "--probabilities").out)))
    labels, likely = expected(model, table)
    assert [row["prediction"] for row in rows] == labels
    assert [[float(row["probability_no"]), float(row["probability_yes"])] for row in rows] == likely.tolist()


def test_no_row_is_left_out(descend: Command, model: Path, tmp_path: Path) -> None:
    """Rows without a target, with gaps or with unseen levels are predicted like any other."""
    (tmp_path / "new.csv").write_text(
        "answer,colour,more,size\n,red,1,0.5\nyes,,2,\n?,blue,3,-1\n,green,4,9\n"
    )
    result = descend("predict", model, "new.csv")
    assert result.status == 0, result.err
    assert len(result.out.splitlines()) == 5


def test_a_target_is_not_needed(descend: Command, model: Path, tmp_path: Path) -> None:
    """Columns are found by name in any order, with or without the target's."""
    (tmp_path / "new.csv").write_text("colour,size\nred,4\ngreen,-4\n")
    assert descend("predict", model, "new.csv").out == "prediction\nyes\nno\n"


@pytest.mark.parametrize("ending", ["csv", "parquet", "npy"])
def test_predictions_go_to_a_file(ending: str, descend: Command, model: Path, table: Path) -> None:
    """Each kind of file holds what stdout would, and --json tells its path."""
    result = descend("predict", model, table, "--output", f"p.{ending}", "--json", "--quiet")
    assert result.json == {"rows": 300, "output": f"p.{ending}"}
    labels, _ = expected(model, table)
    if ending == "npy":
        assert np.load(f"p.{ending}", allow_pickle=False).tolist() == labels
    elif ending == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(f"p.{ending}").to_pydict() == {"prediction": labels}
    else:
        assert Path(f"p.{ending}").read_text().splitlines() == ["prediction", *labels]


def test_json_holds_the_predictions(descend: Command, model: Path, table: Path) -> None:
    """Without an output --json has the predictions themselves, and probabilities when asked."""
    labels, likely = expected(model, table)
    found = descend("predict", model, table, "--json", "--probabilities").json
    assert found["rows"] == 300
    assert found["predictions"] == labels
    assert found["classes"] == ["no", "yes"]
    assert found["probabilities"] == likely.tolist()


def test_blocks_do_not_show(
    descend: Command, model: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions are the same however few rows are scored at a time."""
    whole = descend("predict", model, table, "--probabilities", "--json").json
    monkeypatch.setattr("descend.estimators.sources.ENCODED_VALUES", 21)
    parts = descend("predict", model, table, "--probabilities", "--json").json
    assert parts["predictions"] == whole["predictions"]
    # Sums in float32 depend on how many rows BLAS is given.
    np.testing.assert_allclose(parts["probabilities"], whole["probabilities"], atol=1e-6)


def test_a_row_that_cannot_be_scored_leaves_no_output(
    descend: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite value in a late row is told with its row of the data, and no file is left."""
    monkeypatch.setattr("descend.estimators.sources.ENCODED_VALUES", 21)
    rows = [f"{i}.5,red" for i in range(40)]
    rows[30] = "inf,red"
    (tmp_path / "new.csv").write_text("\n".join(["size,colour", *rows]) + "\n")
    result = descend("predict", model, "new.csv", "--output", "p.csv")
    assert result.status == 2
    assert "in row 31" in result.err
    assert {path.name for path in tmp_path.iterdir()} == {"model.descend", "new.csv"}


def test_numbers_come_back_exactly(descend: Command, prices: Path) -> None:
    """Predicted numbers are written so that reading gives the same float64."""
    descend("fit", prices, "--target", "price", "--no-report", "-o", "m")
    text = descend("predict", "m", prices).out.splitlines()
    from_json = descend("predict", "m", prices, "--json").json["predictions"]
    assert [float(line) for line in text[1:]] == from_json
    descend("predict", "m", prices, "-o", "p.npy")
    assert np.load("p.npy").tolist() == from_json


def test_probabilities_of_a_regression_are_refused(descend: Command, prices: Path) -> None:
    """--probabilities on numbers is bad input, told before the data are read."""
    descend("fit", prices, "--target", "price", "--no-report", "-o", "m")
    result = descend("predict", "m", "missing.csv", "--probabilities")
    assert result.status == 2
    assert "--probabilities belongs to classification" in result.err


class TestMatrices:
    """Models of plain matrices, whose columns go by position."""

    @pytest.fixture
    def matrix(self, tmp_path: Path, descend: Command) -> np.ndarray[Any, Any]:
        """A matrix with its target in column 0, and ``m``, a model of it that leaves column 2 out."""
        X = np.random.default_rng(0).normal(size=(200, 4))
        X[:, 0] = X[:, 1] > 0
        np.save(tmp_path / "X.npy", X)
        fitted = descend("fit", "X.npy", "--target", "x0", "--drop", "x2", "--no-report", "-o", "m")
        assert fitted.status == 0, fitted.err
        return X

    def test_the_training_file_can_be_predicted(self, descend: Command, matrix: np.ndarray[Any, Any]) -> None:
        """The very file that was trained on is understood again: target and dropped columns are left out."""
        found = descend("predict", "m", "X.npy", "--json").json
        assert np.mean(np.array(found["predictions"]) == matrix[:, 0]) > 0.95

    def test_only_the_features_are_enough(
        self, descend: Command, matrix: np.ndarray[Any, Any], tmp_path: Path
    ) -> None:
        """A matrix of the model's columns alone goes by position."""
        np.save(tmp_path / "new.npy", matrix[:, [1, 3]])
        found = descend("predict", "m", "new.npy", "--json").json
        assert np.mean(np.array(found["predictions"]) == matrix[:, 0]) > 0.95

    def test_another_width_is_refused(
        self, descend: Command, matrix: np.ndarray[Any, Any], tmp_path: Path
    ) -> None:
        """A matrix of any other width is bad input that tells both numbers."""
        for width in (1, 8):
            np.save(tmp_path / "new.npy", np.hstack([matrix, matrix])[:, :width])
            result = descend("predict", "m", "new.npy")
            assert result.status == 2
        assert "has 7 columns besides the target, but the model was trained on 2" in result.err

    def test_arrays_of_npz_are_chosen_by_target(
        self, descend: Command, tmp_path: Path, matrix: np.ndarray[Any, Any]
    ) -> None:
        """--target y_test predicts and evaluates the rows of X_test."""
        X, y = matrix[:, 1:], matrix[:, 0].astype(int)
        np.savez(tmp_path / "d.npz", X_train=X[:150], y_train=y[:150], X_test=X[150:], y_test=y[150:])
        descend("fit", "d.npz", "--target", "y_train", "--no-report", "-o", "n")
        assert descend("predict", "n", "d.npz", "--json").json["rows"] == 150
        assert descend("predict", "n", "d.npz", "--target", "y_test", "--json").json["rows"] == 50
        found = descend("evaluate", "n", "d.npz", "--target", "y_test", "--json").json
        assert found["rows"] == 50
        assert found["accuracy"] > 0.9


@pytest.mark.parametrize("header", ["size,colour,answer", "colour,size"])
def test_a_table_with_no_rows_has_no_predictions(
    descend: Command, model: Path, tmp_path: Path, header: str
) -> None:
    """A header alone gives a header alone, on stdout and in a file, and status 0."""
    (tmp_path / "new.csv").write_text(f"{header}\n")
    result = descend("predict", model, "new.csv", "--probabilities")
    assert (result.status, result.out) == (0, "prediction,probability_no,probability_yes\n"), result.err
    for name in ("none.csv", "none.parquet", "none.npy"):
        assert descend("predict", model, "new.csv", "--output", name).status == 0
    assert (tmp_path / "none.csv").read_text() == "prediction\n"
    assert len(np.load(tmp_path / "none.npy")) == 0
    assert open_parquet(tmp_path / "none.parquet").num_rows == 0


def open_parquet(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def test_a_parquet_file_with_no_rows_has_no_predictions(
    descend: Command, model: Path, tmp_path: Path
) -> None:
    """A Parquet file of a schema and no rows gives a header alone."""
    import pyarrow
    import pyarrow.parquet

    none = pyarrow.table({"size": pyarrow.array([], "double"), "colour": pyarrow.array([], "string")})
    pyarrow.parquet.write_table(none, tmp_path / "new.parquet")
    result = descend("predict", model, "new.parquet")
    assert (result.status, result.out) == (0, "prediction\n"), result.err


def test_a_header_that_lacks_columns_is_refused(descend: Command, model: Path, tmp_path: Path) -> None:
    """Without rows, too, the columns have to be the model's."""
    (tmp_path / "new.csv").write_text("size,answer\n")
    result = descend("predict", model, "new.csv")
    assert result.status == 2
    assert "lacks column 'colour'" in result.err
