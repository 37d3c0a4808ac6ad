"""The plan: which batch size, with which learning rate, and the evidence; data that a person can argue with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.errors import InputError, ModelFileError
from descend.report.formatting import counted

FORMAT = "descend.plan"
VERSION = 1
BOUNDS = ("statistics", "throughput", "memory", "data", "nothing")


@dataclass(slots=True)
class Plan:
    """What ``configure_batch_size`` found, as plain data: saved, reloaded, rendered without an engine.

    ``docs/batch-size.md`` says what each number is and how it was measured.
    """

    record: dict[str, Any]

    @property
    def batch_size(self) -> int:
        """Rows for each update."""
        return int(self.record["batch_size"])

    @property
    def microbatch(self) -> int:
        """Rows in memory at once; the batch size, unless that needs more memory than there is."""
        return int(self.record["microbatch"])

    @property
    def accumulation(self) -> int:
        """Microbatches in a batch."""
        return int(self.record["accumulation"])

    @property
    def learning_rate(self) -> float:
        return float(self.record["learning_rate"])

    @property
    def optimizer(self) -> str:
        return str(self.record["optimizer"])

    @property
    def momentum(self) -> float | None:
        """None of an optimizer that has none."""
        return None if self.record["momentum"] is None else float(self.record["momentum"])

    @property
    def threads(self) -> int:
        return int(self.record["threads"])

    @property
    def device(self) -> str:
        return str(self.record["device"])

    @property
    def bound_by(self) -> str:
        """What keeps the batch from being larger: statistics, throughput, memory, data, or nothing."""
        return str(self.record["bound_by"])

    @property
    def equivalent(self) -> tuple[int, int]:
        """The smallest and the largest size predicted to take at most 10 % longer."""
        low, high = self.record["equivalent"]
        return int(low), int(high)

    @property
    def matters(self) -> bool | None:
        """Whether four times more or four times fewer rows take clearly longer; None where that was not measured."""
        matters: bool | None = self.record["matters"]
        return matters

    @property
    def predicted(self) -> dict[str, float | None]:
        """``step_seconds``, ``peak_bytes``, ``seconds_to_target`` (None where it could not be told)."""
        return dict(self.record["predicted"])

    @property
    def evidence(self) -> dict[str, Any]:
        """The curves by batch size, and every run that was tried."""
        return dict(self.record["evidence"])

    @property
    def tuning_seconds(self) -> float:
        return float(self.record["tuning_seconds"])

    def explain(self) -> str:
        """Three sentences: what to do, why, and what would do as well."""
        return " ".join(self.record["explanation"])

    def to_json(self) -> dict[str, Any]:
        return self.record

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Plan:
        """The plan that ``to_json`` described; raises ``ModelFileError`` for anything else."""
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ModelFileError(f"not a saved plan: its format is not {FORMAT!r}")
        if saved.get("version") != VERSION:
            raise ModelFileError(
                f"version {saved.get('version')!r} of {FORMAT} is not known here, only {VERSION}"
            )
        return cls(saved)

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the plan as one JSON file; ``descend report`` renders it again."""
        from descend.files import write_atomically

        return write_atomically(Path(path), json.dumps(self.record, allow_nan=False), force=force)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan saved in ``path``."""
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the plan {str(path)!r} cannot be read: {error}") from None
        except json.JSONDecodeError as error:
            raise ModelFileError(f"{str(path)!r} is no saved plan: {error}") from None
        return cls.from_json(saved)

    def save_html(self, path: str | Path, force: bool = False) -> Path:
        """Writes the page: one file that needs no network."""
        from descend.report import write_page

        return write_page(self._searched(), Path(path), force=force)

    report = save_html

    def plot(self) -> Any:
        """Time to the target against the batch size as a plotly figure; step times where no run reached it."""
        import plotly.graph_objects as go

        from descend.report.figures import figures

        drawn = figures(self._searched())
        if not drawn:
            raise InputError("this plan holds too few measurements to draw; give it more time")
        return go.Figure(next(iter(drawn.values())))

    def _repr_html_(self) -> str | None:
        from html import escape

        from descend.report import render_page

        if "verdict" not in self.record:
            return None
        return f'<iframe srcdoc="{escape(render_page(self.record))}" width="100%" height="900"></iframe>'

    def _searched(self) -> dict[str, Any]:
        """The record, of a plan that was searched for."""
        if "verdict" not in self.record:
            raise InputError(
                "this plan is what a fit settled by itself: nothing was measured for it that could be drawn; "
                "configure_batch_size makes one with curves"
            )
        return self.record

    def __str__(self) -> str:
        return self.explain()


def plan_of_run(summary: dict[str, Any]) -> Plan:
    """What a run of ``fit`` settled by itself, as a plan; nothing in it was searched for.

    ``summary`` is a model's; what only a search could tell is None (``matters``, the time to a target).
    """
    size, steps = int(summary["batch_size"]), max(1, int(summary["steps"]))
    full = size >= summary["rows"]
    return Plan(
        {
            "format": FORMAT,
            "version": VERSION,
            "batch_size": size,
            "microbatch": size,
            "accumulation": 1,
            "learning_rate": summary["learning_rate"],
            "optimizer": summary["optimizer"],
            "momentum": summary["momentum"],
            "threads": summary.get("threads", 1),
            "device": "cpu",
            "bound_by": "data" if full else "nothing",
            "equivalent": [size, size],
            "matters": None,
            "told": False,
            "predicted": {
                "step_seconds": summary["seconds"] / steps,
                "peak_bytes": None,
                "seconds_to_target": None,
            },
            "evidence": {"step_seconds": {str(size): summary["seconds"] / steps}},
            "tuning_seconds": 0.0,
            "explanation": [
                f"Batches of {counted(size, 'row')}: {summary['batch_size_reason']}.",
                f"Learning rate {summary['learning_rate']:.3g} of {summary['optimizer']}: "
                f"{summary['learning_rate_reason']}.",
                "Nothing was searched for: configure_batch_size does that.",
            ],
        }
    )
