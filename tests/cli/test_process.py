"""Real processes: signals, closed pipes, the entry point."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from descend.cli.interrupts import SIGNALS, Interrupts, StopComparing, hear_interrupts
from descend.models.loading import load_model

Start = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
FIT = ("fit", "X.npy", "--target", "-1", "--no-report", "--batch-size", "full", "--json")
ENDLESS = ("--epochs", "10000000")


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """A matrix whose last column is to be predicted."""
    X = np.random.default_rng(0).normal(size=(20_000, 20)).astype(np.float32)
    X[:, -1] = X[:, 0] > 0
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Reads stderr up to a line with ``word``."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"{word!r} was never said")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_training_leaves_a_usable_model(
    number: signal.Signals, start: Start, matrix: Path, tmp_path: Path
) -> None:
    """Ctrl-C and a polite request to end leave 130, a model that has learnt, JSON, and how to go on."""
    process = start(*FIT, *ENDLESS)
    wait_for(process, "rows/s")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "X.descend" in err
    assert "Run the command again" in err
    assert "Traceback" not in err
    found = json.loads(out)
    assert (found["model"], found["stopped"]) == ("X.descend", "interrupted")
    assert found["train"]["accuracy"] > 0.9
    assert load_model(tmp_path / "X.descend").parameters.any()


def test_an_interrupt_before_training_writes_nothing(start: Start, tmp_path: Path) -> None:
    """Ctrl-C while rows are read leaves 130, one line, and no file."""
    lines = ["a,b,y", *(f"{i % 91},{i % 17},{i % 2}" for i in range(600_000))]
    (tmp_path / "big.csv").write_text("\n".join(lines) + "\n")
    process = start("fit", "big.csv", "--target", "y")
    time.sleep(0.35)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)  # the latter: Python itself was not up yet
    assert "Traceback" not in err or process.returncode < 0
    assert [path.name for path in tmp_path.iterdir()] == ["big.csv"]


def test_an_interrupted_comparison_saves_nothing(start: Start, matrix: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a comparison ends all of it, not one of its runs."""
    process = start("compare", "X.npy", "--target", "-1", "--time", "60s", "--epochs", "10000000")
    wait_for(process, "rows/s")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing was saved" in err
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


def test_a_kill_leaves_no_half_file(start: Start, matrix: Path, tmp_path: Path) -> None:
    """SIGKILL in training leaves the folder as it was."""
    process = start(*FIT, *ENDLESS)
    wait_for(process, "rows/s")
    process.kill()
    process.communicate(timeout=30)
    assert [path.name for path in tmp_path.iterdir()] == ["X.npy"]


def test_progress_appears_at_once(start: Start, matrix: Path) -> None:
    """Speed and loss are on stderr while a long training still goes on."""
    process = start(*FIT, *ENDLESS)
    wait_for(process, "rows/s")
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=30)


