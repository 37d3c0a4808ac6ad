"""The target: classes as codes, or numbers on a scale; it travels with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, ModelFileError, one_of, shorten
from descend.features.mistakes import refuse_text_among_numbers
from descend.features.target_statistics import MAX_NUMBERS, Label, TargetStatistics
from descend.features.target_values import as_values, coded, places_among
from descend.types import Task

MAX_INTEGER_CLASSES = 30
MAX_FLOAT_CLASSES = 10
MAX_CLASSES = 1000
TASKS = ("classification", "regression")


class Target:
    """What is predicted. ``classes`` are sorted; ``mean`` and ``scale`` (k,) are those of numbers.

    ``num_outputs`` is 1 for two classes, K for more, k for numbers; ``reason`` says how the task was told. With
    ``are_labels`` the numbers are 0 and 1: several labels a row, each there or not.

    >>> stats = TargetStatistics("fruit")
    >>> stats.update(np.array(["pear", "apple", "pear"]))
    >>> target = Target.from_statistics(stats)
    >>> target.classes, target.reason
    (('apple', 'pear'), 'fruit has 2 distinct texts: classification')
    >>> target.encode(np.array(["pear", "apple"])).tolist()
    [[1], [0]]
    """

    def __init__(
        self,
        name: str,
        task: Task,
        *,
        classes: Sequence[Label] = (),
        mean: Sequence[float] | NDArray[np.float64] = (),
        scale: Sequence[float] | NDArray[np.float64] = (),
        reason: str = "",
        are_labels: bool = False,
    ) -> None:
        self.name = name
        self.task: Task = task
        self.classes = tuple(classes)
        self.mean = np.asarray(mean, dtype=np.float64)
        self.scale = np.asarray(scale, dtype=np.float64)
        self.reason = reason
        self.are_labels = are_labels

    @classmethod
    def from_statistics(
        cls,
        stats: TargetStatistics,
        task: Task | None = None,
        standardize: bool = True,
        name: str | None = None,
        centre: bool = True,
    ) -> Target:
        """Tell the task from the values unless it is given, and take classes or scale from them.

        ``centre`` off: numbers are divided and not shifted.
        """
        name = stats.name if name is None else name
        if task is not None and task not in TASKS:
            raise one_of("task", task, TASKS)
        if stats.kind == "text":
            refuse_text_among_numbers(name, stats.levels(), " of the target")
        told, reason = _tell(stats, name)
        if task == "regression" and stats.kind == "text":
            raise ColumnError(
                f"target {shorten(name)!r} holds text such as {shorten(str(next(iter(stats.counts))))!r}; "
                "regression "
                "needs numbers: choose another target, or classification"
            )
        if task is not None:
            reason = f"{shorten(name)}: {task}, as asked"
        if (task or told) == "classification":
            return cls(name, "classification", classes=_classes(stats, name), reason=reason)
        mean, scale = np.zeros(stats.num_outputs), np.ones(stats.num_outputs)
        if stats.kind == "booleans":
            labels = stats.num_outputs > 1
            return cls(name, "regression", mean=mean, scale=scale, reason=reason, are_labels=labels)
        if standardize:
            mean, deviation = stats.moments.mean * centre, np.sqrt(stats.moments.variance)
            if not np.isfinite(deviation).all():
                raise ColumnError(
                    f"target {shorten(name)!r} holds numbers too large to be scaled (their squares pass "
                    "1e308); "
                    "divide it by a large constant"
                )
            scale = np.where(stats.moments.minimum < stats.moments.maximum, deviation, 1.0)
            # One scale for all outputs: the objective is their sum; own scales would weigh them anew.
            scale = np.full_like(scale, np.sqrt(np.mean(np.square(np.where(scale > 0, scale, 1.0)))))
        return cls(name, "regression", mean=mean, scale=scale, reason=reason)

    @property
    def num_outputs(self) -> int:
        """Columns of the score: 1 for two classes, K for more, k for numbers."""
        if self.task == "regression":
            return len(self.mean)
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what is encoded: float64 of numbers, else the smallest integers that hold codes and −1."""
        if self.task == "regression":
            return np.dtype(np.int8 if self.are_labels else np.float64)
        return np.min_scalar_type(-len(self.classes))

    def room(self, num_rows: int) -> NDArray[Any]:
        """Where so many encoded targets go."""
        return np.empty((num_rows, len(self.mean) if self.task == "regression" else 1), dtype=self.dtype)

    def encode(self, target: Any, unknown: Literal["error", "mark"] = "error") -> NDArray[Any]:
        """Codes 0 … K−1 (n, 1), or numbers on the scale (n, k), of type ``dtype``.

        A label that is no class is refused, or gets the code −1 with ``unknown="mark"``.
        """
        values = as_values(target, self.name)
        if self.task == "regression":
            return self._scaled(values)
        _refuse_missing(values, self.name)
        codes = self._codes(values)
        if unknown == "error" and (codes < 0).any():
            row = int(np.argmax(codes < 0))
            known = ", ".join(shorten(str(c), 30) for c in self.classes[:10])
            more = f" and {len(self.classes) - 10} more" if len(self.classes) > 10 else ""
            raise ColumnError(
                f"target {shorten(self.name)!r} holds {shorten(str(values[row]))!r}, which is none of the "
                "model's "
                f"classes: {known}{more}"
            )
        return codes[:, None]

    def decode(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Classes of the codes (n,), or numbers (n, k) in the user's units."""
        if self.task == "regression":
            units: NDArray[np.float64] = np.asarray(codes, dtype=np.float64) * self.scale + self.mean
            return units
        kinds = {type(c) for c in self.classes}
        labels = np.array(self.classes, dtype=object if str in kinds else None)
        chosen: NDArray[Any] = labels[np.asarray(codes, dtype=np.intp)]
        return chosen

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe dict; ``from_json`` gives the same target to the last bit."""
        return {
            "name": self.name,
            "task": self.task,
            "classes": list(self.classes),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Target:
        """The target that ``to_json`` wrote."""
        try:
            return cls(
                stored["name"],
                stored["task"],
                classes=stored["classes"],
                mean=stored["mean"],
                scale=stored["scale"],
                reason=stored["reason"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the stored target is damaged ({type(error).__name__}: {error})") from None

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype == object:
            row = 0
            raise ColumnError(
                f"target {shorten(self.name)!r} holds text such as {shorten(str(values[row]))!r}; numbers "
                "are needed"
            )
        numbers = values.reshape(len(values), -1)
        if numbers.shape[1] != len(self.mean):
            raise ColumnError(
                f"target {shorten(self.name)!r} has {numbers.shape[1]} columns, but the model predicts "
                f"{len(self.mean)}"
            )
        if not np.isfinite(numbers).all():
            row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
            raise ColumnError(
                f"target {shorten(self.name)!r} holds {numbers[row].tolist()} in row {row + 1} of its block; "
                "finite numbers are needed"
            )
        if self.are_labels:
            if np.abs(numbers).max(initial=0) > np.iinfo(self.dtype).max:
                raise ColumnError(
                    f"target {shorten(self.name)!r} holds {numbers.max():.4g}; several labels a row are each 0 or 1"
                )
            return numbers.astype(self.dtype)
        scaled: NDArray[np.float64] = numbers - self.mean
        scaled /= self.scale
        return scaled

    def _codes(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.ndim != 1:
            raise ColumnError(
                f"target {shorten(self.name)!r} has {values.shape[1]} columns; classes need one"
            )
        if isinstance(self.classes[0], str):
            values = values.astype(object).astype(str)
        elif (codes := places_among(values, self.classes, self.dtype)) is not None:
            return codes
        labels, inverse = coded(values)
        places = {label: i for i, label in enumerate(self.classes)}
        if not isinstance(self.classes[0], str) and values.dtype == object:
            labels = np.array([_as_number(text) for text in labels.tolist()])
        codes = np.array([places.get(label, -1) for label in labels.tolist()], dtype=self.dtype)
        return codes[inverse]


def _refuse_missing(values: NDArray[Any], name: str) -> None:
    """NaN is no class, not even an unknown one."""
    if values.dtype.kind == "f" and np.isnan(values).any():
        row = int(np.argmax(np.isnan(values.reshape(len(values), -1)).any(axis=1)))
        raise ColumnError(
            f"target {shorten(name)!r} holds nan in row {row + 1} of its block; every row needs a class: correct "
            "or remove that row"
        )


def _tell(stats: TargetStatistics, name: str) -> tuple[Task, str]:
    """The task that the values speak for, and why."""
    label, distinct = shorten(name), len(stats.counts)
    if stats.kind in ("text", "booleans"):
        what = "distinct texts" if stats.kind == "text" else "booleans"
        return "classification", f"{label} has {distinct:,} {what}: classification"
    if stats.num_outputs > 1:
        return "regression", f"{label} has {stats.num_outputs} columns of numbers: regression"
    if stats.overflowed:
        return "regression", f"{label} has more than {MAX_NUMBERS:,} distinct numbers: regression"
    is_float = any(isinstance(v, float) for v in stats.counts)
    most = MAX_FLOAT_CLASSES if is_float else MAX_INTEGER_CLASSES
    # In a short table even a quantity has few values; classes come back.
    come_back = distinct <= 2 or 2 * distinct <= stats.num_rows
    if stats.are_integers and distinct <= most and come_back:
        return "classification", f"{label} has {distinct} distinct whole numbers: classification"
    what = "whole numbers" if stats.are_integers else "numbers"
    return "regression", f"{label} has {distinct:,} distinct {what}: regression"


def _classes(stats: TargetStatistics, name: str) -> list[Label]:
    many = len(stats.counts) > MAX_CLASSES and stats.kind == "numbers"
    if stats.num_outputs > 1:
        raise ColumnError(
            f"target {shorten(name)!r} has {stats.num_outputs} columns; classification needs one"
        )
    if stats.overflowed or many:
        count = f"more than {MAX_NUMBERS:,}" if stats.overflowed else f"{len(stats.counts):,}"
        raise ColumnError(
            f"target {shorten(name)!r} has {count} distinct values; classification takes at most "
            f"{MAX_CLASSES:,} "
            "numbers: choose regression, or another target"
        )
    if stats.kind == "text" and len(stats.counts) >= max(50, 0.9 * stats.num_rows):
        raise ColumnError(
            f"target {shorten(name)!r} has {len(stats.counts):,} distinct texts in {stats.num_rows:,} "
            "rows: nearly "
            "every row would be a class of its own; choose another target, or write numbers as plain numbers"
        )
    if len(stats.counts) < 2:
        only = shorten(str(next(iter(stats.counts), "no value")))
        raise ColumnError(
            f"target {shorten(name)!r} has one class only, {only!r}; at least 2 are needed (1 class found): "
            "check the target, or add rows of another class"
        )
    return sorted(stats.counts)


def _as_number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")
