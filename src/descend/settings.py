"""What a caller may set, checked once for the command line, the estimators and ``compare`` alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from numbers import Integral, Real
from typing import Literal

from descend.batches import GROWING, check_batch_size
from descend.errors import InputError, one_of, shorten
from descend.models.network import check_hidden
from descend.objectives.activations import find_activation
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import L1_RATIO, find_penalty
from descend.types import Task
from descend.updates import find_optimizer
from descend.updates.schedules import ENDING, find_schedule

MOST_EPOCHS = 1000
SMALL_TABLE = 256
FIRST_SIZE = 32
MOST_VISITS = 10_000_000
"""Where nothing else ends a run: the later of the two, since an epoch of a small table costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to train; the names are scikit-learn's where it has one. ``checked()`` before use."""

    loss: str | None = None
    """None: ``log_loss`` for classification, ``squared_error`` for regression."""
    penalty: str | None = "l2"
    alpha: float = 1e-4
    l1_ratio: float = L1_RATIO
    """Of ``elasticnet``: the share of alpha that is L1."""
    epsilon: float = 0.1
    """Of ``huber`` and ``epsilon_insensitive``, in the target's units."""
    quantile: float = 0.5
    clip: float | None = None
    """The longest gradient of a batch, penalty apart; None: any."""
    fit_intercept: bool = True
    standardize: bool = True
    batch_size: int | str = "auto"
    optimizer: str = "auto"
    learning_rate: float | Literal["auto"] = "auto"
    schedule: str = "constant"
    momentum: float = 0.9
    epochs: int | None = None
    """None: until nothing is gained."""
    seconds: float | None = None
    tol: float | None = 1e-3
    early_stopping: bool = False
    n_iter_no_change: int = 5
    average: bool | Literal["auto", "tail", "polyak"] = "auto"
    shuffle: bool = True
    reduction: str = "mean"
    hidden: tuple[int, ...] = (100,)
    """Units of a network's hidden layers."""
    activation: str = "relu"
    weight_decay: float = 0.0
    """Of networks: weights shrink by this times the learning rate in every step, apart from the loss."""
    seed: int = 0
    threads: int | Literal["auto"] = "auto"
    dense: bool = False
    growth: float = 1.1
    """``dense``: look at the loss from the first step on, at row counts that grow by ``growth``."""
    thrifty: bool = True
    """Looks cost little beside the steps between them. False where curves are held against one another."""

    @property
    def loss_task(self) -> Task | None:
        """The task of the loss that was asked for; None where none was."""
        return None if self.loss is None else LOSSES[self.loss].task

    def checked(self) -> Settings:
        """The same with numbers as numbers; raises ``InputError`` naming the setting that cannot be used."""
        if self.loss is not None and self.loss not in LOSSES:
            raise one_of("loss", self.loss, list(LOSSES))
        l1_ratio = _number("l1_ratio", self.l1_ratio, at_least=0.0)
        find_penalty(self.penalty, _number("alpha", self.alpha, at_least=0.0), l1_ratio)
        epsilon = _number("epsilon", self.epsilon, at_least=0.0)
        if self.loss == "huber" and epsilon == 0.0:
            raise InputError(
                'epsilon is 0; loss "huber" needs a number above 0 (its loss would be 0 everywhere)'
            )
        quantile = _number("quantile", self.quantile, above=0.0)
        if quantile >= 1.0:
            raise InputError(f"quantile is {quantile:g}; a number above 0 and below 1 is needed, such as 0.9")
        if self.optimizer != "auto":
            find_optimizer(self.optimizer)
        find_schedule(self.schedule)
        if self.reduction not in ("mean", "sum"):
            raise one_of("reduction", self.reduction, ["mean", "sum"])
        rate: float | Literal["auto"] = "auto"
        if self.learning_rate != "auto":
            rate = _number("learning_rate", self.learning_rate, above=0.0, otherwise="auto")
        momentum = _number("momentum", self.momentum, at_least=0.0)
        if momentum >= 1.0:
            raise InputError(f"momentum is {momentum:g}; a number from 0 up to, but below, 1 is needed")
        self._check_curved()
        if self.schedule in ENDING and self.epochs is None:
            raise InputError(
                f'schedule "{self.schedule}" falls to its end at the last epoch: set epochs, such as epochs=20'
            )
        if self.average not in (True, False, "auto", "tail", "polyak"):
            raise one_of("average", self.average, [True, False, "auto", "tail", "polyak"])
        return replace(
            self,
            batch_size=GROWING if is_growing(self.batch_size) else check_batch_size(self.batch_size),
            learning_rate=rate,
            momentum=momentum,
            alpha=float(self.alpha),
            l1_ratio=l1_ratio,
            epsilon=epsilon,
            quantile=quantile,
            clip=None if self.clip is None else _number("clip", self.clip, above=0.0),
            fit_intercept=bool(self.fit_intercept),
            standardize=bool(self.standardize),
            average=self.average if isinstance(self.average, str) else bool(self.average),
            shuffle=bool(self.shuffle),
            epochs=None if self.epochs is None else whole_number("epochs", self.epochs, at_least=1),
            seconds=None if self.seconds is None else _number("time", self.seconds, above=0.0),
            tol=None if self.tol is None else _number("tol", self.tol, at_least=0.0),
            n_iter_no_change=whole_number("n_iter_no_change", self.n_iter_no_change, at_least=1),
            hidden=check_hidden(self.hidden),
            activation=find_activation(self.activation).name,
            weight_decay=_number("weight_decay", self.weight_decay, at_least=0.0),
            seed=whole_number("seed", self.seed, at_least=0),
            threads="auto" if self.threads == "auto" else whole_number("threads", self.threads, at_least=1),
        )

    def _check_curved(self) -> None:
        """SAGA, L-BFGS and Newton take their step from curvature, and the last two from every row at once."""
        if self.optimizer == "auto" or find_optimizer(self.optimizer).elementwise:
            return
        for name, value, needed in (
            ("learning_rate", self.learning_rate, "auto"),
            ("schedule", self.schedule, "constant"),
            ("reduction", self.reduction, "mean"),
            ("clip", self.clip, None),
        ):
            if value != needed:
                raise InputError(
                    f"{name} is {value!r}, but optimizer {self.optimizer!r} takes its step from curvature: "
                    f"leave {name} at {needed!r}, or take another optimizer"
                )
        if self.optimizer != "saga" and self.batch_size not in ("auto", "full"):
            raise InputError(
                f"batch size {self.batch_size!r} does not go with optimizer {self.optimizer!r}, which works on "
                'every row at once; leave it out or take "full"'
            )
        if is_growing(self.batch_size):
            raise InputError(
                f"batch size {GROWING!r} does not go with optimizer {self.optimizer!r}, whose rate does not fall; "
                "take a number of rows, or an optimizer such as sgd with a schedule"
            )


