"""The examples in docstrings are run."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import descend

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(descend.__path__, "descend.")
    if not module.name.endswith("__main__")
    # PyTorch is an extra: what is built on it has examples where it is installed.
    and ("torch" not in module.name or importlib.util.find_spec("torch"))
)
NEED_TORCH = ("descend.torch", "descend.models.torch_export")
"""What imports PyTorch, an extra, where it is imported."""
NEED_TRAINERS = {"descend.torch.lightning": "lightning", "descend.torch.huggingface": "transformers"}
"""What goes with packages that are no extra."""


@pytest.mark.parametrize("name", ["descend", *MODULES])
def test_examples_in_docstrings_give_what_they_say(name: str) -> None:
    """Every example of a module's docstrings prints what stands under it."""
    if name.startswith(NEED_TORCH):
        pytest.importorskip("torch")
    if name in NEED_TRAINERS:
        pytest.importorskip(NEED_TRAINERS[name])
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples() -> None:
    """The modules are found, and many have examples: an empty run would pass too."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = sum(
        len(test.examples)
        for name in MODULES
        if not name.startswith(NEED_TORCH)
        for test in finder.find(importlib.import_module(name))
    )
    assert examples > 50
