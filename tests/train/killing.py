"""Kill runs at every point of every write, or at random moments; print what went wrong, then a count.

Run as a script: torch is loaded once, and every run is a fork of this process.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # what torch loads on first use, so that forks need not
import toy_task  # noqa: F401 - registers the task

from unrolled.checkpoint import files
from unrolled.train import picture
from unrolled.train.run import train

FLAGS = {
    "steps": 5,
    "evaluate_every": 2,
    "checkpoint_every": 3,
    "hidden": 3,
    "nonlinearity": "relu",  # noise from torch's generator
    "dropout": 0.3,  # noise from the package's own
    "schedule": "cosine",
}


def run(out, points=None):
    """Make or go on with a run in a fork; with `points`, it is killed when it has come to so many."""
    process = os.fork()
    if process:
        return process
    if points:
        arm(points)
    train("toy", "a", out=out, resume=True, **FLAGS)
    os._exit(0)


def arm(points):
    """Count the points: before each call that changes the directory, and half-way through a write."""
    left = points

    def point():
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def guard(owner, name, counts=lambda *_: True):
        call = getattr(owner, name)

        def guarded(*arguments, **keywords):
            if counts(*arguments):
                point()
            return call(*arguments, **keywords)

        setattr(owner, name, guarded)

    def fill(file, data):
        file.write(data[: len(data) // 2])
        file.flush()
        point()
        file.write(data[len(data) // 2 :])

    files._fill = fill
    guard(os, "fsync")
    guard(Path, "replace")
    guard(Path, "unlink", Path.exists)


def ended(process):
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def content(out):
    """All that a run leaves, the clock's figures aside."""
    found = {}
    for path in sorted(Path(out).iterdir()):
        data = path.read_bytes()
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in data.splitlines()]
            data = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        found[path.name] = None if path.name == "README.md" else data
    return found


def compare(out, reference, what):
    got = content(out)
    differing = [name for name in reference | got if reference.get(name) != got.get(name)]
    if differing or got.keys() != reference.keys():
        print(f"{what}: {differing or sorted(got.keys() ^ reference.keys())}")


def every_point(home, reference):
    """Kill at the first point, the second, ... until a run comes through."""
    for points in range(1, 10_000):
        out = home / str(points)
        code = ended(run(out, points))
        if code == 0:
            print(f"points {points}")
            return
        assert code == -signal.SIGKILL, code
        # As deep again into the run that goes on: a recovery may be killed too.
        if points % 3 == 0:
            ended(run(out, points // 2 + 1))
        assert ended(run(out)) == 0, f"point {points}: the resumed run failed"
        compare(out, reference, f"point {points}")


def any_time(home, reference, seconds):
    """Kill again and again at random moments."""
    rng, kills = random.Random(0), 0
    for number in range(5):
        out = home / str(number)
        while True:
            process = run(out)
            time.sleep(rng.uniform(0, seconds))
            os.kill(process, signal.SIGKILL)
            if ended(process) == 0:
                break
            kills += 1
        compare(out, reference, f"sequence {number}")
    print(f"kills {kills}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    picture.curves = lambda *_: b"a picture"  # drawing takes longer than the whole run
    home, how = Path(sys.argv[1]), sys.argv[2]
    began = time.perf_counter()
    assert ended(run(home / "reference")) == 0
    seconds = time.perf_counter() - began
    reference = content(home / "reference")
    if how == "points":
        every_point(home, reference)
    else:
        any_time(home, reference, 1.2 * seconds)
