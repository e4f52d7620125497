"""Many processes that train as one, started by torchrun; a process alone is a group of one.

Decisions are made on rank 0 and broadcast as JSON or safetensors bytes, never as pickles.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unrolled.errors import InputError, RunError, UnrolledError

PATIENCE = timedelta(hours=6)
"""How long a rank waits for another: rank 0 evaluates alone, which may take long. A rank that dies is
noticed at once by its closed connection."""

MEETING = timedelta(minutes=10)
"""How long the processes may take to start."""

_left: list[distributed.ProcessGroup | None] = []
"""Groups that were left, kept alive: where a DistributedDataParallel is the last to hold one, freeing it
waits for gloo's threads with the interpreter locked, while one of them may wait for the interpreter."""


@dataclass(frozen=True)
class Group:
    """The processes that train together."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    """Place among the processes of this machine; also the number of its GPU."""
    restarts: int = 0
    """How often torchrun has restarted the group, as far as any of its processes knows."""

    @property
    def leads(self) -> bool:
        """Whether this process is the one that evaluates, writes and reports."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Rows of the global batch that this process reads.

        Raises:
            InputError: If the batch cannot be shared out evenly.
        """
        if batch_size % self.world:
            raise InputError(
                f"--batch-size {batch_size} cannot be shared evenly by {self.world} processes; "
                f"give a multiple of {self.world}"
            )
        share = batch_size // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def device(self, name: str) -> torch.device:
        """Give this process's own device of a kind, `cpu` or `cuda`.

        Raises:
            InputError: If there are fewer GPUs on this machine than processes.
        """
        if name != "cuda":
            return torch.device(name)
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"this machine has {torch.cuda.device_count()} GPUs, too few for its processes; "
                "lower --nproc-per-node"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device(name, self.local_rank)

    def mean(self, *numbers: float) -> list[float]:
        """Average numbers over the processes."""
        if self.world == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(summed)
        return (summed / self.world).tolist()

    def broadcast(self, data: bytes | None) -> bytes | None:
        """Hand the bytes that rank 0 has, or ``None``, to all."""
        if self.world == 1:
            return data
        length = torch.tensor(-1 if data is None else len(data))
        distributed.broadcast(length, 0)
        if length <= 0:
            return data if self.leads else (None if length < 0 else b"")
        if self.leads and data is not None:
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        else:
            content = torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(content, 0)
        return content.numpy().tobytes()

    def decide(self, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON value
        """Call `make` on rank 0 and give its JSON value to all; its error, if any, is raised by all."""
        if self.world == 1:
            return make()
        answer: dict[str, Any] | None = None
        failed: UnrolledError | None = None
        if self.leads:
            try:
                answer = {"value": make()}
            except UnrolledError as error:
                failed = error
                answer = {"error": str(error), "usage": isinstance(error, InputError)}
        received = json.loads(self.broadcast(json.dumps(answer).encode()) or b"")
        if failed:
            raise failed
        if "error" in received:
            raise (InputError if received["usage"] else RunError)(received["error"])
        return received["value"]

    def gather(self, tensor: Tensor, dim: int) -> Tensor:
        """Join the processes' tensors along a dimension, in the order of ranks; on the CPU.

        Only rank 0 gets the whole; the others get their own part back.
        """
        own = tensor.detach().cpu().contiguous()
        if self.world == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.world)] if self.leads else None
        distributed.gather(own, parts)
        return torch.cat(parts, dim) if parts else own


@contextmanager
def processes() -> Iterator[Group]:
    """Join the processes that torchrun started, and leave them at the end.

    Tensors on the CPU travel by gloo, those on a GPU by NCCL.

    Yields:
        The group; of one process where torchrun's environment variables are absent.
    """
    here = Group(
        rank=int(os.environ.get("RANK", "0")),
        world=int(os.environ.get("WORLD_SIZE", "1")),
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )
    if here.world == 1:
        yield here
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _companions():
        store = _meet(here.rank, here.world)
        distributed.init_process_group(
            backend, store=store, rank=here.rank, world_size=here.world, timeout=PATIENCE
        )
        try:
            # Each machine's torchrun counts the restarts that it saw.
            restarts = torch.tensor(here.restarts)
            distributed.all_reduce(restarts, op=distributed.ReduceOp.MAX)
            yield replace(here, restarts=int(restarts))
            distributed.barrier()  # nobody hangs up while another still listens
        finally:
            _left.append(distributed.group.WORLD)
            distributed.destroy_process_group()


def _meet(rank: int, world: int) -> Store:
    """Agree on a part of the common store that no earlier group has written to.

    torchrun keeps one store over all restarts, and gloo would connect to the addresses that dead
    processes left there. So every process signs in under a name of its own, rank 0 calls out the names
    it sees until all have answered this very call, and its own name becomes the prefix of all keys.

    Raises:
        RunError: If a process does not come.
    """
    store, _, _ = next(rendezvous("env://", rank, world, timeout=MEETING))
    own, others = uuid.uuid4().hex, range(1, world)

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    def called() -> str | None:
        """Give rank 0's name once this process, and for rank 0 every process, knows it."""
        if rank:
            names = read("call").split()
            return names[0] if own in names else None
        store.set("call", " ".join([own, *(read(f"here/{other}") for other in others)]))
        return own if all(read(f"answer/{other}") == own for other in others) else None

    if rank:
        store.set(f"here/{rank}", own)
    late = time.monotonic() + MEETING.total_seconds()
    while (name := called()) is None:
        if time.monotonic() > late:
            raise RunError(f"rank {rank} waited in vain for the other processes of the group")
        time.sleep(0.02)
    if rank:
        store.set(f"answer/{rank}", name)
    return PrefixStore(name, store)


@contextmanager
def _companions() -> Iterator[None]:
    """Turn the loss of another process into a sentence."""
    try:
        yield
    except UnrolledError:
        raise
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error).lower():
            raise RunError(
                "another process of the group was lost; under torchrun --max-restarts the group "
                "starts again from the last checkpoint"
            ) from error
        raise
