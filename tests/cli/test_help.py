"""Help, version and usage."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable
from typing import Any

import click
import pytest

import descend as package
from descend.cli.command import VerbCommand
from descend.cli.group import VERBS
from descend.cli.group import descend as group

Command = Callable[..., Any]


def command_of(name: str) -> VerbCommand:
    """The command behind a verb."""
    command = importlib.import_module("descend.cli." + name.replace("-", "_")).command
    assert isinstance(command, VerbCommand)
    return command


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_verb(words: tuple[str, ...], descend: Command) -> None:
    """Help, asked for or by giving nothing, is on stdout with status 0 and names every verb."""
    result = descend(*words)
    assert result.status == 0
    for name, line in VERBS.items():
        assert f"{name} " in result.out
        assert line in result.out


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb(name: str, descend: Command) -> None:
    """A verb's help begins with its line in the list, and ends with two examples."""
    result = descend(name, "--help")
    assert result.status == 0
    assert result.out.split("\n\n")[1].strip().startswith(VERBS[name].rstrip("."))
    assert result.out.count(f"  descend {name}") == 2
    assert max(map(len, result.out.splitlines())) <= 100


@pytest.mark.parametrize("name", VERBS)
def test_examples_can_be_typed(name: str) -> None:
    """Every option of every example exists."""
    for example in command_of(name).examples:
        words = shlex.split(example.split(" > ")[0])
        assert words[:2] == ["descend", name]
        with group.make_context("descend", words[1:]):
            command_of(name).make_context(name, words[2:]).close()


@pytest.mark.parametrize("name", VERBS)
def test_every_option_has_help_and_a_section(name: str) -> None:
    """No option of ours stands without a line of help or under a heading that is never printed."""
    from descend.cli.command import SECTIONS

    for parameter in command_of(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert getattr(parameter, "section", "") in SECTIONS


def test_version(descend: Command) -> None:
    """--version prints the package's version."""
    assert descend("--version").out == f"descend {package.__version__}\n"