def test_a_closed_pipe_is_no_error(start: Start, matrix: Path, model: Path) -> None:
    """When the reader of stdout goes away the command ends without a word on stderr."""
    lines = ["size,colour", *(f"{i}.25,red" for i in range(200_000))]
    (matrix.parent / "rows.csv").write_text("\n".join(lines) + "\n")
    with start("predict", "model.descend", "rows.csv") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "prediction\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_place_for_the_output_is_named(tmp_path: Path) -> None:
    """Output that finds no room leaves 1 and one line that says what could not be written."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "descend", "machine"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("descend: error: the output could not be written: No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_are_no_bug(closed: str, model: Path, tmp_path: Path) -> None:
    """A command whose stdout or stderr was closed before it began does its work, and prints into nothing."""
    (tmp_path / "rows.csv").write_text("size,colour\n1.5,red\n")
    words = f"{sys.executable} -m descend predict model.descend rows.csv -o out.csv {closed}"
    done = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "bug" not in done.stderr
    assert (tmp_path / "out.csv").read_text().startswith("prediction\n")


def test_an_interrupt_that_nobody_could_be_told_shows_no_traceback() -> None:
    """What Ctrl-C raises inside a library's callback is left to ``raise_lost``; other lost errors are shown."""
    code = (
        "import sys\n"
        "from descend.cli.interrupts import StopComparing\n"
        "from descend.cli.process import prepare_process\n"
        "prepare_process(verbose=False)\n"
        "class Lost:\n"
        "    def __init__(self, error): self.error = error\n"
        "    def __del__(self): raise self.error\n"
        "for error in (StopComparing(), KeyboardInterrupt(), ValueError('shown')):\n"
        "    Lost(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: shown" in done.stderr
    assert "StopComparing" not in done.stderr
    assert "KeyboardInterrupt" not in done.stderr


def test_an_interrupt_while_verbs_are_loaded_is_one_line() -> None:
    """Ctrl-C while Click and the verbs are imported leaves 130 and a line, as it does later."""
    code = (
        "import os, signal, sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Interrupting(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'descend.cli.group':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['descend', 'machine']\n"
        "from descend.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.startswith("descend: interrupted")
    assert done.stderr.count("\n") == 1


def test_the_command_line_goes_without_pandas(tmp_path: Path) -> None:
    """A verb that reads tables leaves pandas out, which PyArrow would import and which takes 48 MB."""
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{i % 7},w{i % 3},{i % 2}\n" for i in range(40)))
    code = (
        "import sys\n"
        "sys.argv = ['descend', 'fit', 't.csv', '--target', 'y', '--no-report']\n"
        "from descend.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('pandas', 'pyarrow') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("['pyarrow']\n")


def test_a_signal_that_got_lost_is_raised_at_the_next_look() -> None:
    """``raise_lost`` raises what a signal raised where it was swallowed, with the error of that time."""
    with Interrupts() as interrupts:
        interrupts.raise_lost()
        interrupts.error = StopComparing
        with contextlib.suppress(StopComparing):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StopComparing):
            interrupts.raise_lost()


def test_names_that_stdout_cannot_encode_are_escaped(start: Start, tmp_path: Path) -> None:
    """With an ASCII stdout Korean classes come out escaped instead of failing."""
    (tmp_path / "t.csv").write_text(
        "a,y\n" + "".join(f"{i},{'사과' if i % 2 else '배'}\n" for i in range(40))
    )
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    _, err = start("fit", "t.csv", "--target", "y", "--no-report", "-o", "m", **ascii_only).communicate()
    assert (tmp_path / "m").is_file(), err
    out, err = start("evaluate", "m", "t.csv", **ascii_only).communicate()
    assert "accuracy" in out, err
    (tmp_path / "other.csv").write_text("a,y\n1,사과\n2,감\n")
    assert "\\uac10" in start("evaluate", "m", "other.csv", **ascii_only).communicate()[1]


def test_the_program_runs_as_a_module(start: Start) -> None:
    """`python -m descend` is `descend`, and its exit status arrives."""
    process = start("--version")
    assert process.communicate(timeout=30)[0].startswith("descend ")
    process = start("fit")
    assert process.communicate(timeout=30)[1].startswith("descend: error: Missing argument")
    assert process.returncode == 2


def test_help_is_quick() -> None:
    """`descend --help` imports neither NumPy nor anything else that is slow to load."""
    code = "import sys; from descend.cli import run; run(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.strip("[]\n").replace("'", "").split(", ")}
    assert not loaded & {"numpy", "numba", "sklearn", "pyarrow", "rich", "scipy", "jinja2", "psutil"}


def test_an_interrupt_that_gets_lost_is_heard_all_the_same() -> None:
    """What Ctrl-C raises in a destructor is told to nobody: it ends the command before anything is made."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    hear_interrupts()
    try:
        with Interrupts() as interrupts:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.gentle = True
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), Interrupts():
            pass
        hear_interrupts()
        with Interrupts() as interrupts:
            interrupts.gentle = True
            signal.raise_signal(signal.SIGINT)
            assert interrupts.asked
    finally:
        hear_interrupts()
        for one, handler in before.items():
            signal.signal(one, handler)
