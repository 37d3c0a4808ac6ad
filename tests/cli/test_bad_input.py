"""Bad input: status 2, one message that names what is wrong and what is accepted, and nothing written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]


def _cut(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


@pytest.fixture
def place(tmp_path: Path, table: Path, model: Path) -> Path:
    """A folder full of things that can go wrong."""
    random = np.random.default_rng(0)
    lines = table.read_text().splitlines()

    def put(name: str, *rows: str) -> None:
        (tmp_path / name).write_text("\n".join(rows) + "\n")

    put("empty.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    put("header.csv", lines[0])
    put("one_row.csv", *lines[:2])
    put("one_class.csv", lines[0], *(line.rsplit(",", 1)[0] + ",yes" for line in lines[1:]))
    put("infinite.csv", "a,b", *(f"{i},{i * 0.37:.3f}" for i in range(50)), "3,inf")
    put("text.csv", "a,b", *(f"{i},{i * 0.37:.3f}" for i in range(50)), "oops,3.5")
    put("lacking.csv", *(line.split(",", 1)[1] for line in lines))
    put("other_truth.csv", lines[0], *(line.rsplit(",", 1)[0] + ",maybe" for line in lines[1:]))
    for ending in ("csv", "parquet", "npz", "npy", "json"):
        (tmp_path / f"garbage.{ending}").write_bytes(random.bytes(3000))
    np.save(tmp_path / "matrix.npy", random.normal(size=(50, 3)))
    (tmp_path / "cut.npy").write_bytes(_cut(tmp_path / "matrix.npy"))
    (tmp_path / "zipped.csv.gz").write_bytes(gzip.compress(table.read_bytes(), mtime=0))
    (tmp_path / "cut.csv.gz").write_bytes(_cut(tmp_path / "zipped.csv.gz"))
    (tmp_path / "cut.descend").write_bytes(_cut(model))
    flipped = bytearray(model.read_bytes())
    flipped[-9] ^= 1
    (tmp_path / "flipped.descend").write_bytes(flipped)
    (tmp_path / "taken.descend").write_bytes(b"precious")
    (tmp_path / "half.json").write_text('{"format": "descend.comp')
    (tmp_path / "wrong.json").write_text('{"format": "descend.comparison", "version": 1, "runs": 3}')
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "folder").mkdir()
    return tmp_path


FIT = "fit table.csv --target answer"
CASES = {
    # data
    "fit missing.csv --target y": ("missing.csv",),
    "fit empty.csv --target y": ("empty.csv", "0 bytes"),
    "fit header.csv --target answer": ("header.csv", "no rows"),
    "evaluate model.descend header.csv": ("header.csv", "no rows; give a file that has some"),
    "fit one_row.csv --target answer": ("one_row", "at least 2"),
    "fit cut.csv.gz --target answer": ("cut.csv.gz", "cut short"),
    "fit cut.npy --target -1": ("cut.npy", "cut short"),
    "fit garbage.csv --target y": ("garbage.csv", "binary"),
    "fit garbage.parquet --target y": ("garbage.parquet", "damaged"),
    "fit garbage.npz --target y": ("garbage.npz", "damaged"),
    "fit garbage.npy --target y": ("garbage.npy", "damaged"),
    "fit model.descend --target y": ("model.descend", ".csv"),
    "fit sklearn:iriss": ("iriss", "iris"),
    "fit one_class.csv --target answer": ("answer", "one class", "yes"),
    "fit infinite.csv --target b": ("'b'", "inf", "row 51"),
    "fit text.csv --target b": ("'a'", "oops", "row 51"),
    # columns
    "fit table.csv": ("--target COLUMN", "size, colour, answer"),
    "fit table.csv --target anser": ("anser", "Did you mean 'answer'", "size, colour"),
    f"{FIT} --drop sise": ("--drop", "sise", "Did you mean 'size'"),
    f"{FIT} --columns sise": ("--columns", "sise", "Did you mean 'size'"),
    f"{FIT} --weights w": ("--weights", "'w'", "size, colour"),
    f"{FIT} --drop size,colour": ("no feature column",),
    f"{FIT} --task regression": ("answer", "text", "numbers"),
    # settings
    f"{FIT} --batch-size 0": ("--batch-size 0", "from 1", "full"),
    f"{FIT} --batch-size -4": ("--batch-size -4", "from 1", "full"),
    f"{FIT} --batch-size many": ("--batch-size 'many'", "from 1", "full"),
    f"{FIT} --learning-rate -1": ("--learning-rate is -1", "above 0", "auto"),
    f"{FIT} --learning-rate nan": ("--learning-rate is 'nan'", "above 0", "auto"),
    f"{FIT} --epochs 0": ("--epochs is 0", "≥ 1"),
    f"{FIT} --epochs 1.5": ("--epochs is '1.5'", "whole number"),
    f"{FIT} --time 3q": ("--time '3q'", "30s"),
    f"{FIT} --time nan": ("--time 'nan'", "30s"),
    f"{FIT} --loss log_los": ("--loss 'log_los'", "squared_error", "did you mean 'log_loss'"),
    f"{FIT} --loss squared_error": ("squared_error", "classification", "log_loss"),
    f"{FIT} --penalty l3": ("--penalty 'l3'", "l2"),
    f"{FIT} --alpha -1": ("--alpha is -1", "≥ 0"),
    f"{FIT} --optimizer sdg": ("--optimizer 'sdg'", "did you mean 'sgd'"),
    f"{FIT} --schedule cosin": ("--schedule 'cosin'", "constant"),
    f"{FIT} --schedule linear": ("--schedule", "--epochs 20"),
    f"{FIT} --momentum 1": ("--momentum is 1", "below"),
    f"{FIT} --reduction max": ("--reduction 'max'", "mean, sum"),
    f"{FIT} --seed -1": ("--seed is -1", "≥ 0"),
    f"{FIT} --threads 0": ("--threads is 0", "≥ 1"),
    f"{FIT} --task both": ("--task 'both'", "regression"),
    f"{FIT} --model tree": ("--model 'tree'", "linear"),
    f"{FIT} --validation 1": ("--validation is 1", "below 1"),
    f"{FIT} --validation nan": ("--validation is nan", "below 1"),
    f"{FIT} --validation missing.csv": ("--validation 'missing.csv'", "no file"),
    # outputs
    f"{FIT} --output taken.descend": ("taken.descend", "exists", "--force"),
    f"{FIT} --report taken.descend": ("taken.descend", "exists", "--force"),
    f"{FIT} --output nowhere/m.descend": ("nowhere", "does not exist"),
    f"{FIT} --output folder": ("'folder'", "is a folder"),
    f"{FIT} --output table.csv --force": ("--output 'table.csv'", "read"),
    f"{FIT} --output same --report same": ("--output and --report", "same"),
    f"{FIT} --output fit.HTML": ("--output 'fit.HTML' is called a page", "--report fit.HTML"),
    f"{FIT} --report page.html --no-report": ("--report and --no-report",),
    # usage
    f"{FIT} --targt answer": ("--targt", "Did you mean", "--target"),
    "fti table.csv": ("'fti'", "Did you mean 'fit'", "evaluate"),
    "fit": ("DATA", "descend fit --help"),
    "fit table.csv table.csv --target answer": ("extra argument",),
    # compare
    "compare table.csv --target answer --batch-sizes 0": ("--batch-sizes '0'", "below 1"),
    "compare table.csv --target answer --batch-sizes many": ("--batch-sizes 'many'", "full"),
    "compare table.csv --target answer --batch-sizes auto": ("--batch-sizes is 'auto'", "1,32,full"),
    "compare table.csv --target answer --seeds 0": ("--seeds is 0", "≥ 1"),
    "compare table.csv --target answer --target-loss nan": ("--target-loss is 'nan'", "finite"),
    "compare table.csv --target answer --output taken.descend": ("taken.descend", "--force"),
    "compare table.csv --target answer --output run.html": ("--output 'run.html'", "--report run.html"),
    "compare table.csv --target answer --learning-rate nan": ("--learning-rate is 'nan'", "auto"),
    # models and their data
    "predict missing.descend table.csv": ("missing.descend", "does not exist"),
    "predict table.csv table.csv": ("table.csv", "text file", "descend fit"),
    "predict cut.descend table.csv": ("cut.descend", "damaged"),
    "predict flipped.descend table.csv": ("flipped.descend", "damaged"),
    "predict model.descend missing.csv": ("missing.csv",),
    "predict model.descend lacking.csv": ("lacking", "lacks column 'size'", "colour, answer"),
    "predict model.descend matrix.npy": ("matrix", "size, colour"),
    "predict model.descend table.csv --output p.txt": ("p.txt", ".csv, .parquet, .npy"),
    "predict model.descend table.csv --output p.npy --probabilities": ("p.npy", ".parquet"),
    "predict model.descend table.csv --output taken.descend": ("taken.descend",),
    "predict model.descend table.csv --output model.descend --force": ("model.descend", "read"),
    "predict model.descend cut.csv.gz --output p.csv": ("cut.csv.gz", "cut short"),
    "evaluate model.descend lacking.csv": ("lacking", "lacks column 'size'"),
    "evaluate model.descend table.csv --target anser": ("--target", "anser", "answer"),
    "evaluate model.descend other_truth.csv": ("none of the model's classes", "no, yes", "maybe", "--target"),
    "evaluate cut.descend table.csv": ("cut.descend", "damaged"),
    # report
    "report missing.json": ("missing.json", "does not exist"),
    "report table.csv": ("table.csv", "text file"),
    "report half.json": ("half.json", "damaged"),
    "report wrong.json": ("damaged", "saved run"),
    "report list.json": ("list.json", "no object"),
    "report garbage.json": ("garbage.json",),
    "report cut.descend": ("cut.descend", "damaged"),
    "report model.descend --output taken.descend": ("taken.descend", "--force"),
}


@pytest.mark.parametrize("line", CASES)
def test_bad_input_is_told_in_one_line(line: str, place: Path, descend: Command) -> None:
    """Each bad call leaves with status 2, one line that teaches, no traceback, and the folder as it was."""
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    result = descend(*line.split(), "--quiet")
    assert result.status == 2, result.err
    assert result.out == ""
    assert result.err.startswith("descend: error: ")
    assert result.err.count("\n") == 1
    assert len(result.err) < 600
    for word in CASES[line]:
        assert word in result.err
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_before_training(
    tmp_path: Path, table: Path, descend: Command
) -> None:
    """An output in a folder without the right to write is refused with status 2."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    result = descend(*FIT.split(), "--output", "closed/m.descend", "--quiet")
    assert result.status == 2
    assert "cannot be written" in result.err


