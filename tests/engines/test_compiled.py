import ast
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

from descend import locks
from descend.engines import kernel_cache
from descend.engines.compiled import inline, kernel, part

NOTICE = "compiling its kernels, once"
FORMULA = """
import numpy as np

def derivative(score, label):
    return {factor} * (score - label) + np.exp(0.0 * score)
"""
CALLER = """
import sys
import numpy as np
from descend.engines.compiled import inline, kernel, quiet
from descend.objectives.formula import derivative

inline(derivative)

@kernel
def total(scores, labels):
    result = 0.0
    for i in range(scores.shape[0]):
        result += derivative(scores[i], labels[i])
    return result

def main(dtype="float64"):
    print(total(np.arange(4, dtype=dtype), np.zeros(4, dtype=dtype)))
"""
RUN = "from descend.engines.caller import main; main()"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package of the same shape, whose sources a test may edit."""
    root = tmp_path / "package" / "descend"
    for folder in ("engines", "objectives"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "__init__.py").touch()  # a package without one would give way to the installed descend
    for name in ("machine.py", "locks.py", "errors.py"):
        shutil.copy(kernel_cache.PACKAGE / name, root)
    for name in ("compiled.py", "compiled_apart.py", "kernel_cache.py", "part_compiler.py"):
        shutil.copy(kernel_cache.PACKAGE / "engines" / name, root / "engines" / name)
    (root / "engines" / "caller.py").write_text(CALLER)
    (root / "objectives" / "formula.py").write_text(FORMULA.format(factor=1.0))
    return root


def run(package: Path, code: str = RUN, **environment: str) -> tuple[str, str]:
    """Standard output and error of ``code`` in a fresh process whose home is beside the package."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    home = str(package.parents[1] / "home")
    plain |= {"HOME": home, "XDG_CACHE_HOME": home + "/cache", "PYTHONPATH": str(package.parent)}
    plain |= {"TMPDIR": str(package.parents[1])} | environment
    done = subprocess.run(
        [sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.bin"))


def test_second_process_finds_the_kernel(package: Path) -> None:
    """The first process says that it compiles; the second says nothing and gives the same result."""
    first, told = run(package)
    second, silence = run(package)
    assert told.count(NOTICE) == 1
    assert silence == ""
    assert first == second == "10.0"
    assert len(kept(package.parents[1] / "home" / "cache" / "descend")) == 1


def test_the_notice_takes_the_place_of_a_status_line(capsys, monkeypatch) -> None:
    """On a terminal the notice wipes the line that it is written on; elsewhere it is the plain line."""
    monkeypatch.setattr(kernel_cache, "_told", set())
    monkeypatch.setattr(kernel_cache, "_silent", False)  # a command that ran before may have hushed it
    kernel_cache._tell("plain", "words")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    kernel_cache._tell("terminal", "words")
    assert capsys.readouterr().err == "descend: words\n\r\x1b[Kdescend: words\n"


def test_edited_formula_in_another_file_gives_its_new_result(package: Path) -> None:
    """A formula changed in a file that holds no kernel is never answered from the old machine code."""
    assert run(package)[0] == "10.0"
    (package / "objectives" / "formula.py").write_text(FORMULA.format(factor=2.0))
    assert run(package)[0] == "16.0"
    (package / "objectives" / "formula.py").write_text(FORMULA.format(factor=1.0))
    result, told = run(package)
    assert (result, told) == ("10.0", "")


def test_sources_edited_while_a_process_runs_are_not_kept_under_the_new_key(package: Path) -> None:
    """Code compiled from sources that have changed since they were imported is not written anywhere."""
    edit = f"open({str(package / 'objectives' / 'formula.py')!r}, 'a').write('# later')"
    run(package, f"from descend.engines.caller import main; {edit}; main()")
    assert kept(package.parents[1]) == []


def test_no_place_that_can_be_written_still_computes(package: Path) -> None:
    """Without any folder to write, the kernel runs and one notice names NUMBA_CACHE_DIR."""
    code = f"import tempfile; tempfile.tempdir = '/dev/null/t'; {RUN}; main('float32')"
    blocked = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), "/dev/null/nowhere")
    result, told = run(package, code, **blocked)
    assert result == "10.0\n10.0"
    assert told.count("NUMBA_CACHE_DIR") == 1


