"""What runs of every model share: what is kept of the settings, what follows them, and what they end with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from descend.averaging import GROWTH, PolyakAverage, TailAverage
from descend.checkpoint import Checkpoint
from descend.growing import Growth
from descend.history import History
from descend.learning_rate import Rate
from descend.settings import Settings
from descend.types import FloatArray
from descend.watching import Limits

if TYPE_CHECKING:
    from descend.features import Prepared

ASKED = (
    "loss",
    "penalty",
    "alpha",
    "l1_ratio",
    "epsilon",
    "quantile",
    "batch_size",
    "optimizer",
    "learning_rate",
    "schedule",
    "clip",
    "reduction",
    "fit_intercept",
    "standardize",
    "momentum",
    "epochs",
    "tol",
    "n_iter_no_change",
    "average",
    "shuffle",
)
"""What a model file keeps of the settings: an estimator that is loaded has them again."""
AVERAGE_ROWS = 16
"""The average takes in the parameters every 16 rows: at batch size 1 every step would double the step's cost."""

ModelT = TypeVar("ModelT")


@dataclass(slots=True)
class Run(Generic[ModelT]):
    """A finished run."""

    model: ModelT
    batch_size: int
    batch_size_reason: str
    optimizer: str
    rate: Rate
    history: History
    path: list[FloatArray] = field(default_factory=list)
    """Parameters on the way, where asked for."""

    @property
    def stopped(self) -> str:
        return self.history.stopped


def limits_of(settings: Settings, epochs: int, held_out: bool, mixed: bool = False) -> Limits:
    """When a run of at most ``epochs`` ends. ``held_out``: rows are, to stop by; ``mixed``: in random order."""
    early_stopping = settings.early_stopping and held_out
    return Limits(
        epochs=epochs,
        seconds=settings.seconds,
        tol=None if settings.epochs is not None else settings.tol,
        patience=settings.n_iter_no_change,
        early_stopping=early_stopping,
        plateau=settings.schedule == "plateau",
        exact=settings.epochs is not None and not settings.early_stopping,
        dense=settings.dense,
        growth=settings.growth,
        thrifty=settings.thrifty and mixed,
    )


def average_of(settings: Settings, growth: float = GROWTH) -> TailAverage:
    """Which average of the parameters is kept, where one is."""
    return PolyakAverage() if settings.average == "polyak" else TailAverage(growth)


def growth_of(checkpoint: Checkpoint | None, measure: Callable[[], Growth]) -> Growth:
    """How batches grow: measured once, and of a run that is gone on with as it was."""
    if checkpoint is None:
        return measure()
    return Growth(**checkpoint.once("growth", lambda: asdict(measure())))


def summarise(prepared: Prepared, plan: Any, settings: Settings, history: History) -> dict[str, Any]:
    """Settings and figures of a run, JSON-able: what model file, page and ``--json`` show; ``plan`` of any model."""
    last = history.last
    return {
        "task": prepared.target.task,
        "loss": plan.loss.name,
        "penalty": settings.penalty or "none",
        "alpha": settings.alpha if plan.penalty.alpha or plan.penalty.l1 else 0.0,
        "batch_size": plan.batch_size,
        "batch_size_reason": plan.batch_size_reason,
        "learning_rate": plan.rate.value,
        "learning_rate_reason": plan.rate.reason,
        "optimizer": plan.optimizer,
        "schedule": settings.schedule,
        "momentum": settings.momentum if plan.phases[0].rule.optimizer.uses_momentum else None,
        "average": plan.average,
        "reduction": settings.reduction,
        "seed": settings.seed,
        "rows": prepared.train.num_rows,
        "validation_rows": prepared.validation.num_rows if prepared.validation is not None else 0,
        "epochs": last["epoch"],
        "steps": last["updates"],
        "seconds": last["seconds"],
        "stopped": history.stopped,
        "asked": {name: getattr(settings, name) for name in ASKED},
    }
