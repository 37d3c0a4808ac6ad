"""``compare`` for PyTorch modules: stochastic, mini-batch and batch gradient descent side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from descend.comparing.claims import Question
from descend.comparing.compared import MOST_EPOCHS, Measured
from descend.comparing.comparison import Comparison, Progress, compare_prepared
from descend.comparing.ends import measure_ends
from descend.comparing.valley_claims import network_claims
from descend.settings import Settings, whole_number
from descend.torch.devices import faster_threads
from descend.torch.modes import autograd_on, numbers_kept
from descend.torch.module_data import ModuleData
from descend.torch.module_engine import ModuleEngine
from descend.torch.module_runs import run_module
from descend.torch.module_terrain import ModuleTerrain
from descend.torch.stepper import LOWEST_RATE
from descend.types import FloatArray
from descend.watching import Callback

PASSES, LEAST_SECONDS, MOST_SECONDS = 1000, 2.0, 20.0
LOWEST_SHARE = 1 / 256
"""Of 1 / the largest eigenvalue of the Hessian: single rows may bend so many times as much as all together."""
TIMED_ROWS, THREAD_SIZE = 256, 64


@autograd_on()
@numbers_kept()
def compare(
    module: Any,
    loss: Any,
    data: Any,
    optimizer: Any = torch.optim.SGD,
    batch_sizes: Sequence[int | str] = (1, 32, "full"),
    *,
    seeds: int = 3,
    learning_rate: float | str = "auto",
    optimizer_options: Mapping[str, Any] | None = None,
    parameter_groups: Any = None,
    weights: Any = None,
    validation: Any = None,
    validation_fraction: float = 0.0,
    reduction: str | None = None,
    epochs: int | None = None,
    seconds: float | None = None,
    target_loss: float | None = None,
    schedule: str = "constant",
    clip: float | None = None,
    device: Any = "auto",
    seed: int = 0,
    same_start: bool = False,
    data_name: str = "the module's data",
    progress: Progress | None = None,
) -> Comparison:
    """Stochastic, mini-batch and batch gradient descent on the same rows, with the same budget, for a module.

    ``module``, ``loss``, ``data``, ``optimizer`` (a class or a callable of parameters; plain SGD if none is named),
    ``optimizer_options``, ``parameter_groups``, ``weights``, ``validation``, ``reduction``, ``clip``, ``device``: as
    in ``fit``. The module is as it was afterwards, to the bit.

    Every batch size gets a rate of its own (``learning_rate="auto"``: from a ladder for SGD, by a rule for Adam and
    its kin) that falls twice to a quarter as nothing more is gained, and runs with ``seeds`` seeds until then, or
    until ``seconds`` or ``epochs`` are over. The target is ``target_loss``, or 1 % of the gap between the first and
    the best loss: of the mean loss over the training rows, dropout off.

    A seed is an order of the rows, and a starting point: the first seed starts at the module's weights, others at
    those that its layers draw anew (``reset_parameters``). ``same_start``: all at the module's, for one that was
    trained already. All kinds start at the same place with the same seed.

    Measured where they end are the spread over the seeds, the largest eigenvalue of the Hessian, walls between the
    ends, and whether a kind leaves the place where batch gradient descent stays. Returns a ``Comparison``:
    ``to_frame()``, ``verdict``, ``claims``, ``save_html(path)``.

    Raises ``InputError`` naming what cannot be used, such as a layer in which rows of a batch depend on one another.

    >>> X = torch.linspace(-1, 1, 40).reshape(-1, 1)
    >>> found = compare(torch.nn.Linear(1, 1), torch.nn.MSELoss(), (X, 2 * X), seeds=1, epochs=3)
    >>> [run["kind"] for run in found.runs]
    ['stochastic', 'mini-batch', 'batch']
    """
    settings = Settings(
        optimizer="sgd",
        learning_rate=learning_rate,  # type: ignore[arg-type]
        schedule=schedule,
        epochs=epochs,
        seconds=seconds,
        clip=clip,
        seed=seed,
    ).checked()
    ready: Any = ModuleData(
        module,
        loss,
        data,
        optimizer,
        optimizer_options,
        parameter_groups,
        weights,
        validation,
        validation_fraction,
        reduction,
        device,
        settings.seed,
        same_start,
    )
    threads = torch.get_num_threads()
    try:
        if ready.device.type == "cpu":
            faster_threads(lambda: seconds_of(ready, THREAD_SIZE))
        ready.lowest_rate = lowest_rate(ready, settings)
        return compare_prepared(
            ready,
            settings,
            batch_sizes=batch_sizes,
            seeds=whole_number("seeds", seeds, at_least=1),
            target_loss=target_loss,
            data_name=data_name,
            progress=progress,
            model=Modules(ready),
        )
    finally:
        torch.set_num_threads(threads)


def lowest_rate(data: ModuleData, settings: Settings) -> float:
    """Where ladders begin: far below what the curvature at the first start allows batches of any size.

    A fixed rate far below any would take twice the rungs, on the clock of the runs.
    """
    found = ModuleTerrain(data, settings).sharpness(data.own_start, settings.seed)
    return LOWEST_RATE if found is None or found.value <= 0.0 else LOWEST_SHARE / found.value


def seconds_of(data: ModuleData, num_rows: int) -> float:
    """What a gradient of so many rows takes."""
    engine = ModuleEngine(data, data.train)
    began = time.perf_counter()
    engine.loss_and_gradient(data.own_start, slice(num_rows))
    return time.perf_counter() - began


class Modules:
    """Modules as ``compared.py`` asks for them; ``prepared`` is ``data``, of whose type it knows nothing."""

    seeds_move_the_start = True

    def __init__(self, data: ModuleData) -> None:
        self.data = data

    @property
    def claims(self) -> Sequence[tuple[str, str, Question]]:
        return network_claims()

    def run(self, prepared: Any, settings: Settings, callbacks: Sequence[Callback], keep_path: bool) -> Any:
        return run_module(
            prepared, settings, settings.epochs or MOST_EPOCHS, callbacks=callbacks, keep_path=keep_path
        )

    def start(self, prepared: Any, settings: Settings) -> tuple[Any, FloatArray]:
        return ModuleEngine(prepared, prepared.train), prepared.start(settings.seed)

    def budget(self, prepared: Any, settings: Settings) -> float:
        few = min(TIMED_ROWS, self.data.train.num_rows)
        times = [seconds_of(self.data, few) for _ in range(3)]
        seconds = PASSES * min(times) * self.data.train.num_rows / few
        return float(np.clip(seconds, LEAST_SECONDS, MOST_SECONDS))

    def describe(self, prepared: Any, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "rows": prepared.train.num_rows,
            "validation_rows": 0 if prepared.held_out is None else prepared.held_out.num_rows,
            "notes": list(prepared.notes),
        }

    def settings(self, settings: Settings) -> dict[str, Any]:
        return {
            "model": type(self.data.module).__name__,
            "optimizer": self.data.optimizer_name,
            "learning_rate": settings.learning_rate,
            "reduction": self.data.criterion.reduction,
            "device": str(self.data.device),
            "threads": torch.get_num_threads(),
        }

    def measure(self, prepared: Any, settings: Settings, runs: dict[int, list[Any]], gap: float) -> Measured:
        return Measured(*measure_ends(ModuleTerrain(prepared, settings), runs, gap, settings.seed))
