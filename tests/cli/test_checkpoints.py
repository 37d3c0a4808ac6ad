"""``fit --checkpoint --resume``: real processes that are ended in every way, and go on to the same model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.locks import hold
from descend.model_file import read_model

Command = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]
FIT = ("fit", "X.npy", "--target", "-1", "--validation", "0", "--no-report", "--optimizer", "sgd")
LONG = (*FIT, "--batch-size", "1", "--epochs", "400")
SAVED = ("--checkpoint", "run")


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A matrix whose last column is to be predicted."""
    X = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    X[:, -1] = X[:, 0] + X[:, 1] > 0
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


def parameters(path: Path) -> bytes:
    return bytes(read_model(path)[0]["parameters"].tobytes())


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Reads stderr up to a line with ``word``."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"{word!r} was never said")


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupted_run_goes_on_to_the_same_model(
    number: signal.Signals, start: Start, matrix: Path, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM save run and model and say how to go on; the same command with --resume does, over it."""
    process = start(*LONG, *SAVED, "-o", "m.descend", "--json")
    wait_for(process, "rows/s")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "is saved in 'run': run the command again with --resume to go on" in err
    assert json.loads(out)["stopped"] == "interrupted"
    assert (tmp_path / "m.descend").exists()
    assert not (tmp_path / "run" / ".descend.lock").exists()
    process = start(*LONG, *SAVED, "-o", "m.descend", "--resume")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "a run that was saved after" in err
    process = start(*LONG, "-o", "whole.descend")
    process.communicate(timeout=60)
    assert parameters(tmp_path / "m.descend") == parameters(tmp_path / "whole.descend")


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_a_second_run_in_the_same_folder_is_refused(start: Start, matrix: Path, tmp_path: Path) -> None:
    """While one process trains into a folder another is refused at once with its number; killed, it holds nothing."""
    process = start(*LONG[:-1], "10000000", *SAVED, "--resume")
    wait_for(process, "rows/s")
    second = start(*LONG, *SAVED, "--resume")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"checkpoint 'run' is in use by process {process.pid}" in err
    process.kill()
    process.communicate(timeout=60)
    with hold(tmp_path / "run"):
        pass


LIMITED = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from descend.cli import main
sys.argv[1:2] = []
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="limits as POSIX has them")
@pytest.mark.parametrize(
    ("size", "words", "left"),
    [
        (300, "checkpoint 'run': output 'run/run-1.checkpoint' could not be written: File too large", set()),
        (60_000, "output 'page.html' could not be written: File too large", {"m.descend", "run"}),
    ],
)
def test_a_disk_that_is_full_is_one_message(
    size: int, words: str, left: set[str], matrix: Path, tmp_path: Path
) -> None:
    """Where checkpoint or page cannot be written the command says so in one line, leaves 1, and no half file."""
    fit = [word for word in FIT if word != "--no-report"]
    command = [*fit, "--epochs", "2", "--report", "page.html", "-o", "m.descend", *SAVED]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *command, "-q"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"X.npy"} | left
    assert not list(tmp_path.rglob("*.tmp"))
    if left:
        assert "the model is in m.descend" in done.stderr
        again = subprocess.run(
            [sys.executable, "-m", "descend", *command, "--resume", "-q"], cwd=tmp_path, check=False
        )
        assert again.returncode == 0
        assert (tmp_path / "page.html").exists()


def test_a_run_that_had_ended_writes_its_model_again(descend: Command, tmp_path: Path) -> None:
    """Resumed behind its end the command says so, and the model is there again, the same."""
    words = ("fit", "sklearn:digits", "--no-report", *SAVED)
    assert descend(*words).status == 0
    before = parameters(tmp_path / "digits.descend")
    (tmp_path / "digits.descend").unlink()
    again = descend(*words, "--resume")
    assert again.status == 0
    assert "the run had ended already (certified); its model is written again" in again.err
    assert parameters(tmp_path / "digits.descend") == before
    assert [path.name for path in tmp_path.glob("*.descend")] == ["digits.descend"]


def test_a_resumed_run_replaces_no_file_of_others(descend: Command, tmp_path: Path) -> None:
    """Its own model may be replaced without --force; one that somebody changed since stays."""
    words = ("fit", "sklearn:wine", "--no-report", *SAVED, "-o", "m.descend")
    assert descend(*words).status == 0
    assert descend(*words, "--resume").status == 0
    (tmp_path / "m.descend").write_text("mine")
    refused = descend(*words, "--resume")
    assert (refused.status, "exists already" in refused.err) == (2, True)
    assert (tmp_path / "m.descend").read_text() == "mine"


def test_a_folder_with_a_run_wants_resume(descend: Command, tmp_path: Path) -> None:
    """Without --resume a folder with a run is refused before anything is read, and says what to do."""
    assert descend("fit", "sklearn:wine", "--no-report", *SAVED).status == 0
    refused = descend("fit", "nothere.csv", *SAVED)
    assert refused.status == 2
    assert "holds a run already; take --resume" in refused.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "--resume needs --checkpoint"),
        (("--checkpoint", ""), "--checkpoint is empty"),
        (("--checkpoint", "file"), "checkpoint 'file' cannot be made: File exists"),
        (("--checkpoint", "file/x"), "checkpoint 'file/x' cannot be made: Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_is_told(
    words: tuple[str, ...], message: str, descend: Command, tmp_path: Path
) -> None:
    """What cannot be meant is refused with the option's name, and nothing is written."""
    (tmp_path / "file").write_text("")
    refused = descend("fit", "sklearn:wine", *words)
    assert refused.status == 2
    assert message in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_run_is_refused_by_name(descend: Command, tmp_path: Path) -> None:
    """An option, or data, of another run than the folder's is refused with both values."""
    assert descend("fit", "sklearn:wine", "--no-report", *SAVED).status == 0
    for words, message in {
        ("sklearn:wine", "--alpha", "0.5"): "alpha 0.0001, this one has 0.5",
        ("sklearn:wine", "--model", "mlp"): "model linear, this one has mlp",
        ("sklearn:wine", "--drop", "ash"): "with the column 'ash', which is not here",
        ("sklearn:iris",): "data of 178 rows, these are 150",
    }.items():
        refused = descend("fit", *words, *SAVED, "--resume", "-q")
        assert refused.status == 2
        assert message in refused.err
