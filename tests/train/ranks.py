"""One of several processes that train the toy: `ranks.py OUT FLAGS-AS-JSON`.

`die` in the flags names a step for every restart count: there, the rank of that number kills itself.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import toy_task

from unrolled.errors import UnrolledError
from unrolled.tasks.task import Task
from unrolled.train import picture
from unrolled.train.run import train


def deadly(step):
    """Let this process kill itself when it reads its batch for a step."""
    batch = toy_task.Toy.batch

    def last(self: Task, number: int, rows: slice):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(self, number, rows)

    toy_task.Toy.batch = last


def main(out, flags):
    torch.set_num_threads(1)
    picture.curves = lambda *_: b""
    rank = os.environ.get("RANK", "0")
    deaths = flags.pop("die", {})
    death = deaths.get(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    if death and rank == str(death[0]):
        deadly(death[1])
    try:
        trained = train("toy", "a", out=out, **flags)
    except UnrolledError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    weights = {name: w.tolist() for name, w in trained.model.state_dict().items()}
    Path(f"{out}.rank{rank}.json").write_text(
        json.dumps({"weights": weights, "metrics": trained.metrics})
    )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
