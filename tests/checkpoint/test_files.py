"""Files are whole or absent, and what is damaged is named."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unrolled.checkpoint import files
from unrolled.errors import InputError, RunError


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.bin"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_is_flushed_before_it_is_renamed(durable, tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))
    )
    files.write(tmp_path / "a", b"x", durable=durable)
    # The file, then its new name, then the directory that holds the name.
    assert calls == (["fsync", "rename", "fsync"] if durable else ["rename"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_refused_write_keeps_the_old_file(code, tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write(path, b"old")

    def half(file, data):
        file.write(data[:3])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_fill", half)
    with pytest.raises(RunError) as error:
        files.write(path, b"new content")
    assert str(error.value) == f"cannot write {path}: {os.strerror(code).lower()}"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits belong to a process")
def test_a_disk_that_is_really_full(tmp_path):
    """The system itself refuses, in the middle of a write: files may grow to 1000 bytes only."""
    import resource

    path = tmp_path / "a"
    files.write(path, b"old")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            files.write(path, bytes(100_000))
        except RunError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 500).decode() == f"cannot write {path}: file too large"
    os.close(reader)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*a: no such file or directory"):
        files.write(tmp_path / "nowhere/a", b"x")


def test_a_directory_is_made_with_those_above_it_or_the_reason_is_said(tmp_path):
    for _ in range(2):
        files.folder(tmp_path / "new/home")
    assert (tmp_path / "new/home").is_dir()
    (tmp_path / "taken").touch()
    with pytest.raises(RunError, match=r"cannot write .*taken: file exists"):
        files.folder(tmp_path / "taken")
    with pytest.raises(RunError, match=r"cannot write .*taken/home: not a directory"):
        files.folder(tmp_path / "taken/home")


TENSORS = {
    "b": torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),  # not contiguous
    "a": torch.tensor([1.5, -0.0, float("inf")]),
    "nothing": torch.zeros(0, 4),
    "number": torch.tensor(7),
}
METADATA = {"step": 3, "text": "ü\n", "loss": 0.1 + 0.2, "none": None, "nested": {"x": [1, 2]}}


def test_tensors_and_metadata_come_back_exactly():
    tensors, metadata = files.unpack(files.pack(TENSORS, METADATA), Path("x"))
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_content_gives_equal_bytes():
    turned = dict(reversed(list(TENSORS.items())))
    assert files.pack(TENSORS, METADATA) == files.pack(turned, METADATA)


def test_metadata_is_read_without_the_tensors(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(files.pack(TENSORS, METADATA))
    assert files.read_metadata(path) == METADATA
    with pytest.raises(InputError, match="has no y; the model is incomplete"):
        files.read_metadata(tmp_path / "y")


WHOLE = files.pack({"w": torch.ones(5)}, {"step": 1})


@given(st.integers(0, len(WHOLE) - 1))
def test_a_truncated_file_is_named_wherever_it_ends(length):
    with pytest.raises(InputError, match=r"somewhere/m.safetensors is truncated or damaged"):
        files.unpack(WHOLE[:length], Path("somewhere/m.safetensors"))


@given(st.binary(max_size=64))
def test_bytes_that_are_no_safetensors_are_an_input_error(data):
    with pytest.raises(InputError, match=r"m.safetensors"):
        files.unpack(data, Path("m.safetensors"))


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_flipped_byte_is_an_input_error_or_harmless(place, value):
    damaged = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    with contextlib.suppress(InputError):  # any other error fails the test
        files.unpack(damaged, Path("m.safetensors"))


def test_a_safetensors_file_of_somebody_else(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"w": torch.ones(1)}, path, {"format": "pt"})
    for read in (files.read_metadata, lambda p: files.unpack(p.read_bytes(), p)):
        with pytest.raises(InputError, match="was not written by unrolled"):
            read(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_json_that_is_damaged(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a.json is not a JSON object; the file is damaged"):
        files.read_json(path)


def test_json_holds_no_number_that_is_none():
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": float("-inf")}, 1: "é"}
    assert files.to_json(value) == '{"a": null, "b": [null, 1.5], "c": {"d": null}, "1": "é"}'


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*: is a directory"):
        files.read(tmp_path)
    with pytest.raises(InputError, match=rf"^{tmp_path} has no a.json; the model is incomplete"):
        files.read_json(tmp_path / "a.json")


def test_arrays_survive_safetensors_numpy():
    # What a baseline may hold: the types that counts come in.
    import safetensors.numpy

    arrays = {t.__name__: np.arange(3, dtype=t) for t in (np.uint8, np.uint32, np.int64, np.uint64)}
    back = safetensors.numpy.load(safetensors.numpy.save(arrays))
    assert all(back[name].dtype == array.dtype for name, array in arrays.items())
