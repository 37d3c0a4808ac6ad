"""Inside scikit-learn: routing, searches in several processes, attributes, and what a refusal leaves behind."""

import io
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from descend import LinearClassifier, LinearRegressor
from descend.engines.curvature import measure_curvature
from descend.engines.linear import LinearEngine
from descend.objectives.losses import LOSSES
from descend.objectives.penalties import Penalty
from descend.types import Dataset

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


# --- routing, processes, pickles -------------------------------------------------------------------


def test_weights_are_routed_through_a_pipeline():
    """With metadata routing a pipeline hands sample_weight to fit and score; without the request it is refused."""
    X, y = CANCER
    weights = np.random.default_rng(0).integers(0, 3, size=len(y)).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        model = LinearClassifier(batch_size="full", epochs=20, optimizer="sgd", random_state=0)
        asked = model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        routed = make_pipeline(scaler, asked).fit(X, y, sample_weight=weights)
        alone = clone(model).fit(routed[0].transform(X), y, sample_weight=weights)
        np.testing.assert_array_equal(routed[-1].coef_, alone.coef_)
        ignored = clone(model).fit(routed[0].transform(X), y)
        assert np.abs(ignored.coef_ - alone.coef_).max() > 1e-3
        scores = cross_validate(
            make_pipeline(scaler, asked), X, y, params={"sample_weight": weights}, cv=3, error_score="raise"
        )
        assert scores["test_score"].min() > 0.9
        with pytest.raises(ValueError, match="sample_weight"):
            make_pipeline(StandardScaler(), clone(model).set_fit_request(sample_weight=None)).fit(
                X, y, sample_weight=weights
            )
        assert model.set_partial_fit_request(classes=True, sample_weight=True) is model
        assert LinearRegressor().set_partial_fit_request(sample_weight=True).get_metadata_routing()


def test_searches_in_two_processes_find_the_same():
    """GridSearchCV and cross_val_score give the same numbers in two processes as in one."""
    grid = {"linearclassifier__batch_size": [1, 32], "linearclassifier__alpha": [1e-3, 1.0]}
    pipeline = make_pipeline(StandardScaler(), LinearClassifier(random_state=0))
    one, two = (
        GridSearchCV(pipeline, grid, cv=3, n_jobs=n, error_score="raise").fit(*CANCER) for n in (1, 2)
    )
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.predict_proba(CANCER[0]), two.predict_proba(CANCER[0]))
    model = LinearRegressor(random_state=0, callbacks=[lambda seen: None])
    one, two = (cross_val_score(model, *DIABETES, cv=4, n_jobs=n, error_score="raise") for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert one.mean() > 0.4


def test_joblib_keeps_a_fitted_pipeline():
    """A pipeline dumped by joblib predicts the same when loaded."""
    pipeline = make_pipeline(StandardScaler(), LinearClassifier(random_state=0)).fit(*IRIS)
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(IRIS[0]), pipeline.predict_proba(IRIS[0]))


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_set_output_hands_names_on(kind):
    """With set_output the columns' names go through a pipeline to the model, and predictions ask for them."""
    X = pd.DataFrame(IRIS[0], columns=["a", "b", "c", "d"])
    X = X if kind == "pandas" else pl.from_pandas(X)
    pipeline = make_pipeline(StandardScaler(), LinearClassifier(random_state=0)).set_output(transform=kind)
    pipeline.fit(X, IRIS[1])
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert pipeline.score(X, IRIS[1]) > 0.95
    assert list(pipeline[:-1].get_feature_names_out()) == ["a", "b", "c", "d"]


