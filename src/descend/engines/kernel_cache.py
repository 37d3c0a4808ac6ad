"""Where compiled kernels are kept, and when a kept one is fresh.

Numba's own cache looks at the caller's file only, so a formula edited in another file went on giving its
old result. Here the folder's name is a key over every source file that kernels may call, the versions of
Numba and Python, and Numba's settings: whatever changes, another folder is used.

Places are tried in order: ``NUMBA_CACHE_DIR``, the user's cache folder, a private folder among the temporary
files. Reading needs no right to write, so an image may ship a filled folder. With no place at all kernels are
compiled in each process, and a notice says so.

One file holds one compiled signature and carries its checksum. Numba's index of numbered files is not used:
two processes that compile different signatures at once can give both the same number.

Who compiles a kernel holds a lock beside its file: whoever else comes to it meanwhile waits, and loads it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numba
import numba.core.compiler
import numba.core.serialize
import psutil
from numba.core.runtime.nrt import rtsys

from descend import locks, machine
from descend.errors import InputError

_numba: Any = numba  # partly typed: what is used here is not
PACKAGE = Path(__file__).resolve().parents[1]
KERNEL_FOLDERS = ("objectives", "updates", "engines")
KEPT_KEYS = 8
"""Several environments share a home, each with a key of its own; a key takes one to three megabytes."""
COMPILE_SECONDS = "4 to 15"
"""What all kernels of one run take to compile, two cores of 2020; only a notice quotes it."""
PATIENCE_SECONDS = 60.0
"""So long another process is waited for: more than a kernel takes, for its compiling may have been broken off."""

_DIGEST_BYTES = 32
any_loaded = False
"""Whether this process has a kernel: with the first it comes to hold LLVM."""
before_compiling: Callable[[], None] | None = None
"""Called before this process compiles anything."""
waits = True
"""Whether it waits for what others compile; else that is ``TakenElsewhereError``."""
_told: set[str] = set()
_silent = False
_compiling = 0.0
_left = _held = 0


def quiet(silent: bool = True) -> None:
    """Keep this module's notices off stderr."""
    global _silent
    _silent = silent


def seconds_compiling() -> float:
    """Seconds that this process has spent on compiling kernels: no budget of a caller's is meant for that."""
    return _compiling


@contextmanager
def counted() -> Iterator[None]:
    """What is done inside counts as compiling."""
    global _compiling
    began = time.perf_counter()
    try:
        yield
    finally:
        _compiling += time.perf_counter() - began


def _held_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def bytes_left_by_compiling() -> int:
    """Memory that compiling has left this process with: another one, which loads what is kept, goes without."""
    return _left


def _tell(topic: str, message: str) -> None:
    if _silent or topic in _told or sys.stderr is None:
        return
    _told.add(topic)
    wipe = "\r\x1b[K" if sys.stderr.isatty() else ""  # a status line may stand where this is to be read
    print(f"{wipe}descend: {message}", file=sys.stderr, flush=True)


