"""Train linear models by stochastic, mini-batch and batch gradient descent, and see how the three differ.

>>> from descend import LinearClassifier
>>> from sklearn.datasets import load_iris
>>> X, y = load_iris(return_X_y=True)
>>> bool(LinearClassifier().fit(X, y).score(X, y) > 0.9)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from descend.api import compare, configure_batch_size, load
    from descend.batch_size.plan import Plan
    from descend.comparing.comparison import Comparison
    from descend.errors import DescendError, DivergenceError, InputError
    from descend.estimators.linear import LinearClassifier, LinearRegressor
    from descend.estimators.networks import MLPClassifier, MLPRegressor
    from descend.evaluation import evaluate
    from descend.history import History
    from descend.store.face import ingest
    from descend.store.opening import Store, open_store

__all__ = [
    "Comparison",
    "DescendError",
    "DivergenceError",
    "History",
    "InputError",
    "LinearClassifier",
    "LinearRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "Plan",
    "Store",
    "compare",
    "configure_batch_size",
    "evaluate",
    "ingest",
    "load",
    "open_store",
]

_HOMES = {
    "Comparison": "descend.comparing.comparison",
    "DescendError": "descend.errors",
    "DivergenceError": "descend.errors",
    "History": "descend.history",
    "InputError": "descend.errors",
    "LinearClassifier": "descend.estimators.linear",
    "LinearRegressor": "descend.estimators.linear",
    "MLPClassifier": "descend.estimators.networks",
    "MLPRegressor": "descend.estimators.networks",
    "Plan": "descend.batch_size.plan",
    "Store": "descend.store.opening",
    "compare": "descend.api",
    "configure_batch_size": "descend.api",
    "evaluate": "descend.evaluation",
    "ingest": "descend.store.face",
    "load": "descend.api",
    "open_store": "descend.store.opening",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, when it is: ``descend --help`` needs no scikit-learn and no Numba."""
    if name not in _HOMES:
        raise AttributeError(f"module 'descend' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
