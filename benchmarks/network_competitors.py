"""Who trains the network 784-128-10, each in the form that its own documents recommend.

All start from the same weights and take the same batches, so that their last losses can be compared. ``run(rows)`` is
what is timed: plain SGD or Adam over ``rows`` in batches of B, from where the last call ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

SIZES = (784, 128, 10)
RATES = {"sgd": 0.01, "adam": 1e-3}
BETAS, EPSILON = (0.9, 0.999), 1e-8
Layers = list[tuple[NDArray[Any], NDArray[Any]]]


class Trainer:
    """One competitor at one batch size with one optimizer."""

    name: ClassVar[str]
    module: ClassVar[str]
    what: ClassVar[str]
    threads: ClassVar[tuple[int, ...]] = (1,)

    def __init__(self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str) -> None:
        self.X, self.y, self.batch_size, self.optimizer = X, y, batch_size, optimizer
        self.rate = RATES[optimizer]

    @classmethod
    def present(cls) -> bool:
        return find_spec(cls.module) is not None

    def run(self, rows: NDArray[np.int64]) -> None:
        raise NotImplementedError

    def layers(self) -> Layers:
        raise NotImplementedError


class Descend(Trainer):
    """The compiled engine as the training loop calls it."""

    name, module = "descend", "descend"
    what = "the compiled engine as the training loop calls it: many steps in one call"

    def __init__(
        self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str, threads: int = 1
    ) -> None:
        from descend.engines.base import Rule, State
        from descend.engines.mlp import NetworkEngine
        from descend.models.network import Network, aligned_zeros
        from descend.objectives.activations import ACTIVATIONS
        from descend.objectives.losses import SOFTMAX_LOSS
        from descend.objectives.penalties import Penalty
        from descend.types import Dataset
        from descend.updates import find_optimizer

        super().__init__(X, y, start, batch_size, optimizer)
        self.network = Network(SIZES, ACTIVATIONS["relu"])
        data = Dataset(X, y.astype(np.float64)[:, None])
        self.engine = NetworkEngine(data, SOFTMAX_LOSS, Penalty(0.0), self.network, threads=threads)
        self.state = State(aligned_zeros(self.network.size, X.dtype))
        for name in ("first", "second"):
            setattr(self.state, name, aligned_zeros(self.network.size, X.dtype))
        for (weights, bias), (own_weights, own_bias) in zip(self.layers(), start, strict=True):
            weights[:], bias[:] = own_weights, own_bias
        self.rule = Rule(find_optimizer(optimizer), self.rate)

    def run(self, rows: NDArray[np.int64]) -> None:
        self.engine.run(self.state, self.rule, rows, self.batch_size)

    def layers(self) -> Layers:
        return self.network.parts(self.state.parameters)


class DescendTwo(Descend):
    """The same with two threads, which batches of many rows share."""

    name = "descend, 2 threads"
    what = "the same with two threads, which batches of many rows share"

    def __init__(self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str) -> None:
        super().__init__(X, y, start, batch_size, optimizer, threads=2)


class ScikitLearn(Trainer):
    """``partial_fit`` with its own weights replaced; it takes the rows in order, so they are given in that order."""

    name, module = "scikit-learn", "sklearn"
    what = "`MLPClassifier.partial_fit`, rows gathered beforehand, off the clock"

    def __init__(self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str) -> None:
        import warnings

        from sklearn.neural_network import MLPClassifier

        super().__init__(X, y, start, batch_size, optimizer)
        self.model = MLPClassifier(
            SIZES[1:-1],
            solver=optimizer,
            alpha=0.0,
            batch_size=batch_size,
            learning_rate_init=self.rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
            max_iter=1,
        )
        few = np.arange(max(batch_size, 20))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model.partial_fit(X[few], y[few], classes=np.arange(SIZES[-1]))
        for number, (weights, bias) in enumerate(start):
            self.model.coefs_[number][:] = weights
            self.model.intercepts_[number][:] = bias
        del self.model._optimizer
        self._fresh()
        self.gathered: dict[int, tuple[Any, Any]] = {}

    def _fresh(self) -> None:
        from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

        parameters = self.model.coefs_ + self.model.intercepts_
        if self.optimizer == "adam":
            self.model._optimizer = AdamOptimizer(parameters, self.rate, *BETAS, EPSILON)
        else:
            self.model._optimizer = SGDOptimizer(parameters, self.rate, "constant", 0.0, False)

    def prepare(self, rows: NDArray[np.int64]) -> None:
        self.gathered[id(rows)] = self.X[rows], self.y[rows]

    def run(self, rows: NDArray[np.int64]) -> None:
        self.model.partial_fit(*self.gathered[id(rows)])

    def layers(self) -> Layers:
        return list(zip(self.model.coefs_, self.model.intercepts_, strict=True))


class PyTorch(Trainer):
    """Written by hand: no autograd, products that add in place, ``torch.optim.Adam(fused=True)``."""

    name, module = "PyTorch by hand", "torch"
    what = (
        "by hand: no autograd, no DataLoader, SGD added in place by `addmm_`, `Adam(fused=True)`, one thread"
    )
    num_threads = 1

    def __init__(self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str) -> None:
        import torch

        super().__init__(X, y, start, batch_size, optimizer)
        self.torch = torch
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)
        (W1, b1), (W2, b2) = start
        self.parameters = [torch.from_numpy(np.array(part)) for part in (W1, b1, W2, b2)]
        self.adam = None
        if optimizer == "adam":
            self.adam = torch.optim.Adam(self.parameters, lr=self.rate, betas=BETAS, eps=EPSILON, fused=True)
            for part in self.parameters:
                part.grad = torch.empty_like(part)
        self.step = self.make_step()

    def make_step(self) -> Callable[..., None]:
        torch, rate = self.torch, self.rate
        W1, b1, W2, b2 = self.parameters

        def step(rows: Any) -> None:
            x, target = self.X[rows], self.y[rows]
            n = len(target)
            h = torch.addmm(b1, x, W1).relu_()
            p = torch.softmax(torch.addmm(b2, h, W2), 1)
            p[torch.arange(n), target] -= 1.0
            d = (p @ W2.T).mul_(h > 0)
            if self.adam is None:
                W2.addmm_(h.T, p, alpha=-rate / n)
                b2.sub_(p.sum(0), alpha=rate / n)
                W1.addmm_(x.T, d, alpha=-rate / n)
                b1.sub_(d.sum(0), alpha=rate / n)
                return
            p /= n
            d /= n
            torch.mm(x.T, d, out=W1.grad)
            torch.sum(d, 0, out=b1.grad)
            torch.mm(h.T, p, out=W2.grad)
            torch.sum(p, 0, out=b2.grad)
            self.adam.step()

        return step

    def run(self, rows: NDArray[np.int64]) -> None:
        torch = self.torch
        torch.set_num_threads(self.num_threads)
        with torch.no_grad():
            order = torch.from_numpy(rows)
            for at in range(0, len(rows), self.batch_size):
                self.step(order[at : at + self.batch_size])

    def layers(self) -> Layers:
        W1, b1, W2, b2 = (part.numpy() for part in self.parameters)
        return [(W1, b1), (W2, b2)]


class PyTorchAutograd(PyTorch):
    """As its tutorials have it, without a DataLoader."""

    name = "PyTorch, autograd"
    what = "modules, `CrossEntropyLoss`, autograd and `torch.optim` (fused), as its tutorials have it; no DataLoader"

    def make_step(self) -> Callable[..., None]:
        torch = self.torch
        inner, outer = torch.nn.Linear(*SIZES[:2]), torch.nn.Linear(*SIZES[1:])
        with torch.no_grad():
            for layer, weights, bias in zip(
                (inner, outer), self.parameters[::2], self.parameters[1::2], strict=True
            ):
                layer.weight.copy_(weights.T)
                layer.bias.copy_(bias)
        self.model = torch.nn.Sequential(inner, torch.nn.ReLU(), outer)
        judge = torch.nn.CrossEntropyLoss()
        if self.optimizer == "adam":
            optimizer = torch.optim.Adam(
                self.model.parameters(), lr=self.rate, betas=BETAS, eps=EPSILON, fused=True
            )
        else:
            optimizer = torch.optim.SGD(self.model.parameters(), lr=self.rate, fused=True)

        def step(rows: Any) -> None:
            with torch.enable_grad():
                optimizer.zero_grad()
                judge(self.model(self.X[rows]), self.y[rows]).backward()
                optimizer.step()

        return step

    def layers(self) -> Layers:
        return [
            (m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in (self.model[0], self.model[2])
        ]


class PyTorchTwo(PyTorch):
    """The same with two threads."""

    name, num_threads = "PyTorch by hand, 2 threads", 2
    what = "the same, two threads"


class PyTorchCompiled(PyTorch):
    """The step through ``torch.compile``: plain SGD alone, whole batches of one size."""

    name = "PyTorch torch.compile"
    what = "the step by hand through `torch.compile`, plain SGD"

    def make_step(self) -> Callable[..., None]:
        torch, rate = self.torch, self.rate

        def updated(x: Any, target: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> None:
            n = x.shape[0]
            h = torch.relu(x @ W1 + b1)
            p = torch.softmax(h @ W2 + b2, 1) - torch.nn.functional.one_hot(target, SIZES[-1])
            d = (p @ W2.T) * (h > 0)
            W2.sub_(h.T @ p, alpha=rate / n)
            b2.sub_(p.sum(0), alpha=rate / n)
            W1.sub_(x.T @ d, alpha=rate / n)
            b1.sub_(d.sum(0), alpha=rate / n)

        compiled = torch.compile(updated, dynamic=False)

        def step(rows: Any) -> None:
            compiled(self.X[rows], self.y[rows], *self.parameters)

        return step


class Jax(Trainer):
    """A compiled epoch: ``jit`` around ``lax.scan``."""

    name, module = "JAX jit + scan", "jax"
    what = "`jit` around `lax.scan` over batches, gradient by hand, parameters donated; XLA started with one thread"

    def __init__(self, X: Any, y: Any, start: Layers, batch_size: int, optimizer: str) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
        import jax
        import jax.numpy as jnp

        super().__init__(X, y, start, batch_size, optimizer)
        rate, (beta1, beta2) = self.rate, BETAS
        self.X, self.y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
        parameters = tuple(jnp.array(part) for layer in start for part in layer)
        zeros = tuple(jnp.zeros_like(part) for part in parameters)
        self.state = (
            parameters,
            zeros,
            tuple(jnp.zeros_like(part) for part in parameters),
            jnp.zeros((), jnp.int32),
        )

        def step(state: Any, rows: Any, X: Any, y: Any) -> Any:
            (W1, b1, W2, b2), m, v, t = state
            x, target = X[rows], y[rows]
            n = x.shape[0]
            h = jnp.maximum(x @ W1 + b1, 0.0)
            p = (jax.nn.softmax(h @ W2 + b2) - jax.nn.one_hot(target, SIZES[-1])) / n
            d = (p @ W2.T) * (h > 0)
            gradient = (x.T @ d, d.sum(0), h.T @ p, p.sum(0))
            if optimizer == "sgd":
                return (tuple(w - rate * g for w, g in zip((W1, b1, W2, b2), gradient, strict=True)), m, v, t)
            t = t + 1
            m = tuple(beta1 * a + (1 - beta1) * g for a, g in zip(m, gradient, strict=True))
            v = tuple(beta2 * a + (1 - beta2) * g * g for a, g in zip(v, gradient, strict=True))
            one, two = 1 - beta1**t, 1 - beta2**t
            moved = tuple(
                w - rate * (a / one) / (jnp.sqrt(b / two) + EPSILON)
                for w, a, b in zip((W1, b1, W2, b2), m, v, strict=True)
            )
            return (moved, m, v, t)

        def walk(state: Any, order: Any, X: Any, y: Any) -> Any:
            return jax.lax.scan(lambda s, rows: (step(s, rows, X, y), None), state, order)[0]

        self.walk = jax.jit(walk, donate_argnums=0)

    def run(self, rows: NDArray[np.int64]) -> None:
        order = rows.astype(np.int32).reshape(-1, self.batch_size)
        self.state = self.walk(self.state, order, self.X, self.y)
        self.state[0][0].block_until_ready()

    def layers(self) -> Layers:
        W1, b1, W2, b2 = (np.asarray(part) for part in self.state[0])
        return [(W1, b1), (W2, b2)]


TRAINERS: tuple[type[Trainer], ...] = (
    Descend,
    DescendTwo,
    ScikitLearn,
    PyTorchAutograd,
    PyTorch,
    PyTorchTwo,
    PyTorchCompiled,
    Jax,
)
