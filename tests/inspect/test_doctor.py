"""`unrolled doctor`."""

import json
import platform

import pytest
import torch
from command_line import cli  # noqa: F401 - a fixture

import unrolled
from unrolled.inspect import doctor
from unrolled.inspect.doctor import _instruction_sets


@pytest.fixture
def found(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    (tmp_path / "cache" / "corpora").mkdir(parents=True)
    (tmp_path / "cache" / "corpora" / "ids").write_bytes(bytes(1000))
    return doctor()


def test_it_tells_versions_threads_cache_and_engines(found, tmp_path):
    assert found["versions"]["unrolled"] == unrolled.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"] == torch.__version__
    assert found["threads"]["torch"] == torch.get_num_threads()
    assert found["cache"] == {"directory": str(tmp_path / "cache"), "bytes": 1000}
    assert found["engines"]["reference"] is True
    assert found["engines"]["native"] in ("avx512", "avx2", "neon", "portable", None)
    assert found["environment"]["OMP_WAIT_POLICY"] == "passive"


def test_a_cache_that_is_not_there_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE_DIR", str(tmp_path / "nowhere"))
    assert doctor()["cache"]["bytes"] == 0


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma avx512f amx_tile\n", "avx2 fma avx512f amx_tile"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 sve\n", "asimd bf16 sve"),
        ("flags\t: avx20\n", ""),
        ("nothing known\n", ""),
    ],
)
def test_instruction_sets_are_read_where_linux_lists_them(tmp_path, text, sets):
    (tmp_path / "cpuinfo").write_text(text, "utf-8")
    assert _instruction_sets(tmp_path / "cpuinfo") == sets.split()


def test_instruction_sets_are_unknown_elsewhere(tmp_path):
    assert _instruction_sets(tmp_path / "nowhere") == []


def test_the_command(cli, found):  # noqa: F811
    assert json.loads(cli("doctor", "--json").out) == found
    lines = cli("doctor").out.splitlines()
    assert lines[0].split() == ["unrolled", unrolled.__version__]
    told = found["engines"]["native"] or "not installed"
    assert any("native engine" in line and told in line for line in lines)
