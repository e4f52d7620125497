"""Where the time of an update goes, and what would make it shorter: measured, on this machine."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unrolled.engine import Declined, choose
from unrolled.inspect.diagnosis import Finding, again
from unrolled.inspect.doctor import usable_processors
from unrolled.inspect.trials import new_optimizer, with_settings
from unrolled.layers import Recurrent
from unrolled.layers.stack import part_streams
from unrolled.layers.standard import StandardLayers
from unrolled.tasks.task import Carry, Task
from unrolled.train.distributed import Group
from unrolled.train.gradients import Gradients
from unrolled.train.optimisers import clip
from unrolled.train.whole import WholeStep, whole_step

LONG = 600.0
"""Seconds of a run below which it is not slow, whatever it does."""
GAIN = 1.3
"""How many times as fast a run must become for it to be worth a word."""
SECONDS = 3.0
"""Longest time of a measurement."""
TURNS, A_TURN = 6, 3
"""Most turns of a measurement, of which the first does not count, and updates in a turn."""
CAUSES = {
    "data": "reading or varying examples costs more than learning from them",
    "before": "what is computed before the recurrent nets costs most",
    "loop": "the recurrent nets cost most: their steps wait for each other",
    "after": "what reads out the recurrent nets, with the loss, costs most",
    "model": "the model itself costs most",
    "optimiser": "clipping and updating weights cost most: there are many for so few examples",
}
"""Part of an update -> what it means that it is the largest."""


@dataclass
class Clock:
    """Times the parts of updates. `seconds` has a list for each part."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, float]:
        """The median of each part, in seconds."""
        return {name: float(np.median(times)) for name, times in self.seconds.items()}

    @property
    def whole(self) -> float:
        """Seconds of an update."""
        return sum(self.parts.values())

    def note(self, **parts: float) -> None:
        """Add one update."""
        for name, seconds in parts.items():
            self.seconds.setdefault(name, []).append(seconds)


