"""What is kept of a training, inside the model file and for its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.features import prepare
from descend.fitting import fit
from descend.models.linear import LinearModel
from descend.models.loading import load_model
from descend.report import render_page
from descend.run_record import MOST_COEFFICIENTS, complete_summary, dataset_metrics, model_record
from descend.settings import Settings
from descend.sources import array_source


def trained(y: np.ndarray[Any, Any], X: np.ndarray[Any, Any]) -> tuple[LinearModel, Any]:
    """A model after a few epochs, its summary complete."""
    prepared = prepare(array_source(X, y), seed=0)
    settings = Settings(epochs=20)
    model = fit(prepared, settings).model
    complete_summary(model, prepared, settings, "X")
    return model, prepared


@pytest.fixture(scope="module")
def X() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(400, 12))


@pytest.mark.parametrize("task", ["two classes", "three classes", "numbers", "pairs of numbers"])
def test_a_saved_model_draws_its_page_again(task: str, X: np.ndarray[Any, Any], tmp_path: Path) -> None:
    """The record of a model that was saved and loaded is the one of the fresh model, and can be drawn."""
    y = {
        "two classes": X[:, 0] > 0,
        "three classes": np.digitize(X[:, 0], [-0.5, 0.5]),
        "numbers": 50 + 3 * X[:, 0],
        "pairs of numbers": X[:, :2] * 5 + 1,
    }[task]
    model, _ = trained(y, X)
    loaded = load_model(model.save(tmp_path / "m"))
    record = model_record(loaded)
    assert record == json.loads(json.dumps(model_record(model), allow_nan=False))
    assert list(record["train"]) == list(model.summary["train"])
    assert record["verdict"] in render_page(record).replace("&lt;", "<")


def test_metrics_are_those_of_scores_in_units(
    X: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of a regression are in the target's units, and blocks do not show in them."""
    model, prepared = trained(1000 + 100 * X[:, 0] + 5 * X[:, 1], X)
    whole = dataset_metrics(model, prepared.train)
    monkeypatch.setattr("descend.run_record.BLOCK_VALUES", 7 * 8)
    parts = dataset_metrics(model, prepared.train)
    assert whole == pytest.approx(parts)
    predicted = model.target.decode(prepared.train.X @ model.parameters[:, :-1].T + model.parameters[:, -1])
    error = predicted - model.target.decode(prepared.train.y)
    assert whole["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))


def test_the_largest_coefficients_come_first(X: np.ndarray[Any, Any]) -> None:
    """At most thirty, by magnitude, with the output's name where there are several."""
    model, _ = trained(np.digitize(X[:, 0], [-0.5, 0.5]), X)
    found = model_record(model)["coefficients"]
    sizes = [abs(one["value"]) for one in found]
    assert len(found) == min(MOST_COEFFICIENTS, model.parameters[:, :-1].size)
    assert sizes == sorted(sizes, reverse=True)
    assert {one["output"] for one in found} == {"0", "1", "2"}
    assert found[0]["name"] == "x0"


def test_a_model_without_figures_still_has_a_page(X: np.ndarray[Any, Any]) -> None:
    """A model whose summary holds only what training knows, as the estimators save it, can be drawn."""
    prepared = prepare(array_source(X, X[:, 0] > 0), seed=0)
    model = fit(prepared, Settings(epochs=3)).model
    assert "<html" in render_page(model_record(model))
