"""The scikit-learn face: what is learnt, weights, labels, tables, files, and refusals."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from descend import InputError, LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor, load

IRIS = load_iris(return_X_y=True)
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
EXACT = {"batch_size": "full", "tol": 1e-14, "alpha": 1e-2, "random_state": 0}


# --- what is learnt --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 32, "full", "auto"])
def test_classes_are_told_as_well_as_by_logistic_regression(batch_size):
    """At any batch size iris and breast_cancer are told within 1 % of LogisticRegression's accuracy."""
    for X, y in (IRIS, CANCER):
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1e4 / len(X), max_iter=5000)).fit(X, y)
        mine = LinearClassifier(batch_size=batch_size, random_state=0).fit(X, y)
        assert abs(mine.score(X, y) - theirs.score(X, y)) < 0.01


def test_coefficients_are_scikit_learns():
    """``coef_`` and ``intercept_`` are for the raw columns, equal to a scaled LogisticRegression's turned back."""
    X, y = CANCER
    scaler = StandardScaler().fit(X)
    theirs = LogisticRegression(C=1 / (len(X) * 1e-2), tol=1e-12, max_iter=10_000).fit(scaler.transform(X), y)
    mine = LinearClassifier(**EXACT).fit(X, y)
    expected = theirs.coef_ / scaler.scale_
    np.testing.assert_allclose(mine.coef_, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(mine.decision_function(X), theirs.decision_function(scaler.transform(X)), rtol=1e-4,
                               atol=1e-4)  # fmt: skip


def test_regression_is_ridge():
    """With the alpha of the standardised target, predictions are Ridge's."""
    X, y = DIABETES
    scaler = StandardScaler().fit(X)
    theirs = Ridge(alpha=len(X) * 1e-2).fit(scaler.transform(X), y)
    mine = LinearRegressor(**EXACT).fit(X, y)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(scaler.transform(X)), rtol=1e-6)
    assert mine.coef_.shape == (10,)
    assert np.shape(mine.intercept_) == (1,)


def test_shapes_follow_scikit_learn():
    """Shapes of scores, probabilities and coefficients are those of LogisticRegression, for two and more classes."""
    for (X, y), k in ((CANCER, 2), (IRIS, 3)):
        mine = LinearClassifier(random_state=0, epochs=3).fit(X, y)
        theirs = LogisticRegression(max_iter=5).set_params(tol=1e3).fit(StandardScaler().fit_transform(X), y)
        assert mine.coef_.shape == theirs.coef_.shape
        assert mine.intercept_.shape == theirs.intercept_.shape
        assert mine.decision_function(X).shape == theirs.decision_function(X).shape
        probabilities = mine.predict_proba(X)
        assert probabilities.shape == (len(X), k)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
        np.testing.assert_allclose(mine.predict_log_proba(X), np.log(probabilities), rtol=1e-6)
        assert (mine.classes_[probabilities.argmax(axis=1)] == mine.predict(X)).all()


def test_a_constant_column_has_coefficient_zero():
    """A column that is the same in every row gets coefficient 0 and moves no prediction."""
    X, y = DIABETES
    wide = np.insert(X, 3, 7.0, axis=1)
    one, other = LinearRegressor(**EXACT).fit(X, y), LinearRegressor(**EXACT).fit(wide, y)
    assert other.coef_[3] == 0.0
    np.testing.assert_allclose(np.delete(other.coef_, 3), one.coef_, rtol=1e-8)
    np.testing.assert_allclose(other.predict(wide), one.predict(X), rtol=1e-10)


def test_several_outputs_are_several_regressions():
    """A target with k columns gets k predictions, each what the column alone would get where there is no penalty."""
    X, y = DIABETES
    Y = np.stack([y, -3 * y + X[:, 0] * 100, np.random.default_rng(0).normal(size=len(y))], axis=1)
    settings = EXACT | {"penalty": None}
    together = LinearRegressor(**settings).fit(X, Y)
    assert together.coef_.shape == (3, 10)
    assert together.predict(X).shape == (len(X), 3)
    for c in range(3):
        alone = LinearRegressor(**settings).fit(X, Y[:, c])
        np.testing.assert_allclose(together.predict(X)[:, c], alone.predict(X), rtol=1e-4, atol=1e-5)
    assert LinearRegressor(**settings).fit(X, Y[:, :1]).predict(X).shape == (len(X), 1)


