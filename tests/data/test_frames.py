"""Films of moving digits."""

import numpy as np
import pytest

from unrolled.data.frames import SIDE, Films, moving_digits
from unrolled.errors import InputError
from unrolled.settings import Settings


def places(films):
    """Where the one white pixel of each frame is: (T, B, 2)."""
    return np.stack([np.argwhere(film[:, 0]).reshape(-1, 3)[:, 1:] for film in films])


def test_digits_move_straight_on_and_bounce(monkeypatch):
    monkeypatch.setattr("unrolled.data.frames.DIGITS", 1)
    dot = np.zeros((1, 8, 8))
    dot[0, 2, 3] = 1
    films = moving_digits(40, 30, np.random.default_rng(0), dot)
    assert films.shape == (40, 30, 1, SIDE, SIDE)
    assert (films.sum((2, 3, 4)) == 1).all()
    at = places(films)
    step = np.diff(at, axis=0)
    assert (np.abs(step) <= 1).all()
    assert (np.abs(step) == np.abs(step[:1])).all()  # the speed turns, but is never another
    low, high = np.array([2, 3]), np.array([2, 3]) + SIDE - 8
    turned = step[1:] != step[:-1]
    assert (((at == low) | (at == high))[1:-1][turned]).all()
    assert turned.any()
    assert ((at >= low) & (at <= high)).all()


def test_the_seed_decides():
    one, same, other = (moving_digits(3, 4, np.random.default_rng(n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert 0 <= one.min() < one.max() <= 1


def test_next_frames():
    films = Films.prepare(Settings.from_flags("forecast", {"length": 5, "batch_size": 6}))
    batch = films.batch(0, slice(2, 6))
    assert batch.x.shape == (5, 4, 1, 16, 16)
    np.testing.assert_array_equal(batch.x[1:], batch.y[:-1])
    np.testing.assert_array_equal(batch.x, films.batch(0, slice(None)).x[:, 2:])
    assert films.baselines(batch, {})["last_frame"] is batch.x


@pytest.mark.parametrize("shape", [(16, 16), (0, 16, 16), (3, 8, 8)])
def test_a_film_of_another_shape(tmp_path, shape):
    np.save(tmp_path / "film.npy", np.zeros(shape))
    films = Films.prepare(Settings.from_flags("forecast", {}))
    with pytest.raises(InputError, match="a film is"):
        films.asked(str(tmp_path / "film.npy"))
    with pytest.raises(InputError, match=r"nowhere\.npy"):
        films.asked(str(tmp_path / "nowhere.npy"))
