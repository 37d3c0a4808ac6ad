"""Stores where people name them: estimators, ``compare``, ``configure_batch_size``, and models of other data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import descend
from descend import metrics
from descend.errors import ColumnError, InputError
from descend.features.features import Features
from descend.features.statistics import Statistics
from descend.store.choice import check_choice
from descend.store.source import StoredSource
from descend.store.translation import Translation
from tests.store.stores import make_store


@pytest.mark.parametrize("estimator", [descend.LinearClassifier, descend.MLPClassifier])
def test_estimators_are_fitted_to_a_store(tmp_path: Path, estimator: Any) -> None:
    """``fit(store)`` gives an estimator that predicts labels for raw rows, and that can be saved and loaded."""
    make_store(tmp_path / "s")
    model = estimator(epochs=2, optimizer="adam").fit(descend.open_store(tmp_path / "s"))
    rows = np.random.default_rng(1).normal(size=(20, 7))
    assert set(model.predict(rows)) == {"yes", "no"}
    assert model.classes_.tolist() == ["no", "yes"]
    model.save(tmp_path / "m")
    assert np.array_equal(descend.load(tmp_path / "m").predict(rows), model.predict(rows))


def test_what_a_store_holds_is_not_given_beside_it(tmp_path: Path) -> None:
    """Targets, weights, raw or unshifted columns cannot be had from a store, and errors say so."""
    store = make_store(tmp_path / "s")
    fit = descend.LinearClassifier
    with pytest.raises(InputError, match="y is given with a block store"):
        fit().fit(store, [1.0])
    with pytest.raises(InputError, match="sample_weight is given with a block store"):
        descend.compare(tmp_path / "s", sample_weight=[1.0])
    with pytest.raises(InputError, match="standardize is False, but store 's' holds standardised"):
        fit(standardize=False).fit(store)
    with pytest.raises(InputError, match="fit_intercept is False"):
        fit(fit_intercept=False).fit(store)
    with pytest.raises(InputError, match="task is 'regression', but s was ingested for classification"):
        descend.LinearRegressor().fit(store)
    with pytest.raises(InputError, match="target is z, but store 's' was ingested with y"):
        check_choice(store, target="z")
    with pytest.raises(InputError, match="drop is a, but store 's' was ingested without"):
        check_choice(store, drop=["a"])
    check_choice(store, target="y")


def test_a_path_is_compared_and_configured(tmp_path: Path) -> None:
    """``compare`` and ``configure_batch_size`` take the folder of a store, as text or as a path."""
    make_store(tmp_path / "s", num_rows=1000)
    comparison = descend.compare(str(tmp_path / "s"), batch_sizes=(32, "full"), seeds=1, epochs=2)
    assert [run["kind"] for run in comparison.runs] == ["mini-batch", "batch"]
    plan = descend.configure_batch_size(tmp_path / "s", seconds=1)
    assert 1 <= plan.batch_size <= 1000


def features_of(rows: np.ndarray[Any, Any], names: list[str]) -> Features:
    stats = Statistics(names)
    stats.update(rows)
    return Features.from_statistics(stats)


def test_stored_rows_are_put_into_a_models_terms() -> None:
    """Rows of other means and deviations, with columns to spare, become what the model's features make of them."""
    random = np.random.default_rng(0)
    rows = random.normal(5.0, 3.0, (200, 4))
    stored = features_of(rows * 2.0 + 1.0, ["a", "b", "c", "d"])
    wanted = features_of(random.normal(4.0, 2.0, (200, 3)), ["d", "a", "b"])
    found = Translation(stored, wanted, "store")(stored.encode(rows))
    np.testing.assert_allclose(found, wanted.encode(rows[:, [3, 0, 1]]), rtol=1e-4, atol=1e-5)
    assert Translation(stored, stored, "store").changes_nothing


def test_columns_that_a_store_lacks_are_named() -> None:
    """A model's column that was left out of the store is refused by its name."""
    rows = np.random.default_rng(0).normal(size=(50, 2))
    with pytest.raises(ColumnError, match="store lacks column 'z', which the model needs"):
        Translation(features_of(rows, ["a", "b"]), features_of(rows, ["a", "z"]), "store")


def test_labels_come_back_as_they_were(tmp_path: Path) -> None:
    """A store as a source gives its labels, not their codes, beside encoded rows."""
    store = make_store(tmp_path / "s")
    blocks = list(StoredSource(store, store.features).blocks())
    labels = np.concatenate([block.target for block in blocks])
    codes = np.concatenate([y[:, 0] for _, y, _ in store.blocks()])
    assert np.array_equal(labels, np.array(["no", "yes"], dtype=object)[codes.astype(int)])
    assert np.array_equal(
        np.concatenate([b.columns for b in blocks]), np.concatenate([X for X, _, _ in store.blocks()])
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_roc_area_of_many_rows_is_that_of_all_at_once(
    weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores sorted a range at a time, with ties across the pieces they come in, give the same area."""
    monkeypatch.setattr(metrics, "MOST_SORTED", 300)
    random = np.random.default_rng(0)
    scores, positive = np.round(random.normal(size=2000), 1), random.random(2000) < 0.3
    weights = random.random(2000) if weighted else None
    cuts = [slice(low, low + 170) for low in range(0, 2000, 170)]
    found = metrics.roc_auc_of_many(
        [scores[c] for c in cuts],
        [positive[c] for c in cuts],
        [] if weights is None else [weights[c] for c in cuts],
    )
    assert found == pytest.approx(metrics.roc_auc(scores, positive, weights), rel=1e-12)
