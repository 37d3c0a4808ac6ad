"""The models that ``compare`` trains: how each is run, where it starts, and what is measured of its ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from descend.comparing.claims import CLAIMS, Question
from descend.comparing.surface import loss_surface
from descend.errors import one_of
from descend.fitting import fit
from descend.machine import num_threads
from descend.runs import Run
from descend.settings import Settings
from descend.target_objective import find_objective, loss_unit
from descend.types import FloatArray
from descend.watching import Callback

if TYPE_CHECKING:
    from descend.features import Prepared

AnyRun: TypeAlias = Run[Any]
MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured after the runs, for the record."""

    surface: dict[str, Any] | None
    valleys: dict[str, Any] | None = None
    by_size: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What the summary of each batch size holds besides."""


class Compared(Protocol):
    """What the comparison asks of a model."""

    seeds_move_the_start: bool
    """Whether another seed is another starting point, and not only another order of the rows."""

    @property
    def claims(self) -> Sequence[tuple[str, str, Question]]:
        """What is answered of its runs."""
        ...

    def run(
        self, prepared: Prepared, settings: Settings, callbacks: Sequence[Callback], keep_path: bool
    ) -> AnyRun:
        """One run."""
        ...

    def start(self, prepared: Prepared, settings: Settings) -> tuple[Any, FloatArray]:
        """An engine over the training rows, and the parameters that runs of the settings' seed start from."""
        ...

    def budget(self, prepared: Prepared, settings: Settings) -> float:
        """Seconds of training for each run where nothing was asked for."""
        ...

    def describe(self, prepared: Prepared, name: str) -> dict[str, Any]:
        """What the page says about the data."""
        ...

    def settings(self, settings: Settings) -> dict[str, Any]:
        """What the page says of the model and of how it was trained."""
        ...

    def measure(
        self, prepared: Prepared, settings: Settings, runs: dict[int, list[AnyRun]], gap: float
    ) -> Measured:
        """What is measured after all runs; ``runs`` by batch size, one for each seed, ``gap`` in the user's unit."""
        ...


class OfTables:
    """What models of a table share."""

    def describe(self, prepared: Prepared, name: str) -> dict[str, Any]:
        return describe_data(prepared, name)

    def settings(self, settings: Settings) -> dict[str, Any]:
        return {
            "penalty": settings.penalty or "none",
            "alpha": settings.alpha,
            "optimizer": settings.optimizer,
            "learning_rate": settings.learning_rate,
            "standardize": settings.standardize,
            "reduction": settings.reduction,
        }


class Lines(OfTables):
    """Linear models: they start at nothing, and their objective has one lowest place."""

    seeds_move_the_start = False
    claims = CLAIMS

    def run(
        self, prepared: Prepared, settings: Settings, callbacks: Sequence[Callback], keep_path: bool
    ) -> AnyRun:
        return fit(prepared, settings, callbacks=callbacks, keep_path=keep_path, give_up_after=MOST_EPOCHS)

    def start(self, prepared: Prepared, settings: Settings) -> tuple[Any, FloatArray]:
        from descend.engines.choose import make_engine
        from descend.models.linear import initialise

        data, target = prepared.train, prepared.target
        threads = num_threads(settings.threads)
        engine = make_engine(data, *find_objective(data, target, settings), threads=threads)
        return engine, initialise(target.num_outputs, data.num_columns, data.X.dtype)

    def budget(self, prepared: Prepared, settings: Settings) -> float:
        numbers = prepared.train.num_rows * (prepared.train.num_columns + 4) * prepared.target.num_outputs
        return float(np.clip(2000 * numbers * 1e-9, 1.0, 30.0))

    def measure(
        self, prepared: Prepared, settings: Settings, runs: dict[int, list[AnyRun]], gap: float
    ) -> Measured:
        paths = {size: group[0].path for size, group in runs.items()}
        run = next(iter(runs.values()))[0]
        return Measured(loss_surface(prepared, run, paths, loss_unit(prepared.target, settings.loss)))


class Networks(OfTables):
    """Networks: a seed moves the start and the order, and all kinds start at the same place with the same seed."""

    seeds_move_the_start = True

    @property
    def claims(self) -> Sequence[tuple[str, str, Question]]:
        from descend.comparing.valley_claims import network_claims

        return network_claims()

    def run(
        self, prepared: Prepared, settings: Settings, callbacks: Sequence[Callback], keep_path: bool
    ) -> AnyRun:
        from descend.networks.fitting import fit_network

        return fit_network(
            prepared, settings, callbacks=callbacks, keep_path=keep_path, give_up_after=MOST_EPOCHS
        )

    def start(self, prepared: Prepared, settings: Settings) -> tuple[Any, FloatArray]:
        from descend.engines.choose import make_network_engine
        from descend.networks.fitting import first_state
        from descend.networks.planning import resolve_network

        plan = resolve_network(prepared.train, prepared.target, settings, epochs=1)
        engine = make_network_engine(
            prepared.train,
            plan.loss,
            plan.penalty,
            plan.network,
            threads=num_threads(settings.threads),
            weight_decay=settings.weight_decay,
        )
        return engine, first_state(plan, prepared, settings, None, False).parameters

    def budget(self, prepared: Prepared, settings: Settings) -> float:
        sizes = (prepared.train.num_columns, *settings.hidden, prepared.target.num_outputs)
        weights = sum(a * b for a, b in pairwise(sizes))
        return float(np.clip(3000 * prepared.train.num_rows * weights * 6e-11, 1.0, 30.0))

    def measure(
        self, prepared: Prepared, settings: Settings, runs: dict[int, list[AnyRun]], gap: float
    ) -> Measured:
        from descend.comparing.network_valleys import measure_network_ends

        return Measured(*measure_network_ends(prepared, settings, runs, gap))

    def settings(self, settings: Settings) -> dict[str, Any]:
        return super().settings(settings) | {
            "model": "mlp",
            "hidden": list(settings.hidden),
            "activation": settings.activation,
            "weight_decay": settings.weight_decay,
        }


def describe_data(prepared: Prepared, name: str) -> dict[str, Any]:
    """What page and model file say about the data."""
    target = prepared.target
    return {
        "name": name,
        "rows": prepared.train.num_rows,
        "validation_rows": prepared.validation.num_rows if prepared.validation is not None else 0,
        "columns": len(prepared.features.input_names),
        "encoded_columns": prepared.train.num_columns,
        "outputs": target.num_outputs,
        "task": target.task,
        "target": target.name,
        "task_reason": target.reason,
        "classes": [str(label) for label in (target.classes if target.task == "classification" else [])][:50],
        "notes": list(prepared.notes),
    }


def find_compared(model: str) -> Compared:
    """What is compared under the name ``linear`` or ``mlp``."""
    if model not in MODELS:
        raise one_of("model", model, list(MODELS))
    return MODELS[model]()


MODELS: dict[str, Callable[[], Compared]] = {"linear": Lines, "mlp": Networks}