def test_settings_are_judged_before_data_are_read(descend: Command) -> None:
    """A wrong setting or output is what is told, even where the data do not exist."""
    for option in ("--epochs 0", "--output nowhere/m", "--validation 2", "--task both"):
        result = descend("fit", "missing.csv", "--target", "y", *option.split())
        assert result.status == 2
        assert "missing.csv" not in result.err


@pytest.fixture
def raise_in_machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes ``descend machine`` fail with an exception."""

    def prepare(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("descend.machine.describe_machine", fail)

    return prepare


@pytest.mark.parametrize("verbose", [False, True])
def test_an_unexpected_failure_has_a_traceback_only_when_asked(
    verbose: bool, descend: Command, raise_in_machine: Callable[[BaseException], None]
) -> None:
    """A bug leaves with status 1 and one line that names the exception; --verbose adds the traceback."""
    raise_in_machine(ZeroDivisionError("that\x1b[31m\nwas it"))
    result = descend("machine", *["--verbose"] * verbose)
    assert result.status == 1
    last = result.err.splitlines()[-1]
    assert last.startswith("descend: error: ZeroDivisionError: that\\x1b[31m was it")
    assert ("Traceback" in result.err) == verbose


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MemoryError(), 1, ("memory ran out", "--drop")),
        (PermissionError(13, "Permission denied", "secret.csv"), 1, ("secret.csv", "Permission denied")),
        (KeyboardInterrupt(), 130, ("interrupted", "nothing was written")),
    ],
)
def test_failures_of_the_system_are_told_in_one_line(
    error: BaseException,
    status: int,
    words: tuple[str, ...],
    descend: Command,
    raise_in_machine: Callable[[BaseException], None],
) -> None:
    """Memory, rights and Ctrl-C end a command with one line and their own status."""
    raise_in_machine(error)
    result = descend("machine")
    assert result.status == status
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err
