"""What becomes of a cell: what leaves the time loop, what stays, which engine runs it, and why."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import torch

from unrolled.engine import choose, native
from unrolled.engine.cell import Cell, bind, sample_of
from unrolled.engine.compile import SECTIONS, build
from unrolled.engine.cost import count, kept
from unrolled.engine.listing import Line, Names, write
from unrolled.engine.rewrite import rewrite
from unrolled.engine.trace import trace
from unrolled.errors import InputError

TITLES: dict[str, str] = dict(
    zip(
        SECTIONS,
        (
            "Before the loop, once for all steps",
            "In the loop, step by step",
            "After the loop, once for all steps",
            "Backward, before the loop, once for all steps",
            "Backward, in the loop, from the last step to the first",
            "Backward, after the loop, once for all steps",
        ),
        strict=True,
    )
)
ADVICE = {
    "it branches on the value": "torch.where(condition, a, b) chooses for each number without a branch",
    "it branches on the size": "let the step compute the same for any number of rows",
    "it draws random numbers": "hand random numbers to the step as a further input (extra_names)",
    "its step changes": "what changes from step to step is a state: name it in state_names",
    "its parameters are of another dtype": "convert the cell or the input: cell.to(x.dtype)",
    "the native core is not installed": "no compiler built it; `unrolled doctor` shows what is there",
}
NOTATION = """\
h[t-1] is h one step earlier, dh the gradient with respect to h (of later steps where h is a state),
dy that of the layer's output, d(w) that of a parameter. Names like a1 and d1 stand for what has no
name of its own, u1 for what never leaves the registers; a1[4:8] are features of a row. The numbers
on the right are widths: of a product from -> to, of a sum over all rows and steps n x k."""


@dataclass(frozen=True)
class Part:
    """One of the six parts of a program.

    Attributes:
        name: ``before``, ``loop``, ``after``, ``back_before``, ``back_loop`` or ``back_after``.
        instructions: How many there are.
        multiply_adds: Of matrix products, for one row at one step.
        operations: Element-wise operations and sums, for one row at one step.
        bytes: Read from and written to memory for one row at one step; what a step needs of itself
            stays in the cache and is not counted.
        weight_bytes: Of weights (or their gradients) read or written, for any number of rows.
        weights_per: How often `weight_bytes` are moved: ``step`` or ``call``.
        lines: The instructions; a kernel is several lines of which the first has the number.
    """

    name: str
    instructions: int
    multiply_adds: int
    operations: int
    bytes: int
    weight_bytes: int
    weights_per: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Kept:
    """A value that the forward pass keeps for the backward pass.

    Attributes:
        name: As in the lines of the parts.
        width: Numbers in a row.
        bytes: For one row at one step.
    """

    name: str
    width: int
    bytes: int


@dataclass(frozen=True)
class Explanation:
    """What becomes of a cell. ``str()`` is a page to read.

    Attributes:
        cell: Name of its class.
        input_size: I.
        hidden_size: H.
        dtype: Of input, parameters and states, e.g. ``float32``.
        extras: Width of each further input.
        assumed: Those of them whose width nobody said, taken to be 1.
        engine: ``native`` or ``reference``.
        instruction_set: Whose kernels the native engine runs here; ``None`` for the reference engine.
        reason: Why the native engine does not run it; ``None`` where it does.
        advice: What to do about the reason, where something is known.
        parts: The six parts of the program, also where the native engine could run it but does not;
            empty where the step cannot be compiled.
        once: Formulas of what is computed from parameters alone, once a call.
        kept: What the forward pass keeps for the backward pass, states included.
        read_again: Inputs the backward pass reads again.
    """

    cell: str
    input_size: int
    hidden_size: int
    dtype: str
    extras: dict[str, int]
    assumed: tuple[str, ...]
    engine: str
    instruction_set: str | None
    reason: str | None
    advice: str | None
    parts: tuple[Part, ...] = ()
    once: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    read_again: tuple[str, ...] = ()

    @property
    def multiply_adds(self) -> int | None:
        """Of all parts, for one row at one step; ``None`` where the step cannot be compiled."""
        return sum(part.multiply_adds for part in self.parts) if self.parts else None

    @property
    def bytes(self) -> int | None:
        """Moved by all parts for one row at one step, weights aside; ``None`` as above."""
        return sum(part.bytes for part in self.parts) if self.parts else None

    @property
    def kept_bytes(self) -> int | None:
        """Kept for the backward pass for one row at one step; ``None`` as above."""
        return sum(value.bytes for value in self.kept) if self.parts else None

    def part(self, name: str) -> Part:
        """Give a part by its name.

        Raises:
            KeyError: If there is no such part.
        """
        return {part.name: part for part in self.parts}[name]

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        totals = {name: getattr(self, name) for name in ("multiply_adds", "bytes", "kept_bytes")}
        return asdict(self) | totals

    def __str__(self) -> str:
        """Give the page."""
        return "\n".join([*self.body(), *(["", NOTATION] if self.parts else [])])

    def body(self) -> Iterator[str]:
        """Give the page's lines, but for the notation below them."""
        yield f"{self.cell}: {self.input_size} inputs, {self.hidden_size} hidden units, {self.dtype}"
        if self.extras:
            told = (f"{n} ({w}{', assumed' * (n in self.assumed)})" for n, w in self.extras.items())
            yield f"Further inputs: {', '.join(told)}"
        if self.engine == "native":
            yield f"Engine: native ({self.instruction_set})"
        else:
            yield f"Engine: reference, since {self.reason}"
            yield from [f"Advice: {self.advice}"] if self.advice else []
            if self.parts:
                yield "What the native engine would run:"
            else:
                yield "Every step runs as it is written; there is no program to show."
        if self.parts:
            yield from ("", *self._table(), "", *self._memory(), "")
            if self.once:
                yield "From parameters alone, once a call"
                yield from (*(f"      {formula}" for formula in self.once), "")
            yield from list(self._listing())[:-1]

    def _table(self) -> Iterator[str]:
        head = ("", "multiply-adds", "element-wise", "bytes moved", "bytes of weights")
        rows: list[tuple[str, ...]] = [("", *["a row and step"] * 3, "for all rows")]
        for part in self.parts:
            backward = part.name.startswith("back_")
            when = {"before": "before the loop", "loop": "in the loop", "after": "after the loop"}
            title = f"{'backward, ' * backward}{when[part.name.removeprefix('back_')]}"
            weights = f"{part.weight_bytes:,} a {part.weights_per}" if part.weight_bytes else "-"
            if part.instructions:
                amounts = (part.multiply_adds, part.operations, part.bytes)
                rows.append((title, *(f"{n:,}" if n else "-" for n in amounts), weights))
            else:
                rows.append((title, *["-"] * 4))
        totals = (self.multiply_adds, sum(p.operations for p in self.parts), self.bytes)
        rows.append(("all of it", *(f"{n:,}" for n in totals), ""))
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(5)]
        for row in (head, *rows):
            cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    def _memory(self) -> Iterator[str]:
        told = []
        for width, group in groupby(self.kept, lambda value: value.width):
            names = [value.name for value in group]
            told.append(f"{', '.join(names)} ({width}{' each' * (len(names) > 1)})")
        verb = "is" if len(self.read_again) == 1 else "are"
        again = f"; {', '.join(self.read_again)} {verb} read again" if self.read_again else ""
        yield f"Kept for the backward pass, {self.kept_bytes:,} bytes a row and step:"
        yield f"      {', '.join(told) or 'nothing'}{again}"

    def _listing(self) -> Iterator[str]:
        lines = [line for part in self.parts for line in part.lines]
        width = min(80, max((len(line.text) for line in lines), default=0))
        for part in self.parts:
            if not part.lines:
                continue
            yield TITLES[part.name]
            for line in part.lines:
                yield f"{line.number or '':>4}  {line.text:<{width}}  {line.shape}"
            yield ""


