"""Series of numbers: windows, held-out parts, covariates, folds and baselines."""

import numpy as np
import pytest

from unrolled.data.series import MOST_STARTS, Series
from unrolled.data.splits import drawn
from unrolled.errors import InputError
from unrolled.settings import Settings


def write(path, values, names=("a", "b")):
    rows = "".join(",".join(map(repr, row)) + "\n" for row in values.tolist())
    path.write_text(",".join(names) + "\n" + rows, "utf-8")
    return str(path)


def prepare(source, **flags):
    settings = Settings.from_flags("forecast", {"source": (source,), "window": 10, **flags})
    return Series.prepare(settings)


@pytest.fixture
def walk():
    steps = np.random.default_rng(0).standard_normal((400, 2))
    return steps.cumsum(0) + np.array([3, -5])


def test_a_column_that_is_not_there(tmp_path, walk):
    with pytest.raises(InputError, match="no column 'c'; it has a, b"):
        prepare(write(tmp_path / "s.csv", walk), columns="c")


def test_scaled_by_the_training_part_alone(tmp_path, walk):
    walk[320:] += 1000
    source = prepare(write(tmp_path / "s.csv", walk), split="0.8,0.1,0.1")
    np.testing.assert_allclose(source.mean, walk[:320].mean(0))
    np.testing.assert_allclose(source.values[:320].std(0), 1)
    assert source.values[320:].min() > 50


@pytest.mark.parametrize("horizon", [1, 7])
def test_targets_lie_ahead_and_parts_do_not_overlap(tmp_path, walk, horizon):
    source = prepare(write(tmp_path / "s.csv", walk), split="0.8,0.1,0.1", horizon=horizon)
    whole = source.values
    ahead = np.stack([whole[1 + h : 401 - horizon + h] for h in range(horizon)], -1)
    windows = source.batch(3, slice(None))
    assert windows.x.shape == (10, 32, 2)
    for row in range(32):
        (start,) = np.flatnonzero((whole == windows.x[0, row]).all(1))
        np.testing.assert_array_equal(windows.x[:, row], whole[start : start + 10])
        np.testing.assert_array_equal(windows.y[:, row], ahead[start : start + 10])
        assert start + horizon + 10 <= 320
    for split, (start, stop) in {"validation": (320, 360), "test": (360, 400)}.items():
        (part,) = source.held_out(split)
        origins = slice(start - 1, stop - horizon)
        np.testing.assert_array_equal(part.x[part.judged], whole[origins])
        np.testing.assert_array_equal(part.y[part.judged], ahead[origins])
        assert part.judged[:31].sum() == 0


def test_a_process_reads_its_own_rows(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), batch_size=8)
    whole, part = source.batch(5, slice(0, 8)), source.batch(5, slice(6, 8))
    np.testing.assert_array_equal(part.x, whole.x[:, 6:])
    assert (source.batch(6, slice(0, 8)).x != whole.x).any()


def test_recursive_forecasts_are_judged_from_some_starts(tmp_path, walk):
    walk = np.tile(walk, (5, 1))
    source = prepare(write(tmp_path / "s.csv", walk), split="0.5,0,0.5", horizon=3, recursive=True)
    assert source.ahead == 1
    (part,) = source.held_out("test")
    assert part.judged.sum() == MOST_STARTS
    steps = np.flatnonzero(part.judged[:, 0])
    for ahead in (1, 2, 3):
        later = part.x[steps[:-1] + ahead]
        np.testing.assert_array_equal(part.y[steps[:-1], ..., ahead - 1], later)


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_linear_baseline_is_exact_for_a_linear_series(tmp_path, horizon):
    x = np.zeros((600, 1))
    x[:2] = 1
    for t in range(2, 600):  # a slow oscillation, which two lags describe
        x[t] = 1.9 * x[t - 1] - x[t - 2]
    source = prepare(write(tmp_path / "s.csv", x, ["a"]), split="0.8,0.1,0.1", horizon=horizon)
    (part,) = source.held_out("test")
    told = source.baselines(part, source.fit_baselines())
    assert list(told) == ["persistence", "seasonal_naive", "linear", "training_mean"]
    np.testing.assert_allclose(told["linear"][part.judged], part.y[part.judged], atol=1e-6)
    np.testing.assert_array_equal(told["persistence"][..., -1], part.x)
    np.testing.assert_allclose(
        told["training_mean"], source.values[: 480 - horizon].mean(), atol=0.1
    )


def test_told_in_the_units_of_the_data(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), horizon=3)
    told = source.told(source.values[:3].T)
    np.testing.assert_allclose(told["b"], walk[:3, 1])
    again = Series.restore(source.settings, source.to_json())
    np.testing.assert_allclose(again.told(source.values[:3].T)["a"], told["a"])


def test_seasons_are_those_of_the_time_column_or_of_the_series(tmp_path, walk):
    path = tmp_path / "s.csv"
    hours = np.datetime64("2020-01-01T00") + np.arange(400)
    rows = "".join(f"{hour},{a!r}\n" for hour, a in zip(hours, walk[:, 0].tolist(), strict=True))
    path.write_text("date,a\n" + rows)
    assert prepare(str(path)).season == 24
    assert prepare(str(path), season=7).season == 7
    wave = np.stack([np.sin(np.arange(400) * 2 * np.pi / 17), walk[:, 0] * 0], 1)
    assert prepare(write(tmp_path / "t.csv", wave)).season == 17


