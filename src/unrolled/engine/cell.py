"""The contract of a cell: what one time step computes.

B is the batch (rows), I the input size, H the hidden size, T the number of steps.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

Width = int | tuple[int, ...]
"""Width of a state: (B, n) for an int n, (B, *n) for a tuple, as a convolutional state has."""
States = dict[str, Tensor]
ModuleT = TypeVar("ModuleT", bound=nn.Module)

_recorder: ContextVar[dict[str, Tensor] | None] = ContextVar("gates", default=None)


@contextmanager
def recording_gates() -> Iterator[dict[str, Tensor]]:
    """Collect what cells hand to :meth:`Cell.gate` meanwhile, by name."""
    gates: dict[str, Tensor] = {}
    token = _recorder.set(gates)
    try:
        yield gates
    finally:
        _recorder.reset(token)


class Cell(nn.Module):
    """One time step, as it stands in the paper. Subclass it and write ``step``.

    The class says what ``step`` takes and returns:

    - ``state_names``: the states, in the order in which ``step`` takes and returns them.
    - ``output_names``: further results of ``step``, after the states. The layer's output ``y`` is
      the first of them if there are any, else the first state.
    - ``extra_names``: further inputs, handed to ``step`` by name: a mask for each step (T, B, n)
      or each sequence (B, n), the previous target. The name ``t`` is filled by the engine: the
      index of the step, (B, 1).
    - ``delays``: state name -> older steps wanted. With ``delays = {"h": (1, 4)}``, ``step`` gets
      the tuple (h of one step ago, h of four steps ago) in place of ``h``. Before the first step
      an older state is zero.

    Args:
        input_size: Width I of the input, kept as ``cell.input_size``.
        hidden_size: Width H of the states, kept as ``cell.hidden_size``.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)
    output_names: ClassVar[tuple[str, ...]] = ()
    extra_names: ClassVar[tuple[str, ...]] = ()
    delays: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    rows_apart: ClassVar[bool] = True
    """Whether rows have nothing to do with each other. A cell that normalises over the batch says no, and
    runs in the reference engine."""

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401
        """Remember the constructor's arguments, so that other layers can be built alike."""
        self = super().__new__(cls)
        object.__setattr__(self, "_arguments", (args, kwargs))
        return self

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size

    def lags(self, name: str) -> tuple[int, ...]:
        """How many steps back ``step`` reads a state, each once: one, or what ``delays`` say."""
        return tuple(dict.fromkeys(self.delays[name])) if name in self.delays else (1,)

    step: Callable[..., Any]
    """``step(x, *states, **extras)``: x (B, I) and the states -> the new states, then the outputs."""

    of_input: Any = None
    """``of_input(x)``: what of a step needs x alone, (N, I, ...) -> (N, ...). Only a cell that cannot
    be compiled, which finds it by itself, has a use for it: the reference engine computes it for all
    steps at once, and calls ``advance`` for ``step``."""
    advance: Any = None
    """``advance(of_input(x), *states, **extras)`` is ``step(x, *states, **extras)``."""

    @property
    def state_sizes(self) -> dict[str, Width]:
        """Width of every state; ``hidden_size`` each unless overridden."""
        return dict.fromkeys(self.state_names, self.hidden_size)

    @property
    def output_size(self) -> int:
        """Width of ``y``. A cell with ``output_names`` whose first is not H wide overrides it."""
        if self.output_names:
            return self.hidden_size
        width = self.state_sizes[self.state_names[0]]
        return width if isinstance(width, int) else width[0]

    @property
    def signature(self) -> tuple[Any, ...] | None:
        """What stands for this cell among compiled ones; ``None``: all its attributes and shapes."""
        return None

    @classmethod
    def rebuilt(cls, signature: tuple[Any, ...]) -> Self:
        """Build a cell of a signature, with parameters that have no values."""
        raise NotImplementedError(f"{cls.__name__} has a signature, but does not say what it means")

    def noise(self, x: Tensor, layer: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draw what a call needs at random: nothing, unless overridden.

        ``step`` itself must not draw: the compiled loop would repeat what it drew once.

        Args:
            x: The input (T, B, I).
            layer: Place of the cell among those of a net; names the stream of random numbers.

        Returns:
            Further inputs by name, (T, B, n) or (B, n), and tensors in place of parameters.
        """
        return {}, {}

    def gate(self, name: str, value: Tensor) -> Tensor:
        """Name a value for the inspectors; gives it back unchanged."""
        # torch.compile cannot read a context variable: what it compiles records no gates.
        gates = None if torch.compiler.is_dynamo_compiling() else _recorder.get()
        if gates is not None:
            if name in self.state_names or name in self.output_names:
                raise ValueError(
                    f"{type(self).__name__}: gate {name!r} has the name of a state or an output"
                )
            gates[name] = value
        return value

    def clone(self, **changes: Any) -> Self:  # noqa: ANN401
        """Build a cell by the same constructor call, but for `changes`, with fresh parameters of this dtype.

        Raises:
            TypeError: If the constructor does not take what is to be changed.
        """
        args, kwargs = self._arguments
        try:
            bound = inspect.signature(type(self)).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__} cannot be built again: {error}") from None
        changes = {name: value for name, value in changes.items() if getattr(self, name) != value}
        unknown = [name for name in changes if name not in bound.signature.parameters]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.__init__ takes no {unknown[0]!r}, so it cannot be the cell of a "
                f"layer whose {unknown[0]} is {changes[unknown[0]]}; give it that argument"
            )
        bound.arguments.update(changes)
        cell = type(self)(*bound.args, **bound.kwargs)
        like = sample_of(self)
        return cell.to(like.device, like.dtype)


def sample_of(module: nn.Module) -> Tensor:
    """One of a module's parameters, or else buffers, of floating point: it tells dtype and device."""
    tensors = (*module.parameters(), *module.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def tensors_of(cell: Cell) -> dict[str, Tensor]:
    """All parameters and buffers by name; one that has two names, as tied weights have, twice."""
    parameters = dict(cell.named_parameters(remove_duplicate=False))
    return parameters | dict(cell.named_buffers(remove_duplicate=False))


def bind(module: ModuleT, tensors: Mapping[str, Tensor]) -> ModuleT:
    """Copy a module, but for `tensors` in place of its parameters and buffers of these names.

    What is not replaced is shared with the module, which stays as it is: threads that run it
    meanwhile see nothing of this.
    """
    bound = object.__new__(type(module))
    bound.__dict__.update(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        bound.__dict__[kind] = {
            name: tensors.get(name, tensor) for name, tensor in module.__dict__[kind].items()
        }
    bound.__dict__["_modules"] = {
        name: child if child is None else bind(child, _below(name, tensors))
        for name, child in module._modules.items()
    }
    return bound


def _below(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{name}."
    return {key[len(start) :]: t for key, t in tensors.items() if key.startswith(start)}
