import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from descend import machine


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_description_is_json_and_complete() -> None:
    """Every figure is a JSON value, and what this process may use does not exceed what is built in."""
    seen = machine.describe_machine()
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert 1 <= seen["cores"] <= seen["logical_cores"]
    assert 0 < seen["available_bytes"] <= seen["memory_bytes"]
    assert {"python", "numpy", "numba"} <= set(seen["versions"])
    assert seen["cpu"]


def test_describing_imports_nothing_heavy() -> None:
    """Versions are read from the packages' metadata, without importing one of them."""
    code = (
        "import sys; from descend.machine import describe_machine; describe_machine(); "
        "print([m for m in ('numpy', 'numba', 'scipy', 'pyarrow', 'sklearn', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_products_use_one_thread_whatever_was_loaded_when() -> None:
    """NumPy's BLAS, and the one that SciPy brings later, use one thread inside, and as many as before behind it."""
    code = """
import numpy
from threadpoolctl import threadpool_info
from descend.machine import one_blas_thread
def threads(): return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}
before = threads()
with one_blas_thread(): print(threads() <= {1})
import scipy.linalg
with one_blas_thread(): print(threads() <= {1})
print(threads() == before)
"""
    many = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "2")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | many
    )
    assert done.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        (
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_processor_quota_of_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    """The quota is the smallest of the group's and the groups' above, in both versions, or none."""
    root = write(tmp_path, files)
    assert machine.cpu_quota(root) == quota
    assert machine.usable_cores(root) >= 1
    if quota is not None:
        assert machine.usable_cores(root) <= max(1, quota)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "1048576\n",
            },
            1048576,
        ),
        (
            {"proc/self/cgroup": "7:memory:/x\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2097152"},
            2097152,
        ),
        (
            {
                "proc/self/cgroup": "7:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            None,
        ),
    ],
)
def test_memory_limit_of_control_groups(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    """The limit is the smallest along the groups, and a number near 2⁶³ is none."""
    unlimited = machine.memory_limit(tmp_path / "nothing")
    expected = min((n for n in (limit, unlimited) if n is not None), default=None)
    assert machine.memory_limit(write(tmp_path, files)) == expected


def test_shell_limit_counts() -> None:
    """A limit on the address space set by the shell is the memory limit."""
    resource = pytest.importorskip("resource")
    code = "from descend.machine import memory_limit; print(memory_limit())"

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, preexec_fn=confine
    )
    assert int(done.stdout) <= 1 << 30


def test_file_pages_do_not_count_as_used(tmp_path: Path) -> None:
    """Memory in use is the group's, less file pages that are given up on demand."""
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.current": "1000",
            "sys/fs/cgroup/memory.stat": "anon 400\ninactive_file 300\n",
        },
    )
    assert machine._group_used(root) == 700


def test_caches_and_processor_name(tmp_path: Path) -> None:
    """Data and unified caches are read by level; instruction caches are left out."""
    base = "sys/devices/system/cpu/cpu0/cache"
    kinds = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2M")]
    files = {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Example 9000\n"}
    for i, (level, kind, size) in enumerate(kinds):
        for name, text in (("level", level), ("type", kind), ("size", size)):
            files[f"{base}/index{i}/{name}"] = text + "\n"
    root = write(tmp_path, files)
    assert machine.cache_bytes(root) == {"L1": 48 * 1024, "L2": 2 * 1024**2}
    assert machine.cpu_model(root) == "Example 9000"
    assert machine.cpu_model(tmp_path / "nothing")


def test_peak_rises_with_use_and_is_this_program_s_own() -> None:
    """Peak memory grows by about what is held, and a child does not inherit its parent's peak."""
    ballast = bytearray(os.urandom(1)) * (100 * 2**20)
    assert machine.peak_bytes() > len(ballast)
    code = "from descend.machine import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < 90 * 2**20
