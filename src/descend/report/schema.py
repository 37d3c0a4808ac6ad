"""What a saved run must hold before it is drawn: a format is checked once, here, and trusted afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from descend.errors import InputError, ModelFileError, shorten

Run: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BySize:
    """An object whose keys are batch sizes, whole numbers as text."""

    value: Any


NUMBER = (int, float, type(None))
TEXT = (str, type(None))
ANY = (object,)
_SPREAD = {"median": NUMBER, "low": NUMBER, "high": NUMBER}
_MEASURED = ("seconds?", "epoch?", "rows?", "updates?", "last_loss?", "validation_loss?")
_HISTORY = {"columns": {"loss": [NUMBER]} | {name: [NUMBER] for name in _MEASURED}}
_NOISE = {"simple?": NUMBER, "interval?": [NUMBER]}
_SHARPNESS = {"value?": NUMBER, "within?": NUMBER, "iterations": NUMBER}
_EXCURSIONS = {"found": [{"moved": NUMBER, "change": NUMBER, "back_change": NUMBER, "back_distance": NUMBER,
                          "wall": NUMBER, "left?": (bool,)}]}  # fmt: skip
_COMMON = {
    "verdict": str,
    "created?": TEXT,
    "data": {"name": str, "rows?": NUMBER, "validation_rows?": NUMBER, "columns?": NUMBER,
             "encoded_columns?": NUMBER, "outputs?": NUMBER, "target?": TEXT, "task?": TEXT,
             "task_reason?": TEXT, "classes?": [ANY], "notes?": [ANY]},
    "settings": {"learning_rate?": ANY, "hidden?": [ANY], "seeds?": [ANY], "budget_seconds?": NUMBER,
                 "command?": TEXT},
    "machine": {"memory_bytes?": NUMBER, "versions?": {}},
}  # fmt: skip

# A "?" marks what may be absent or null. Keys beyond these are welcome and are left alone.
SCHEMAS: dict[str, Any] = {
    "descend.comparison": _COMMON | {
        "first_loss?": NUMBER, "best_loss?": NUMBER, "target_loss?": NUMBER,
        "runs": [{"kind": str, "batch_size": (int, str), "learning_rate?": NUMBER, "target_reached?": NUMBER,
                  "num_seeds?": NUMBER, "seconds_to_target?": _SPREAD, "epochs_to_target?": _SPREAD,
                  "rows_to_target?": _SPREAD, "updates_to_target?": _SPREAD, "final_loss?": NUMBER,
                  "rows_per_second?": NUMBER, "peak_bytes?": NUMBER, "working_bytes?": NUMBER,
                  "sharpness?": _SPREAD, "sharpness_found?": [_SHARPNESS], "excursions?": _EXCURSIONS,
                  "stopped?": [TEXT], "note?": TEXT, "histories": [_HISTORY]}],
        "surface?": {"x": [NUMBER], "y": [NUMBER], "loss": [[NUMBER]], "explained?": [NUMBER], "through?": TEXT,
                     "random_directions?": NUMBER,
                     "paths": [{"kind": str, "batch_size": (int, str), "x": [NUMBER], "y": [NUMBER],
                                "off?": [NUMBER]}]},
        "valleys?": {"rows": NUMBER, "passes": NUMBER, "reason": str,
                     "walls": [{"between": [(int, str)], "height?": NUMBER, "at?": NUMBER}]},
        "claims": [{"claim": str, "kind": str, "holds": (bool, type(None)), "evidence": str}],
    },
    "descend.model": _COMMON | {
        "history": _HISTORY, "stopped?": TEXT, "rule?": TEXT, "gap_estimate?": NUMBER, "gap_bound?": NUMBER,
        "notes?": [TEXT], "advice?": TEXT, "batch_size?": ANY, "learning_rate?": NUMBER,
        "optimizer?": TEXT, "epochs?": NUMBER, "steps?": NUMBER, "seconds?": NUMBER, "train?": {},
        "validation?": {}, "coefficients?": [{"name": str, "value": NUMBER, "output?": ANY}],
    },
    "descend.plan": _COMMON | {
        "explanation?": [str], "batch_size": int, "microbatch?": NUMBER, "accumulation?": NUMBER,
        "learning_rate?": NUMBER, "optimizer?": TEXT, "momentum?": NUMBER, "threads?": NUMBER, "device?": TEXT,
        "bound_by?": TEXT, "equivalent?": [NUMBER], "matters?": bool, "told": bool, "target_loss?": NUMBER,
        "first_loss?": NUMBER, "best_loss?": NUMBER, "target_share?": NUMBER, "tuning_seconds?": NUMBER,
        "predicted?": {"step_seconds?": NUMBER, "peak_bytes?": NUMBER, "seconds_to_target?": NUMBER,
                       "seconds_to_target_interval?": [NUMBER]},
        "evidence": {
            "step_seconds": BySize(NUMBER), "step_seconds_interval?": BySize([NUMBER]), "affine?": [NUMBER],
            "knee?": NUMBER, "cliffs?": [NUMBER], "steps_to_target?": BySize(NUMBER),
            "critical_batch_size?": NUMBER, "critical_batch_size_interval?": [NUMBER],
            "seconds_to_target?": BySize(NUMBER), "memory_bytes?": BySize(NUMBER),
            "noise?": {"first?": _NOISE, "last?": _NOISE},
            "room_bytes?": NUMBER, "room_bound?": TEXT, "ceiling?": NUMBER,
            "branches?": [{"batch_size": int, "learning_rate": NUMBER, "outcome": str, "seconds?": NUMBER,
                           "updates?": NUMBER, "loss?": NUMBER, "num_seeds?": NUMBER}],
        },
    },
}  # fmt: skip
VERSION = 1
_LONGEST_SIZE = 15
_LARGEST = 1e300
"""What is beyond it overflows where axes are made round."""


def check_run(run: object) -> Run:
    """The run itself, once it is known to be one that can be drawn; otherwise an ``InputError``."""
    if not isinstance(run, Mapping) or not isinstance(run.get("format"), str):
        raise ModelFileError("this is not a saved run: no 'format' names it; give a file that descend wrote")
    name, version = run["format"], run.get("version")
    if name not in SCHEMAS:
        known = ", ".join(SCHEMAS)
        raise InputError(f"format {shorten(name)!r} has no page here; those that have one: {known}")
    if version != VERSION:
        raise InputError(
            f"version {shorten(repr(version))} of {name} is not known here, only {VERSION}; "
            "try the descend that wrote the file, or a newer one"
        )
    _check(run, SCHEMAS[name], "")
    for history in _histories(run):
        if len({len(column) for column in history["columns"].values() if isinstance(column, list)}) > 1:
            raise ModelFileError("a history of the run has columns of different lengths; the file is damaged")
    return run


def _histories(run: Run) -> list[Any]:
    """Every history of a run."""
    return [history for one in run.get("runs", ()) for history in one["histories"]] + [
        run["history"] for _ in [0] if "history" in run
    ]


def _check(value: Any, schema: Any, path: str) -> None:
    if isinstance(schema, Mapping):
        _expect(isinstance(value, Mapping), path, "an object", value)
        for key, inner in schema.items():
            name, optional = key.removesuffix("?"), key.endswith("?")
            if not (optional and value.get(name) is None):
                _expect(name in value, f"{path}.{name}", "given", None)
                _check(value[name], inner, f"{path}.{name}")
    elif isinstance(schema, BySize):
        _expect(isinstance(value, Mapping), path, "an object", value)
        for size, item in value.items():
            _expect(_is_size(size), path, "by batch sizes, whole numbers above 0", size)
            _check(item, schema.value, f"{path}[{size}]")
    elif isinstance(schema, list):
        _expect(isinstance(value, list | tuple), path, "a list", value)
        for index, item in enumerate(value):
            _check(item, schema[0], f"{path}[{index}]")
    else:
        is_bool = isinstance(value, bool) and schema is NUMBER
        _expect(isinstance(value, schema) and not is_bool, path, "of another type", value)
        if isinstance(value, int | float):
            _expect(abs(value) <= _LARGEST, path, "finite or null", value)


def _is_size(text: object) -> bool:
    is_number = isinstance(text, str) and text.isascii() and text.isdigit()
    return is_number and len(str(text)) <= _LONGEST_SIZE and int(str(text)) >= 1


def _expect(condition: bool, path: str, accepted: str, value: object) -> None:
    if not condition:
        raise ModelFileError(
            f"{path.lstrip('.')} of the saved run must be {accepted}, not {shorten(repr(value), 40)}; "
            "the file is damaged, or is something else"
        )
