"""The benchmark runs, and its competitors solve one and the same problem. No timing is asserted."""

import json
from pathlib import Path

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

    few = tuple(c for c in competitors.COMPETITORS if c.module not in ("torch", "jax"))
    monkeypatch.setattr(linear, "COMPETITORS", few)


@pytest.mark.usefixtures("light")
def test_the_harness_writes_record_and_table(tmp_path: Path) -> None:
    """A tiny run leaves a JSON record with every competitor and a table between the document's markers."""
    from benchmarks import linear, table

    output, document = tmp_path / "linear.json", tmp_path / "page.md"
    document.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", encoding="utf-8")
    sizes = ["--rows", "500x4", "--batch-sizes", "1", "32", "full", "--repeats", "1"]
    assert linear.main([*sizes, "--output", str(output), "--document", str(document)]) == 0

    record = json.loads(output.read_text(encoding="utf-8"))
    assert [cell["batch_size"] for cell in record["cells"]] == [1, 32, "full"]
    for cell in record["cells"]:
        assert cell["check"]["agree"]
        assert cell["check_timed"]["agree"]
        assert "descend" in cell["check_timed"]["losses"]
        assert {"descend", "NumPy loop"} <= {result["competitor"] for result in cell["results"]}
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| 500 × 4 | 32 |" in text


@pytest.mark.parametrize("batch_size", [1, 7, 32, "full"])
def test_competitors_end_at_one_loss(batch_size: int | str) -> None:
    """With one rate and as many epochs, every competitor's final loss is the same up to the order of rows."""
    from benchmarks.competitors import Descend, DescendFit, NumPy, ScikitLearn
    from benchmarks.measure import check_answers
    from benchmarks.problem import synthetic

    problem = synthetic(2000, 6).with_batch_size(batch_size)
    check = check_answers(problem, [Descend, DescendFit, ScikitLearn, NumPy])
    assert len(check["losses"]) == (4 if batch_size == 1 else 3)
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