def test_the_same_random_state_repeats():
    """Two fits with one random_state are equal to the last bit, n_jobs or not; another state differs."""
    X, y = CANCER
    fits = [
        LinearClassifier(optimizer="sgd", epochs=3, random_state=r, n_jobs=j).fit(X, y).coef_
        for r, j in ((0, None), (0, 2), (0, -1), (1, None))
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])
    assert (fits[0] != fits[3]).any()


# --- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [IRIS, CANCER, DIABETES], ids=["iris", "cancer", "diabetes"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "auto"])
def test_a_weight_of_two_is_the_row_twice(data, optimizer):
    """In full batch, whole-number weights give the fit of repeated rows, and weight 0 that of absent ones."""
    X, y = data
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))
    estimator = LinearRegressor if y.dtype.kind == "f" else LinearClassifier
    # Not Adam: it scales a gradient that is zero but for rounding up to a whole step.
    model = estimator(batch_size="full", epochs=30, optimizer=optimizer, alpha=1e-2, random_state=0)
    weighted = clone(model).fit(X, y, sample_weight=weights)
    repeated = clone(model).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    tolerance = 1e-10 * np.abs(repeated.coef_).max()
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-8, atol=tolerance)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, rtol=1e-8, atol=tolerance)
    assert weighted.history_.last["loss"] == pytest.approx(repeated.history_.last["loss"], rel=1e-10)


def test_weights_count_in_mixed_tables_too():
    """A table with texts and gaps gives, with whole-number weights, the fit of repeated rows."""
    frame, y = mixed_frame()
    weights = np.random.default_rng(0).integers(0, 3, size=len(y))
    model = LinearClassifier(batch_size="full", optimizer="sgd", epochs=30, random_state=0)
    weighted = clone(model).fit(frame, y, sample_weight=weights)
    repeated = clone(model).fit(frame.loc[np.repeat(frame.index, weights)], np.repeat(y, weights))
    np.testing.assert_allclose(weighted.predict_proba(frame), repeated.predict_proba(frame), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_rows_of_weight_zero_are_absent_at_any_batch_size(batch_size):
    """Rows of weight 0 leave what their absence leaves, but for the rounding of sums."""
    X, y = CANCER
    weights = (np.random.default_rng(0).random(len(X)) < 0.7).astype(float)
    model = LinearClassifier(batch_size=batch_size, optimizer="sgd", epochs=2, random_state=0)
    with_them = clone(model).fit(X, y, sample_weight=weights)
    without = clone(model).fit(X[weights > 0], y[weights > 0])
    np.testing.assert_allclose(with_them.coef_, without.coef_, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["auto", "sgd", "saga"])
def test_a_batch_of_more_than_the_rows_is_every_row(optimizer, tmp_path):
    """As in scikit-learn's networks such a batch size is the full batch's; ``batch_size_`` says what was taken."""
    X, y = IRIS
    how = {"optimizer": optimizer, "epochs": 20, "random_state": 0}
    large = LinearClassifier(batch_size=200, **how).fit(X, y)
    whole = LinearClassifier(batch_size=150, **how).fit(X, y)
    np.testing.assert_array_equal(large.coef_, whole.coef_)
    assert (large.batch_size, large.batch_size_) == (200, 150)
    assert load(large.save(tmp_path / "m.descend")).batch_size_ == 150
    assert LinearClassifier(batch_size=32, **how).fit(X, y).batch_size_ == 32


def test_weights_have_no_scale():
    """All weights times a constant change nothing."""
    X, y = CANCER
    weights = np.random.default_rng(0).uniform(0.1, 3.0, size=len(X))
    one, other = (LinearClassifier(**EXACT).fit(X, y, sample_weight=f * weights) for f in (1.0, 1e6))
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-7)


