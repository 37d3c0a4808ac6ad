"""What this process may use of the machine it runs on: cores, memory, threads of products, versions.

A container sees the whole machine in most places; its share stands in the files of its control group, version
1 or 2. Each reader takes the root of the file system, so a test can build one.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("descend", "numpy", "numba", "scipy", "pyarrow", "scikit-learn", "torch")
_ROOT = Path("/")
WEIGH_SECONDS = 0.05
STATUS = Path("/proc/self/status")
ADDRESSES = "ulimit -v"
"""What bounds the memory that is reserved, used or not."""
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
_is_sparing = False
is_short_of_memory = False
"""Whether what is heavy and can be done by another process is left to one."""
SHORT_BYTES = 512 * 10**6
_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a number near 2⁶³."""


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, load and versions, as JSON values; None where the system does not tell.

    ``cores`` is what this process may keep busy at once, ``memory_bytes`` what is built in, ``limit_bytes``
    what this process may take of it, ``available_bytes`` what is free now within that limit.
    """
    import psutil

    memory = psutil.virtual_memory()
    limit, used = memory_limit(), _group_used()
    free = int(memory.available)
    available = free if limit is None else min(free, max(0, limit - used))
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "memory_bytes": int(memory.total),
        "limit_bytes": limit,
        "available_bytes": available,
        "load": _load(),
        "caches": cache_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | package_versions(),
    }


def status_bytes(field: str) -> int:
    """A figure of this process, such as ``VmRSS``; 0 where the system does not tell (others than Linux)."""
    for line in _lines(STATUS):
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that may still be taken, and what says so."""

    bytes: int
    bound: str


def find_room(limit: int | None = None) -> Room:
    """What is left: free memory, the group's and the shell's limits, and ``limit`` on the whole process."""
    return min(find_rooms(limit), key=lambda room: room.bytes)


def find_rooms(limit: int | None = None) -> list[Room]:
    """What each of these leaves."""
    import psutil

    rooms = [Room(int(psutil.virtual_memory().available), "free memory"), *_shell_limits()]
    group = group_room()
    if group is not None:
        rooms.append(Room(group, "the limit of the process's group"))
    if limit is not None:
        rooms.append(Room(max(0, limit - status_bytes("VmRSS")), "the limit that was given"))
    return rooms


def _shell_limits() -> list[Room]:
    """What is left of ``ulimit -v`` and ``ulimit -d``."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return []
    rooms = []
    for kind, field, name in (
        (resource.RLIMIT_AS, "VmSize", ADDRESSES),
        (resource.RLIMIT_DATA, "VmData", "ulimit -d"),
    ):
        most = resource.getrlimit(kind)[0]
        if most != resource.RLIM_INFINITY and status_bytes(field):
            rooms.append(Room(max(0, most - status_bytes(field)), name))
    return rooms


def peak_bytes() -> int:
    """The most physical memory this process has held so far."""
    # Linux keeps ru_maxrss across exec, so it may be the parent's peak; VmHWM is this program's own.
    if peak := status_bytes("VmHWM"):
        return peak
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_bytes() -> int:
    """The physical memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


class Scales:
    """The most physical memory that this process held when it was weighed: every 0.05 s at the most.

    To ask costs tens of microseconds of the system's, which leave a run of a millisecond cold caches.
    """

    def __init__(self) -> None:
        self.most_bytes = 0
        self._next = 0.0

    def weigh(self, *_: object) -> None:
        """Looks, if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + WEIGH_SECONDS
            self.most_bytes = max(self.most_bytes, held_bytes())


def package_versions() -> dict[str, str]:
    """Versions of descend and of what it computes with, none of it imported."""
    versions = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def usable_cores(root: Path = _ROOT) -> int:
    """Cores this process may use: its affinity, cut to its group's quota, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = cpu_quota(root)
    return count if quota is None else max(1, min(count, int(quota)))


def num_threads(threads: int | str) -> int:
    """The threads to use; ``"auto"``: one for each core this process may use, its group's quota counted."""
    return usable_cores() if threads == "auto" else int(threads)


def one_blas_thread() -> Any:
    """A context in which NumPy's and SciPy's products use one thread.

    Sums must not depend on how many there are, and products as small as these gain nothing by more.
    """
    return _blas("scipy.linalg" in sys.modules).limit(limits=1)


