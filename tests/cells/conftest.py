"""Every test of a cell runs in both engines."""

import pytest

import unrolled as ur


@pytest.fixture(autouse=True, params=["native", "reference"])
def _engine(request):
    with ur.engine(request.param):
        yield