def _number(
    name: str,
    value: object,
    above: float | None = None,
    at_least: float | None = None,
    otherwise: str | None = None,
) -> float:
    """``value`` as a finite float within bounds, or an ``InputError`` that says which."""
    bound = f"above {above:g}" if above is not None else f"≥ {at_least:g}"
    needed = f"a number {bound}" + (f', or "{otherwise}",' if otherwise else "") + " is needed"
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{name} is {shorten(str(value))!r}; {needed}") from None
    if isinstance(value, bool) or not isinstance(value, (Real, str)) or not isfinite(number):
        raise InputError(f"{name} is {value!r}; {needed}")
    if (above is not None and number <= above) or (at_least is not None and number < at_least):
        raise InputError(f"{name} is {number:g}; {needed}")
    return number


def finite_number(name: str, value: object) -> float | None:
    """``value`` as a finite float, None as None; or an ``InputError`` that names it.

    >>> finite_number("target loss", "0.3"), finite_number("target loss", None)
    (0.3, None)
    """
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number):
        raise InputError(f"{name} is {shorten(str(value))!r}; a finite number is needed")
    return number


def whole_number(name: str, value: object, at_least: int) -> int:
    """``value`` as an int of ``at_least`` that much, or an ``InputError`` that says so.

    >>> whole_number("epochs", "20", at_least=1)
    20
    """
    needed = f"a whole number ≥ {at_least} is needed"
    if isinstance(value, str):
        text = value
        try:
            value = int(text)
        except ValueError:
            raise InputError(f"{name} is {shorten(text)!r}; {needed}") from None
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{name} is {value!r}; {needed}")
    if value < at_least:
        raise InputError(f"{name} is {value}; {needed}")
    return int(value)


def default_batch_size(num_rows: int) -> tuple[int | str, str]:
    """The batch size that ``"auto"`` means, and why: a fixed rule, nothing is measured.

    >>> default_batch_size(100_000)[0], default_batch_size(50)[0]
    (32, 'full')
    """
    if num_rows <= SMALL_TABLE:
        return "full", f"fixed rule: every row at once up to {SMALL_TABLE} rows; not measured"
    return FIRST_SIZE, f"fixed rule: {FIRST_SIZE} above {SMALL_TABLE} rows; not measured"


def settle_batch_size(wanted: int | str, reason: str, num_rows: int) -> tuple[int, str]:
    """Rows in a batch, and why: ``"auto"`` by the rule, and no more than there are.

    >>> settle_batch_size(64, "as asked", 50)
    (50, 'as asked: 64 are more than the training rows')
    """
    if wanted == "auto":
        wanted, reason = default_batch_size(num_rows)
    if wanted == "full":
        return num_rows, reason
    batch_size = int(check_batch_size(wanted, num_rows))
    if int(wanted) > batch_size:
        reason = f"{reason}: {int(wanted):,} are more than the training rows"
    return batch_size, reason


def is_growing(batch_size: object) -> bool:
    """Whether batches are to grow where the rate would fall (``growing.py``)."""
    return isinstance(batch_size, str) and batch_size.strip().lower() == GROWING


def first_of_growing(num_rows: int) -> tuple[int, str]:
    """Where growing batches begin, and why.

    >>> first_of_growing(1000)[0], first_of_growing(20)[0]
    (32, 20)
    """
    return min(FIRST_SIZE, num_rows), "growing, but these are all the rows"


def most_epochs(num_rows: int) -> int:
    """The epoch at which a run is given up that still gains.

    >>> most_epochs(1_000_000), most_epochs(1000)
    (1000, 10000)
    """
    return max(MOST_EPOCHS, min(20 * MOST_EPOCHS, MOST_VISITS // num_rows))


def default_optimizer(full_batch: bool) -> str:
    """The optimizer that ``"auto"`` means: momentum pays where there is no noise to multiply."""
    return "nesterov" if full_batch else "sgd"
