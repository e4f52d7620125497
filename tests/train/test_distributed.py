"""Several processes train as one: gloo, on this machine."""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import numpy as np
import pytest
import toy_task  # noqa: F401 - registers the task
from safetensors.torch import load_file

from unrolled.errors import InputError
from unrolled.train import picture
from unrolled.train.distributed import Group
from unrolled.train.run import train

HERE = Path(__file__).parent
FLAGS = {
    "steps": 12,
    "evaluate_every": 4,
    "batch_size": 6,
    "hidden": 4,
    "dtype": "float64",
    "dropout": 0.3,
    "clip_norm": 0.05,
    "optimizer": "momentum",
    "lr": 0.1,
}


def environment():
    paths = [str(HERE.parent), *sys.path]
    own = {name: value for name, value in os.environ.items() if "TORCHELASTIC" not in name}
    return {**own, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def free_port():
    """Draw one below those of connections, which another test could get before rank 0 listens."""
    while True:
        port = SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def launch(world, out, **flags):
    """Train by so many processes; give what each said and its exit code."""
    port = free_port()
    group = [
        subprocess.Popen(
            [sys.executable, HERE / "ranks.py", out, json.dumps({**FLAGS, **flags})],
            env={
                **environment(),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [process.communicate(timeout=120) for process in group]
    finally:
        for process in group:
            process.kill()
    return [
        (process.returncode, out + err) for process, (out, err) in zip(group, said, strict=True)
    ]


def succeed(done):
    for code, said in done:
        assert code == 0, said


def agree(found, expected):
    for name in ("model.safetensors", "training.safetensors"):
        ours, theirs = load_file(found / name), load_file(expected / name)
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            if not key.startswith("generator"):
                np.testing.assert_allclose(ours[key], tensor, rtol=0, atol=1e-10, err_msg=key)


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["event"] == "train"]


def test_two_ranks_equal_one_and_one_goes_on_from_two(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "curves", lambda *_: b"")
    one, two, mixed = (tmp_path / name for name in ("one", "two", "mixed"))
    alone = train("toy", "a", out=one, **FLAGS)
    succeed(launch(2, two))
    agree(two, one)
    np.testing.assert_allclose(losses(two), losses(one), rtol=0, atol=1e-10)
    # Every process has the best weights and the results.
    first, second = (json.loads((tmp_path / f"two.rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["metrics"]["test"] == pytest.approx(alone.metrics["test"], abs=1e-10)
    # The carry is kept for all rows: another number of processes goes on with it.
    succeed(launch(2, mixed, steps=4))
    train("toy", out=mixed, steps=12, resume=True)
    agree(mixed, one)


def test_what_only_rank_0_finds_is_told_to_all(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.json").write_text("{}")
    for code, said in launch(2, out):
        assert code == 2
        assert f"InputError: {out} holds a run; add --resume or --overwrite" in said


def test_the_loss_of_a_companion_is_a_sentence(tmp_path):
    (code, said), (killed, _) = launch(2, tmp_path / "run", die={"0": [1, 6]})
    assert (code, killed) == (1, -9)
    assert "RunError: another process of the group was lost; under torchrun" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_torchrun_restarts_the_group_which_resumes_and_ends_right(tmp_path):
    die = {"0": [1, 6], "1": [0, 10]}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--max-restarts", "3", "--standalone", HERE / "ranks.py", tmp_path / "run"),
            json.dumps({**FLAGS, "die": die}),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    succeed(launch(2, tmp_path / "alone"))
    for name in ("model.safetensors", "training.safetensors", "config.json"):
        run, alone = (tmp_path / which / name for which in ("run", "alone"))
        assert run.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_rows_cover_the_batch_once(world):
    rows = [Group(rank, world).rows(6) for rank in range(world)]
    assert [row for part in rows for row in range(6)[part]] == list(range(6))


def test_rows_that_cannot_be_shared():
    with pytest.raises(InputError, match="give a multiple of 4"):
        Group(0, 4).rows(6)


def test_a_process_alone_needs_no_group():
    group = Group()
    assert group.leads
    assert group.mean(1.5, 2.0) == [1.5, 2.0]
    assert group.broadcast(b"x") == b"x"
    assert group.decide(lambda: {"a": 1}) == {"a": 1}