def test_the_seasonal_naive_looks_a_whole_season_back(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), horizon=5, season=3, split="0.8,0.1,0.1")
    (part,) = source.held_out("test")
    told = source.baselines(part, {"mean": np.zeros((2, 5))})["seasonal_naive"]
    whole = source.values
    for row, step in enumerate(np.flatnonzero(part.judged[:, 0])):
        t = 359 + row
        expected = [whole[t + h - 3 * (1 + (h - 1) // 3)] for h in range(1, 6)]
        np.testing.assert_array_equal(told[step, 0].T, expected)


def test_what_is_known_ahead_is_read_ahead(tmp_path, walk):
    path = write(tmp_path / "s.csv", walk)
    source = prepare(path, targets="a", known="b", horizon=3, split="0.8,0.1,0.1")
    assert (source.inputs, source.outputs, source.shape) == (2 + 3, 1, (1, 3))
    (part,) = source.held_out("test")
    whole = source.values
    for row, step in enumerate(np.flatnonzero(part.judged[:, 0])):
        t = 359 + row
        np.testing.assert_array_equal(part.x[step, 0], [*whole[t], *whole[t + 1 : t + 4, 1]])
        np.testing.assert_array_equal(part.y[step, 0, 0], whole[t + 1 : t + 4, 0])
    assert set(source.told(np.zeros((1, 3)))) == {"a"}


def test_what_is_known_ahead_is_known_of_a_restored_series_too(tmp_path, walk):
    path = write(tmp_path / "s.csv", walk)
    source = prepare(path, targets="a", known="b", horizon=3)
    restored = Series.restore(source.settings, source.to_json())
    assert (restored.inputs, restored.outputs) == (source.inputs, source.outputs)
    (part,) = restored.other([path])
    assert part.x.shape[2] == source.inputs


def test_a_future_that_is_known_comes_with_the_question(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), targets="a", known="b", horizon=3)
    rows = [",".join(map(repr, row)) for row in walk[:50].tolist()]
    path = tmp_path / "ask.csv"
    path.write_text("\n".join(["a,b", *rows, ",7", ",8", ",9"]))
    asked = source.asked(str(path))
    assert asked.start == 49
    ahead = (np.array([7, 8, 9]) - source.mean[1]) / source.deviation[1]
    np.testing.assert_allclose(asked.x[49, 0, 2:], ahead)
    path.write_text("\n".join(["a,b", *rows, ",7"]))
    with pytest.raises(InputError, match=r"must tell b for 3 steps.*it does for 1"):
        source.asked(str(path))


def test_whether_it_rises(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), head="direction", horizon=2)
    assert source.binary
    batch = source.batch(0, slice(None))
    now = batch.x[:-1]
    np.testing.assert_array_equal(batch.y[:-1, ..., 0], batch.x[1:] > now)
    (part,) = source.held_out("test")
    told = source.baselines(part, source.fit_baselines())
    assert set(told) == {"persistence", "seasonal_naive", "linear", "majority"}
    moves = np.diff(part.x, axis=0) > 0
    np.testing.assert_array_equal(told["persistence"][1:, ..., 0], moves)
    share = (np.diff(source.values[: source.ends[0][1] - 1], axis=0) > 0).mean(0)
    np.testing.assert_allclose(told["majority"][0, 0, :, 0], share, atol=0.01)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_folds_roll_on_and_learn_from_all_before(tmp_path, walk, fold):
    path = write(tmp_path / "s.csv", walk)
    source = prepare(path, folds=3, fold=fold, split="0.7,0.1,0.2")
    stop = 400 - (2 - fold) * 80
    assert source.ends == [(0, stop - 120), (stop - 120, stop - 80), (stop - 80, stop)]
    np.testing.assert_allclose(source.mean, walk[: stop - 120].mean(0))


@pytest.mark.parametrize(
    ("flags", "context", "length"),
    [
        ({}, 1, 10),
        ({"scaling": "window"}, 10, 10),
        ({"model": "ar", "order": 5}, 5, 5),
        ({"model": "mlp", "order": 5, "scaling": "window"}, 5, 5),
    ],
)
def test_how_many_steps_a_forecast_is_made_from(tmp_path, walk, flags, context, length):
    source = prepare(write(tmp_path / "s.csv", walk), **flags)
    batch = source.batch(0, slice(None))
    assert len(batch.x) == length
    assert batch.judged.sum(0).tolist() == [length - context + 1] * 32


def test_scaling_none_leaves_the_numbers(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk), scaling="none")
    np.testing.assert_array_equal(source.values, walk)


def test_epochs_laid_end_to_end():
    places = [drawn(7, 0, 3, step, slice(None)) for step in range(7)]
    flat = [place for batch in places for place in batch]
    assert [sorted(flat[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert flat[:7] != flat[7:14]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"window": 500}, "--horizon need 501"),
        ({"horizon": 400}, "need 410"),
        ({"split": "0.999,0.0,0.001"}, "too few to split"),
        ({"horizon": 30, "split": "0.9,0.05,0.05"}, "20 are left for validation"),
        ({"targets": "c"}, "no column 'c' to forecast or to know; it has a, b"),
        ({"targets": "a", "known": "a"}, "a cannot be both"),
        ({"known": "a,b"}, "none is left to forecast"),
        ({"targets": "a", "recursive": True}, "b is neither forecast nor known ahead"),
        ({"folds": 2, "split": "0.9,0.1,0"}, "--folds takes a test part"),
    ],
)
def test_too_short(tmp_path, walk, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        prepare(write(tmp_path / "s.csv", walk), **flags)
