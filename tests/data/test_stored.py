"""Items by number, in memory or in a file; files line by line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.data import read, stored
from unrolled.data.read import find_pieces
from unrolled.errors import RunError

TEXTS = ["", "a", "é\ud800", "b" * 100, "", "\n"]


@pytest.fixture(params=[0, 50, 1 << 20])
def kept(request, monkeypatch, tmp_path):
    monkeypatch.setattr(stored, "KEPT", request.param)
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_texts_arrays_and_anything(kept):
    found = stored.texts().of(TEXTS)
    assert found == TEXTS
    assert [*found[1:3]] == TEXTS[1:3]
    assert [*found[[3, 0, 3]][np.array([2, 1])]] == [TEXTS[3], ""]
    assert found[np.int64(-1)] == "\n"
    assert found != [*TEXTS, ""]
    with pytest.raises(IndexError):
        found[6]
    rows = [np.arange(n, dtype=np.uint16) for n in (3, 0, 400)]
    for one, row in zip(stored.numbers(np.dtype(np.uint16)).of(rows), rows, strict=True):
        np.testing.assert_array_equal(one, row)
    things = [{"a": (1, [2])}, None, "x" * 60]
    assert stored.anything().of(things) == things
    assert len(stored.texts().done()) == 0
    assert not [*(kept / "spool").glob("*")] if (kept / "spool").exists() else True


def test_no_space(kept, monkeypatch):
    (kept / "file").write_text("")
    monkeypatch.setattr(stored, "KEPT", 0)
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(kept / "file"))
    with pytest.raises(RunError, match="cannot write to the cache"):
        stored.texts().of(TEXTS)


@given(st.text("ab\r\n\u2028é", max_size=40), st.sampled_from(["", "\n"]), st.integers(1, 7))
def test_lines_are_those_of_the_whole_file(tmp_path_factory, text, newline, block):
    path = tmp_path_factory.mktemp("lines") / "t.txt"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (piece,) = find_pieces([str(path)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK", block)
        found = [*piece.lines(newline)]
        assert text.startswith(piece.head())
    with path.open(encoding="utf-8-sig", newline=newline) as file:
        assert found == [*file]