class Updates:
    """Makes updates of a new model as a run would, timing their parts.

    Recurrent nets are timed by what they are given and give, forwards and backwards. A step that the core
    makes whole is one part, `loop`.

    Args:
        task: Prepared.
        rows: Rows of each batch that are read.
    """

    def __init__(self, task: Task, rows: slice | None = None) -> None:
        self.training = training = task.settings.training
        self.task = copy.copy(task)
        self.task.batch = self._timed_batch(task)  # pyright: ignore[reportAttributeAccessIssue]
        self.rows = rows or slice(0, training.batch_size)
        device = Group().device(training.device)
        self.model = task.build().to(device).train()
        part_streams(self.model)
        self.optimizer = new_optimizer(self.model, task)
        self.clock, self.step = Clock(), 0
        self.carry: Carry = {}
        self.whole: WholeStep | None = None
        if rows is None:
            with suppress(Declined):
                self.whole = whole_step(task, self.model, self.optimizer, training, Group())
        self.gradients = Gradients(self.task, self.model, training, self.rows)
        self.nets = [*outermost(self.model)]
        self.marks = Marks()

    def _timed_batch(self, task: Task) -> Callable[[int, slice], Any]:
        def batch(step: int, rows: slice) -> Any:  # noqa: ANN401 - a task's own type
            began = time.perf_counter()
            found = task.batch(step, rows)
            self.marks.data += time.perf_counter() - began
            self.marks.ready = time.perf_counter()
            return found

        return batch

    def make(self) -> None:
        """Make one update."""
        self.marks = marks = Marks()
        began = time.perf_counter()
        if self.whole:
            batch = self.task.batch(self.step, self.rows)
            _, _, self.carry = self.whole.gradients(self.task, batch, self.carry)
        else:
            with self._listening():
                _, self.carry = self.gradients.compute(self.step, self.carry)
        computed = self._now()
        if self.whole:
            self.whole.update()
        else:
            bounds = self.training.clip_norm or None, self.training.clip_value
            clip([*self.model.parameters()], *bounds, self.training.clip_each)
            self.optimizer.step()
        self.task.constrain(self.model)
        self.carry = {name: state.detach() for name, state in self.carry.items()}
        self.step += 1
        inside = computed - began - marks.data
        if self.whole:
            parts = {"loop": inside}
        elif self.nets:
            before, loop = marks.before(computed), marks.loop(computed)
            parts = {"before": before, "loop": loop, "after": max(0.0, inside - before - loop)}
        else:
            parts = {"model": inside}
        self.clock.note(data=marks.data, **parts, optimiser=self._now() - computed)

    def _now(self) -> float:
        if self.training.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Note when recurrent nets begin and end."""

        def begin(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.marks.entered = self._now()
            if self.marks.first is None:
                self.marks.first = self.marks.entered
            for value in (*args, *named.values())[:1]:
                x = value.data if isinstance(value, PackedSequence) else value
                if isinstance(x, Tensor) and x.requires_grad:
                    x.register_hook(lambda _: self.marks.leave_backward(self._now()))

        def end(_: nn.Module, args: tuple[Any, ...], result: Any) -> None:  # noqa: ANN401
            self.marks.forward += self._now() - self.marks.entered
            y = result[0] if isinstance(result, tuple) else result
            y = y.data if isinstance(y, PackedSequence) else y
            if y.requires_grad:
                y.register_hook(lambda _: self.marks.enter_backward(self._now()))

        handles = [net.register_forward_pre_hook(begin, with_kwargs=True) for net in self.nets]
        handles += [net.register_forward_hook(end) for net in self.nets]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@dataclass
class Marks:
    """When things happened in one update."""

    data: float = 0.0
    ready: float = 0.0
    """When the batch was there."""
    first: float | None = None
    """When the first net began."""
    entered: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    since: float | None = None
    """When the backward pass came to a net that it has not left."""
    left: float | None = None

    def enter_backward(self, now: float) -> None:
        """The gradient of what a net gave is there."""
        self.since = now if self.since is None else self.since

    def leave_backward(self, now: float) -> None:
        """The gradient of what a net was given is there."""
        if self.since is not None:
            self.backward += now - self.since
            self.since, self.left = None, now

    def loop(self, end: float) -> float:
        """Seconds in nets; what the backward pass entered and did not leave lasts to the end."""
        return self.forward + self.backward + (end - self.since if self.since else 0.0)

    def before(self, end: float) -> float:
        """Seconds before the first net, and after the backward pass left it."""
        ahead = 0.0 if self.first is None else self.first - self.ready
        return ahead + (end - self.left if self.left and not self.since else 0.0)


def outermost(model: nn.Module) -> Iterator[nn.Module]:
    """Give the recurrent nets of a model, without those inside of others."""
    for child in model.children():
        if isinstance(child, Recurrent | StandardLayers):
            yield child
        else:
            yield from outermost(child)


@dataclass(frozen=True)
class Way:
    """Something that may make a run faster."""

    name: str
    flags: Mapping[str, object]
    """Settings that bring it about."""
    updates: Updates
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    command: str | None = None
    """What to run, if it is not a matter of settings."""


def measure(updates: Updates, *others: Way) -> list[float]:
    """Time updates and other ways of making them, in turn; give how many times as fast those are."""
    runs = [(nullcontext, updates), *((way.around, way.updates) for way in others)]
    began = time.perf_counter()
    for turn in range(TURNS):
        for around, each in runs:
            with around():
                for _ in range(A_TURN):  # the first of them finds a cold cache
                    each.make()
            if not turn:
                each.clock.seconds.clear()
        if turn > 1 and time.perf_counter() - began > SECONDS * len(runs):
            break
    return [updates.clock.whole / way.updates.clock.whole for way in others]


def ways(task: Task, engine: str | None) -> Iterator[Way]:
    """Give what may make a run faster on this machine.

    Args:
        task: Prepared.
        engine: What its recurrent nets run in, if there are any.
    """
    settings = task.settings
    training, most = settings.training, usable_processors() or 1
    if torch.get_num_threads() < most:
        yield Way(f"{most} threads", {"threads": most}, Updates(task), lambda: threads(most))
    if training.precision == "full" and settings.model.dtype == "float32":
        half = {"precision": "bfloat16"}
        yield Way("products in bfloat16", half, Updates(with_settings(task, **half)))
    if training.device == "cpu" and torch.cuda.is_available():
        flags = {"device": "cuda"}
        yield Way("the GPU", flags, Updates(with_settings(task, **flags)))
    if engine == "reference" and choose.engine_asked() == "reference":
        command = f"UNROLLED_ENGINE=native {again(task)}"
        with choose.engine("native"):
            updates = Updates(task)
        yield Way("the native engine", {}, updates, lambda: choose.engine("native"), command)
    if settings.task == "generate" and settings.data.symbols == "word":
        flags = {"softmax": "sampled"}
        if settings.generator.softmax == "full" and not training.label_smoothing:
            yield Way("a sampled softmax", flags, Updates(with_settings(task, **flags)))
    if training.batch_size % 2 == 0 and training.accumulate == 1:
        command = f"torchrun --nproc-per-node 2 -m {again(task)}"
        share = Updates(task, slice(0, training.batch_size // 2))
        yield Way(
            "two machines, as half of the rows take so much less,", {}, share, command=command
        )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def about_speed(
    task: Task, engine: str | None = None, reason: str | None = None
) -> tuple[dict[str, str], list[Finding]]:
    """Tell where the time of an update goes, and of a long run what would make it shorter.

    Args:
        task: Prepared.
        engine: What its recurrent nets run in, if there are any.
        reason: Why that is not the native engine.

    Returns:
        Facts, and what is wrong.
    """
    updates = Updates(task)
    measure(updates)
    parts, whole = updates.clock.parts, updates.clock.whole
    told = ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in parts.items())
    facts = {"a step takes": f"{1000 * whole:.3g} ms: {told}"}
    training = task.settings.training
    steps = training.steps or (training.epochs or 0.0) * task.steps_per_epoch
    lasts = steps * whole
    if steps:
        facts["the run takes"] = f"about {duration(lasts)}, looks aside"
    largest = max(parts, key=parts.__getitem__)
    evidence = f"{steps:,.0f} steps of {1000 * whole:.3g} ms, {duration(lasts)}: {told}"
    if largest == "data" and parts["data"] > 0.5 * whole and whole > 0.005:
        wider = again(task, batch_size=training.batch_size * 2)
        return facts, [Finding("waits for data", evidence, CAUSES["data"], wider)]
    if lasts < LONG:
        return facts, []
    known = [*ways(task, engine)]
    gains = sorted(zip(measure(updates, *known), known, strict=True), key=lambda one: -one[0])
    helpful = [(gain, way) for gain, way in gains if gain >= GAIN]
    facts["faster"] = ", ".join(f"{way.name} {gain:.1f} times" for gain, way in gains)
    declined = engine == "reference" and choose.engine_asked() == "native"
    if declined and largest == "loop":
        cell = task.settings.model.cell
        cause = f"the reference engine runs the loop: {reason}"
        return facts, [Finding("slow", evidence, cause, f"unrolled explain {cell}")]
    if not helpful:
        return facts, []
    best = helpful[0][1]
    faster = "; ".join(f"{gain:.1f} times as fast with {way.name}" for gain, way in helpful)
    command = best.command or again(task, **best.flags)
    return facts, [Finding("slow", f"{evidence}; {faster}", CAUSES[largest], command)]


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