def test_class_weight_is_a_sample_weight():
    """Balanced weights and a dict are scikit-learn's weights n / (K · n_c), and w_c, for each row of class c."""
    X, y = CANCER
    counts = np.bincount(y)
    for class_weight, of_class in (
        ("balanced", len(y) / (2 * counts)),
        ({0: 3.0, 1: 0.5}, np.array([3.0, 0.5])),
    ):
        by_class = LinearClassifier(**EXACT, class_weight=class_weight).fit(X, y)
        by_row = LogisticRegression(C=1 / (len(X) * 1e-2), tol=1e-12, max_iter=10_000)
        scaled = StandardScaler().fit_transform(X)
        by_row.fit(scaled, y, sample_weight=of_class[y] / of_class[y].mean())
        np.testing.assert_allclose(
            by_class.decision_function(X), by_row.decision_function(scaled), rtol=1e-4, atol=1e-4
        )


# --- labels and tables -----------------------------------------------------------------------------

LABELS = {
    "strings": np.array(["setosa", "versicolor", "virginica"])[IRIS[1]],
    "objects": np.array(["b", "a", "c"], dtype=object)[IRIS[1]],
    "integers": IRIS[1] * 10 - 7,
    "booleans": IRIS[1] > 0,
    "floats": np.array([0.0, 1.0, 2.0])[IRIS[1]],
    "two strings": np.array(["no", "yes"])[(IRIS[1] > 0).astype(int)],
    "two integers": np.array([-1, 1])[(IRIS[1] > 0).astype(int)],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_come_back_as_they_came(name, tmp_path):
    """Predictions have the labels' own values and type; a saved model predicts equal labels and probabilities."""
    X, y = IRIS[0], LABELS[name]
    model = LinearClassifier(random_state=0).fit(X, y)
    predicted = model.predict(X)
    assert predicted.dtype.kind == y.dtype.kind
    assert set(predicted.tolist()) <= set(y.tolist())
    assert (predicted == y).mean() > 0.95
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    again = load(model.save(tmp_path / "m.descend"))
    assert isinstance(again, LinearClassifier)
    assert again.predict(X).tolist() == predicted.tolist()
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.classes_.tolist() == model.classes_.tolist()
    assert again.score(X, y) == model.score(X, y)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"versicolor": 3, "setosa": 2.5}])
@pytest.mark.parametrize("by_blocks", [False, True])
def test_a_loaded_estimator_is_set_as_the_saved_one_was(class_weight, by_blocks, tmp_path):
    """Every setting that shapes objective or steps comes back from a model file, and trains the same again."""
    X, y = IRIS[0], np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]
    settings = {
        "fit_intercept": False,
        "standardize": False,
        "optimizer": "momentum",
        "momentum": np.float64(0.5),
        "average": np.True_,
        "batch_size": 16,
        "epochs": 7,
        "tol": 1e-2,
        "n_iter_no_change": 3,
        "shuffle": False,
        "penalty": "elasticnet",
        "class_weight": class_weight,
    }
    model = LinearClassifier(random_state=0, **settings)
    if by_blocks:
        counts = dict.fromkeys(np.unique(y), 50)
        model.partial_fit(X, y, classes=counts)
    else:
        model.fit(X, y)
    again = load(model.save(tmp_path / "m.descend"))
    params = again.get_params()
    assert {name: params[name] for name in settings} == settings
    model.fit(X, y)
    np.testing.assert_array_equal(again.set_params(random_state=0).fit(X, y).coef_, model.coef_)
    assert not again.intercept_.any()


def test_an_ending_schedule_can_be_trained_again_from_a_file(tmp_path):
    """A schedule that has to know the number of epochs finds it in the model file."""
    model = LinearRegressor(random_state=0, optimizer="sgd", schedule="cosine", epochs=5).fit(*DIABETES)
    again = load(model.save(tmp_path / "m.descend")).set_params(random_state=0).fit(*DIABETES)
    np.testing.assert_array_equal(again.coef_, model.coef_)


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_a_saved_regression_predicts_the_same(num_outputs, tmp_path):
    """A loaded regressor has equal predictions, shapes and attributes."""
    X, y = DIABETES
    Y = y if num_outputs == 1 else np.stack([y, -y], axis=1)
    model = LinearRegressor(random_state=0).fit(X, Y)
    again = load(model.save(tmp_path / "m.descend"))
    assert isinstance(again, LinearRegressor)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.coef_, model.coef_)
    assert (again.n_iter_, again.n_features_in_) == (model.n_iter_, model.n_features_in_)
    assert again.history_.last == model.history_.last


