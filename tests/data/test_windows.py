"""Windows: each row reads its own stretch, every step follows the one before it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import Windows
from unrolled.errors import InputError


@given(length=st.integers(2, 300), batch=st.integers(1, 7), window=st.integers(1, 20))
def test_rows_read_their_own_stretches(length, batch, window):
    stretch = length // batch
    if stretch < window + 1:
        with pytest.raises(InputError):
            Windows(np.arange(length), batch, window)
        return
    windows = Windows(np.arange(length), batch, window)
    assert windows.per_epoch == (stretch - 1) // window
    for step in range(2 * windows.per_epoch + 1):
        inputs, targets, fresh, carried = windows(step)
        place = step % windows.per_epoch
        assert (fresh, carried) == (place == 0, window)
        expected = np.arange(window)[:, None] + np.arange(batch) * stretch + place * window
        np.testing.assert_array_equal(inputs, expected)
        np.testing.assert_array_equal(targets, expected + 1)


@given(length=st.integers(30, 300), window=st.integers(1, 9))
def test_one_row_reads_as_the_minimal_character_model(length, window):
    """The loop as it was first printed, but that the last window may end with the text."""
    ids = np.random.default_rng(length).integers(0, 50, length)
    windows = Windows(ids, 1, window)
    position = 0
    for step in range(3 * length // window):
        if step == 0 or position + window + 1 > length:
            position = 0
            assert windows(step).fresh
        else:
            assert not windows(step).fresh
        inputs, targets, *_ = windows(step)
        assert inputs[:, 0].tolist() == ids[position : position + window].tolist()
        assert targets[:, 0].tolist() == ids[position + 1 : position + window + 1].tolist()
        position += window


@given(rows=st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: slice(*sorted(pair))))
def test_some_rows_are_those_of_all(rows):
    windows = Windows(np.arange(100), 6, 4)
    for step in (0, 1, 5):
        some, every = windows(step, rows), windows(step)
        np.testing.assert_array_equal(some.inputs, every.inputs[:, rows])
        np.testing.assert_array_equal(some.targets, every.targets[:, rows])
        assert some.fresh == every.fresh


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_any_type_on_disk_gives_contiguous_int64(tmp_path, dtype):
    path = tmp_path / "ids"
    path.write_bytes(np.arange(100).astype(dtype).tobytes())
    inputs, targets, *_ = Windows(np.memmap(path, dtype, mode="r"), 3, 5)(2)
    for array in (inputs, targets):
        assert array.dtype == np.int64
        assert array.shape == (5, 3)
        assert array.flags.c_contiguous
        assert not isinstance(array, np.memmap)
    assert inputs[0].tolist() == [10, 43, 76]


def test_too_short_says_what_is_needed():
    with pytest.raises(InputError) as caught:
        Windows(np.zeros(2079, np.uint8), 32, 64)
    sentence = str(caught.value)
    for part in ("2,079 symbols", "32 rows", "window of 64", "2,080", "--batch-size", "--window"):
        assert part in sentence
    assert Windows(np.zeros(2080, np.uint8), 32, 64).per_epoch == 1
    with pytest.raises(InputError, match="0 symbols"):
        Windows(np.zeros(0, np.uint8), 1, 1)


@given(window=st.integers(1, 9), stride=st.integers(1, 9), length=st.integers(12, 60))
def test_overlapping_windows_count_every_symbol_once(window, stride, length):
    if stride > window:
        with pytest.raises(InputError, match="--stride"):
            Windows(np.arange(length), 1, window, stride)
        return
    windows = Windows(np.arange(length), 1, window, stride)
    assert windows.per_epoch == (length - 1) // stride
    told, stands = [], 0
    for step in range(windows.per_epoch):
        inputs, targets, fresh, carried = windows(step)
        assert inputs[0, 0] == stands == max(0, (step + 1) * stride - window)
        assert fresh == (stands == 0)
        assert inputs[-1, 0] + 1 == targets[-1, 0]
        told += targets[:, 0].tolist()
        stands += carried
    assert told == [*range(1, 1 + windows.per_epoch * stride)]
