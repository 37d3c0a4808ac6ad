"""The competitors, each in the form that its own documents recommend. One thread each.

A competitor is made with a problem and then trains: ``train(epochs, steps)`` starts from zero, walks the rows
that many times in a new random order each time, and returns the parameters (d + 1,), intercept last.
``steps`` cuts every epoch short (None: whole epochs), for loops too slow to be waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import Problem


class Competitor:
    """What the harness needs to know of one."""

    name: ClassVar[str]
    module: ClassVar[str]
    only_batch_size: ClassVar[int | None] = None
    """The one batch size it has; shown beside all sizes, and held to the common loss at this one only."""
    whole_epochs: ClassVar[bool] = False
    many_epochs: ClassVar[int] = 11
    """An epoch's time is that of so many epochs less that of one, shared among those between."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @classmethod
    def why_not(cls) -> str | None:
        """Why it cannot run here; None where it can."""
        return None if find_spec(cls.module) else f"{cls.module} is not installed"

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        raise NotImplementedError

    def random_rows(self, generator: np.random.Generator, steps: int | None) -> NDArray[np.int64]:
        """An epoch's order by NumPy; of a cut epoch as many random rows, so that its cost is cut as well."""
        n = self.problem.num_rows
        if steps is None or steps * self.problem.batch_size >= n:
            return generator.permutation(n)
        return generator.integers(n, size=steps * self.problem.batch_size)

    def starts(self, steps: int | None) -> range:
        """Where the batches of an epoch begin."""
        size, n = self.problem.batch_size, self.problem.num_rows
        return range(0, n if steps is None else min(n, steps * size), size)


class Descend(Competitor):
    """The compiled engine, as ``training.py`` calls it; each epoch's order is made inside the clock."""

    name, module = "descend", "descend"

    def __init__(self, problem: Problem) -> None:
        from descend.engines.base import Rule
        from descend.engines.linear import LinearEngine
        from descend.objectives.losses import find_loss
        from descend.objectives.penalties import Penalty
        from descend.types import Dataset
        from descend.updates import find_optimizer

        super().__init__(problem)
        data = Dataset(problem.X, problem.y.astype(np.float64)[:, None])
        self.engine = LinearEngine(data, find_loss(None, "classification", 1), Penalty(problem.alpha))
        self.rule = Rule(find_optimizer("sgd"), problem.rate)

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from descend.batches import Visits, shuffle
        from descend.engines.base import State
        from descend.models.linear import initialise

        p = self.problem
        state = State(initialise(1, p.num_columns, p.X.dtype))
        visits = Visits(p.num_rows)
        for epoch in range(1, epochs + 1):
            order = None if p.full_batch else shuffle(visits, p.seed, epoch)
            if order is not None and steps is not None:
                order = order[: steps * p.batch_size]
            self.engine.run(state, self.rule, order, p.batch_size)
        return state.parameters.ravel()


class DescendFit(Competitor):
    """``LinearClassifier.fit`` as people call it: it also looks at the loss of all rows, after most epochs."""

    name, module, whole_epochs = "descend, whole fit", "descend", True
    many_epochs = 101  # what happens once (statistics, a shuffled copy, curvature) takes as long as 50 epochs

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from descend import LinearClassifier

        p = self.problem
        model = LinearClassifier(
            alpha=p.alpha,
            standardize=False,
            batch_size="full" if p.full_batch else p.batch_size,
            optimizer="sgd",
            learning_rate=p.rate,
            epochs=epochs,
            average=False,
            random_state=p.seed,
        ).fit(p.X, p.y)
        return model.model_.parameters.ravel()


class ScikitLearn(Competitor):
    """``SGDClassifier``: float32 in C order, shuffled, constant rate, no stopping rule."""

    name, module, only_batch_size, whole_epochs = "scikit-learn SGDClassifier", "sklearn", 1, True

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        from sklearn.linear_model import SGDClassifier

        p = self.problem
        rate = p.with_batch_size(1).rate
        model = SGDClassifier(
            loss="log_loss",
            penalty="l2",
            alpha=p.alpha,
            learning_rate="constant",
            eta0=rate,
            max_iter=epochs,
            tol=None,
            shuffle=True,
            random_state=p.seed,
        ).fit(p.X, p.y)
        return np.append(model.coef_[0], model.intercept_)


