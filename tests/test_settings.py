"""Settings: what is understood, what is refused and with which words, and the fixed rules."""

import numpy as np
import pytest

from descend.batches import check_batch_size
from descend.errors import InputError
from descend.settings import Settings, default_batch_size, default_optimizer, most_epochs, whole_number

NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_accepted():
    """Settings with nothing set are checked without complaint and stay what they were."""
    assert Settings().checked() == Settings()


@pytest.mark.parametrize(
    ("name", "value", "understood"),
    [
        ("learning_rate", "0.5", 0.5),
        ("learning_rate", 1, 1.0),
        ("learning_rate", np.float32(0.5), 0.5),
        ("learning_rate", 1e300, 1e300),
        ("learning_rate", "auto", "auto"),
        ("alpha", 0, 0.0),
        ("alpha", "1e-3", 1e-3),
        ("epochs", "20", 20),
        ("epochs", np.int64(3), 3),
        ("seconds", "2.5", 2.5),
        ("tol", 0, 0.0),
        ("tol", None, None),
        ("batch_size", "32", 32),
        ("batch_size", "FULL", "full"),
        ("momentum", 0, 0.0),
        ("seed", 2**40, 2**40),
        ("threads", "2", 2),
        ("schedule", "invscaling", "invscaling"),
        ("penalty", None, None),
    ],
)
def test_what_is_understood(name, value, understood):
    """Numbers may come as text or NumPy scalars and leave as plain numbers."""
    checked = getattr(Settings(**{name: value}).checked(), name)
    assert checked == understood
    assert type(checked) is type(understood)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "hinge_"),
        ("loss", ""),
        ("penalty", "l7"),
        ("alpha", -1e-12),
        ("alpha", NAN),
        ("alpha", INF),
        ("alpha", "much"),
        ("alpha", None),
        ("alpha", True),
        ("batch_size", 0),
        ("batch_size", -4),
        ("batch_size", "many"),
        ("batch_size", 2.0),
        ("batch_size", None),
        ("optimizer", "adm"),
        ("optimizer", None),
        ("learning_rate", -1),
        ("learning_rate", 0),
        ("learning_rate", NAN),
        ("learning_rate", INF),
        ("learning_rate", "fast"),
        ("learning_rate", True),
        ("learning_rate", None),
        ("learning_rate", [0.1]),
        ("schedule", "cosine"),
        ("schedule", "linear"),  # without epochs
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("momentum", NAN),
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("epochs", "ten"),
        ("epochs", True),
        ("seconds", 0),
        ("seconds", -5.0),
        ("seconds", NAN),
        ("tol", -1.0),
        ("tol", "x"),
        ("n_iter_no_change", 0),
        ("average", "yes"),
        ("average", 10),
        ("reduction", "median"),
        ("seed", -1),
        ("seed", 1.5),
        ("threads", 0),
        ("threads", -2),
        ("threads", "all"),
    ],
)
def test_what_is_refused(name, value):
    """Each impossible setting is refused in one line that names it, its value and what is accepted."""
    with pytest.raises(InputError) as caught:
        Settings(**{name: value}).checked()
    message = str(caught.value)
    said = {"seconds": "time", "batch_size": "batch size"}.get(name, name)
    assert said in message
    assert "\n" not in message
    assert len(message) < 250
    if isinstance(value, str) or (isinstance(value, (int, float)) and value == value and abs(value) < INF):
        assert str(value) in message or f"{value:g}" in message
    accepted = ("needed", "choose one of", "at most", "set epochs")
    assert any(words in message for words in accepted)


def test_linear_decay_is_accepted_with_epochs():
    """The linear schedule is accepted once it is known where it ends."""
    assert Settings(schedule="linear", epochs=3).checked().epochs == 3


def test_checked_settings_check_again():
    """Checking twice is checking once."""
    once = Settings(learning_rate="0.5", epochs="3", batch_size="7", seconds="2").checked()
    assert once.checked() == once


def test_a_refused_text_cannot_write_to_the_terminal():
    """Escapes and long values are cut and shown, never sent."""
    for name in ("loss", "optimizer", "learning_rate", "epochs", "schedule", "reduction"):
        with pytest.raises(InputError) as caught:
            Settings(**{name: "\x1b[2J" + "x" * 10_000}).checked()
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("num_rows", "size"), [(2, "full"), (256, "full"), (257, 32), (10**7, 32)])
def test_the_automatic_batch_size(num_rows, size):
    """Every row up to 256 rows, 32 above, and the reason says that nothing was measured."""
    chosen, reason = default_batch_size(num_rows)
    assert chosen == size
    assert check_batch_size(chosen, num_rows) == size
    assert "not measured" in reason


def test_the_automatic_optimizer():
    """Momentum goes with the full batch alone."""
    assert (default_optimizer(True), default_optimizer(False)) == ("nesterov", "sgd")


@pytest.mark.parametrize(
    ("num_rows", "epochs"), [(2, 20_000), (500, 20_000), (1000, 10_000), (10_000, 1000), (10**8, 1000)]
)
def test_the_most_epochs(num_rows, epochs):
    """A run is given up after ten million visits, but between 1,000 and 20,000 epochs."""
    assert most_epochs(num_rows) == epochs


def test_whole_numbers():
    """Texts and NumPy integers count as whole numbers, booleans and fractions do not."""
    assert whole_number("k", np.int8(3), at_least=0) == 3
    for value in (True, 1.0, "1.0", None, [1]):
        with pytest.raises(InputError, match="k is"):
            whole_number("k", value, at_least=0)
