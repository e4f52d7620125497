"""Series of numbers: CSV files, windows, held-out parts and baselines."""

import numpy as np
import pytest

from unrolled.data.series import LAGS, MOST_STARTS, Series, read_columns
from unrolled.data.splits import drawn
from unrolled.errors import InputError
from unrolled.settings import DataSettings, Settings


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


def test_reads_all_columns_or_some(tmp_path, walk):
    source = write(tmp_path / "s.csv", walk)
    names, values = read_columns([source], DataSettings())
    assert names == ["a", "b"]
    np.testing.assert_array_equal(values, walk)
    names, values = read_columns([source], DataSettings(columns=("b",)))
    assert names == ["b"]
    np.testing.assert_array_equal(values, walk[:, 1:])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n\n3,x\n", r"s\.csv:4: 'x' in b is not a number"),
        ("a,b\n1,2\n3\n", r"s\.csv:3 has 1 cells, but the header names 2"),
        ("a,b\n1,\n", r"s\.csv:2: the value of b is missing"),
        ("a,b\n1,2\n1,nan\n", r"s\.csv:3: nan in b is not a finite number"),
        ('date,b\n"2020-01-01",2\n', r"s\.csv:2: '2020-01-01' in date is not a number; --columns"),
    ],
)
def test_bad_files(tmp_path, text, sentence):
    path = tmp_path / "s.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=sentence):
        read_columns([str(path)], DataSettings())


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
    windows = source.batch(3, slice(None))
    assert windows.x.shape == (10, 32, 2)
    for row in range(32):
        (start,) = np.flatnonzero((whole == windows.x[0, row]).all(1))
        np.testing.assert_array_equal(windows.x[:, row], whole[start : start + 10])
        np.testing.assert_array_equal(
            windows.y[:, row], whole[start + horizon : start + horizon + 10]
        )
        assert start + horizon + 10 <= 320
    for split, (start, stop) in {"validation": (320, 360), "test": (360, 400)}.items():
        (part,) = source.held_out(split)
        np.testing.assert_array_equal(part.y[part.judged], whole[start:stop])
        np.testing.assert_array_equal(part.x[part.judged], whole[start - horizon : stop - horizon])
        assert part.judged[: LAGS - 1].sum() == 0


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
    np.testing.assert_array_equal(part.y[steps[:-1]], part.x[steps[:-1] + 3])


@pytest.mark.parametrize("horizon", [1, 4])
def test_the_linear_baseline_is_exact_for_a_linear_series(tmp_path, horizon):
    x = np.zeros((600, 1))
    x[:2] = 1
    for t in range(2, 600):  # a slow oscillation, which two lags describe
        x[t] = 1.9 * x[t - 1] - x[t - 2]
    source = prepare(write(tmp_path / "s.csv", x, ["a"]), split="0.8,0.1,0.1", horizon=horizon)
    (part,) = source.held_out("test")
    told = source.baselines(part, source.fit_baselines())
    assert list(told) == ["last_value", "mean", "linear"]
    np.testing.assert_allclose(told["linear"][part.judged], part.y[part.judged], atol=1e-6)
    np.testing.assert_array_equal(told["last_value"], part.x)


def test_told_in_the_units_of_the_data(tmp_path, walk):
    source = prepare(write(tmp_path / "s.csv", walk))
    told = source.told(source.values[:3])
    np.testing.assert_allclose(told["b"], walk[:3, 1])
    again = Series.restore(source.settings, source.to_json())
    np.testing.assert_allclose(again.told(source.values[:3])["a"], told["a"])


def test_epochs_laid_end_to_end():
    places = [drawn(7, 0, 3, step, slice(None)) for step in range(7)]
    flat = [place for batch in places for place in batch]
    assert [sorted(flat[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert flat[:7] != flat[7:14]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"window": 500}, "--window and --horizon need 501"),
        ({"horizon": 400}, "need 410"),
        ({"split": "0.999,0.0,0.001"}, "too few to split"),
    ],
)
def test_too_short(tmp_path, walk, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        prepare(write(tmp_path / "s.csv", walk), **flags)
