"""``descend fit`` from the command line to the files it writes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.models.loading import load_model

Command = Callable[..., Any]
KEYS = {
    "model", "batch_size", "learning_rate", "optimizer", "epochs", "steps", "rows", "seconds", "stopped",
    "train", "validation", "report",
}  # fmt: skip


def test_fit_writes_a_model_and_a_page(descend: Command, table: Path) -> None:
    """With nothing but a target, a model and a page named after the data are written and said."""
    result = descend("fit", table, "--target", "answer")
    assert result.status == 0, result.err
    assert Path("table.descend").is_file()
    assert "<html" in Path("table-fit.html").read_text(encoding="utf-8")
    assert "accuracy" in result.out
    assert "page            table-fit.html\nmodel           table.descend\n" in result.err


@pytest.mark.parametrize("loss", ["poisson", "huber"])
def test_a_loss_for_numbers_makes_counts_of_a_few_whole_numbers(
    descend: Command, tmp_path: Path, loss: str
) -> None:
    """Small counts with a loss for numbers are a regression, which is said; texts stay classes, and are refused."""
    random = np.random.default_rng(3)
    sizes = random.normal(size=300)
    counts = random.poisson(np.exp(0.5 * sizes))
    table = tmp_path / "counts.csv"
    words = [f"{size:.4f},{count},n{count % 2}" for size, count in zip(sizes, counts, strict=True)]
    table.write_text("\n".join(["size,count,kind", *words]) + "\n", encoding="utf-8")
    fit = ("fit", table, "--drop", "kind", "--loss", loss, "--no-report", "--force", "--json")
    result = descend(*fit, "--target", "count")
    assert result.status == 0, result.err
    assert "task            count: regression, as the loss is one for numbers\n" in result.err
    assert result.json["train"]["r2"] > 0.1
    asked = descend(*fit, "--target", "count", "--task", "classification")
    texts = descend("fit", table, "--target", "kind", "--loss", loss, "--no-report")
    for refused in (asked, texts):
        assert refused.status == 2
        assert f"--loss '{loss}' is for regression, and the task is classification" in refused.err


def test_what_was_chosen_is_said_aloud(descend: Command, table: Path) -> None:
    """How the task was told, the batch size and the learning rate are on stderr, each with its reason."""
    err = descend("fit", table, "--target", "answer", "--no-report").err
    assert "task            answer has 2 distinct texts: classification\n" in err
    assert "batch size      32 (fixed rule" in err
    assert "learning rate   " in err
    assert "from curvature" in err


def test_json_of_a_fit(descend: Command, table: Path) -> None:
    """--json prints one strict JSON object with every promised key, and nothing else on stdout."""
    found = descend("fit", table, "--target", "answer", "--json", "--quiet")
    assert found.err == ""
    assert found.out.count("\n") == 1
    value = found.json
    assert set(value) >= KEYS
    assert value["model"] == "table.descend"
    assert value["report"] == "table-fit.html"
    assert value["stopped"] in ("converged", "early_stopping")
    for metrics in (value["train"], value["validation"]):
        assert set(metrics) == {"accuracy", "balanced_accuracy", "log_loss", "roc_auc", "f1"}
        assert metrics["accuracy"] > 0.8


def test_quiet_leaves_the_result_alone(descend: Command, table: Path) -> None:
    """--quiet silences stderr and keeps the table on stdout."""
    found = descend("fit", table, "--target", "answer", "--quiet")
    assert found.err == ""
    assert "accuracy" in found.out


def test_default_names_never_replace_files(descend: Command, table: Path) -> None:
    """A second fit takes the next free names; with --force it replaces the first one's."""
    words = ("fit", table, "--target", "answer", "--json", "--quiet")
    first, second = descend(*words).json, descend(*words).json
    forced = descend(*words, "--force").json
    assert (first["model"], second["model"], forced["model"]) == (
        "table.descend", "table-2.descend", "table.descend",
    )  # fmt: skip
    assert second["report"] == "table-fit-2.html"


def test_no_report_writes_no_page(descend: Command, table: Path, tmp_path: Path) -> None:
    """--no-report leaves only the model, and the JSON says null."""
    found = descend("fit", table, "--target", "answer", "--no-report", "--json", "-o", "m.descend").json
    assert found["report"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "m.descend"}


