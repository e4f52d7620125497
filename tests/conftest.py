"""What every test shares: a cache of its own, and one thread, as tests run side by side."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
settings.register_profile("shared", deadline=None)  # the first of many examples compiles a cell
settings.load_profile("shared")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep what tests encode out of the user's cache; reused by all tests of a session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