def mixed_frame(n=200):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "colour": rng.choice(["red", "green", "blue"], size=n),
            "old": rng.random(size=n) < 0.5,
            "gap": np.where(rng.random(size=n) < 0.2, np.nan, rng.normal(size=n)),
        }
    )
    y = (frame["size"] + (frame["colour"] == "red") * 2 - frame["old"] > 0.3).to_numpy()
    return frame, y


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas], ids=["pandas", "polars"])
def test_mixed_tables_are_encoded(make, tmp_path):
    """Texts, booleans and gaps of a table are learnt from; a saved model predicts the same from the table."""
    frame, y = mixed_frame()
    table = make(frame)
    model = LinearClassifier(random_state=0).fit(table, y)
    assert model.score(table, y) > 0.95
    assert list(model.feature_names_in_) == ["size", "colour", "old", "gap"]
    assert model.n_features_in_ == 4
    again = load(model.save(tmp_path / "m.descend"))
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    turned = make(frame[["old", "gap", "colour", "size"]])
    np.testing.assert_array_equal(model.predict_proba(turned), model.predict_proba(table))


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas], ids=["pandas", "polars"])
def test_tables_of_numbers_are_matrices_with_names(make, tmp_path):
    """A table of numbers is learnt as its array is; its names are kept, and a wrong order is refused."""
    X, y = DIABETES
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(10)])
    model = LinearRegressor(random_state=0).fit(make(frame), y)
    np.testing.assert_allclose(
        model.predict(make(frame)), LinearRegressor(random_state=0).fit(X, y).predict(X)
    )
    assert list(model.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match=r"(?i)feature names"):
        model.predict(make(frame[frame.columns[::-1]]))
    again = load(model.save(tmp_path / "m.descend"))
    np.testing.assert_array_equal(again.predict(make(frame)), model.predict(make(frame)))
    assert list(again.feature_names_in_) == list(frame.columns)


# --- scikit-learn's machinery ----------------------------------------------------------------------


def test_columns_that_the_model_does_not_read_may_be_anything():
    """A table to predict may have further columns, lists too: of those that were not trained on nothing is asked."""
    frame, y = mixed_frame()
    model = LinearClassifier(random_state=0).fit(frame, y)
    more = frame.assign(words=[["a", "b"]] * len(frame), number=np.inf)
    np.testing.assert_array_equal(model.decision_function(more), model.decision_function(frame))
    with pytest.raises(InputError, match=r"lacks columns? 'size'"):
        model.predict(frame.assign(number=np.inf).drop(columns="size"))


def test_sparse_columns_of_pandas_are_a_sparse_matrix_with_names():
    """A table of sparse columns is learnt as its CSR matrix is, and keeps its names."""
    X, y = np.random.default_rng(0).poisson(0.3, size=(200, 4)), np.arange(200) % 2
    for kind in (np.float32, np.int8):
        frame = pd.DataFrame(X.astype(kind), columns=list("abcd")).astype(pd.SparseDtype(kind, 0))
        model = LinearClassifier(random_state=0).fit(frame, y)
        assert list(model.feature_names_in_) == list("abcd")
        assert model.model_.features.takes_sparse
        matrix = frame.sparse.to_coo().tocsr()
        plain = LinearClassifier(random_state=0).fit(matrix, y)
        scores = plain.decision_function(matrix)
        np.testing.assert_allclose(model.decision_function(frame), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_names_that_look_counted_are_a_tables_own(tmp_path):
    """A saved model of columns called x0, x1 … takes their table without a word; an array's has no names."""
    X, y = DIABETES
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(10)])
    again = load(LinearRegressor(random_state=0).fit(frame, y).save(tmp_path / "m.descend"))
    assert list(again.feature_names_in_) == list(frame.columns)
    again.predict(frame)
    plain = load(LinearRegressor(random_state=0).fit(X, y).save(tmp_path / "plain.descend"))
    assert not hasattr(plain, "feature_names_in_")
    plain.predict(X)


