import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from descend import locks
from descend.errors import InputError
from descend.locks import NAME, hold

HOLD = """
import sys, time
from descend.locks import hold
with hold(sys.argv[1], what="checkpoint"):
    print("held", flush=True)
    time.sleep(60)
"""
HOLD_AND_FORK = """
import os, sys, time
from descend.locks import hold
with hold(sys.argv[1], what="checkpoint"):
    if not os.fork():
        print(os.getpid(), flush=True)  # the child itself: what it does right after a fork is done
    time.sleep(60)
"""
COUNT = """
import sys, time
from pathlib import Path
from descend.errors import InputError
from descend.locks import hold
folder = Path(sys.argv[1])
done = 0
while done < 40:
    try:
        with hold(folder):
            count = int((folder / "count").read_text())
            time.sleep(0.0005)
            (folder / "count").write_text(str(count + 1))
        done += 1
    except InputError:
        pass
"""


def start(program: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_second_holder_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    """Who comes second gets one message with the name of the folder's use and the process, and changes nothing."""
    process = start(HOLD, tmp_path)
    try:
        assert first_line(process) == "held"
        with pytest.raises(InputError, match=rf"^checkpoint '.*' is in use by process {process.pid}; "):
            hold(tmp_path, what="checkpoint").__enter__()
        assert json.loads((tmp_path / NAME).read_text())["pid"] == process.pid
    finally:
        process.kill()
        process.communicate()


def test_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """After SIGKILL the folder can be held at once, though the file lies there with the dead one's name."""
    process = start(HOLD, tmp_path)
    assert first_line(process) == "held"
    process.kill()
    process.communicate()
    assert (tmp_path / NAME).exists()
    with hold(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    """A process that was forked while the folder was held does not go on holding it."""
    process = start(HOLD_AND_FORK, tmp_path)
    child = int(first_line(process))
    try:
        with pytest.raises(InputError, match=f"process {process.pid}"):
            hold(tmp_path).__enter__()
        process.kill()
        process.wait()
        with hold(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_one_process_holds_a_folder_once(tmp_path: Path) -> None:
    """Two runs of one process keep each other out too, and the first one's lock stays whole."""
    with hold(tmp_path):
        for _ in range(2):
            with pytest.raises(InputError, match=r"process \d+ \(this one\)"):
                hold(tmp_path).__enter__()
    with hold(tmp_path):
        pass


def test_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    """An error or Ctrl-C leaves neither lock nor file."""
    with pytest.raises(KeyboardInterrupt), hold(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_no_two_processes_hold_at_once(tmp_path: Path) -> None:
    """Four processes that add to one number under the lock, as fast as they can, lose no addition."""
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path) for _ in range(4)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert (tmp_path / "count").read_text() == "160"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_holder_who_is_slow_to_sign_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock whose holder has not yet written who it is refuses all the same, without a number."""
    monkeypatch.setattr(locks, "_sign", lambda handle: None)
    with hold(tmp_path), pytest.raises(InputError, match="in use by another process"):
        hold(tmp_path).__enter__()


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder, or a file in the place of one, is an InputError with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"store '.*none' cannot be locked: No such file"):
        hold(tmp_path / "none", what="store").__enter__()
    with pytest.raises(InputError, match=r"file' cannot be locked: Not a directory"):
        hold(tmp_path / "file").__enter__()


def test_file_system_without_locks_goes_by_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel locks nothing, a living holder and one on another machine refuse, and a dead one does not."""

    def no_locks(handle: int) -> Any:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(locks, "_lock_in_kernel", no_locks)
    with hold(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()}"):
        hold(tmp_path).__enter__()
    process = start(HOLD, tmp_path)
    assert first_line(process) == "held"
    with pytest.raises(InputError, match=f"process {process.pid}"):
        hold(tmp_path).__enter__()
    process.kill()
    process.communicate()
    with hold(tmp_path):
        pass
    (tmp_path / NAME).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        hold(tmp_path).__enter__()
