"""Text sources: whatever the files and however they are cut, the characters are those on the disk."""

import gzip
import hashlib
import io
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.data import open_text, read
from unrolled.errors import InputError, RunError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "gb18030", "utf-7"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def whole(source):
    return "".join(source.chunks())


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=3),
    encoding=st.sampled_from(ENCODINGS),
    block=st.integers(1, 9),
    gz=st.booleans(),
    borders=st.tuples(st.integers(0, 130), st.integers(0, 130)),
)
def test_any_stretch_of_any_files(texts, encoding, block, gz, borders):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK", block)
        paths = []
        for number, text in enumerate(texts):
            path = Path(folder, f"{number}.txt" + ".gz" * gz)
            content = text.encode(encoding)
            path.write_bytes(gzip.compress(content) if gz else content)
            paths.append(str(path))
        source = open_text(paths, encoding)
        text = "".join(texts)
        assert source.characters == len(text)
        assert source.digest == hashlib.sha256(text.encode()).hexdigest()
        assert whole(source) == text
        start, stop = borders
        assert "".join(source.chunks(start, stop)) == text[start:stop]


@given(content=st.binary(min_size=1, max_size=60), block=st.integers(1, 5))
def test_any_bytes_survive(content, block):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "BLOCK", block)
        path = Path(folder, "x.bin")
        path.write_bytes(content)
        text = whole(open_text([str(path)], any_bytes=True))
        assert text.encode("utf-8", "surrogateescape") == content


def test_chunks_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "BLOCK", 100)
    (tmp_path / "x.txt").write_text("é" * 5000, "utf-8")
    sizes = [len(chunk) for chunk in open_text([str(tmp_path)]).chunks()]
    assert sum(sizes) == 5000
    assert max(sizes) <= 150


def test_many_small_files_make_few_chunks(tmp_path):
    for number in range(50):
        (tmp_path / f"{number:02}.txt").write_text(f"file {number}\n")
    source = open_text([str(tmp_path)])
    assert len(list(source.chunks())) == 1
    assert len(source.names) == 50


@pytest.mark.parametrize("text", ["one\r\ntwo\r\n", "a\rb\nc\r\n", "\ufeffwith a mark"])
def test_text_is_kept_as_it_is(tmp_path, text):
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode())
    assert whole(open_text([str(path)])) == text


def test_only_utf_8_sig_drops_the_mark(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffab".encode())
    assert whole(open_text([str(path)], "utf-8-sig")) == "ab"


def test_directory(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "2.md").write_text("two ")
    (tmp_path / "a.txt").write_text("one ")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"\0\1\2"))
    (tmp_path / ".secret").write_text("hidden")
    (tmp_path / ".hidden" / "x.txt").write_text("hidden")
    (tmp_path / "empty.txt").touch()
    source = open_text([str(tmp_path)])
    assert whole(source) == "one two three"
    assert source.names == tuple(str(tmp_path / name) for name in ("a.txt", "b/2.md", "c.txt.gz"))
    assert "PNG" in whole(open_text([str(tmp_path)], any_bytes=True))


def test_standard_input_is_spooled_and_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("häl\r\nlo".encode())))
    source = open_text(["-"])
    assert whole(source) == whole(source) == "häl\r\nlo"
    assert source.names == ("standard input",)
    assert len(list((tmp_path / "spool").iterdir())) == 1
    del source
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_spooled(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("through a pipe",))
    writer.start()
    source = open_text([str(pipe)])
    writer.join()
    assert whole(source) == "through a pipe"


def test_built_in_english():
    source = open_text(["english"])
    text = whole(source)
    assert source.characters == len(text) > 400_000
    assert "assert" in text
    assert whole(open_text(["english"], "latin-1")) == text  # it has an encoding of its own
    assert whole(open_text(["english"], any_bytes=True)) == text


def test_an_existing_path_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("english").write_text("mine")
    assert whole(open_text(["english"])) == "mine"


def check_fails(sources, *parts, encoding="utf-8", error=InputError):
    with pytest.raises(error) as caught:
        open_text([str(source) for source in sources], encoding)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in parts:
        assert str(part) in sentence


@pytest.mark.parametrize("sources", [[], [""]])
def test_nothing_given(sources):
    check_fails(sources, "no text is given")


def test_missing(tmp_path):
    check_fails([tmp_path / "no.txt"], tmp_path / "no.txt", "unrolled data list")
    check_fails(["tinyshakespear"], "did you mean 'tinyshakespeare'?")
    check_fails(["x" * 5000], "cannot read")


def test_empty(tmp_path):
    (tmp_path / "x.txt").touch()
    check_fails([tmp_path / "x.txt"], "x.txt is empty")
    check_fails([tmp_path], tmp_path, "holds no text files")
    (tmp_path / "x.txt").write_bytes(gzip.compress(b""))
    (tmp_path / "x.txt").rename(tmp_path / "x.gz")
    check_fails([tmp_path / "x.gz"], "x.gz is empty")


@pytest.mark.parametrize(
    ("content", "encoding", "offset"),
    [
        (b"abc\xe9def", "utf-8", "0xe9 at offset 3"),
        (b"a" * 20 + b"\xff", "utf-8", "0xff at offset 20"),
        ("é".encode() * 9 + b"\xc3", "utf-8", "0xc3 at offset 18"),
        ("ab".encode("utf-16-le") + b"\x00\xd8", "utf-16-le", "at offset 4"),
        (b"caf\xc3\xa9", "ascii", "0xc3 at offset 3"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 5, 1000])
def test_bytes_that_are_not_text(tmp_path, monkeypatch, content, encoding, offset, block):
    monkeypatch.setattr(read, "BLOCK", block)
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    check_fails([path], path, encoding, offset, "--encoding latin-1", encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-99", "rot13", "hex"])
def test_no_such_encoding(tmp_path, encoding):
    (tmp_path / "x.txt").write_text("x")
    check_fails([tmp_path / "x.txt"], repr(encoding), encoding=encoding)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda content: b"not gzip",
        lambda content: content[:30] + b"zzzz",
    ],
)
def test_damaged_gz(tmp_path, damage):
    path = tmp_path / "x.txt.gz"
    path.write_bytes(damage(gzip.compress(os.urandom(1000).hex().encode())))
    check_fails([path], path, "damaged")


def test_unreadable(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("x")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    check_fails([tmp_path / "x.txt"], "cannot read", "x.txt", "Permission denied")


def test_standard_input_twice():
    check_fails(["-", "-"], "only once")


def test_spool_without_room(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    check_fails(["-"], "cannot write to the cache", "UNROLLED_CACHE_DIR", error=RunError)


def test_a_file_that_shrinks(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("hello")
    source = open_text([str(path)])
    path.write_text("he")
    with pytest.raises(InputError, match="changed while it was read"):
        whole(source)


@pytest.mark.parametrize("name", ["sst", "ett"])
def test_files_that_are_sets_of_their_own_are_named(name):
    with pytest.raises(
        InputError, match=f"{name} are sets of their own; name what you want of {name}/"
    ):
        open_text([name])
