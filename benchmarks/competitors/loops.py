"""The loops that people write."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.competitors.base import Competitor
from benchmarks.problem import Problem


class NumPy(Competitor):
    """SciPy's products where the rows are CSR."""

    name, module = "NumPy loop", "numpy"
    what = "ten lines: permute, index, two products, update; SciPy's products on CSR rows"

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        p = self.problem
        X, y, rate, alpha = p.X, p.targets().reshape(p.num_rows, -1), np.float32(p.rate), np.float32(p.alpha)
        w, b = np.zeros((p.num_columns, y.shape[1]), np.float32), np.zeros(y.shape[1], np.float32)
        generator = np.random.default_rng(p.seed)
        for _ in range(epochs):
            order = None if p.full_batch else self.random_rows(generator, steps)
            for start in self.starts(steps):
                rows = slice(None) if order is None else order[start : start + p.batch_size]
                batch, target = X[rows], y[rows]
                error = self.predicted(batch @ w + b) - target
                w -= rate * (batch.T @ error / np.float32(len(target)) + alpha * w)
                b -= rate * error.mean(axis=0)
        return np.column_stack([w.T, b])

    def predicted(self, scores: NDArray[Any]) -> NDArray[Any]:
        if self.problem.squared:
            return scores
        if self.problem.num_outputs == 1:
            return 1 / (1 + np.exp(-scores))
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        return chances / chances.sum(axis=1, keepdims=True)


class PyTorch(Competitor):
    """No ``DataLoader``: with one, a step takes several times as long."""

    name, module = "PyTorch, autograd", "torch"
    what = "`nn.Linear`, a loss, `optim.SGD`, autograd; no `DataLoader`: rows permuted once an epoch, then slices"

    @classmethod
    def can(cls, problem: Problem) -> bool:
        return not problem.sparse

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        import torch

        torch.set_num_threads(1)
        p = self.problem
        model = torch.nn.Linear(p.num_columns, p.num_outputs)
        torch.nn.init.zeros_(model.weight)
        torch.nn.init.zeros_(model.bias)
        groups = [{"params": [model.weight], "weight_decay": p.alpha}, {"params": [model.bias]}]
        optimizer = torch.optim.SGD(groups, lr=p.rate)
        loss, target = self.loss_and_target()
        for rows, labels in self.batches(target, epochs, steps):
            optimizer.zero_grad(set_to_none=True)
            loss(model(rows), labels).backward()
            optimizer.step()
        return np.column_stack([model.weight.detach().numpy(), model.bias.detach().numpy()])

    def loss_and_target(self) -> tuple[Any, Any]:
        import torch

        p = self.problem
        if p.num_outputs > 1:
            return torch.nn.CrossEntropyLoss(), torch.from_numpy(p.y).long()
        target = torch.from_numpy(p.y)[:, None]
        if p.squared:
            return lambda scores, y: 0.5 * torch.nn.functional.mse_loss(scores, y), target
        return torch.nn.BCEWithLogitsLoss(), target

    def batches(self, y: Any, epochs: int, steps: int | None) -> Any:
        import torch

        p = self.problem
        X = torch.from_numpy(p.X)
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
                yield rows[start : start + p.batch_size], target[start : start + p.batch_size]


class PyTorchByHand(PyTorch):
    """The fastest loop of steps that PyTorch has without compiling."""

    name = "PyTorch, by hand"
    what = "the same batches with the gradient written out, `no_grad`, updates in place"

    def train(self, epochs: int, steps: int | None = None) -> NDArray[Any]:
        import torch

        torch.set_num_threads(1)
        p = self.problem
        w, b = torch.zeros(p.num_columns, p.num_outputs), torch.zeros(p.num_outputs)
        target = torch.from_numpy(p.targets().reshape(p.num_rows, -1))
        with torch.no_grad():
            for rows, labels in self.batches(target, epochs, steps):
                error = self.predicted(torch.addmm(b, rows, w)).sub_(labels)
                w.addmm_(rows.T, error, beta=1 - p.rate * p.alpha, alpha=-p.rate / len(labels))
                b.sub_(error.mean(0), alpha=p.rate)
        return np.column_stack([w.T.numpy(), b.numpy()])

    def predicted(self, scores: Any) -> Any:
        if self.problem.squared:
            return scores
        return scores.sigmoid_() if self.problem.num_outputs == 1 else scores.softmax(1)
