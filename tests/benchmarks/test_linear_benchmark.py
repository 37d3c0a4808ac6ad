"""The benchmark runs, and its competitors solve one and the same problem. No timing is asserted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes seconds to import and compile."""
    from benchmarks import competitors, linear

    heavy = ("torch", "jax", "vowpalwabbit", "river")
    few = tuple(c for c in competitors.COMPETITORS if c.module not in heavy)
    monkeypatch.setattr(linear, "COMPETITORS", few)


@pytest.mark.usefixtures("light")
def test_the_harness_writes_record_and_table(tmp_path: Path) -> None:
    """A tiny run leaves a JSON record of every competitor, and between the document's markers what it holds."""
    from benchmarks import linear, table

    output, document = tmp_path / "linear.json", tmp_path / "page.md"
    document.write_text(
        f"before\n{table.BEGIN}\na table of last year\n{table.END}\nafter\n", encoding="utf-8"
    )
    sizes = ["--rows", "500x4", "--batch-sizes", "1", "32", "full", "--repeats", "1"]
    assert linear.main([*sizes, "--output", str(output), "--document", str(document)]) == 0

    record = json.loads(output.read_text(encoding="utf-8"))
    assert [cell["batch_size"] for cell in record["cells"]] == [1, 32, "full"]
    for cell in record["cells"]:
        assert cell["check"]["agree"]
        assert cell["check_timed"]["agree"]
        assert "descend" in cell["check_timed"]["losses"]
        ran = {result["competitor"] for result in cell["results"]}
        assert {"descend", "NumPy loop", "scikit-learn SGD", "bare read"} <= ran
        assert ("descend, whole fit" in ran) == (cell["batch_size"] == 32)
    assert [ratio["peer"] for ratio in record["ratios"]] == ["scikit-learn SGD", "bare read", "bare read"]
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "a table of last year" not in text
    assert "| 500 × 4 | 32 |" in text
    assert text == f"before\n{table.BEGIN}\n{table.markdown(record)}\n{table.END}\nafter\n"


def small(kind: str) -> Any:
    """A problem of each kind, 1500 rows, whose intercept matters."""
    from scipy.sparse import csr_array

    from benchmarks.problem import make_problem

    rng = np.random.default_rng(4)
    X = rng.standard_normal((1500, 6)).astype(np.float32)
    if "sparse" in kind:
        X[rng.random(X.shape) < 0.6] = 0.0
    scores = X[:, :4] + rng.standard_normal((1500, 4)) + [1.0, 0.0, 0.0, 0.0]
    rows = csr_array(X) if "sparse" in kind else X
    if kind == "squared":
        return make_problem("", rows, scores[:, 0], squared=True)
    if "softmax" in kind:
        return make_problem("", rows, np.argmax(scores, axis=1), 4)
    return make_problem("", rows, scores[:, 0] > 0)


@pytest.mark.parametrize("batch_size", [1, 7, 32, "full"])
@pytest.mark.parametrize("kind", ["logistic", "squared", "softmax", "sparse", "sparse softmax"])
def test_competitors_end_at_one_loss(kind: str, batch_size: int | str) -> None:
    """With one rate and as many epochs, every competitor's final loss is the same up to the order of rows."""
    from benchmarks.competitors import Descend, DescendFit, NumPy, ScikitLearn
    from benchmarks.measure import check_answers

    problem = small(kind).with_batch_size(batch_size)
    check = check_answers(problem, [Descend, DescendFit, ScikitLearn, NumPy])
    expected = {"descend", "NumPy loop"}
    if kind != "squared":  # a fit scales its target
        expected.add("descend, whole fit")
    # scikit-learn trains a row a step, one class against the rest, and its intercept slower on sparse rows.
    if batch_size == 1 and kind in ("logistic", "squared"):
        expected.add("scikit-learn SGD")
    assert set(check["losses"]) == expected
    assert check["agree"], check


@pytest.mark.parametrize("kind", ["logistic", "squared", "sparse"])
@pytest.mark.parametrize("name", ["VowpalWabbit", "River", "Jax", "PyTorch", "PyTorchByHand"])
def test_the_others_end_there_too(kind: str, name: str) -> None:
    """Whoever is installed takes the same steps of one row: rates, penalty and intercept mean the same."""
    from benchmarks import competitors
    from benchmarks.measure import check_answers

    other, problem = getattr(competitors, name), small(kind)
    if other.why_not():
        pytest.skip(other.why_not())
    if not other.can(problem):
        pytest.skip("dense rows only")
    check = check_answers(problem, [competitors.Descend, competitors.NumPy, other])
    assert len(check["losses"]) == 3
    assert check["agree"], check