def test_a_seed_repeats_whatever_the_threads(descend: Command, table: Path) -> None:
    """One and two threads give the same parameters for a seed; another seed gives others."""
    for name, seed, threads in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        descend(
            "fit",
            table,
            "--target",
            "answer",
            "--no-report",
            "--seed",
            seed,
            "--threads",
            threads,
            "-o",
            name,
        )
    a, b, c = (load_model(name).parameters for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_growing_batches_say_what_they_do(descend: Command, table: Path) -> None:
    """Growing batches begin at 32 rows, and the reason says whether they grew; without a falling rate: refused."""
    words = (
        "fit",
        table,
        "--target",
        "answer",
        "--batch-size",
        "growing",
        "--no-report",
        "--force",
        "-o",
        "m",
    )
    found = descend(*words, "--optimizer", "adam", "--schedule", "step", "--epochs", 6)
    assert found.status == 0, found.err
    assert "batch size      32 (growing" in found.err
    assert descend(*words, "--model", "mlp", "--hidden", 4, "--epochs", 4).status == 0
    refused = descend("fit", "nowhere.csv", "--batch-size", "growing")
    assert refused.status == 2
    assert '--batch-size "growing" needs a learning rate that falls' in refused.err


def test_epochs_and_batch_size_are_obeyed(descend: Command, table: Path) -> None:
    """So many epochs at such a batch size take the number of steps that follows from the rows."""
    found = descend(
        "fit", table, "--target", "answer", "--epochs", 3, "--batch-size", 50, "--validation", 0, "--no-report",
        "--learning-rate", 0.01, "--optimizer", "momentum", "--json",
    ).json  # fmt: skip
    assert (found["batch_size"], found["learning_rate"], found["optimizer"]) == (50, 0.01, "momentum")
    assert (found["epochs"], found["steps"], found["rows"]) == (3.0, 18, 300)
    assert found["stopped"] == "epochs"
    assert found["validation"] is None


def test_a_batch_of_more_than_the_rows_is_every_row(descend: Command, table: Path) -> None:
    """--batch-size above the rows that are left to train on takes them all, and says so."""
    found = descend(
        "fit", table, "--target", "answer", "--epochs", 3, "--batch-size", 300, "--no-report", "--json"
    )
    assert found.json["batch_size"] == found.json["rows"] < 300
    assert "300 are more than the training rows" in found.err


def test_divergence_is_told_as_documented(descend: Command) -> None:
    """The message that docs/learning-rate.md quotes is the one that its command ends with."""
    page = (Path(__file__).parents[2] / "docs" / "learning-rate.md").read_text(encoding="utf-8")
    words, message = re.search(
        r"\$ descend (fit [^\n]*)\n(descend: error: .*?)\n```", page, re.DOTALL
    ).groups()
    result = descend(*words.split())
    assert result.status == 1
    assert " ".join(result.err.splitlines()[-1].split()) == " ".join(message.split())


def test_validation_rows_may_come_from_a_file(descend: Command, table: Path, tmp_path: Path) -> None:
    """With --validation FILE every row of the data trains, and the file's rows are judged."""
    (tmp_path / "held.csv").write_text("size,colour,answer\n9,red,yes\n-9,green,no\n")
    found = descend(
        "fit", table, "--target", "answer", "--validation", "held.csv", "--no-report", "--json"
    ).json
    assert found["rows"] == 300
    assert found["validation"]["accuracy"] == 1.0


def test_columns_are_chosen_by_name(descend: Command, table: Path, tmp_path: Path) -> None:
    """--drop and --columns leave out columns, also one whose name has a comma in it."""
    lines = table.read_text().splitlines()
    (tmp_path / "comma.csv").write_text("\n".join(['"a,b",colour,answer', *lines[1:]]) + "\n")
    descend("fit", "comma.csv", "--target", "answer", "--drop", '"a,b"', "--no-report", "-o", "m1")
    assert load_model("m1").features.input_names == ("colour",)
    descend("fit", table, "--target", "answer", "--columns", "size", "--no-report", "-o", "m2")
    assert load_model("m2").features.input_names == ("size",)


def test_a_regression_is_told_and_measured(descend: Command, prices: Path) -> None:
    """A target of numbers gives r2, rmse and mae in the target's units."""
    found = descend("fit", prices, "--target", "price", "--json", "--no-report")
    assert "regression" in found.err
    assert set(found.json["train"]) == {"r2", "rmse", "mae"}
    assert found.json["train"]["r2"] > 0.97
    assert 0.5 < found.json["validation"]["rmse"] < 2.0


def test_a_run_that_diverges_fails_and_names_the_column(descend: Command, tmp_path: Path) -> None:
    """Divergence leaves status 1, no file, a message with bound and column, and JSON with a null model."""
    found = descend(
        "fit", "sklearn:breast_cancer", "--no-standardize", "--learning-rate", 1, "--json", "--quiet"
    )
    assert found.status == 1
    assert found.json["stopped"] == "diverged"
    assert found.json["model"] is None
    assert found.json["report"] is None
    assert "'worst area'" in found.err
    assert "bound 2/L" in found.err
    assert "--learning-rate auto" in found.err
    assert list(tmp_path.iterdir()) == []


def test_a_slow_run_says_which_column_holds_it_back(descend: Command) -> None:
    """Raw columns of very different scales are trained, and the note names the steepest."""
    found = descend("fit", "sklearn:breast_cancer", "--no-standardize", "--no-report", "--epochs", 5)
    assert found.status == 0
    assert "'worst area'" in found.err


@pytest.mark.parametrize(
    "name", ["</script><img src=x onerror=alert(1)>", "\x1b[31mred\x07", "한국어", "x" * 10_000]
)
def test_names_from_the_data_are_harmless(name: str, descend: Command, tmp_path: Path) -> None:
    """Markup, escapes, Korean and very long names reach neither terminal nor page as what they pretend to be."""
    rows = [f"{i % 7},{i % 5},{name if i % 7 > 3 else 'other'}" for i in range(60)]
    text = "\n".join([f'"{name}",b,"{name} target"', *rows]) + "\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = descend("fit", "t.csv", "--target", f"{name} target", "--verbose")
    assert found.status == 0, found.err
    for stream in (found.out, found.err):
        assert "\x1b" not in stream
        assert "\x07" not in stream
        assert max(map(len, stream.splitlines())) < 400
    page = Path("t-fit.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "\x1b" not in page


def test_progress_is_one_line_at_a_time_where_nothing_is_drawn(descend: Command, table: Path) -> None:
    """Without a terminal progress is whole lines without escapes, a few seconds apart."""
    err = descend("fit", table, "--target", "answer", "--no-report", "--time", "0.3s").err
    assert "\r" not in err
    assert "\x1b" not in err
    assert sum("rows/s" in line for line in err.splitlines()) == 1


@pytest.mark.parametrize(
    ("verb", "step", "ending", "more"),
    [
        ("fit", "_train", ".descend", ()),
        ("compare", "_compare", "-compare.json", ("--epochs", "2")),
        ("batch-size", "_configure", "-batch-size.json", ("--time", "1s")),
    ],
)
def test_a_run_that_took_the_names_meanwhile_loses_nothing(
    verb: str,
    step: str,
    ending: str,
    more: tuple[str, ...],
    descend: Command,
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files that appear under the default names while a run works are kept, and its own go under the next names."""
    module = importlib.import_module(f"descend.cli.{verb.replace('-', '_')}")
    work = getattr(module, step)
    page = ("table-fit" if verb == "fit" else f"table-{verb}") + ".html"

    def meanwhile(*words: Any) -> Any:
        result = work(*words)
        Path(f"table{ending}").write_text("other")
        Path(page).write_text("other")
        return result

    monkeypatch.setattr(module, step, meanwhile)
    result = descend(verb, table, "--target", "answer", *more)
    assert result.status == 0, result.err
    assert Path(f"table{ending}").read_text() == Path(page).read_text() == "other"
    second = Path(f"table{ending}")
    assert second.with_name(f"{second.stem}-2{second.suffix}").stat().st_size > 100
    assert Path(page.replace(".html", "-2.html")).is_file()
