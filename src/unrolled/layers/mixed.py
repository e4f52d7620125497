"""Stacks of unlike layers: recurrent, of each step by itself, and convolutional over time.

T steps, B rows, I inputs, O the width of the last member's output.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import Cell, States
from unrolled.engine.randomness import dropout
from unrolled.layers.over_time import (
    WINDOWED,
    EachStep,
    check_windows,
    filters_of,
    run_each_step,
    run_windows,
    steps_after,
)
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.stack import part_streams
from unrolled.layers.standard import StandardLayers

STREAM = 2**7
"""First stream of the masks of dropout: far from those between a member's own layers."""
# What sees several steps; as a member by itself it may be known.
_UNKNOWN = (nn.modules.conv._ConvNd, nn.RNNBase, Recurrent, *WINDOWED)


class Mixed(nn.Module):
    """Members upon each other, each over all steps of each row: (T, B, I) -> (T', B, O).

    A member is

    - recurrent: :class:`~unrolled.Recurrent`, ``RNN``, ``LSTM`` or ``GRU`` of this library, or a
      cell, which is run as a layer;
    - a convolution or pooling over time: ``torch.nn.Conv1d``, ``MaxPool1d``, ``AvgPool1d`` and those of
      this library; a row of n steps leaves it with
      floor((n + padding - dilation (k - 1) - 1) / stride) + 1 steps, none where it had none;
    - ``torch.nn.Dropout``, by the seed of the run;
    - ``torch.nn.Sequential`` of these;
    - or any other module, which is applied to each step by itself.

    No row sees another or its padding: alone it gives the same, bit for bit in the native engine.

    Args:
        members: From the input to the output. Those with states have ``batch_first=False``.
        input_size: Width I of x, where the first member does not tell.
        batch_first: Whether x and y are (B, T, ...). States are not affected.

    Raises:
        TypeError: If a member sees other rows (batch norm) or cannot be known to keep the steps.
        ValueError: If there are none, widths do not fit, or a member has its own ``batch_first``.
    """

    def __init__(
        self, *members: nn.Module, input_size: int | None = None, batch_first: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(_flattened(members))
        self.batch_first = batch_first
        if not self.members:
            raise ValueError("a stack needs a member")
        for place, member in enumerate(self.members):
            _check_kind(_name(place, member), member)
        width = _inputs_of(self.members[0]) or input_size
        if width is None:
            raise ValueError(
                f"{type(self.members[0]).__name__} takes any width: give the stack its input_size"
            )
        self.input_size = width
        # Not registered: the modules in them are the members.
        self._steps: dict[int, EachStep] = {}
        for place, member in enumerate(self.members):
            width = self._enter(place, member, width)
        self.output_size = width
        part_streams(self)

    def _enter(self, place: int, member: nn.Module, width: int) -> int:
        """Take in a member that reads `width` numbers a step; give the width of its output."""
        name, wanted = _name(place, member), _inputs_of(member)
        if wanted is not None and wanted != width:
            raise ValueError(f"{name} takes {wanted} numbers a step, but is given {width}")
        if isinstance(member, Recurrent):
            return member.output_size
        if isinstance(member, StandardLayers):
            return (2 if member.bidirectional else 1) * (member.proj_size or member.hidden_size)
        if isinstance(member, WINDOWED):
            filters = filters_of(member)
            if filters is not None:
                self._steps[place] = filters
            return len(member.weight) if hasattr(member, "weight") else width  # pyright: ignore
        if isinstance(member, nn.Dropout):
            return width
        like = next(member.parameters(), torch.empty(0))
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                after = member(like.new_zeros(1, width)).shape[-1]
        except (RuntimeError, TypeError) as error:
            raise ValueError(f"{name} does not take steps of {width} numbers: {error}") from error
        self._steps[place] = EachStep(member, width, after)
        return after

    def forward(
        self,
        x: Tensor,
        states: Mapping[str, Tensor] | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, States]:
        """Run over a sequence.

        Args:
            x: (T, B, I), or (B, T, I) if ``batch_first``.
            states: ``"<place of the member>.<name>"`` -> (layers * directions, B, width); zeros for
                members of which none is given.
            lengths: Steps of each row (B,), in any order, 0 allowed.

        Returns:
            y (T', B, O), or (B, T', O), zero past a row's end (see :meth:`lengths_after`); and the
            last states.

        Raises:
            TypeError, ValueError: If an input's type, name or shape is wrong, or T steps are too few
                for a convolution.
        """
        if x.dim() != 3 or not x.shape[1 if self.batch_first else 0]:
            order = "rows, steps" if self.batch_first else "steps, rows"
            raise ValueError(
                f"input must be ({order}, {self.input_size}) with a step, not {tuple(x.shape)}"
            )
        y, last = self._run(x.transpose(0, 1) if self.batch_first else x, states, lengths)
        return y.transpose(0, 1) if self.batch_first else y, last

    def step(self, x: Tensor, states: Mapping[str, Tensor] | None = None) -> tuple[Tensor, States]:
        """Run one step: x (B, I), states by name -> y (B, O), new states.

        Raises:
            ValueError: If a member needs more than one step at once, or a shape is wrong.
        """
        for place, member in enumerate(self.members):
            both = (
                getattr(member, "bidirectional", False) or getattr(member, "num_directions", 1) == 2
            )
            if both or isinstance(member, WINDOWED):
                what = "the whole sequence" if both else "several steps at once"
                raise ValueError(
                    f"{_name(place, member)} needs {what}; this stack cannot run step by step"
                )
        y, states = self._run(x.unsqueeze(0), states, None)
        return y[0], states

    def lengths_after(self, lengths: Tensor) -> Tensor:
        """Give how many steps of y each row has: those of x (B,) -> (B,)."""
        for member in self.members:
            lengths = steps_after(member, lengths) if isinstance(member, WINDOWED) else lengths
        return lengths

    def _run(
        self, x: Tensor, states: Mapping[str, Tensor] | None, lengths: Tensor | None
    ) -> tuple[Tensor, States]:
        given = self._by_member(states or {})
        last: States = {}
        for place, member in enumerate(self.members):
            if isinstance(member, Recurrent | StandardLayers):
                x, new = _run_recurrent(member, x, given.get(place), lengths)
                last |= {f"{place}.{name}": state for name, state in new.items()}
            elif isinstance(member, WINDOWED):
                x = run_windows(member, self._steps.get(place), x, lengths)
                lengths = None if lengths is None else steps_after(member, torch.as_tensor(lengths))
            elif isinstance(member, nn.Dropout):
                x = dropout(x, member.p, STREAM + place) if member.training and member.p else x
            else:
                x = run_each_step(self._steps[place], x, lengths)
        return x, last

    def _by_member(self, states: Mapping[str, Tensor]) -> dict[int, States]:
        stateful = {
            str(place): place
            for place, member in enumerate(self.members)
            if isinstance(member, Recurrent | StandardLayers)
        }
        found: dict[int, States] = {}
        for key, state in states.items():
            place, _, name = key.partition(".")
            if place not in stateful or not name:
                known = ", ".join(
                    f"{k} ({type(self.members[k]).__name__})" for k in stateful.values()
                )
                raise ValueError(
                    f"no state {key!r}: states are named '<member>.<name>', and the members with "
                    f"states are {known or 'none'}"
                )
            found.setdefault(stateful[place], {})[name] = state
        return found


def _name(place: int, member: nn.Module) -> str:
    return f"member {place} ({type(member).__name__})"


def _check_kind(name: str, member: nn.Module) -> None:
    """Refuse what mixes rows, or steps in a way that is not known."""
    if getattr(member, "batch_first", False):
        raise ValueError(f"{name} has batch_first: the stack as a whole has it or not")
    if isinstance(member, WINDOWED):
        check_windows(member)
        return
    if isinstance(member, Recurrent | StandardLayers):
        return
    for inner in member.modules():
        if isinstance(inner, nn.modules.batchnorm._BatchNorm):
            raise TypeError(f"{name} would let rows see each other; take LayerNorm")
        if isinstance(inner, _UNKNOWN):
            raise TypeError(
                f"{name} holds {type(inner).__name__}, so that it is not known which steps it gives; "
                "make it a member by itself, of this library if it is recurrent"
            )


def _run_recurrent(
    member: Recurrent | StandardLayers, x: Tensor, states: States | None, lengths: Tensor | None
) -> tuple[Tensor, States]:
    """Run a member with states by name, whatever it takes itself."""
    if isinstance(member, Recurrent):
        y, last, *_ = member(x, states, lengths=lengths)
        return y, last
    names = member._cells[0].state_names
    if states is not None and set(states) != set(names):
        raise ValueError(
            f"{type(member).__name__} takes the states {' and '.join(names)} together, not "
            f"{', '.join(states)}"
        )
    start = None if states is None else tuple(states[name] for name in names)
    y, last = member(x, start if start is None or len(names) > 1 else start[0], lengths=lengths)
    return y, dict(zip(names, last if len(names) > 1 else (last,), strict=True))  # pyright: ignore


def _flattened(members: tuple[nn.Module, ...]) -> Iterator[nn.Module]:
    for member in members:
        if isinstance(member, nn.Sequential):
            yield from _flattened((*member,))
        else:
            yield Recurrent(member) if isinstance(member, Cell) else member


def _inputs_of(member: Any) -> int | None:  # noqa: ANN401 - any module
    """Give the width of what a member reads, where it says so."""
    if isinstance(member, Recurrent):
        return member.cell.input_size
    if isinstance(member, WINDOWED):
        return member.weight.shape[1] * member.groups if hasattr(member, "weight") else None  # pyright: ignore
    if isinstance(member, nn.LayerNorm):
        return member.normalized_shape[-1]
    return next(
        (getattr(member, n) for n in ("input_size", "in_features") if hasattr(member, n)), None
    )