def test_a_competitor_that_cheats_is_found() -> None:
    """Somebody who trains only half of the epochs does not agree with the others."""
    from benchmarks.competitors import Descend, NumPy
    from benchmarks.measure import check_answers
    from benchmarks.problem import synthetic

    class Lazy(NumPy):
        name = "lazy"

        def train(self, epochs: int, steps: int | None = None) -> np.ndarray:
            return super().train(epochs // 2, steps)

    check = check_answers(synthetic(2000, 6).with_batch_size(32), [Descend, NumPy, Lazy])
    assert not check["agree"]


def test_a_document_without_markers_is_refused(tmp_path: Path) -> None:
    """The table is not written into a document that has no place for it."""
    from benchmarks.table import replace_table

    document = tmp_path / "page.md"
    document.write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="must hold"):
        replace_table(document, "table")
    assert document.read_text(encoding="utf-8") == "nothing here\n"


def test_one_that_has_no_batch_size_is_timed_once_and_shown_everywhere() -> None:
    """It gets as few rows as it asks for, its time is scaled to all of them, and a turn's first run is not timed."""
    from benchmarks.competitors import Competitor, Descend
    from benchmarks.measure import measure

    calls = []

    class Slow(Competitor):
        name, module, row_a_step, patience, most_numbers = "slow", "numpy", True, None, 1200

        def train(self, epochs: int, steps: int | None = None) -> np.ndarray:
            calls.append((epochs, self.problem.num_rows, self.problem.batch_size))
            return np.zeros((1, 7))

    problem = small("logistic")
    results = measure(problem, [Descend, Slow], (1, 32, "full"), repeats=2)
    assert [[r["competitor"] for r in figures] for figures in results] == [["descend", "slow"]] * 3
    shown = [figures[1] for figures in results]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0]["share_timed"] == pytest.approx(200 / 1500)
    assert shown[0]["final_loss"] is None  # fewer rows: no common loss
    assert calls == [(1, 200, 1)] + 2 * [
        (1, 200, 1),
        (1, 200, 1),
        (Slow(problem.first_rows(200)).problem.epochs_timed, 200, 1),
    ]


def record_of(times: dict[tuple[str, str, int | str], dict[str, float]]) -> dict:
    """Cells by (problem, group, batch size), with the seconds of each competitor."""
    return {
        "cells": [
            {
                "problem": problem,
                "group": group,
                "batch_size": size,
                "results": [{"competitor": name, "seconds": s} for name, s in seconds.items()],
            }
            for (problem, group, size), seconds in times.items()
        ]
    }


def test_ratios_are_geometric_means_with_the_worst_cell_named() -> None:
    """Peers are over descend, the bare read is under it; a bar that is missed says so."""
    from benchmarks.ratios import ratios

    sgd, read = "scikit-learn SGD", "bare read"
    record = record_of(
        {
            ("a", "dense", 1): {"descend": 1.0, sgd: 4.0, read: 0.5},
            ("a", "dense", 32): {"descend": 1.0, sgd: 25.0, read: 0.4},
            ("b", "dense", 32): {"descend": 3.0, sgd: 30.0, read: 3.0},
            ("b", "dense", "full"): {"descend": 1.0, sgd: 1.0, read: 1.0},
            ("c", "sparse", 256): {"descend": 2.0, sgd: 6.0},
        }
    )
    dense, one, mini, sparse = ratios(record)
    assert (dense["peer"], dense["cells"], dense["worst"], dense["worst_cell"]) == (sgd, 3, 4.0, "a, 1")
    assert dense["mean"] == pytest.approx(10.0)
    assert [bar["met"] for bar in dense["bars"]] == [True, False]
    assert (one["peer"], one["worst"], one["bars"][0]["met"]) == (read, 2.0, True)
    assert (mini["worst"], mini["worst_cell"], mini["bars"][0]["met"]) == (2.5, "a, 32", False)
    assert mini["mean"] == pytest.approx(2.5**0.5)
    assert (sparse["group"], sparse["worst"], sparse["bars"][0]["met"]) == ("sparse", 3.0, True)


def test_tables_are_those_whose_files_are_there(tmp_path: Path) -> None:
    """A folder with a9a alone gives its rows twenty times, in another order, and nothing else."""
    import bz2

    from benchmarks.tables import from_folder

    text = "-1 3:1 11:1\n+1 5:0.5 123:1\n+1 1:1\n"
    (tmp_path / "a9a_train.svm.bz2").write_bytes(bz2.compress(text.encode()))
    (problem,) = [make() for make in from_folder(tmp_path)]
    assert (problem.name, problem.group, problem.X.dtype) == ("a9a × 20, 60 × 123", "sparse", np.float32)
    rows = {(tuple(row), label) for row, label in zip(problem.X.toarray(), problem.y, strict=True)}
    assert len(rows) == 3
    assert problem.y.sum() == 40
    assert problem.X.sum() == pytest.approx(20 * 4.5)
    assert problem.norms == pytest.approx(((2 + 1.25 + 1) / 3 + 1, 3))