@cache
def _blas(with_scipy: bool) -> Any:
    """The BLAS libraries that are loaded; to look for them takes as long as a small fit. SciPy has one of its own."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Processor time a second that the control groups allow, in cores."""
    quotas = []
    for folder in _groups(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        words = words or [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        with suppress(ValueError, ZeroDivisionError):  # "max" and "" are no numbers
            quotas.append(float(words[0]) / float(words[1]))
    return min((quota for quota in quotas if quota > 0), default=None)


def memory_limit(root: Path = _ROOT) -> int | None:
    """The smallest of the control groups' and the shell's (ulimit) limits on memory, in bytes."""
    limits = [] if (limit := group_limit(root)) is None else [limit]
    with suppress(ImportError):  # Windows has no such limits
        import resource

        limits += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=None)


def automatic_memory_limit(root: Path = _ROOT) -> int:
    """Bytes this process may come to hold: what it holds and what is free, within its limits.

    What others will need is not known; a tenth of what is free is left to them.
    """
    import psutil

    held = status_bytes("VmRSS") or int(psutil.Process().memory_info().rss)
    free = [int(psutil.virtual_memory().available)]
    if (room := group_room(root)) is not None:
        free.append(room)
    if (room := address_room()) is not None:
        free.append(room)
    return held + int(0.9 * min(free))


def address_room() -> int | None:
    """Bytes of addresses that the shell's limits (ulimit -v, -d) still allow; None where there are none.

    What is reserved counts, used or not: stacks and heaps of threads, arenas of allocators.
    """
    rooms = []
    with suppress(ImportError):  # Windows has no such limits
        import resource

        for kind, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            limit = resource.getrlimit(kind)[0]
            if 0 < limit < _UNLIMITED:
                rooms.append(max(0, limit - status_bytes(field)))
    return min(rooms, default=None)


def return_freed_memory() -> None:
    """Have memory that is freed given back at once; to be called before Arrow is loaded.

    glibc keeps pieces up to 32 MB that were freed, and a heap for each thread; Arrow's own allocator keeps more: what
    a process holds then is not what it uses. Costs nothing that could be measured.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _set_allocator(M_MMAP_THRESHOLD, 2**22)
    _set_allocator(M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Gives back what allocators keep of memory that is freed, Arrow's if it is loaded: some milliseconds."""
    import ctypes

    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # glibc's own
        ctypes.CDLL(None).malloc_trim(0)


def keep_to(limit: int) -> None:
    """Notes that this process is to hold no more than ``limit`` bytes: where that is little, it compiles nothing.

    Bytes that it is sure to take count as taken: ``limit`` is then what they leave.
    """
    global is_short_of_memory
    is_short_of_memory = limit - status_bytes("VmRSS") < SHORT_BYTES


def spare_addresses() -> None:
    """Reserve few addresses, where they are limited; to be called before threads begin and Arrow is loaded.

    Arrow's own allocator reserves a gigabyte for its first number, and glibc a heap of 64 MB for each thread: under
    ulimit -v that is soon all there is.
    """
    global _is_sparing
    if address_room() is None or _is_sparing:
        return
    import threading

    threading.stack_size(2 * 2**20)
    return_freed_memory()
    _is_sparing = _set_allocator(M_ARENA_MAX, 1)


def _set_allocator(setting: int, value: int) -> bool:
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # other C libraries have no such setting
        return bool(ctypes.CDLL(None).mallopt(setting, value))
    return False


def addresses_of_thread() -> int:
    """Bytes of addresses that a thread of Python takes, for its stack and its heap."""
    return (4 if _is_sparing else 80) * 2**20


def group_limit(root: Path = _ROOT) -> int | None:
    """The smallest of the control groups' limits on memory, in bytes."""
    limits = [
        int(text)
        for folder in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text(folder / name)).isdigit()
    ]
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=None)


def group_room(root: Path = _ROOT) -> int | None:
    """Bytes that the control groups still allow; None where they have no limit."""
    limit = group_limit(root)
    return None if limit is None else max(0, limit - _group_used(root))


def cpu_model(root: Path = _ROOT) -> str:
    """The processor's name as its maker writes it, or at least its architecture."""
    for line in _lines(root / "proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name" and value.strip():
            return value.strip()
    if sys.platform == "darwin" and (name := _sysctl("machdep.cpu.brand_string")):
        return name
    return platform.processor() or platform.machine() or "unknown"


def cache_bytes(root: Path = _ROOT) -> dict[str, int]:
    """Bytes of the first core's data caches by level: ``{"L1": 49152, "L2": …}``."""
    sizes = {}
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size, level = _text(folder / "size"), _text(folder / "level")
        if _text(folder / "type") in ("Data", "Unified") and size[:-1].isdigit():
            sizes[f"L{level}"] = int(size[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1], 1)
    if not sizes and sys.platform == "darwin":
        for level, name in (("L1", "hw.l1dcachesize"), ("L2", "hw.l2cachesize"), ("L3", "hw.l3cachesize")):
            if (size := _sysctl(name)).isdigit():
                sizes[level] = int(size)
    return sizes


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control groups that may limit ``controller``, and of all groups above."""
    base = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top = base
        elif controller in controllers.split(","):
            top = base / controller
        else:
            continue
        # Inside a container the path may be the host's, whose folders are not mounted: the top one always is.
        group = top / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _group_used(root: Path = _ROOT) -> int:
    """Bytes that the innermost limited group holds, without file pages that give way at once."""
    for folder in _groups(root, "memory"):
        for name in ("memory.current", "memory.usage_in_bytes"):
            if (text := _text(folder / name)).isdigit():
                return max(0, int(text) - _inactive_file(folder))
    return 0


def _inactive_file(folder: Path) -> int:
    for line in _lines(folder / "memory.stat"):
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _load() -> float | None:
    """Processes that want to run, averaged over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().strip()
    return ""


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _sysctl(name: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=2, check=True)
        return done.stdout.strip()
    return ""
