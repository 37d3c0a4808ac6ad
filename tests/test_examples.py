"""What the documents show works, and what they say about the code's parts is complete."""

import ast
import re
import shlex
import tomllib
import warnings
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

import descend
from descend.cli import run
from descend.comparing.valley_claims import MORE

ROOT = Path(__file__).parents[1]
PACKAGE = Path(descend.__path__[0])
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDED = {"torch.md": ["torch"], "torch-trainers.md": ["torch", "lightning", "transformers", "accelerate"]}
"""What the examples of a document need that is no dependency."""
WARNING = ("torch-trainers.md",)
"""Where others' packages warn of what is theirs."""
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(document: Path) -> list[str]:
    blocks = CONSOLE.findall(document.read_text(encoding="utf-8"))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_python_in_documents_runs(document: Path) -> None:
    """Every Python block of a document runs, one after another in one namespace."""
    for package in NEEDED.get(document.name, ()):
        pytest.importorskip(package)
    sybil = Sybil(parsers=[PythonCodeBlockParser()], path=str(ROOT))
    with warnings.catch_warnings():
        if document.name in WARNING:
            warnings.simplefilter("ignore")
        for example in sybil.parse(document).examples():
            example.evaluate()


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if commands(d)], ids=relative)
def test_commands_in_documents_run(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every descend command that a document shows ends with status 0."""
    for line in commands(document):
        name, *arguments = shlex.split(line)
        assert name == "descend", line
        quick = (
            ["--time", "0.2s", "--seeds", "1"] if arguments[0] == "compare" and "--time" not in line else []
        )
        assert run([*arguments, *quick]) == 0, (line, capsys.readouterr().err)


def test_readme_has_two_set_up_lines() -> None:
    """The README has one line that tries descend and one that runs the tests, each complete."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()
    ]
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && .venv/bin/pip install -e ") for line in lines)
    assert lines[0].endswith(".venv/bin/descend compare sklearn:digits")
    assert lines[1].endswith(".venv/bin/python -m pytest")


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Every relative link of a document names a file that is there."""
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_the_map_names_every_part() -> None:
    """docs/architecture.md names every module and folder at the top of the package."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    parts = [
        path.name if path.suffix == ".py" else f"{path.name}/"
        for path in sorted(PACKAGE.iterdir())
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.name.startswith("__")
    ]
    assert "sources/" in parts
    assert "training.py" in parts
    assert [part for part in parts if f"`{part}" not in text] == []


def test_every_dependency_has_its_reason() -> None:
    """docs/architecture.md lists exactly the dependencies of pyproject.toml, with the same bounds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\w-]+ ≥ [\d.]+) \| \S", text, re.MULTILINE)
    assert listed == [requirement.replace(">=", " ≥ ") for requirement in project["dependencies"]]


def test_every_claim_is_explained() -> None:
    """docs/claims.md has a row for each claim, and no other."""
    claims = ast.parse((PACKAGE / "comparing" / "claims.py").read_text(encoding="utf-8"))
    values = [
        node.value for node in claims.body if isinstance(node, ast.AnnAssign) and node.target.id == "CLAIMS"
    ]
    texts = [entry.elts[1].value for entry in values[0].elts]
    listed = re.findall(
        r"^\| (\w[^|]+?) \|", (ROOT / "docs/claims.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    of_networks = {claim for more in MORE.values() for claim, _ in more}
    assert sorted(text for text in listed if text != "claim") == sorted([*texts, *of_networks])