def explain_cell(
    cell: Cell,
    *,
    dtype: torch.dtype | None = None,
    extras: Mapping[str, int] | None = None,
) -> Explanation:
    """Say what becomes of a cell: see :func:`unrolled.explain`."""
    like = sample_of(cell)
    device = "cpu" if like.is_meta else like.device
    cell = bind(cell, _tensors(cell, dtype))
    dtype = dtype or like.dtype
    given = dict(extras or {})
    widths = {name: given.pop(name, 1) for name in cell.extra_names}
    if given:
        known = ", ".join(cell.extra_names) or "none"
        raise InputError(
            f"{type(cell).__name__} takes no further input {next(iter(given))!r}; those it declares: {known}"
        )
    plan, reason = choose.decide(cell, widths, dtype, device)
    return Explanation(
        cell=type(cell).__name__,
        input_size=cell.input_size,
        hidden_size=cell.hidden_size,
        dtype=str(dtype).removeprefix("torch."),
        extras=widths,
        assumed=tuple(name for name in widths if name not in (extras or {}) and name != "t"),
        engine="reference" if plan is None else "native",
        instruction_set=None if plan is None else native.instruction_set(),
        reason=reason,
        advice=next((a for r, a in ADVICE.items() if (reason or "").startswith(r)), None),
        **_describe(cell, widths, dtype),
    )


def _tensors(cell: Cell, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Give the parameters and buffers in a dtype; empty ones where they are nowhere."""
    named = [*cell.named_parameters(remove_duplicate=False), *cell.named_buffers()]
    tensors = {}
    for name, tensor in named:
        wanted = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        if tensor.is_meta:
            tensors[name] = torch.empty(tensor.shape, dtype=wanted)
        elif tensor.dtype != wanted:
            tensors[name] = tensor.detach().to(wanted)
    return tensors


def _describe(cell: Cell, extras: Mapping[str, int], dtype: torch.dtype) -> dict[str, Any]:
    """Describe the program of a cell; nothing where there is none."""
    try:
        # Traced anew, since a program's backward pass is added to the graph it is made from.
        step = rewrite(trace(cell, extras, dtype))
        first = (cell.output_names or cell.state_names)[0]
        program = build(step, [first], differentiate=True)
    except Exception:  # the reason is told already
        return {}
    names = Names(step, program)
    lines = write(program, names)
    parts = []
    for name in SECTIONS:
        instructions = program.sections[name]
        cost = count(instructions, program.memory.arrays)
        parts.append(
            Part(
                name,
                len(instructions),
                cost.multiply_adds,
                cost.operations,
                cost.rows * dtype.itemsize,
                cost.weights * dtype.itemsize,
                "step" if "loop" in name else "call",
                tuple(lines[name]),
            )
        )
    made, again = kept(program)
    arrays = program.memory.arrays
    values = (Kept(names.whole[i], arrays[i].width, arrays[i].width * dtype.itemsize) for i in made)
    return {
        "parts": tuple(parts),
        "once": tuple(names.made),
        "kept": tuple(values),
        "read_again": tuple(names.whole[i] for i in again),
    }