def source_key() -> str:
    """Sixteen hexadecimal digits over all that compiled code depends on, as it is on disk now."""
    state = hashlib.sha256()
    settings = [getattr(_numba.config, name, None) for name in ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE")]
    state.update(repr((_numba.__version__, sys.version, settings)).encode())
    for folder in KERNEL_FOLDERS:
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            content = path.read_bytes()
            state.update(f"\0{path.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode())
            state.update(content)
    return state.hexdigest()[:16]


# Taken when kernels are defined: what is edited later is not what this process runs.
KEY = source_key()


def user_cache_folder() -> Path | None:
    """The folder for caches that this platform gives a user, or None where there is no home."""
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return Path(local) if local else Path.home() / "AppData" / "Local"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return xdg if xdg.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without an entry in the password file
        return None


def _private_temporary_folder() -> Path | None:
    """A folder among the temporary files that nobody else can write: what is loaded from it is executed."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"descend-cache-{owner}"
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return None
    if os.name == "nt":
        return folder
    private = stat.S_ISDIR(state.st_mode) and state.st_uid == owner and not state.st_mode & 0o022
    return folder if private else None


def places() -> Iterator[Path]:
    """The folders that may hold the kernels of this key, the preferred one first."""
    if _numba.config.CACHE_DIR:
        yield Path(_numba.config.CACHE_DIR) / "descend" / KEY
    if (folder := user_cache_folder()) is not None:
        yield folder / "descend" / KEY
    if (folder := _private_temporary_folder()) is not None:
        yield folder / KEY


class TakenElsewhereError(Exception):
    """Another process compiles this kernel."""


class KernelCache:
    """What Numba asks of a dispatcher's cache, for one kernel."""

    _lock: tuple[Path, int] | None = None

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._module_file = Path(inspect.getfile(function))
        self._stem = re.sub(r"[^\w.]", "", f"{self._module_file.stem}.{function.__qualname__}")
        self._module_stamp = self._stamp()
        self._enabled = self._module_stamp is not None

    def _stamp(self) -> bytes | None:
        """The module's digest; a function typed at a prompt has no file and is not kept."""
        try:
            return hashlib.sha256(self._module_file.read_bytes()).digest()
        except OSError:
            return None

    def _name(self, signature: Any, codegen: Any) -> str:
        parts = (signature, codegen.magic_tuple(), str(self._module_file), self._module_stamp)
        state = hashlib.sha256(repr(parts).encode())
        state.update(self._function.__code__.co_code)
        return f"{self._stem}-{state.hexdigest()[:24]}.bin"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled form for these argument types, or None: Numba then compiles."""
        global any_loaded
        any_loaded = True
        # All that kept kernels need of Numba; before it compiles anything it loads the rest.
        rtsys.initialize(target_context)
        if (kept := self._kept(signature, target_context)) is not None:
            return kept
        _tell("compiling", f"compiling its kernels, once ({COMPILE_SECONDS} s)")
        with counted():
            kept = self._compiled_by_another(signature, target_context)
        self._began, self._held = time.perf_counter(), _held_bytes()
        return kept

    def _compiled_by_another(self, signature: Any, target_context: Any) -> Any:
        """What another process compiles instead of this one, or is at already; None where this one has to."""
        if not self._enabled:
            return None
        if machine.is_short_of_memory:
            from descend.engines.compiled_apart import compiled_apart

            there = compiled_apart(self._function, signature)
            return self._kept(signature, target_context) if there else None
        if before_compiling is not None:
            before_compiling()
        self._give_back_lock()  # one that was left: compiling was broken off
        self._take_lock(self._name(signature, target_context.codegen()))
        if (kept := self._kept(signature, target_context)) is not None:
            self._give_back_lock()
        return kept

    def _take_lock(self, name: str) -> None:
        """Waits until nobody else compiles what is kept as ``name``; where there can be no locks, not at all."""
        place = next((place for place in places() if _is_ready(place)), None)
        end = time.monotonic() + PATIENCE_SECONDS
        while place is not None and time.monotonic() < end:
            lock = (place / name).with_suffix(".lock")
            try:
                handle = locks.take(lock, "folder")
            except (InputError, OSError):
                return
            if handle is not None:
                self._lock = lock, handle
                return
            if not waits:
                raise TakenElsewhereError(name)
            time.sleep(0.01)

    def _give_back_lock(self) -> None:
        if self._lock is not None:
            locks.give_back(*self._lock)
            self._lock = None

    def _kept(self, signature: Any, target_context: Any) -> Any:
        """What a process before, or beside, this one has compiled; None where it is not there."""
        if not self._enabled:
            return None
        name = self._name(signature, target_context.codegen())
        for place in places():
            if (payload := _read(place / name)) is None:
                continue
            try:
                compiled = _numba.core.compiler.CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception:  # a file nobody can use is as good as none
                continue
            with suppress(OSError):
                os.utime(place)  # pruning keeps what was used last
            return compiled
        return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep what Numba compiled in the first place that can be written."""
        try:
            self._save(signature, compiled)
        finally:
            self._give_back_lock()

    def _save(self, signature: Any, compiled: Any) -> None:
        global _compiling, _left, _held
        _compiling += time.perf_counter() - self._began
        now = _held_bytes()
        _left += max(0, now - max(self._held, _held))  # what a kernel inside this one took is counted already
        _held = now
        if not self._enabled:
            return
        if compiled.library.has_dynamic_globals:
            warnings.warn(
                f"kernel {self._stem} refers to an address or a large global array, "
                "so its compiled form cannot be kept",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        if source_key() != KEY or self._stamp() != self._module_stamp:
            return  # the sources were edited while this process ran: its code would be kept under a wrong key
        name = self._name(signature, compiled.codegen)
        payload = _numba.core.serialize.dumps(compiled._reduce())
        if not any(_write(place, name, payload) for place in places()):
            _tell(
                "no place",
                "found no folder to keep compiled kernels in, so each process compiles them again; "
                "set NUMBA_CACHE_DIR to a folder that can be written",
            )

    @property
    def cache_path(self) -> str | None:
        return str(next(places(), ""))

    def flush(self) -> None:
        """Nothing to do: Numba calls it before compiling anew, and a new result replaces the old file."""

    def enable(self) -> None:
        self._enabled = self._module_stamp is not None

    def disable(self) -> None:
        self._enabled = False


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(place: Path, name: str, payload: bytes) -> bool:
    temporary = None
    try:
        _make_ready(place)
        handle, temporary = tempfile.mkstemp(dir=place, prefix=".new-")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        Path(temporary).replace(place / name)
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        return False
    return True


def _make_ready(place: Path) -> None:
    if not place.is_dir():
        place.mkdir(parents=True, exist_ok=True)
        _prune(place)


def _is_ready(place: Path) -> bool:
    """Whether there is such a folder, made if need be, that can be written."""
    with suppress(OSError):
        _make_ready(place)
        return os.access(place, os.W_OK)
    return False


def _prune(newest: Path) -> None:
    """Remove the folders of old keys beside ``newest``, all but the last few."""

    def age(folder: Path) -> float:
        return -folder.stat().st_mtime

    try:
        keys = [path for path in newest.parent.iterdir() if re.fullmatch(r"[0-9a-f]{16}", path.name)]
        others = sorted((path for path in keys if path != newest), key=age)
    except OSError:  # another process prunes too
        return
    for folder in others[KEPT_KEYS - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