@pytest.mark.parametrize("make", [LinearRegressor, MLPRegressor])
def test_a_saved_regression_of_one_column_predicts_one_column(make, tmp_path):
    """``y`` (n, 1) gives predictions (n, 1), as in scikit-learn, also out of a file."""
    X, y = DIABETES
    model = make(random_state=0, epochs=3).fit(X, y[:, None])
    again = load(model.save(tmp_path / "m.descend"))
    assert model.predict(X).shape == (len(X), 1)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_settings_may_be_numpys_own(tmp_path):
    """Parameters out of an array, as a search over a grid gives them, train and are saved as Python's own."""
    given = {"fit_intercept": np.bool_(True), "standardize": np.bool_(True), "alpha": np.float32(0.5)}
    model = LinearClassifier(random_state=0, **given).fit(*CANCER)
    plain = LinearClassifier(random_state=0, fit_intercept=True, standardize=True, alpha=0.5).fit(*CANCER)
    paths = [m.save(tmp_path / f"{i}.descend") for i, m in enumerate((model, plain))]
    assert [load(path).fit_intercept for path in paths] == [True, True]
    np.testing.assert_array_equal(load(paths[0]).coef_, plain.coef_)


def test_pickle_and_clone():
    """A pickled estimator predicts the same, a clone has the same parameters and is not fitted."""
    X, y = IRIS
    model = LinearClassifier(batch_size=8, random_state=0, class_weight={0: 2.0}).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_grid_search_over_batch_sizes_in_a_pipeline():
    """A grid search over batch size and optimizer runs in a pipeline and finds a good model."""
    pipeline = make_pipeline(StandardScaler(), LinearClassifier(random_state=0))
    grid = {"linearclassifier__batch_size": [1, 32, "full"], "linearclassifier__alpha": [1e-4, 1e-1]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(*CANCER)
    assert search.best_score_ > 0.96
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("data", [IRIS, CANCER, DIABETES], ids=["iris", "cancer", "diabetes"])
def test_warm_start_goes_on(data):
    """With warm_start ten epochs and ten more are twenty, for an optimizer without memory."""
    X, y = data
    estimator = LinearRegressor if y.dtype.kind == "f" else LinearClassifier
    settings = {"batch_size": "full", "optimizer": "sgd", "random_state": 0}
    twice = estimator(epochs=10, warm_start=True, **settings).fit(X, y)
    between = twice.history_.last["loss"]
    twice.fit(X, y)
    assert twice.history_["loss"][0] == pytest.approx(between, rel=1e-9)
    whole = estimator(epochs=20, **settings).fit(X, y)
    np.testing.assert_allclose(twice.coef_, whole.coef_, rtol=1e-6, atol=1e-9 * np.abs(whole.coef_).max())
    cold = estimator(epochs=10, **settings).fit(X, y)
    assert np.abs(cold.coef_ - whole.coef_).max() > 1e-4 * np.abs(whole.coef_).max()


def test_warm_start_with_other_columns_begins_anew():
    """Where the shapes no longer fit, a warm start is a cold one."""
    X, y = IRIS
    model = LinearClassifier(warm_start=True, epochs=2, random_state=0).fit(X, y)
    model.fit(X[:, :2], y)
    assert model.history_["loss"][0] == pytest.approx(np.log(3))


def test_early_stopping_sets_rows_aside():
    """With early stopping validation losses are recorded, a share of the rows is held out, and less is trained on."""
    X, y = CANCER
    model = LinearClassifier(early_stopping=True, validation_fraction=0.3, random_state=0).fit(X, y)
    assert model.history_.last["validation_loss"] is not None
    assert 0.2 < model.model_.summary["validation_rows"] / len(X) < 0.4
    assert LinearClassifier(random_state=0).fit(X, y).history_.last["validation_loss"] is None


def test_n_iter_counts_epochs():
    """``n_iter_`` is the number of epochs that were asked for, as an int."""
    model = LinearClassifier(optimizer="sgd", epochs=7, random_state=0).fit(*CANCER)
    assert model.n_iter_ == 7
    assert isinstance(model.n_iter_, int)
    assert len(model.history_.to_frame()) == len(model.history_)


def test_tables_that_are_none_are_told_what_to_give():
    """A column of two types, one column alone, a name for y, and no rows: each with what is wrong in X or y."""
    frame, y = mixed_frame()
    model = LinearClassifier(random_state=0).fit(frame, y)
    for make in (LinearClassifier, MLPClassifier):
        with pytest.raises(
            InputError, match=r"X cannot be read as a table: .*column size .*; give every column one type"
        ):
            make().fit(frame.assign(size=[1, "x"] * (len(frame) // 2)), y)
        with pytest.raises(InputError, match=r"X is one column \(Series\), .* give X.to_frame\(\)"):
            make().fit(frame["size"], y)
        with pytest.raises(InputError, match=r"fit\(X.drop\(columns='old'\), X\['old'\]\)"):
            make().fit(frame, "old")
    with pytest.raises(InputError, match=r"X has 0 sample\(s\)"):
        model.predict(frame.iloc[:0])


# --- ends that need a word -------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
@pytest.mark.parametrize("rate", [1e-8, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("batch_size", [1, 32, "full"])
def test_raw_columns_at_any_rate_never_predict_nonsense(estimator, rate, batch_size):
    """Unscaled columns at any rate: finite coefficients and predictions, and a warning that names the column."""
    X, y = CANCER
    model = estimator(standardize=False, batch_size=batch_size, optimizer="sgd", learning_rate=rate, epochs=3,
                      random_state=0)  # fmt: skip
    told = "slow: .*" if rate == 1e-8 else "diverged: learning rate .* bound .* "
    with pytest.warns(ConvergenceWarning, match=told + r"column 'x(3|23)'"):
        model.fit(X, y)
    assert np.isfinite(model.coef_).all()
    assert np.abs(model.coef_).max() < 1e6
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("standardize", [True, False])
def test_a_fit_that_still_gains_is_advised_what_it_has_not_got(standardize):
    """Epochs without end are told; columns that are scaled already are not advised to be."""
    X, y = IRIS
    model = LinearClassifier(
        standardize=standardize, optimizer="sgd", learning_rate=1e-5, tol=1e-9, random_state=0
    )
    with pytest.warns(ConvergenceWarning) as told:
        model.fit(X, y)
    texts = [str(one.message) for one in told if "still gaining" in str(one.message)]
    assert [text.endswith("to go on longer, or standardize=True") for text in texts] == [not standardize]


@pytest.mark.parametrize("alpha", [1e-5, 1e-6])
def test_a_bound_that_is_small_enough_certifies_the_last_epoch(alpha, recwarn):
    """Modified Huber's steps get no estimate on the way: where the bound says so at the end, it is the optimum."""
    X, y = CANCER
    model = LinearClassifier(loss="modified_huber", alpha=alpha, random_state=0).fit(X, y)
    history = model.history_
    assert (history.stopped, history.rule) == ("converged", "certified")
    assert history.gap_bound <= 0.5e-3 * (history["loss"][0] - history.last["loss"])
    assert not recwarn.list
    cut = LinearClassifier(loss="modified_huber", alpha=alpha, epochs=20, random_state=0).fit(X, y)
    assert cut.history_.stopped == "epochs"


def test_ctrl_c_leaves_a_fitted_estimator():
    """KeyboardInterrupt goes on to the caller, and the estimator predicts with what was learnt."""

    def press(observation):
        if observation.epoch >= 3:
            raise KeyboardInterrupt

    model = LinearClassifier(optimizer="sgd", epochs=1000, random_state=0, callbacks=[press])
    with pytest.raises(KeyboardInterrupt):
        model.fit(*CANCER)
    assert model.score(*CANCER) > 0.9
    assert model.history_.stopped == "interrupted"


@pytest.mark.parametrize("place", ["estimator.prepare", "linear.run_fit"])
@pytest.mark.parametrize("pressed", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_before_training_keeps_the_last_model(place, pressed, monkeypatch):
    """Interrupted while rows are prepared, a refit on other rows and classes leaves the fitted model whole."""
    X, y = IRIS
    model = LinearClassifier(random_state=0).fit(X, y)
    before = {name: repr(value) for name, value in vars(model).items()}

    def press(*args, **kwargs):
        raise pressed

    monkeypatch.setattr(f"descend.estimators.{place}", press)
    with pytest.raises(pressed):
        model.fit(*CANCER)
    assert {name: repr(value) for name, value in vars(model).items()} == before
    assert model.score(X, y) > 0.9


def test_ctrl_c_in_a_block_keeps_the_last_model(monkeypatch):
    """An interrupted first block leaves no classes behind, and the next call is again the first."""
    model = LinearClassifier(random_state=0)

    def press(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("descend.estimators.blocks.add_rows", press)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(*IRIS, classes=[0, 1, 2])
    assert not hasattr(model, "classes_")
    assert model.partial_fit(*CANCER, classes=[0, 1]).classes_.tolist() == [0, 1]


def test_a_callback_that_stops_raises_nothing():
    """A callback's True ends ``fit`` without an exception."""
    model = LinearClassifier(optimizer="sgd", epochs=1000, random_state=0, callbacks=[lambda o: o.epoch >= 3])
    assert model.fit(*CANCER).n_iter_ == 3


def test_verbose_prints_and_quiet_does_not(capsys):
    """Nothing is printed by default; ``verbose`` prints a line for each look."""
    LinearClassifier(epochs=2, random_state=0).fit(*IRIS)
    assert capsys.readouterr().out == ""
    LinearClassifier(epochs=2, random_state=0, verbose=1).fit(*IRIS)
    assert "epoch 0.00  loss 1.0986" in capsys.readouterr().out


BAD = [
    ("batch_size", 0),
    ("batch_size", -4),
    ("batch_size", "many"),
    ("batch_size", 1.5),
    ("learning_rate", -1),
    ("learning_rate", float("nan")),
    ("learning_rate", "fast"),
    ("epochs", 0),
    ("epochs", 1.5),
    ("loss", "hinge_loss"),
    ("optimizer", "sgdd"),
    ("penalty", "l5"),
    ("alpha", -1.0),
    ("schedule", "linear"),
    ("momentum", 1.0),
    ("reduction", "max"),
    ("tol", -1.0),
    ("n_iter_no_change", 0),
    ("average", "sometimes"),
    ("n_jobs", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
@pytest.mark.parametrize("estimator", [LinearClassifier, LinearRegressor])
def test_bad_parameters_are_named(estimator, name, value):
    """A parameter that cannot be used raises ValueError with its name and leaves nothing fitted."""
    model = estimator(**{name: value})
    said = {"n_jobs": "threads", "batch_size": "batch size"}.get(name, name)
    with pytest.raises(ValueError, match=said):
        model.fit(*IRIS)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_impossible_validation_shares_are_refused(share):
    """A validation share outside [0, 1) raises ValueError."""
    with pytest.raises(ValueError, match="validation"):
        LinearClassifier(early_stopping=True, validation_fraction=share).fit(*IRIS)


@pytest.mark.parametrize("class_weight", ["even", {0: -1.0}, {"absent": 1.0}, 3])
def test_impossible_class_weights_are_refused(class_weight):
    """A class weight that is no dict of classes raises ValueError naming it."""
    with pytest.raises(ValueError, match="class_weight"):
        LinearClassifier(class_weight=class_weight).fit(*IRIS)


def test_one_class_only_is_refused():
    """A target with one class raises ValueError that says so."""
    with pytest.raises(ValueError, match="one class"):
        LinearClassifier().fit(IRIS[0], np.zeros(150))


def test_an_error_in_fit_keeps_the_last_model():
    """A refused refit leaves the fitted model as it was."""
    X, y = IRIS
    model = LinearClassifier(random_state=0).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="batch size"):
        model.set_params(batch_size=0).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
