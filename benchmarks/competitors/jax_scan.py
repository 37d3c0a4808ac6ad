"""JAX: a compiled epoch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


class Jax(Competitor):
    """A last short batch is a call of its own."""

    name, module, patience = "JAX jit + scan", "jax", 1.0
    what = "`jit` around `lax.scan` over batches, gradient by hand, parameters donated, one thread; dense rows only"

    def __init__(self, problem: Problem) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
        import jax
        import jax.numpy as jnp

        super().__init__(problem)
        rate, alpha, many = problem.rate, problem.alpha, problem.num_outputs > 1
        link = jax.nn.softmax if many else (lambda s: s) if problem.squared else jax.nn.sigmoid
        self.X, self.y = jnp.asarray(problem.X), jnp.asarray(problem.targets())

        def step(parameters: Any, batch: Any) -> Any:
            (w, b), (rows, target) = parameters, batch
            error = link(rows @ w + b) - target
            gradient = rows.T @ error if many else error @ rows
            return (w - rate * (gradient / len(target) + alpha * w), b - rate * error.mean(axis=0)), None

        def walk(parameters: Any, X: Any, y: Any, order: Any) -> Any:
            return jax.lax.scan(lambda p, rows: step(p, (X[rows], y[rows])), parameters, order)[0]

        self.walk = jax.jit(walk, donate_argnums=0)
        self.step = jax.jit(lambda parameters, X, y: step(parameters, (X, y))[0], donate_argnums=0)

    @classmethod
    def can(cls, problem: Problem) -> bool:
        return not problem.sparse

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        import jax.numpy as jnp

        p = self.problem
        outputs = () if p.num_outputs == 1 else (p.num_outputs,)
        parameters = (jnp.zeros((p.num_columns, *outputs), jnp.float32), jnp.zeros(outputs, jnp.float32))
        generator = np.random.default_rng(p.seed)
        for _ in range(epochs):
            if p.full_batch:
                parameters = self.step(parameters, self.X, self.y)
                continue
            for part in self.parts(generator, steps):
                parameters = self.walk(parameters, self.X, self.y, part)
        return np.column_stack([np.asarray(part).T.reshape(p.num_outputs, -1) for part in parameters])

    def parts(self, generator: np.random.Generator, steps: int | None) -> Iterator[NDArray[Any]]:
        """The order of an epoch as whole batches (steps, B), and the short one that is left."""
        p = self.problem
        order = self.random_rows(generator, steps).astype(np.int32)
        whole = len(order) // p.batch_size * p.batch_size
        if whole:
            yield order[:whole].reshape(-1, p.batch_size)
        if whole < len(order):
            yield order[whole:][None]