class NumPy(Competitor):
    """The ten lines that people write."""

    name, module = "NumPy loop", "numpy"

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        p = self.problem
        X, y, rate, alpha = p.X, p.y, np.float32(p.rate), np.float32(p.alpha)
        w, b = np.zeros(p.num_columns, np.float32), np.float32(0)
        generator = np.random.default_rng(p.seed)
        for _ in range(epochs):
            order = None if p.full_batch else self.random_rows(generator, steps)
            for start in self.starts(steps):
                rows = slice(None) if order is None else order[start : start + p.batch_size]
                batch, target = X[rows], y[rows]
                error = 1 / (1 + np.exp(-(batch @ w + b))) - target
                w -= rate * (error @ batch / np.float32(len(target)) + alpha * w)
                b -= rate * error.mean()
        return np.append(w, b)


class PyTorch(Competitor):
    """Module, loss, optimizer, autograd; no ``DataLoader``: rows permuted once an epoch, then slices."""

    name, module = "PyTorch loop", "torch"

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        import torch

        torch.set_num_threads(1)
        p = self.problem
        X, y = torch.from_numpy(p.X), torch.from_numpy(p.y)
        model = torch.nn.Linear(p.num_columns, 1)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        groups = [{"params": [model.weight], "weight_decay": p.alpha}, {"params": [model.bias]}]
        optimizer = torch.optim.SGD(groups, lr=p.rate)
        loss = torch.nn.BCEWithLogitsLoss()
        generator = torch.Generator().manual_seed(p.seed)
        for _ in range(epochs):
            rows, target = X, y
            if not p.full_batch:
                if steps is None or steps * p.batch_size >= p.num_rows:
                    order = torch.randperm(p.num_rows, generator=generator)
                else:
                    order = torch.randint(p.num_rows, (steps * p.batch_size,), generator=generator)
                rows, target = X[order], y[order]
            for start in self.starts(steps):
                stop = start + p.batch_size
                optimizer.zero_grad(set_to_none=True)
                loss(model(rows[start:stop])[:, 0], target[start:stop]).backward()
                optimizer.step()
        return np.append(model.weight.detach().numpy()[0], model.bias.detach().numpy())


class Jax(Competitor):
    """``jit`` around ``lax.scan``, parameters replaced in place; a last short batch is a call of its own."""

    name, module = "JAX jit + scan", "jax"

    def __init__(self, problem: Problem) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
        import jax
        import jax.numpy as jnp

        super().__init__(problem)
        rate, alpha = problem.rate, problem.alpha
        self.X, self.y = jnp.asarray(problem.X), jnp.asarray(problem.y)

        def step(parameters: Any, batch: Any) -> Any:
            (w, b), (rows, target) = parameters, batch
            error = jax.nn.sigmoid(rows @ w + b) - target
            return (w - rate * (error @ rows / len(target) + alpha * w), b - rate * error.mean()), None

        def walk(parameters: Any, X: Any, y: Any, order: Any) -> Any:
            return jax.lax.scan(lambda p, rows: step(p, (X[rows], y[rows])), parameters, order)[0]

        self.walk = jax.jit(walk, donate_argnums=0)
        self.step = jax.jit(lambda parameters, X, y: step(parameters, (X, y))[0], donate_argnums=0)

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        import jax.numpy as jnp

        p = self.problem
        parameters = (jnp.zeros(p.num_columns, jnp.float32), jnp.zeros((), jnp.float32))
        generator = np.random.default_rng(p.seed)
        for _ in range(epochs):
            if p.full_batch:
                parameters = self.step(parameters, self.X, self.y)
                continue
            for part in self.parts(generator, steps):
                parameters = self.walk(parameters, self.X, self.y, part)
        return np.append(np.asarray(parameters[0]), np.asarray(parameters[1]))

    def parts(self, generator: np.random.Generator, steps: int | None) -> Iterator[NDArray[Any]]:
        """The order of an epoch as whole batches (steps, B), and the short one that is left."""
        p = self.problem
        order = self.random_rows(generator, steps).astype(np.int32)
        whole = len(order) // p.batch_size * p.batch_size
        if whole:
            yield order[:whole].reshape(-1, p.batch_size)
        if whole < len(order):
            yield order[whole:][None]


COMPETITORS: tuple[type[Competitor], ...] = (Descend, DescendFit, ScikitLearn, NumPy, PyTorch, Jax)
