"""Fixtures of the layers."""

import pytest

import unrolled as ur


@pytest.fixture(params=["native", "reference"])
def engine(request):
    """Run in each engine."""
    with ur.engine(request.param):
        yield request.param


@pytest.fixture(params=["RNN", "LSTM", "GRU"])
def kind(request):
    return request.param
