import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data.scaling import divisors


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 40))
def test_a_column_of_one_value_is_divided_by_one(dtype, value, count):
    values = np.full((count, 1), value, dtype) * dtype(1.1)
    assert divisors(values.mean(0), values.std(0)) == 1


def test_others_by_their_deviation():
    values = np.array([[1.0, 1e9], [3.0, 1e9 + 1]])  # seconds since 1970 deviate by little, too
    assert divisors(values.mean(0), values.std(0)).tolist() == [1, 0.5]
