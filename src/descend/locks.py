"""One writer at a time: a lock on a folder, which the kernel takes back when the process that holds it dies.

The lock is on an open file, ``.descend.lock`` in the folder, and not the file itself: one that a killed process
left behind locks nothing. The file says who holds the lock, for the message to whoever comes second.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from descend.errors import InputError, shorten

NAME = ".descend.lock"
PATIENCE_SECONDS = 0.2
"""So long a holder is given to write who it is."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that know no locks (some network mounts)."""

_held: set[int] = set()
"""Open lock files of this process."""


@contextmanager
def hold(folder: str | os.PathLike[str], what: str = "folder") -> Iterator[None]:
    """Keeps other processes, and other runs of this one, from holding ``folder`` meanwhile.

    ``folder`` exists; ``what`` it is called in messages. Raises ``InputError`` at once where it is held already,
    naming the process, and where the folder cannot be written. Nothing is left in the folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with hold(folder, what="checkpoint"):
    ...         sorted(os.listdir(folder))
    ['.descend.lock']
    """
    place = Path(folder) / NAME
    handle = take(place, what)
    if handle is None:
        raise _refused(place, what)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:  # a forked child that comes by here has no lock to give back
            give_back(place, handle)


def take(place: Path, what: str) -> int | None:
    """An open, locked file at ``place``, for ``give_back``; None where somebody else has it.

    Raises ``InputError`` where there can be none: ``what`` is what its folder is called then.
    """
    while True:
        handle = _open(place, what)
        try:
            taken = _lock(handle, place)
            if taken and _lies_at(handle, place):
                _sign(handle)
                _held.add(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not taken:
            return None
        # else the holder before took it away between opening and locking: that lock is nobody's


def _open(place: Path, what: str) -> int:
    try:
        return os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{what} {_shown(place.parent)} cannot be locked: {error.strerror}; "
            "choose a folder that can be written"
        ) from error


def _lock(handle: int, place: Path) -> bool:
    """Whether nobody else has the lock; then it is ours until ``handle`` is closed in every process."""
    try:
        _lock_in_kernel(handle)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _is_nobodys(place)
    return True


def _lock_in_kernel(handle: int) -> None:
    if sys.platform == "win32":  # locked bytes cannot be read there: one that lies far behind the text
        import msvcrt

        os.lseek(handle, 2**30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_nobodys(place: Path) -> bool:
    """Without locks the file's own words count: nobody's unless a process that may be alive signed it."""
    signed = _signature(place)
    if not signed:
        return True
    if signed.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(signed["pid"]), 0)
    except (OSError, KeyError, ValueError, TypeError, OverflowError) as error:
        return not isinstance(error, PermissionError)  # a process of somebody else's is alive, too
    return False


def _lies_at(handle: int, place: Path) -> bool:
    """Whether what was locked is still the file that others will open."""
    try:
        return os.path.samestat(os.fstat(handle), place.stat())
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Writes who holds the lock. A full disk does not keep anybody from holding it."""
    text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    with suppress(OSError):
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, text.encode())


def _signature(place: Path) -> dict[str, Any]:
    try:
        signed = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return {}
    return signed if isinstance(signed, dict) else {}


def _refused(place: Path, what: str) -> InputError:
    """Names the holder, who may be about to say its name."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (signed := _signature(place)) and time.monotonic() < end:
        time.sleep(0.01)
    who = f"process {shorten(str(signed['pid']))}" if "pid" in signed else "another process"
    if signed.get("pid") == os.getpid():
        who += " (this one)"
    if signed.get("host", socket.gethostname()) != socket.gethostname():
        who += f" on {shorten(str(signed['host']))}"
    return InputError(
        f"{what} {_shown(place.parent)} is in use by {who}; wait until that is done, or choose another folder"
    )


def give_back(place: Path, handle: int) -> None:
    """Lets go of what ``take`` took; the file goes while the lock is held, so that nobody else's is taken away."""
    _held.discard(handle)
    with suppress(OSError):
        if sys.platform == "win32":  # which deletes no file that is open
            os.close(handle)
            place.unlink()
            return
        if _lies_at(handle, place):
            place.unlink()
    with suppress(OSError):
        _unlock_in_kernel(handle)
    with suppress(OSError):
        os.close(handle)


def _unlock_in_kernel(handle: int) -> None:
    """Closing alone would leave the lock with a child that a fork gave a copy of the handle."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_UN)


def _let_go_in_child() -> None:
    """A forked child that outlives its parent must not keep the parent's locks."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _shown(path: Path) -> str:
    return f"'{shorten(str(path), 200)}'"