# --- attributes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_standardized_coefficients_are_per_deviation(estimator):
    """``standardized_coef_`` is ``coef_`` times the deviation: 0 for a constant column."""
    X, y = CANCER if estimator is LinearClassifier else DIABETES
    X = np.insert(X, 2, 3.0, axis=1)
    model = estimator(random_state=0).fit(X, y)
    assert model.standardized_coef_.shape == model.coef_.shape
    np.testing.assert_allclose(model.standardized_coef_, model.coef_ * X.std(axis=0), rtol=1e-9, atol=1e-12)
    assert model.standardized_coef_[..., 2] == 0.0
    rescaled = estimator(random_state=0).fit(X * 10.0 ** np.arange(X.shape[1])[::-1], y)
    np.testing.assert_allclose(rescaled.standardized_coef_, model.standardized_coef_, rtol=1e-4, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        raw = estimator(random_state=0, standardize=False, epochs=2).fit(X, y)
    np.testing.assert_array_equal(raw.standardized_coef_, raw.coef_)


@pytest.mark.parametrize("data", [IRIS, CANCER], ids=["softmax", "two classes"])
def test_log_probabilities_stay_finite(data):
    """Far from the boundary, where probabilities round to 0, their logarithm is the score's own."""
    X, y = data
    model = LinearClassifier(random_state=0).fit(X, y)
    far = X.mean(axis=0) + 1e4 * (X - X.mean(axis=0))
    logs = model.predict_log_proba(far)
    assert model.predict_proba(far).min() == 0.0
    assert np.isfinite(logs).all()
    assert logs.min() < -800
    assert logs.max() <= 0.0
    scores = model.decision_function(far)
    if scores.ndim == 1:
        np.testing.assert_allclose(logs[:, 1] - logs[:, 0], scores, rtol=1e-12)
    else:
        np.testing.assert_allclose(logs[:, 0] - logs[:, 1], scores[:, 0] - scores[:, 1], rtol=1e-9)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_early_stopping_gives_the_best_back(optimizer):
    """The model that early stopping returns has the lowest validation loss of the history, not the last one."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 80)), rng.integers(0, 2, size=300)
    model = LinearClassifier(
        early_stopping=True,
        optimizer=optimizer,
        learning_rate=0.05,
        average=False,
        validation_fraction=0.3,
        random_state=0,
        epochs=200,
        alpha=0.0,
    )
    model.fit(X, y)
    seen = model.history_["validation_loss"]
    assert model.history_.stopped == "early_stopping"
    assert model.history_.last["validation_loss"] == min(seen)
    assert max(seen[-8:]) > min(seen)


def test_warm_start_minds_columns_and_classes():
    """A warm start goes on where a column no longer varies or varies anew; other classes begin anew."""
    X, y = CANCER
    still = X.copy()
    still[:, 4] = 1.0
    model = LinearClassifier(warm_start=True, optimizer="sgd", epochs=5, average=False, random_state=0)
    for first, second in ((X, still), (still, X)):
        warm = clone(model).fit(first, y)
        started = warm.fit(second, y).history_["loss"][0]
        assert started < 0.3
    assert clone(model).fit(X, y).fit(X, y + 5).history_["loss"][0] == pytest.approx(np.log(2))


# --- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["log_loss", "squared_error"])
def test_weights_are_exact_in_expectation_at_batch_size_one(name):
    """The mean of all visits' gradients, heavy rows split, is the weighted gradient: weight 2 is the row twice."""
    rng = np.random.default_rng(0)
    n = 200
    X = rng.normal(size=(n, 5)) * np.where(rng.random(n) < 0.05, 20.0, 1.0)[:, None]
    y = rng.integers(0, 2, size=(n, 1)).astype(float)
    whole = rng.integers(0, 4, size=n)
    P = rng.normal(size=(1, 6))
    data = Dataset(X, y, whole / whole.mean())
    visits = measure_curvature(data, LOSSES[name], seed=0).visits
    assert visits.num_visits > n
    engine = LinearEngine(data, LOSSES[name], Penalty(0.0), weights=visits.weights)
    single = [
        LinearEngine(Dataset(X[i : i + 1], y[i : i + 1]), LOSSES[name], Penalty(0.0))
        .loss_and_gradient(P, slice(0, 1))
        .gradient
        * engine.visit_weights[i]
        for i in visits.rows
    ]
    twice = Dataset(np.repeat(X, whole, axis=0), np.repeat(y, whole, axis=0))
    sums = LinearEngine(twice, LOSSES[name], Penalty(0.0)).loss_and_gradient(P, slice(0, whole.sum()))
    np.testing.assert_allclose(np.mean(single, axis=0), sums.gradient / whole.sum(), rtol=1e-10)


# --- refusals --------------------------------------------------------------------------------------

X0, Y0 = CANCER


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [1.0, 1.0], [np.nan, 1.0, 1.0]])
def test_weights_of_a_table_are_named(weights):
    """Impossible weights of a table with texts are refused by the argument's name, and nothing is set."""
    frame = pd.DataFrame({"a": ["x", "y", "x"]})
    model = LinearClassifier()
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        model.fit(frame, [0, 1, 0], sample_weight=weights)
    assert not hasattr(model, "classes_")
    assert not hasattr(model, "feature_names_in_")


def test_an_error_in_a_callback_leaves_nothing():
    """An exception of a callback goes on to the caller, and the estimator is what it was before fit."""

    def fail(seen):
        raise RuntimeError("mine")

    model = LinearClassifier(callbacks=[fail])
    with pytest.raises(RuntimeError, match="mine"):
        model.fit(*IRIS)
    assert not hasattr(model, "classes_")
    assert not hasattr(model, "n_features_in_")
