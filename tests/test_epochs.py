"""``epochs``: exactly so many passes over the rows, whatever the optimizer."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning

from descend import LinearClassifier

X, Y = load_breast_cancer(return_X_y=True)


@pytest.mark.parametrize("rows", [X, scipy.sparse.csr_array(X)], ids=["dense", "csr"])
@pytest.mark.parametrize("epochs", [1, 2, 5, 12])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lbfgs"},
        {"optimizer": "newton"},
        {"optimizer": "lbfgs", "standardize": False},
        {"optimizer": "lbfgs", "loss": "hinge"},
        {"optimizer": "saga"},
        {"optimizer": "adam", "batch_size": 8},
        {"optimizer": "sgd", "batch_size": "full"},
        {"batch_size": "full"},
        {"batch_size": 32},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_so_many_passes_and_no_more(settings, epochs, rows):
    """Line searches count: the rows read are those of ``epochs`` passes, and even one pass has learnt something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LinearClassifier(epochs=epochs, random_state=0, **settings).fit(rows, Y)
    history = model.history_
    mixed = (
        settings.get("batch_size") == 32
    )  # heavy rows are visited twice, then all once: the last pass is a part
    assert history.last["epoch"] <= epochs
    assert history.last["epoch"] > epochs - 1 if mixed else history.last["epoch"] == epochs
    assert model.n_iter_ == epochs
    assert history.stopped == "epochs"
    assert history.last["loss"] < history["loss"][0]


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton"])
def test_a_search_that_is_cut_short_leaves_the_last_place(optimizer):
    """What fewer passes end with is a place on the way of more passes, and never higher than the one before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        losses = [
            LinearClassifier(epochs=epochs, optimizer=optimizer, random_state=0)
            .fit(X, Y)
            .history_.last["loss"]
            for epochs in range(2, 15)
        ]
    assert (np.diff(losses) <= 1e-12).all()