def test_home_that_cannot_be_written_falls_back_to_temporary_files(package: Path) -> None:
    """Without a home the kernels are kept in a folder of temporary files that only its owner can write."""
    blocked = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache"}
    run(package, **blocked)
    (path,) = kept(package.parents[1])
    folder = path.parents[1]
    assert folder.name.startswith("descend-cache-")
    assert folder.stat().st_mode & 0o077 == 0
    assert run(package, **blocked)[1] == ""
    folder.chmod(0o777)
    assert NOTICE in run(package, **blocked)[1]


def test_numba_cache_dir_is_respected(package: Path, tmp_path: Path) -> None:
    """NUMBA_CACHE_DIR comes before the user's cache folder."""
    run(package, NUMBA_CACHE_DIR=str(tmp_path / "chosen"))
    assert len(kept(tmp_path / "chosen" / "descend")) == 1
    assert not (tmp_path / "home").exists()


def test_damaged_file_is_compiled_again(package: Path) -> None:
    """A kept file that was cut or changed is replaced, whatever byte was hit."""
    run(package)
    (path,) = kept(package.parents[1])
    whole = path.read_bytes()
    flipped = [
        whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in (0, len(whole) // 2, len(whole) - 1)
    ]
    for damaged in (b"", whole[: len(whole) // 2], *flipped):
        path.write_bytes(damaged)
        result, told = run(package)
        assert result == "10.0"
        assert NOTICE in told
    assert run(package)[1] == ""


def test_quiet_prints_nothing(package: Path) -> None:
    """After quiet() nothing is written on stderr."""
    assert run(package, "from descend.engines.compiled import quiet; quiet(); " + RUN)[1] == ""


def test_two_signatures_lie_in_two_files(package: Path) -> None:
    """Processes that compile different types of one kernel do not overwrite each other's files."""
    run(package)
    run(package, "from descend.engines.caller import main; main('float32')")
    assert len(kept(package.parents[1])) == 2
    assert run(package, RUN + "; main('float32')")[1] == ""


def test_pruning_keeps_the_keys_used_last(tmp_path: Path) -> None:
    """Of many old keys the eight used last stay, and folders of other names are not touched."""
    for i in range(12):
        folder = tmp_path / f"{i:016x}"
        folder.mkdir()
        os.utime(folder, (i, i))
    (tmp_path / "somebody else's").mkdir()
    newest = tmp_path / f"{0:016x}"
    kernel_cache._prune(newest)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"{i:016x}" for i in (0, 5, 6, 7, 8, 9, 10, 11)] + ["somebody else's"]


@part
def add_into(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(values.shape[0]):
        out[0] += values[i]


@kernel
def sum_of(values: np.ndarray, out: np.ndarray) -> None:
    add_into(values, out)


def test_part_works_in_place() -> None:
    """What a part writes into an array, the caller of its kernel sees."""
    out = np.zeros(1)
    sum_of(np.arange(5.0), out)
    assert out[0] == 10.0


@part
def made(values: np.ndarray) -> float:
    return np.zeros(values.size)[0]


@kernel
def first_of_made(values: np.ndarray) -> float:
    return made(values)


def test_a_part_makes_no_array() -> None:
    """A part that makes an array, whose owners it would not count, is refused when it is compiled."""
    with pytest.raises(TypingError, match="zeros"):
        first_of_made(np.ones(3))


def test_no_part_returns_an_array() -> None:
    """No part returns an array, which its kernel would take for its own and give back too early."""
    modules = [ast.parse(path.read_text()) for path in Path(kernel_cache.__file__).parent.glob("*.py")]
    returned = {
        function.name: ast.unparse(function.returns or function)
        for module in modules
        for function in module.body
        if isinstance(function, ast.FunctionDef)
        and any(
            isinstance(decorator, ast.Name) and decorator.id == "part"
            for decorator in function.decorator_list
        )
    }
    assert len(returned) > 50
    numbers = {"None", "Any", "bool", "float", "int", "tuple", "np", "uintp", "Step"}
    assert {
        name: kind for name, kind in returned.items() if not set(re.findall(r"\w+", kind)) <= numbers
    } == {}


def test_inlined_formula_is_still_plain_python() -> None:
    """inline() returns the very function, and calling it twice does no harm."""

    def square(x: float) -> float:
        return x * x

    assert inline(inline(square)) is square
    assert np.array_equal(square(np.arange(3.0)), [0.0, 1.0, 4.0])  # type: ignore[arg-type, call-overload]


def test_kernel_refuses_a_closure() -> None:
    """A kernel over another function's variable is refused with the variable's name."""
    factor = 2.0

    def scaled(x: float) -> float:
        return factor * x

    with pytest.raises(TypeError, match=r"'.*scaled' closes over factor"):
        kernel(scaled)


def test_kernel_divides_by_zero_as_numpy_does() -> None:
    """Division by zero gives infinity and NaN survives the fast arithmetic."""

    @kernel
    def ratio(a: float, b: float) -> float:
        return a / b

    assert ratio(1.0, 0.0) == np.inf
    assert np.isnan(ratio(0.0, 0.0))


def test_what_compiling_leaves_is_counted_once(package: Path) -> None:
    """A first process counts megabytes, less than it holds; one that loads what was kept counts nothing."""
    code = (
        RUN
        + """
from descend.engines.kernel_cache import bytes_left_by_compiling, _held_bytes
print(bytes_left_by_compiling(), _held_bytes())"""
    )
    _, left, held = map(float, run(package, code)[0].split())
    assert 1e6 < left < held
    assert float(run(package, code)[0].split()[1]) == 0.0


SHORT = """
import sys
from descend import machine
machine.is_short_of_memory = True
from descend.engines.caller import main
from descend.engines.kernel_cache import bytes_left_by_compiling
main()
main("float32")
print(bytes_left_by_compiling())
"""


def test_where_memory_is_short_another_process_compiles(package: Path) -> None:
    """A process that is short of memory compiles nothing, but runs, and leaves behind, what another has compiled."""
    found, told = run(package, SHORT)
    assert found.split() == ["10.0", "10.0", "0"]
    assert told.count(NOTICE) == 1
    assert len(kept(package.parents[1])) == 2
    assert NOTICE not in run(package)[1]


def test_without_another_process_kernels_are_compiled_here(package: Path) -> None:
    """Where no other process can be had, one that is short of memory compiles all the same."""
    found, _ = run(package, SHORT.replace("import sys", "import sys; sys.executable = '/nowhere'"))
    assert found.split()[:2] == ["10.0", "10.0"]
    assert found.split()[2] != "0"
    assert len(kept(package.parents[1])) == 2


AT_ONCE = """
import time
from descend.engines import kernel_cache
kernel_cache.PATIENCE_SECONDS, kernel_cache.waits = {patience}, {waits}
began = time.monotonic()
try:
    from descend.engines.caller import main
    main()
except kernel_cache.TakenElsewhereError:
    print("taken")
print(time.monotonic() - began)
"""


def code_beside(**given: object) -> str:
    return AT_ONCE.format(**{"patience": 60.0, "waits": True} | given)


def test_a_kernel_that_another_process_compiles_is_waited_for(package: Path) -> None:
    """Until the other gives the lock back, and then its kernel is loaded: the file stays the one that it wrote."""
    run(package)
    (path,) = kept(package.parents[1])
    content, lock = path.read_bytes(), path.with_suffix(".lock")
    path.unlink()
    handle = locks.take(lock, "folder")
    assert handle is not None
    with ThreadPoolExecutor() as pool:
        other = pool.submit(run, package, code_beside())
        time.sleep(2.0)
        assert not other.done()
        path.write_bytes(content)
        written = path.stat().st_ino
        locks.give_back(lock, handle)
        assert other.result()[0].split()[0] == "10.0"
    assert path.stat().st_ino == written
    assert not lock.exists()


def test_a_lock_that_is_never_given_back_is_not_waited_for_for_ever(package: Path) -> None:
    """After PATIENCE_SECONDS the kernel is compiled here; who does not wait at all is told at once."""
    run(package)
    (path,) = kept(package.parents[1])
    path.unlink()
    handle = locks.take(path.with_suffix(".lock"), "folder")
    assert handle is not None
    assert run(package, code_beside(waits=False))[0].split()[0] == "taken"
    result, seconds = run(package, code_beside(patience=0.5))[0].split()
    assert result == "10.0"
    assert float(seconds) > 0.5
    assert path.exists()
    locks.give_back(path.with_suffix(".lock"), handle)


@part
def twice(x: float) -> float:
    return 2.0 * x


@kernel
def doubled(x: float) -> float:
    return twice(x)


def test_a_part_is_for_kernels_only() -> None:
    """Called from Python, where it would be a jump to nowhere, it says what it is."""
    with pytest.raises(TypeError, match="twice is a part of kernels"):
        twice(1.0)
    assert doubled(1.0) == 2.0
