"""The order of the package, read out of its source: imports point one way along it."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import descend

PACKAGE = Path(descend.__path__[0])

# A part may import what stands above it, never its own line or below. A new part is entered here.
ORDER: list[set[str]] = [
    {"errors"},
    {"coded_rows", "products"},
    {"types", "files", "locks", "machine"},
    {"turns"},
    {"model_file", "packing", "history", "metrics"},
    {"report", "label_metrics"},
    {"sources"},
    {"features"},
    {"batches"},
    {"store"},
    {"objectives"},
    {"updates"},
    {"models"},
    {"model_metrics"},
    {"engines"},
    {"settings", "averaging", "learning_rate", "recipe", "advice", "troubles", "trail"},
    {"target_objective", "growing"},
    {"planning"},
    {"watching", "identity"},
    {"checkpoint"},
    {"training", "runs", "run_notes"},
    {"solving"},
    {"fitting"},
    {"source_fitting"},
    {"stream"},
    {"incremental", "batch_size"},
    {"networks"},
    {"comparing"},
    {"table_trainer"},
    {"configuring"},
    {"torch"},
    {"run_record"},
    {"estimators"},
    {"api"},
    {"evaluation"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
# A saved run opens anywhere: what shows it needs nothing that computes.
ONLY = {"report": {"errors", "types", "files", "history"}, "history": {"errors", "types", "files"}}
# The permutation, the parser of svmlight text and the passes over large tables are compiled: their kernels live with
# the others, and are loaded when rows are first ordered, such a file is first opened, such a table first read or
# small numbers of a store are first decoded.
LAZY_EXCEPTIONS = {
    ("batches", "engines"),
    ("sources", "engines"),
    ("features", "engines"),
    ("store", "engines"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}
OPTIONAL = {"pandas", "llvmlite", "markupsafe", "torch", "lightning", "pytorch_lightning", "transformers"}
"""What an answer may be asked for in, what Numba and Jinja2 are made of, an extra, and whose trainers are served."""
HEAVY = ("sklearn", "numba", "pyarrow", "rich", "scipy", "pandas", "plotly", "torch")


def part_of(path: Path) -> str:
    """The first name below the package: ``engines/linear.py`` belongs to ``engines``."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of every import of descend in a file, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            words = name.split(".")
            if words[0] == "descend":
                yield node.lineno, words[1] if len(words) > 1 and words[1] in RANK else "__init__"


def imported_packages(path: Path) -> Iterator[str]:
    """Other packages that a file imports, Python's own left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"descend"}


def test_what_is_imported_is_declared() -> None:
    """Every package that descend imports stands among the dependencies of pyproject.toml and in the architecture."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    used = {DISTRIBUTIONS.get(name, name) for path in modules() for name in imported_packages(path)}
    assert used - OPTIONAL == declared
    assert not [name for name in declared if f"\n| {name} ≥" not in page]


def test_every_module_has_its_place() -> None:
    """No file of the package belongs to a part that the order above does not name."""
    unknown = sorted({part_of(path) for path in modules()} - set(RANK))
    assert not unknown, f"enter {', '.join(unknown)} in ORDER"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only parts that stand before its own; the package's face opens everything lazily."""
    part = part_of(path)
    for line, target in imported_parts(path):
        if target == part or (part, target) in LAZY_EXCEPTIONS:
            continue
        assert RANK[target] < RANK[part], f"{path}:{line}: {part} imports {target}, which stands after it"
        assert target in ONLY.get(part, RANK), f"{path}:{line}: {part} must not import {target}"


def test_the_extra_is_named_where_pytorch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyTorch, importing descend.torch says which extra to install."""
    for name in [name for name in sys.modules if name.startswith("descend.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'descend\[torch\]'"):
        importlib.import_module("descend.torch")


@pytest.mark.parametrize(
    "code",
    [
        "import descend",
        "import sys; sys.argv = ['descend', '--help']; from descend.cli import main; main()",
        "import sys; sys.argv = ['descend', '--help']; import runpy; runpy.run_module('descend')",
    ],
    ids=["import", "help", "module"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    """Importing descend and asking the command line for help load none of the heavy packages."""
    # The exit of the command line is caught, so that what it loaded can still be listed.
    program = (
        f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"
