"""``descend machine``: what descend sees of this machine."""

from __future__ import annotations

from typing import Any

from descend.cli import options
from descend.cli.command import verb
from descend.cli.talk import Talk


@verb("descend machine", "descend machine --json")
@options.talking
def command(**given: Any) -> int:
    """What descend sees of this machine (for bug reports)."""
    from descend.machine import describe_machine

    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    machine = describe_machine()
    lines = _lines(machine)
    width = max(len(name) for name, _ in lines)
    talk.text("".join(f"{name:<{width}}  {text}\n" for name, text in lines))
    talk.json(machine)
    return 0


def _lines(machine: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything that is known."""
    from descend.report import formatting

    caches = ", ".join(f"{level} {formatting.size(size)}" for level, size in machine["caches"].items())
    quota = machine["cpu_quota"]
    known = [
        ("processor", machine["cpu"]),
        ("cores", f"{machine['cores']} to use, {machine['logical_cores']} logical"),
        ("physical cores", machine["physical_cores"]),
        ("cpu quota", None if quota is None else f"{formatting.number(quota)} cores"),
        ("memory", formatting.size(machine["memory_bytes"])),
        ("memory limit", None if machine["limit_bytes"] is None else formatting.size(machine["limit_bytes"])),
        ("memory free now", formatting.size(machine["available_bytes"])),
        ("caches", caches or None),
        ("load", machine["load"]),
        ("system", machine["system"]),
        *machine["versions"].items(),
    ]
    return [(name, formatting.prose(value, 200)) for name, value in known if value is not None]
