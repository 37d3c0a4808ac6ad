"""Estimators with ``checkpoint``: the same call goes on with the run that was ended."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from descend import LinearClassifier, LinearRegressor, MLPClassifier
from descend.checkpoint import Checkpoint
from descend.errors import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1500, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] ** 2 + RNG.normal(size=len(X)) > 1).astype(int)


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed_after(saves: int, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits until so many checkpoints are written."""
    save, count = Checkpoint.save, 0

    def save_and_die(self: Checkpoint, *args: Any, **named: Any) -> None:
        nonlocal count
        save(self, *args, **named)
        count += 1
        if count == saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "is_due", lambda self: True)
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(Killed):
            model.fit(X, y)


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: LinearClassifier(batch_size=16, optimizer="sgd", random_state=3, **more),
        lambda **more: LinearRegressor(batch_size=16, tol=1e-9, random_state=3, **more),
        lambda **more: MLPClassifier((8,), epochs=5, class_weight="balanced", random_state=3, **more),
    ],
)
def test_the_same_fit_goes_on(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and called again, ``fit`` ends with the predictions of one that was not; a third call trains no more."""
    whole = make().fit(X, y)
    model = make(checkpoint=tmp_path / "run")
    killed_after(2, model, monkeypatch)
    again = clone(model).fit(X, y)
    assert again.model_.parameters.tobytes() == whole.model_.parameters.tobytes()
    assert again.history_.last["updates"] == whole.history_.last["updates"]
    monkeypatch.setattr("descend.watching.Watch.parts", lambda *_: pytest.fail("it trains"))
    third = clone(model).fit(X, y)
    assert third.model_.parameters.tobytes() == whole.model_.parameters.tobytes()


def test_a_seed_that_was_drawn_is_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no ``random_state`` a run goes on with the seed that it drew."""
    model = LinearClassifier(batch_size=16, optimizer="sgd", epochs=4, checkpoint=tmp_path)
    killed_after(2, model, monkeypatch)
    model.fit(X, y)
    assert model.history_.last["epoch"] == 4


def test_other_rows_and_parameters_are_refused(tmp_path: Path) -> None:
    """A search or a cross-validation in one folder is refused by name instead of mixing runs up."""
    model = LinearClassifier(random_state=0, checkpoint=tmp_path).fit(X, y)
    with pytest.raises(InputError, match=r"alpha 0\.0001, this one has 0\.1"):
        clone(model).set_params(alpha=0.1).fit(X, y)
    with pytest.raises(InputError, match="data of 1,500 rows, these are 1,200"):
        cross_val_score(clone(model), X, y, cv=5, error_score="raise")


def test_data_of_another_size_are_named_before_what_follows_from_them(
    tmp_path: Path,
) -> None:
    """A network holds rows out where there are enough: the data are at fault then, and no setting."""
    model = MLPClassifier((3,), random_state=0, callbacks=[lambda seen: True], checkpoint=tmp_path)
    model.fit(X[:200], y[:200])
    with pytest.raises(InputError, match=r"data of 200 rows, these are 1,500"):
        clone(model).fit(X, y)
